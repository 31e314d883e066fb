//! A long time in a fleet's life.

use std::time::Duration;

use rand::Rng as _;
use sim::fleet::{Member, Setup};
use sim::seeds;
use sim::world::{Resharding, Workload};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn thirty_hours_of_rolls_splits_trims_and_changing_workers_lose_nothing() {
    for seed in seeds(2) {
        let (hours, delivered, shards) = sim::run(seed, |sim| async move {
            let mut setup = Setup::new(2);
            setup.options.roll_every = Some(4 * HOUR);
            setup.options.visibility.child_after = 2 * SECOND;
            let calm = |config: kcl_core::WorkerConfig| {
                let config = config.with_poll_every(2 * SECOND).with_poll_idle(20 * SECOND);
                let config = config.with_tick_every(30 * SECOND).with_observe_every(5 * SECOND);
                config.with_lease_duration(30 * SECOND).with_discover_every(5 * MINUTE)
            };
            let fleet = setup.configure(calm).build(&sim);
            let until = 30 * HOUR;
            let _writer = Workload { keys: 100, every: 15 * SECOND, until }.start(&sim, &fleet.service, &fleet.table);
            let resharding = Resharding { every: 3 * HOUR, max_open: 4, until };
            let _resharding = resharding.start(&sim, &fleet.service, &fleet.stream);
            let mut rng = sim.rng("who comes and goes");
            let mut workers: Vec<Member> = (0..4).map(|n| fleet.join(&format!("w{n}"))).collect();
            let mut named = 4;
            while sim.now() < until {
                sim.sleep(Duration::from_secs(rng.next_u64() % 3600)).await;
                let n = (rng.next_u64() % workers.len() as u64) as usize;
                match rng.next_u64() % 3 {
                    0 if workers.len() > 1 => workers.swap_remove(n).crash(),
                    1 if workers.len() > 1 => {
                        workers.swap_remove(n).stop().await;
                    }
                    _ if workers.len() < 5 => {
                        workers.push(fleet.join(&format!("w{named}")));
                        named += 1;
                    }
                    _ => {}
                }
            }
            let verdict = fleet.drained(5 * MINUTE).await;
            assert_eq!(fleet.losses.all(), []);
            // What was finished long ago has left the lease table.
            let leases = fleet.leases.leases().len();
            let shards = fleet.service.shards(&fleet.stream).len();
            assert!(leases < shards, "{leases} leases, {shards} shards");
            (sim.now().as_secs() / 3600, verdict.delivered, shards)
        });
        println!("seed {seed}: {hours} virtual hours, {delivered} records of {shards} shards");
    }
}
