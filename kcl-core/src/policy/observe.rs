//! What a worker has seen of the table, and since when: the only evidence of death is a counter that stood still.

use std::collections::BTreeMap;
use std::sync::Arc;
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

impl Seen<Arc<Lease>> {
    /// Takes in what a reply received at `now` shows of the same lease; `first` is for an owner that it did not show before. Says
    /// whether that is more than an owner's progress.
    fn see(&mut self, lease: Arc<Lease>, first: First, now: Mono) -> bool {
        let same_owner = lease.owner == self.item.owner;
        let moved = lease.counter != self.item.counter || !same_owner;
        if moved && lease.counter.0.wrapping_sub(self.item.counter.0) < 0 {
            return false;
        }
        if !same_owner {
            self.owner_since = first.owner_since;
            self.owner_reply = first.owner_reply;
        }
        if moved {
            self.since = now;
        }
        self.checked = now;
        let news = !is_progress(&self.item, &lease);
        self.item = lease;
        news
    }
}

/// Whether a lease that was seen before shows no more now than that its owner goes on: no plan depends on anything else that an owner
/// writes.
fn is_progress(before: &Arc<Lease>, now: &Arc<Lease>) -> bool {
    if Arc::ptr_eq(before, now) {
        return true;
    }
    let goes_on = now.owner.is_some() && now.stop.is_none() && !now.is_finished();
    let progress = goes_on
        && before.owner == now.owner
        && before.stop.is_none()
        && !before.is_finished()
        && before.intended_for == now.intended_for
        && before.evicted == now.evicted
        && before.load == now.load
        && before.stream == now.stream
        && before.parents == now.parents;
    progress || before == now
}

/// Whether a worker that was seen before shows no more now than that it lives.
fn lives_on(before: &WorkerItem, now: &WorkerItem) -> bool {
    before.state == now.state && before.weight == now.weight && (before.counter.0 == 0) == (now.counter.0 == 0)
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
    leases: BTreeMap<LeaseKey, Seen<Arc<Lease>>>,
    workers: BTreeMap<WorkerId, Seen<WorkerItem>>,
    replies: Reply,
    gone: BTreeMap<Owner, Gone>,
    /// There was a whole scan.
    looked: bool,
    /// How often something was seen that is more than the progress of owners and the signs of life of workers.
    news: u64,
}

impl Observations {
    /// Takes in a whole scan, received at `now`. What the scan left out is forgotten.
    ///
    /// A scan may be stale, so an item that it shows older than it was seen before keeps what was seen before: counters only rise.
    pub(crate) fn scanned(&mut self, leases: Vec<Arc<Lease>>, mut workers: Vec<WorkerItem>, now: Mono) {
        self.replies.0 += 1;
        self.gone.retain(|owner, _| leases.iter().any(|lease| lease.owner.as_ref() == Some(owner)));
        self.note_leases(leases, now);
        self.looked = true;
        workers.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let before = self.workers.len();
        self.workers.retain(|id, _| workers.binary_search_by(|worker| worker.id.cmp(id)).is_ok());
        self.news += u64::from(self.workers.len() != before);
        for worker in workers {
            self.note_worker(worker, now);
        }
    }

    /// Takes in one lease, seen at `now` in a reply to a read or a write.
    pub(crate) fn lease(&mut self, lease: Lease, now: Mono) {
        self.replies.0 += 1;
        self.note_lease(Arc::new(lease), now);
    }

    /// All leases that there are. Both sides are gone through in the order of the keys, side by side: nearly all are known, and looking
    /// each up would take longer than all the rest.
    fn note_leases(&mut self, mut leases: Vec<Arc<Lease>>, now: Mono) {
        leases.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let first = First { owner_since: self.looked.then_some(now), owner_reply: self.replies };
        let (mut new, mut missing, mut news) = (Vec::new(), Vec::new(), 0);
        let mut known = self.leases.iter_mut().peekable();
        for lease in leases {
            while let Some((key, _)) = known.next_if(|(key, _)| **key < lease.key) {
                missing.push(key.clone());
            }
            match known.next_if(|(key, _)| **key == lease.key) {
                Some((_, seen)) => news += u64::from(seen.see(lease, first, now)),
                None => new.push(lease),
            }
        }
        self.news += news;
        missing.extend(known.map(|(key, _)| key.clone()));
        for key in missing {
            self.forget_lease(&key);
        }
        for lease in new {
            self.note_lease(lease, now);
        }
    }

    fn note_lease(&mut self, lease: Arc<Lease>, now: Mono) {
        let first = First { owner_since: self.looked.then_some(now), owner_reply: self.replies };
        match self.leases.get_mut(&lease.key) {
            Some(seen) => self.news += u64::from(seen.see(lease, first, now)),
            None => {
                self.news += 1;
                let First { owner_since, owner_reply } = first;
                let key = lease.key.clone();
                self.leases.insert(key, Seen { item: lease, since: now, owner_since, checked: now, owner_reply });
            }
        }
    }

    fn note_worker(&mut self, worker: WorkerItem, now: Mono) {
        let owner_reply = self.replies;
        match self.workers.get_mut(&worker.id) {
            Some(seen) if worker.counter.0.wrapping_sub(seen.item.counter.0) < 0 => {}
            Some(seen) => {
                self.news += u64::from(!lives_on(&seen.item, &worker));
                if worker.counter != seen.item.counter {
                    (seen.since, seen.owner_since, seen.owner_reply) = (now, Some(now), owner_reply);
                }
                seen.item = worker;
                seen.checked = now;
            }
            None => {
                self.news += 1;
                let (id, owner_since) = (worker.id.clone(), Some(now));
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
            self.news += 1;
            let known = self.gone.entry(id.owner()).or_insert(Gone { asked, since: now });
            known.asked = known.asked.max(asked);
        }
        match item {
            Some(item) => self.note_worker(item, now),
            None => self.news += u64::from(self.workers.remove(id).is_some()),
        }
    }

    /// Since when the owner of the lease is known to be gone for good: its item was found fenced or missing by a request that was
    /// sent after the lease was seen to name it. An earlier answer proves nothing: the owner may not have registered yet.
    pub(crate) fn owner_gone_since(&self, lease: &Seen<Arc<Lease>>) -> Option<Mono> {
        let gone = self.gone.get(lease.item.owner.as_ref()?)?;
        (gone.asked >= lease.owner_reply).then_some(gone.since)
    }

    /// The lease item was deleted.
    pub(crate) fn forget_lease(&mut self, key: &LeaseKey) {
        self.news += u64::from(self.leases.remove(key).is_some());
    }

    /// A number that stays the same as long as nothing is seen but the progress of owners and the signs of life of workers.
    pub(crate) fn news(&self) -> u64 {
        self.news
    }

    /// A whole scan, for tests.
    #[cfg(test)]
    pub(crate) fn saw(&mut self, leases: Vec<Lease>, workers: Vec<WorkerItem>, now: Mono) {
        self.scanned(leases.into_iter().map(Arc::new).collect(), workers, now);
    }

    pub(crate) fn leases(&self) -> &BTreeMap<LeaseKey, Seen<Arc<Lease>>> {
        &self.leases
    }

    pub(crate) fn workers(&self) -> &BTreeMap<WorkerId, Seen<WorkerItem>> {
        &self.workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Checkpoint, KeyForm, LeaseCounter, LeaseWrite, NewLease};

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
        seen.scanned(vec![before.into()], vec![], at(5));
        // No scan was made while there was none, and it has been written as often as the one before.
        let after = life(began(1_001)).after(&LeaseWrite::renew()).after(&LeaseWrite::renew());
        seen.scanned(vec![after.clone().into()], vec![], at(30));
        let shown = &seen.leases()[&lease().key];
        assert_eq!(*shown.item, after);
        assert!(!shown.stood_still(Duration::from_secs(10), at(30)), "that was another life");
    }

    #[test]
    fn a_lease_has_stood_still_only_after_a_whole_duration_of_watching() {
        let mut seen = Observations::default();
        let d = Duration::from_secs(10);
        seen.saw(vec![lease()], vec![], at(5));
        let stood = |seen: &Observations, now| seen.leases()[&lease().key].stood_still(d, now);
        assert!(!stood(&seen, at(14)));
        seen.saw(vec![lease()], vec![], at(15));
        assert!(stood(&seen, at(15)));
        let renewed = lease().after(&LeaseWrite::renew());
        seen.saw(vec![renewed.clone()], vec![], at(16));
        assert!(!stood(&seen, at(25)));
        seen.saw(vec![lease()], vec![], at(27));
        assert_eq!(*seen.leases()[&lease().key].item, renewed, "a stale scan shows nothing new");
        assert!(stood(&seen, at(27)));
    }

    #[test]
    fn what_a_scan_leaves_out_is_forgotten_and_watched_anew() {
        let mut seen = Observations::default();
        seen.saw(vec![lease()], vec![], at(0));
        seen.saw(vec![], vec![], at(1));
        assert!(seen.leases().is_empty());
        seen.saw(vec![lease()], vec![], at(20));
        assert!(!seen.leases()[&lease().key].stood_still(Duration::from_secs(10), at(21)));
    }

    #[test]
    fn a_scan_adds_what_is_new_moves_what_has_changed_and_forgets_what_is_missing_in_whatever_order_it_comes() {
        let key = |n: usize| -> LeaseKey { format!("k{n}").parse().expect("legal") };
        let lease = |n: usize| Lease { key: key(n), ..lease() };
        let mut seen = Observations::default();
        seen.saw([5, 1, 3].map(lease).to_vec(), vec![], at(1));
        let moved = Lease { owner: None, ..lease(3) }.after(&LeaseWrite::take("v/1".parse().expect("legal")));
        seen.saw(vec![lease(6), moved.clone(), lease(0), lease(5), lease(2)], vec![], at(2));
        let keys: Vec<&LeaseKey> = seen.leases().keys().collect();
        assert_eq!(keys, [&key(0), &key(2), &key(3), &key(5), &key(6)]);
        let (old, changed, new) = (&seen.leases()[&key(5)], &seen.leases()[&key(3)], &seen.leases()[&key(2)]);
        assert_eq!((old.since, old.owner_since, old.checked), (at(1), None, at(2)));
        assert_eq!((changed.since, changed.owner_since, &*changed.item), (at(2), Some(at(2)), &moved));
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
            seen.saw(vec![owned()], vec![], at(1));
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
        seen.saw(vec![lease()], vec![], at(1));
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
            seen.saw(vec![owned()], vec![item(1, state)], at(1));
            let asked = seen.asking();
            seen.worker(&item(0, state).id, Some(item(1, state)), asked, at(2));
            assert_eq!(seen.owner_gone_since(&seen.leases()[&lease().key]), None);
        }
    }

    #[test]
    fn the_progress_of_owners_and_the_life_of_workers_are_no_news() {
        let mut seen = Observations::default();
        let mut look = |lease: &Lease, worker: WorkerItem, second| {
            let before = seen.news();
            seen.saw(vec![lease.clone()], vec![worker], at(second));
            seen.news() != before
        };
        let live = |counter| item(counter, WorkerState::Live);
        assert!(look(&owned(), live(0), 0));
        assert!(!look(&owned(), live(0), 1));
        assert!(look(&owned(), live(1), 2), "the first sign of life");
        let renewed = owned()
            .after(&LeaseWrite::renew().with_checkpoint(Some(Checkpoint::Sequence("21".parse().expect("digits")))));
        assert!(!look(&renewed, live(2), 3));
        let loaded = renewed.after(&LeaseWrite::renew().with_load(Some(64)));
        assert!(look(&loaded, live(3), 4));
        let evicted = loaded.after(&LeaseWrite::evict("v/1".parse().expect("legal")));
        assert!(look(&evicted, live(3), 5));
        let free = evicted.after(&LeaseWrite::release(None));
        assert!(look(&free, live(3), 6) && !look(&free, live(3), 7), "nobody's");
        assert!(look(&free, item(4, WorkerState::Leaving), 8));
    }

    #[test]
    fn what_has_not_been_looked_at_for_long_has_not_been_seen_to_stand_still() {
        let mut seen = Observations::default();
        let (d, fresh) = (Duration::from_secs(10), Duration::from_secs(3));
        let silent = |seen: &Observations, now| {
            seen.workers().values().all(|worker| worker.seen_to_stand_still(d, fresh, at(now)))
        };
        seen.saw(vec![], vec![item(1, WorkerState::Live)], at(0));
        assert!(!silent(&seen, 30), "one look");
        seen.saw(vec![], vec![item(1, WorkerState::Live)], at(8));
        assert!(silent(&seen, 10) && !silent(&seen, 12));
        seen.saw(vec![], vec![item(1, WorkerState::Live)], at(25));
        assert!(silent(&seen, 40));
        seen.saw(vec![], vec![item(2, WorkerState::Live)], at(41));
        assert!(!silent(&seen, 50));
    }
}
