//! Hunts for the bugs that are planted in the engine, with the ordinary scenarios: what finds none of them would find none of ours.
//!
//! For each bug some bases of seeds are tried, one after the other until a run fails. The bug counts as found if nearly every base
//! leads to it within its time: one lucky seed proves little.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kcl_core::planted::{Bug, plant};

use crate::runner::{Case, Stopwatch};
use crate::scenario::{Broken, Plan, run};

/// How to hunt.
#[derive(Debug, Clone)]
pub struct Hunt {
    /// The bugs; all if empty.
    pub bugs: Vec<Bug>,
    /// Bases of seeds for each bug.
    pub bases: u64,
    /// How long one base may take, on one core.
    pub time: Duration,
    /// Threads: each hunts from a base of its own.
    pub threads: usize,
}

/// What came of the hunt for one bug.
#[derive(Debug, Clone)]
pub struct Catch {
    /// The bug.
    pub bug: Bug,
    /// The promises that it breaks.
    pub promise: &'static str,
    /// Of so many bases.
    pub bases: u64,
    /// One for each base that led to it: the fleet-hours and the seconds until then, and what was found.
    pub found: Vec<(f64, f64, String)>,
}

impl Catch {
    /// Whether nearly every base led to the bug.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.found.len() as u64 * 10 >= self.bases * 9
    }
}

/// A line of the table in `docs/simulation.md`.
impl fmt::Display for Catch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bug, promise, bases, found } = self;
        let median = |of: fn(&(f64, f64, String)) -> f64| {
            let mut all: Vec<f64> = found.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let (hours, seconds) = (median(|found| found.0), median(|found| found.1));
        let mut by: Vec<&str> = found.iter().map(|found| found.2.as_str()).collect();
        by.sort_unstable();
        by.dedup();
        let by = by.join(", ");
        write!(f, "| {bug:?} | {promise} | {}/{bases} | {hours:.1} | {seconds:.1} | {by} |", found.len())
    }
}

/// The head of the table.
pub const HEAD: &str = "| bug | breaks | found | fleet-hours | seconds | by |\n|---|---|---|---|---|---|";

impl Hunt {
    /// Hunts, and tells each catch as soon as it is complete.
    pub fn run(&self, mut tell: impl FnMut(&Catch)) -> Vec<Catch> {
        let wanted = Bug::ALL.iter().filter(|(bug, _)| self.bugs.is_empty() || self.bugs.contains(bug));
        let hunts = wanted.map(|(bug, promise)| {
            let caught = self.one(*bug, promise);
            tell(&caught);
            caught
        });
        hunts.collect()
    }

    fn one(&self, bug: Bug, promise: &'static str) -> Catch {
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    plant(Some(bug));
                    loop {
                        let base = next.fetch_add(1, Ordering::Relaxed) as u64;
                        if base >= self.bases {
                            return;
                        }
                        if let Some(caught) = self.from(bug, base) {
                            found.lock().unwrap_or_else(PoisonError::into_inner).push(caught);
                        }
                    }
                });
            }
        });
        Catch { bug, promise, bases: self.bases, found: found.into_inner().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Whether the engine without the bug carries the plan out well.
    fn is_the_bugs(bug: Bug, plan: &Plan) -> bool {
        plant(None);
        let well = run(plan).broken.is_none();
        plant(Some(bug));
        well
    }

    /// Tries the seeds of a base until one fails.
    fn from(&self, bug: Bug, base: u64) -> Option<(f64, f64, String)> {
        let (begun, mut hours) = (Stopwatch::start(), 0.0);
        let mut seed = (base + 1) * 1_000_000;
        while begun.elapsed() < self.time {
            let plan = Case::of(seed, None).plan();
            let ended = run(&plan);
            hours += ended.lasted.as_secs_f64() / 3600.0;
            if let Some(broken) = ended.broken
                && Self::is_the_bugs(bug, &plan)
            {
                return Some((hours, begun.elapsed().as_secs_f64(), named(&broken)));
            }
            seed += 1;
        }
        None
    }
}

/// The law that did not hold, or what else it was.
fn named(broken: &Broken) -> String {
    let text = broken.to_string();
    let law =
        |word: &str| word.starts_with(['S', 'L']) && word.len() > 1 && word[1..].bytes().all(|b| b.is_ascii_digit());
    text.split([' ', ':', '\n']).find(|word| law(word)).unwrap_or("the end").to_owned()
}
