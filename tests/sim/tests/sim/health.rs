//! What a worker says of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kcl_core::wrap::{LeaseFault, LeaseOperation};
use kcl_core::{Admin, Health, HealthReason, KeyForm, LeaseKey, Phase, Resume, ShardState, StopReason, WorkerStatus};
use sim::fleet::{Member, Setup};
use sim::seeds;

const SECOND: Duration = Duration::from_secs(1);

fn status(worker: &Member) -> WorkerStatus {
    worker.handle().expect("built").status()
}

fn health(worker: &Member) -> Health {
    status(worker).health()
}

#[test]
fn a_worker_is_ready_soon_after_its_start_and_stays_so_while_nothing_happens() {
    sim::run(1, |sim| async move {
        let fleet = Setup::new(3).build(&sim);
        let worker = fleet.join("a");
        sim.sleep(2 * SECOND).await;
        assert!(health(&worker).ready, "{:?}", health(&worker));
        for _ in 0..600 {
            sim.sleep(SECOND).await;
            let now = status(&worker);
            assert!(now.turned_ago <= 4 * SECOND && now.health().ready, "{now:?}");
        }
        let handle = worker.handle().expect("built");
        worker.stop().await;
        assert_eq!(handle.status().phase, Phase::Ended);
        assert!(!handle.status().health().live);
    });
}

#[test]
fn a_worker_that_does_not_see_the_table_is_live_and_not_ready_until_it_sees_it_again() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(3).build(&sim);
            let [a, b] = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(20 * SECOND).await;
            a.network.cut();
            for _ in 0..120 {
                sim.sleep(SECOND).await;
                assert!(health(&a).live, "seed {seed}: {:?}", status(&a));
            }
            let now = status(&a);
            assert!(!now.health().ready, "seed {seed}: {now:?}");
            let said = |reason: &HealthReason| {
                matches!(reason, HealthReason::TableOutOfSight { .. } | HealthReason::NotJoined)
            };
            assert!(now.health().reasons.iter().any(said), "seed {seed}: {now:?}");
            assert!(now.last_error.is_some_and(|error| error.ago < 60 * SECOND), "seed {seed}");
            assert!(health(&b).ready, "seed {seed}");
            a.network.mend();
            sim.sleep(60 * SECOND).await;
            assert!(health(&a).ready, "seed {seed}: {:?}", status(&a));
        });
    }
}

#[test]
fn every_worker_tells_what_waits_for_an_operator_and_what_for_a_parent() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(1).build(&sim);
            fleet.write(40, 10);
            let [a, b] = ["a", "b"].map(|name| fleet.join(name));
            fleet.drained(30 * SECOND).await;
            sim.sleep(10 * SECOND).await;
            let shard = fleet.service.open_shards(&fleet.stream)[0].clone();
            let owners = [&a, &b].into_iter().filter(|worker| worker.owned() == [shard.clone()]).count();
            assert_eq!(owners, 1, "seed {seed}");
            let child = fleet.service.roll(&fleet.stream, &shard).expect("open");
            sim.sleep(10 * SECOND).await;
            fleet.drained(30 * SECOND).await;

            // The parent is taken back, and found trimmed.
            let key = LeaseKey::of(KeyForm::Qualified, &fleet.stream, &shard);
            let first = fleet.truth().shards[&shard].written[0];
            fleet.service.trim_all(&fleet.stream, &shard).expect("there");
            let admin = Admin::new(Arc::new(fleet.leases.clone()), sim.rt());
            admin.rewind(&key, kcl_core::RewindTo::After(first)).await.expect("rewound");
            sim.sleep(60 * SECOND).await;
            for worker in [&a, &b] {
                let now = status(worker);
                assert_eq!((now.stopped.len(), now.blocked.len()), (1, 1), "seed {seed}: {now:?}");
                assert!(matches!(now.stopped[0].reason, StopReason::DataLost { .. }));
                assert_eq!((&now.stopped[0].shard, &now.blocked[0].shard), (&shard, &child));
                assert_eq!(now.blocked[0].parents, std::slice::from_ref(&shard));
                assert!(now.stopped[0].age > 30 * SECOND && now.blocked[0].age >= now.stopped[0].age, "{now:?}");
                assert!(now.health().ready, "no restart mends it");
            }
            admin.clear_stop(&key, Resume::SkipLost).await.expect("cleared");
            sim.sleep(60 * SECOND).await;
            let (a, b) = (status(&a), status(&b));
            assert_eq!(a.stopped.len() + b.stopped.len() + a.blocked.len() + b.blocked.len(), 0, "seed {seed}");
            let read = [&a, &b].into_iter().flat_map(|worker| &worker.shards).find(|one| one.shard == child);
            let read = read.expect("owned");
            assert_eq!(read.state, ShardState::Reading);
            assert!(read.epoch > 0 && read.owned_for <= 60 * SECOND, "seed {seed}: {read:?}");
        });
    }
}

#[test]
fn an_engine_that_stands_still_is_not_live() {
    sim::run(1, |sim| async move {
        let fleet = Setup::new(1).build(&sim);
        let worker = fleet.join("a");
        sim.sleep(20 * SECOND).await;
        worker.node.freeze(60 * SECOND);
        sim.sleep(40 * SECOND).await;
        let now = health(&worker);
        assert!(!now.live && matches!(now.reasons[0], HealthReason::Stalled { .. }), "{now:?}");
        sim.sleep(60 * SECOND).await;
        assert!(health(&worker).ready, "{:?}", status(&worker));
    });
}

#[test]
fn every_worker_of_a_large_fleet_stays_ready_though_it_looks_at_the_whole_table_rarely() {
    sim::run(1, |sim| async move {
        let fleet = Setup::new(20).configure(|config| config.with_observe_every(10 * SECOND)).build(&sim);
        let mut workers: Vec<Member> = (0..19).map(|n| fleet.join(&format!("w{n}"))).collect();
        let scans = Arc::new(AtomicBool::new(true));
        let may_scan = scans.clone();
        workers.push(fleet.join_by("w19", move |call| match call.operation {
            LeaseOperation::Scan if !may_scan.load(Ordering::Relaxed) => LeaseFault::Throttled,
            _ => LeaseFault::None,
        }));
        sim.sleep(300 * SECOND).await;
        for _ in 0..600 {
            sim.sleep(SECOND).await;
            let unwell = workers.iter().map(health).find(|health| !health.ready);
            assert_eq!(unwell, None, "at {:?}", sim.now());
        }
        workers[7].network.cut();
        sim.sleep(45 * SECOND).await;
        assert!(!health(&workers[7]).ready, "{:?}", status(&workers[7]));
        scans.store(false, Ordering::Relaxed);
        sim.sleep(180 * SECOND).await;
        assert!(!health(&workers[19]).ready, "{:?}", status(&workers[19]));
    });
}
