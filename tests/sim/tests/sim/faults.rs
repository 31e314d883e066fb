//! Machines, clocks and the way to the lease table fail; nothing is lost and no shard has two readers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::reference::Visibility;
use kcl_core::wrap::{FaultySource, LeaseFault, LeaseOperation, SourceFault};
use kcl_core::{EventKind, Liveness, Resource, SourceErrorKind, SourceOp};
use rand::Rng as _;
use sim::fleet::{Fleet, Member, Setup, Weather};
use sim::world::{Conduct, Resharding, Workload};
use sim::{Event, Handle, Node, in_both_modes};

const SECOND: Duration = Duration::from_secs(1);
const D: Duration = Duration::from_secs(10);

/// Processors that take a while, so that calls are under way when something happens.
fn slow(shards: usize) -> Setup {
    let conduct = Conduct { per_batch: SECOND / 2, ..Conduct::default() };
    Setup { conduct, ..Setup::new(shards) }
}

fn keep_writing(sim: &Handle, fleet: &Fleet, time: Duration) {
    let workload = Workload { keys: 100, every: SECOND / 10, until: sim.now() + time };
    let _writer = workload.start(sim, &fleet.service, &fleet.table);
}

fn keep_resharding(sim: &Handle, fleet: &Fleet, time: Duration) {
    let resharding = Resharding { every: 20 * SECOND, max_open: 5, until: sim.now() + time };
    let _resharding = resharding.start(sim, &fleet.service, &fleet.stream);
}

async fn balanced(sim: &Handle, fleet: &Fleet) -> [Member; 2] {
    let workers = ["a", "b"].map(|name| fleet.join(name));
    sim.sleep(70 * SECOND).await;
    assert!(workers.iter().all(|worker| worker.owned().len() == 2), "seed {}", sim.seed());
    workers
}

#[test]
fn a_worker_cut_off_from_the_lease_table_stops_delivering_before_another_starts() {
    for (mode, seed) in in_both_modes(20) {
        sim::run(seed, |sim| async move {
            let fleet = slow(4).under(mode).build(&sim);
            let [a, b] = balanced(&sim, &fleet).await;
            keep_writing(&sim, &fleet, 150 * SECOND);
            sim.sleep(10 * SECOND + SECOND * (seed as u32) / 10).await;
            a.network.cut();
            // Writes that are sent while the validity lasts may come half a minute late and look like signs of life.
            sim.sleep(30 * SECOND + 3 * D).await;
            assert_eq!((a.owned().len(), b.owned().len()), (0, 4), "{mode:?} seed {seed}");
            a.network.mend();
            sim.sleep(80 * SECOND).await;
            // Opened, delivered and returned are judged: no call of one worker ends after another was opened.
            fleet.drained(20 * SECOND).await;
            assert_eq!((a.owned().len(), b.owned().len()), (2, 2), "{mode:?} seed {seed}");
        });
    }
}

#[test]
fn a_worker_that_the_fleet_has_given_up_comes_back_under_a_new_id() {
    for (mode, seed) in in_both_modes(10) {
        sim::run(seed, |sim| async move {
            let fleet = slow(4).under(mode).build(&sim);
            let [a, b] = balanced(&sim, &fleet).await;
            keep_writing(&sim, &fleet, 250 * SECOND);
            let first = a.handle().expect("built").status().worker;
            match seed % 2 {
                0 => a.network.cut(),
                _ => a.node.freeze(12 * D),
            }
            sim.sleep(12 * D).await;
            a.network.mend();
            sim.sleep(150 * SECOND).await;
            fleet.drained(20 * SECOND).await;
            assert_eq!((a.owned().len(), b.owned().len()), (2, 2), "{mode:?} seed {seed}");
            assert_ne!(a.handle().expect("built").status().worker, first, "{mode:?} seed {seed}");
            let items = fleet.leases.snapshot();
            let workers = items.iter().filter(|item| matches!(item, kcl_core::TableItem::Worker(_)));
            assert_eq!(workers.count(), 2, "{mode:?} seed {seed}");
        });
    }
}

/// A worker whose machine stands for longer than its leases last does nothing more with its shards; all shards have an owner again.
fn outlives_its_leases(stand: fn(&Node, Duration)) {
    for (mode, seed) in in_both_modes(20) {
        sim::run(seed, |sim| async move {
            let fleet = slow(4).under(mode).build(&sim);
            let [a, b] = balanced(&sim, &fleet).await;
            keep_writing(&sim, &fleet, 90 * SECOND);
            sim.sleep(10 * SECOND + SECOND * (seed as u32) / 10).await;
            stand(&a.node, 2 * D + SECOND * (seed as u32 % 20));
            sim.sleep(80 * SECOND).await;
            fleet.drained(40 * SECOND).await;
            assert_eq!(a.owned().len() + b.owned().len(), 4, "{mode:?} seed {seed}");
        });
    }
}

#[test]
fn a_frozen_worker_does_nothing_more_with_its_shards_when_it_thaws() {
    outlives_its_leases(Node::freeze);
}

#[test]
fn a_suspended_machine_does_nothing_more_with_its_shards_when_it_wakes() {
    outlives_its_leases(Node::suspend);
}

#[test]
fn clocks_that_differ_in_rate_by_two_per_cent_give_no_shard_two_readers() {
    for (mode, seed) in in_both_modes(20) {
        sim::run(seed, |sim| async move {
            let fleet = slow(4).under(mode).build(&sim);
            sim.node("a").set_rate(if seed % 2 == 0 { -20_000 } else { 20_000 });
            sim.node("b").set_rate(if seed % 2 == 0 { 20_000 } else { -20_000 });
            sim.node("b").set_wall_ahead(3600 * SECOND);
            let [a, b] = balanced(&sim, &fleet).await;
            keep_writing(&sim, &fleet, 120 * SECOND);
            sim.sleep(10 * SECOND + SECOND * (seed as u32) / 10).await;
            a.network.cut();
            sim.sleep(20 * SECOND).await;
            a.network.mend();
            b.network.cut();
            sim.sleep(20 * SECOND).await;
            b.network.mend();
            sim.sleep(80 * SECOND).await;
            fleet.drained(40 * SECOND).await;
            assert_eq!(a.owned().len() + b.owned().len(), 4, "{mode:?} seed {seed}");
        });
    }
}

#[test]
fn a_bad_way_to_the_lease_table_loses_nothing_while_shards_change() {
    for (mode, seed) in in_both_modes(20) {
        sim::run(seed, |sim| async move {
            let fleet = slow(3).under(mode).build(&sim);
            let weather = match seed % 4 {
                0 => Weather { reply_lost: 4, ..Weather::default() },
                1 => Weather { late: 8, ..Weather::default() },
                2 => Weather { throttled: 3, refused: 5, ..Weather::default() },
                _ => Weather { reply_lost: 8, late: 12, throttled: 8, refused: 8, ..Weather::default() },
            };
            let workers = ["a", "b", "c"].map(|name| fleet.join(name));
            sim.sleep(SECOND).await;
            for worker in &workers {
                worker.network.set(weather);
            }
            sim.sleep(30 * SECOND).await;
            keep_writing(&sim, &fleet, 200 * SECOND);
            keep_resharding(&sim, &fleet, 200 * SECOND);
            sim.sleep(210 * SECOND).await;
            for worker in &workers {
                worker.network.mend();
            }
            fleet.drained(60 * SECOND).await;
            sim.sleep(90 * SECOND).await;
            fleet.drained(SECOND).await;
            let owned: usize = workers.iter().map(|worker| worker.owned().len()).sum();
            assert_eq!(owned, fleet.service.open_shards(&fleet.stream).len(), "{mode:?} seed {seed}");
        });
    }
}

/// Shards that show late, scans that are stale and torn, calls to the stream that fail.
fn stormy(sim: &Handle, mode: Liveness) -> Setup {
    let seed = sim.seed();
    let late = |n: u64| Duration::from_millis(seed.wrapping_mul(n) % 4000);
    let scan_page = if seed.is_multiple_of(2) { 1000 } else { 3 };
    // The lag is in writes, and in PerWorker those are few: about one in a second.
    let scan_lag = (seed % 4) as usize * if mode == Liveness::PerLease { 4 } else { 1 };
    let mut setup = Setup { scan_page, scan_lag, ..slow(3) };
    setup.options.visibility =
        Visibility { child_after: late(977), closing_after: late(1511), readable_after: late(2963) };
    setup.options.describe_page = 3;
    let kinds = [SourceErrorKind::Throttled, SourceErrorKind::Unavailable, SourceErrorKind::NotFound];
    let rng = Arc::new(Mutex::new(sim.rng("stream faults")));
    setup.source = Arc::new(move |source| {
        let rng = rng.clone();
        Arc::new(FaultySource::new(source, move |op| {
            let draw = rng.lock().expect("whole").next_u64();
            let fails = op != SourceOp::DescribeStream && draw.is_multiple_of(20);
            fails.then_some(SourceFault::Refused(kinds[(draw >> 32) as usize % kinds.len()]))
        }))
    });
    setup
}

#[test]
fn workers_that_fail_in_every_way_at_once_lose_nothing() {
    for (mode, seed) in in_both_modes(20) {
        sim::run(seed, |sim| async move {
            let fleet = stormy(&sim, mode).under(mode).build(&sim);
            let names = ["a", "b", "c", "d"];
            let mut workers: Vec<Member> = names.iter().map(|name| fleet.join(name)).collect();
            keep_writing(&sim, &fleet, 600 * SECOND);
            keep_resharding(&sim, &fleet, 600 * SECOND);
            let mut rng = sim.rng("what happens");
            for _ in 0..30 {
                let pause = rng.next_u64() % 30_000;
                sim.sleep(Duration::from_millis(pause)).await;
                let n = (rng.next_u64() % 4) as usize;
                let time = Duration::from_millis(rng.next_u64() % 25_000);
                match rng.next_u64() % 8 {
                    0 => {
                        let died = std::mem::replace(&mut workers[n], fleet.join(&format!("{}{pause}", names[n])));
                        died.crash();
                    }
                    1 => {
                        let old = std::mem::replace(&mut workers[n], fleet.join(&format!("{}{pause}", names[n])));
                        if let Some(handle) = old.handle() {
                            handle.shutdown();
                        }
                    }
                    2 => workers[n].node.freeze(time),
                    3 => workers[n].node.suspend(time),
                    4 => workers[n].network.cut(),
                    5 => workers[n].node.block_processing(time),
                    6 => workers[n].network.set(Weather {
                        reply_lost: 5,
                        late: 10,
                        throttled: 5,
                        refused: 5,
                        ..Weather::default()
                    }),
                    _ => workers.iter().for_each(|worker| worker.network.mend()),
                }
            }
            workers.iter().for_each(|worker| worker.network.mend());
            sim.sleep((610 * SECOND).saturating_sub(sim.now())).await;
            fleet.drained(120 * SECOND).await;
            sim.sleep(90 * SECOND).await;
            fleet.drained(SECOND).await;
            // Scans that lag behind may give a shard to a worker that does not see it in time.
            let owned = || workers.iter().map(|worker| worker.owned().len()).sum::<usize>();
            let all = fleet.service.open_shards(&fleet.stream).len();
            let by = sim.now() + 30 * SECOND;
            while owned() != all {
                assert!(sim.now() < by, "{mode:?} seed {seed}: {} of {all}", owned());
                sim.sleep(SECOND / 10).await;
            }
        });
    }
}

#[test]
fn a_release_whose_answer_is_lost_is_a_release() {
    for (mode, seed) in in_both_modes(20) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(4).under(mode).build(&sim);
            let a = fleet.join("a");
            sim.sleep(10 * SECOND).await;
            a.network.set(Weather { reply_lost: 2, ..Weather::default() });
            let report = a.stop().await;
            assert_eq!((report.released, report.abandoned), (4, 0), "{mode:?} seed {seed}");
            let closed = fleet.history.entries().iter().filter(|entry| entry.event == Event::Closed).count();
            assert_eq!(closed, 0, "{mode:?} seed {seed}");
        });
    }
}

#[test]
fn a_permission_that_is_taken_away_is_told_by_its_call_and_reading_goes_on_once_it_is_back() {
    for (mode, seed) in in_both_modes(4) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(4).under(mode).build(&sim);
            let denied = Arc::new(AtomicBool::new(false));
            let denies = denied.clone();
            let a = fleet.join_by("a", move |call| match call.operation {
                _ if !denies.load(Ordering::Relaxed) => LeaseFault::None,
                LeaseOperation::Scan => LeaseFault::Denied { action: "Scan" },
                _ => LeaseFault::Denied { action: "UpdateItem" },
            });
            keep_writing(&sim, &fleet, 60 * SECOND);
            sim.sleep(20 * SECOND).await;
            denied.store(true, Ordering::Relaxed);
            sim.sleep(5 * SECOND).await;
            denied.store(false, Ordering::Relaxed);
            let told = |such: &'static str| {
                a.events.count(|event| match event {
                    EventKind::AccessDenied { resource: Resource::LeaseTable, call, action, .. } => {
                        assert_eq!(*action, if *call == "scan" { "Scan" } else { "UpdateItem" });
                        *call == such
                    }
                    _ => false,
                })
            };
            let times = ["scan", "write"].map(told);
            assert_eq!(
                times,
                [1, 1],
                "{mode:?} seed {seed}: not more than once a minute, whatever the number of shards"
            );
            assert!(told("write_worker") > 0, "{mode:?} seed {seed}: the worker's own item");
            let lost = |event: &EventKind| matches!(event, EventKind::LeaseLost { .. } | EventKind::Rejoining { .. });
            assert_eq!((a.owned().len(), a.events.count(lost)), (4, 0), "{mode:?} seed {seed}");
            assert_eq!(fleet.drained(60 * SECOND).await.repeated, 0, "{mode:?} seed {seed}");
        });
    }
}

#[test]
fn a_permission_that_is_missing_for_longer_than_leases_last_ends_no_worker_that_was_a_member() {
    for (mode, seed) in in_both_modes(4) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(4).under(mode).build(&sim);
            let denied = Arc::new(AtomicBool::new(false));
            let denies = denied.clone();
            let mut a = fleet.join_by("a", move |call| match call.operation {
                _ if !denies.load(Ordering::Relaxed) => LeaseFault::None,
                LeaseOperation::RegisterWorker => LeaseFault::Denied { action: "PutItem" },
                operation if operation.is_write() => LeaseFault::Denied { action: "UpdateItem" },
                _ => LeaseFault::None,
            });
            keep_writing(&sim, &fleet, 300 * SECOND);
            sim.sleep(20 * SECOND).await;
            denied.store(true, Ordering::Relaxed);
            sim.sleep(170 * SECOND).await;
            assert!(a.main.now().is_none(), "{mode:?} seed {seed}: it has ended");
            assert_eq!(a.owned().len(), 0, "{mode:?} seed {seed}: nothing is kept that cannot be written");
            let told = a.events.count(|event| {
                matches!(event, EventKind::AccessDenied { call: "register_worker" | "write_worker", .. })
            });
            assert!((1..=8).contains(&told), "{mode:?} seed {seed}: told {told} times in three minutes");
            denied.store(false, Ordering::Relaxed);
            sim.sleep(30 * SECOND).await;
            assert_eq!(a.owned().len(), 4, "{mode:?} seed {seed}");
            fleet.drained(120 * SECOND).await;
        });
    }
}

#[test]
fn a_stop_does_not_wait_for_the_next_try_to_join() {
    sim::run(1, |sim| async move {
        let setup =
            Setup::new(1).configure(|config| config.with_lease_duration(600 * SECOND).with_observe_every(600 * SECOND));
        let fleet = setup.build(&sim);
        let a = fleet.join_by("a", |call| match call.operation {
            LeaseOperation::RegisterWorker => LeaseFault::Throttled,
            _ => LeaseFault::None,
        });
        sim.sleep(10 * SECOND).await;
        let asked = sim.now();
        a.stop().await;
        assert!(sim.now() - asked < SECOND, "it took {:?}", sim.now() - asked);
    });
}
