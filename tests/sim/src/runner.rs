//! Runs many seeds on several threads: regression seeds first, then fresh ones until the time is up.

#![expect(clippy::disallowed_methods, reason = "it measures how fast the simulation runs; nothing in a run reads it")]

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::invariant::{Milestone, Sometimes};
use crate::scenario::{Broken, Plan, Reduction, Run, Scenario, run, shrink};

/// Every seed that ever found something.
const REGRESSIONS: &str = include_str!("../seeds.txt");

/// A seed and what of its plan is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The seed.
    pub seed: u64,
    /// The scenario; absent: the one that the seed draws.
    pub scenario: Option<Scenario>,
    /// What is left out.
    pub reduction: Reduction,
}

impl Case {
    /// A whole plan.
    #[must_use]
    pub fn of(seed: u64, scenario: Option<Scenario>) -> Self {
        Self { seed, scenario, reduction: Reduction::default() }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan::draw(self.seed, self.scenario.unwrap_or_else(|| Scenario::of(self.seed))).reduced(&self.reduction)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = self.scenario.unwrap_or_else(|| Scenario::of(self.seed));
        write!(f, "cargo run --release -p sim -- seed {} --scenario {scenario}{}", self.seed, self.reduction)
    }
}

/// The regression seeds: lines of `seed scenario`, with comments after `#`.
///
/// # Errors
/// The line that is neither.
pub fn regressions() -> Result<Vec<Case>, String> {
    let lines = REGRESSIONS.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (seed, scenario) = line.split_once(' ').ok_or_else(|| format!("{line:?} is no regression seed"))?;
            let seed = seed.parse().map_err(|error| format!("{line:?}: {error}"))?;
            Ok(Case::of(seed, Some(scenario.trim().parse::<Scenario>().map_err(|error| error.to_string())?)))
        })
        .collect()
}

/// Measures the time that this thread has a core; where the system does not tell, the time that passes.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    on_core: Option<Duration>,
    begun: Instant,
}

impl Stopwatch {
    /// Starts now. To be read on the same thread.
    #[must_use]
    pub fn start() -> Self {
        Self { on_core: on_core(), begun: Instant::now() }
    }

    /// The time since.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match (self.on_core, on_core()) {
            (Some(then), Some(now)) => now - then,
            _ => self.begun.elapsed(),
        }
    }
}

fn on_core() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Search {
    /// For how long. The regression seeds are always run, all of them.
    pub time: Duration,
    /// The first fresh seed; the others follow it.
    pub base: u64,
    /// Which scenario; absent: those that the seeds draw.
    pub scenario: Option<Scenario>,
    /// Threads: each has runs of its own.
    pub threads: usize,
    /// Whether to go on after a failure.
    pub keep_going: bool,
    /// Where failures are written.
    pub failures: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Virtual time, all runs together.
    pub fleet_time: Duration,
    /// Runs.
    pub seeds: u64,
    /// Runs that failed.
    pub violations: u64,
    /// Time that the threads were at work.
    pub core_time: Duration,
    /// Polls of tasks.
    pub polls: u64,
    /// Different records that were delivered.
    pub delivered: u64,
    /// What happened how often.
    pub sometimes: Sometimes,
}

/// Seeds after which a search of all scenarios has reached everything that it must.
pub const ENOUGH_SEEDS: u64 = 250;

impl Summary {
    /// What the search should have met by now, and has not: it has proved nothing about that.
    #[must_use]
    pub fn unmet(&self) -> Vec<Milestone> {
        if self.seeds < ENOUGH_SEEDS { Vec::new() } else { self.sometimes.missing(&Milestone::ALL) }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.fleet_time.as_secs_f64() / 3600.0;
        let rate = hours / self.core_time.as_secs_f64().max(1e-9);
        let Self { seeds, violations, .. } = self;
        write!(f, "fleet_hours={hours:.1} seeds={seeds} violations={violations} fleet_hours_per_core_second={rate:.2}")
    }
}

impl Search {
    /// Runs the regression seeds, then fresh ones until the time is up. Failures are printed, shrunk and written down.
    ///
    /// # Errors
    /// The file of regression seeds is damaged.
    pub fn run(&self) -> Result<Summary, String> {
        let known = if self.scenario.is_none() { regressions()? } else { Vec::new() };
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let summary = Mutex::new(Summary::default());
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let nth = usize::try_from(n).unwrap_or(usize::MAX);
                        let case = match known.get(nth) {
                            Some(case) => case.clone(),
                            None if begun.elapsed() >= self.time => break,
                            None => Case::of(self.base.wrapping_add(n - known.len() as u64), self.scenario),
                        };
                        let failed = self.one(&case, &summary);
                        if failed && !self.keep_going {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        Ok(summary.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn one(&self, case: &Case, summary: &Mutex<Summary>) -> bool {
        let plan = case.plan();
        let begun = Stopwatch::start();
        let Run { lasted, polls, verdict, sometimes, broken, .. } = run(&plan);
        let took = begun.elapsed();
        {
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.fleet_time += lasted;
            summary.core_time += took;
            summary.seeds += 1;
            summary.polls += polls;
            summary.delivered += verdict.delivered;
            summary.sometimes.add(&sometimes);
            summary.violations += u64::from(broken.is_some());
        }
        let Some(broken) = broken else { return false };
        println!("FAILED {case}\n{broken}");
        self.shrunk(case, &plan, broken, took);
        true
    }

    fn shrunk(&self, case: &Case, plan: &Plan, broken: Broken, took: Duration) {
        // About half a minute of tries.
        let tries = (30.0 / took.as_secs_f64().max(0.01)) as usize;
        let smaller = shrink(plan, broken, tries.clamp(10, 400));
        let small = Case { reduction: smaller.reduction, ..case.clone() };
        println!("SHRUNK {small}\n{}", smaller.broken);
        let text = format!("{case}\n{small}\n\n{}\n\n{}\n\nthe whole plan:\n{plan}", smaller.broken, smaller.plan);
        let path = self.failures.join(format!("{}-{}.txt", plan.scenario, plan.seed));
        let written = fs::create_dir_all(&self.failures).and_then(|()| fs::write(&path, text));
        match written {
            Ok(()) => println!("written to {}", path.display()),
            Err(error) => println!("could not be written to {}: {error}", path.display()),
        }
    }
}
