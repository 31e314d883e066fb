//! How long a shard waits when its worker dies, in small and in large fleets.

use std::collections::BTreeSet;
use std::time::Duration;

use kcl_core::wrap::{LeaseFault, LeaseOperation};
use kcl_core::{Liveness, ShardId};
use sim::fleet::{Fleet, Member, Setup};
use sim::{Event, in_both_modes};

const SECOND: Duration = Duration::from_secs(1);
const D: Duration = Duration::from_secs(10);

/// The times from the death of a worker to the first call of a processor for each shard that it had, in order. The workers come by `join`.
fn take_over(
    mode: Liveness,
    seed: u64,
    workers: usize,
    shards: usize,
    join: fn(&Fleet, &str) -> Member,
) -> Vec<Duration> {
    sim::run(seed, move |sim| async move {
        let calm = |config: kcl_core::WorkerConfig| {
            config.with_poll_every(5 * SECOND).with_poll_idle(60 * SECOND).with_tick_every(60 * SECOND)
        };
        let fleet = Setup::new(shards).configure(calm).under(mode).build(&sim);
        let mut workers: Vec<Member> = (0..workers).map(|n| join(&fleet, &format!("w{n:03}"))).collect();
        sim.sleep(200 * SECOND + SECOND * (seed as u32) / 7).await;
        let victim = workers.swap_remove((seed as usize * 7) % workers.len());
        let mut orphans: BTreeSet<ShardId> = victim.owned().into_iter().collect();
        victim.crash();
        assert!(!orphans.is_empty());
        let died = sim.now();
        sim.sleep(40 * SECOND).await;
        let mut times: Vec<Duration> = Vec::new();
        let entries = fleet.history.entries();
        for entry in entries.iter().filter(|entry| entry.at > died && matches!(entry.event, Event::Opened)) {
            if orphans.remove(&entry.shard) {
                times.push(entry.at - died);
            }
        }
        assert_eq!(orphans, BTreeSet::new(), "{mode:?} seed {seed}: not taken over");
        // What one worker took is evened out afterwards, and everything has one owner.
        sim.sleep(120 * SECOND).await;
        let owned: Vec<usize> = workers.iter().map(|worker| worker.owned().len()).collect();
        assert_eq!(owned.iter().sum::<usize>(), shards, "{mode:?} seed {seed}");
        let even = shards.div_ceil(workers.len());
        assert!(owned.iter().all(|owned| *owned <= even), "{mode:?} seed {seed}: {owned:?}");
        times
    })
}

#[test]
fn a_death_is_noticed_as_fast_in_a_large_fleet_as_in_a_small_one() {
    for (mode, seed) in in_both_modes(3) {
        for (workers, shards) in [(3, 30), (10, 50), (40, 160)] {
            let times = take_over(mode, seed, workers, shards, Fleet::join);
            let (first, last) = (times[0], times[times.len() - 1]);
            println!("{mode:?} {workers} workers {shards} shards: {first:?} to {last:?}");
            assert!(last <= D + SECOND + SECOND / 5, "{mode:?} seed {seed} {workers} workers: {last:?}");
        }
    }
}

/// A worker that is never told what became of a write to the item of another.
fn join_half_deaf(fleet: &Fleet, name: &str) -> Member {
    let own = format!("{name}/");
    fleet.join_by(name, move |call| {
        match call.operation == LeaseOperation::WriteWorker && !call.subject.starts_with(&own) {
            true => LeaseFault::ReplyLost,
            false => LeaseFault::None,
        }
    })
}

#[test]
fn a_death_is_noticed_as_fast_where_the_one_that_fences_is_not_answered() {
    for (mode, seed) in in_both_modes(3) {
        let times = take_over(mode, seed, 30, 120, join_half_deaf);
        assert!(times[times.len() - 1] <= D + SECOND + SECOND / 5, "{mode:?} seed {seed}: {times:?}");
    }
}

#[test]
fn who_comes_or_goes_is_noticed_at_once_by_all_of_a_large_fleet() {
    for (mode, seed) in in_both_modes(3) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(40).under(mode).build(&sim);
            let mut workers: Vec<Member> = (0..20).map(|n| fleet.join(&format!("w{n:03}"))).collect();
            sim.sleep(150 * SECOND + SECOND * (seed as u32) / 3).await;
            let leaver = workers.swap_remove(seed as usize * 5);
            let orphans: BTreeSet<ShardId> = leaver.owned().into_iter().collect();
            let left = sim.now();
            let _report = leaver.stop().await;
            sim.sleep(20 * SECOND).await;
            for shard in orphans {
                let entries = fleet.history.entries();
                let opened = |entry: &&sim::Entry| entry.event == Event::Opened && entry.shard == shard;
                let again = entries.iter().filter(opened).find(|entry| entry.at > left).expect("opened again");
                println!("{mode:?} left: {:?}", again.at - left);
                assert!(again.at - left <= 3 * SECOND, "{mode:?} seed {seed}: {:?}", again.at - left);
            }
            sim.sleep(60 * SECOND).await;
            let new = fleet.join("w500");
            let joined = sim.now();
            while new.owned().len() < 2 {
                // The fleet settles first; then those that have more than their share see it with their next scan.
                assert!(sim.now() < joined + 20 * SECOND, "{mode:?} seed {seed}: it has {} shards", new.owned().len());
                sim.sleep(SECOND / 10).await;
            }
            println!("{mode:?} joined: {:?}", sim.now() - joined);
        });
    }
}
