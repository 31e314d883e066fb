//! Where the runners write down what they do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::{BlockedShard, LastError, Phase, ReaderSlotStatus, ShardState, ShardStatus, StoppedShard, WorkerStatus};
use crate::contract::{Mono, Reader, Rt, ShardInfo};
use crate::model::{LeaseKey, SequenceNumber, StreamArn, WorkerId};
use crate::policy::attention::{Blocked, Stopped};
use crate::surface::lock;

/// What a worker does, for [`WorkerStatus`]. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    rt: Rt,
    lease_duration: Duration,
    status: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    worker: Option<WorkerId>,
    phase: Phase,
    turned: Mono,
    table_seen: Option<Mono>,
    /// The last look at the whole table failed.
    look_failed: bool,
    live_workers: usize,
    leases_seen: usize,
    shards: BTreeMap<LeaseKey, Line>,
    blocked: Vec<Blocked>,
    stopped: Vec<Stopped>,
    slots: BTreeMap<StreamArn, Slot>,
    last_error: Option<Noted>,
}

impl Inner {
    /// What an incarnation owned and saw.
    fn part(&mut self) {
        self.shards.clear();
        self.blocked.clear();
        self.stopped.clear();
        (self.live_workers, self.leases_seen) = (0, 0);
    }
}

/// A reader slot.
#[derive(Debug)]
struct Slot {
    held: bool,
    since: Mono,
    holders: Vec<String>,
    error: Option<String>,
}

/// One shard that is owned.
#[derive(Debug)]
struct Line {
    info: ShardInfo,
    since: Mono,
    state: ShardState,
    state_since: Mono,
    /// Since when reading waits for a reader slot.
    no_slot_since: Option<Mono>,
    lag: Option<Duration>,
    processed: Option<(SequenceNumber, Mono)>,
    records: u64,
    last_error: Option<Noted>,
}

/// An error, and when it was.
#[derive(Debug)]
struct Noted {
    error: String,
    wall: SystemTime,
    mono: Mono,
}

impl Board {
    pub(crate) fn new(rt: Rt, lease_duration: Duration) -> Self {
        let inner = Inner {
            worker: None,
            phase: Phase::Built,
            turned: rt.now(),
            table_seen: None,
            look_failed: false,
            live_workers: 0,
            leases_seen: 0,
            shards: BTreeMap::new(),
            blocked: Vec::new(),
            stopped: Vec::new(),
            slots: BTreeMap::new(),
            last_error: None,
        };
        Self { rt, lease_duration, status: Arc::new(Mutex::new(inner)) }
    }

    pub(crate) fn phase(&self, phase: Phase) {
        let now = self.rt.now();
        let mut status = lock(&self.status);
        status.phase = phase;
        status.turned = now;
    }

    /// The engine's loop has turned.
    pub(crate) fn turned(&self) {
        let now = self.rt.now();
        lock(&self.status).turned = now;
    }

    pub(crate) fn joined(&self, worker: WorkerId) {
        lock(&self.status).worker = Some(worker);
        self.phase(Phase::Running);
    }

    /// The incarnation has given everything away, or up: what it could not give away is not the worker's any more.
    pub(crate) fn parted(&self) {
        let mut status = lock(&self.status);
        status.part();
    }

    /// `run` has returned, or was dropped: nothing is anybody's any more.
    pub(crate) fn ended(&self) {
        self.phase(Phase::Ended);
        let mut status = lock(&self.status);
        status.part();
        status.slots.clear();
    }

    /// The whole table was read.
    pub(crate) fn looked(&self) {
        let now = self.rt.now();
        let mut status = lock(&self.status);
        (status.table_seen, status.look_failed) = (Some(now), false);
    }

    /// The whole table could not be read.
    pub(crate) fn look_failed(&self, error: &str) {
        self.failed(error);
        lock(&self.status).look_failed = true;
    }

    /// The table has answered whether there is anything new in it: who has seen it sees it still, unless it tried in vain since.
    pub(crate) fn heard(&self) {
        let now = self.rt.now();
        let mut status = lock(&self.status);
        if !status.look_failed && status.table_seen.is_some() {
            status.table_seen = Some(now);
        }
    }

    pub(crate) fn seen(&self, live_workers: usize, leases: usize, blocked: Vec<Blocked>, stopped: Vec<Stopped>) {
        let mut status = lock(&self.status);
        status.live_workers = live_workers;
        status.leases_seen = leases;
        status.blocked = blocked;
        status.stopped = stopped;
    }

    /// An error that concerns no shard in particular.
    pub(crate) fn failed(&self, error: &str) {
        let noted = self.note(error);
        lock(&self.status).last_error = Some(noted);
    }

    pub(crate) fn begin(&self, key: &LeaseKey, info: &ShardInfo) {
        let now = self.rt.now();
        let line = Line {
            info: info.clone(),
            since: now,
            state: ShardState::Starting,
            state_since: now,
            no_slot_since: None,
            lag: None,
            processed: None,
            records: 0,
            last_error: None,
        };
        lock(&self.status).shards.insert(key.clone(), line);
    }

    pub(crate) fn end(&self, key: &LeaseKey) {
        lock(&self.status).shards.remove(key);
    }

    pub(crate) fn state(&self, key: &LeaseKey, state: ShardState) {
        let now = self.rt.now();
        self.with(key, |line| {
            if line.state != state {
                (line.state, line.state_since) = (state, now);
            }
        });
    }

    /// Reading waits for a reader slot, or goes on.
    pub(crate) fn waits_for_slot(&self, key: &LeaseKey, waits: bool) {
        let now = self.rt.now();
        self.with(key, |line| match waits {
            true => line.no_slot_since = Some(now),
            // It reads again from now on.
            false if line.no_slot_since.take().is_some() => line.state_since = now,
            false => {}
        });
    }

    /// Whether the application's slot of a stream is held; where it is not, who holds the slots and why the registry did not tell.
    pub(crate) fn slot(&self, stream: &StreamArn, held: bool, holders: &[Reader], error: Option<&str>) {
        let now = self.rt.now();
        let mut status = lock(&self.status);
        if status.phase == Phase::Ended {
            return;
        }
        let since = status.slots.get(stream).filter(|slot| slot.held == held).map_or(now, |slot| slot.since);
        let holders = holders.iter().map(Reader::to_string).collect();
        status.slots.insert(stream.clone(), Slot { held, since, holders, error: error.map(str::to_owned) });
    }

    /// The stream was left.
    pub(crate) fn slot_left(&self, stream: &StreamArn) {
        lock(&self.status).slots.remove(stream);
    }

    pub(crate) fn lag(&self, key: &LeaseKey, lag: Duration) {
        self.with(key, |line| line.lag = Some(lag));
    }

    pub(crate) fn processed(&self, key: &LeaseKey, at: SequenceNumber, records: usize) {
        let now = self.rt.now();
        self.with(key, |line| {
            line.processed = Some((at, now));
            line.records += records as u64;
        });
    }

    pub(crate) fn error(&self, key: &LeaseKey, error: &str) {
        let noted = self.note(error);
        self.with(key, |line| line.last_error = Some(noted));
    }

    fn note(&self, error: &str) -> Noted {
        Noted { error: error.to_owned(), wall: self.rt.wall(), mono: self.rt.now() }
    }

    fn with(&self, key: &LeaseKey, change: impl FnOnce(&mut Line)) {
        if let Some(line) = lock(&self.status).shards.get_mut(key) {
            change(line);
        }
    }

    pub(crate) fn snapshot(&self) -> WorkerStatus {
        let (now, at) = (self.rt.now(), self.rt.wall());
        let inner = lock(&self.status);
        WorkerStatus {
            at,
            worker: inner.worker.clone(),
            phase: inner.phase,
            lease_duration: self.lease_duration,
            turned_ago: now.since(inner.turned),
            table_seen_ago: inner.table_seen.map(|seen| now.since(seen)),
            live_workers: inner.live_workers,
            leases_seen: inner.leases_seen,
            shards: inner.shards.iter().map(|(key, line)| line.status(key, now)).collect(),
            blocked: inner.blocked.iter().map(|blocked| blocked_shard(blocked, now)).collect(),
            stopped: inner.stopped.iter().map(|stopped| stopped_shard(stopped, now)).collect(),
            reader_slots: inner.slots.iter().map(|(stream, slot)| slot.status(stream, now)).collect(),
            last_error: inner.last_error.as_ref().map(|noted| noted.status(now)),
        }
    }
}

impl Line {
    fn status(&self, key: &LeaseKey, now: Mono) -> ShardStatus {
        let (state, since) = match (self.state, self.no_slot_since) {
            (ShardState::Reading, Some(since)) => (ShardState::WaitingForReaderSlot, since),
            (state, _) => (state, self.state_since),
        };
        ShardStatus {
            shard: self.info.shard.clone(),
            stream: self.info.stream.clone(),
            lease: key.clone(),
            epoch: self.info.epoch,
            state,
            state_age: now.since(since),
            owned_for: now.since(self.since),
            lag: self.lag,
            processed: self.processed.map(|(at, _)| at),
            processed_ago: self.processed.map(|(_, then)| now.since(then)),
            records: self.records,
            last_error: self.last_error.as_ref().map(|noted| noted.status(now)),
        }
    }
}

impl Slot {
    fn status(&self, stream: &StreamArn, now: Mono) -> ReaderSlotStatus {
        ReaderSlotStatus {
            stream: stream.clone(),
            held: self.held,
            age: now.since(self.since),
            holders: self.holders.clone(),
            error: self.error.clone(),
        }
    }
}

impl Noted {
    fn status(&self, now: Mono) -> LastError {
        LastError { error: self.error.clone(), at: self.wall, ago: now.since(self.mono) }
    }
}

fn blocked_shard(blocked: &Blocked, now: Mono) -> BlockedShard {
    BlockedShard {
        shard: blocked.shard.clone(),
        lease: blocked.lease.clone(),
        parents: blocked.parents.clone(),
        age: now.since(blocked.since),
    }
}

fn stopped_shard(stopped: &Stopped, now: Mono) -> StoppedShard {
    StoppedShard {
        shard: stopped.shard.clone(),
        lease: stopped.lease.clone(),
        reason: stopped.reason.clone(),
        checkpoint: stopped.checkpoint,
        age: now.since(stopped.since),
    }
}
