//! The user's code: what processes the records of a shard.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::checkpointer::Checkpointer;
use crate::model::{PendingCheckpoint, SequenceNumber, ShardId, StreamArn};
use crate::record::{Record, RecordBatch};

/// Processes the records of one shard. One instance per shard and ownership; only one of its methods runs at a time.
///
/// # What the library promises
/// 1. `initialize` comes first and once; nothing is delivered before it returned `Ok`, and nothing of this shard before its
///    parent shard was finished.
/// 2. Records come in the order of their sequence numbers. After an `Err` the same records come again, from the failed one
///    on; nothing is skipped but by the failure policy, which says so.
/// 3. With automatic checkpoints, `Ok` from `process_records` acknowledges the batch. No checkpoint ever passes
///    a record that was not acknowledged.
/// 4. When the worker may no longer act for the shard, the running call is dropped at its next await, [`ShardContext::lost`]
///    fires, and `lease_lost` is the last call.
/// 5. A panic, or a call dropped at its deadline, discards the instance; a new one starts at the checkpoint.
///
/// # What is asked of it
/// Calls await instead of blocking their thread: a call that blocks keeps its runtime from running other shards, and cannot be
/// dropped. Leases are kept on threads of their own all the same. Blocking work belongs on the runtime's blocking threads.
///
/// # What the library may do
/// 1. Deliver a record more than once: after a crash, a lost lease, or a failed checkpoint.
/// 2. Call from different threads at different times.
///
/// # Cancel safety
/// Every future may be dropped at an await (promise 4, and the deadline where one is configured). A processor that holds half
/// a side effect across an await must be able to repeat it.
#[async_trait]
pub trait RecordProcessor: Send {
    /// Prepares for the shard, and may say that the user's own store knows better how far it is.
    ///
    /// # Errors
    /// Tried again with backoff, then the failure policy decides.
    async fn initialize(&mut self, shard: &ShardContext) -> Result<Start, ProcessError> {
        let _ = shard; // the default needs nothing of it
        Ok(Start::Checkpoint)
    }

    /// Processes a batch; never an empty one.
    ///
    /// # Errors
    /// The batch is delivered again, see [`ProcessError`].
    async fn process_records(&mut self, batch: &RecordBatch, shard: &ShardContext) -> Result<(), ProcessError>;

    /// Called between batches and on empty polls, at most once in every tick interval: a place to flush what is buffered.
    ///
    /// # Errors
    /// What is not acknowledged comes again to a new instance, with backoff. With manual checkpoints, only an acknowledgement ends a row
    /// of such failures. After the configured attempts the shard stops, also where there is a failure sink: the library has the records
    /// in hand no more.
    async fn tick(&mut self, shard: &ShardContext) -> Result<(), ProcessError> {
        let _ = shard; // the default needs nothing of it
        Ok(())
    }

    /// The shard is closed and every record of it was delivered. `Ok` acknowledges them all; the library then finishes the
    /// shard, and its children begin.
    ///
    /// # Errors
    /// Called again with backoff; the children wait.
    async fn shard_ended(&mut self, shard: &ShardContext) -> Result<(), ProcessError> {
        let _ = shard; // the default needs nothing of it
        Ok(())
    }

    /// The lease is gone; another worker may be reading the shard already. Nothing can be checkpointed.
    async fn lease_lost(&mut self, lost: &LeaseLost) {
        let _ = lost; // the default needs nothing of it
    }

    /// The worker is about to give the shard away. What is acknowledged when this returns is checkpointed.
    ///
    /// # Errors
    /// Reported; the lease is given away all the same, and what was not acknowledged is delivered to the successor.
    async fn shutdown_requested(&mut self, shard: &ShardContext) -> Result<(), ProcessError> {
        let _ = shard; // the default needs nothing of it
        Ok(())
    }
}

/// Makes a processor for a shard.
///
/// Closures are factories too: any `Fn(&ShardInfo) -> P` with `P: RecordProcessor`.
#[async_trait]
pub trait RecordProcessorFactory: Send + Sync + 'static {
    /// A new instance for `shard`.
    ///
    /// # Errors
    /// Tried again with backoff, then the failure policy decides.
    ///
    /// # Cancel safety
    /// Dropped when the lease is lost while it runs.
    async fn create(&self, shard: &ShardInfo) -> Result<Box<dyn RecordProcessor>, ProcessError>;
}

#[async_trait]
impl<F, P> RecordProcessorFactory for F
where
    F: Fn(&ShardInfo) -> P + Send + Sync + 'static,
    P: RecordProcessor + 'static,
{
    async fn create(&self, shard: &ShardInfo) -> Result<Box<dyn RecordProcessor>, ProcessError> {
        Ok(Box::new(self(shard)))
    }
}

/// Where a processor starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Start {
    /// After the lease's checkpoint.
    #[default]
    Checkpoint,
    /// After this record, wherever the checkpoint is and whatever the start position leaves out: the position kept in the user's own
    /// store.
    After(SequenceNumber),
}

/// Which shard.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardInfo {
    /// The stream.
    pub stream: StreamArn,
    /// The shard.
    pub shard: ShardId,
    /// The shards it continues.
    pub parents: Vec<ShardId>,
    /// Rises with every change of owner of the shard: a fencing token for the user's own writes.
    pub epoch: u64,
    /// Why this worker begins with it.
    pub reason: StartReason,
}

/// Why a worker begins with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartReason {
    /// Nobody has read it yet.
    New,
    /// Its former owner gave it away.
    HandedOver,
    /// Its former owner stopped showing that it lives.
    TakenOver,
    /// This worker has just finished its parent.
    ParentFinished,
    /// The instance before failed: a panic, a deadline, or an error outside a batch.
    InstanceReplaced,
}

/// What a processor may know and do while it has the shard. Cheap to clone, and usable from spawned tasks.
#[derive(Clone)]
pub struct ShardContext {
    inner: Arc<ContextInner>,
}

struct ContextInner {
    info: ShardInfo,
    checkpointer: Checkpointer,
    lost: CancellationToken,
    pending: Option<PendingCheckpoint>,
    lag: std::sync::atomic::AtomicU64,
}

/// No lag is known yet.
const LAG_UNKNOWN: u64 = u64::MAX;

impl ShardContext {
    pub(crate) fn new(
        info: ShardInfo,
        checkpointer: Checkpointer,
        lost: CancellationToken,
        pending: Option<PendingCheckpoint>,
    ) -> Self {
        Self { inner: Arc::new(ContextInner { info, checkpointer, lost, pending, lag: LAG_UNKNOWN.into() }) }
    }

    /// The shard, its lineage, and why it starts here.
    #[must_use]
    pub fn info(&self) -> &ShardInfo {
        &self.inner.info
    }

    /// The shard's id.
    #[must_use]
    pub fn shard(&self) -> &ShardId {
        &self.inner.info.shard
    }

    /// Rises with every change of owner: a fencing token for the user's own writes.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.inner.info.epoch
    }

    /// Makes checkpoints.
    #[must_use]
    pub fn checkpointer(&self) -> &Checkpointer {
        &self.inner.checkpointer
    }

    /// Fires when this worker may no longer act for the shard, at the latest when its own deadline has passed, which is before
    /// anyone else may begin. Spawned tasks watch it.
    #[must_use]
    pub fn lost(&self) -> &CancellationToken {
        &self.inner.lost
    }

    /// What the former owner prepared with [`Checkpointer::prepare`] and did not complete.
    #[must_use]
    pub fn prepared(&self) -> Option<&PendingCheckpoint> {
        self.inner.pending.as_ref()
    }

    /// How old the newest fetched record was when it was fetched; zero when the shard was read to its end. `None` before the
    /// first page.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        match self.inner.lag.load(std::sync::atomic::Ordering::Relaxed) {
            LAG_UNKNOWN => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }

    pub(crate) fn set_lag(&self, lag: Duration) {
        let millis = u64::try_from(lag.as_millis()).unwrap_or(LAG_UNKNOWN - 1);
        self.inner.lag.store(millis, std::sync::atomic::Ordering::Relaxed);
    }
}

impl fmt::Debug for ShardContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardContext").field("info", &self.inner.info).field("lag", &self.lag()).finish_non_exhaustive()
    }
}

/// How a lease was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseLost {
    /// The worker could not renew it in time.
    Expired,
    /// Another worker owns it now.
    Taken,
    /// Another worker asked for it, and the next write was refused.
    Evicted,
    /// The lease item is gone.
    Deleted,
    /// The worker ends.
    Shutdown,
}

impl fmt::Display for LeaseLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "it could not be renewed in time",
            Self::Taken => "another worker took it",
            Self::Evicted => "another worker asked for it",
            Self::Deleted => "the lease item was deleted",
            Self::Shutdown => "the worker ends",
        })
    }
}

/// A processor's failure. Made from any error by `?`.
///
/// It does not implement `std::error::Error` itself, because then it could not be made from any error.
#[derive(Debug)]
pub struct ProcessError {
    source: Box<dyn std::error::Error + Send + Sync>,
    at: Option<SequenceNumber>,
    permanent: bool,
}

impl ProcessError {
    /// A failure that has only a text.
    pub fn msg(text: impl Into<String>) -> Self {
        Self::from(text.into())
    }

    /// The records of this batch before `record` are done: redeliver from this one. Where it is one of an earlier batch that is not
    /// acknowledged yet, a new instance starts at the checkpoint.
    #[must_use]
    pub fn at(mut self, record: &Record) -> Self {
        self.at = Some(record.sequence_number());
        self
    }

    /// Trying again is of no use: the failure policy decides at once.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// The record that failed, if it was named.
    #[must_use]
    pub fn failed_at(&self) -> Option<SequenceNumber> {
        self.at
    }

    /// Whether retries are of no use.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// The cause.
    #[must_use]
    pub fn cause(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.source
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for ProcessError {
    fn from(source: E) -> Self {
        Self { source: source.into(), at: None, permanent: false }
    }
}

/// Names the failing record in the middle of a `?`: `apply(record).at(record)?`.
pub trait FailedAt<T> {
    /// See [`ProcessError::at`].
    ///
    /// # Errors
    /// The error it was given, with the record.
    fn at(self, record: &Record) -> Result<T, ProcessError>;
}

impl<T, E: Into<ProcessError>> FailedAt<T> for Result<T, E> {
    fn at(self, record: &Record) -> Result<T, ProcessError> {
        self.map_err(|error| error.into().at(record))
    }
}
