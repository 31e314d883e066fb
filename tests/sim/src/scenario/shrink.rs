//! Makes a failing plan smaller.

use std::collections::BTreeSet;

use super::life::{Broken, run};
use super::plan::{Plan, Reduction};

/// What is left of a plan that still fails.
#[derive(Debug, Clone)]
pub struct Smaller {
    /// How the plan is reduced to it.
    pub reduction: Reduction,
    /// The plan.
    pub plan: Plan,
    /// How it fails.
    pub broken: Broken,
    /// How many runs it took.
    pub tries: usize,
}

/// Leaves out faults (delta debugging), then halves the fleet, the shards and the time, as long as the run still fails in any way.
/// Gives up after `tries` runs with what it has.
#[must_use]
pub fn shrink(plan: &Plan, broken: Broken, tries: usize) -> Smaller {
    let mut search = Search { plan, left: tries, best: Reduction::default(), broken };
    search.faults();
    let halve: [fn(&mut Reduction) -> &mut u32; 3] = [|r| &mut r.time, |r| &mut r.workers, |r| &mut r.shards];
    for field in halve {
        for _ in 0..8 {
            let mut next = search.best.clone();
            *field(&mut next) += 1;
            if !search.fails(next) {
                break;
            }
        }
    }
    // What a smaller fleet does not need.
    search.faults();
    let Search { left, best, broken, .. } = search;
    Smaller { plan: plan.clone().reduced(&best), reduction: best, broken, tries: tries - left }
}

struct Search<'a> {
    plan: &'a Plan,
    left: usize,
    best: Reduction,
    broken: Broken,
}

impl Search<'_> {
    /// Whether the plan still fails so reduced; then that is what is left.
    fn fails(&mut self, by: Reduction) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let Some(broken) = run(&self.plan.clone().reduced(&by)).broken else { return false };
        (self.best, self.broken) = (by, broken);
        true
    }

    fn faults(&mut self) {
        let all = || self.plan.faults.iter().map(|event| event.id).collect();
        let mut kept: Vec<u32> = self.best.keep.clone().unwrap_or_else(all).into_iter().collect();
        let mut parts = 2;
        while !kept.is_empty() && self.left > 0 {
            let size = kept.len().div_ceil(parts);
            let without = (0..kept.len().div_ceil(size)).map(|part| {
                let cut = part * size..((part + 1) * size).min(kept.len());
                kept.iter().enumerate().filter(|(place, _)| !cut.contains(place)).map(|(_, id)| *id).collect::<Vec<_>>()
            });
            let without: Vec<Vec<u32>> = without.collect();
            let smaller = without.into_iter().find(|rest| {
                let keep: BTreeSet<u32> = rest.iter().copied().collect();
                let by = Reduction { keep: Some(keep), ..self.best.clone() };
                self.fails(by)
            });
            match smaller {
                Some(rest) => {
                    kept = rest;
                    parts = (parts - 1).max(2);
                }
                None if size == 1 => return,
                None => parts = (parts * 2).min(kept.len()),
            }
        }
    }
}
