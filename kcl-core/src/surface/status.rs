//! What a worker is doing, for health checks and people.
//!
//! A snapshot is plain data and serialises with serde; the names of the fields are stable. Durations are whole milliseconds and end
//! in `_ms`, instants are milliseconds since the epoch and end in `_at_ms`. Ages are as of the snapshot.

mod board;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

pub(crate) use board::Board;

use crate::model::{Checkpoint, LeaseKey, SequenceNumber, ShardId, StopReason, StreamArn, WorkerId};

/// A snapshot of a worker.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// When it was made, by the wall clock.
    #[serde(rename = "at_ms", serialize_with = "instant")]
    pub at: SystemTime,
    /// Its id in this run; absent before it has joined its fleet.
    pub worker: Option<WorkerId>,
    /// What the worker as a whole does.
    pub phase: Phase,
    /// D, the configured lease duration: what ages are measured by.
    #[serde(rename = "lease_duration_ms", serialize_with = "millis")]
    pub lease_duration: Duration,
    /// How long ago the engine's loop last turned. It turns many times in a lease duration.
    #[serde(rename = "turned_ago_ms", serialize_with = "millis")]
    pub turned_ago: Duration,
    /// How long ago the lease table was last read as a whole or, in a large fleet, where that is done rarely, last asked whether there is
    /// anything new in it; absent before it was first read.
    #[serde(rename = "table_seen_ago_ms", serialize_with = "some_millis")]
    pub table_seen_ago: Option<Duration>,
    /// Workers of the fleet that were seen to live, this one included; 0 while this one is not a member.
    pub live_workers: usize,
    /// Leases of any owner or none that the last look at the table showed to be for somebody to own: not finished, not stopped, and not
    /// waiting for a parent; 0 while this worker is not a member.
    pub leases_seen: usize,
    /// The shards this worker owns.
    pub shards: Vec<ShardStatus>,
    /// Leases of any owner or none, as the last look at the table showed them, that wait for a parent to be finished.
    pub blocked: Vec<BlockedShard>,
    /// Leases that wait for an operator, as the last look at the table showed them. Nobody owns them.
    pub stopped: Vec<StoppedShard>,
    /// The reader slots of the streams that are read; empty where the application keeps to none.
    pub reader_slots: Vec<ReaderSlotStatus>,
    /// The last error that concerned no shard of this worker in particular: the lease table, or the stream as a whole.
    pub last_error: Option<LastError>,
}

/// What a worker as a whole does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// It was built, and `run` was not called.
    Built,
    /// It is becoming a member of its fleet, also after the fleet had given it up.
    Joining,
    /// It takes, reads and gives.
    Running,
    /// It gives its shards away, to end or to join anew.
    Stopping,
    /// `run` has returned, or was dropped.
    Ended,
}

/// One shard that a worker owns.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ShardStatus {
    /// Its stream.
    pub stream: StreamArn,
    /// The shard.
    pub shard: ShardId,
    /// Its lease.
    pub lease: LeaseKey,
    /// See [`crate::ShardInfo::epoch`].
    pub epoch: u64,
    /// What is done with it.
    pub state: ShardState,
    /// For how long it has been in this state.
    #[serde(rename = "state_age_ms", serialize_with = "millis")]
    pub state_age: Duration,
    /// For how long this worker has owned it.
    #[serde(rename = "owned_for_ms", serialize_with = "millis")]
    pub owned_for: Duration,
    /// See [`crate::ShardContext::lag`].
    #[serde(rename = "lag_ms", serialize_with = "some_millis")]
    pub lag: Option<Duration>,
    /// The last record that its processor has taken.
    pub processed: Option<SequenceNumber>,
    /// How long ago its processor last took records.
    #[serde(rename = "processed_ago_ms", serialize_with = "some_millis")]
    pub processed_ago: Option<Duration>,
    /// Records processed since this worker owns it.
    pub records: u64,
    /// The last error of its reading or its processor.
    pub last_error: Option<LastError>,
}

/// What is done with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ShardState {
    /// A processor is being made and initialised.
    Starting,
    /// Records are read and processed.
    Reading,
    /// Nothing is read, because the application holds no reader slot of the stream. What was read before is processed.
    WaitingForReaderSlot,
    /// All is processed; its children are not listed yet.
    WaitingForChildren,
    /// It is being finished or given away.
    Ending,
}

/// The application's reader slot of a stream, as this worker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReaderSlotStatus {
    /// The stream.
    pub stream: StreamArn,
    /// Whether the slot is held. With [`crate::ReaderPolicy::Enforce`] nothing of the stream is read while it is not.
    pub held: bool,
    /// For how long it has been held, or has not been.
    #[serde(rename = "age_ms", serialize_with = "millis")]
    pub age: Duration,
    /// The applications that hold the slots while this one does not, as far as is known: name and lease table.
    pub holders: Vec<String>,
    /// Why the registry could not be asked, where it could not.
    pub error: Option<String>,
}

/// A lease that waits for a parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BlockedShard {
    /// The shard.
    pub shard: ShardId,
    /// Its lease.
    pub lease: LeaseKey,
    /// The parents that are not finished.
    pub parents: Vec<ShardId>,
    /// For how long this worker has seen it wait.
    #[serde(rename = "age_ms", serialize_with = "millis")]
    pub age: Duration,
}

/// A lease that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StoppedShard {
    /// The shard.
    pub shard: ShardId,
    /// Its lease.
    pub lease: LeaseKey,
    /// Why.
    pub reason: StopReason,
    /// How far it is done.
    pub checkpoint: Checkpoint,
    /// For how long this worker has seen it stopped.
    #[serde(rename = "age_ms", serialize_with = "millis")]
    pub age: Duration,
}

/// An error, and when it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LastError {
    /// What, as text.
    pub error: String,
    /// When, by the wall clock.
    #[serde(rename = "at_ms", serialize_with = "instant")]
    pub at: SystemTime,
    /// How long ago.
    #[serde(rename = "ago_ms", serialize_with = "millis")]
    pub ago: Duration,
}

fn in_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(in_millis(*time))
}

#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
fn some_millis<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(in_millis).serialize(serializer)
}

fn instant<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    millis(&at.duration_since(UNIX_EPOCH).unwrap_or_default(), serializer)
}

#[cfg(test)]
mod tests;
