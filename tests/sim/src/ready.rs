//! The ready set: the tasks that were woken, and which of them is next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use rand::Rng as _;
use rand::rngs::Xoshiro256PlusPlus;

use crate::rng::{below, mix};

/// Which of the tasks that could run next does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sched {
    /// Any, drawn from the seed: each seed is another interleaving.
    #[default]
    Random,
    /// The one that was woken first, as most production executors do.
    Fifo,
    /// The one of the highest priority. Priorities are drawn for each task, and so many times in every [`PCT_SPAN`] choices the
    /// task that would run falls behind all others: probabilistic concurrency testing, which finds a bug that needs so many
    /// orderings with a known chance.
    Pct(u32),
}

/// Choices among several tasks over which the changes of [`Sched::Pct`] are spread.
pub const PCT_SPAN: usize = 2_000;

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
    /// But for [`Sched::Fifo`] sorted by number, so that the order of the wakes, which some primitives leave to chance,
    /// cannot reach the choice.
    tasks: VecDeque<TaskRef>,
    /// For [`Sched::Pct`]: makes the priorities of tasks, and those that fell behind since, the latest the furthest.
    salt: u64,
    fallen: BTreeMap<u64, u64>,
    lowest: u64,
}

impl Queue {
    /// The place of the task of the highest priority.
    fn first_by_priority(&mut self, depth: u32) -> usize {
        let falls = depth > 0 && below(self.rng.next_u64(), PCT_SPAN / depth as usize) == 0;
        let first = self.highest();
        if !falls {
            return first;
        }
        self.lowest -= 1;
        self.fallen.insert(self.tasks[first].number, self.lowest);
        self.highest()
    }

    fn highest(&self) -> usize {
        // Drawn priorities are above all that have fallen.
        let priority = |task: &TaskRef| {
            self.fallen.get(&task.number).copied().unwrap_or_else(|| mix(self.salt ^ task.number) | 1 << 63)
        };
        let highest = self.tasks.iter().enumerate().max_by_key(|(_, task)| priority(task));
        highest.map_or(0, |(place, _)| place)
    }
}

impl Ready {
    pub(crate) fn new(sched: Sched, rng: Xoshiro256PlusPlus) -> Self {
        let salt = rng.clone().next_u64();
        let (tasks, fallen, lowest) = (VecDeque::new(), BTreeMap::new(), 1 << 62);
        Self { queue: Mutex::new(Queue { sched, rng, tasks, salt, fallen, lowest }) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next task to poll.
    pub(crate) fn next(&self) -> Option<TaskRef> {
        let mut queue = self.lock();
        match (queue.sched, queue.tasks.len()) {
            (_, 0) => None,
            (Sched::Fifo, _) | (_, 1) => queue.tasks.pop_front(),
            (Sched::Random, len) => {
                let chosen = below(queue.rng.next_u64(), len);
                queue.tasks.remove(chosen)
            }
            (Sched::Pct(depth), _) => {
                let chosen = queue.first_by_priority(depth);
                queue.tasks.remove(chosen)
            }
        }
    }

    /// Puts `task` in, which must not be in.
    pub(crate) fn insert(&self, task: TaskRef) {
        let mut queue = self.lock();
        let place = match queue.sched {
            Sched::Fifo => queue.tasks.len(),
            Sched::Random | Sched::Pct(_) => queue.tasks.partition_point(|other| *other < task),
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
