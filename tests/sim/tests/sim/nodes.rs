//! What can befall a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kcl_core::{Rt, TaskClass, TaskEnd};
use sim::Handle;
use tokio::sync::Notify;

const SECOND: Duration = Duration::from_secs(1);

/// Counts the seconds that a node lives through.
async fn count(rt: Rt, beats: Arc<AtomicU64>) {
    loop {
        rt.sleep(SECOND).await;
        beats.fetch_add(1, Ordering::SeqCst);
    }
}

fn beats() -> (Arc<AtomicU64>, impl Fn() -> u64) {
    let beats = Arc::new(AtomicU64::new(0));
    let read = beats.clone();
    (beats, move || read.load(Ordering::SeqCst))
}

/// Records that it was dropped, and tries to start something as it goes.
struct Dropped(Rt, Handle, Arc<AtomicU64>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let dropped = self.2.clone();
        dropped.fetch_add(1, Ordering::SeqCst);
        let late = self.0.spawn("late", TaskClass::Lease, async move { dropped.fetch_add(100, Ordering::SeqCst) });
        drop(late);
        assert!(self.0.now().since_origin() <= self.1.now(), "the clocks stay safe");
    }
}

#[test]
fn a_kill_drops_every_task_at_its_await_and_what_they_start_then_never_begins() {
    sim::run(1, |sim| async move {
        let node = sim.node("a");
        let (dropped, read) = beats();
        let rt = node.rt();
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let guard = Dropped(rt.clone(), sim.clone(), dropped.clone());
                rt.spawn("guarded", TaskClass::Processing, async move {
                    let guard = guard;
                    guard.0.sleep(10 * SECOND).await;
                })
            })
            .collect();
        sim.sleep(SECOND).await;
        assert_eq!((node.tasks().len(), read()), (3, 0));
        node.kill();
        assert_eq!((node.tasks().len(), read()), (0, 0), "destructors run when the present poll is over");
        sim.settle().await;
        assert_eq!(read(), 3);
        sim.sleep(100 * SECOND).await;
        assert_eq!(read(), 3);
        assert!(!node.is_alive());
        for task in tasks {
            assert_eq!(task.await, Err(TaskEnd::Dropped));
        }
    });
}

#[test]
fn a_node_can_kill_itself_in_the_midst_of_a_poll() {
    sim::run(2, |sim| async move {
        let node = sim.node("a");
        let me = node.clone();
        let (after, read) = beats();
        let main = node.boot(|rt| async move {
            me.kill();
            after.fetch_add(1, Ordering::SeqCst);
            rt.sleep(SECOND).await;
            after.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(main.await, Err(TaskEnd::Dropped));
        sim.sleep(10 * SECOND).await;
        assert_eq!(read(), 1, "the poll ends, and no other follows");
    });
}

#[test]
fn a_freeze_polls_nothing_while_both_clocks_go_on_and_timers_expire() {
    sim::run(3, |sim| async move {
        let node = sim.node("a");
        let (count_of, read) = beats();
        let _main = node.boot(|rt| count(rt, count_of));
        sim.sleep(3 * SECOND).await;
        sim.settle().await;
        let before = (node.rt().stamp(), read());
        node.freeze(10 * SECOND);
        sim.sleep(9 * SECOND).await;
        assert_eq!(read(), before.1);
        assert!(node.tasks()[0].held);
        sim.sleep(SECOND).await;
        sim.settle().await;
        assert_eq!(read(), before.1 + 1, "what expired meanwhile runs at once, and late");
        let stamp = node.rt().stamp();
        assert_eq!(stamp.mono.since(before.0.mono), 10 * SECOND + Duration::from_nanos(1));
        assert_eq!(stamp.wall.duration_since(before.0.wall).expect("later"), 10 * SECOND + Duration::from_nanos(1));
    });
}

#[test]
fn a_thaw_ends_a_freeze_without_an_end() {
    sim::run(4, |sim| async move {
        let node = sim.node("a");
        let (count_of, read) = beats();
        let _main = node.boot(|rt| count(rt, count_of));
        sim.settle().await;
        node.freeze(Duration::MAX);
        sim.sleep(100 * SECOND).await;
        assert_eq!(read(), 0);
        node.thaw();
        sim.settle().await;
        assert_eq!(read(), 1);
    });
}

#[test]
fn a_suspend_lets_the_wall_clock_go_on_alone() {
    sim::run(5, |sim| async move {
        let node = sim.node("a");
        let rt = node.rt();
        let (count_of, read) = beats();
        let _main = node.boot(|rt| count(rt, count_of));
        sim.sleep(SECOND / 2).await;
        let before = rt.stamp();
        node.suspend(10 * SECOND);
        sim.sleep(10 * SECOND).await;
        let after = rt.stamp();
        assert_eq!(after.mono.since(before.mono), Duration::ZERO);
        assert_eq!(after.wall.duration_since(before.wall).expect("later"), 10 * SECOND);
        assert_eq!(read(), 0);
        sim.sleep(SECOND / 2).await;
        sim.settle().await;
        assert_eq!(read(), 1, "the sleep goes on with the half second that was left");
    });
}

#[test]
fn overlapping_holds_last_until_the_later_end() {
    sim::run(6, |sim| async move {
        let node = sim.node("a");
        let (count_of, read) = beats();
        let _main = node.boot(|rt| count(rt, count_of));
        node.suspend(4 * SECOND);
        node.freeze(2 * SECOND);
        node.suspend(3 * SECOND);
        sim.sleep(4 * SECOND).await;
        sim.settle().await;
        assert_eq!(read(), 0);
        sim.sleep(SECOND).await;
        assert_eq!((read(), node.rt().now().since_origin()), (1, SECOND + Duration::from_nanos(1)));
    });
}

#[test]
fn a_node_sleeps_by_its_own_clock() {
    for (ppm, took) in [(0, 100_000), (250_000 / 10, 97_561), (-20_000, 102_041)] {
        let slept = sim::run(7, |sim| async move {
            let node = sim.node("a");
            node.set_rate(ppm);
            let rt = node.rt();
            let begin = rt.now();
            rt.sleep(100 * SECOND).await;
            assert_eq!(rt.now().since(begin).as_micros(), 100_000_000);
            sim.now()
        });
        assert_eq!((slept + Duration::from_micros(500)).as_millis(), took, "{ppm} ppm");
    }
}

#[test]
fn a_clock_that_speeds_up_shortens_the_sleeps_under_way() {
    sim::run(8, |sim| async move {
        let node = sim.node("a");
        let rt = node.rt();
        let main = node.boot(|rt| async move { rt.sleep(22 * SECOND).await });
        sim.sleep(11 * SECOND).await;
        node.set_rate(100_000);
        assert_eq!(main.await, Ok(()));
        assert_eq!((sim.now(), rt.now().since_origin()), (21 * SECOND, 22 * SECOND));
    });
}

#[test]
fn a_wall_clock_may_be_wrong_and_step_back() {
    sim::run(9, |sim| async move {
        let node = sim.node("a");
        node.set_wall_ahead(60 * SECOND);
        assert_eq!(node.rt().wall(), sim.wall() + 60 * SECOND);
        node.set_wall_behind(60 * SECOND);
        assert_eq!(node.rt().wall(), sim.wall() - 60 * SECOND);
        node.reboot();
        assert_eq!(node.rt().wall(), sim.wall() - 60 * SECOND, "a boot does not set the clock");
    });
}

#[test]
fn blocked_processing_does_not_stop_lease_tasks() {
    sim::run(10, |sim| async move {
        let node = sim.node("a");
        let rt = node.rt();
        let ((lease, lease_beats), (processing, processing_beats)) = (beats(), beats());
        let _lease = rt.spawn("renew", TaskClass::Lease, count(rt.clone(), lease));
        let _processing = rt.spawn("process", TaskClass::Processing, count(rt.clone(), processing));
        sim.settle().await;
        node.block_processing(10 * SECOND);
        sim.sleep(9 * SECOND).await;
        assert_eq!((lease_beats(), processing_beats()), (9, 0));
        sim.sleep(SECOND).await;
        sim.settle().await;
        assert_eq!((lease_beats(), processing_beats()), (10, 1));
    });
}

#[test]
fn a_reboot_has_new_clocks_and_new_randomness_and_no_tasks() {
    sim::run(11, |sim| async move {
        let node = sim.node("a");
        let (count_of, read) = beats();
        let first = node.boot(|rt| count(rt, count_of));
        let old = node.rt();
        let drawn = old.next_u64();
        sim.sleep(5 * SECOND + SECOND / 2).await;
        let second = node.boot(|rt| async move { (rt.now().since_origin(), rt.next_u64()) });
        let (began, drawn_again) = second.await.expect("runs");
        assert_eq!(began, Duration::ZERO);
        assert_ne!(drawn_again, drawn);
        assert_eq!((node.boots(), node.tasks().len(), read()), (2, 0, 5));
        assert_eq!(first.await, Err(TaskEnd::Dropped));
        assert_eq!(old.now().since_origin(), sim.now(), "the clock of the old boot never goes back");
    });
}

#[test]
fn two_boots_draw_what_they_draw_in_every_run_whatever_the_other_draws() {
    let drawn = |extra: u32| {
        sim::run(12, |sim| async move {
            for _ in 0..extra {
                let _other = sim.node("other").rt().next_u64();
            }
            let node = sim.node("a");
            let first = node.rt().next_u64();
            node.reboot();
            (first, node.rt().next_u64())
        })
    };
    assert_eq!(drawn(0), drawn(3));
}

#[test]
fn tasks_that_outlive_their_program_are_listed() {
    sim::run(13, |sim| async move {
        let node = sim.node("a");
        let stop = Arc::new(Notify::new());
        let wait = stop.clone();
        let main = node.boot(|rt| async move {
            let forgotten = rt.spawn("forgotten", TaskClass::Lease, async move { wait.notified().await });
            Some(forgotten)
        });
        let handle = main.await.expect("runs").expect("started");
        sim.settle().await;
        let names: Vec<_> = node.tasks().into_iter().map(|task| task.name).collect();
        assert_eq!(names, ["forgotten"]);
        stop.notify_one();
        assert_eq!(handle.await, Ok(()));
    });
}
