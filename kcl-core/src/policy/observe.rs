//! What a worker has seen of the table, and since when: the only evidence of death is a counter that stood still.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::contract::{Mono, WorkerItem, WorkerState};
use crate::model::{Lease, LeaseKey, Owner, WorkerId};
use crate::planted::{self, Bug};

/// A value, and since when its counter has stood still on this worker's clock.
#[derive(Debug, Clone)]
pub(crate) struct Seen<T> {
    pub(crate) item: T,
    /// When the reply was received that first showed this counter.
    pub(crate) since: Mono,
    /// When the reply was received that first showed this owner; absent when the first look at the table did.
    pub(crate) owner_since: Option<Mono>,
    /// When the last reply was received that showed this counter.
    pub(crate) checked: Mono,
    /// Which reply first showed this owner.
    owner_reply: Reply,
}

/// Replies taken in so far. A request sent at one of these numbers was sent after that many replies had been received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Reply(u64);

/// An incarnation that is gone for good, as far as leases go that named it before it was asked for.
#[derive(Debug, Clone, Copy)]
struct Gone {
    /// The request that showed it was sent after so many replies.
    asked: Reply,
    /// When its answer was received.
    since: Mono,
}

impl<T> Seen<T> {
    /// Whether the counter has stood still for `duration`.
    pub(crate) fn stood_still(&self, duration: Duration, now: Mono) -> bool {
        let duration = if planted::is(Bug::TakesTooEarly) { duration / 2 } else { duration };
        now.since(self.since) >= duration
    }

    /// Whether the counter was seen to stand still for `duration`: to the last look, or until now where that was not longer than
    /// `fresh` ago. What was looked at long ago has only not been looked at.
    pub(crate) fn seen_to_stand_still(&self, duration: Duration, fresh: Duration, now: Mono) -> bool {
        let duration = if planted::is(Bug::TakesTooEarly) { duration / 2 } else { duration };
        let looked_at = if now.since(self.checked) <= fresh { now } else { self.checked };
        looked_at.since(self.since) >= duration
    }
}

impl Seen<Lease> {
    /// Takes in what a reply received at `now` shows of the same lease; `first` is for an owner that it did not show before.
    fn see(&mut self, lease: Lease, first: First, now: Mono) {
        let same_owner = lease.owner == self.item.owner;
        if lease.counter == self.item.counter && same_owner {
            self.item = lease;
            self.checked = now;
        } else if lease.counter.0.wrapping_sub(self.item.counter.0) >= 0 {
            if !same_owner {
                self.owner_since = first.owner_since;
                self.owner_reply = first.owner_reply;
            }
            self.item = lease;
            self.since = now;
            self.checked = now;
        }
    }
}

/// What is noted of an owner that a reply shows first.
#[derive(Debug, Clone, Copy)]
struct First {
    owner_since: Option<Mono>,
    owner_reply: Reply,
}

/// The leases and workers seen, with their ages.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    leases: BTreeMap<LeaseKey, Seen<Lease>>,
    workers: BTreeMap<WorkerId, Seen<WorkerItem>>,
    replies: Reply,
    gone: BTreeMap<Owner, Gone>,
    /// There was a whole scan.
    looked: bool,
}

impl Observations {
    /// Takes in a whole scan, received at `now`. What the scan left out is forgotten.
    ///
    /// A scan may be stale, so an item that it shows older than it was seen before keeps what was seen before: counters only rise.
    pub(crate) fn scanned(&mut self, leases: Vec<Lease>, workers: Vec<WorkerItem>, now: Mono) {
        self.replies.0 += 1;
        self.gone.retain(|owner, _| leases.iter().any(|lease| lease.owner.as_ref() == Some(owner)));
        self.note_leases(leases, now);
        self.looked = true;
        let ids: BTreeSet<WorkerId> = workers.iter().map(|worker| worker.id.clone()).collect();
        self.workers.retain(|id, _| ids.contains(id));
        for worker in workers {
            self.note_worker(worker, now);
        }
    }

    /// Takes in one lease, seen at `now` in a reply to a read or a write.
    pub(crate) fn lease(&mut self, lease: Lease, now: Mono) {
        self.replies.0 += 1;
        self.note_lease(lease, now);
    }

    /// All leases that there are. Both sides are gone through in the order of the keys, side by side: nearly all are known, and looking
    /// each up would take longer than all the rest.
    fn note_leases(&mut self, mut leases: Vec<Lease>, now: Mono) {
        leases.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let first = First { owner_since: self.looked.then_some(now), owner_reply: self.replies };
        let (mut new, mut missing) = (Vec::new(), Vec::new());
        let mut known = self.leases.iter_mut().peekable();
        for lease in leases {
            while let Some((key, _)) = known.next_if(|(key, _)| **key < lease.key) {
                missing.push(key.clone());
            }
            match known.next_if(|(key, _)| **key == lease.key) {
                Some((_, seen)) => seen.see(lease, first, now),
                None => new.push(lease),
            }
        }
        missing.extend(known.map(|(key, _)| key.clone()));
        for key in missing {
            self.leases.remove(&key);
        }
        for lease in new {
            self.note_lease(lease, now);
        }
    }

    fn note_lease(&mut self, lease: Lease, now: Mono) {
        let first = First { owner_since: self.looked.then_some(now), owner_reply: self.replies };
        match self.leases.get_mut(&lease.key) {
            Some(seen) => seen.see(lease, first, now),
            None => {
                let First { owner_since, owner_reply } = first;
                let key = lease.key.clone();
                self.leases.insert(key, Seen { item: lease, since: now, owner_since, checked: now, owner_reply });
            }
        }
    }

    fn note_worker(&mut self, worker: WorkerItem, now: Mono) {
        match self.workers.get_mut(&worker.id) {
            Some(seen) if worker.counter == seen.item.counter => {
                seen.item = worker;
                seen.checked = now;
            }
            Some(seen) if worker.counter.0.wrapping_sub(seen.item.counter.0) < 0 => {}
            _ => {
                let (id, owner_reply) = (worker.id.clone(), self.replies);
                let owner_since = Some(now);
                self.workers.insert(id, Seen { item: worker, since: now, owner_since, checked: now, owner_reply });
            }
        }
    }

    /// A request that is sent now: what was received before it was.
    pub(crate) fn asking(&self) -> Reply {
        self.replies
    }

    /// Takes in the answer of a strongly consistent read of a worker's item, or what a write of it left. The request was sent at
    /// `asked`, its answer received at `now`.
    pub(crate) fn worker(&mut self, id: &WorkerId, item: Option<WorkerItem>, asked: Reply, now: Mono) {
        self.replies.0 += 1;
        let gone = item.as_ref().is_none_or(|item| item.state == WorkerState::Fenced);
        if gone {
            let known = self.gone.entry(id.owner()).or_insert(Gone { asked, since: now });
            known.asked = known.asked.max(asked);
        }
        match item {
            Some(item) => self.note_worker(item, now),
            None => {
                self.workers.remove(id);
            }
        }
    }

    /// Since when the owner of the lease is known to be gone for good: its item was found fenced or missing by a request that was
    /// sent after the lease was seen to name it. An earlier answer proves nothing: the owner may not have registered yet.
    pub(crate) fn owner_gone_since(&self, lease: &Seen<Lease>) -> Option<Mono> {
        let gone = self.gone.get(lease.item.owner.as_ref()?)?;
        (gone.asked >= lease.owner_reply).then_some(gone.since)
    }

    /// The lease item was deleted.
    pub(crate) fn forget_lease(&mut self, key: &LeaseKey) {
        self.leases.remove(key);
    }

    pub(crate) fn leases(&self) -> &BTreeMap<LeaseKey, Seen<Lease>> {
        &self.leases
    }

    pub(crate) fn workers(&self) -> &BTreeMap<WorkerId, Seen<WorkerItem>> {
        &self.workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyForm, LeaseCounter, LeaseWrite, NewLease};

    fn at(seconds: u64) -> Mono {
        Mono::new(Duration::from_secs(seconds))
    }

    fn lease() -> Lease {
        let stream = "arn:aws:dynamodb:r:123456789012:table/t/stream/l".parse().expect("legal");
        let shard = "shard-1".parse().expect("legal");
        let key = LeaseKey::of(KeyForm::Bare, &stream, &shard);
        let owner = Some("w/1".parse().expect("legal"));
        NewLease {
            counter: LeaseCounter(0),
            key,
            stream,
            shard,
            owner,
            parent: None,
            starting_sequence: None,
            start_at: None,
            root: true,
        }
        .created()
    }

    #[test]
    fn a_lease_that_was_deleted_and_created_again_is_seen_as_it_is() {
        let began = |millis| LeaseCounter::beginning(std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        let life = |counter| Lease { counter, ..lease() };
        let mut seen = Observations::default();
        let before = life(began(1_000)).after(&LeaseWrite::renew()).after(&LeaseWrite::renew());
        seen.scanned(vec![before], vec![], at(5));
        // No scan was made while there was none, and it has been written as often as the one before.
        let after = life(began(1_001)).after(&LeaseWrite::renew()).after(&LeaseWrite::renew());
        seen.scanned(vec![after.clone()], vec![], at(30));
        let shown = &seen.leases()[&lease().key];
        assert_eq!(shown.item, after);
        assert!(!shown.stood_still(Duration::from_secs(10), at(30)), "that was another life");
    }

    #[test]
    fn a_lease_has_stood_still_only_after_a_whole_duration_of_watching() {
        let mut seen = Observations::default();
        let d = Duration::from_secs(10);
        seen.scanned(vec![lease()], vec![], at(5));
        let stood = |seen: &Observations, now| seen.leases()[&lease().key].stood_still(d, now);
        assert!(!stood(&seen, at(14)));
        seen.scanned(vec![lease()], vec![], at(15));
        assert!(stood(&seen, at(15)));
        let renewed = lease().after(&LeaseWrite::renew());
        seen.scanned(vec![renewed.clone()], vec![], at(16));
        assert!(!stood(&seen, at(25)));
        seen.scanned(vec![lease()], vec![], at(27));
        assert_eq!(seen.leases()[&lease().key].item, renewed, "a stale scan shows nothing new");
        assert!(stood(&seen, at(27)));
    }

    #[test]
    fn what_a_scan_leaves_out_is_forgotten_and_watched_anew() {
        let mut seen = Observations::default();
        seen.scanned(vec![lease()], vec![], at(0));
        seen.scanned(vec![], vec![], at(1));
        assert!(seen.leases().is_empty());
        seen.scanned(vec![lease()], vec![], at(20));
        assert!(!seen.leases()[&lease().key].stood_still(Duration::from_secs(10), at(21)));
    }

    #[test]
    fn a_scan_adds_what_is_new_moves_what_has_changed_and_forgets_what_is_missing_in_whatever_order_it_comes() {
        let key = |n: usize| -> LeaseKey { format!("k{n}").parse().expect("legal") };
        let lease = |n: usize| Lease { key: key(n), ..lease() };
        let mut seen = Observations::default();
        seen.scanned([5, 1, 3].map(lease).to_vec(), vec![], at(1));
        let moved = Lease { owner: None, ..lease(3) }.after(&LeaseWrite::take("v/1".parse().expect("legal")));
        seen.scanned(vec![lease(6), moved.clone(), lease(0), lease(5), lease(2)], vec![], at(2));
        let keys: Vec<&LeaseKey> = seen.leases().keys().collect();
        assert_eq!(keys, [&key(0), &key(2), &key(3), &key(5), &key(6)]);
        let (old, changed, new) = (&seen.leases()[&key(5)], &seen.leases()[&key(3)], &seen.leases()[&key(2)]);
        assert_eq!((old.since, old.owner_since, old.checked), (at(1), None, at(2)));
        assert_eq!((changed.since, changed.owner_since, &changed.item), (at(2), Some(at(2)), &moved));
        assert_eq!((new.since, new.owner_since), (at(2), Some(at(2))));
    }

    fn item(counter: i64, state: WorkerState) -> WorkerItem {
        let id = "w/0000000000000001".parse().expect("legal");
        WorkerItem { id, counter: LeaseCounter(counter), state, weight: 100 }
    }

    fn owned() -> Lease {
        Lease { owner: Some(item(0, WorkerState::Live).id.owner()), ..lease() }
    }

    #[test]
    fn an_owner_is_gone_only_by_an_answer_asked_for_after_the_lease_was_seen_to_name_it() {
        for gone in [None, Some(item(3, WorkerState::Fenced))] {
            let id = item(0, WorkerState::Live).id;
            let mut seen = Observations::default();
            let before = seen.asking();
            seen.scanned(vec![owned()], vec![], at(1));
            let since = |seen: &Observations| seen.owner_gone_since(&seen.leases()[&lease().key]);
            // The owner may have registered after that was asked.
            seen.worker(&id, gone.clone(), before, at(2));
            assert_eq!(since(&seen), None);
            let after = seen.asking();
            seen.worker(&id, gone, after, at(3));
            assert!(since(&seen).is_some());
        }
    }

    #[test]
    fn a_lease_that_comes_to_name_an_owner_later_needs_another_answer() {
        let id = item(0, WorkerState::Live).id;
        let mut seen = Observations::default();
        seen.scanned(vec![lease()], vec![], at(1));
        let asked = seen.asking();
        seen.worker(&id, None, asked, at(2));
        let taken = lease().after(&LeaseWrite::take(id.owner()));
        seen.lease(taken.clone(), at(3));
        assert_eq!(seen.owner_gone_since(&seen.leases()[&taken.key]), None);
    }

    #[test]
    fn an_owner_that_lives_or_is_evicted_is_not_gone() {
        for state in [WorkerState::Live, WorkerState::Leaving, WorkerState::Evicted] {
            let mut seen = Observations::default();
            seen.scanned(vec![owned()], vec![item(1, state)], at(1));
            let asked = seen.asking();
            seen.worker(&item(0, state).id, Some(item(1, state)), asked, at(2));
            assert_eq!(seen.owner_gone_since(&seen.leases()[&lease().key]), None);
        }
    }

    #[test]
    fn what_has_not_been_looked_at_for_long_has_not_been_seen_to_stand_still() {
        let mut seen = Observations::default();
        let (d, fresh) = (Duration::from_secs(10), Duration::from_secs(3));
        let silent = |seen: &Observations, now| {
            seen.workers().values().all(|worker| worker.seen_to_stand_still(d, fresh, at(now)))
        };
        seen.scanned(vec![], vec![item(1, WorkerState::Live)], at(0));
        assert!(!silent(&seen, 30), "one look");
        seen.scanned(vec![], vec![item(1, WorkerState::Live)], at(8));
        assert!(silent(&seen, 10) && !silent(&seen, 12));
        seen.scanned(vec![], vec![item(1, WorkerState::Live)], at(25));
        assert!(silent(&seen, 40));
        seen.scanned(vec![], vec![item(2, WorkerState::Live)], at(41));
        assert!(!silent(&seen, 50));
    }
}
