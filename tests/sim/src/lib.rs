//! Runs the production worker in virtual time, from a seed.
//!
//! A [`Sim`] is one thread that polls tasks, a clock that jumps to the next timer when nothing can run, and a seed that
//! decides everything that is left to chance. Two runs with one seed do the same, poll for poll; [`Handle::trace_hash`]
//! tells. A day of an idle fleet takes milliseconds, so thousands of interleavings of crashes, pauses, drifting clocks
//! and lost answers are tried where a real cluster shows one.
//!
//! ```
//! # use std::time::Duration;
//! let woke = sim::run(7, |sim| async move {
//!     let rt = sim.node("worker-1").rt();
//!     rt.sleep(Duration::from_secs(3_600)).await;
//!     sim.now()
//! });
//! assert_eq!(woke, Duration::from_secs(3_600));
//! ```
//!
//! # The parts
//! * The **world** runs the test itself and whatever stands for a service: true clocks, never killed ([`Handle::rt`]).
//! * A [`Node`] is a machine with clocks and randomness of its own, behind the [`Rt`](kcl_core::Rt) that the engine
//!   takes. It can be killed at any await, frozen, suspended (the monotonic clock stands), made to run fast or slow,
//!   kept from polling user code, and booted again.
//! * **Randomness** comes in labelled streams ([`Handle::rng`]), so that removing one use does not shift the others.
//! * A **failure** is a value ([`Failure`]) that names the seed, the time, the node and the task: a panic (also one that
//!   the code under test catches, unless it is [allowed](Handle::allow_panics)), a [check](Handle::check) that does not
//!   hold, a deadlock, or a test that does not end.
//! * What must hold whatever fails is judged by [`invariant`], at every step and at the end.
//!
//! # Rules that keep a run repeatable
//! Time, tasks and randomness come from `Rt` alone. The primitives of `tokio::sync` and `CancellationToken` belong to no
//! runtime and may be used; `tokio::spawn` and `tokio::time` panic here. `tokio::select!` must be `biased`, and no
//! behaviour may depend on the order of a `HashMap` or on an address. A seed is good for one commit and its `Cargo.lock`.

mod clock;
mod executor;
mod failure;
pub mod figures;
pub mod fleet;
mod handle;
mod history;
pub mod invariant;
#[cfg(feature = "planted")]
pub mod mutants;
mod node;
mod panics;
mod process;
mod ready;
mod rng;
pub mod runner;
pub mod scenario;
mod state;
mod trace;
pub mod world;

use std::future::Future;

use kcl_core::Liveness;

pub use clock::epoch;
pub use executor::{Config, Sim};
pub use failure::{Cause, Failure, TaskInfo};
pub use handle::Handle;
pub use history::{Entry, Event, History, Session};
pub use invariant::records::{Fault, Finding, ShardTruth, Truth, Verdict, judge};
pub use node::{Main, Node};
pub use ready::{PCT_SPAN, Sched};

/// The seeds of a test: `0..count`, or so many times as many as the variable `SIM_SEEDS` says, to search for longer.
#[must_use]
pub fn seeds(count: u64) -> std::ops::Range<u64> {
    let times = std::env::var("SIM_SEEDS").ok().and_then(|times| times.parse::<u64>().ok());
    0..count * times.unwrap_or(1)
}

/// Seeds as [`seeds`] gives them, for both ways in which a death is seen.
pub fn in_both_modes(count: u64) -> impl Iterator<Item = (Liveness, u64)> {
    [Liveness::PerLease, Liveness::PerWorker]
        .into_iter()
        .flat_map(move |mode| seeds(count).map(move |seed| (mode, seed)))
}

/// Runs a test in virtual time and gives its result.
///
/// # Panics
/// The run has failed; the text is that of the [`Failure`], which names the seed.
pub fn run<F: Future>(seed: u64, test: impl FnOnce(Handle) -> F) -> F::Output {
    match check(seed, test) {
        Ok(output) => output,
        Err(failure) => panic!("{failure}"),
    }
}

/// Runs a test in virtual time and gives its result, or why it failed.
///
/// # Errors
/// As [`Sim::block_on`] and [`Sim::close`].
pub fn check<F: Future>(seed: u64, test: impl FnOnce(Handle) -> F) -> Result<F::Output, Failure> {
    let mut sim = Sim::new(seed);
    let test = test(sim.handle());
    let output = sim.block_on(test)?;
    sim.close()?;
    Ok(output)
}
