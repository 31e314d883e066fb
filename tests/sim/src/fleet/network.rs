//! The network between a worker and the lease table.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kcl_core::LeaseTable;
use kcl_core::wrap::{FaultyLeaseTable, LeaseFault};
use rand::Rng as _;
use rand::rngs::Xoshiro256PlusPlus;

use crate::Handle;
use crate::rng::below;

/// How bad it is: each is one call in so many; zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weather {
    /// The call is made, and its answer is lost.
    pub reply_lost: usize,
    /// The call is made up to half a minute later, and never answered.
    pub late: usize,
    /// The table says that it is throttled.
    pub throttled: usize,
    /// The call is not made, and its caller is told so.
    pub refused: usize,
    /// Nothing gets through and nothing is answered. In a scenario, one call in so many as `late` says is made late all the same; between
    /// the fleets of single tests one in two.
    pub cut: bool,
    /// Everything gets there and no answer comes back. Only in a scenario.
    pub deaf: bool,
    /// The way comes and goes: for each stretch of this length it is drawn how it begins and whether it falls silent. Only in a
    /// scenario; zero is not at all.
    pub flaps: Duration,
    /// Parts of the table break down, each by itself, as this number draws: what is asked of an item there first gets no answer, then one or
    /// two, and then nothing gets through. Only in a scenario; zero is not at all.
    pub parts: u64,
}

/// A worker's way to the lease table. Calls that are under way belong to it and outlive the worker.
#[derive(Debug, Clone)]
pub struct Network {
    sim: Handle,
    state: Arc<Mutex<(Weather, Xoshiro256PlusPlus)>>,
}

impl Network {
    /// A way of the worker's own, in good weather.
    #[must_use]
    pub fn new(sim: &Handle, worker: &str) -> Self {
        let rng = sim.rng(&format!("network/{worker}"));
        Self { sim: sim.clone(), state: Arc::new(Mutex::new((Weather::default(), rng))) }
    }

    /// From now on the weather is this.
    pub fn set(&self, weather: Weather) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = weather;
    }

    /// Nothing gets through from now on.
    pub fn cut(&self) {
        self.set(Weather { cut: true, ..Weather::default() });
    }

    /// All is well from now on.
    pub fn mend(&self) {
        self.set(Weather::default());
    }

    pub(super) fn carry(&self, table: Arc<dyn LeaseTable>) -> Arc<dyn LeaseTable> {
        let state = self.state.clone();
        Arc::new(FaultyLeaseTable::new(table, self.sim.rt(), move |_| {
            let (weather, rng) = &mut *state.lock().unwrap_or_else(PoisonError::into_inner);
            draw(*weather, rng)
        }))
    }
}

fn draw(weather: Weather, rng: &mut Xoshiro256PlusPlus) -> LeaseFault {
    let late = |rng: &mut Xoshiro256PlusPlus| LeaseFault::Late {
        applied_after: Duration::from_millis(below(rng.next_u64(), 30_000) as u64),
        told_after: None,
    };
    let mut one_in = |n: usize| n > 0 && below(rng.next_u64(), n) == 0;
    if weather.cut {
        if one_in(2) { LeaseFault::Late { applied_after: NEVER, told_after: None } } else { late(rng) }
    } else if one_in(weather.reply_lost) {
        LeaseFault::ReplyLost
    } else if one_in(weather.late) {
        late(rng)
    } else if one_in(weather.throttled) {
        LeaseFault::Throttled
    } else if one_in(weather.refused) {
        LeaseFault::NotApplied
    } else {
        LeaseFault::None
    }
}

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(1_000 * 24 * 3_600);
