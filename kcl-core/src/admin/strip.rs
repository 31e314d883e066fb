//! Taking this library's own things out of a table, before another library goes on with it.

use std::time::Duration;

use serde::Serialize;

use super::access::{Settled, Table};
use super::{Admin, AdminError, guarded};
use crate::contract::{LeaseErrorKind, WorkerState};
use crate::model::{Change, Lease, LeaseKey, LeaseWrite};

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Removed {
    /// Leases that had attributes of this library, or were still owned by a worker of it that is gone.
    pub leases: usize,
    /// Workers' items.
    pub workers: usize,
    /// Bootstrap markers.
    pub markers: usize,
    /// Whether there was a meta item.
    pub meta: bool,
}

impl Admin {
    /// Removes what this library added: attributes of its own on leases, owners that are gone, workers' items, bootstrap markers, and
    /// last the meta item. What remains is what the Java library would have written. Checkpoints stay.
    ///
    /// **Every worker must have ended.** Where items show a worker or an owner, they are watched for `watch`, which must be the fleet's
    /// lease duration or more; whatever moves meanwhile is a refusal. After a graceful stop of all workers there is nothing to watch.
    ///
    /// # Errors
    /// `FleetLives`, `Stopped`, `Unknown`, `TooNew`, `Table`.
    ///
    /// # Cancel safety
    /// Some things may be removed and others not: this library still works with the table, and calling it again finishes the job.
    pub async fn remove_ours(&self, watch: Duration) -> Result<Removed, AdminError> {
        let before = self.access.look().await?;
        let stopped: Vec<LeaseKey> =
            before.leases.values().filter(|lease| lease.stop.is_some()).map(|lease| lease.key.clone()).collect();
        if !stopped.is_empty() {
            return Err(AdminError::Stopped { keys: stopped });
        }
        let mut table = before;
        if shows_life(&table) {
            self.access.rt().sleep(watch).await;
            let now = self.access.look().await?;
            let signs = signs_of_life(&table, &now);
            if !signs.is_empty() {
                return Err(AdminError::FleetLives { signs });
            }
            table = now;
        }
        self.remove(&table).await
    }

    async fn remove(&self, table: &Table) -> Result<Removed, AdminError> {
        let mut removed = Removed::default();
        for lease in table.leases.values() {
            let Some(write) = strip(lease) else { continue };
            if self.access.settle(table, &[guarded(lease, write)]).await? == Settled::Refused {
                return Err(AdminError::FleetLives { signs: vec![format!("the lease {} moved", lease.key)] });
            }
            removed.leases += 1;
        }
        for worker in &table.workers {
            let sign = format!("the worker {} moved", worker.id);
            refused_by_life(self.access.request(|table| table.delete_worker(worker)).await, sign)?;
            removed.workers += 1;
        }
        for marker in &table.markers {
            let sign = format!("the marker of {} was written", marker.stream);
            refused_by_life(self.access.request(|table| table.delete_marker(marker)).await, sign)?;
            removed.markers += 1;
        }
        if let Some(meta) = &table.meta {
            let sign = "the meta item was written".to_owned();
            refused_by_life(self.access.request(|table| table.delete_meta(meta)).await, sign)?;
            removed.meta = true;
        }
        Ok(removed)
    }
}

/// What takes our things off a lease, if there are any. The Java library leaves owners of its own named; those stay.
fn strip(lease: &Lease) -> Option<LeaseWrite> {
    let ours = lease.owner.as_ref().is_some_and(|owner| Table::is_ours(owner) || lease.evicted);
    let owner = if ours { Change::Clear } else { Change::Keep };
    (ours || lease.has_own_attributes()).then(|| LeaseWrite { owner, ..LeaseWrite::strip() })
}

/// Whether there is anything that may be alive.
pub(super) fn shows_life(table: &Table) -> bool {
    let live = table.workers.iter().any(|worker| worker.state != WorkerState::Fenced);
    live || table.leases.values().any(|lease| lease.owner.is_some() && !lease.is_finished())
}

/// What moved between two looks.
pub(super) fn signs_of_life(before: &Table, now: &Table) -> Vec<String> {
    let workers = now.workers.iter().filter(|worker| !before.workers.contains(worker));
    let workers = workers.map(|worker| format!("the worker {} moved", worker.id));
    let leases = now.leases.values().filter(|lease| before.leases.get(&lease.key) != Some(*lease));
    let leases = leases.map(|lease| match &lease.owner {
        Some(owner) => format!("{owner} wrote the lease {}", lease.key),
        None => format!("the lease {} was written", lease.key),
    });
    workers.chain(leases).collect()
}

/// What refuses a deletion under its guard is somebody who lives.
pub(super) fn refused_by_life(deleted: Result<(), AdminError>, sign: String) -> Result<(), AdminError> {
    match deleted {
        Err(AdminError::Table(error)) if matches!(error.kind(), LeaseErrorKind::Conflict { .. }) => {
            Err(AdminError::FleetLives { signs: vec![sign] })
        }
        settled => settled,
    }
}
