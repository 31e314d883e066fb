//! The model's table is the engine's: random walks of the model, each write of which is made on the in-process lease table too.

use std::collections::BTreeSet;

use futures::FutureExt as _;
use kcl_core::reference::MemoryLeaseTable;
use kcl_core::{
    Checkpoint, Lease, LeaseCounter, LeaseError, LeaseErrorKind, LeaseGuard, LeaseTable, LeaseWrite, NewLease,
    TableItem, WorkerItem, WorkerState,
};
use ownership_model::catalogue::{lease, moving, worker};
use ownership_model::moves::Moves;
use ownership_model::rules::{Clause, Setting};
use ownership_model::search::start;
use ownership_model::state::{ItemState, Kind, NAMES, SHARD_END, State, Write};
use ownership_model::workers::{Answer, Looks, Plant, Table, Taken, Tally, Workers, id, key, new_lease, owner};

fn checkpoint(position: u8) -> Checkpoint {
    match position {
        0 => Checkpoint::TrimHorizon,
        SHARD_END => Checkpoint::ShardEnd,
        n => Checkpoint::Sequence(format!("{:021}", 100_000 + u32::from(n)).parse().expect("legal")),
    }
}

/// Answers at once: every call of the table in memory is one step.
fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("one step")
}

fn items(table: &MemoryLeaseTable) -> Vec<WorkerItem> {
    let worker = |item| if let TableItem::Worker(worker) = item { Some(worker) } else { None };
    table.snapshot().into_iter().filter_map(worker).collect()
}

/// Makes the write on the table.
fn make(rules: &Setting, table: &MemoryLeaseTable, m: &Write, next: &State) -> Result<Answer, LeaseError> {
    let on = usize::from(m.on);
    let one = |lease: Lease| Answer { leases: vec![lease], worker: None };
    if m.is_on_lease() {
        let seen = LeaseGuard { counter: LeaseCounter(m.counter.into()), owner: owner(m.owner) };
        let write = match m.kind {
            Kind::CreateLease => return now(table.create(&new_lease(on, None, next.leases[on].counter))).map(one),
            Kind::DeleteLease => return now(table.delete(&key(on), &seen)).map(|()| Answer::default()),
            Kind::Finish => {
                let born = if on == 0 { rules.children - usize::from(rules.hidden) } else { 0 };
                let children: Vec<NewLease> =
                    (1..=born).map(|child| new_lease(child, owner(m.by), next.leases[child].counter)).collect();
                let made = now(table.finish(&key(on), &seen, &children));
                return made.map(|leases| Answer { leases, worker: None });
            }
            Kind::Take => LeaseWrite::take(id(m.by).owner()),
            Kind::Release => LeaseWrite::release(owner(m.intended)).with_checkpoint(Some(checkpoint(m.checkpoint))),
            Kind::EvictLease => LeaseWrite::evict(id(m.intended).owner()),
            _ => LeaseWrite::renew().with_checkpoint(Some(checkpoint(m.checkpoint))),
        };
        return now(table.write(&key(on), &seen, &write)).map(one);
    }
    // A version has one state: every change of it moves the counter.
    let counter = LeaseCounter(m.counter.into());
    let same = items(table).into_iter().find(|item| item.id == id(m.on) && item.counter == counter);
    let state = match m.kind {
        Kind::Beat | Kind::Adopt | Kind::EvictWorker => WorkerState::Live,
        _ => same.map_or(WorkerState::Live, |item| item.state),
    };
    let seen = WorkerItem { id: id(m.on), counter, state, weight: 100 };
    let state = match m.kind {
        Kind::Register => return now(table.register_worker(&seen.id, 100)).map(known),
        Kind::DeleteWorker => return now(table.delete_worker(&seen)).map(|()| Answer::default()),
        Kind::Fence => WorkerState::Fenced,
        Kind::EvictWorker => WorkerState::Evicted,
        _ => WorkerState::Live,
    };
    now(table.write_worker(&seen, state)).map(known)
}

fn known(worker: WorkerItem) -> Answer {
    Answer { leases: Vec::new(), worker: Some(worker) }
}

/// What the model says that the table holds.
fn said(rules: &Setting, s: &State) -> (Vec<Lease>, Vec<WorkerItem>) {
    let lease = |n: usize| {
        let was = s.leases[n];
        let mut lease = new_lease(n, owner(was.owner), was.counter).created();
        lease.checkpoint = checkpoint(was.checkpoint);
        lease.intended_for = owner(was.intended);
        lease.evicted = was.evicted;
        was.exists.then_some(lease)
    };
    let item = |n: usize| {
        let was = s.items[n];
        let state = match was.state {
            ItemState::Absent => return None,
            ItemState::Live => WorkerState::Live,
            ItemState::Evicted => WorkerState::Evicted,
            ItemState::Fenced => WorkerState::Fenced,
        };
        Some(WorkerItem { id: id(n as u8), counter: LeaseCounter(was.counter.into()), state, weight: 100 })
    };
    ((0..=rules.children).filter_map(lease).collect(), (0..NAMES).filter_map(item).collect())
}

/// What it holds, less what the model leaves out.
fn held(table: &MemoryLeaseTable) -> (Vec<Lease>, Vec<WorkerItem>) {
    let plain = |lease: Lease| {
        let mut plain = lease;
        plain.owner_switches = 0;
        plain.children = BTreeSet::new();
        plain
    };
    (table.leases().into_iter().map(plain).collect(), items(table))
}

/// One walk. Returns how many writes were applied and refused, and what the engine's policy decided.
///
/// # Errors
/// The engine's policy decided what the model does not allow, or did not decide what it had to.
fn walk(rules: &Setting, seed: u64, looks: Looks, plant: Option<Plant>) -> Result<(usize, usize, Tally), String> {
    let mut s = start(rules);
    let table = MemoryLeaseTable::new();
    let (leases, workers) = said(rules, &s);
    leases.into_iter().for_each(|lease| table.put_lease(lease));
    workers.iter().for_each(|item| drop(now(table.register_worker(&item.id, 100)).expect("joined")));
    let mut engine = Workers::new(rules, &s, Table { leases: &table.leases(), workers: &items(&table) }, looks, plant);
    let (mut applied, mut refused) = (0, 0);
    let mut draw = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut steps = Moves::of(rules, &s).out;
    let mut way = Vec::new();
    for n in 0..300 {
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        // Faults are many: they are taken seldom, or nothing else would happen.
        let calm = steps.iter().filter(|(step, _)| !step.fault).count();
        let faults = calm == 0 || draw >> 60 == 0;
        let open: Vec<_> = steps.iter().filter(|(step, _)| step.fault == faults || calm == 0).collect();
        let Some((step, next)) = open.get((draw >> 8) as usize % open.len().max(1)) else { continue };
        let mut answer = Answer::default();
        if let Some((m, accepted)) = step.wrote {
            let made = make(rules, &table, &m, next);
            let conflict = made.as_ref().is_err_and(|error| matches!(error.kind(), LeaseErrorKind::Conflict { .. }));
            assert!(made.is_ok() == accepted && conflict != accepted, "seed {seed}, step {n}: {step}: {m:?}: {made:?}");
            *(if accepted { &mut applied } else { &mut refused }) += 1;
            answer = made.unwrap_or_default();
        }
        assert_eq!(held(&table), said(rules, next), "seed {seed}, after step {n}: {step}");
        way.push(step.to_string());
        let after = Moves::of(rules, next).out;
        let seen = Table { leases: &table.leases(), workers: &items(&table) };
        let taken = Taken { step, from: &s, to: next, open: &after, table: seen };
        let followed = engine.follow(&taken, answer);
        followed.map_err(|why| format!("seed {seed}, after step {n}: {why}\n{}\n{step:?}", way.join("\n")))?;
        (s, steps) = (*next, after);
    }
    Ok((applied, refused, engine.tally))
}

fn settings() -> [Setting; 9] {
    let counted = |rules: Setting| Setting { count_to: Some(200), ..rules };
    [
        counted(Setting { children: 2, ..lease() }),
        counted(Setting { children: 2, hidden: true, slow: false, loose: 3, ..lease() }),
        counted(Setting { workers: 3, records: 2, ..lease() }),
        counted(Setting { d: 3, suspend: true, ..lease() }),
        counted(Setting { children: 1, child_exists: true, ..lease() }),
        counted(Setting { children: 1, slow: true, crash: true, ..worker() }),
        counted(Setting { children: 1, moves: true, crash: true, loose: 3, ..worker() }),
        counted(Setting { workers: 3, lost: true, ..moving() }),
        counted(Setting { d: 3, slow: true, suspend: true, lost: true, ..moving() }),
    ]
}

/// `WALKS` sets how many walks each setting gets.
fn seeds() -> u64 {
    std::env::var("WALKS").ok().and_then(|walks| walks.parse().ok()).unwrap_or(40)
}

/// The walks of one setting.
fn walks(rules: &Setting, looks: Looks) -> Tally {
    let (mut applied, mut refused, mut tally) = (0, 0, Tally::default());
    for seed in 1..seeds() {
        let (a, r, t) = walk(rules, seed, looks, None).unwrap_or_else(|why| panic!("{}: {why}", rules.bounds()));
        (applied, refused) = (applied + a, refused + r);
        tally.add(&t);
    }
    println!("{:?} {}: {applied} applied, {refused} refused, {tally:?}", rules.mode, rules.bounds());
    assert!(applied > 500 && refused > 10, "{:?} {}: {applied} {refused}", rules.mode, rules.bounds());
    tally
}

#[test]
fn walks_of_the_model_are_walks_of_the_lease_table_and_of_the_engines_policy() {
    let mut all = Tally::default();
    settings().iter().for_each(|rules| all.add(&walks(rules, Looks::Fresh)));
    assert_eq!(all.stricter, 0, "what is valid in the model is valid in the engine");
    let Tally { valid, found, takes, expired, own, moves, farewells, .. } = all;
    let least = [valid, found, takes, expired, own, moves, farewells].into_iter().min();
    assert!(least > Some(100), "{all:?}");
}

#[test]
fn what_the_engine_decides_on_stale_scans_is_refused_by_the_table_or_allowed_by_the_model() {
    let mut all = Tally::default();
    settings()
        .map(|rules| Setting { stale: true, ..rules })
        .iter()
        .for_each(|rules| all.add(&walks(rules, Looks::Stale)));
    assert!([all.takes, all.own, all.farewells].into_iter().min() > Some(100), "{all:?}");
}

#[test]
fn a_bug_in_the_engines_policy_leads_a_walk_away_from_the_model() {
    for (plant, looks) in Plant::ALL {
        let settings = settings().map(|rules| Setting { stale: *looks == Looks::Stale, ..rules });
        let found = |rules: &Setting| (1..40).any(|seed| walk(rules, seed, *looks, Some(*plant)).is_err());
        assert!(settings.iter().any(found), "{plant:?} was not found");
    }
}

#[test]
#[should_panic(expected = "Conflict")]
fn a_model_whose_table_takes_old_counters_is_found_out() {
    let rules = Setting { count_to: Some(200), without: vec![Clause::GuardCounter], ..lease() };
    let applied: usize =
        (1..60).map(|seed| walk(&rules, seed, Looks::Fresh, None).map_or(0, |(applied, ..)| applied)).sum();
    assert_eq!(applied, 0, "no walk met an old counter");
}
