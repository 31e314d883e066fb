//! Processors of a scenario: they record what they see, have moods, and know the steps of the protocol.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
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
}

impl fmt::Debug for Temper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Temper").finish_non_exhaustive()
    }
}

impl Temper {
    pub(crate) fn new(plan: &Plan, node: &str, wire: Wire) -> Self {
        let state = Arc::new(Mutex::new((Mood::Calm, Draw::new(plan.seed, &format!("temper/{node}")))));
        let Plan { per_batch, fails_one_in, poison_one_in, checkpoints, .. } = *plan;
        Self { wire, state, per_batch, fails_one_in, poison_one_in, checkpoints }
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
                let Some(last) = call.batch.last().map(Record::sequence_number) else {
                    return Ok(());
                };
                fleet.history.record(fleet.sim.now(), call.session, call.shard.shard(), Event::Acknowledged(last));
                // Of a lease that is lost meanwhile, nothing is recorded.
                let _lost = call.shard.checkpointer().ack(last);
                Ok(())
            }
        }
    }
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
        Ok(Box::new(Player { inner, wire: self.temper.wire.clone() }))
    }
}

struct Player {
    inner: RecordingProcessor,
    wire: Wire,
}

#[async_trait]
impl RecordProcessor for Player {
    async fn initialize(&mut self, shard: &ShardContext) -> Result<Start, ProcessError> {
        let start = self.inner.initialize(shard).await;
        self.wire.step(Step::Opened).await;
        start
    }

    async fn process_records(&mut self, batch: &RecordBatch, shard: &ShardContext) -> Result<(), ProcessError> {
        self.inner.process_records(batch, shard).await
    }

    async fn tick(&mut self, shard: &ShardContext) -> Result<(), ProcessError> {
        self.inner.tick(shard).await
    }

    async fn shard_ended(&mut self, shard: &ShardContext) -> Result<(), ProcessError> {
        let ended = self.inner.shard_ended(shard).await;
        self.wire.step(Step::Ending).await;
        ended
    }

    async fn lease_lost(&mut self, lost: &LeaseLost) {
        self.inner.lease_lost(lost).await;
    }

    async fn shutdown_requested(&mut self, shard: &ShardContext) -> Result<(), ProcessError> {
        let ready = self.inner.shutdown_requested(shard).await;
        self.wire.step(Step::Parting).await;
        ready
    }
}
