//! Where records go that processors cannot process.

use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use kcl_core::{FailureSink, ProcessError, RecordBatch, ShardInfo};
use rand::Rng as _;
use rand::rngs::Xoshiro256PlusPlus;

use super::Fleet;
use crate::history::{Event, Session};
use crate::rng::below;

/// A sink that keeps what it is given in the history, and fails now and then, half of the time after it has kept it.
pub struct Sink {
    fleet: Fleet,
    rng: Mutex<Xoshiro256PlusPlus>,
}

/// It refuses one call in so many.
const FAILS_ONE_IN: usize = 5;

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

impl Sink {
    pub(super) fn new(fleet: &Fleet) -> Self {
        Self { fleet: fleet.clone(), rng: Mutex::new(fleet.sim.rng("sink")) }
    }

    fn draw(&self, n: usize) -> usize {
        let mut rng = self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        below(rng.next_u64(), n)
    }
}

#[async_trait]
impl FailureSink for Sink {
    async fn set_aside(&self, shard: &ShardInfo, records: &RecordBatch, _: &ProcessError) -> Result<(), ProcessError> {
        let (fails, after) = (self.draw(FAILS_ONE_IN) == 0, self.draw(2) == 0);
        if fails && !after {
            return Err(ProcessError::msg("the sink has failed"));
        }
        for record in records.iter() {
            let event = Event::SetAside(record.sequence_number());
            self.fleet.history.record(self.fleet.sim.now(), Session::WORLD, &shard.shard, event);
        }
        if fails { Err(ProcessError::msg("the sink has failed after all")) } else { Ok(()) }
    }
}
