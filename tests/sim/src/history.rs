//! What processors saw, in the order of true time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kcl_core::{Checkpoint, SequenceNumber, ShardId};

use crate::invariant::records::{Truth, Verdict, judge};
use crate::invariant::{Seen, Watch};

/// One processor instance on one shard: from its opening until it is discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session(pub u64);

impl Session {
    /// Not a processor: the lease table, a sink, a policy.
    pub const WORLD: Self = Self(0);
}

/// What a processor saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was initialised.
    Opened,
    /// It was given this record.
    Delivered(SequenceNumber),
    /// A call that was given records has returned, whatever it answered.
    Returned,
    /// Everything up to and with this record was acknowledged.
    Acknowledged(SequenceNumber),
    /// The sink has kept this record, which no processor could process: it counts as acknowledged.
    SetAside(SequenceNumber),
    /// An operator took the shard back to this checkpoint: what was delivered after it is to be delivered again.
    Rewound(Checkpoint),
    /// The lease was written by a worker again since.
    Resumed,
    /// The lease table shows this checkpoint.
    Recorded(Checkpoint),
    /// It was told of the end of the shard, and agreed.
    Ended,
    /// It was told that its lease is gone, or to shut down: no call follows.
    Closed,
    /// The loss of records was reported, after the first and before the second; without a second, up to the shard's end.
    Lost(Option<SequenceNumber>, Option<SequenceNumber>),
    /// The loss of records was reported, after the first and up to and with the second.
    LostThrough(Option<SequenceNumber>, Option<SequenceNumber>),
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, since the run began.
    pub at: Duration,
    /// Who.
    pub session: Session,
    /// Of which shard.
    pub shard: ShardId,
    /// What.
    pub event: Event,
}

/// Collects entries. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct History {
    log: Arc<Mutex<Log>>,
    watch: Option<Watch>,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<Entry>,
    sessions: u64,
}

impl History {
    /// A history whose lines `watch` sees as they come.
    #[must_use]
    pub fn watched(watch: &Watch) -> Self {
        Self { log: Arc::default(), watch: Some(watch.clone()) }
    }

    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for the next processor instance.
    #[must_use]
    pub fn session(&self) -> Session {
        let mut log = self.lock();
        log.sessions += 1;
        Session(log.sessions)
    }

    /// Adds a line.
    pub fn record(&self, at: Duration, session: Session, shard: &ShardId, event: Event) {
        let entry = Entry { at, session, shard: shard.clone(), event };
        if let Some(watch) = &self.watch {
            watch.see(&Seen::Line(&entry));
        }
        self.lock().entries.push(entry);
    }

    /// All lines so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    /// Compares what was collected with what was written.
    #[must_use]
    pub fn judge(&self, truth: &Truth) -> Verdict {
        judge(truth, &self.lock().entries)
    }
}
