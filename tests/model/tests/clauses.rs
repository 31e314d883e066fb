//! The rules hold in small bounds, and each clause that is taken out is missed.

use ownership_model::rules::{Clause, Mode, Setting};
use ownership_model::search::{Broken, Found, search};

fn small(mode: Mode) -> Setting {
    Setting { children: 0, suspend: false, moves: false, crash: false, ..Setting::new(mode) }
}

fn per_lease() -> Setting {
    Setting { moves: true, crash: true, ..small(Mode::PerLease) }
}

fn found(rules: &Setting) -> Option<Broken> {
    let Found { broken, .. } = search(rules, true);
    broken.map(|(broken, _)| broken)
}

#[test]
fn per_lease_rules_hold_under_crashes_hand_overs_evictions_and_late_writes() {
    let found = search(&per_lease(), true);
    assert!(found.ended && found.broken.is_none(), "{:?}", found.broken);
}

#[test]
fn per_lease_rules_hold_over_a_finish_with_a_child() {
    let found = search(&Setting { children: 1, moves: false, ..per_lease() }, true);
    assert!(found.ended && found.broken.is_none(), "{:?}", found.broken);
}

#[test]
fn a_clause_taken_out_of_the_per_lease_rules_is_missed() {
    let family = |child_exists| Setting { children: 1, moves: false, child_exists, ..per_lease() };
    let asleep = Setting { suspend: true, moves: false, ..per_lease() };
    for (rules, clause, broken) in [
        (per_lease(), Clause::GuardCounter, Broken::TwoOwners),
        (per_lease(), Clause::DriftMargin, Broken::TwoOwners),
        (per_lease(), Clause::ValidFromSend, Broken::TwoOwners),
        (per_lease(), Clause::FullWatch, Broken::TwoOwners),
        (per_lease(), Clause::EvictedIsWatched, Broken::TwoOwners),
        (per_lease(), Clause::ClaimDeadline, Broken::Orphan),
        (per_lease(), Clause::OwnTakenByWrite, Broken::TwoOwners),
        (per_lease(), Clause::ReadGivesNoValidity, Broken::TwoOwners),
        (per_lease(), Clause::ReleaseStopsFirst, Broken::TwoOwners),
        (asleep, Clause::SuspendCheck, Broken::TwoOwners),
        (family(false), Clause::ChildrenFromSend, Broken::TwoOwners),
        (family(false), Clause::FinishIsAtomic, Broken::ChildBeforeParent),
        (family(true), Clause::ParentGate, Broken::ChildBeforeParent),
    ] {
        let rules = Setting { without: vec![clause], ..rules };
        assert_eq!(found(&rules), Some(broken), "without {clause:?}: {}", clause.text());
    }
}

#[test]
fn a_clause_taken_out_of_the_per_worker_rules_is_missed() {
    let quiet = Setting { lost: false, ..small(Mode::PerWorker) };
    for (rules, without) in [
        (small(Mode::PerWorker), vec![Clause::DriftMargin]),
        (small(Mode::PerWorker), vec![Clause::FullWatch]),
        (quiet, vec![Clause::Fence, Clause::LapseIsFinal]),
    ] {
        let rules = Setting { without, ..rules };
        assert_eq!(found(&rules), Some(Broken::TwoOwners), "without {:?}", rules.without);
    }
}
