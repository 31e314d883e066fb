//! What an operator does to a lease table, of a fleet that runs or stands still.
//!
//! ```text
//!   look (scan) ──► decide (`plan`, pure) ──► one conditional step ──► settled, or refused and looked at again
//! ```
//! Everything here is a write that names what it saw, like those of the workers, so it races with nobody: an owner whose lease was
//! written by an operator is refused with its next write, stops, and the lease is taken again once it has expired.

mod access;
mod error;
mod liveness;
mod plan;
mod strip;
mod view;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

pub use error::AdminError;
pub use strip::Removed;
pub use view::{ForeignEntry, LeaseEntry, LeaseState, MarkerEntry, MetaEntry, TableView, WorkerEntry};

use crate::contract::{LeaseTable, Liveness, Rt};
use crate::model::{
    Change, Checkpoint, GuardedWrite, Lease, LeaseKey, LeaseWrite, Owner, SequenceNumber, ShardId, StopReason,
    StreamArn, WorkerId,
};
use access::{Access, Settled, Table};

/// The operator's way to a lease table. It needs the table alone: no stream, no running worker.
///
/// Calls may be made while the fleet runs, and by several operators at once. A call that fails half way, or whose process dies, leaves
/// the table in a state that the fleet works with; the same call again finishes the job.
///
/// **When a worker of [`Liveness::PerWorker`] owns the lease**, its other leases go with it: there an owner writes a lease only for a
/// checkpoint, so it would not learn of the operator's write for long. Its worker is evicted as well, drops everything, and comes back
/// under a new id.
#[derive(Debug, Clone)]
pub struct Admin {
    access: Access,
}

/// Where a rewind goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewindTo {
    /// The oldest record that the shard still has. What is gone by then counts as accepted: it is told as an event, and the loss
    /// policy is not asked.
    TrimHorizon,
    /// Right after this record. If the next one is gone, that is a loss like any other.
    After(SequenceNumber),
}

impl RewindTo {
    fn checkpoint(self) -> Checkpoint {
        match self {
            Self::TrimHorizon => Checkpoint::TrimHorizon,
            Self::After(at) => Checkpoint::Sequence(at),
        }
    }
}

impl fmt::Display for RewindTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.checkpoint(), f)
    }
}

/// What a rewind did to one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rewound {
    /// The lease.
    pub key: LeaseKey,
    /// Its shard.
    pub shard: ShardId,
    /// The checkpoint that it had.
    pub from: Checkpoint,
    /// The checkpoint that it has now.
    pub to: Checkpoint,
    /// Who owned it, and must let go before anybody reads on.
    pub owner: Option<Owner>,
    /// Why it is not read all the same, until that is cleared too.
    pub stop: Option<StopReason>,
}

/// How a stopped shard goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// From its checkpoint, as if nothing had been. What stopped it stops it again, unless its cause is mended.
    Retry,
    /// Without what was lost at its checkpoint, however much that is by the time that reading goes on. The range is told once more,
    /// as an event, and the loss policy is not asked about it. Ends with the next checkpoint.
    SkipLost,
}

/// Writes of one call that are refused because the lease moved meanwhile, before the call gives up.
const ROUNDS: usize = 8;

impl Admin {
    /// Administers `table`. `rt` times the waits and pauses.
    #[must_use]
    pub fn new(table: Arc<dyn LeaseTable>, rt: Rt) -> Self {
        Self { access: Access::new(table, rt) }
    }

    /// Everything that is in the table, leases with their lineage. A scan: it may be a moment old.
    ///
    /// # Errors
    /// [`AdminError::Table`].
    ///
    /// # Cancel safety
    /// It reads only.
    pub async fn list(&self) -> Result<TableView, AdminError> {
        Ok(TableView::of(&self.access.look_at_any().await?))
    }

    /// Moves the checkpoint of a lease back, also that of a finished one. Every lease that continues it, directly or not, begins again
    /// at its shard's start and waits until this one is finished again, so that order holds (P1). All of it is one step.
    ///
    /// An owner is refused with its next write and stops; the lease is taken again once it has expired, under a higher epoch. Until
    /// then it may deliver what it has. A stop stays: see [`Admin::clear_stop`].
    ///
    /// Returns what was rewound; nothing, if nobody has read on from there. After a call that failed or was broken off, the same call
    /// finishes what was begun.
    ///
    /// # Errors
    /// `NoLease`, `NotBack`, `TooManyDescendants`, `Contended`, `Unknown`, `TooNew`, `Table`.
    ///
    /// # Cancel safety
    /// Dropping it leaves the leases all rewound or none, and of [`Liveness::PerWorker`] some workers may not be evicted yet. Calling it
    /// again finishes the job.
    pub async fn rewind(&self, key: &LeaseKey, to: RewindTo) -> Result<Vec<Rewound>, AdminError> {
        let table = self.access.look().await?;
        self.rewind_from(table, key, to).await
    }

    /// Moves every lease of a stream back to the oldest record that is left: [`Admin::rewind`] for each lease without a parent's lease,
    /// one after the other.
    ///
    /// # Errors
    /// `NoStream`, and those of [`Admin::rewind`]. What was rewound before an error stays so; calling it again does the rest, and what
    /// was done once more.
    ///
    /// # Cancel safety
    /// Some lineages may be rewound and others not. Calling it again finishes the job.
    pub async fn rewind_stream(&self, stream: &StreamArn) -> Result<Vec<Rewound>, AdminError> {
        let table = self.access.look().await?;
        let roots = plan::roots(&table.leases, |lease| table.is_of(lease, stream));
        if roots.is_empty() {
            return Err(AdminError::NoStream { stream: stream.clone() });
        }
        let mut rewound = Vec::new();
        for root in roots {
            rewound.extend(self.rewind_from(table.clone(), &root, RewindTo::TrimHorizon).await?);
        }
        Ok(rewound)
    }

    async fn rewind_from(&self, mut table: Table, key: &LeaseKey, to: RewindTo) -> Result<Vec<Rewound>, AdminError> {
        for _ in 0..ROUNDS {
            self.refresh_lineage(&mut table, key).await?;
            let steps = plan::rewind(&table.leases, key, to)?;
            if steps.is_empty() {
                return Ok(Vec::new());
            }
            let seen: Vec<&Lease> = steps.iter().filter_map(|step| table.leases.get(&step.key)).collect();
            let mut owners = access::owners(&seen);
            // The one that the lease itself is held by goes last: while it lives in the table, nobody takes the lease.
            let last =
                plan::holder(&steps).and_then(|holder| owners.iter().find(|one| one.owner() == *holder).cloned());
            let last = last.and_then(|last| owners.take(&last));
            if table.liveness() == Liveness::PerWorker {
                self.access.evict_workers(&owners).await?;
            }
            match self.access.settle(&table, &steps).await? {
                Settled::Written => {
                    let rewound = seen.iter().zip(&steps).map(|(lease, step)| rewound(lease, step)).collect();
                    if let (Some(last), Liveness::PerWorker) = (last, table.liveness()) {
                        self.access.evict_workers([&last]).await?;
                    }
                    return Ok(rewound);
                }
                Settled::Refused => table = self.access.look_again().await?,
            }
        }
        Err(AdminError::Contended { key: key.clone() })
    }

    /// Reads a lease and all that continue it anew: a scan is a moment old, and owners write often.
    async fn refresh_lineage(&self, table: &mut Table, key: &LeaseKey) -> Result<(), AdminError> {
        let mut fresh = BTreeSet::new();
        loop {
            let mut stale = plan::named_lineage_of(&table.leases, key)?;
            stale.retain(|key| fresh.insert(key.clone()));
            if stale.is_empty() {
                return Ok(());
            }
            self.access.refresh(table, &stale).await?;
        }
    }

    /// Makes the owner of a lease let go: it is refused with its next write and stops. The lease is taken once it has expired, by `to`
    /// first where it is named. Returns the owner. Where `to` owns it already, that is `to`, and nothing is done.
    ///
    /// # Errors
    /// `NoLease`, `NotOwned`, `Contended`, `Unknown`, `TooNew`, `Table`.
    ///
    /// # Cancel safety
    /// Dropping it leaves it done or not, or in [`Liveness::PerWorker`] half done. It may be repeated: with `to`, until `to` owns the lease;
    /// without, whoever has taken the lease meanwhile is made to let go too.
    pub async fn release(&self, key: &LeaseKey, to: Option<&WorkerId>) -> Result<Owner, AdminError> {
        let intended_for = to.map_or(Change::Clear, |worker| Change::Set(worker.owner()));
        let mut table = self.access.look().await?;
        for _ in 0..ROUNDS {
            let lease = self.access.fresh(&mut table, key).await?;
            let (Some(owner), false) = (lease.owner.clone(), lease.is_finished()) else {
                return Err(AdminError::NotOwned { key: key.clone() });
            };
            if to.is_some_and(|to| to.owner() == owner) && !lease.evicted {
                return Ok(owner);
            }
            let write = LeaseWrite { evict: true, intended_for: intended_for.clone(), ..LeaseWrite::default() };
            if self.access.settle(&table, &[guarded(&lease, write)]).await? == Settled::Written {
                if table.liveness() == Liveness::PerWorker {
                    self.access.evict_workers(&access::owners(&[&lease])).await?;
                }
                return Ok(owner);
            }
        }
        Err(AdminError::Contended { key: key.clone() })
    }

    /// Makes a worker let go of everything it owns: its next sign of life is refused, it gives its leases away and comes back under a
    /// new id. One that does not react loses them as if it had died.
    ///
    /// # Errors
    /// `NoWorker`, `Table`.
    ///
    /// # Cancel safety
    /// Dropping it leaves it done or not. It may be repeated.
    pub async fn evict_worker(&self, worker: &WorkerId) -> Result<(), AdminError> {
        if self.access.worker(worker).await?.is_none() {
            return Err(AdminError::NoWorker { worker: worker.clone() });
        }
        self.access.evict_workers([worker]).await
    }

    /// Lets a stopped shard be read again. Returns why it was stopped.
    ///
    /// # Errors
    /// `NoLease`, `NotStopped`, `NotALoss`, `Contended`, `Unknown`, `Table`.
    ///
    /// # Cancel safety
    /// Dropping it leaves it done or not.
    pub async fn clear_stop(&self, key: &LeaseKey, resume: Resume) -> Result<StopReason, AdminError> {
        let mut table = Table::default();
        for _ in 0..ROUNDS {
            let lease = self.access.fresh(&mut table, key).await?;
            let write = plan::clear_stop(&lease, resume)?;
            if self.access.settle(&table, &[guarded(&lease, write)]).await? == Settled::Written {
                return lease.stop.ok_or_else(|| AdminError::NotStopped { key: key.clone() });
            }
        }
        Err(AdminError::Contended { key: key.clone() })
    }
}

fn guarded(lease: &Lease, write: LeaseWrite) -> GuardedWrite {
    GuardedWrite { key: lease.key.clone(), seen: lease.guard(), write }
}

fn rewound(lease: &Lease, step: &GuardedWrite) -> Rewound {
    Rewound {
        key: lease.key.clone(),
        shard: lease.shard.clone(),
        from: lease.checkpoint,
        to: step.write.checkpoint.unwrap_or(lease.checkpoint),
        owner: lease.owner.clone().filter(|_| !lease.is_finished()),
        stop: lease.stop.clone(),
    }
}

#[cfg(test)]
mod tests;
