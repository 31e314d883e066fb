//! What makes a run fail, and what the failure tells.

use std::time::Duration;

use kcl_core::{TaskClass, TaskEnd};
use sim::{Cause, Config, Failure, Sim};
use tokio::sync::Notify;

const SECOND: Duration = Duration::from_secs(1);

fn failure(test: Result<(), Failure>) -> Failure {
    test.expect_err("fails")
}

#[test]
fn a_panic_that_the_code_under_test_catches_fails_the_run_all_the_same() {
    let failed = failure(sim::check(42, |sim| async move {
        let node = sim.node("worker-1");
        node.reboot();
        let rt = node.rt();
        let caught = rt.spawn("renewer", TaskClass::Lease, {
            let rt = rt.clone();
            async move {
                rt.sleep(3 * SECOND).await;
                panic!("a broken invariant");
            }
        });
        assert!(matches!(caught.await, Err(TaskEnd::Panicked(_))));
        sim.sleep(SECOND).await;
    }));
    assert_eq!((failed.seed, failed.at), (42, 3 * SECOND));
    let Cause::Panicked { task, message, location } = &*failed.cause else { panic!("{failed}") };
    assert_eq!((&*task.name, &*task.node, task.boot), ("renewer", "worker-1", 2));
    assert_eq!(message, "a broken invariant");
    assert!(location.contains("failures.rs"), "{location}");
    let text = failed.to_string();
    assert!(text.starts_with("seed 42 failed at 3s, poll"), "{text}");
}

#[test]
fn a_panic_in_a_bare_task_fails_the_run() {
    let failed = failure(sim::check(1, |sim| async move {
        let _lost = sim.node("a").boot(|_| async { panic!("main is broken") });
        sim.sleep(SECOND).await;
    }));
    assert!(matches!(&*failed.cause, Cause::Panicked { task, .. } if task.name == "main"), "{failed}");
}

#[test]
fn a_failed_assertion_of_the_test_itself_names_the_seed() {
    let failed = failure(sim::check(77, |sim| async move {
        sim.sleep(SECOND).await;
        assert_eq!(1 + 1, 3, "sums");
    }));
    assert!(failed.to_string().contains("seed 77"), "{failed}");
}

#[test]
fn a_panic_that_is_allowed_is_counted_and_nothing_else() {
    sim::run(2, |sim| async move {
        sim.allow_panics("processor gives up");
        let rt = sim.node("a").rt();
        let task = rt.spawn("process", TaskClass::Processing, async { panic!("the processor gives up on page 3") });
        let ended: Result<(), TaskEnd> = task.await;
        assert!(matches!(ended, Err(TaskEnd::Panicked(_))));
        assert_eq!(sim.allowed_panics(), 1);
    });
}

#[test]
fn a_panic_in_a_destructor_fails_the_run() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("a bad destructor");
        }
    }
    let failed = failure(sim::check(3, |sim| async move {
        let node = sim.node("a");
        let _main = node.boot(|rt| async move {
            let _bad = Bad;
            rt.sleep(SECOND).await;
            std::future::pending::<()>().await;
        });
        sim.sleep(2 * SECOND).await;
        node.kill();
        sim.settle().await;
    }));
    assert_eq!(failed.at, 2 * SECOND);
    assert!(matches!(&*failed.cause, Cause::Panicked { task, .. } if task.name == "main"), "{failed}");
}

#[test]
fn tasks_that_wait_for_each_other_are_reported_by_name() {
    let failed = failure(sim::check(4, |sim| async move {
        let rt = sim.node("a").rt();
        let first = rt.spawn("waits for second", TaskClass::Lease, async { Notify::new().notified().await });
        let _second = rt.spawn("waits for first", TaskClass::Processing, async { Notify::new().notified().await });
        sim.sleep(5 * SECOND).await;
        assert_eq!(first.await, Ok(()));
    }));
    assert_eq!(failed.at, 5 * SECOND);
    let Cause::Deadlocked(tasks) = &*failed.cause else { panic!("{failed}") };
    let names: Vec<&str> = tasks.iter().map(|task| &*task.name).collect();
    assert_eq!(names, ["root", "waits for second", "waits for first"]);
}

#[test]
fn a_node_that_is_frozen_for_ever_is_a_deadlock_that_says_who_is_held() {
    let failed = failure(sim::check(5, |sim| async move {
        let node = sim.node("a");
        let main = node.boot(|rt| async move { rt.sleep(SECOND).await });
        node.freeze(Duration::MAX);
        assert_eq!(main.await, Ok(()));
    }));
    assert!(failed.to_string().contains("held back"), "{failed}");
}

#[test]
fn a_test_that_does_not_end_in_time_fails() {
    let mut sim = Sim::with(Config { limit: 60 * SECOND, ..Config::new(6) });
    let rt = sim.rt();
    let beat = rt.clone();
    let _beat = rt.spawn("beat", TaskClass::Lease, async move {
        loop {
            beat.sleep(SECOND).await;
        }
    });
    let failed = failure(sim.block_on(std::future::pending()));
    assert!(matches!(*failed.cause, Cause::Overdue(_)), "{failed}");
    assert_eq!(failed.at, 60 * SECOND);
    assert!(sim.advance(SECOND).is_err(), "a failed run stays failed");
}

#[test]
fn a_task_that_wakes_itself_for_ever_is_named() {
    let mut sim = Sim::with(Config { polls_per_instant: 1_000, ..Config::new(7) });
    let _spin = sim.spawn(
        "spins",
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            std::task::Poll::<()>::Pending
        }),
    );
    let failed = failure(sim.advance(SECOND));
    assert!(matches!(&*failed.cause, Cause::Spinning(task) if task.name == "spins"), "{failed}");
}

#[test]
fn a_check_is_made_after_every_poll() {
    let failed = failure(sim::check(8, |sim| async move {
        sim.check(|now| if now < 10 * SECOND { Ok(()) } else { Err(format!("too late: {now:?}")) });
        for _ in 0..100 {
            sim.sleep(SECOND).await;
        }
    }));
    assert_eq!(failed.at, 10 * SECOND);
    assert!(failed.to_string().contains("too late: 10s"), "{failed}");
}

#[test]
fn what_stands_for_a_service_can_fail_the_run() {
    let failed = failure(sim::check(9, |sim| async move {
        sim.sleep(SECOND).await;
        sim.fail("two owners");
        sim.sleep(SECOND).await;
    }));
    assert_eq!(failed.at, SECOND);
    assert!(matches!(&*failed.cause, Cause::Violated { message, .. } if message == "two owners"), "{failed}");
}
