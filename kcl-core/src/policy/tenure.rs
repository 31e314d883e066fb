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
//! Where each lease shows its own sign of life (PerLease), the writes of the lease give the validity. Where the worker shows one for
//! all it holds (PerWorker), its heartbeats do, and a write of the lease gives none.

use std::time::Duration;

use crate::contract::{LeaseLost, Liveness, Mono, Stamp, WorkerItem};
use crate::model::{Lease, Owner};
use crate::planted::{self, Bug};

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
        if planted::is(Bug::NoDriftMargin) {
            return self.duration;
        }
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

    /// How long a worker that stops may try to record the last word on its leases once running calls are not waited for any more.
    /// Two requests more follow, for what else names it and for its own item: within D it is gone.
    pub(crate) fn last_word(self) -> Duration {
        self.duration / 2
    }

    /// How long one request may take: less than D / 3, so that two tries fit into one validity.
    pub(crate) fn request_timeout(self) -> Duration {
        self.duration / 4
    }
}

/// The right to act on a lease, or on all leases of a worker, from one acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    sent: Stamp,
    /// Given up, or found to have run out. It stays so.
    over: bool,
}

impl Validity {
    /// The validity that the acknowledgement of a write sent at `sent` gives.
    pub(crate) const fn from_write(sent: Stamp) -> Self {
        Self { sent, over: false }
    }

    /// The validity after a write sent at `sent` was acknowledged at `now`: over for good if this one had run out, and if the answer
    /// itself came too late.
    pub(crate) fn extended(self, sent: Stamp, now: &Stamp, timing: LeaseTiming) -> Self {
        let sent = match () {
            () if planted::is(Bug::ValidityFromReply) => *now,
            () if planted::is(Bug::ValidAfterSuspend) => {
                return Self::from_write(Stamp { wall: now.wall - now.mono.since(sent.mono), ..sent });
            }
            () => sent,
        };
        let next = Self::from_write(sent);
        if planted::is(Bug::NeitherFenceNorDropAll) {
            return next;
        }
        if self.holds(now, timing) && next.holds(now, timing) { next } else { self.ended() }
    }

    /// Its holder may not act any more, whatever the clocks say.
    pub(crate) const fn ended(self) -> Self {
        Self { sent: self.sent, over: true }
    }

    /// Whether its holder may still act.
    pub(crate) fn holds(&self, now: &Stamp, timing: LeaseTiming) -> bool {
        let monotonic = now.mono.since(self.sent.mono);
        let wall = now.wall.duration_since(self.sent.wall).unwrap_or_default();
        let wall = if planted::is(Bug::SuspendUnnoticed) { monotonic } else { wall };
        !self.over && monotonic < timing.validity() && wall.saturating_sub(monotonic) <= timing.suspended_after()
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
    /// Whose writes give the validity.
    liveness: Liveness,
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
    /// The tenure that begins with an acknowledged write that left `lease` in this worker's name, with the validity that this gave.
    pub(crate) fn begun(me: Owner, timing: LeaseTiming, lease: Lease, validity: Validity) -> Self {
        Self { me, timing, liveness: Liveness::PerLease, lease, validity, unanswered: false }
    }

    /// The tenure of a lease that an acknowledged write left in this worker's name, where all leases hang on the worker's own
    /// validity.
    pub(crate) fn under_worker(me: Owner, timing: LeaseTiming, lease: Lease, worker: Validity) -> Self {
        Self { me, timing, liveness: Liveness::PerWorker, lease, validity: worker, unanswered: false }
    }

    /// The worker's validity as it is by now.
    pub(crate) fn sustained(&mut self, worker: Validity) {
        self.validity = worker;
    }

    /// When a renewal is due. None is where the worker's heartbeats keep the lease.
    pub(crate) fn renewal_due(&self) -> Option<Mono> {
        match self.liveness {
            Liveness::PerLease => Some(self.validity.sent() + self.timing.renew_every()),
            Liveness::PerWorker => None,
        }
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
        self.lease = lease;
        self.unanswered = false;
        if self.liveness == Liveness::PerLease {
            self.validity = self.validity.extended(sent, now, self.timing);
        }
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

/// Whether `found`, which refused a heartbeat of the worker that knew its item as `own`, is what an earlier heartbeat left whose answer
/// was lost: it goes on from there, and that gives no validity. One write further: an item that was deleted and made again by a late
/// registration is another life.
pub(crate) fn is_own_heartbeat(own: &WorkerItem, unanswered: bool, found: &WorkerItem) -> bool {
    unanswered && found.state.lives() && found.counter == own.counter.next()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::contract::WorkerState;
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
            counter: LeaseCounter(0),
            key: LeaseKey::of(KeyForm::Bare, &stream, &shard),
            stream,
            shard,
            owner: Some(owner("me/1")),
            parent: None,
            starting_sequence: None,
            start_at: None,
            root: true,
        };
        Tenure::begun(owner("me/1"), TIMING, new.created(), Validity::from_write(at(0, 0)))
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
    fn where_the_worker_lives_for_its_leases_their_own_writes_give_no_validity() {
        let base = tenure();
        let worker = Validity::from_write(at(1_000, 1_000));
        let mut tenure = Tenure::under_worker(owner("me/1"), TIMING, base.lease().clone(), worker);
        assert_eq!(tenure.renewal_due(), None);
        let written = tenure.lease().after(&LeaseWrite::renew());
        tenure.acknowledged(at(8_000, 8_000), &at(8_100, 8_100), written).expect("in time");
        assert!(tenure.holds(&at(10_499, 10_499)));
        assert!(!tenure.holds(&at(10_500, 10_500)));
        tenure.sustained(worker.extended(at(4_000, 4_000), &at(4_100, 4_100), TIMING));
        assert!(tenure.holds(&at(10_500, 10_500)));
    }

    #[test]
    fn a_validity_that_was_found_over_stays_so() {
        let lapsed = Validity::from_write(at(0, 0)).extended(at(9_400, 9_400), &at(9_500, 9_500), TIMING);
        assert!(!lapsed.holds(&at(0, 0), TIMING));
        let again = lapsed.extended(at(9_600, 9_600), &at(9_700, 9_700), TIMING);
        assert!(!again.holds(&at(9_700, 9_700), TIMING));
        assert!(!Validity::from_write(at(0, 0)).ended().holds(&at(1, 1), TIMING));
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
    fn a_heartbeat_that_was_not_answered_is_recognised_only_one_write_further() {
        let item = |counter, state| {
            let id = crate::model::WorkerId::new("me", 1).expect("legal");
            WorkerItem { id, counter: LeaseCounter(counter), state, weight: 100 }
        };
        let own = item(4, WorkerState::Live);
        assert!(is_own_heartbeat(&own, true, &item(5, WorkerState::Leaving)));
        assert!(!is_own_heartbeat(&own, false, &item(5, WorkerState::Live)), "every heartbeat was answered");
        assert!(!is_own_heartbeat(&own, true, &item(5, WorkerState::Evicted)));
        assert!(!is_own_heartbeat(&own, true, &item(5, WorkerState::Fenced)));
        assert!(!is_own_heartbeat(&own, true, &item(0, WorkerState::Live)), "it was deleted and registered again");
        assert!(!is_own_heartbeat(&own, true, &item(6, WorkerState::Live)), "somebody else wrote it");
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
