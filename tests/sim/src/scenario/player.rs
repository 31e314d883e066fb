//! Processors of a scenario: they record what they see, have moods, and know the steps of the protocol.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kcl_core::{
    Checkpoints, LeaseLost, ProcessError, Record, RecordBatch, RecordProcessor, RecordProcessorFactory, Rt,
    ShardContext, ShardInfo, Start,
};

use super::draw::Draw;
use super::fault::{Mood, Step};
use super::plan::Plan;
use super::wire::Wire;
use crate::fleet::Fleet;
use crate::history::Event;
use crate::rng::{below, mix};
use crate::world::{Call, RecordingProcessor, Script};

/// What a planned panic says.
pub(crate) const PANIC: &str = "a processor was told to panic";

/// What all processors of one worker have in common. Clones share it.
#[derive(Clone)]
pub(crate) struct Temper {
    wire: Wire,
    state: Arc<Mutex<(Mood, Draw)>>,
    per_batch: Duration,
    fails_one_in: usize,
    poison_one_in: usize,
    checkpoints: Checkpoints,
    /// Other calls fail, and records are prepared: each is drawn from a stream of its own.
    fails_elsewhere_one_in: usize,
    elsewhere: Arc<Mutex<Draw>>,
    prepares: bool,
    prepared: Arc<Mutex<Draw>>,
    /// Until then.
    busy: Duration,
}

impl fmt::Debug for Temper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Temper").finish_non_exhaustive()
    }
}

impl Temper {
    pub(crate) fn new(plan: &Plan, node: &str, wire: Wire) -> Self {
        let state = Arc::new(Mutex::new((Mood::Calm, Draw::new(plan.seed, &format!("temper/{node}")))));
        let Plan {
            per_batch, fails_one_in, poison_one_in, checkpoints, fails_elsewhere_one_in, prepares, busy, ..
        } = *plan;
        let stream = |label: &str| Arc::new(Mutex::new(Draw::new(plan.seed, &format!("{label}/{node}"))));
        Self {
            wire,
            state,
            per_batch,
            fails_one_in,
            poison_one_in,
            checkpoints,
            fails_elsewhere_one_in,
            elsewhere: stream("elsewhere"),
            prepares,
            prepared: stream("prepared"),
            busy,
        }
    }

    /// What a call does that gives no records, while faults last.
    fn elsewhere(&self) -> Result<(), ProcessError> {
        let may = self.fails_elsewhere_one_in > 0 && self.wire.sim.now() < self.busy;
        let fails = may && one_in(&self.elsewhere, self.fails_elsewhere_one_in);
        if fails { Err(ProcessError::msg("a failure was drawn")) } else { Ok(()) }
    }

    /// Acknowledges a batch, some of them in two phases, with what comes before its last record acknowledged in between.
    async fn acknowledge(&self, call: &Call, fleet: &Fleet) {
        let checkpointer = call.shard.checkpointer();
        let acknowledge = |record: &Record| {
            let at = record.sequence_number();
            fleet.history.record(fleet.sim.now(), call.session, call.shard.shard(), Event::Acknowledged(at));
            // Of a lease that is lost meanwhile, nothing is recorded.
            let _lost = checkpointer.ack(at);
        };
        let Some(last) = call.batch.last() else { return };
        if self.prepares && one_in(&self.prepared, 3) {
            let state = Bytes::from(last.sequence_number().to_string());
            // Nor is anything prepared.
            let _lost = checkpointer.prepare(last.sequence_number(), Some(state)).await;
            if let Some(record) = call.batch.len().checked_sub(2).and_then(|before| call.batch.get(before)) {
                acknowledge(record);
                call.rt.sleep(self.per_batch.max(Duration::from_millis(50))).await;
            }
        }
        acknowledge(last);
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = mood;
    }

    /// What to do with a batch of so many: how long it takes, whether it panics then, and where it fails.
    fn decide(&self, records: usize) -> (Duration, bool, Option<usize>) {
        let (mood, draw) = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let place = draw.below(records);
        let fails = draw.one_in(self.fails_one_in).then_some(place);
        match *mood {
            Mood::Calm => (self.per_batch, false, fails),
            Mood::Slow(time) => (time, false, fails),
            Mood::Fails(n) => (self.per_batch, false, draw.one_in(n).then_some(place).or(fails)),
            Mood::Panics(n) => (self.per_batch, draw.one_in(n), fails),
            Mood::Hangs(time) => (time, false, fails),
        }
    }

    /// Whether no processor ever gets past the record.
    fn is_poison(&self, record: &Record) -> bool {
        let number = record.sequence_number().to_string();
        let hash = number.bytes().fold(0, |hash, digit| mix(hash ^ u64::from(digit)));
        self.poison_one_in > 0 && below(hash, self.poison_one_in) == 0
    }

    async fn work(&self, call: &Call, fleet: &Fleet) -> Result<(), ProcessError> {
        let (time, panics, fails) = self.decide(call.batch.len());
        let fails = call.batch.iter().position(|record| self.is_poison(record)).or(fails);
        self.wire.step(Step::Delivering).await;
        if !time.is_zero() {
            call.rt.sleep(time).await;
        }
        assert!(!panics, "{PANIC}");
        match (fails.and_then(|place| call.batch.get(place)), self.checkpoints) {
            (Some(record), Checkpoints::Automatic) => Err(ProcessError::msg("a failure was drawn").at(record)),
            (Some(_), Checkpoints::Manual) => Err(ProcessError::msg("a failure was drawn")),
            (None, Checkpoints::Automatic) => Ok(()),
            (None, Checkpoints::Manual) => {
                self.acknowledge(call, fleet).await;
                Ok(())
            }
        }
    }
}

fn one_in(draw: &Mutex<Draw>, n: usize) -> bool {
    draw.lock().unwrap_or_else(PoisonError::into_inner).one_in(n)
}

/// Makes the processors of one worker.
pub(crate) struct Players {
    pub(crate) fleet: Fleet,
    pub(crate) rt: Rt,
    pub(crate) temper: Temper,
}

#[async_trait]
impl RecordProcessorFactory for Players {
    async fn create(&self, info: &ShardInfo) -> Result<Box<dyn RecordProcessor>, ProcessError> {
        let (temper, fleet) = (self.temper.clone(), self.fleet.clone());
        let script: Script = Arc::new(move |call| {
            let (temper, fleet) = (temper.clone(), fleet.clone());
            Box::pin(async move { temper.work(&call, &fleet).await })
        });
        let inner = self.fleet.recorder(&self.rt, &info.shard).with_script(script);
        Ok(Box::new(Player { inner, temper: self.temper.clone() }))
    }
}

struct Player {
    inner: RecordingProcessor,
    temper: Temper,
}

#[async_trait]
impl RecordProcessor for Player {
    async fn initialize(&mut self, shard: &ShardContext) -> Result<Start, ProcessError> {
        self.temper.elsewhere()?;
        let start = self.inner.initialize(shard).await;
        self.temper.wire.step(Step::Opened).await;
        start
    }

    async fn process_records(&mut self, batch: &RecordBatch, shard: &ShardContext) -> Result<(), ProcessError> {
        self.inner.process_records(batch, shard).await
    }

    async fn tick(&mut self, shard: &ShardContext) -> Result<(), ProcessError> {
        self.temper.elsewhere()?;
        self.inner.tick(shard).await
    }

    async fn shard_ended(&mut self, shard: &ShardContext) -> Result<(), ProcessError> {
        self.temper.elsewhere()?;
        let ended = self.inner.shard_ended(shard).await;
        self.temper.wire.step(Step::Ending).await;
        ended
    }

    async fn lease_lost(&mut self, lost: &LeaseLost) {
        self.inner.lease_lost(lost).await;
    }

    async fn shutdown_requested(&mut self, shard: &ShardContext) -> Result<(), ProcessError> {
        let ready = self.inner.shutdown_requested(shard).await;
        self.temper.wire.step(Step::Parting).await;
        ready
    }
}
