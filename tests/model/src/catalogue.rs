//! The searches of the table: each mode as it is, and with clauses taken out.

use crate::rules::{Clause, Mode, Setting};
use crate::search::{Broken, Found, search};

/// One search, and what it must find.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is searched.
    pub rules: Setting,
    /// What is taken out is missed by this property; by none if others stand in for it.
    pub expected: Option<Broken>,
    /// Why nothing is missed.
    pub why: &'static str,
}

/// How a case went.
#[derive(Debug)]
pub struct Outcome {
    /// What was found.
    pub found: Found,
    /// Whether it is what was expected: the broken property, or none to the end of the space.
    pub as_expected: bool,
}

impl Case {
    /// Searches.
    #[must_use]
    pub fn run(&self) -> Outcome {
        let found = search(&self.rules, true);
        let broken = found.broken.as_ref().map(|(broken, _)| *broken);
        let as_expected = broken == self.expected && (broken.is_some() || found.ended);
        Outcome { found, as_expected }
    }

    /// A line of the table, in Markdown.
    #[must_use]
    pub fn row(&self, outcome: &Outcome) -> String {
        let found = &outcome.found;
        let out: Vec<String> = self.rules.without.iter().map(|clause| format!("{clause:?}")).collect();
        let said = match (&found.broken, found.ended) {
            (Some((broken, way)), _) => format!("{broken}, after {} steps", way.len().saturating_sub(1)),
            (None, true) if self.why.is_empty() => "none, to the end".to_owned(),
            (None, true) => format!("none, to the end: {}", self.why),
            (None, false) => "NOT ENDED".to_owned(),
        };
        format!(
            "| {:?} | {} | {} | {said} | {} | {:.1} | {} |",
            self.rules.mode,
            out.join(" + "),
            self.rules.bounds(),
            found.states,
            found.took.as_secs_f64(),
            if outcome.as_expected { "yes" } else { "**NO**" }
        )
    }
}

fn small(mode: Mode) -> Setting {
    Setting { children: 0, suspend: false, moves: false, crash: false, ..Setting::new(mode) }
}

/// PerLease with crashes, hand-overs, evictions, late and lost writes.
#[must_use]
pub fn lease() -> Setting {
    Setting { moves: true, crash: true, ..small(Mode::PerLease) }
}

/// PerWorker with late and lost writes.
#[must_use]
pub fn worker() -> Setting {
    small(Mode::PerWorker)
}

/// PerWorker with crashes, hand-overs, evictions of workers and leaving, and no write late or lost.
#[must_use]
pub fn moving() -> Setting {
    Setting { moves: true, crash: true, lost: false, ..worker() }
}

fn intact(rules: Setting) -> Case {
    Case { rules, expected: None, why: "" }
}

fn without(mut rules: Setting, clauses: &[Clause], expected: Broken) -> Case {
    rules.without = clauses.to_vec();
    Case { rules, expected: Some(expected), why: "" }
}

fn spared(mut rules: Setting, clauses: &[Clause], why: &'static str) -> Case {
    rules.without = clauses.to_vec();
    Case { rules, expected: None, why }
}

/// The rules as they are.
#[must_use]
pub fn kept() -> Vec<Case> {
    let (lease, worker) = (lease(), worker());
    [
        lease.clone(),
        Setting { suspend: true, ..lease.clone() },
        Setting { children: 1, ..lease.clone() },
        Setting { children: 2, slow: false, ..lease.clone() },
        Setting { children: 2, slow: false, hidden: true, ..lease.clone() },
        Setting { workers: 3, ..lease.clone() },
        Setting { workers: 3, children: 1, slow: false, ..lease.clone() },
        Setting { d: 3, ..lease.clone() },
        Setting { loose: 2, ..lease.clone() },
        Setting { records: 2, ..lease.clone() },
        Setting { children: 1, child_exists: true, stale: true, ..lease.clone() },
        Setting { children: 1, moves: false, slow: false, count_to: Some(5), ..lease },
        worker.clone(),
        Setting { lost: false, ..worker.clone() },
        Setting { crash: true, ..worker.clone() },
        Setting { crash: true, joined: false, ..worker.clone() },
        Setting { crash: true, suspend: true, reduced: false, ..worker.clone() },
        Setting { crash: true, children: 1, ..worker.clone() },
        Setting { children: 1, child_exists: true, stale: true, ..worker.clone() },
        Setting { crash: true, stale: true, ..worker.clone() },
        Setting { crash: true, d: 3, ..worker.clone() },
        Setting { records: 2, ..worker.clone() },
        Setting { slow: true, lost: false, ..worker },
        moving(),
        Setting { suspend: true, reduced: false, children: 1, ..moving() },
        Setting { workers: 3, ..moving() },
    ]
    .into_iter()
    .map(intact)
    .collect()
}

/// PerLease with one clause out.
#[must_use]
pub fn lease_without() -> Vec<Case> {
    use Broken::{CheckpointWentBack, ChildBeforeParent, Orphan, TwoOwners};
    let all = lease();
    let family = |child_exists| Setting { children: 1, moves: false, child_exists, ..lease() };
    let hidden = Setting { children: 1, moves: false, hidden: true, ..lease() };
    let reuse = Setting { children: 1, moves: false, slow: false, count_to: Some(7), crash: false, ..lease() };
    vec![
        without(all.clone(), &[Clause::GuardCounter], CheckpointWentBack),
        without(all.clone(), &[Clause::GuardCheckpoint], CheckpointWentBack),
        without(all.clone(), &[Clause::DriftMargin], TwoOwners),
        without(all.clone(), &[Clause::ValidFromSend], TwoOwners),
        without(Setting { suspend: true, moves: false, ..all.clone() }, &[Clause::SuspendCheck], TwoOwners),
        without(all.clone(), &[Clause::FullWatch], TwoOwners),
        without(all.clone(), &[Clause::EvictedIsWatched], TwoOwners),
        without(all.clone(), &[Clause::ClaimDeadline], Orphan),
        without(all.clone(), &[Clause::OwnTakenByWrite], TwoOwners),
        without(all.clone(), &[Clause::ReadGivesNoValidity], TwoOwners),
        without(all.clone(), &[Clause::ReleaseStopsFirst], TwoOwners),
        without(family(false), &[Clause::ChildrenFromSend], TwoOwners),
        without(family(false), &[Clause::FinishIsAtomic], ChildBeforeParent),
        without(family(true), &[Clause::ParentGate], ChildBeforeParent),
        without(Setting { stale: true, ..family(true) }, &[Clause::ParentIsRead], ChildBeforeParent),
        without(hidden, &[Clause::ChildrenMended], Orphan),
        without(reuse.clone(), &[Clause::TombstoneStands], TwoOwners),
        without(reuse.clone(), &[Clause::FreshCounter, Clause::NotCreatedAgain], TwoOwners),
        spared(reuse.clone(), &[Clause::FreshCounter], "nothing old is awaited when a lease is created again"),
        spared(reuse, &[Clause::NotCreatedAgain], "nothing old names a counter that was never had"),
        spared(
            all.clone(),
            &[Clause::LapseIsFinal],
            "a watcher takes by a write, and the guard then refuses the late renewal",
        ),
        spared(all, &[Clause::OwnTakenUp], "such a lease expires like any other"),
    ]
}

/// PerWorker with one clause out, or with the two that stand in for each other.
#[must_use]
pub fn worker_without() -> Vec<Case> {
    use Broken::{CheckpointWentBack, ChildBeforeParent, Orphan, TwoOwners};
    let (all, moving) = (worker(), moving());
    let slow = Setting { slow: true, lost: false, ..worker() };
    let two = Setting { records: 2, ..worker() };
    let family = |child_exists| Setting { children: 1, child_exists, ..worker() };
    let hidden = Setting { children: 1, hidden: true, ..worker() };
    let prompt = Setting { late_registration: false, ..worker() };
    let told = "one heartbeat carries all leases: no lease has a validity of its own";
    vec![
        without(two.clone(), &[Clause::GuardCounter], CheckpointWentBack),
        without(two, &[Clause::GuardCheckpoint], CheckpointWentBack),
        without(all.clone(), &[Clause::DriftMargin], TwoOwners),
        without(slow.clone(), &[Clause::ValidFromSend], TwoOwners),
        without(Setting { suspend: true, ..all.clone() }, &[Clause::SuspendCheck], TwoOwners),
        without(all.clone(), &[Clause::FullWatch], TwoOwners),
        without(moving.clone(), &[Clause::EvictedIsWatched], TwoOwners),
        without(moving.clone(), &[Clause::ClaimDeadline], Orphan),
        without(all.clone(), &[Clause::ReadGivesNoValidity], TwoOwners),
        without(Setting { moves: true, ..slow.clone() }, &[Clause::ReleaseStopsFirst], TwoOwners),
        without(family(false), &[Clause::FinishIsAtomic], ChildBeforeParent),
        without(family(true), &[Clause::ParentGate], ChildBeforeParent),
        without(Setting { stale: true, ..family(true) }, &[Clause::ParentIsRead], ChildBeforeParent),
        without(hidden, &[Clause::ChildrenMended], Orphan),
        without(all.clone(), &[Clause::JudgedAfter], TwoOwners),
        without(all.clone(), &[Clause::DeleteFencedOnly], TwoOwners),
        without(moving.clone(), &[Clause::LeaveLast], TwoOwners),
        without(all.clone(), &[Clause::RegisterFirst], TwoOwners),
        without(all.clone(), &[Clause::Fence, Clause::LapseIsFinal], TwoOwners),
        without(moving.clone(), &[Clause::BeatNeedsLive, Clause::LapseIsFinal], TwoOwners),
        without(all.clone(), &[Clause::LapseIsFinal], TwoOwners),
        spared(prompt, &[Clause::LapseIsFinal], "with no registration late, the fence refuses the late heartbeat"),
        spared(Setting { crash: true, ..all.clone() }, &[Clause::Fence], "who fell silent has dropped all"),
        spared(moving, &[Clause::BeatNeedsLive], "only that an eviction is heeded hangs on it"),
        spared(
            Setting { crash: true, ..all.clone() },
            &[Clause::RegisterFindsLive],
            "a new incarnation holds nothing yet",
        ),
        spared(Setting { slow: true, children: 1, ..slow }, &[Clause::ChildrenFromSend], told),
        spared(Setting { crash: true, ..all.clone() }, &[Clause::OwnTakenByWrite], told),
        without(all, &[Clause::OwnTakenUp], Orphan),
    ]
}
