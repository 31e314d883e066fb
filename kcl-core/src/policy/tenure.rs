//! What the owner of a lease knows of its own lease: how long it may act, and what an answer to a write means.
//!
//! ```text
//!   take/finish acknowledged ──► held ──renewed──► held
//!                                 │ unanswered: the write may still land
//!                                 ├─ superseded by a write on the same counter ──► held
//!                                 ├─ refused, the item is our own unanswered write ──► held, no new validity
//!                                 ├─ refused otherwise ──► lost
//!                                 └─ validity ran out ──► lost, never revived
//! ```

use std::time::Duration;

use crate::contract::{LeaseLost, Mono, Stamp};
use crate::model::{Lease, Owner};

/// The durations that follow from the lease duration D.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseTiming {
    duration: Duration,
}

impl LeaseTiming {
    pub(crate) const fn new(duration: Duration) -> Self {
        Self { duration }
    }

    /// D: how long a counter must stand still before its lease is expired for an observer.
    pub(crate) const fn duration(self) -> Duration {
        self.duration
    }

    /// How long after sending a write its sender may act on it: D less a margin for clocks that differ in rate by 2 % each.
    pub(crate) fn validity(self) -> Duration {
        self.duration * 95 / 100
    }

    /// How far the wall clock may run ahead of the monotonic one before the machine counts as having been suspended.
    pub(crate) fn suspended_after(self) -> Duration {
        self.duration * 2 / 100
    }

    /// How often the owner writes.
    pub(crate) fn renew_every(self) -> Duration {
        self.duration / 3
    }

    /// How long one request may take: less than D / 3, so that two tries fit into one validity.
    pub(crate) fn request_timeout(self) -> Duration {
        self.duration / 4
    }
}

/// The right to act on a lease, from one acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    sent: Stamp,
}

impl Validity {
    /// The validity that the acknowledgement of a write sent at `sent` gives.
    pub(crate) const fn from_write(sent: Stamp) -> Self {
        Self { sent }
    }

    /// Whether its holder may still act.
    pub(crate) fn holds(&self, now: &Stamp, timing: LeaseTiming) -> bool {
        let monotonic = now.mono.since(self.sent.mono);
        let wall = now.wall.duration_since(self.sent.wall).unwrap_or_default();
        monotonic < timing.validity() && wall.saturating_sub(monotonic) <= timing.suspended_after()
    }

    /// When it ends, if the machine is not suspended before.
    pub(crate) fn deadline(&self, timing: LeaseTiming) -> Mono {
        self.sent.mono + timing.validity()
    }

    /// When the write that gave it was sent.
    pub(crate) const fn sent(&self) -> Mono {
        self.sent.mono
    }
}

/// A lease that this worker holds, as far as it knows.
#[derive(Debug, Clone)]
pub(crate) struct Tenure {
    me: Owner,
    timing: LeaseTiming,
    lease: Lease,
    validity: Validity,
    /// A write on the lease's counter went unanswered and may still be applied.
    unanswered: bool,
}

/// What a refused write means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// An earlier write of ours, whose answer was lost, had been applied. Go on from there; it gives no validity.
    OwnWriteFound,
    /// The lease is not ours any more.
    Lost(LeaseLost),
}

impl Tenure {
    /// The tenure that begins with the acknowledged write `sent`, which left `lease`.
    pub(crate) fn new(me: Owner, timing: LeaseTiming, lease: Lease, sent: Stamp) -> Self {
        Self { me, timing, lease, validity: Validity::from_write(sent), unanswered: false }
    }

    /// The tenure that begins with a lease which was created in this worker's name, with the validity that this gave.
    pub(crate) fn begun(me: Owner, timing: LeaseTiming, lease: Lease, validity: Validity) -> Self {
        Self { me, timing, lease, validity, unanswered: false }
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(crate) fn validity(&self) -> Validity {
        self.validity
    }

    pub(crate) fn holds(&self, now: &Stamp) -> bool {
        self.validity.holds(now, self.timing)
    }

    /// A write sent at `sent` was acknowledged at `now` and left `lease`.
    ///
    /// # Errors
    /// The validity before it had run out already: it is never revived, the lease must be taken again.
    pub(crate) fn acknowledged(&mut self, sent: Stamp, now: &Stamp, lease: Lease) -> Result<(), LeaseLost> {
        let lapsed = !self.holds(now);
        self.lease = lease;
        self.unanswered = false;
        if lapsed {
            return Err(LeaseLost::Expired);
        }
        self.validity = Validity::from_write(sent);
        // The answer itself may have come too late.
        if self.holds(now) { Ok(()) } else { Err(LeaseLost::Expired) }
    }

    /// A write got no answer that tells its outcome.
    pub(crate) fn unanswered(&mut self) {
        self.unanswered = true;
    }

    /// Whether `current`, which refused the write that gives the lease up, is what an earlier, unanswered try of that write left: only
    /// its owner makes a lease ownerless.
    pub(crate) fn has_let_go(&self, current: Option<&Lease>) -> bool {
        let next = self.lease.counter.next();
        self.unanswered && current.is_some_and(|current| current.owner.is_none() && current.counter == next)
    }

    /// A write was refused by `current`, as far as the table told.
    pub(crate) fn refused(&mut self, current: Option<&Lease>) -> Refusal {
        let Some(current) = current else { return Refusal::Lost(LeaseLost::Deleted) };
        let ours = current.owner.as_ref() == Some(&self.me);
        if ours && !current.evicted && self.unanswered && current.counter == self.lease.counter.next() {
            self.lease = current.clone();
            self.unanswered = false;
            return Refusal::OwnWriteFound;
        }
        Refusal::Lost(if ours && current.evicted { LeaseLost::Evicted } else { LeaseLost::Taken })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::model::{KeyForm, LeaseCounter, LeaseKey, LeaseWrite, NewLease};

    const TIMING: LeaseTiming = LeaseTiming::new(Duration::from_secs(10));

    fn at(mono_millis: u64, wall_millis: u64) -> Stamp {
        Stamp {
            mono: Mono::new(Duration::from_millis(mono_millis)),
            wall: SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000 + wall_millis),
        }
    }

    fn owner(name: &str) -> Owner {
        name.parse().expect("legal")
    }

    fn tenure() -> Tenure {
        let stream = "arn:aws:dynamodb:r:123456789012:table/t/stream/l".parse().expect("legal");
        let shard = "shard-1".parse().expect("legal");
        let new = NewLease {
            key: LeaseKey::of(KeyForm::Bare, &stream, &shard),
            stream,
            shard,
            owner: Some(owner("me/1")),
            parent: None,
            starting_sequence: None,
            start_at: None,
            root: true,
        };
        Tenure::new(owner("me/1"), TIMING, new.created(), at(0, 0))
    }

    #[test]
    fn validity_ends_before_the_lease_duration() {
        let tenure = tenure();
        assert!(tenure.holds(&at(9_499, 9_499)));
        assert!(!tenure.holds(&at(9_500, 9_500)));
    }

    #[test]
    fn a_suspended_machine_has_no_validity() {
        let tenure = tenure();
        assert!(tenure.holds(&at(100, 300)));
        assert!(!tenure.holds(&at(100, 301)), "the wall clock ran 201 ms ahead, 2 % of D is 200 ms");
        assert!(tenure.holds(&at(5_000, 0)), "a wall clock that was set back proves nothing");
    }

    #[test]
    fn validity_counts_from_the_sending_of_the_write() {
        let mut tenure = tenure();
        let renewed = tenure.lease().after(&LeaseWrite::renew());
        tenure.acknowledged(at(3_000, 3_000), &at(5_000, 5_000), renewed).expect("in time");
        assert!(tenure.holds(&at(12_499, 12_499)));
        assert!(!tenure.holds(&at(12_500, 12_500)));
    }

    #[test]
    fn a_lapsed_validity_is_never_revived() {
        let mut tenure = tenure();
        let renewed = tenure.lease().after(&LeaseWrite::renew());
        let late = tenure.acknowledged(at(9_000, 9_000), &at(9_600, 9_600), renewed);
        assert_eq!(late, Err(LeaseLost::Expired));
    }

    #[test]
    fn our_own_unanswered_write_is_recognised_and_gives_no_validity() {
        let mut tenure = tenure();
        let applied = tenure.lease().after(&LeaseWrite::renew());
        tenure.unanswered();
        assert_eq!(tenure.refused(Some(&applied)), Refusal::OwnWriteFound);
        assert_eq!(tenure.lease().counter, LeaseCounter(1));
        assert!(!tenure.holds(&at(9_500, 9_500)));
    }

    #[test]
    fn a_refusal_without_an_unanswered_write_is_a_lost_lease() {
        let base = tenure().lease().clone();
        let taken = base.after(&LeaseWrite::take(owner("other/2")));
        let evicted = base.after(&LeaseWrite::evict(owner("other/2")));
        let ours_but_unknown = base.after(&LeaseWrite::renew());
        for (current, unanswered, lost) in [
            (Some(&taken), false, LeaseLost::Taken),
            (Some(&taken), true, LeaseLost::Taken),
            (Some(&evicted), false, LeaseLost::Evicted),
            (Some(&evicted), true, LeaseLost::Evicted),
            (Some(&ours_but_unknown), false, LeaseLost::Taken),
            (None, true, LeaseLost::Deleted),
        ] {
            let mut tenure = tenure();
            if unanswered {
                tenure.unanswered();
            }
            assert_eq!(tenure.refused(current), Refusal::Lost(lost));
        }
    }
}
