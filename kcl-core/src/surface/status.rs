//! What a worker is doing, for health checks and people.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::model::{LeaseKey, SequenceNumber, ShardId, StreamArn, WorkerId};
use crate::surface::lock;

/// A snapshot of a worker.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Its id in this run; absent before it has joined its fleet.
    pub worker: Option<WorkerId>,
    /// Workers of the fleet that were seen to live, this one included.
    pub live_workers: usize,
    /// Unfinished leases that the last look at the table showed, of any owner.
    pub leases_seen: usize,
    /// The shards this worker owns.
    pub shards: Vec<ShardStatus>,
}

/// One shard that a worker owns.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShardStatus {
    /// Its stream.
    pub stream: StreamArn,
    /// The shard.
    pub shard: ShardId,
    /// What is done with it.
    pub state: ShardState,
    /// See [`crate::ShardContext::lag`].
    pub lag: Option<Duration>,
    /// The last record that its processor has taken.
    pub processed: Option<SequenceNumber>,
    /// Records processed since this worker owns it.
    pub records: u64,
    /// The last error, as text.
    pub last_error: Option<String>,
}

/// What is done with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShardState {
    /// A processor is being made and initialised.
    Starting,
    /// Records are read and processed.
    Reading,
    /// All is processed; its children are not listed yet.
    WaitingForChildren,
    /// It is being finished or given away.
    Ending,
}

/// Where the runners write down what they do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board {
    status: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    worker: Option<WorkerId>,
    live_workers: usize,
    leases_seen: usize,
    shards: BTreeMap<LeaseKey, ShardStatus>,
}

impl Board {
    pub(crate) fn joined(&self, worker: WorkerId) {
        lock(&self.status).worker = Some(worker);
    }

    pub(crate) fn seen(&self, live_workers: usize, leases: usize) {
        let mut status = lock(&self.status);
        status.live_workers = live_workers;
        status.leases_seen = leases;
    }

    pub(crate) fn begin(&self, key: &LeaseKey, stream: &StreamArn, shard: &ShardId) {
        let status = ShardStatus {
            stream: stream.clone(),
            shard: shard.clone(),
            state: ShardState::Starting,
            lag: None,
            processed: None,
            records: 0,
            last_error: None,
        };
        lock(&self.status).shards.insert(key.clone(), status);
    }

    pub(crate) fn end(&self, key: &LeaseKey) {
        lock(&self.status).shards.remove(key);
    }

    pub(crate) fn state(&self, key: &LeaseKey, state: ShardState) {
        self.with(key, |status| status.state = state);
    }

    pub(crate) fn lag(&self, key: &LeaseKey, lag: Duration) {
        self.with(key, |status| status.lag = Some(lag));
    }

    pub(crate) fn processed(&self, key: &LeaseKey, at: SequenceNumber, records: usize) {
        self.with(key, |status| {
            status.processed = Some(at);
            status.records += records as u64;
        });
    }

    pub(crate) fn error(&self, key: &LeaseKey, error: &str) {
        self.with(key, |status| status.last_error = Some(error.to_owned()));
    }

    fn with(&self, key: &LeaseKey, change: impl FnOnce(&mut ShardStatus)) {
        if let Some(status) = lock(&self.status).shards.get_mut(key) {
            change(status);
        }
    }

    pub(crate) fn snapshot(&self) -> WorkerStatus {
        let inner = lock(&self.status);
        WorkerStatus {
            worker: inner.worker.clone(),
            live_workers: inner.live_workers,
            leases_seen: inner.leases_seen,
            shards: inner.shards.values().cloned().collect(),
        }
    }
}
