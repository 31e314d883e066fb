//! Shards that change hands between workers that live: nothing is delivered twice, and hardly any time is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kcl_core::ShardId;
use kcl_core::wrap::{LeaseFault, LeaseOperation};
use sim::fleet::{Fleet, Member, Setup};
use sim::world::{Conduct, Workload};
use sim::{Event, Handle, Session, in_both_modes, seeds};

const SECOND: Duration = Duration::from_secs(1);
/// What a change of hands may cost beyond the poll interval.
const BOUND: Duration = Duration::from_millis(200);

/// So many that every poll of every shard finds some: a gap between records is then none of the writer's.
fn keep_writing(sim: &Handle, fleet: &Fleet, time: Duration) {
    let workload = Workload { keys: 200, every: SECOND / 500, until: sim.now() + time };
    let _writer = workload.start(sim, &fleet.service, &fleet.table);
}

fn owned(workers: &[Member]) -> Vec<usize> {
    workers.iter().map(|worker| worker.owned().len()).collect()
}

/// For every shard that changed hands since then: from the last record at the old owner to the first at the new one.
fn gaps(fleet: &Fleet, since: Duration) -> Vec<Duration> {
    let mut last: BTreeMap<ShardId, (Session, Duration)> = BTreeMap::new();
    let mut gaps = Vec::new();
    for entry in fleet.history.entries() {
        if !matches!(entry.event, Event::Delivered(_)) {
            continue;
        }
        let before = last.insert(entry.shard, (entry.session, entry.at));
        if let Some((session, at)) = before
            && session != entry.session
            && entry.at >= since
        {
            gaps.push(entry.at - at);
        }
    }
    gaps
}

fn check_gaps(fleet: &Fleet, since: Duration, moved: usize, bound: Duration, seed: u64) {
    let gaps = gaps(fleet, since);
    assert_eq!(gaps.len(), moved, "seed {seed}: {gaps:?}");
    for gap in gaps {
        assert!(gap <= fleet.setup.config.poll_every + bound, "seed {seed}: {gap:?}");
    }
}

#[test]
fn the_shards_of_a_worker_that_stops_are_read_on_within_a_fifth_of_a_second_and_a_poll() {
    for (mode, seed) in in_both_modes(5) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(9).under(mode).build(&sim);
            let [a, b, c] = ["a", "b", "c"].map(|name| fleet.join(name));
            sim.sleep(100 * SECOND).await;
            keep_writing(&sim, &fleet, 30 * SECOND);
            sim.sleep(10 * SECOND).await;
            let began = sim.now();
            let report = c.stop().await;
            assert_eq!((report.released, report.abandoned), (3, 0), "seed {seed}");
            assert!(sim.now() - began < 3 * SECOND, "seed {seed}: {:?}", sim.now() - began);
            let verdict = fleet.drained(60 * SECOND).await;
            assert_eq!(verdict.repeated, 0, "seed {seed}: {verdict}");
            check_gaps(&fleet, began, 3, BOUND, seed);
            let counts = owned(&[a, b]);
            assert!(counts == [4, 5] || counts == [5, 4], "seed {seed}: {counts:?}");
        });
    }
}

/// A third worker joins two that read nine shards under load.
fn check_a_joining_worker(bound: Duration, join: fn(&Fleet) -> Member) {
    for (mode, seed) in in_both_modes(5) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(9).under(mode).build(&sim);
            let [a, b] = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(100 * SECOND).await;
            keep_writing(&sim, &fleet, 40 * SECOND);
            sim.sleep(5 * SECOND).await;
            let began = sim.now();
            let c = join(&fleet);
            let verdict = fleet.drained(80 * SECOND).await;
            assert_eq!(verdict.repeated, 0, "seed {seed}: {verdict}");
            check_gaps(&fleet, began, 3, bound, seed);
            assert_eq!(owned(&[a, b, c]), [3, 3, 3], "seed {seed}");
        });
    }
}

#[test]
fn the_shards_that_a_joining_worker_gets_are_read_on_within_a_fifth_of_a_second_and_a_poll() {
    check_a_joining_worker(BOUND, |fleet| fleet.join("c"));
}

#[test]
fn shards_are_read_on_at_once_though_the_table_refuses_every_fourth_read() {
    check_a_joining_worker(BOUND * 2, |fleet| {
        let reads = AtomicUsize::new(0);
        fleet.join_by("c", move |call| {
            let refused = call.operation == LeaseOperation::Get && reads.fetch_add(1, Ordering::Relaxed) % 4 == 3;
            if refused { LeaseFault::Throttled } else { LeaseFault::None }
        })
    });
}

#[test]
fn two_workers_that_stop_at_once_hand_everything_to_those_who_stay() {
    for (mode, seed) in in_both_modes(5) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(8).under(mode).build(&sim);
            let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| fleet.join(name));
            sim.sleep(100 * SECOND).await;
            keep_writing(&sim, &fleet, 30 * SECOND);
            sim.sleep(10 * SECOND).await;
            let began = sim.now();
            for worker in [&a, &b] {
                worker.handle().expect("built").shutdown();
            }
            for worker in [a, b] {
                assert_eq!(worker.stop().await.abandoned, 0, "seed {seed}");
            }
            let verdict = fleet.drained(60 * SECOND).await;
            assert_eq!(verdict.repeated, 0, "seed {seed}: {verdict}");
            // Those who stay may have expected it otherwise; then they find it at their next look.
            check_gaps(&fleet, began, 4, fleet.setup.config.observe_every + BOUND, seed);
            assert_eq!(owned(&[c, d]), [4, 4], "seed {seed}");
        });
    }
}

#[test]
fn a_whole_fleet_that_stops_leaves_every_shard_free_and_its_successor_repeats_nothing() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(6).build(&sim);
            let workers = ["a", "b", "c"].map(|name| fleet.join(name));
            sim.sleep(60 * SECOND).await;
            keep_writing(&sim, &fleet, 30 * SECOND);
            sim.sleep(10 * SECOND).await;
            workers.iter().for_each(|worker| worker.handle().expect("built").shutdown());
            let began = sim.now();
            for worker in workers {
                assert_eq!(worker.stop().await.abandoned, 0, "seed {seed}");
            }
            assert!(sim.now() - began < 20 * SECOND, "seed {seed}: {:?}", sim.now() - began);
            assert!(fleet.leases.leases().iter().all(|lease| lease.owner.is_none()), "seed {seed}");
            let _d = fleet.join("d");
            let verdict = fleet.drained(60 * SECOND).await;
            assert_eq!(verdict.repeated, 0, "seed {seed}: {verdict}");
        });
    }
}

#[test]
fn a_worker_alone_gives_everything_away_at_once() {
    for seed in seeds(5) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(6).build(&sim);
            let a = fleet.join("a");
            sim.sleep(20 * SECOND).await;
            let began = sim.now();
            assert_eq!(a.stop().await.released, 6, "seed {seed}");
            assert!(sim.now() - began < SECOND / 2, "seed {seed}: {:?}", sim.now() - began);
        });
    }
}

#[test]
fn a_second_request_drops_the_running_calls_and_nothing_is_lost() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let slow = Conduct { per_batch: 25 * SECOND, ..Conduct::default() };
            let mut fleet = Setup { conduct: slow, ..Setup::new(4) }.build(&sim);
            fleet.write(200, 50);
            let a = fleet.join("a");
            sim.sleep(5 * SECOND).await;
            fleet.setup.conduct = Conduct::default();
            let b = fleet.join("b");
            sim.sleep(5 * SECOND).await;
            let handle = a.handle().expect("built");
            handle.shutdown();
            sim.sleep(3 * SECOND).await;
            let began = sim.now();
            handle.shutdown_now();
            let report = a.stop().await;
            assert!(report.abandoned > 0, "seed {seed}: {report:?}");
            assert!(sim.now() - began < SECOND, "seed {seed}: {:?}", sim.now() - began);
            sim.sleep(3 * SECOND).await;
            let verdict = fleet.drained(5 * SECOND).await;
            assert_eq!(verdict.delivered, 200, "seed {seed}: {verdict}");
            assert_eq!(owned(&[b]), [4], "seed {seed}");
        });
    }
}

#[test]
fn a_stop_that_cannot_reach_the_lease_table_ends_at_its_deadline() {
    for seed in seeds(5) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(6).build(&sim);
            let [a, b] = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(100 * SECOND).await;
            fleet.write(100, 50);
            sim.sleep(5 * SECOND).await;
            a.network.cut();
            let began = sim.now();
            a.stop().await;
            let config = &fleet.setup.config;
            let took = sim.now() - began;
            assert!(took <= config.shutdown_timeout + config.lease_duration, "seed {seed}: {took:?}");
            fleet.drained(30 * SECOND).await;
            sim.sleep(config.lease_duration * 3).await;
            assert_eq!(owned(&[b]), [6], "seed {seed}");
        });
    }
}

#[test]
fn a_stop_ends_at_its_deadline_whenever_the_table_falls_silent_and_whatever_the_calls_do() {
    for (mode, seed) in in_both_modes(10) {
        sim::run(seed, |sim| async move {
            let slow = Conduct { per_batch: 60 * SECOND, ..Conduct::default() };
            let mut fleet = Setup { conduct: slow, ..Setup::new(40).under(mode) }.build(&sim);
            let a = fleet.join("a");
            sim.sleep(20 * SECOND).await;
            fleet.write(400, 100);
            sim.sleep(5 * SECOND).await;
            fleet.setup.conduct = Conduct::default();
            let b = fleet.join("b");
            sim.sleep(2 * SECOND).await;
            let config = fleet.setup.config.clone();
            if seed % 2 == 1 {
                a.node.block_processing(90 * SECOND);
            }
            let began = sim.now();
            a.handle().expect("built").shutdown();
            sim.sleep(config.shutdown_timeout - SECOND * (seed as u32 / 2)).await;
            a.network.cut();
            let _report = a.stop().await;
            let took = sim.now() - began;
            assert!(took <= config.shutdown_timeout + config.lease_duration, "{mode:?} seed {seed}: {took:?}");
            // Half a minute for writes that come late, and look like life.
            sim.sleep(30 * SECOND + config.lease_duration * 3).await;
            assert_eq!(fleet.drained(60 * SECOND).await.delivered, 400, "{mode:?} seed {seed}");
            assert_eq!(owned(&[b]), [40], "{mode:?} seed {seed}");
        });
    }
}
