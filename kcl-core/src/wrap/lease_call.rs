//! What the wrappers of the lease table have in common: a name for each call, and the forwarding.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::contract::{
    BootstrapMarker, LeaseError, LeaseErrorKind, LeaseTable, Outcome, ScanCursor, ScanPage, TableMeta, WorkerItem,
    WorkerState,
};
use crate::model::{Change, GuardedWrite, Lease, LeaseGuard, LeaseKey, LeaseWrite, NewLease, StreamArn, WorkerId};

/// The methods of [`LeaseTable`](crate::LeaseTable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is named after its method")]
pub enum LeaseOperation {
    Scan,
    Get,
    Create,
    Write,
    Finish,
    WriteAll,
    Delete,
    RegisterWorker,
    Worker,
    WriteWorker,
    DeleteWorker,
    FixMarker,
    CompleteMarker,
    DeleteMarker,
    FixMeta,
    DeleteMeta,
    Ring,
    Rings,
}

impl LeaseOperation {
    /// Whether it may change the table.
    #[must_use]
    pub fn is_write(self) -> bool {
        !matches!(self, Self::Scan | Self::Get | Self::Worker | Self::Rings)
    }

    /// The method's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Get => "get",
            Self::Create => "create",
            Self::Write => "write",
            Self::Finish => "finish",
            Self::WriteAll => "write_all",
            Self::Delete => "delete",
            Self::RegisterWorker => "register_worker",
            Self::Worker => "worker",
            Self::WriteWorker => "write_worker",
            Self::DeleteWorker => "delete_worker",
            Self::FixMarker => "fix_marker",
            Self::CompleteMarker => "complete_marker",
            Self::DeleteMarker => "delete_marker",
            Self::FixMeta => "fix_meta",
            Self::DeleteMeta => "delete_meta",
            Self::Ring => "ring",
            Self::Rings => "rings",
        }
    }
}

/// One call of the lease table, as a wrapper sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseCall {
    /// Which method.
    pub operation: LeaseOperation,
    /// What it is about: a lease's key (of several, the first), a worker's id, a stream's ARN; empty for a scan and for the meta item.
    pub subject: String,
    /// What a [`LeaseOperation::Write`] is for.
    pub purpose: Option<LeasePurpose>,
}

/// What a write of a lease is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeasePurpose {
    /// The owner shows that it lives.
    Renew,
    /// The owner records progress.
    Checkpoint,
    /// A worker takes it.
    Take,
    /// The owner gives it away, to whoever wants it.
    Release,
    /// The owner gives it to a certain worker.
    HandOver,
    /// Another worker asks for it.
    Evict,
}

impl LeasePurpose {
    fn of(write: &LeaseWrite) -> Self {
        match (&write.owner, &write.intended_for) {
            (Change::Set(_), _) => Self::Take,
            (Change::Clear, Change::Set(_)) => Self::HandOver,
            (Change::Clear, _) => Self::Release,
            (Change::Keep, _) if write.evict => Self::Evict,
            (Change::Keep, _) if write.checkpoint.is_some() => Self::Checkpoint,
            (Change::Keep, _) => Self::Renew,
        }
    }
}

impl LeaseCall {
    fn new(operation: LeaseOperation, subject: impl fmt::Display) -> Self {
        Self { operation, subject: subject.to_string(), purpose: None }
    }

    /// This call's failure of a kind.
    pub(super) fn error(&self, kind: LeaseErrorKind) -> LeaseError {
        LeaseError::new(kind, self.operation.name())
    }

    /// This call's failure with an outcome.
    pub(super) fn unavailable(&self, outcome: Outcome) -> LeaseError {
        self.error(LeaseErrorKind::Unavailable { outcome })
    }
}

/// A call that was not made yet. It owns its arguments, so it may outlive its caller.
pub(super) type Pending<T> =
    Box<dyn FnOnce(Arc<dyn LeaseTable>) -> BoxFuture<'static, Result<T, LeaseError>> + Send + 'static>;

/// A wrapper that does one thing around every call.
pub(super) trait AroundLeaseTable: fmt::Debug + Send + Sync + 'static {
    fn around<T: Send + 'static>(
        &self,
        call: LeaseCall,
        pending: Pending<T>,
    ) -> impl Future<Output = Result<T, LeaseError>> + Send;
}

#[async_trait]
impl<W: AroundLeaseTable> LeaseTable for W {
    async fn scan(&self, from: Option<ScanCursor>) -> Result<ScanPage, LeaseError> {
        let call = LeaseCall::new(LeaseOperation::Scan, "");
        self.around(call, Box::new(move |table| Box::pin(async move { table.scan(from).await }))).await
    }

    async fn get(&self, key: &LeaseKey) -> Result<Option<Lease>, LeaseError> {
        let call = LeaseCall::new(LeaseOperation::Get, key);
        let key = key.clone();
        self.around(call, Box::new(move |table| Box::pin(async move { table.get(&key).await }))).await
    }

    async fn create(&self, lease: &NewLease) -> Result<Lease, LeaseError> {
        let call = LeaseCall::new(LeaseOperation::Create, &lease.key);
        let lease = lease.clone();
        self.around(call, Box::new(move |table| Box::pin(async move { table.create(&lease).await }))).await
    }

    async fn write(&self, key: &LeaseKey, seen: &LeaseGuard, write: &LeaseWrite) -> Result<Lease, LeaseError> {
        let purpose = Some(LeasePurpose::of(write));
        let call = LeaseCall { purpose, ..LeaseCall::new(LeaseOperation::Write, key) };
        let (key, seen, write) = (key.clone(), seen.clone(), write.clone());
        self.around(call, Box::new(move |table| Box::pin(async move { table.write(&key, &seen, &write).await }))).await
    }

    async fn finish(
        &self,
        parent: &LeaseKey,
        seen: &LeaseGuard,
        children: &[NewLease],
    ) -> Result<Vec<Lease>, LeaseError> {
        let call = LeaseCall::new(LeaseOperation::Finish, parent);
        let (parent, seen, children) = (parent.clone(), seen.clone(), children.to_vec());
        let pending = Box::new(move |table: Arc<dyn LeaseTable>| -> BoxFuture<'static, _> {
            Box::pin(async move { table.finish(&parent, &seen, &children).await })
        });
        self.around(call, pending).await
    }

    async fn write_all(&self, writes: &[GuardedWrite]) -> Result<(), LeaseError> {
        let first = writes.first().map(|write| write.key.to_string());
        let call = LeaseCall::new(LeaseOperation::WriteAll, first.unwrap_or_default());
        let writes = writes.to_vec();
        self.around(call, Box::new(move |table| Box::pin(async move { table.write_all(&writes).await }))).await
    }

    async fn delete(&self, key: &LeaseKey, seen: &LeaseGuard) -> Result<(), LeaseError> {
        let call = LeaseCall::new(LeaseOperation::Delete, key);
        let (key, seen) = (key.clone(), seen.clone());
        self.around(call, Box::new(move |table| Box::pin(async move { table.delete(&key, &seen).await }))).await
    }

    async fn register_worker(&self, worker: &WorkerId, weight: u32) -> Result<WorkerItem, LeaseError> {
        let call = LeaseCall::new(LeaseOperation::RegisterWorker, worker);
        let worker = worker.clone();
        let pending = Box::new(move |table: Arc<dyn LeaseTable>| -> BoxFuture<'static, _> {
            Box::pin(async move { table.register_worker(&worker, weight).await })
        });
        self.around(call, pending).await
    }

    async fn worker(&self, worker: &WorkerId) -> Result<Option<WorkerItem>, LeaseError> {
        let call = LeaseCall::new(LeaseOperation::Worker, worker);
        let worker = worker.clone();
        self.around(call, Box::new(move |table| Box::pin(async move { table.worker(&worker).await }))).await
    }

    async fn write_worker(&self, seen: &WorkerItem, state: WorkerState) -> Result<WorkerItem, LeaseError> {
        let call = LeaseCall::new(LeaseOperation::WriteWorker, &seen.id);
        let seen = seen.clone();
        self.around(call, Box::new(move |table| Box::pin(async move { table.write_worker(&seen, state).await }))).await
    }

    async fn delete_worker(&self, seen: &WorkerItem) -> Result<(), LeaseError> {
        let call = LeaseCall::new(LeaseOperation::DeleteWorker, &seen.id);
        let seen = seen.clone();
        self.around(call, Box::new(move |table| Box::pin(async move { table.delete_worker(&seen).await }))).await
    }

    async fn fix_marker(&self, marker: &BootstrapMarker) -> Result<BootstrapMarker, LeaseError> {
        let call = LeaseCall::new(LeaseOperation::FixMarker, &marker.stream);
        let marker = marker.clone();
        self.around(call, Box::new(move |table| Box::pin(async move { table.fix_marker(&marker).await }))).await
    }

    async fn complete_marker(&self, stream: &StreamArn) -> Result<(), LeaseError> {
        let call = LeaseCall::new(LeaseOperation::CompleteMarker, stream);
        let stream = stream.clone();
        self.around(call, Box::new(move |table| Box::pin(async move { table.complete_marker(&stream).await }))).await
    }

    async fn delete_marker(&self, seen: &BootstrapMarker) -> Result<(), LeaseError> {
        let call = LeaseCall::new(LeaseOperation::DeleteMarker, &seen.stream);
        let seen = seen.clone();
        self.around(call, Box::new(move |table| Box::pin(async move { table.delete_marker(&seen).await }))).await
    }

    async fn fix_meta(&self, meta: &TableMeta) -> Result<TableMeta, LeaseError> {
        let call = LeaseCall::new(LeaseOperation::FixMeta, "");
        let meta = *meta;
        self.around(call, Box::new(move |table| Box::pin(async move { table.fix_meta(&meta).await }))).await
    }

    async fn delete_meta(&self, seen: &TableMeta) -> Result<(), LeaseError> {
        let call = LeaseCall::new(LeaseOperation::DeleteMeta, "");
        let seen = *seen;
        self.around(call, Box::new(move |table| Box::pin(async move { table.delete_meta(&seen).await }))).await
    }
    async fn ring(&self) -> Result<(), LeaseError> {
        let call = LeaseCall::new(LeaseOperation::Ring, "");
        self.around(call, Box::new(move |table| Box::pin(async move { table.ring().await }))).await
    }

    async fn rings(&self) -> Result<u64, LeaseError> {
        let call = LeaseCall::new(LeaseOperation::Rings, "");
        self.around(call, Box::new(move |table| Box::pin(async move { table.rings().await }))).await
    }
}
