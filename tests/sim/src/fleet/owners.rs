//! Who owned which shard, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kcl_core::{Lease, Owner, ShardId};

/// A change of owner, as the lease table made it durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// When, since the run began.
    pub at: Duration,
    /// Which shard.
    pub shard: ShardId,
    /// Who owns it from then on.
    pub owner: Option<Owner>,
}

/// The log of all changes. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    now: BTreeMap<ShardId, Option<Owner>>,
    changes: Vec<Owned>,
}

impl Owners {
    /// Takes in a lease that was just written.
    pub(super) fn note(&self, at: Duration, lease: &Lease) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let before = log.now.insert(lease.shard.clone(), lease.owner.clone());
        if before.as_ref() != Some(&lease.owner) {
            log.changes.push(Owned { at, shard: lease.shard.clone(), owner: lease.owner.clone() });
        }
    }

    /// All changes from `since` on.
    #[must_use]
    pub fn since(&self, since: Duration) -> Vec<Owned> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.changes.iter().filter(|owned| owned.at >= since).cloned().collect()
    }

    /// How many shards each owner has now.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Option<Owner>, usize> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = BTreeMap::new();
        for owner in log.now.values() {
            *counts.entry(owner.clone()).or_insert(0) += 1;
        }
        counts
    }
}
