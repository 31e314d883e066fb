//! Time, tasks and the primitives between them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kcl_core::{TaskClass, TaskEnd};
use sim::{Config, Sched, Sim};
use tokio::sync::{Mutex, Notify, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn time_jumps_to_the_next_timer() {
    let (slept, wall, polls) = sim::run(1, |sim| async move {
        let rt = sim.rt();
        let begin = rt.stamp();
        rt.sleep(365 * 24 * 3_600 * SECOND / 100).await;
        let end = rt.stamp();
        (end.mono.since(begin.mono), end.wall.duration_since(sim::epoch()).expect("later"), sim.polls())
    });
    assert_eq!(slept, 365 * 24 * 3_600 * SECOND / 100);
    assert_eq!(wall, slept);
    assert_eq!(polls, 2);
}

#[test]
fn a_test_that_drives_the_run_itself_stands_at_the_time_it_asked_for() {
    let mut sim = Sim::new(1);
    let handle = sim.handle();
    let mut main = sim.node("a").boot(|rt| async move {
        rt.sleep(10 * SECOND).await;
        handle.now()
    });
    sim.run_until(9 * SECOND).expect("runs");
    assert_eq!((sim.now(), main.now()), (9 * SECOND, None));
    sim.advance(SECOND).expect("runs");
    assert_eq!((sim.now(), main.now()), (10 * SECOND, Some(Ok(10 * SECOND))));
    assert!(!sim.step().expect("runs"), "nothing is left");
}

#[test]
fn a_timeout_drops_the_work_where_it_stands() {
    sim::run(2, |sim| async move {
        let rt = sim.node("a").rt();
        let held = Arc::new(());
        let inside = held.clone();
        let work = async {
            let _inside = inside;
            rt.sleep(2 * SECOND).await;
        };
        assert_eq!(rt.timeout(SECOND, work).await, None);
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(rt.timeout(SECOND, async { 7 }).await, Some(7));
        assert_eq!(sim.now(), SECOND);
    });
}

#[test]
fn a_dropped_handle_ends_its_task() {
    sim::run(3, |sim| async move {
        let node = sim.node("a");
        let task = node.rt().spawn("loop", TaskClass::Lease, std::future::pending::<()>());
        sim.settle().await;
        assert_eq!(node.tasks().len(), 1);
        drop(task);
        sim.settle().await;
        assert_eq!(node.tasks(), []);
    });
}

#[test]
fn the_primitives_of_tokio_sync_work_between_tasks() {
    sim::run(4, |sim| async move {
        let rt = sim.node("a").rt();
        let (tx, mut rx) = mpsc::channel(2);
        let producer = rt.spawn("producer", TaskClass::Processing, {
            let rt = rt.clone();
            async move {
                for n in 0..10 {
                    tx.send(n).await.expect("open");
                    rt.sleep(SECOND).await;
                }
            }
        });
        let mut got = Vec::new();
        while let Some(n) = rx.recv().await {
            got.push(n);
        }
        assert_eq!(got, (0..10).collect::<Vec<_>>());
        assert_eq!(producer.await, Ok(()));

        let notify = Arc::new(Notify::new());
        let woken = rt.spawn("notified", TaskClass::Lease, {
            let notify = notify.clone();
            async move { notify.notified().await }
        });
        sim.settle().await;
        notify.notify_one();
        assert_eq!(woken.await, Ok(()));

        let (tx, rx) = oneshot::channel();
        let answer = rt.spawn("oneshot", TaskClass::Lease, rx);
        tx.send(5).expect("open");
        assert_eq!(answer.await, Ok(Ok(5)));

        let token = CancellationToken::new();
        let cancelled = rt.spawn("cancelled", TaskClass::Lease, token.child_token().cancelled_owned());
        sim.settle().await;
        token.cancel();
        assert_eq!(cancelled.await, Ok(()));

        let (tx, mut rx) = watch::channel(0);
        let seen = rt.spawn("watch", TaskClass::Lease, async move { *rx.wait_for(|n| *n == 3).await.expect("open") });
        for n in 1..=3 {
            sim.settle().await;
            tx.send(n).expect("open");
        }
        assert_eq!(seen.await, Ok(3));

        let (tx, mut rx) = broadcast::channel(4);
        let heard = rt.spawn("broadcast", TaskClass::Lease, async move { rx.recv().await });
        tx.send("news").expect("heard");
        assert_eq!(heard.await, Ok(Ok("news")));
    });
}

#[test]
fn locks_and_sets_of_futures_work_across_awaits() {
    sim::run(5, |sim| async move {
        let rt = sim.node("a").rt();
        let (sum, permits) = (Arc::new(Mutex::new(0)), Arc::new(Semaphore::new(2)));
        let mut all: FuturesUnordered<_> = (1..=20)
            .map(|n| {
                let (rt2, sum, permits) = (rt.clone(), sum.clone(), permits.clone());
                rt.spawn(format!("adder {n}"), TaskClass::Processing, async move {
                    let _permit = permits.acquire().await.expect("open");
                    let mut sum = sum.lock().await;
                    rt2.sleep(SECOND).await;
                    *sum += n;
                })
            })
            .collect();
        while let Some(ended) = all.next().await {
            assert_eq!(ended, Ok(()));
        }
        assert_eq!(*sum.lock().await, 210);
        assert_eq!(sim.now(), 20 * SECOND);
    });
}

/// The order in which five tasks that are woken at one instant run.
fn order(config: Config) -> Vec<u32> {
    let mut sim = Sim::with(config);
    let (tx, mut rx) = mpsc::channel(5);
    let rt = sim.rt();
    let tasks: Vec<_> = (0..5)
        .map(|n| {
            let tx = tx.clone();
            rt.spawn("racer", TaskClass::Lease, async move { tx.send(n).await })
        })
        .collect();
    drop(tx);
    let order = sim.block_on(async {
        let mut order = Vec::new();
        while let Some(n) = rx.recv().await {
            order.push(n);
        }
        order
    });
    assert!(sim.step().is_ok());
    drop(tasks);
    order.expect("runs")
}

#[test]
fn a_seed_decides_which_of_the_ready_tasks_runs_first() {
    let orders: std::collections::BTreeSet<Vec<u32>> = (0..400).map(|seed| order(Config::new(seed))).collect();
    assert!(orders.len() > 100, "{} of the 120 orders", orders.len());
    assert_eq!(order(Config { sched: Sched::Fifo, ..Config::new(1) }), [0, 1, 2, 3, 4]);
}

#[test]
fn a_task_that_ends_with_its_runtime_says_so() {
    sim::run(6, |sim| async move {
        let node = sim.node("a");
        let task = node.rt().spawn("waits", TaskClass::Lease, std::future::pending::<()>());
        node.kill();
        assert_eq!(task.await, Err(TaskEnd::Dropped));
    });
}
