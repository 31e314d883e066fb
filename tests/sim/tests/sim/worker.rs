//! The worker, on the reference stream, in virtual time.

use std::time::Duration;

use kcl_core::FailurePolicy;
use sim::fleet::{Member, Setup};
use sim::in_both_modes;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_worker_delivers_what_is_written_before_and_after_it_starts() {
    sim::run(1, |sim| async move {
        let fleet = Setup::new(3).build(&sim);
        fleet.write(100, 10);
        let worker = fleet.join("a");
        sim.sleep(5 * SECOND).await;
        fleet.write(100, 10);
        let verdict = fleet.drained(5 * SECOND).await;
        assert_eq!((verdict.delivered, verdict.retried, verdict.repeated), (200, 0, 0));
        let report = worker.stop().await;
        assert_eq!((report.released, report.abandoned), (3, 0));
        assert!(fleet.leases.leases().iter().all(|lease| lease.owner.is_none()));
    });
}

#[test]
fn a_child_begins_after_its_parent_is_finished() {
    sim::run(2, |sim| async move {
        let fleet = Setup::new(1).build(&sim);
        let _worker = fleet.join("a");
        for _ in 0..4 {
            fleet.write(20, 10);
            sim.sleep(2 * SECOND).await;
            let open = fleet.service.open_shards(&fleet.stream);
            fleet.service.split(&fleet.stream, &open[0]).expect("an open shard");
        }
        fleet.write(20, 10);
        let verdict = fleet.drained(10 * SECOND).await;
        assert_eq!((verdict.delivered, verdict.repeated), (100, 0));
    });
}

#[test]
fn workers_share_the_shards_and_take_over_from_one_that_dies() {
    sim::run(3, |sim| async move {
        let fleet = Setup::new(6).build(&sim);
        let [a, b, c] = ["a", "b", "c"].map(|name| fleet.join(name));
        sim.sleep(120 * SECOND).await;
        let owned = |worker: &Member| worker.owned().len();
        assert_eq!([owned(&a), owned(&b), owned(&c)], [2; 3]);
        fleet.write(600, 60);
        sim.sleep(2 * SECOND).await;
        b.crash();
        fleet.write(600, 60);
        let verdict = fleet.drained(60 * SECOND).await;
        assert!(verdict.repeated <= 600);
        sim.sleep(60 * SECOND).await;
        assert_eq!([owned(&a), owned(&c)], [3; 2]);
    });
}

#[test]
fn durations_without_an_end_mean_never() {
    const NEVER: Duration = Duration::MAX;
    for (mode, seed) in in_both_modes(1) {
        sim::run(seed, |sim| async move {
            let setup = Setup::new(4).under(mode).configure(|config| {
                let config = config.with_discover_every(NEVER).with_min_hold(NEVER).with_settle(NEVER);
                let config = config.with_tick_every(NEVER).with_process_timeout(Some(NEVER)).with_start_slack(NEVER);
                let failures = FailurePolicy::stop_after(u32::MAX).with_backoff(SECOND, NEVER);
                let config = config.with_source_timeout(NEVER).with_shutdown_timeout(NEVER).with_failures(failures);
                config.with_weight(u32::MAX).with_calls_per_second(u32::MAX).with_memory(usize::MAX)
            });
            let fleet = setup.build(&sim);
            let [a, b] = ["a", "b"].map(|name| fleet.join(name));
            fleet.write(100, 10);
            sim.sleep(60 * SECOND).await;
            fleet.write(100, 10);
            a.stop().await;
            sim.sleep(5 * SECOND).await;
            let verdict = fleet.drained(30 * SECOND).await;
            assert_eq!((verdict.delivered, b.owned().len()), (200, 4), "{mode:?}");
        });
    }
}
