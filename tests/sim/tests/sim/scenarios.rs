//! Runs as data: what they promise of themselves, and a few of each scenario.

use std::collections::BTreeSet;
use std::process::Command;

use sim::invariant::{Milestone, Sometimes};
use sim::runner::{Case, ENOUGH_SEEDS, regressions};
use sim::scenario::{Plan, Reduction, Scenario, run};
use sim::seeds;

#[test]
fn seeds_that_found_something_find_it_no_more() {
    for case in regressions().expect("readable") {
        let run = run(&case.plan());
        assert!(run.broken.is_none(), "{case}\n{}", run.broken.expect("broken"));
    }
}

/// As many as a minute holds; `sim run` goes on from there.
#[test]
fn every_scenario_keeps_the_promises() {
    for scenario in Scenario::ALL.into_iter().filter(|scenario| *scenario != Scenario::Large) {
        for seed in seeds(2) {
            let case = Case::of(seed, Some(scenario));
            let run = run(&case.plan());
            assert!(run.broken.is_none(), "{case}\n{}", run.broken.expect("broken"));
        }
    }
}

#[test]
fn a_plan_repeats_its_run_poll_for_poll_in_this_process_and_in_another() {
    for seed in [3, 4] {
        let case = Case::of(seed, Some(Scenario::Chaos));
        let (first, second) = (run(&case.plan()), run(&case.plan()));
        assert_eq!((first.trace, first.polls), (second.trace, second.polls));
        let child = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["seed", &seed.to_string(), "--scenario", "chaos"])
            .output()
            .expect("runs");
        let printed = String::from_utf8_lossy(&child.stdout);
        let mine = format!("trace {:016x}, {} polls", first.trace, first.polls);
        assert!(printed.lines().any(|line| line.starts_with(&mine)), "{mine} is not in\n{printed}");
    }
}

#[test]
fn leaving_a_fault_out_leaves_the_others_as_they_are() {
    let whole = Plan::draw(7, Scenario::Chaos);
    let keep: BTreeSet<u32> = whole.faults.iter().map(|event| event.id).step_by(2).collect();
    let half = whole.clone().reduced(&Reduction { keep: Some(keep.clone()), ..Reduction::default() });
    let kept: Vec<_> = whole.faults.iter().filter(|event| keep.contains(&event.id)).cloned().collect();
    assert_eq!(half.faults, kept);
    assert!(kept.len() > 1);
}

#[test]
fn a_smaller_fleet_has_faults_of_its_own_workers_only() {
    let reduction = Reduction { workers: 8, shards: 8, time: 1, keep: None };
    for seed in 0..20 {
        let plan = Plan::draw(seed, Scenario::Chaos).reduced(&reduction);
        assert_eq!((plan.workers, plan.shards), (1, 1));
        assert!(plan.faults.iter().all(|event| event.fault.worker().is_none_or(|worker| worker == 0)));
    }
}

#[test]
fn a_case_is_one_line_that_names_all_that_is_left_of_it() {
    let reduction = Reduction { keep: Some(BTreeSet::from([3, 5])), workers: 1, ..Reduction::default() };
    let case = Case { seed: 9, scenario: Some(Scenario::Rolling), reduction };
    let line = "cargo run --release -p sim -- seed 9 --scenario rolling --keep 3,5 --halve-workers 1";
    assert_eq!(case.to_string(), line);
}

#[test]
fn a_search_meets_all_that_it_must() {
    let mut met = Sometimes::default();
    let mut seed = 1;
    while !met.missing(&Milestone::ALL).is_empty() {
        assert!(seed <= ENOUGH_SEEDS, "never happened: {:?}", met.missing(&Milestone::ALL));
        met.add(&run(&Case::of(seed, None).plan()).sometimes);
        seed += 1;
    }
}
