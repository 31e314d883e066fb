//! What a worker has seen of the table, and since when: the only evidence of death is a counter that stood still.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::contract::{Mono, WorkerItem};
use crate::model::{Lease, LeaseKey, WorkerId};

/// A value, and since when its counter has stood still on this worker's clock.
#[derive(Debug, Clone)]
pub(crate) struct Seen<T> {
    pub(crate) item: T,
    /// When the reply was received that first showed this counter.
    pub(crate) since: Mono,
    /// When the reply was received that first showed this owner; absent when the first look at the table did.
    pub(crate) owner_since: Option<Mono>,
}

impl<T> Seen<T> {
    /// Whether the counter has stood still for `duration`.
    pub(crate) fn stood_still(&self, duration: Duration, now: Mono) -> bool {
        now.since(self.since) >= duration
    }
}

/// The leases and workers seen, with their ages.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    leases: BTreeMap<LeaseKey, Seen<Lease>>,
    workers: BTreeMap<WorkerId, Seen<WorkerItem>>,
    /// There was a whole scan.
    looked: bool,
}

impl Observations {
    /// Takes in a whole scan, received at `now`. What the scan left out is forgotten.
    ///
    /// A scan may be stale, so an item that it shows older than it was seen before keeps what was seen before: counters only rise.
    pub(crate) fn scanned(&mut self, leases: Vec<Lease>, workers: Vec<WorkerItem>, now: Mono) {
        let keys: BTreeSet<LeaseKey> = leases.iter().map(|lease| lease.key.clone()).collect();
        self.leases.retain(|key, _| keys.contains(key));
        for lease in leases {
            self.lease(lease, now);
        }
        self.looked = true;
        let ids: BTreeSet<WorkerId> = workers.iter().map(|worker| worker.id.clone()).collect();
        self.workers.retain(|id, _| ids.contains(id));
        for worker in workers {
            match self.workers.get_mut(&worker.id) {
                Some(seen) if worker.counter == seen.item.counter => seen.item = worker,
                Some(seen) if worker.counter.0.wrapping_sub(seen.item.counter.0) < 0 => {}
                _ => {
                    self.workers.insert(worker.id.clone(), Seen { item: worker, since: now, owner_since: Some(now) });
                }
            }
        }
    }

    /// Takes in one lease, seen at `now` in a reply to a read or a write.
    pub(crate) fn lease(&mut self, lease: Lease, now: Mono) {
        match self.leases.get_mut(&lease.key) {
            Some(seen) if lease.counter == seen.item.counter => seen.item = lease,
            Some(seen) if lease.counter.0.wrapping_sub(seen.item.counter.0) < 0 => {}
            seen => {
                let same_owner = seen.filter(|seen| seen.item.owner == lease.owner);
                let owner_since = same_owner.map_or(self.looked.then_some(now), |seen| seen.owner_since);
                self.leases.insert(lease.key.clone(), Seen { item: lease, since: now, owner_since });
            }
        }
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
    use crate::model::{KeyForm, LeaseWrite, NewLease};

    fn at(seconds: u64) -> Mono {
        Mono::new(Duration::from_secs(seconds))
    }

    fn lease() -> Lease {
        let stream = "arn:aws:dynamodb:r:123456789012:table/t/stream/l".parse().expect("legal");
        let shard = "shard-1".parse().expect("legal");
        let key = LeaseKey::of(KeyForm::Bare, &stream, &shard);
        let owner = Some("w/1".parse().expect("legal"));
        NewLease { key, stream, shard, owner, parent: None, starting_sequence: None, start_at: None, root: true }
            .created()
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
}
