//! PerWorker liveness, clause by clause, and the mark that keeps workers of the two modes apart.

use std::sync::Arc;
use std::time::Duration;

use kcl_core::wrap::LeaseOperation;
use kcl_core::{
    Admin, AdminError, BuildError, EventKind, LeaseErrorKind, LeaseTable, Liveness, TableItem, Worker, WorkerItem,
    WorkerState,
};
use sim::fleet::{Fleet, Member, Setup, Weather};
use sim::world::{Conduct, Workload};
use sim::{Handle, in_both_modes, seeds};

const SECOND: Duration = Duration::from_secs(1);
const D: Duration = Duration::from_secs(10);

fn per_worker(shards: usize) -> Setup {
    Setup::new(shards).under(Liveness::PerWorker)
}

fn keep_writing(sim: &Handle, fleet: &Fleet, time: Duration) {
    let workload = Workload { keys: 100, every: SECOND / 10, until: sim.now() + time };
    let _writer = workload.start(sim, &fleet.service, &fleet.table);
}

fn workers(fleet: &Fleet) -> Vec<WorkerItem> {
    let items = fleet.leases.snapshot().into_iter();
    items.filter_map(|item| if let TableItem::Worker(worker) = item { Some(worker) } else { None }).collect()
}

fn admin(sim: &Handle, fleet: &Fleet) -> Admin {
    // What it does is seen by those who judge the run.
    Admin::new(Arc::new(fleet.counted.clone()), sim.rt())
}

#[test]
fn idle_leases_are_not_written_and_busy_ones_only_for_checkpoints() {
    sim::run(1, |sim| async move {
        let fleet = per_worker(8).build(&sim);
        let [_a, _b] = ["a", "b"].map(|name| fleet.join(name));
        sim.sleep(100 * SECOND).await;
        let before = fleet.leases.leases();
        let _so_far = fleet.counted.take_counts();
        sim.sleep(600 * SECOND).await;
        assert_eq!(fleet.leases.leases(), before);
        let counts = fleet.counted.take_counts();
        assert_eq!((counts.of(LeaseOperation::Write), counts.writes()), (0, 2 * 180));
        fleet.write(1, 1);
        sim.sleep(20 * SECOND).await;
        assert_eq!(fleet.counted.take_counts().of(LeaseOperation::Write), 1);
    });
}

#[test]
fn a_lease_of_a_live_worker_is_left_to_it_however_long_its_counter_stands_still() {
    for seed in seeds(5) {
        sim::run(seed, |sim| async move {
            let fleet = per_worker(4).build(&sim);
            let pair = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(70 * SECOND).await;
            let before = pair.each_ref().map(Member::owned);
            sim.sleep(20 * D).await;
            let acquired = |event: &EventKind| matches!(event, EventKind::LeaseAcquired { .. });
            assert_eq!(pair.each_ref().map(Member::owned), before, "seed {seed}");
            assert!(pair.iter().map(|worker| worker.events.count(acquired)).sum::<usize>() <= 6, "seed {seed}");
        });
    }
}

#[test]
fn an_evicted_worker_drops_everything_and_comes_back_and_its_shards_wait_until_it_is_fenced_or_gone() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let conduct = Conduct { per_batch: SECOND / 2, ..Conduct::default() };
            let fleet = Setup { conduct, ..per_worker(4) }.build(&sim);
            let pair = ["a", "b"].map(|name| fleet.join(name));
            keep_writing(&sim, &fleet, 200 * SECOND);
            sim.sleep(70 * SECOND + SECOND * (seed as u32) / 3).await;
            let first = pair[0].handle().expect("built").status().worker.expect("joined");
            admin(&sim, &fleet).evict_worker(&first).await.expect("evicted");
            sim.sleep(3 * D).await;
            let second = pair[0].handle().expect("built").status().worker.expect("joined");
            assert_ne!(first, second, "seed {seed}");
            assert!(workers(&fleet).iter().all(|worker| worker.id != first), "seed {seed}");
            sim.sleep(9 * D).await;
            // No call of one worker ends after another was opened: judged here.
            fleet.drained(100 * SECOND).await;
            assert_eq!(pair.each_ref().map(|worker| worker.owned().len()), [2, 2], "seed {seed}");
        });
    }
}

#[test]
fn a_worker_that_cannot_show_its_life_stops_before_it_is_fenced_though_its_leases_can_be_written() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = per_worker(4).build(&sim);
            let [a, b] = ["a", "b"].map(|name| fleet.join(name));
            keep_writing(&sim, &fleet, 150 * SECOND);
            sim.sleep(70 * SECOND).await;
            // All of its calls reach the table; no answer comes back.
            a.network.set(Weather { reply_lost: 1, ..Weather::default() });
            sim.sleep(5 * D).await;
            assert_eq!((a.owned().len(), b.owned().len()), (0, 4), "seed {seed}");
            a.network.mend();
            fleet.drained(200 * SECOND).await;
        });
    }
}

#[test]
fn a_registration_that_is_applied_late_is_nobody() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = per_worker(4).build(&sim);
            let b = fleet.join("b");
            sim.sleep(20 * SECOND).await;
            let ghost = kcl_core::WorkerId::new("ghost", seed).expect("legal");
            let _item = fleet.leases.register_worker(&ghost, 100).await.expect("registered");
            sim.sleep(5 * SECOND).await;
            assert_eq!(b.owned().len(), 4, "seed {seed}");
            sim.sleep(2 * D).await;
            assert_eq!(workers(&fleet).len(), 1, "seed {seed}: it was seen off");
            let released = |event: &EventKind| matches!(event, EventKind::LeaseReleased { .. });
            assert_eq!(b.events.count(released), 0, "seed {seed}");
        });
    }
}

#[test]
fn a_fenced_worker_is_forgotten_once_no_lease_names_it() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = per_worker(6).build(&sim);
            let [a, _b] = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(70 * SECOND).await;
            let dead = a.handle().expect("built").status().worker.expect("joined");
            a.crash();
            // While it is there and a lease names it, it is live or fenced; then it is gone.
            for _ in 0..250 {
                sim.sleep(SECOND / 10).await;
                let named = fleet.leases.leases().iter().any(|lease| lease.owner == Some(dead.owner()));
                let item = workers(&fleet).into_iter().find(|worker| worker.id == dead);
                assert!(item.is_some() || !named, "seed {seed}");
                assert!(item.is_none_or(|item| named || item.state == WorkerState::Fenced), "seed {seed}");
            }
            assert_eq!(workers(&fleet).len(), 1, "seed {seed}");
        });
    }
}

/// Tries to make a worker whose configuration says `liveness`.
async fn build(sim: &Handle, fleet: &Fleet, liveness: Option<Liveness>) -> Result<Worker, BuildError> {
    let builder = Worker::builder("sim", Arc::new(fleet.service.clone()), Arc::new(fleet.leases.clone()));
    let builder = builder.stream(fleet.stream.as_str()).for_each(|_record| async { Ok(()) });
    builder.configure(|config| config.with_liveness(liveness)).rt(sim.rt()).build().await
}

fn refusal(built: Result<Worker, BuildError>) -> String {
    match built {
        Err(BuildError::Table(error)) => match error.kind() {
            LeaseErrorKind::Invalid { what } => what.clone(),
            kind => panic!("{kind}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_of_the_other_mode_is_refused_with_the_reason() {
    for (mode, seed) in in_both_modes(1) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(2).under(mode).build(&sim);
            let _a = fleet.join("a");
            sim.sleep(5 * SECOND).await;
            let other = if mode == Liveness::PerLease { Liveness::PerWorker } else { Liveness::PerLease };
            let why = refusal(build(&sim, &fleet, Some(other)).await);
            assert!(why.contains(&format!("{mode:?}")) && why.contains("change_liveness"), "{why}");
            for same in [None, Some(mode)] {
                build(&sim, &fleet, same).await.expect("built");
            }
        });
    }
}

#[test]
fn leases_of_another_library_are_not_taken_for_those_of_workers_that_are_gone() {
    sim::run(1, |sim| async move {
        let fleet = Setup::new(2).build(&sim);
        let lease = kcl_core::NewLease {
            counter: kcl_core::LeaseCounter(3 << 10),
            key: "shard-of-java".parse().expect("legal"),
            stream: fleet.stream.clone(),
            shard: "shard-of-java".parse().expect("legal"),
            owner: Some("java-worker".parse().expect("legal")),
            parent: None,
            starting_sequence: None,
            start_at: None,
            root: true,
        };
        fleet.leases.put_lease(lease.created());
        let why = refusal(build(&sim, &fleet, Some(Liveness::PerWorker)).await);
        assert!(why.contains("another library"), "{why}");
    });
}

#[test]
fn the_mode_changes_while_no_worker_runs_and_only_then() {
    for (mode, seed) in in_both_modes(4) {
        sim::run(seed, |sim| async move {
            let other = if mode == Liveness::PerLease { Liveness::PerWorker } else { Liveness::PerLease };
            let fleet = Setup::new(4).under(mode).build(&sim);
            let pair = ["a", "b"].map(|name| fleet.join(name));
            keep_writing(&sim, &fleet, 100 * SECOND);
            sim.sleep(60 * SECOND).await;
            let change = || async { admin(&sim, &fleet).change_liveness(other, D).await };
            let refused = change().await;
            assert!(matches!(refused, Err(AdminError::FleetLives { .. })), "{mode:?} seed {seed}: {refused:?}");
            for worker in pair {
                // One stops, one dies: what it held counts until it has been watched.
                match seed % 2 {
                    0 => drop(worker.stop().await),
                    _ => worker.crash(),
                }
            }
            assert_eq!(change().await.expect("changed"), mode, "{mode:?} seed {seed}");
            assert_eq!(change().await.expect("changed already"), other);
            assert_eq!(workers(&fleet), []);
            let mut fleet = fleet.clone();
            fleet.setup = fleet.setup.clone().under(other);
            let _pair = ["c", "d"].map(|name| fleet.join(name));
            sim.sleep(100 * SECOND).await;
            fleet.drained(50 * SECOND).await;
        });
    }
}

#[test]
fn a_worker_that_starts_while_the_mode_changes_is_refused_or_refuses_the_change() {
    let mut changed = 0;
    for seed in seeds(30) {
        changed += sim::run(seed, |sim| async move {
            let fleet = Setup::new(2).under(Liveness::PerLease).build(&sim);
            let a = fleet.join("a");
            sim.sleep(10 * SECOND).await;
            let _report = a.stop().await;
            let worker = build(&sim, &fleet, None).await.expect("built");
            let handle = worker.handle();
            let (rt, pause) = (sim.rt(), SECOND * (seed as u32) / 10);
            let run = rt.clone().spawn("a worker", kcl_core::TaskClass::Lease, async move {
                rt.sleep(pause).await;
                worker.run().await
            });
            let changed = admin(&sim, &fleet).change_liveness(Liveness::PerWorker, D).await;
            sim.sleep(5 * SECOND).await;
            handle.shutdown();
            let ran = run.await.expect("ended");
            assert_ne!(changed.is_ok(), ran.is_ok(), "seed {seed}: {changed:?} {ran:?}");
            usize::from(changed.is_ok())
        });
    }
    assert!((1..30).contains(&changed), "{changed}");
}
