//! One seed, one run.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kcl_core::{Rt, TaskClass};
use rand::Rng as _;
use sim::Handle;
use tokio::sync::{mpsc, watch};

/// A small fleet with jittered loops, a channel, several waiters on one watch (which tokio wakes in an order of its own
/// making), a freeze, a suspend, a kill and a reboot.
fn fleet(seed: u64) -> (u64, u64) {
    sim::run(seed, |sim| async move {
        let (tx, mut rx) = mpsc::channel(4);
        let (told, news) = watch::channel(0_u32);
        for n in 0..4 {
            let node = sim.node(&format!("worker-{n}"));
            node.set_rate(n * 100 - 150);
            let (tx, news) = (tx.clone(), news.clone());
            let _main = node.boot(|rt| worker(rt, tx, news));
        }
        drop(tx);
        let faults = sim.clone();
        let _faults = sim.spawn("faults", async move { inject(&faults).await });
        for n in 0..500_u32 {
            if rx.recv().await.is_some() && n % 10 == 0 {
                told.send(n).expect("workers listen");
            }
        }
        (sim.trace_hash(), sim.polls())
    })
}

async fn worker(rt: Rt, tx: mpsc::Sender<u64>, news: watch::Receiver<u32>) {
    let listeners: Vec<_> = (0..8)
        .map(|n| {
            let (mut news, rt2) = (news.clone(), rt.clone());
            rt.spawn(format!("listener {n}"), TaskClass::Lease, async move {
                while news.changed().await.is_ok() {
                    rt2.sleep(rt2.jitter(Duration::from_millis(3))).await;
                }
            })
        })
        .collect();
    while tx.send(rt.next_u64()).await.is_ok() {
        rt.sleep(rt.jitter(Duration::from_millis(40))).await;
    }
    drop(listeners);
}

async fn inject(sim: &Handle) {
    let mut rng = sim.rng("faults");
    sim.sleep(Duration::from_millis(100 + rng.next_u64() % 100)).await;
    sim.node("worker-0").freeze(Duration::from_millis(300));
    sim.node("worker-1").suspend(Duration::from_millis(200));
    sim.node("worker-2").block_processing(Duration::from_millis(200));
    sim.sleep(Duration::from_millis(rng.next_u64() % 100)).await;
    sim.node("worker-3").kill();
}

#[test]
fn a_seed_repeats_its_run_poll_for_poll() {
    let first = fleet(1);
    assert!(first.1 > 1_000, "{} polls", first.1);
    assert_eq!(first, fleet(1));
    let other = std::thread::spawn(|| fleet(1)).join().expect("runs");
    assert_eq!(first, other, "another thread has other thread-locals");
}

#[test]
fn seeds_differ() {
    let hashes: BTreeSet<u64> = (0..20).map(|seed| fleet(seed).0).collect();
    assert_eq!(hashes.len(), 20);
}

const CHILD: &str = "SIM_CHILD";

#[test]
fn a_child_process_repeats_the_run() {
    let mine = format!("trace {:x?}", fleet(9));
    if std::env::var_os(CHILD).is_some() {
        println!("\n{mine}");
        return;
    }
    let child = Command::new(std::env::current_exe().expect("the test's binary"))
        .args(["--exact", "determinism::a_child_process_repeats_the_run", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("runs");
    let printed = String::from_utf8_lossy(&child.stdout);
    assert!(printed.lines().any(|line| line == mine), "{mine} is not in\n{printed}");
}

#[test]
fn streams_by_label_do_not_shift_each_other() {
    let draws = |first: &'static str| {
        sim::run(3, |sim| async move {
            let mut rng = sim.rng(first);
            let _one = rng.next_u64();
            sim.rng("workload").next_u64()
        })
    };
    assert_eq!(draws("faults"), draws("net"));
}

#[test]
fn a_note_of_the_test_reaches_the_trace() {
    let hash = |note| {
        sim::run(4, |sim| async move {
            sim.note(note);
            sim.trace_hash()
        })
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn runs_of_two_threads_do_not_touch() {
    let alone = fleet(5);
    let together: Vec<_> = (0..2).map(|_| std::thread::spawn(|| fleet(5))).collect();
    for run in together {
        assert_eq!(run.join().expect("runs"), alone);
    }
}

#[test]
fn a_run_that_ends_frees_everything() {
    let held = Arc::new(());
    let inside = held.clone();
    sim::run(6, |sim| async move {
        let rt = sim.node("a").rt();
        let task = rt.spawn("cycle", TaskClass::Lease, {
            let (rt, sim) = (rt.clone(), sim.clone());
            async move {
                let _held = (rt, sim, inside);
                std::future::pending::<()>().await;
            }
        });
        sim.settle().await;
        let never_polled = rt.spawn("late", TaskClass::Lease, async {});
        // Both live on to the end of the run.
        Box::leak(Box::new((task, never_polled)));
    });
    assert_eq!(Arc::strong_count(&held), 1);
}
