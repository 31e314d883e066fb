//! What a worker tells: a stream of events that may drop, and counts what it dropped.

use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;

use crate::contract::{DataLoss, LeaseLost, LossDecision, Reader, Rt, StartReason};
use crate::model::{SequenceNumber, ShardId, StopReason, StreamArn, WorkerId};

/// Something that happened in a worker.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// When, by the wall clock.
    pub at: SystemTime,
    /// The stream it is about; absent where it concerns the whole worker.
    pub stream: Option<StreamArn>,
    /// What.
    pub kind: EventKind,
}

/// What happened. `docs/operations.md` says what each means and what to do about it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EventKind {
    /// The worker is a member of its fleet.
    Joined {
        /// Its id in this run.
        worker: WorkerId,
    },
    /// The fleet had given this worker up; it has let go of everything and comes back under a new id.
    Rejoining {
        /// The id that was given up.
        worker: WorkerId,
    },
    /// The worker owns the shard from now on.
    LeaseAcquired {
        /// The shard.
        shard: ShardId,
        /// Why.
        reason: StartReason,
    },
    /// The worker gave the shard away.
    LeaseReleased {
        /// The shard.
        shard: ShardId,
    },
    /// The worker may no longer act for the shard.
    LeaseLost {
        /// The shard.
        shard: ShardId,
        /// How.
        why: LeaseLost,
    },
    /// A lease was written later than planned: the machine or the runtime is short of time.
    LateRenewal {
        /// The shard.
        shard: ShardId,
        /// By how much.
        late: Duration,
    },
    /// The worker's sign of life was sent later than planned: the machine or the runtime is short of time.
    LateHeartbeat {
        /// By how much.
        late: Duration,
    },
    /// The worker's sign of life is tried again.
    HeartbeatRetried {
        /// The error, as text.
        error: String,
    },
    /// A write of a lease is tried again.
    LeaseWriteRetried {
        /// The shard.
        shard: ShardId,
        /// The error, as text.
        error: String,
    },
    /// The lease table could not be read; what is owned is kept as long as its own writes succeed.
    LeaseTableUnavailable {
        /// The error, as text.
        error: String,
    },
    /// The shard is finished and its children may begin.
    ShardFinished {
        /// The shard.
        shard: ShardId,
        /// Its children.
        children: Vec<ShardId>,
    },
    /// Nobody reads the shard until an operator clears the stop.
    ShardStopped {
        /// The shard.
        shard: ShardId,
        /// Why.
        reason: StopReason,
    },
    /// The processor failed; the records are delivered again.
    ProcessorFailed {
        /// The shard.
        shard: ShardId,
        /// Deliveries without progress so far.
        attempt: u32,
        /// The error, as text.
        error: String,
    },
    /// The failure sink took records that could not be processed.
    RecordsSetAside {
        /// The shard.
        shard: ShardId,
        /// The first of them.
        first: SequenceNumber,
        /// The last of them.
        last: SequenceNumber,
        /// How many.
        count: usize,
    },
    /// Records were gone before they could be read, and the loss policy has decided.
    DataLost {
        /// What was lost.
        loss: Box<DataLoss>,
        /// What was decided.
        decision: LossDecision,
    },
    /// The stream throttles: more than two readers, or too many calls.
    Throttled {
        /// The shard that was read; absent for calls about the whole stream.
        shard: Option<ShardId>,
        /// The service's name of the call.
        operation: &'static str,
    },
    /// A call to the stream failed and is tried again.
    SourceRetried {
        /// The shard that was read; absent for calls about the whole stream.
        shard: Option<ShardId>,
        /// The error, as text.
        error: String,
    },
    /// A permission is missing. The call is made again: granting the permission is enough.
    AccessDenied {
        /// What it was made to.
        resource: Resource,
        /// The shard that it was about; absent where it was about more than one.
        shard: Option<ShardId>,
        /// The call, in the words of the contract: `scan`, `write_worker` and so on, and of a stream the operation of the service.
        call: &'static str,
        /// The IAM action that is missing, without the prefix `dynamodb:`.
        action: &'static str,
    },
    /// The shard could not be opened at its starting sequence number and is read from its oldest record.
    OpenedAtTrimHorizon {
        /// The shard.
        shard: ShardId,
    },
    /// A fetched page has waited long for a place in the byte budget: processors do not return, or `memory` is too small.
    WaitingForMemory {
        /// The shard.
        shard: ShardId,
    },
    /// The service says that the whole stream does not exist. Nothing is deleted; it is asked again.
    StreamMissing {
        /// The stream.
        stream: StreamArn,
    },
    /// The service has said for long that the whole stream does not exist: it counts as gone. What was not read of it is
    /// reported as lost, shard by shard, and it is not asked for any more.
    StreamGone {
        /// The stream.
        stream: StreamArn,
    },
    /// The old stream of a table is read to its end, and the next one of the table is read from its beginning. What was changed while
    /// no stream was enabled is in neither.
    StreamReplaced {
        /// The stream that was switched off.
        old: StreamArn,
        /// The one that follows it.
        new: StreamArn,
    },
    /// The application holds a reader slot of the stream.
    ReaderSlotHeld {
        /// The stream.
        stream: StreamArn,
    },
    /// The application holds no reader slot of the stream. With `ReaderPolicy::Enforce` nothing of it is read until it does.
    ReaderSlotLost {
        /// The stream.
        stream: StreamArn,
        /// Who holds the slots, as far as is known.
        holders: Vec<Reader>,
        /// Why the registry could not be asked, where it could not.
        error: Option<String>,
    },
    /// The stream throttles reads that are too few to explain it: others read it who are not in the registry.
    ForeignReaders {
        /// The stream.
        stream: StreamArn,
        /// Unexplained refusals in the last minute.
        throttles: usize,
    },
    /// An item of the lease table is not ours, or is damaged. It is left alone.
    ForeignItem {
        /// Its key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The shard has ended, but none of its children is listed yet.
    WaitingForChildren {
        /// The shard.
        shard: ShardId,
    },
}

/// What a worker needs permissions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// The stream that is read.
    Stream,
    /// The lease table.
    LeaseTable,
    /// The reader registry's table.
    ReaderRegistry,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "stream",
            Self::LeaseTable => "lease table",
            Self::ReaderRegistry => "reader registry",
        })
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined { worker } => write!(f, "joined as {worker}"),
            Self::Rejoining { worker } => write!(f, "{worker} was given up by the fleet; rejoining"),
            Self::LeaseAcquired { shard, reason } => write!(f, "acquired {shard} ({reason:?})"),
            Self::LeaseReleased { shard } => write!(f, "released {shard}"),
            Self::LeaseLost { shard, why } => write!(f, "lost {shard}: {why}"),
            Self::LateRenewal { shard, late } => write!(f, "the lease of {shard} was written {late:?} late"),
            Self::LateHeartbeat { late } => write!(f, "the sign of life was sent {late:?} late"),
            Self::HeartbeatRetried { error } => write!(f, "the sign of life is sent again: {error}"),
            Self::LeaseWriteRetried { shard, error } => write!(f, "the lease of {shard} is written again: {error}"),
            Self::LeaseTableUnavailable { error } => write!(f, "the lease table cannot be read: {error}"),
            Self::ShardFinished { shard, children } => write!(f, "finished {shard}, children {children:?}"),
            Self::ShardStopped { shard, reason } => write!(f, "stopped {shard}: {reason}"),
            Self::ProcessorFailed { shard, attempt, error } => {
                write!(f, "the processor of {shard} failed, attempt {attempt}: {error}")
            }
            Self::RecordsSetAside { shard, first, last, count } => {
                write!(f, "set aside {count} records of {shard}, {first} to {last}")
            }
            Self::DataLost { loss, decision } => write!(f, "lost data, {loss}; decided {decision:?}"),
            Self::Throttled { shard, operation } => match shard {
                Some(shard) => write!(f, "{operation} of {shard} is throttled"),
                None => write!(f, "{operation} is throttled"),
            },
            Self::SourceRetried { shard, error } => match shard {
                Some(shard) => write!(f, "reading {shard} is tried again: {error}"),
                None => write!(f, "the stream is asked again: {error}"),
            },
            Self::AccessDenied { resource, shard, call, action } => {
                write!(f, "{call} is denied")?;
                shard.iter().try_for_each(|shard| write!(f, " for {shard}"))?;
                write!(f, ": grant dynamodb:{action} on the {resource}")
            }
            Self::OpenedAtTrimHorizon { shard } => write!(f, "{shard} is read from its oldest record"),
            Self::WaitingForMemory { shard } => write!(f, "a page of {shard} waits for room in the byte budget"),
            Self::StreamMissing { stream } => write!(f, "the service knows no stream {stream}"),
            Self::StreamGone { stream } => write!(f, "stream {stream} is gone"),
            Self::StreamReplaced { old, new } => {
                write!(f, "stream {old} is read to its end; {new} follows it, without the changes in between")
            }
            Self::ReaderSlotHeld { stream } => write!(f, "a reader slot of {stream} is held"),
            Self::ReaderSlotLost { stream, holders, error } => {
                write!(f, "no reader slot of {stream} is held")?;
                for holder in holders {
                    write!(f, "; {holder} holds one")?;
                }
                error.iter().try_for_each(|error| write!(f, "; the registry cannot be asked: {error}"))
            }
            Self::ForeignReaders { stream, throttles } => {
                write!(f, "others read {stream}: {throttles} reads in a minute were throttled without our doing")
            }
            Self::ForeignItem { key, why } => write!(f, "the item {key:?} of the lease table is left alone: {why}"),
            Self::WaitingForChildren { shard } => write!(f, "{shard} has ended, its children are not listed yet"),
        }
    }
}

/// Events that a slow listener may fall behind before it loses some.
const BACKLOG: usize = 1024;

/// Where a worker tells its events.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    rt: Rt,
    sender: broadcast::Sender<Event>,
    /// The stream that all of them are about.
    stream: Option<StreamArn>,
}

impl Events {
    pub(crate) fn new(rt: Rt) -> Self {
        Self { rt, sender: broadcast::Sender::new(BACKLOG), stream: None }
    }

    /// For events about one stream.
    pub(crate) fn of(&self, stream: &StreamArn) -> Self {
        Self { stream: Some(stream.clone()), ..self.clone() }
    }

    pub(crate) fn tell(&self, kind: EventKind) {
        match &kind {
            EventKind::DataLost { .. } | EventKind::ShardStopped { .. } => tracing::error!("{kind}"),
            EventKind::Joined { .. }
            | EventKind::ReaderSlotHeld { .. }
            | EventKind::LeaseAcquired { .. }
            | EventKind::LeaseReleased { .. }
            | EventKind::WaitingForChildren { .. }
            | EventKind::ShardFinished { .. } => tracing::info!("{kind}"),
            _ => tracing::warn!("{kind}"),
        }
        crate::surface::metrics::event(&kind);
        // Nobody may be listening.
        let _listeners = self.sender.send(Event { at: self.rt.wall(), stream: self.stream.clone(), kind });
    }

    pub(crate) fn source(&self) -> EventSource {
        EventSource { sender: self.sender.downgrade() }
    }
}

/// Where a worker's events can be listened to. It does not keep the worker's events alive.
#[derive(Debug, Clone)]
pub(crate) struct EventSource {
    sender: broadcast::WeakSender<Event>,
}

impl EventSource {
    pub(crate) fn listen(&self) -> EventStream {
        let receiver = self.sender.upgrade().map(|sender| sender.subscribe());
        // Of a worker that is gone there are no more events.
        EventStream { receiver: receiver.unwrap_or_else(|| broadcast::channel(1).1), dropped: 0 }
    }
}

/// The events of a worker, from the moment this was made.
#[derive(Debug)]
pub struct EventStream {
    receiver: broadcast::Receiver<Event>,
    dropped: u64,
}

impl EventStream {
    /// The next event; `None` when the worker is gone.
    ///
    /// # Cancel safety
    /// No event is lost by dropping the future.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => self.dropped += missed,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// How many events were dropped because this listener was slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}
