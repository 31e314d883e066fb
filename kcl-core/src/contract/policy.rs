//! Decisions that are the user's: what to do with records that fail, and with records that are gone.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::processor::{ProcessError, ShardInfo};
use crate::model::SequenceNumber;
use crate::record::RecordBatch;

/// What happens when a processor fails.
///
/// The failed records are delivered again, with backoff, until `attempts` deliveries in a row made no progress. Then `then` decides.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailurePolicy {
    /// Deliveries without progress before `then` decides. At least 1.
    pub attempts: u32,
    /// The pause before the second delivery; it doubles with each further one.
    pub backoff: Duration,
    /// The longest pause.
    pub max_backoff: Duration,
    /// What happens after the last attempt.
    pub then: FailureAction,
}

/// What happens to records that cannot be processed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FailureAction {
    /// Nobody reads the shard or its descendants until an operator clears the stop; nothing is lost within the stream's 24 hours.
    StopShard,
    /// The records go to the sink, count as acknowledged once it has taken them, and the shard goes on: the one that the error names, or
    /// all that the failed call was given where it names none. Where a call fails that is given no records, the shard stops.
    SetAside(Arc<dyn FailureSink>),
}

impl Default for FailurePolicy {
    /// Ten attempts, 100 ms to 26 s apart (less than a minute in all), then the shard stops.
    fn default() -> Self {
        Self {
            attempts: 10,
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(30),
            then: FailureAction::StopShard,
        }
    }
}

impl FailurePolicy {
    /// Stops the shard after `attempts`.
    #[must_use]
    pub fn stop_after(attempts: u32) -> Self {
        Self { attempts, ..Self::default() }
    }

    /// Hands the records to `sink` after `attempts`.
    #[must_use]
    pub fn set_aside_after(attempts: u32, sink: Arc<dyn FailureSink>) -> Self {
        Self { attempts, then: FailureAction::SetAside(sink), ..Self::default() }
    }

    /// Pauses from `first`, doubling, to `longest`.
    #[must_use]
    pub fn with_backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = first;
        self.max_backoff = longest;
        self
    }
}

/// Takes the records that a processor could not process, so that the shard can go on.
///
/// # Contract
/// 1. `Ok` means that the records are safe: they count as acknowledged from then on.
/// 2. The same records may come again, after a crash between `Ok` and the checkpoint.
#[async_trait]
pub trait FailureSink: fmt::Debug + Send + Sync + 'static {
    /// Keeps `records`, which failed with `error`.
    ///
    /// # Errors
    /// Tried again with the policy's backoff and attempts; then the shard stops.
    ///
    /// # Cancel safety
    /// Dropped when the lease is lost while it runs.
    async fn set_aside(
        &self,
        shard: &ShardInfo,
        records: &RecordBatch,
        error: &ProcessError,
    ) -> Result<(), ProcessError>;
}

/// Records that were gone before they could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataLoss {
    /// The shard they were in.
    pub shard: ShardInfo,
    /// The last record that is known to be done; absent when nothing of the shard was.
    pub after: Option<SequenceNumber>,
    /// Up to where.
    pub until: LostUntil,
    /// How it came about.
    pub cause: LossCause,
}

/// Where a lost range ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostUntil {
    /// Before this record, which is the oldest that is left.
    Before(SequenceNumber),
    /// The end of the shard.
    ShardEnd,
    /// Nothing is left to read in the shard, which is still open.
    Now,
}

/// How records came to be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossCause {
    /// They were older than the stream keeps.
    Trimmed,
    /// The whole shard left the stream before it was finished.
    ShardVanished,
}

impl fmt::Display for DataLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.shard.shard)?;
        match self.after {
            Some(after) => write!(f, "after {after}")?,
            None => f.write_str("from the shard's start")?,
        }
        match self.until {
            LostUntil::Before(at) => write!(f, " until before {at}")?,
            LostUntil::ShardEnd => f.write_str(" until the shard's end")?,
            LostUntil::Now => f.write_str(" until now")?,
        }
        f.write_str(match self.cause {
            LossCause::Trimmed => " (trimmed)",
            LossCause::ShardVanished => " (the shard vanished)",
        })
    }
}

/// What to do about a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossDecision {
    /// Nobody reads the shard or its descendants until an operator clears the stop.
    StopShard,
    /// Go on with what is left.
    Continue,
}

/// Decides about lost records. Awaited before anything that follows them is delivered.
#[async_trait]
pub trait LossPolicy: fmt::Debug + Send + Sync + 'static {
    /// Told the exact range; may write it down before it answers. The same loss may be reported again after a crash.
    ///
    /// # Cancel safety
    /// Dropped when the lease is lost while it runs.
    async fn on_loss(&self, loss: &DataLoss) -> LossDecision;
}

#[async_trait]
impl LossPolicy for LossDecision {
    /// The same decision for every loss.
    async fn on_loss(&self, _loss: &DataLoss) -> Self {
        *self
    }
}
