//! How a processor says how far it is.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

use crate::model::SequenceNumber;

/// The longest state that [`Checkpointer::prepare`] takes, in bytes. An item of DynamoDB may have 400 KB, and the lease needs some itself.
pub const MAX_PREPARED_STATE: usize = 380 << 10;

/// Makes checkpoints of one shard. `Clone` and `'static`: spawned tasks may hold one.
///
/// Positions are always named; there is no "checkpoint what I was given", because what was given is not what is done.
#[derive(Clone)]
pub struct Checkpointer {
    port: Arc<dyn CheckpointPort>,
}

/// What stands behind a [`Checkpointer`].
#[async_trait]
pub(crate) trait CheckpointPort: Send + Sync + 'static {
    async fn checkpoint(&self, at: SequenceNumber) -> Result<(), CheckpointFailure>;
    fn ack(&self, at: SequenceNumber) -> Result<(), CheckpointFailure>;
    async fn prepare(&self, at: SequenceNumber, state: Option<Bytes>) -> Result<(), CheckpointFailure>;
}

impl Checkpointer {
    pub(crate) fn new(port: Arc<dyn CheckpointPort>) -> Self {
        Self { port }
    }

    /// Records that everything up to and with `at` is done. Durable when it returns. One that is lower than what is recorded is
    /// `Ok` without a write.
    ///
    /// # Errors
    /// See [`CheckpointFailure`].
    ///
    /// # Cancel safety
    /// A dropped call may or may not have taken effect; it never moves the checkpoint back.
    pub async fn checkpoint(&self, at: SequenceNumber) -> Result<(), CheckpointFailure> {
        self.port.checkpoint(at).await
    }

    /// Acknowledges everything up to and with `at`; written on the configured cadence, and at hand-over, shutdown and shard end.
    ///
    /// # Errors
    /// See [`CheckpointFailure`].
    pub fn ack(&self, at: SequenceNumber) -> Result<(), CheckpointFailure> {
        self.port.ack(at)
    }

    /// The first half of a two-phase checkpoint: stores `at` and `state` without moving the checkpoint. If the owner changes before
    /// `checkpoint(at)`, the successor finds both in [`super::ShardContext::prepared`]. Durable when it returns.
    ///
    /// The state may have [`MAX_PREPARED_STATE`] bytes. Better a few: it lies on the lease, which every worker reads with every look at
    /// the lease table, and each write of the lease is billed by its whole size.
    ///
    /// # Errors
    /// See [`CheckpointFailure`].
    ///
    /// # Cancel safety
    /// A dropped call may or may not have taken effect.
    pub async fn prepare(
        &self,
        at: SequenceNumber,
        state: impl Into<Option<Bytes>> + Send,
    ) -> Result<(), CheckpointFailure> {
        self.port.prepare(at, state.into()).await
    }
}

impl fmt::Debug for Checkpointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpointer").finish_non_exhaustive()
    }
}

/// Why a checkpoint was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointFailure {
    /// This worker no longer owns the shard. Stop working on it.
    #[error("the lease of the shard was lost")]
    LeaseLost,
    /// The position lies beyond what was delivered; nothing was recorded. A bug in the caller.
    #[error("{at} lies beyond the last delivered record{}", delivered.map(|d| format!(", {d}")).unwrap_or_default())]
    BeyondDelivered {
        /// What was asked for.
        at: SequenceNumber,
        /// The last delivered record.
        delivered: Option<SequenceNumber>,
    },
    /// The prepared state does not fit into a lease; nothing was recorded. Keep it elsewhere, and prepare a reference to it.
    #[error(
        "the prepared state has {len} bytes, and a lease has room for {MAX_PREPARED_STATE}: keep it elsewhere and prepare a reference to it"
    )]
    StateTooLarge {
        /// Its length in bytes.
        len: usize,
    },
    /// The lease table did not answer while the lease was valid. The lease is about to be lost.
    #[error("the lease table did not take the checkpoint in time")]
    Unavailable,
}
