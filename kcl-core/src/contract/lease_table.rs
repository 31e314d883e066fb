//! The lease table: the only place where the workers of an application meet.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

use crate::model::{
    GuardedWrite, KeyForm, Lease, LeaseCounter, LeaseGuard, LeaseKey, LeaseWrite, NewLease, StartPosition, StreamArn,
    WorkerId,
};

/// Stores leases and the few items beside them.
///
/// # Contract
/// 1. Every method that writes is one atomic step, and [`LeaseTable::finish`] and [`LeaseTable::write_all`] are one atomic step
///    over several items: all of it is applied, or nothing.
/// 2. A write is applied only if its guard matches the item at that instant, and then it moves the counter by one.
///    What it leaves is [`Lease::after`]; attributes that this library does not know stay as they are.
/// 3. `Ok` is returned only after the write is durable.
/// 4. A refused write says so with [`LeaseErrorKind::Conflict`] and, where it can, carries the item that refused it.
/// 5. `get`, `worker` and `rings` are strongly consistent: they see every write that was acknowledged before they were called.
/// 6. Nothing is deleted but by the methods that say so, under their guards.
///
/// # Freedoms
/// 1. [`LeaseErrorKind::Unavailable`] with [`Outcome::Unknown`]: the write may have been applied, or may be at any
///    later time. A write whose future was dropped has the same standing.
/// 2. `scan` may be stale and need not be a snapshot: an item may be missing that was created a moment ago, and two items may be
///    seen at different times. For a moment even `get` may show one item as a step over several left it, and another as it was
///    before.
/// 3. Any call may be throttled.
///
/// # Cancel safety
/// Dropping a read costs nothing. Dropping a write leaves its outcome unknown (freedom 1); it does not stop it.
#[async_trait]
pub trait LeaseTable: fmt::Debug + Send + Sync + 'static {
    /// A page of all items. Items that cannot be understood come as [`TableItem::Foreign`], not as errors.
    ///
    /// # Errors
    /// `Throttled`, `Unavailable`, `Denied`.
    async fn scan(&self, from: Option<ScanCursor>) -> Result<ScanPage, LeaseError>;

    /// One lease, strongly consistent.
    ///
    /// # Errors
    /// `Invalid` when the item exists and is no lease.
    async fn get(&self, key: &LeaseKey) -> Result<Option<Lease>, LeaseError>;

    /// Creates a lease if its key is free, with the counter that is given.
    ///
    /// # Errors
    /// `Conflict` when there is an item with that key already.
    async fn create(&self, lease: &NewLease) -> Result<Lease, LeaseError>;

    /// Writes a lease that is still as `seen`, and returns it as it is now.
    ///
    /// # Errors
    /// `Conflict` when counter or owner differ, or the item does not exist.
    async fn write(&self, key: &LeaseKey, seen: &LeaseGuard, write: &LeaseWrite) -> Result<Lease, LeaseError>;

    /// Finishes a shard in one step: the parent, still as `seen`, becomes `SHARD_END`, loses its owner and names its children;
    /// each child lease that does not exist is created as given, and those that exist are left alone.
    ///
    /// Returns the children that this call created.
    ///
    /// # Errors
    /// `Conflict` when the parent differs from `seen`; nothing was created then.
    async fn finish(
        &self,
        parent: &LeaseKey,
        seen: &LeaseGuard,
        children: &[NewLease],
    ) -> Result<Vec<Lease>, LeaseError>;

    /// Writes several leases in one step, each still as it was seen. At most [`MAX_WRITES`], each of another lease.
    ///
    /// # Errors
    /// `Conflict` when one of them differs or does not exist, `Invalid` when there are too many; nothing was written then.
    async fn write_all(&self, writes: &[GuardedWrite]) -> Result<(), LeaseError>;

    /// Deletes a lease that is still as `seen`.
    ///
    /// # Errors
    /// `Conflict` when it differs; deleting a lease that does not exist is `Ok`.
    async fn delete(&self, key: &LeaseKey, seen: &LeaseGuard) -> Result<(), LeaseError>;

    /// Adds a worker with counter 0, state [`WorkerState::Live`].
    ///
    /// # Errors
    /// `Conflict` when an item of that worker exists.
    async fn register_worker(&self, worker: &WorkerId, weight: u32) -> Result<WorkerItem, LeaseError>;

    /// One worker, strongly consistent.
    ///
    /// # Errors
    /// `Throttled`, `Unavailable`, `Denied`.
    async fn worker(&self, worker: &WorkerId) -> Result<Option<WorkerItem>, LeaseError>;

    /// Moves a worker's counter and sets its state, if counter and state are still those given.
    ///
    /// # Errors
    /// `Conflict` when they differ or the item does not exist.
    async fn write_worker(&self, seen: &WorkerItem, state: WorkerState) -> Result<WorkerItem, LeaseError>;

    /// Deletes a worker whose counter and state are still those given.
    ///
    /// # Errors
    /// `Conflict` when they differ; deleting a worker that does not exist is `Ok`.
    async fn delete_worker(&self, seen: &WorkerItem) -> Result<(), LeaseError>;

    /// Stores the bootstrap marker of a stream if there is none, and returns the one that stands.
    ///
    /// # Errors
    /// `Throttled`, `Unavailable`, `Denied`.
    async fn fix_marker(&self, marker: &BootstrapMarker) -> Result<BootstrapMarker, LeaseError>;

    /// Notes that all leases of a stream's bootstrap exist.
    ///
    /// # Errors
    /// `Conflict` when the stream has no marker.
    async fn complete_marker(&self, stream: &StreamArn) -> Result<(), LeaseError>;

    /// Deletes the bootstrap marker of a stream that still says where the application began.
    ///
    /// # Errors
    /// `Conflict` when it says something else; deleting one that does not exist is `Ok`.
    async fn delete_marker(&self, seen: &BootstrapMarker) -> Result<(), LeaseError>;

    /// Stores the table's meta item if there is none, and returns the one that stands.
    ///
    /// # Errors
    /// `Invalid` when the stored one was written by a newer version.
    async fn fix_meta(&self, meta: &TableMeta) -> Result<TableMeta, LeaseError>;

    /// Deletes the table's meta item while it is still as `seen`.
    ///
    /// # Errors
    /// `Conflict` when it differs; deleting one that does not exist is `Ok`.
    async fn delete_meta(&self, seen: &TableMeta) -> Result<(), LeaseError>;

    /// Tells the fleet to look at the table: moves a number that is kept with the meta item. It changes nothing else there.
    ///
    /// # Errors
    /// `Conflict` when there is no meta item.
    async fn ring(&self) -> Result<(), LeaseError>;

    /// How often the fleet was told, strongly consistent; zero when there is no meta item.
    ///
    /// # Errors
    /// `Throttled`, `Unavailable`, `Denied`.
    async fn rings(&self) -> Result<u64, LeaseError>;
}

/// The most writes of one [`LeaseTable::write_all`].
///
/// Source: the limit of actions in `TransactWriteItems`.
pub const MAX_WRITES: usize = 100;

/// Where a scan goes on. Opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanCursor(pub String);

/// One page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// The items, in no order that may be relied on.
    pub items: Vec<TableItem>,
    /// Where to go on; absent at the end.
    pub next: Option<ScanCursor>,
}

/// What an item of the table is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableItem {
    /// A lease. Whoever looks at thousands of them again and again moves none.
    Lease(Arc<Lease>),
    /// A worker of the fleet.
    Worker(WorkerItem),
    /// Where an application began on a stream.
    Marker(BootstrapMarker),
    /// What the table is.
    Meta(TableMeta),
    /// Something else: another library's item, or one that is damaged. It is reported and left alone.
    Foreign {
        /// Its key.
        key: String,
        /// What is wrong with it, as far as leases are concerned.
        why: String,
    },
}

/// One run of a worker, as the fleet sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerItem {
    /// Who.
    pub id: WorkerId,
    /// Moved by every write; one that stands still is a worker that does not live.
    pub counter: LeaseCounter,
    /// What it may do.
    pub state: WorkerState,
    /// Its share of the shards, relative to the other workers' weights. 100 by default.
    pub weight: u32,
}

/// What a worker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// It may show that it lives.
    Live,
    /// It lives and gives everything away: nothing is meant for it any more.
    Leaving,
    /// It must let go of everything: its next sign of life is refused.
    Evicted,
    /// It is gone for good: its leases are free.
    Fenced,
}

impl WorkerState {
    /// Whether its worker may act and show that it lives.
    #[must_use]
    pub fn lives(self) -> bool {
        matches!(self, Self::Live | Self::Leaving)
    }
}

/// Where an application began on a stream. Fixed before any lease of it exists and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapMarker {
    /// The stream.
    pub stream: StreamArn,
    /// T0, in the clock of the worker that fixed it.
    pub at: SystemTime,
    /// The start position that it was configured with.
    pub start: StartPosition,
    /// Whether all leases of the bootstrap exist.
    pub complete: bool,
}

/// What the table is, fixed when it is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableMeta {
    /// The version of our own items and attributes.
    pub schema: u32,
    /// How the death of a worker is seen.
    pub liveness: Liveness,
    /// How lease keys are formed.
    pub key_form: KeyForm,
}

/// The newest [`TableMeta::schema`] that this version can work with.
pub const SCHEMA_VERSION: u32 = 1;

/// How the death of a worker is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// Each lease's counter is renewed by its owner, as the Java library does.
    PerLease,
    /// Only the worker's own item is renewed.
    PerWorker,
}

/// Whether a failed write may still take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did not and will not.
    NotApplied,
    /// It may have, or may at any later time.
    Unknown,
}

/// A failed call to the lease table.
#[derive(Debug, thiserror::Error)]
#[error("{operation} on the lease table failed: {kind}")]
pub struct LeaseError {
    kind: LeaseErrorKind,
    operation: &'static str,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseErrorKind {
    /// Look at the item again: it is not as it was seen.
    #[error("the item is not as it was last seen")]
    Conflict {
        /// The lease that refused the write, where the table told.
        current: Option<Box<Lease>>,
    },
    /// Try again later; nothing was written.
    #[error("throttled")]
    Throttled,
    /// A network fault, a time-out, an internal error: settle the outcome, then try again.
    #[error("the table cannot be reached or failed ({outcome:?})")]
    Unavailable {
        /// Whether the write may have been applied.
        outcome: Outcome,
    },
    /// Nothing helps but a permission.
    #[error("access denied: grant dynamodb:{action} on the table")]
    Denied {
        /// The IAM action that is missing, without the service prefix.
        action: &'static str,
    },
    /// The table or an item in it is not what this library can work with.
    #[error("{what}")]
    Invalid {
        /// What is wrong and what to change.
        what: String,
    },
}

impl LeaseError {
    /// An error of `operation`.
    #[must_use]
    pub fn new(kind: LeaseErrorKind, operation: &'static str) -> Self {
        Self { kind, operation, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller does next.
    #[must_use]
    pub fn kind(&self) -> &LeaseErrorKind {
        &self.kind
    }

    /// The call that failed.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The lease that refused the write, where the table told.
    pub(crate) fn into_current(self) -> Option<Box<Lease>> {
        match self.kind {
            LeaseErrorKind::Conflict { current } => current,
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody's doing.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            LeaseErrorKind::Throttled | LeaseErrorKind::Unavailable { .. } => true,
            LeaseErrorKind::Conflict { .. } | LeaseErrorKind::Denied { .. } | LeaseErrorKind::Invalid { .. } => false,
        }
    }

    /// Whether the write may have been applied, or may be at any later time.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self.kind, LeaseErrorKind::Unavailable { outcome: Outcome::Unknown })
    }
}
