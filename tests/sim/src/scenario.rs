//! Scenarios: whole lives of fleets, drawn from a seed.
//!
//! A [`Plan`] is a run as data. [`Plan::draw`] takes everything from labelled streams of the seed: the fleet, the settings, legal
//! extremes among them, and the faults, of which each seed has some kinds and not others. [`run`] carries a plan out: first the busy
//! time with its faults, then a time without, in which everything must come right: every record delivered, every shard owned, the
//! shares even, closed shards finished. Then all workers stop, and nothing is left of them.

mod crew;
mod draw;
mod fault;
mod life;
mod operator;
mod plan;
mod player;
mod registry;
mod settled;
mod shapes;
mod shrink;
mod weather;
mod wire;

use std::fmt;
use std::str::FromStr;

pub use fault::{Fault, FaultEvent, Mood, Request, Step, StreamWeather, When};
pub use life::{Broken, Run, run, run_aloud};
pub use plan::{Plan, Reduction, Service, Start, Writes};
pub use shapes::steady;
pub use shrink::{Smaller, shrink};
pub use wire::Latency;

/// What a run is about. `docs/simulation.md` describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Nothing fails; shards roll.
    Steady,
    /// One worker after the other is replaced gracefully.
    Rolling,
    /// All workers are replaced at once.
    FleetRestart,
    /// Workers are cut off from the lease table, the stream, or both.
    Partition,
    /// The stream throttles.
    Throttling,
    /// Shards split all the time.
    SplitStorm,
    /// The fleet is away for 26 hours.
    Outage,
    /// Processors are slow, block, fail, panic and hang.
    Processors,
    /// The application begins at the end, or at a time, while workers come and go.
    Starts,
    /// Listings are late and contradict each other.
    Listings,
    /// Scans of the lease table are stale and torn.
    StaleScans,
    /// The stream is switched off.
    Disabled,
    /// Machines stand and clocks are wrong.
    Clocks,
    /// Anything.
    Chaos,
    /// Three applications contend for two reader slots.
    Readers,
    /// The stream is switched off, and another one on.
    Reenabled,
    /// A hundred workers and ten thousand shards.
    Large,
}

impl Scenario {
    /// All, in the order of the list.
    pub const ALL: [Self; 17] = [
        Self::Steady,
        Self::Rolling,
        Self::FleetRestart,
        Self::Partition,
        Self::Throttling,
        Self::SplitStorm,
        Self::Outage,
        Self::Processors,
        Self::Starts,
        Self::Listings,
        Self::StaleScans,
        Self::Disabled,
        Self::Clocks,
        Self::Readers,
        Self::Reenabled,
        Self::Chaos,
        Self::Large,
    ];

    /// The scenario that a seed draws where none is named. [`Scenario::Large`] is only run by name.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut draw = draw::Draw::new(seed, "scenario");
        // Every other run is of the kind in which everything meets.
        match draw.pick(&Self::ALL[..Self::ALL.len() - 2]) {
            _ if draw.one_in(3) => Self::Chaos,
            scenario => scenario,
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Rolling => "rolling",
            Self::FleetRestart => "fleet-restart",
            Self::Partition => "partition",
            Self::Throttling => "throttling",
            Self::SplitStorm => "split-storm",
            Self::Outage => "outage",
            Self::Processors => "processors",
            Self::Starts => "starts",
            Self::Listings => "listings",
            Self::StaleScans => "stale-scans",
            Self::Disabled => "disabled",
            Self::Clocks => "clocks",
            Self::Chaos => "chaos",
            Self::Readers => "readers",
            Self::Reenabled => "reenabled",
            Self::Large => "large",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no scenario's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownScenario(String);

impl fmt::Display for UnknownScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Scenario::ALL.iter().map(|scenario| scenario.name()).collect();
        write!(f, "there is no scenario {:?}, only {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownScenario {}

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|scenario| scenario.name() == name);
        found.ok_or_else(|| UnknownScenario(name.to_owned()))
    }
}
