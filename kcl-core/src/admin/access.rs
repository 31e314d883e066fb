//! An operator's requests: bounded, tried again, and settled where their answer was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::AdminError;
use crate::contract::{
    BootstrapMarker, LeaseError, LeaseErrorKind, LeaseTable, Liveness, Rt, SCHEMA_VERSION, TableMeta, WorkerItem,
    WorkerState,
};
use crate::model::{GuardedWrite, KeyForm, Lease, LeaseKey, Owner, StreamArn, WorkerId};
use crate::policy::backoff::Backoff;
use crate::policy::round::Streams;
use crate::policy::tenure::LeaseTiming;
use crate::runner::TableAccess;

/// A request may take a quarter of it. An operator waits longer than an owner can.
const TIMING: LeaseTiming = LeaseTiming::new(Duration::from_secs(20));

/// Tries of one request.
const TRIES: u32 = 5;

/// Between a refusal and the next look: scans may be a moment behind.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub(super) struct Access {
    inner: TableAccess,
}

/// What a scan showed.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) leases: BTreeMap<LeaseKey, Lease>,
    pub(super) workers: Vec<WorkerItem>,
    pub(super) markers: Vec<BootstrapMarker>,
    pub(super) meta: Option<TableMeta>,
    /// Key and reason.
    pub(super) foreign: Vec<(String, String)>,
}

/// The workers that own these leases, as far as they are of this library. Whether they live, their own items say.
pub(super) fn owners(leases: &[&Lease]) -> BTreeSet<WorkerId> {
    leases.iter().filter_map(|lease| lease.owner.as_ref()?.as_str().parse().ok()).collect()
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Written,
    /// A lease is not as it was seen; nothing was written.
    Refused,
}

impl Table {
    /// How the death of a worker is seen. A table without a meta item is one that the Java library runs.
    pub(super) fn liveness(&self) -> Liveness {
        self.meta.map_or(Liveness::PerLease, |meta| meta.liveness)
    }

    pub(super) fn is_of(&self, lease: &Lease, stream: &StreamArn) -> bool {
        let bare = self.leases.keys().any(|key| !key.is_qualified());
        let guessed = if bare { KeyForm::Bare } else { KeyForm::Qualified };
        let form = self.meta.map_or(guessed, |meta| meta.key_form);
        Streams { arns: std::slice::from_ref(stream), form }.stream_of(lease).is_some()
    }

    /// Whether an owner is a run of one of our workers.
    pub(super) fn is_ours(owner: &Owner) -> bool {
        WorkerId::is_written_as(owner)
    }
}

impl Access {
    pub(super) fn new(table: Arc<dyn LeaseTable>, rt: Rt) -> Self {
        Self { inner: TableAccess { table, rt, timing: TIMING, denials: None } }
    }

    pub(super) fn rt(&self) -> &Rt {
        &self.inner.rt
    }

    /// The table, if this version knows what it is: another may mean something else by what is written there.
    pub(super) async fn look(&self) -> Result<Table, AdminError> {
        let table = self.look_at_any().await?;
        match table.meta.map(|meta| meta.schema) {
            Some(schema) if schema > SCHEMA_VERSION => Err(AdminError::TooNew { schema, known: SCHEMA_VERSION }),
            _ => Ok(table),
        }
    }

    /// The table, also one of a later version.
    pub(super) async fn look_at_any(&self) -> Result<Table, AdminError> {
        let scan = self.inner.scan().await?;
        Ok(Table {
            leases: scan.leases.into_iter().map(|lease| (lease.key.clone(), Arc::unwrap_or_clone(lease))).collect(),
            workers: scan.workers,
            markers: scan.markers,
            meta: scan.metas.first().copied(),
            foreign: scan.foreign,
        })
    }

    pub(super) async fn look_again(&self) -> Result<Table, AdminError> {
        self.rt().sleep(self.rt().jitter(BETWEEN_LOOKS)).await;
        self.look().await
    }

    /// Reads leases anew.
    pub(super) async fn refresh(&self, table: &mut Table, keys: &[LeaseKey]) -> Result<(), AdminError> {
        for key in keys {
            match self.request(|table| async move { table.get(key).await }).await? {
                Some(lease) => table.leases.insert(key.clone(), lease),
                None => table.leases.remove(key),
            };
        }
        Ok(())
    }

    /// One lease, read anew.
    pub(super) async fn fresh(&self, table: &mut Table, key: &LeaseKey) -> Result<Lease, AdminError> {
        self.refresh(table, std::slice::from_ref(key)).await?;
        table.leases.get(key).cloned().ok_or_else(|| AdminError::NoLease { key: key.clone() })
    }

    pub(super) async fn worker(&self, worker: &WorkerId) -> Result<Option<WorkerItem>, AdminError> {
        self.request(|table| async move { table.worker(worker).await }).await
    }

    /// A request that may be repeated.
    pub(super) async fn request<'a, T, F>(
        &'a self,
        call: impl Fn(&'a dyn LeaseTable) -> F + Send + Sync,
    ) -> Result<T, AdminError>
    where
        T: Send,
        F: Future<Output = Result<T, LeaseError>> + Send,
    {
        Ok(self.inner.tried(TRIES, || call(self.inner.table.as_ref())).await?)
    }

    /// Writes leases that are as `table` has them, in one step. Where an answer was lost, it finds out what became of it.
    pub(super) async fn settle(&self, table: &Table, steps: &[GuardedWrite]) -> Result<Settled, AdminError> {
        let Some(first) = steps.first() else { return Ok(Settled::Written) };
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));
        let (mut unanswered, mut last) = (false, None);
        for _ in 0..TRIES {
            // The same step again, on the same counters: of all tries one at most is applied.
            let error = match self.inner.bounded(self.inner.table.write_all(steps)).await {
                Ok(()) => return Ok(Settled::Written),
                Err(error) => error,
            };
            match error.kind() {
                LeaseErrorKind::Conflict { .. } if !unanswered => return Ok(Settled::Refused),
                LeaseErrorKind::Conflict { .. } => {
                    let now = self.request(|table| async move { table.get(&first.key).await }).await?;
                    let expected = table.leases.get(&first.key).map(|lease| lease.after(&first.write));
                    let applied = expected.is_some() && now == expected;
                    let unknown = AdminError::Unknown { key: first.key.clone() };
                    return if applied { Ok(Settled::Written) } else { Err(unknown) };
                }
                LeaseErrorKind::Throttled | LeaseErrorKind::Unavailable { .. } => unanswered |= error.is_unknown(),
                LeaseErrorKind::Denied { .. } | LeaseErrorKind::Invalid { .. } => return Err(error.into()),
            }
            last = Some(error);
            self.rt().sleep(self.rt().jitter(backoff.next_pause())).await;
        }
        match last {
            Some(error) if !unanswered => Err(error.into()),
            _ => Err(AdminError::Unknown { key: first.key.clone() }),
        }
    }

    /// Refuses the next sign of life of each worker.
    pub(super) async fn evict_workers(&self, workers: impl IntoIterator<Item = &WorkerId>) -> Result<(), AdminError> {
        for worker in workers {
            self.evict_worker(worker).await?;
        }
        Ok(())
    }

    async fn evict_worker(&self, id: &WorkerId) -> Result<(), AdminError> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));
        let mut last = None;
        for _ in 0..TRIES {
            let Some(worker) = self.worker(id).await? else { return Ok(()) };
            if !worker.state.lives() {
                return Ok(());
            }
            let write = self.inner.table.write_worker(&worker, WorkerState::Evicted);
            match self.inner.bounded(write).await {
                Ok(_) => return Ok(()),
                // It lives, and has moved its counter: look again. So it is done with a write whose answer was lost.
                Err(error) if error.is_retryable() || matches!(error.kind(), LeaseErrorKind::Conflict { .. }) => {
                    last = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
            self.rt().sleep(self.rt().jitter(backoff.next_pause())).await;
        }
        last.map_or(Ok(()), |error| Err(error.into()))
    }
}
