//! A processor that tells what it was given.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use kcl_core::{
    Checkpoints, LeaseLost, ProcessError, RecordBatch, RecordProcessor, Rt, ShardContext, ShardId, ShardInfo, Start,
};

use crate::handle::Handle;
use crate::history::{Event, History, Session};
use crate::invariant::{Seen, Watch};
use crate::rng::below;

/// How processors of a run behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conduct {
    /// How long a batch takes.
    pub per_batch: Duration,
    /// One of so many batches fails at a random record. Zero: none does.
    pub fails_one_in: usize,
    /// Who acknowledges. With manual checkpoints the script does, and tells the history.
    pub checkpoints: Checkpoints,
}

/// One call of `process_records`.
#[derive(Debug, Clone)]
pub struct Call {
    /// What was given.
    pub batch: RecordBatch,
    /// Of which shard.
    pub shard: ShardContext,
    /// The node's runtime.
    pub rt: Rt,
    /// The processor instance.
    pub session: Session,
}

/// What is done with a batch instead of nothing.
pub type Script = Arc<dyn Fn(Call) -> BoxFuture<'static, Result<(), ProcessError>> + Send + Sync>;

/// Records every call in a history, and processes nothing.
///
/// What a call was given counts as delivered when the call begins: also if it then fails or is dropped.
pub struct RecordingProcessor {
    sim: Handle,
    rt: Rt,
    history: History,
    session: Session,
    shard: ShardId,
    conduct: Conduct,
    script: Option<Script>,
}

impl fmt::Debug for RecordingProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordingProcessor").field("session", &self.session).finish_non_exhaustive()
    }
}

impl RecordingProcessor {
    /// A processor of a node whose runtime is `rt`.
    #[must_use]
    pub fn new(sim: &Handle, rt: &Rt, history: &History, shard: &ShardId, conduct: Conduct) -> Self {
        let session = history.session();
        let (sim, rt, history) = (sim.clone(), rt.clone(), history.clone());
        Self { sim, rt, history, session, shard: shard.clone(), conduct, script: None }
    }

    /// Does this with each batch, after its records were noted.
    #[must_use]
    pub fn with_script(mut self, script: Script) -> Self {
        self.script = Some(script);
        self
    }

    /// Which instance this is.
    #[must_use]
    pub fn session(&self) -> Session {
        self.session
    }

    /// Makes such processors: a closure is a factory.
    pub fn factory(
        sim: &Handle,
        rt: &Rt,
        history: &History,
        conduct: Conduct,
    ) -> impl Fn(&ShardInfo) -> Self + Send + Sync + use<> {
        let (sim, rt, history) = (sim.clone(), rt.clone(), history.clone());
        move |info| Self::new(&sim, &rt, &history, &info.shard, conduct)
    }

    /// Adds what happens to the history, now.
    pub fn record(&self, event: Event) {
        self.history.record(self.sim.now(), self.session, &self.shard, event);
    }

    /// What [`RecordProcessor::process_records`] does; it needs no context.
    ///
    /// # Errors
    /// The conduct drew a failure.
    ///
    /// # Cancel safety
    /// All records of the batch count as delivered.
    pub async fn take(&mut self, batch: &RecordBatch) -> Result<(), ProcessError> {
        self.given(batch);
        self.rt.sleep(self.conduct.per_batch).await;
        let fails = self.conduct.fails_one_in > 0 && below(self.rt.next_u64(), self.conduct.fails_one_in) == 0;
        match batch.get(below(self.rt.next_u64(), batch.len())) {
            Some(record) if fails => Err(ProcessError::msg("a failure was drawn").at(record)),
            _ => Ok(()),
        }
    }
}

impl RecordingProcessor {
    fn given(&self, batch: &RecordBatch) {
        for record in batch.iter() {
            self.record(Event::Delivered(record.sequence_number()));
        }
    }

    fn returned(&self, batch: &RecordBatch, result: &Result<(), ProcessError>) {
        self.record(Event::Returned);
        let done = match result {
            Ok(()) if self.conduct.checkpoints == Checkpoints::Automatic => batch.len(),
            Ok(()) => 0,
            Err(error) => {
                batch.iter().position(|record| Some(record.sequence_number()) == error.failed_at()).unwrap_or(0)
            }
        };
        if let Some(last) = done.checked_sub(1).and_then(|last| batch.get(last)) {
            self.record(Event::Acknowledged(last.sequence_number()));
        }
    }
}

#[async_trait]
impl RecordProcessor for RecordingProcessor {
    async fn initialize(&mut self, shard: &ShardContext) -> Result<Start, ProcessError> {
        if let Some(watch) = self.history.watch() {
            watch.opened(self.session, shard);
        }
        self.record(Event::Opened);
        Ok(Start::Checkpoint)
    }

    async fn process_records(&mut self, batch: &RecordBatch, shard: &ShardContext) -> Result<(), ProcessError> {
        let _under_way = UnderWay::new(&self.history, self.session);
        let result = match self.script.clone() {
            None => self.take(batch).await,
            Some(script) => {
                self.given(batch);
                let (batch, shard, rt) = (batch.clone(), shard.clone(), self.rt.clone());
                script(Call { batch, shard, rt, session: self.session }).await
            }
        };
        self.returned(batch, &result);
        result
    }

    async fn shard_ended(&mut self, _: &ShardContext) -> Result<(), ProcessError> {
        self.record(Event::Ended);
        Ok(())
    }

    async fn shutdown_requested(&mut self, _: &ShardContext) -> Result<(), ProcessError> {
        if let Some(watch) = self.history.watch() {
            watch.see(&Seen::Parting(self.session));
        }
        Ok(())
    }

    async fn lease_lost(&mut self, why: &LeaseLost) {
        if let Some(watch) = self.history.watch() {
            watch.see(&Seen::Lost { session: self.session, shard: &self.shard, why: *why });
        }
        self.record(Event::Closed);
    }
}

/// A call of `process_records`, from its beginning until it returns or is dropped.
struct UnderWay {
    watch: Option<Watch>,
    session: Session,
}

impl UnderWay {
    fn new(history: &History, session: Session) -> Self {
        let watch = history.watch().cloned();
        if let Some(watch) = &watch {
            watch.see(&Seen::CallBegan(session));
        }
        Self { watch, session }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.see(&Seen::CallOver(self.session));
        }
    }
}
