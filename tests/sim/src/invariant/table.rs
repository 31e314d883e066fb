//! The lease table, watched: what each write left is told before its caller hears of it.

use std::fmt;

use async_trait::async_trait;
use kcl_core::reference::MemoryLeaseTable;
use kcl_core::{
    BootstrapMarker, GuardedWrite, Lease, LeaseError, LeaseErrorKind, LeaseGuard, LeaseKey, LeaseTable, LeaseWrite,
    NewLease, ScanCursor, ScanPage, StreamArn, TableItem, TableMeta, WorkerId, WorkerItem, WorkerState,
};

use super::{Seen, Watch};

/// Told of a lease.
type Told = dyn Fn(&Lease) + Send + Sync;

/// The table in memory applies a write within one poll, so before and after lie side by side.
pub(super) struct Watched {
    pub(super) inner: MemoryLeaseTable,
    pub(super) watch: Watch,
    /// Who writes is an operator; told of every lease that he has written.
    pub(super) operated: Option<Box<Told>>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl Watched {
    async fn lease(&self, key: &LeaseKey) -> Option<Lease> {
        self.inner.get(key).await.ok().flatten()
    }

    fn told(&self, before: Option<&Lease>, after: Option<&Lease>) {
        if let (Some(rewound), Some(_), Some(after)) = (&self.operated, before, after) {
            self.watch.see(&Seen::Operated { shard: &after.shard });
            rewound(after);
        }
        self.watch.see(&Seen::Lease { before, after });
    }

    /// What a write with a guard answered, told.
    fn answered<T>(
        &self,
        answer: Result<T, LeaseError>,
        guard: &LeaseGuard,
        after: impl FnOnce(&T),
    ) -> Result<T, LeaseError> {
        match &answer {
            Ok(value) => after(value),
            Err(error) => {
                if let LeaseErrorKind::Conflict { current } = error.kind() {
                    self.watch.see(&Seen::Refused { guard, current: current.as_deref() });
                }
            }
        }
        answer
    }

    async fn worker_changed(&self, id: &WorkerId, before: Option<&WorkerItem>) {
        let after = self.inner.worker(id).await.ok().flatten();
        if before != after.as_ref() {
            self.watch.see(&Seen::Worker { before, after: after.as_ref() });
        }
    }
}

#[async_trait]
impl LeaseTable for Watched {
    async fn scan(&self, from: Option<ScanCursor>) -> Result<ScanPage, LeaseError> {
        self.inner.scan(from).await
    }

    async fn get(&self, key: &LeaseKey) -> Result<Option<Lease>, LeaseError> {
        self.inner.get(key).await
    }

    async fn create(&self, lease: &NewLease) -> Result<Lease, LeaseError> {
        let created = self.inner.create(lease).await;
        if let Ok(lease) = &created {
            self.told(None, Some(lease));
        }
        created
    }

    async fn write(&self, key: &LeaseKey, seen: &LeaseGuard, write: &LeaseWrite) -> Result<Lease, LeaseError> {
        let before = self.lease(key).await;
        let answer = self.inner.write(key, seen, write).await;
        self.answered(answer, seen, |after| self.told(before.as_ref(), Some(after)))
    }

    async fn finish(
        &self,
        parent: &LeaseKey,
        seen: &LeaseGuard,
        children: &[NewLease],
    ) -> Result<Vec<Lease>, LeaseError> {
        let before = self.lease(parent).await;
        let answer = self.inner.finish(parent, seen, children).await;
        for child in answer.iter().flatten() {
            self.told(None, Some(child));
        }
        if let (Ok(_), Some(after)) = (&answer, self.lease(parent).await) {
            self.told(before.as_ref(), Some(&after));
            self.watch.finished(&after, &self.inner).await;
        }
        self.answered(answer, seen, |_| {})
    }

    async fn write_all(&self, writes: &[GuardedWrite]) -> Result<(), LeaseError> {
        let mut before = Vec::with_capacity(writes.len());
        for write in writes {
            before.push(self.lease(&write.key).await);
        }
        let answer = self.inner.write_all(writes).await;
        if answer.is_ok() {
            for (write, before) in writes.iter().zip(&before) {
                let after = self.lease(&write.key).await;
                self.told(before.as_ref(), after.as_ref());
            }
        }
        answer
    }

    async fn delete(&self, key: &LeaseKey, seen: &LeaseGuard) -> Result<(), LeaseError> {
        let before = self.lease(key).await;
        let answer = self.inner.delete(key, seen).await;
        self.answered(answer, seen, |()| {
            if let Some(gone) = &before {
                self.told(Some(gone), None);
                self.watch.taken_as_gone(&gone.shard);
            }
        })
    }

    async fn register_worker(&self, worker: &WorkerId, weight: u32) -> Result<WorkerItem, LeaseError> {
        let registered = self.inner.register_worker(worker, weight).await;
        if registered.is_ok() {
            self.worker_changed(worker, None).await;
        }
        registered
    }

    async fn worker(&self, worker: &WorkerId) -> Result<Option<WorkerItem>, LeaseError> {
        self.inner.worker(worker).await
    }

    async fn write_worker(&self, seen: &WorkerItem, state: WorkerState) -> Result<WorkerItem, LeaseError> {
        let written = self.inner.write_worker(seen, state).await;
        if written.is_ok() {
            self.worker_changed(&seen.id, Some(seen)).await;
        }
        written
    }

    async fn delete_worker(&self, seen: &WorkerItem) -> Result<(), LeaseError> {
        let deleted = self.inner.delete_worker(seen).await;
        if deleted.is_ok() {
            self.worker_changed(&seen.id, Some(seen)).await;
        }
        deleted
    }

    async fn fix_marker(&self, marker: &BootstrapMarker) -> Result<BootstrapMarker, LeaseError> {
        let fixed = self.inner.fix_marker(marker).await;
        if let Ok(fixed) = fixed.as_ref().map(|fixed| fixed.clone())
            && !fixed.complete
        {
            self.watch.begun(&fixed);
        }
        fixed
    }

    async fn complete_marker(&self, stream: &StreamArn) -> Result<(), LeaseError> {
        let is_open = |item: &&TableItem| matches!(item, TableItem::Marker(marker) if marker.stream == *stream && !marker.complete);
        let items = self.inner.snapshot();
        let open = items.iter().find(is_open);
        let completed = self.inner.complete_marker(stream).await;
        if let (Ok(()), Some(TableItem::Marker(marker))) = (&completed, open) {
            self.watch.begun(marker);
        }
        completed
    }

    async fn delete_marker(&self, seen: &BootstrapMarker) -> Result<(), LeaseError> {
        self.inner.delete_marker(seen).await
    }

    async fn fix_meta(&self, meta: &TableMeta) -> Result<TableMeta, LeaseError> {
        let fixed = self.inner.fix_meta(meta).await;
        if let Ok(meta) = &fixed {
            self.watch.liveness(meta.liveness);
        }
        fixed
    }

    async fn delete_meta(&self, seen: &TableMeta) -> Result<(), LeaseError> {
        self.inner.delete_meta(seen).await
    }

    async fn ring(&self) -> Result<(), LeaseError> {
        self.inner.ring().await
    }

    async fn rings(&self) -> Result<u64, LeaseError> {
        self.inner.rings().await
    }
}
