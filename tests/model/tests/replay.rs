//! The model's table is the engine's: random walks of the model, each write of which is made on the in-process lease table too.

use std::collections::BTreeSet;

use futures::FutureExt as _;
use kcl_core::reference::MemoryLeaseTable;
use kcl_core::{
    Checkpoint, KeyForm, Lease, LeaseCounter, LeaseError, LeaseErrorKind, LeaseGuard, LeaseKey, LeaseTable, LeaseWrite,
    NewLease, Owner, StreamArn, TableItem, WorkerId, WorkerItem, WorkerState,
};
use ownership_model::catalogue::{lease, moving, worker};
use ownership_model::moves::Moves;
use ownership_model::rules::{Clause, Mode, Setting};
use ownership_model::search::start;
use ownership_model::state::{ItemState, Kind, NAMES, NOBODY, SHARD_END, State, Write};

fn stream() -> StreamArn {
    "arn:aws:dynamodb:r:123456789012:table/t/stream/l".parse().expect("legal")
}

fn key(lease: usize) -> LeaseKey {
    LeaseKey::of(KeyForm::Bare, &stream(), &format!("shard-{lease}").parse().expect("legal"))
}

fn id(name: u8) -> WorkerId {
    format!("w{}/{:016x}", name / 2, name % 2).parse().expect("legal")
}

fn owner(name: u8) -> Option<Owner> {
    (name != NOBODY).then(|| id(name).owner())
}

fn checkpoint(position: u8) -> Checkpoint {
    match position {
        0 => Checkpoint::TrimHorizon,
        SHARD_END => Checkpoint::ShardEnd,
        n => Checkpoint::Sequence(format!("{:021}", 100_000 + u32::from(n)).parse().expect("legal")),
    }
}

fn new_lease(lease: usize, by: u8) -> NewLease {
    NewLease {
        key: key(lease),
        stream: stream(),
        shard: format!("shard-{lease}").parse().expect("legal"),
        owner: owner(by),
        parent: None,
        starting_sequence: None,
        start_at: None,
        root: lease == 0,
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
fn make(rules: &Setting, table: &MemoryLeaseTable, m: &Write) -> Result<(), LeaseError> {
    let on = usize::from(m.on);
    if m.is_on_lease() {
        let seen = LeaseGuard { counter: LeaseCounter(m.counter.into()), owner: owner(m.owner) };
        let write = match m.kind {
            Kind::CreateLease => return now(table.create(&new_lease(on, NOBODY))).map(drop),
            Kind::DeleteLease => return now(table.delete(&key(on), &seen)),
            Kind::Finish => {
                let born = if on == 0 { rules.children - usize::from(rules.hidden) } else { 0 };
                let children: Vec<NewLease> = (1..=born).map(|child| new_lease(child, m.by)).collect();
                return now(table.finish(&key(on), &seen, &children)).map(drop);
            }
            Kind::Take => LeaseWrite::take(id(m.by).owner()),
            Kind::Release => LeaseWrite::release(owner(m.intended)).with_checkpoint(Some(checkpoint(m.checkpoint))),
            Kind::EvictLease => LeaseWrite::evict(id(m.intended).owner()),
            _ => LeaseWrite::renew().with_checkpoint(Some(checkpoint(m.checkpoint))),
        };
        return now(table.write(&key(on), &seen, &write)).map(drop);
    }
    // A version has one state: every change of it moves the counter.
    let counter = LeaseCounter(m.counter.into());
    let same = items(table).into_iter().find(|item| item.id == id(m.on) && item.counter == counter);
    let state = match m.kind {
        Kind::Beat | Kind::Adopt | Kind::EvictWorker => WorkerState::Live,
        _ => same.map_or(WorkerState::Live, |item| item.state),
    };
    let seen = WorkerItem { id: id(m.on), counter, state, weight: 100 };
    match m.kind {
        Kind::Register => now(table.register_worker(&seen.id, 100)).map(drop),
        Kind::DeleteWorker => now(table.delete_worker(&seen)),
        Kind::Fence => now(table.write_worker(&seen, WorkerState::Fenced)).map(drop),
        Kind::EvictWorker => now(table.write_worker(&seen, WorkerState::Evicted)).map(drop),
        _ => now(table.write_worker(&seen, WorkerState::Live)).map(drop),
    }
}

/// What the model says that the table holds.
fn said(rules: &Setting, s: &State) -> (Vec<Lease>, Vec<WorkerItem>) {
    let lease = |n: usize| {
        let was = s.leases[n];
        let mut lease = new_lease(n, was.owner).created();
        lease.counter = LeaseCounter(was.counter.into());
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

/// One walk. Returns how many writes were applied and refused.
fn walk(rules: &Setting, seed: u64) -> (usize, usize) {
    let mut s = start(rules);
    let table = MemoryLeaseTable::new();
    let (leases, workers) = said(rules, &s);
    leases.into_iter().for_each(|lease| table.put_lease(lease));
    workers.iter().for_each(|item| drop(now(table.register_worker(&item.id, 100)).expect("joined")));
    let (mut applied, mut refused) = (0, 0);
    let mut draw = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for n in 0..300 {
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        let steps = Moves::of(rules, &s).out;
        // Faults are many: they are taken seldom, or nothing else would happen.
        let calm = steps.iter().filter(|(step, _)| !step.fault).count();
        let faults = calm == 0 || draw >> 60 == 0;
        let open: Vec<_> = steps.into_iter().filter(|(step, _)| step.fault == faults || calm == 0).collect();
        let Some((step, next)) = open.get((draw >> 8) as usize % open.len().max(1)) else { continue };
        if let Some((m, accepted)) = step.wrote {
            let made = make(rules, &table, &m);
            let conflict = made.as_ref().is_err_and(|error| matches!(error.kind(), LeaseErrorKind::Conflict { .. }));
            assert!(made.is_ok() == accepted && conflict != accepted, "seed {seed}, step {n}: {step}: {m:?}: {made:?}");
            *(if accepted { &mut applied } else { &mut refused }) += 1;
        }
        s = *next;
        assert_eq!(held(&table), said(rules, &s), "seed {seed}, after step {n}: {step}");
    }
    (applied, refused)
}

#[test]
fn the_table_of_the_model_does_what_the_lease_table_does() {
    let counted = |rules: Setting| Setting { count_to: Some(200), ..rules };
    let settings = [
        counted(Setting { children: 2, ..lease() }),
        counted(Setting { children: 2, hidden: true, slow: false, loose: 3, ..lease() }),
        counted(Setting { workers: 3, records: 2, ..lease() }),
        counted(Setting { children: 1, slow: true, crash: true, ..worker() }),
        counted(Setting { children: 1, moves: true, crash: true, loose: 3, ..worker() }),
        counted(Setting { workers: 3, lost: true, ..moving() }),
    ];
    assert!(settings.iter().any(|rules| rules.mode == Mode::PerWorker));
    for rules in settings {
        let (mut applied, mut refused) = (0, 0);
        for seed in 1..60 {
            let (a, r) = walk(&rules, seed);
            (applied, refused) = (applied + a, refused + r);
        }
        assert!(applied > 1000 && refused > 10, "{:?} {}: {applied} {refused}", rules.mode, rules.bounds());
    }
}

#[test]
#[should_panic(expected = "Conflict")]
fn a_model_whose_table_takes_old_counters_is_found_out() {
    let rules = Setting { count_to: Some(200), without: vec![Clause::GuardCounter], ..lease() };
    let applied: usize = (1..60).map(|seed| walk(&rules, seed).0).sum();
    assert_eq!(applied, 0, "no walk met an old counter");
}
