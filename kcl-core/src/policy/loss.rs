//! Whether records that are gone were ever wanted.

use std::time::{Duration, SystemTime};

use crate::model::{Lease, LeaseKey, SequenceNumber};

/// How long the service keeps records.
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// How old the tip that a lease notes may grow while its shard is idle, where no renewal notes a later one: three to four hours, so that
/// a few of these fit into the retention, for owners that die before they note it again. Which of them depends on the key, so that the
/// leases of a worker are not all written at once.
pub(crate) fn note_tip_within(key: &LeaseKey) -> Duration {
    const SPREAD: u64 = 3600;
    let mixed = key.as_str().bytes().fold(0_u64, |mixed, byte| mixed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Duration::from_secs(3 * 3600 + mixed % SPREAD)
}

/// How late a shard may be opened after the application began before what was trimmed from it in between counts as lost.
/// The oldest records of a stream are trimmed at every moment, so without it each start at TRIM_HORIZON would report a loss.
const OPENING: Duration = Duration::from_secs(600);

/// Whether records trimmed from the start of an unread shard were wanted, at `now`.
///
/// Only records older than the retention are trimmed. Those of a shard that was a root when the application began (`began_at`) were
/// wanted from a retention before that instant; those of a lease with a start filter from the filter on.
pub(crate) fn was_wanted(lease: &Lease, began_at: SystemTime, now: SystemTime) -> bool {
    let oldest_left = now.checked_sub(RETENTION).unwrap_or(SystemTime::UNIX_EPOCH);
    let wanted_from = match lease.start_at {
        Some(start_at) => start_at,
        None if lease.root => began_at.checked_sub(RETENTION).unwrap_or(SystemTime::UNIX_EPOCH),
        None => return true,
    };
    wanted_from + OPENING < oldest_left
}

/// Whether an operator has accepted what is lost after `after`: what is lost at the very checkpoint of the lease, however much of
/// it is gone by the time that reading goes on.
pub(crate) fn is_accepted(lease: &Lease, after: Option<SequenceNumber>) -> bool {
    lease.loss_accepted && lease.checkpoint.sequence() == after
}

/// Whether nothing after `done` can have been trimmed by `now`, because the shard held nothing more at some instant of the last day:
/// at the lease's tip, or at one that its present owner has seen (`seen`, which holds for `done`).
pub(crate) fn was_read_to_the_tip(
    lease: &Lease,
    done: Option<SequenceNumber>,
    seen: Option<SystemTime>,
    now: SystemTime,
) -> bool {
    let recorded = lease.tip.filter(|tip| tip.checkpoint <= lease.checkpoint && tip.checkpoint.sequence() <= done);
    let latest = recorded.map(|tip| tip.at).max(seen);
    // The clocks of two owners and of the service differ.
    latest.is_some_and(|at| now < at + RETENTION - OPENING)
}

/// Whether a tip that was seen at `seen` is to be noted on a lease that notes one of `noted`.
pub(crate) fn is_to_be_noted(noted: Option<SystemTime>, seen: SystemTime, within: Duration) -> bool {
    noted.is_none_or(|noted| seen >= noted + within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Checkpoint, KeyForm, LeaseCounter, NewLease, Tip};

    #[test]
    fn a_loss_is_accepted_at_the_checkpoint_where_it_was_and_nowhere_else() {
        let at = |n| Some(SequenceNumber::from_u128(n));
        let key: LeaseKey = "shard-1".parse().expect("legal");
        let shard = "shard-1".parse().expect("legal");
        let mut lease = Lease::new(key, shard, LeaseCounter(0), Checkpoint::Sequence(SequenceNumber::from_u128(7)));
        assert!(!is_accepted(&lease, at(7)));
        lease.loss_accepted = true;
        assert!(is_accepted(&lease, at(7)));
        assert!(!is_accepted(&lease, at(8)) && !is_accepted(&lease, None));
        lease.checkpoint = Checkpoint::TrimHorizon;
        assert!(is_accepted(&lease, None));
    }

    #[test]
    fn what_was_trimmed_before_anyone_wanted_it_is_no_loss() {
        let hour = Duration::from_secs(3600);
        let began = SystemTime::UNIX_EPOCH + 1000 * hour;
        let stream = "arn:aws:dynamodb:r:123456789012:table/t/stream/l".parse().expect("legal");
        let shard = "shard-1".parse().expect("legal");
        let key = LeaseKey::of(KeyForm::Bare, &stream, &shard);
        let new = NewLease {
            counter: LeaseCounter(0),
            key,
            stream,
            shard,
            owner: None,
            parent: None,
            starting_sequence: None,
            start_at: None,
            root: true,
        };
        let root = new.created();
        let child = Lease { root: false, ..root.clone() };
        let latest = Lease { start_at: Some(began), ..root.clone() };
        for (lease, hours_later, wanted) in
            [(&root, 0, false), (&root, 1, true), (&child, 0, true), (&latest, 23, false), (&latest, 26, true)]
        {
            assert_eq!(was_wanted(lease, began, began + hours_later * hour), wanted, "{hours_later} h");
        }
    }

    #[test]
    fn the_tip_of_an_idle_shard_is_noted_at_once_and_then_a_few_times_a_day() {
        let hours = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(n * 3600);
        let within = note_tip_within(&"shard-1".parse().expect("legal"));
        let due = |noted, seen| is_to_be_noted(noted, hours(seen), within);
        assert!(due(None, 5) && due(Some(hours(1)), 5));
        assert!(!due(Some(hours(2)), 5) && !due(Some(hours(6)), 5));
        assert_ne!(within, note_tip_within(&"shard-2".parse().expect("legal")));
    }

    #[test]
    fn a_shard_that_was_read_to_its_tip_within_a_day_has_lost_nothing() {
        let hour = Duration::from_secs(3600);
        let at = SystemTime::UNIX_EPOCH + 1000 * hour;
        let n = SequenceNumber::from_u128;
        let key: LeaseKey = "shard-1".parse().expect("legal");
        let mut lease = Lease::new(key, "shard-1".parse().expect("legal"), LeaseCounter(0), Checkpoint::Sequence(n(5)));
        let read =
            |lease: &Lease, done: u128, later: u32| was_read_to_the_tip(lease, Some(n(done)), None, at + later * hour);
        assert!(!read(&lease, 5, 0), "nobody has seen the tip");
        lease.tip = Some(Tip { at, checkpoint: Checkpoint::Sequence(n(5)) });
        assert!(read(&lease, 5, 23) && read(&lease, 7, 23));
        assert!(!read(&lease, 5, 24), "what came after the tip may be trimmed by now");
        assert!(was_read_to_the_tip(&lease, Some(n(5)), Some(at + 10 * hour), at + 30 * hour));
        lease.checkpoint = Checkpoint::Sequence(n(3));
        assert!(!read(&lease, 3, 1), "an operator has moved the checkpoint back");
    }
}
