//! The ready set: the tasks that were woken, and which of them is next.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use rand::Rng as _;
use rand::rngs::Xoshiro256PlusPlus;

use crate::rng::below;

/// Which of the tasks that could run next does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sched {
    /// Any, drawn from the seed: each seed is another interleaving.
    #[default]
    Random,
    /// The one that was woken first, as most production executors do.
    Fifo,
}

/// Names one task: its number in the run, and where it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskRef {
    pub(crate) number: u64,
    pub(crate) slot: usize,
}

/// The woken tasks.
#[derive(Debug)]
pub(crate) struct Ready {
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    sched: Sched,
    rng: Xoshiro256PlusPlus,
    /// For [`Sched::Random`] sorted by number, so that the order of the wakes, which some primitives leave to chance,
    /// cannot reach the choice.
    tasks: VecDeque<TaskRef>,
}

impl Ready {
    pub(crate) fn new(sched: Sched, rng: Xoshiro256PlusPlus) -> Self {
        Self { queue: Mutex::new(Queue { sched, rng, tasks: VecDeque::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next task to poll.
    pub(crate) fn next(&self) -> Option<TaskRef> {
        let mut queue = self.lock();
        match (queue.sched, queue.tasks.len()) {
            (_, 0) => None,
            (Sched::Fifo, _) | (Sched::Random, 1) => queue.tasks.pop_front(),
            (Sched::Random, len) => {
                let chosen = below(queue.rng.next_u64(), len);
                queue.tasks.remove(chosen)
            }
        }
    }

    /// Puts `task` in, which must not be in.
    pub(crate) fn insert(&self, task: TaskRef) {
        let mut queue = self.lock();
        let place = match queue.sched {
            Sched::Fifo => queue.tasks.len(),
            Sched::Random => queue.tasks.partition_point(|other| *other < task),
        };
        queue.tasks.insert(place, task);
    }
}

/// Wakes one task. Made once for each.
#[derive(Debug)]
pub(crate) struct TaskWaker {
    ready: Arc<Ready>,
    task: TaskRef,
    /// Whether the task is in the ready set, or held back by its process.
    woken: AtomicBool,
}

impl TaskWaker {
    /// The waker of `task`, which is ready for its first poll.
    pub(crate) fn ready(ready: &Arc<Ready>, task: TaskRef) -> Arc<Self> {
        ready.insert(task);
        Arc::new(Self { ready: ready.clone(), task, woken: AtomicBool::new(true) })
    }

    /// To be called before each poll: wakes from here on count for the next one.
    pub(crate) fn polled(&self) {
        self.woken.store(false, Ordering::SeqCst);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.ready.insert(self.task);
        }
    }
}
