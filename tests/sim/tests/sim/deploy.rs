//! Deploys: every worker of a fleet is replaced, one after the other.

use std::time::Duration;

use kcl_core::Liveness;
use sim::fleet::{Fleet, Member, Setup};
use sim::world::Workload;
use sim::{Handle, in_both_modes};

const SECOND: Duration = Duration::from_secs(1);

/// A fleet of four at rest, with two shards for each.
async fn fleet_of_four(sim: &Handle, mode: Liveness) -> (Fleet, Vec<Member>) {
    let fleet = Setup::new(8).under(mode).build(sim);
    let workers: Vec<Member> = ["a", "b", "c", "d"].iter().map(|name| fleet.join(name)).collect();
    sim.sleep(100 * SECOND).await;
    assert!(workers.iter().all(|worker| worker.owned().len() == 2));
    let workload = Workload { keys: 100, every: SECOND / 20, until: sim.now() + 200 * SECOND };
    let _writer = workload.start(sim, &fleet.service, &fleet.table);
    sim.sleep(5 * SECOND).await;
    (fleet, workers)
}

/// Nothing was delivered twice, the new workers have two shards each, and shards have moved no more often than that since `began`.
async fn check(fleet: &Fleet, new: &[Member], began: Duration, most: usize, seed: u64) {
    fleet.sim.sleep(60 * SECOND).await;
    let verdict = fleet.drained(400 * SECOND).await;
    assert_eq!(verdict.repeated, 0, "seed {seed}: {verdict}");
    let counts: Vec<usize> = new.iter().map(|worker| worker.owned().len()).collect();
    assert_eq!(counts, [2; 4], "seed {seed}");
    let moves = fleet.owners.since(began).iter().filter(|owned| owned.owner.is_some()).count();
    assert!(moves <= most, "seed {seed}: {moves} moves");
    println!("seed {seed}: {moves} moves of 8 shards");
}

#[test]
fn a_deploy_that_starts_a_worker_before_it_stops_one_moves_each_shard_once() {
    for (mode, seed) in in_both_modes(5) {
        sim::run(seed, |sim| async move {
            let (fleet, mut old) = fleet_of_four(&sim, mode).await;
            let (began, mut new) = (sim.now(), Vec::new());
            for name in ["e", "f", "g", "h"] {
                new.push(fleet.join(name));
                sim.sleep(5 * SECOND).await;
                assert_eq!(old.remove(0).stop().await.abandoned, 0);
                sim.sleep(2 * SECOND).await;
            }
            check(&fleet, &new, began, 8, seed).await;
        });
    }
}

#[test]
fn a_deploy_that_stops_a_worker_before_it_starts_one_moves_few_shards_twice() {
    for (mode, seed) in in_both_modes(5) {
        sim::run(seed, |sim| async move {
            let (fleet, mut old) = fleet_of_four(&sim, mode).await;
            let (began, mut new) = (sim.now(), Vec::new());
            for name in ["e", "f", "g", "h"] {
                assert_eq!(old.remove(0).stop().await.abandoned, 0);
                sim.sleep(3 * SECOND).await;
                new.push(fleet.join(name));
                sim.sleep(5 * SECOND).await;
            }
            check(&fleet, &new, began, 14, seed).await;
        });
    }
}

#[test]
fn a_deploy_that_replaces_all_workers_at_once_moves_hardly_a_shard_twice() {
    for (mode, seed) in in_both_modes(5) {
        sim::run(seed, |sim| async move {
            let (fleet, old) = fleet_of_four(&sim, mode).await;
            let began = sim.now();
            let new: Vec<Member> = ["e", "f", "g", "h"].iter().map(|name| fleet.join(name)).collect();
            sim.sleep(5 * SECOND).await;
            old.iter().for_each(|worker| worker.handle().expect("built").shutdown());
            for worker in old {
                assert_eq!(worker.stop().await.abandoned, 0);
            }
            // Those who leave together may see different fleets.
            check(&fleet, &new, began, 10, seed).await;
        });
    }
}
