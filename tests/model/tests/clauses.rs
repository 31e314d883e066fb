//! The rules hold in small bounds, and each clause that is taken out is missed. `ownership-model table` searches all of it.

use ownership_model::catalogue::{Case, kept, lease, lease_without, moving, worker, worker_without};
use ownership_model::rules::{Clause, Setting};
use ownership_model::search::search;

/// What a gate can search in debug builds.
const SMALL: usize = 40_000;

#[track_caller]
fn holds(rules: &Setting) {
    let found = search(rules, true);
    assert!(found.ended && found.broken.is_none(), "{}: {:?}", rules.bounds(), found.broken);
}

/// Cases that break within `SMALL` states are tried.
fn missed(cases: &[Case]) -> usize {
    let broken = cases.iter().filter(|case| case.expected.is_some());
    let tried = broken.filter_map(|case| {
        let small = Case { rules: Setting { max_states: SMALL, ..case.rules.clone() }, ..case.clone() };
        let outcome = small.run();
        (outcome.found.broken.is_some() || outcome.found.ended).then_some((small, outcome))
    });
    tried.map(|(case, outcome)| assert!(outcome.as_expected, "{}", case.row(&outcome))).count()
}

#[test]
fn per_lease_rules_hold_under_crashes_hand_overs_evictions_and_late_writes() {
    holds(&lease());
}

#[test]
fn per_lease_rules_hold_with_three_workers_over_a_finish_with_a_child() {
    holds(&Setting { workers: 3, children: 1, slow: false, ..lease() });
}

#[test]
fn per_worker_rules_hold_under_crashes_hand_overs_evictions_and_leaving() {
    holds(&moving());
    holds(&Setting { slow: true, lost: false, ..worker() });
}

#[test]
fn per_worker_rules_hold_under_late_and_lost_writes() {
    holds(&worker());
}

#[test]
fn suspended_workers_are_left_out_only_where_they_add_nothing() {
    for rules in [worker(), Setting { suspend: true, ..moving() }] {
        let whole = search(&Setting { suspend: true, reduced: false, ..rules.clone() }, true);
        let reduced = search(&Setting { suspend: true, ..rules }, true);
        assert!(whole.ended && reduced.ended && whole.states > reduced.states);
        assert_eq!(whole.awake, reduced.states);
    }
}

#[test]
fn silence_is_answered_by_the_fence_or_by_dropping_all_and_one_of_them_is_needed() {
    let quiet = Setting { slow: true, lost: false, ..worker() };
    holds(&Setting { without: vec![Clause::Fence], ..quiet });
    holds(&Setting { without: vec![Clause::LapseIsFinal], ..moving() });
    let neither = Setting { without: vec![Clause::Fence, Clause::LapseIsFinal], ..worker() };
    assert!(search(&neither, true).broken.is_some());
}

#[test]
fn a_clause_taken_out_of_the_per_lease_rules_is_missed() {
    assert!(missed(&lease_without()) >= 16);
}

#[test]
fn a_clause_taken_out_of_the_per_worker_rules_is_missed() {
    assert!(missed(&worker_without()) >= 16);
}

#[test]
fn every_clause_is_taken_out_in_the_table() {
    let out: Vec<Clause> =
        [lease_without(), worker_without()].concat().into_iter().flat_map(|case| case.rules.without).collect();
    assert!(Clause::ALL.iter().all(|clause| out.contains(clause)));
    assert!(kept().iter().all(|case| case.rules.without.is_empty()));
}
