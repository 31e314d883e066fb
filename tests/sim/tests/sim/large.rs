//! A fleet so large that its workers look at the table rarely: whoever comes or goes is heard of, and shards change hands as fast as in a
//! small fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use kcl_core::wrap::LeaseOperation;
use kcl_core::{Liveness, ShardId};
use sim::fleet::{Fleet, Member, Setup};
use sim::world::Workload;
use sim::{Handle, in_both_modes};

const SECOND: Duration = Duration::from_secs(1);
/// How long a shard that changes hands may have no owner.
const BOUND: Duration = Duration::from_millis(200);

/// Twenty workers at rest, with two shards for each, and writes for `time`.
async fn fleet_of_twenty(sim: &Handle, mode: Liveness, time: Duration) -> (Fleet, Vec<Member>) {
    fleet_of(20, 40, sim, mode, time).await
}

/// Workers at rest, with an even share of the shards for each, and writes for `time`.
async fn fleet_of(workers: usize, shards: usize, sim: &Handle, mode: Liveness, time: Duration) -> (Fleet, Vec<Member>) {
    let fleet = Setup::new(shards).under(mode).build(sim);
    let members: Vec<Member> = (0..workers).map(|n| fleet.join(&format!("w{n:02}"))).collect();
    sim.sleep(100 * SECOND).await;
    assert!(members.iter().all(|worker| worker.owned().len() == shards / workers));
    let workload = Workload { keys: 400, every: SECOND / 40, until: sim.now() + time };
    let _writer = workload.start(sim, &fleet.service, &fleet.table);
    sim.sleep(5 * SECOND).await;
    (fleet, members)
}

/// How long each shard that has changed hands since then had no owner.
fn unowned(fleet: &Fleet, since: Duration) -> Vec<Duration> {
    let mut free: BTreeMap<ShardId, Duration> = BTreeMap::new();
    let mut unowned = Vec::new();
    for owned in fleet.owners.since(since) {
        match owned.owner {
            None => drop(free.insert(owned.shard, owned.at)),
            Some(_) => unowned.extend(free.remove(&owned.shard).map(|since| owned.at - since)),
        }
    }
    assert!(free.is_empty(), "{free:?}");
    unowned
}

/// Nothing was delivered twice, and `moved` shards have changed hands at once.
async fn check(fleet: &Fleet, since: Duration, moved: usize, seed: u64) {
    let verdict = fleet.drained(200 * SECOND).await;
    assert_eq!(verdict.repeated, 0, "seed {seed}: {verdict}");
    let unowned = unowned(fleet, since);
    assert_eq!(unowned.len(), moved, "seed {seed}: {unowned:?}");
    assert!(unowned.iter().all(|gap| *gap <= BOUND), "seed {seed}: {unowned:?}");
}

#[test]
fn workers_that_start_at_once_on_many_shards_leave_the_first_leases_to_one_of_them() {
    for (mode, seed) in in_both_modes(2) {
        sim::run(seed, |sim| async move {
            // To list them takes longer than a lease lasts.
            let setup = Setup::new(1000).configure(|c| c.with_lease_duration(SECOND).with_observe_every(SECOND / 4));
            let fleet = setup.under(mode).build(&sim);
            let workers: Vec<Member> = (0..4).map(|n| fleet.join(&format!("w{n}"))).collect();
            sim.sleep(15 * SECOND).await;
            let owned: usize = workers.iter().map(|worker| worker.owned().len()).sum();
            let created = fleet.counted.counts().of(LeaseOperation::Create);
            assert_eq!((owned, created), (1000, 1000), "seed {seed}");
        });
    }
}

#[test]
fn the_shards_of_one_of_twenty_that_stops_are_taken_at_once() {
    for (mode, seed) in in_both_modes(3) {
        sim::run(seed, |sim| async move {
            let (fleet, mut workers) = fleet_of_twenty(&sim, mode, 30 * SECOND).await;
            let began = sim.now();
            let report = workers.remove(7).stop().await;
            assert_eq!((report.released, report.abandoned), (2, 0), "seed {seed}");
            check(&fleet, began, 2, seed).await;
        });
    }
}

#[test]
fn a_deploy_of_five_of_twenty_moves_each_of_their_shards_once() {
    for (mode, seed) in in_both_modes(2) {
        sim::run(seed, |sim| async move {
            let (fleet, mut old) = fleet_of_twenty(&sim, mode, 60 * SECOND).await;
            let (began, mut new) = (sim.now(), Vec::new());
            for n in 0..5 {
                new.push(fleet.join(&format!("x{n}")));
                sim.sleep(5 * SECOND).await;
                assert_eq!(old.remove(0).stop().await.abandoned, 0, "seed {seed}");
                sim.sleep(2 * SECOND).await;
            }
            check(&fleet, began, 10, seed).await;
            assert!(new.iter().all(|worker| worker.owned().len() == 2), "seed {seed}");
        });
    }
}

/// `joining` workers come at once to a fleet, and get `moved` shards.
fn joined_by(joining: usize, workers: usize, shards: usize, moved: usize, seeds: u64) {
    for (mode, seed) in in_both_modes(seeds) {
        sim::run(seed, |sim| async move {
            let (fleet, _workers) = fleet_of(workers, shards, &sim, mode, 30 * SECOND).await;
            sim.sleep(SECOND * (seed as u32) / 3).await;
            let began = sim.now();
            let new: Vec<Member> = (0..joining).map(|n| fleet.join(&format!("x{n}"))).collect();
            sim.sleep(40 * SECOND).await;
            check(&fleet, began, moved, seed).await;
            let owned: Vec<usize> = new.iter().map(|worker| worker.owned().len()).collect();
            assert_eq!(owned.iter().sum::<usize>(), moved, "{mode:?} seed {seed}: {owned:?}");
        });
    }
}

#[test]
fn what_a_worker_gets_that_joins_twenty_is_unowned_for_a_moment() {
    joined_by(1, 20, 60, 2, 4);
}

#[test]
fn what_three_workers_get_that_join_ten_is_unowned_for_a_moment() {
    joined_by(3, 10, 100, 21, 4);
}

#[test]
fn what_a_worker_gets_that_joins_three_with_many_shards_is_unowned_for_a_moment() {
    joined_by(1, 3, 600, 150, 1);
}

#[test]
fn a_crash_of_one_of_sixty_leaves_its_shards_unread_no_longer_than_in_a_small_fleet() {
    for (mode, seed) in in_both_modes(1) {
        sim::run(seed, |sim| async move {
            let (fleet, mut workers) = fleet_of(60, 480, &sim, mode, 60 * SECOND).await;
            let died = workers.remove(7);
            let (orphans, began) = (died.owned(), sim.now());
            died.crash();
            sim.sleep(40 * SECOND).await;
            let changes = fleet.owners.since(began);
            let taken: BTreeMap<&ShardId, Duration> = changes
                .iter()
                .rev()
                .filter(|owned| owned.owner.is_some())
                .map(|owned| (&owned.shard, owned.at))
                .collect();
            for shard in &orphans {
                assert!(taken[shard] <= began + 11 * SECOND, "{mode:?} seed {seed}: {changes:?}");
            }
            let evened_out = unowned(&fleet, began);
            assert!(evened_out.iter().all(|gap| *gap <= BOUND), "{mode:?} seed {seed}: {evened_out:?}");
            assert!(evened_out.len() <= orphans.len(), "{mode:?} seed {seed}: {evened_out:?}");
            let most = workers.iter().map(|worker| worker.owned().len()).max();
            assert!(most <= Some(9), "{mode:?} seed {seed}: {most:?}");
        });
    }
}

#[test]
fn many_workers_that_start_at_once_on_a_new_table_share_it_within_seconds() {
    for (mode, seed) in in_both_modes(2) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(300).under(mode).build(&sim);
            let workers: Vec<Member> = (0..60).map(|n| fleet.join(&format!("w{n:03}"))).collect();
            // For each of them to list the stream would take eighteen seconds.
            sim.sleep(6 * SECOND).await;
            let owned: Vec<usize> = workers.iter().map(|worker| worker.owned().len()).collect();
            assert_eq!(owned, [5; 60], "{mode:?} seed {seed}");
        });
    }
}
