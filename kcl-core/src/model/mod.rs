//! The nouns: what a stream, a shard, a record and a lease are. Nothing here waits, and nothing here knows AWS.

mod arn;
mod id;
mod lease;
mod position;
mod sequence;
mod shard;

pub use arn::{ArnError, StreamArn, TableName};
pub use id::{IdError, KeyForm, LeaseCounter, LeaseKey, Owner, ShardId, WorkerId};
pub use lease::{Change, GuardedWrite, Lease, LeaseGuard, LeaseWrite, NewLease, PendingCheckpoint, StopReason, Tip};
pub use position::{Checkpoint, CheckpointError, IteratorPosition, StartPosition};
pub use sequence::{SequenceNumber, SequenceNumberError};
pub use shard::{Shard, StreamDescription, StreamStatus, StreamSummary, StreamViewType};
