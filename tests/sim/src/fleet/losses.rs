//! What is reported as lost, and what is decided about it.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kcl_core::reference::ReferenceStream;
use kcl_core::{DataLoss, LossCause, LossDecision, LossPolicy, LostUntil, StreamArn};

use crate::Handle;
use crate::history::{Event, History, Session};
use crate::world;

/// A loss policy that writes every loss down and always decides the same. Clones share what they wrote.
#[derive(Debug, Clone)]
pub struct Losses {
    sim: Handle,
    service: ReferenceStream,
    stream: StreamArn,
    history: History,
    told: Arc<Mutex<Vec<DataLoss>>>,
    decision: LossDecision,
}

impl Losses {
    pub(super) fn new(
        sim: &Handle,
        service: &ReferenceStream,
        stream: &StreamArn,
        history: &History,
        decision: LossDecision,
    ) -> Self {
        let (sim, service, stream, history) = (sim.clone(), service.clone(), stream.clone(), history.clone());
        Self { sim, service, stream, history, told: Arc::default(), decision }
    }

    pub(super) fn deciding(self, decision: LossDecision) -> Self {
        Self { decision, ..self }
    }

    /// All losses so far, in the order in which they were reported.
    #[must_use]
    pub fn all(&self) -> Vec<DataLoss> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl LossPolicy for Losses {
    async fn on_loss(&self, loss: &DataLoss) -> LossDecision {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(loss.clone());
        let shard = &loss.shard.shard;
        if let (LossCause::ShardVanished, Some(watch)) = (loss.cause, self.history.watch()) {
            watch.taken_as_gone(shard);
        }
        if let Some(watch) = self.history.watch() {
            watch.reported(loss);
        }
        let tell = |event| self.history.record(self.sim.now(), Session::WORLD, shard, event);
        match loss.until {
            _ if self.decision == LossDecision::StopShard => {}
            LostUntil::Before(before) => tell(Event::Lost(loss.after, Some(before))),
            LostUntil::ShardEnd => tell(Event::Lost(loss.after, None)),
            // The shard goes on: what it holds by now is lost.
            LostUntil::Now => {
                let truth = world::truth(&self.service, &world::streams(&self.service, &self.stream));
                let last = truth.shards.get(shard).and_then(|shard| shard.written.last().copied());
                tell(Event::LostThrough(loss.after, last));
            }
            _ => self.sim.fail(format!("a loss of a kind that is not known: {loss}")),
        }
        self.decision
    }
}
