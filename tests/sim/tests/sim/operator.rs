//! What an operator does to leases of workers that show their life by items of their own.

use std::sync::Arc;
use std::time::Duration;

use kcl_core::{
    Admin, Checkpoint, EventKind, KeyForm, Lease, LeaseKey, LeaseLost, LeaseTable, LeaseWrite, Liveness, RewindTo,
    ShardId,
};
use sim::fleet::{Fleet, Member, Setup};
use sim::world::Workload;
use sim::{Event, Handle, seeds};

const SECOND: Duration = Duration::from_secs(1);

fn admin(fleet: &Fleet) -> Admin {
    Admin::new(Arc::new(fleet.leases.clone()), fleet.sim.rt())
}

fn key(fleet: &Fleet, shard: &ShardId) -> LeaseKey {
    LeaseKey::of(KeyForm::Qualified, &fleet.stream, shard)
}

fn roots(fleet: &Fleet) -> Vec<ShardId> {
    let views = fleet.service.shards(&fleet.stream);
    views.iter().filter(|view| view.shard.parent.is_none()).map(|view| view.shard.id.clone()).collect()
}

fn children(fleet: &Fleet, parent: &ShardId) -> Vec<ShardId> {
    let views = fleet.service.shards(&fleet.stream);
    views.iter().filter(|view| view.shard.parent.as_ref() == Some(parent)).map(|view| view.shard.id.clone()).collect()
}

fn keep_writing(sim: &Handle, fleet: &Fleet, time: Duration) {
    let workload = Workload { keys: 100, every: SECOND / 20, until: sim.now() + time };
    let _writer = workload.start(sim, &fleet.service, &fleet.table);
}

fn lost(worker: &Member, why: LeaseLost) -> usize {
    worker.events.count(|event| matches!(event, EventKind::LeaseLost { why: told, .. } if *told == why))
}

/// A fleet that has read what there was, and is idle.
async fn idle(sim: &Handle) -> (Fleet, [Member; 2]) {
    let fleet = Setup::new(4).under(Liveness::PerWorker).build(sim);
    let workers = ["a", "b"].map(|name| fleet.join(name));
    fleet.write(200, 100);
    sim.sleep(70 * SECOND).await;
    (fleet, workers)
}

async fn wrote(fleet: &Fleet, lease: &Lease, write: LeaseWrite) {
    fleet.leases.write(&lease.key, &lease.guard(), &write).await.expect("as it was seen");
}

#[test]
fn a_release_that_was_never_finished_lets_an_idle_shard_go_all_the_same() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let (fleet, [a, b]) = idle(&sim).await;
            let shard = a.owned()[0].clone();
            let to = b.handle().and_then(|handle| handle.status().worker).expect("joined");
            // The operator's process died before it came to the worker's item.
            let lease = fleet.lease(&shard).expect("there");
            wrote(&fleet, &lease, LeaseWrite::evict(to.owner())).await;
            sim.sleep(30 * SECOND).await;
            let after = fleet.lease(&shard).expect("there");
            assert!(!after.evicted && after.owner.is_some() && after.owner != lease.owner, "seed {seed}: {after:?}");
            assert_eq!(lost(&a, LeaseLost::Evicted), 1, "seed {seed}");
            fleet.write(100, 100);
            let verdict = fleet.drained(60 * SECOND).await;
            assert_eq!(verdict.repeated, 0, "seed {seed}");
        });
    }
}

#[test]
fn a_rewind_that_was_never_finished_is_read_again_although_its_shard_is_idle() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let (fleet, _workers) = idle(&sim).await;
            let shard = roots(&fleet)[0].clone();
            let lease = fleet.lease(&shard).expect("there");
            wrote(&fleet, &lease, LeaseWrite::rewind(Checkpoint::TrimHorizon, lease.owner.clone())).await;
            sim.sleep(30 * SECOND).await;
            assert_eq!(fleet.lease(&shard).expect("there").checkpoint, lease.checkpoint, "seed {seed}");
        });
    }
}

#[test]
fn a_rewound_parent_waits_until_every_worker_that_reads_what_continues_it_is_gone() {
    for seed in seeds(40) {
        sim::run(seed, |sim| async move {
            // Owners whose writes come seldom learn of the rewind by nothing but their own items.
            let fleet = Setup::new(1).under(Liveness::PerWorker);
            let fleet = fleet.configure(|config| config.with_checkpoint_every(30 * SECOND)).build(&sim);
            let _workers = ["a", "b", "c"].map(|name| fleet.join(name));
            fleet.write(200, 100);
            sim.sleep(20 * SECOND).await;
            let root = roots(&fleet)[0].clone();
            fleet.service.split(&fleet.stream, &root).expect("open");
            keep_writing(&sim, &fleet, 120 * SECOND);
            sim.sleep(70 * SECOND + SECOND * (seed as u32) / 7).await;
            let cut = fleet.history.entries().len();
            admin(&fleet).rewind(&key(&fleet, &root), RewindTo::TrimHorizon).await.expect("rewound");
            sim.sleep(120 * SECOND).await;
            let entries = &fleet.history.entries()[cut..];
            let begins = entries.iter().position(|e| e.shard == root && e.event == Event::Opened).expect("again");
            let ends = |e: &sim::Entry| e.shard == root && e.event == Event::Recorded(Checkpoint::ShardEnd);
            let ends = entries.iter().position(ends).expect("finished again");
            let young = children(&fleet, &root);
            let read = entries[begins..ends]
                .iter()
                .filter(|e| young.contains(&e.shard))
                .find(|e| matches!(e.event, Event::Delivered(_) | Event::Opened));
            assert!(read.is_none(), "seed {seed}: {read:?}");
        });
    }
}
