//! Who reads which shard, when workers join, stop and die.

use std::collections::BTreeSet;
use std::time::Duration;

use kcl_core::{Liveness, StartReason};
use sim::fleet::{Fleet, Member, Setup};
use sim::world::{Conduct, Workload};
use sim::{Event, Handle, in_both_modes, seeds};

const SECOND: Duration = Duration::from_secs(1);

/// Writes to the fleet's table from now on.
fn keep_writing(sim: &Handle, fleet: &Fleet, time: Duration) {
    let workload = Workload { keys: 100, every: SECOND / 20, until: sim.now() + time };
    let _writer = workload.start(sim, &fleet.service, &fleet.table);
}

fn owned(workers: &[Member]) -> Vec<usize> {
    workers.iter().map(|worker| worker.owned().len()).collect()
}

#[test]
fn a_crash_delays_a_shard_by_no_more_than_the_lease_duration_and_one_observation() {
    for (mode, seed) in in_both_modes(20) {
        sim::run(seed, |sim| async move {
            let names = &["a", "b", "c", "d"][..2 + (seed % 3) as usize];
            let fleet = Setup::new(2 * names.len()).under(mode).build(&sim);
            let mut workers: Vec<Member> = names.iter().map(|name| fleet.join(name)).collect();
            sim.sleep(100 * SECOND + SECOND * (seed as u32) / 7).await;
            assert_eq!(owned(&workers), vec![2; names.len()], "{mode:?} seed {seed}");
            let b = workers.swap_remove(seed as usize % names.len());
            let orphans: BTreeSet<_> = b.owned().into_iter().collect();
            keep_writing(&sim, &fleet, 60 * SECOND);
            sim.sleep(10 * SECOND).await;
            b.crash();
            let died = sim.now();
            sim.sleep(50 * SECOND).await;
            let config = &fleet.setup.config;
            // Beyond it: the take, the iterator and the first page.
            let bound = config.lease_duration + config.observe_every + SECOND / 10;
            for shard in &orphans {
                let first = |entry: &&sim::Entry| entry.at > died && entry.shard == *shard;
                let entries = fleet.history.entries();
                let delivered = |entry: &&sim::Entry| matches!(entry.event, Event::Delivered(_));
                let again = entries.iter().filter(first).find(delivered).expect("delivered again").at;
                assert!(again - died <= bound, "{mode:?} seed {seed}: {:?}", again - died);
            }
            let verdict = fleet.drained(20 * SECOND).await;
            // What was not recorded when it died: at most what it was given in one interval of checkpoints.
            assert!(verdict.repeated <= 20 * 5, "{mode:?} seed {seed}: {verdict}");
        });
    }
}

#[test]
fn a_graceful_stop_repeats_nothing_and_its_shards_move_at_once() {
    for (mode, seed) in in_both_modes(20) {
        sim::run(seed, |sim| async move {
            let setup = Setup { conduct: Conduct { per_batch: SECOND / 5, ..Conduct::default() }, ..Setup::new(6) };
            let fleet = setup.under(mode).build(&sim);
            let [a, b, c] = ["a", "b", "c"].map(|name| fleet.join(name));
            sim.sleep(100 * SECOND).await;
            keep_writing(&sim, &fleet, 60 * SECOND);
            sim.sleep(20 * SECOND).await;
            assert_eq!(c.owned().len(), 2, "{mode:?} seed {seed}");
            let node = c.node.clone();
            let report = c.stop().await;
            sim.settle().await;
            assert_eq!(node.tasks(), [], "a worker that has ended leaves no task behind");
            assert_eq!((report.released, report.abandoned), (2, 0), "{mode:?} seed {seed}");
            sim.sleep(2 * SECOND).await;
            assert_eq!(owned(&[a, b]), [3, 3], "{mode:?} seed {seed}");
            let verdict = fleet.drained(60 * SECOND).await;
            assert_eq!(verdict.repeated, 0, "{mode:?} seed {seed}: {verdict}");
        });
    }
}

#[test]
fn a_rolling_deploy_delivers_no_record_twice() {
    for (mode, seed) in in_both_modes(20) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(8).under(mode).build(&sim);
            let mut old: Vec<Member> = ["a", "b", "c", "d"].iter().map(|name| fleet.join(name)).collect();
            keep_writing(&sim, &fleet, 400 * SECOND);
            sim.sleep(60 * SECOND).await;
            let mut new = Vec::new();
            for name in ["e", "f", "g", "h"] {
                new.push(fleet.join(name));
                sim.sleep(15 * SECOND).await;
                let report = old.remove(0).stop().await;
                assert_eq!(report.abandoned, 0);
                sim.sleep(15 * SECOND).await;
            }
            let verdict = fleet.drained(400 * SECOND).await;
            assert_eq!(verdict.repeated, 0, "{mode:?} seed {seed}: {verdict}");
            sim.sleep(60 * SECOND).await;
            assert_eq!(owned(&new), [2; 4], "{mode:?} seed {seed}");
            let lost = |event: &kcl_core::EventKind| matches!(event, kcl_core::EventKind::LeaseLost { .. });
            assert_eq!(new.iter().map(|worker| worker.events.count(lost)).sum::<usize>(), 0);
        });
    }
}

#[test]
fn a_worker_that_joins_gets_its_share_and_nothing_is_repeated() {
    for (mode, seed) in in_both_modes(20) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(6).under(mode).build(&sim);
            let a = fleet.join("a");
            keep_writing(&sim, &fleet, 120 * SECOND);
            sim.sleep(60 * SECOND).await;
            let b = fleet.join("b");
            sim.sleep(5 * SECOND).await;
            let verdict = fleet.drained(200 * SECOND).await;
            assert_eq!(owned(&[a, b]), [3, 3], "{mode:?} seed {seed}");
            assert_eq!(verdict.repeated, 0, "{mode:?} seed {seed}: {verdict}");
        });
    }
}

#[test]
fn all_workers_may_start_and_die_at_the_same_instant() {
    for (mode, seed) in in_both_modes(20) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(5).under(mode).build(&sim);
            fleet.write(500, 50);
            for _ in 0..4 {
                let workers = ["a", "b", "c"].map(|name| fleet.join(name));
                fleet.write(100, 50);
                sim.sleep(3 * SECOND + SECOND * (seed as u32) / 9).await;
                for worker in workers {
                    worker.crash();
                }
            }
            let [a, b, c] = ["a", "b", "c"].map(|name| fleet.join(name));
            fleet.drained(30 * SECOND).await;
            sim.sleep(120 * SECOND).await;
            assert_eq!(owned(&[a, b, c]).iter().sum::<usize>(), 5, "{mode:?} seed {seed}");
            // Those that died left no item behind.
            let items = fleet.leases.snapshot();
            let workers = items.iter().filter(|item| matches!(item, kcl_core::TableItem::Worker(_)));
            assert_eq!(workers.count(), 3, "{mode:?} seed {seed}");
        });
    }
}

#[test]
fn a_shard_that_moves_says_why_it_starts() {
    for (mode, seed) in in_both_modes(1) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(2).under(mode).build(&sim);
            let a = fleet.join("a");
            sim.sleep(10 * SECOND).await;
            a.stop().await;
            let b = fleet.join("b");
            sim.sleep(10 * SECOND).await;
            let reason = |wanted: StartReason| move |event: &kcl_core::EventKind| matches!(event, kcl_core::EventKind::LeaseAcquired { reason, .. } if *reason == wanted);
            assert_eq!(b.events.count(reason(StartReason::HandedOver)), 2);
            b.crash();
            let c = fleet.join("c");
            sim.sleep(30 * SECOND).await;
            assert_eq!(c.events.count(reason(StartReason::TakenOver)), 2);
        });
    }
}

#[test]
fn a_calm_fleet_moves_nothing() {
    for (mode, seed) in in_both_modes(5) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(7).under(mode).build(&sim);
            let workers: Vec<Member> = ["a", "b", "c"].iter().map(|name| fleet.join(name)).collect();
            sim.sleep(120 * SECOND).await;
            let before: Vec<_> = workers.iter().map(Member::owned).collect();
            let told: usize = workers.iter().map(|worker| worker.events.all().len()).sum();
            sim.sleep(3600 * SECOND).await;
            assert_eq!(workers.iter().map(Member::owned).collect::<Vec<_>>(), before, "{mode:?} seed {seed}");
            assert_eq!(
                workers.iter().map(|worker| worker.events.all().len()).sum::<usize>(),
                told,
                "{mode:?} seed {seed}"
            );
        });
    }
}

#[test]
fn of_what_an_owner_sends_that_gets_no_answer_one_write_of_each_lease_takes_effect() {
    let mut late = 0;
    for seed in seeds(10) {
        late += sim::run(seed, |sim| async move {
            let fleet = Setup::new(6).under(Liveness::PerLease).build(&sim);
            let a = fleet.join("a");
            sim.sleep(30 * SECOND).await;
            let _b = fleet.join("b");
            keep_writing(&sim, &fleet, 60 * SECOND);
            a.network.cut();
            // What was under way before is answered.
            sim.sleep(SECOND / 50).await;
            let before = fleet.leases.leases();
            let mut late = 0;
            for _ in 0..60 {
                sim.sleep(SECOND).await;
                for (before, now) in before.iter().zip(fleet.leases.leases()) {
                    if now.owner == before.owner {
                        let moved = now.counter.0 - before.counter.0;
                        assert!(moved <= 1, "seed {seed}: {} was written {moved} times", now.shard);
                        late += moved;
                    }
                }
            }
            late
        });
    }
    assert!(late > 0, "nothing came late");
}
