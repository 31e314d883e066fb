//! What the executor, its tasks and their runtimes share. It holds no future and wakes nobody while it is locked, so no
//! code of a task ever runs under the lock.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use futures::future::BoxFuture;
use kcl_core::TaskClass;

use crate::clock::Time;
use crate::failure::TaskInfo;
use crate::panics::Panics;
use crate::process::{Process, ProcessId};
use crate::ready::{Ready, Sched, TaskRef};
use crate::rng::stream;
use crate::trace::Trace;

/// A check that runs after every poll: the time since the run began, and what is wrong if something is.
pub(crate) type Check = Box<dyn FnMut(Duration) -> Result<(), String> + Send>;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) seed: u64,
    pub(crate) ready: Arc<Ready>,
    pub(crate) panics: Arc<Panics>,
    state: Mutex<State>,
    /// Whether there may be orders. Spares a lock for each poll.
    ordered: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) now: Time,
    pub(crate) trace: Trace,
    /// Every boot of every node. The first is the world's.
    pub(crate) processes: Vec<Process>,
    /// The present boot of each node.
    pub(crate) nodes: BTreeMap<Arc<str>, ProcessId>,
    pub(crate) timers: Timers,
    tasks: Vec<Option<TaskRecord>>,
    free: Vec<usize>,
    spawned: u64,
    orders: Orders,
    /// Whose task is being polled, or was last.
    pub(crate) running: ProcessId,
}

/// What is known of a task beside its future.
#[derive(Debug)]
struct TaskRecord {
    number: u64,
    process: ProcessId,
    name: Cow<'static, str>,
    class: TaskClass,
    polls: u64,
    last_polled: Time,
}

/// What tasks ask of the executor. It obeys when the poll that asked is over.
#[derive(Default)]
pub(crate) struct Orders {
    pub(crate) start: Vec<(TaskRef, BoxFuture<'static, ()>)>,
    /// Processes have died: drop their tasks.
    pub(crate) bury: bool,
    pub(crate) checks: Vec<Check>,
    pub(crate) violation: Option<String>,
}

impl std::fmt::Debug for Orders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orders").field("start", &self.start.len()).field("bury", &self.bury).finish_non_exhaustive()
    }
}

/// Names one timer: when it is due, its number, and where it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    pub(crate) due: Time,
    number: u64,
    slot: usize,
}

/// The timers. Most are removed before they are due, which must be cheap: a removed one stays in the queue until it comes to the front,
/// or until most of the queue is of that kind.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BinaryHeap<Reverse<TimerKey>>,
    slots: Vec<Option<(u64, Timer)>>,
    free: Vec<usize>,
    made: u64,
}

#[derive(Debug)]
pub(crate) enum Timer {
    /// A sleeper of this process.
    Wake(ProcessId, Waker),
    /// The end of a freeze, a suspend or a block of this process.
    Recheck(ProcessId),
}

/// Removed timers that are not worth a tidying of the queue.
const REMOVED: usize = 64;

impl Timers {
    pub(crate) fn insert(&mut self, due: Time, timer: Timer) -> TimerKey {
        self.made += 1;
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some((self.made, timer));
        let key = TimerKey { due, number: self.made, slot };
        self.queue.push(Reverse(key));
        key
    }

    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut Timer> {
        self.slots[key.slot].as_mut().filter(|(number, _)| *number == key.number).map(|(_, timer)| timer)
    }

    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Timer> {
        let (_, timer) = self.slots[key.slot].take_if(|(number, _)| *number == key.number)?;
        self.free.push(key.slot);
        let live = self.slots.len() - self.free.len();
        if self.queue.len() > REMOVED + 4 * live {
            let slots = &self.slots;
            self.queue.retain(|Reverse(key)| is_kept(slots, *key));
        }
        Some(timer)
    }

    /// The next that is due, if any ever is.
    fn first(&mut self) -> Option<TimerKey> {
        while let Some(Reverse(key)) = self.queue.peek().copied() {
            if is_kept(&self.slots, key) {
                return Some(key).filter(|key| key.due != Time::NEVER);
            }
            self.queue.pop();
        }
        None
    }

    /// Whether any will be due.
    pub(crate) fn waits(&mut self) -> bool {
        self.first().is_some()
    }

    fn pop(&mut self, now: Time) -> Option<Timer> {
        let key = self.first().filter(|key| key.due <= now)?;
        self.remove(key)
    }

    /// Takes the wakers of every sleeper of `process`: its clock has changed, and they must count anew.
    pub(crate) fn take_sleepers(&mut self, process: ProcessId) -> Vec<Waker> {
        let sleeps = |(_, timer): &mut (u64, Timer)| matches!(timer, Timer::Wake(of, _) if *of == process);
        let mut wakers = Vec::new();
        for (slot, kept) in self.slots.iter_mut().enumerate() {
            if let Some((_, Timer::Wake(_, waker))) = kept.take_if(sleeps) {
                self.free.push(slot);
                wakers.push(waker);
            }
        }
        wakers
    }
}

fn is_kept(slots: &[Option<(u64, Timer)>], key: TimerKey) -> bool {
    slots[key.slot].as_ref().is_some_and(|(number, _)| *number == key.number)
}

impl Shared {
    pub(crate) fn new(seed: u64, sched: Sched) -> Self {
        let world: Arc<str> = Arc::from("world");
        let state = State {
            now: Time::default(),
            trace: Trace::default(),
            processes: vec![Process::first(seed, &world)],
            nodes: BTreeMap::from([(world, ProcessId::WORLD)]),
            timers: Timers::default(),
            tasks: Vec::new(),
            free: Vec::new(),
            spawned: 0,
            orders: Orders::default(),
            running: ProcessId::WORLD,
        };
        Self {
            seed,
            ready: Arc::new(Ready::new(sched, stream(seed, "sched", 0))),
            panics: Arc::default(),
            state: Mutex::new(state),
            ordered: AtomicBool::new(false),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves something for the executor to do after this poll.
    pub(crate) fn order(&self, order: impl FnOnce(&mut Orders)) {
        order(&mut self.lock().orders);
        self.ordered.store(true, Ordering::SeqCst);
    }

    pub(crate) fn take_orders(&self) -> Option<Orders> {
        self.ordered.swap(false, Ordering::SeqCst).then(|| std::mem::take(&mut self.lock().orders))
    }

    /// Starts a task. Gives the future back if the process is dead; to be dropped without the lock.
    pub(crate) fn spawn(
        &self,
        process: ProcessId,
        name: Cow<'static, str>,
        class: TaskClass,
        future: BoxFuture<'static, ()>,
    ) -> Option<BoxFuture<'static, ()>> {
        let mut state = self.lock();
        if !state.process(process).alive {
            return Some(future);
        }
        let task = state.admit(process, name, class);
        state.orders.start.push((task, future));
        self.ordered.store(true, Ordering::SeqCst);
        None
    }

    /// Moves time to the next timer that is due by `until`; answers whether there was one. Fills `wake`.
    pub(crate) fn jump(&self, until: Time, wake: &mut Vec<Waker>) -> bool {
        let mut state = self.lock();
        let Some(at) = state.timers.first().map(|key| key.due).filter(|at| *at <= until) else { return false };
        state.now = state.now.max(at);
        let now = state.now;
        while let Some(timer) = state.timers.pop(now) {
            match timer {
                Timer::Wake(_, waker) => wake.push(waker),
                Timer::Recheck(process) => self.recheck(&mut state, process, wake),
            }
        }
        true
    }

    /// Lets go of what `process` holds back without a reason. Fills `wake`.
    pub(crate) fn recheck(&self, state: &mut State, process: ProcessId, wake: &mut Vec<Waker>) {
        let now = state.now;
        if state.process_mut(process).recheck(now) {
            wake.extend(state.timers.take_sleepers(process));
        }
        for task in std::mem::take(&mut state.process_mut(process).held) {
            self.ready.insert(task);
        }
    }
}

impl State {
    pub(crate) fn process(&self, id: ProcessId) -> &Process {
        &self.processes[id.0]
    }

    pub(crate) fn process_mut(&mut self, id: ProcessId) -> &mut Process {
        &mut self.processes[id.0]
    }

    /// Enters a task into the books.
    pub(crate) fn admit(&mut self, process: ProcessId, name: Cow<'static, str>, class: TaskClass) -> TaskRef {
        self.spawned += 1;
        let number = self.spawned;
        let record = Some(TaskRecord { number, process, name, class, polls: 0, last_polled: self.now });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.tasks[slot] = record;
                slot
            }
            None => {
                self.tasks.push(record);
                self.tasks.len() - 1
            }
        };
        TaskRef { number, slot }
    }

    /// Whether `task` may be polled now, and notes the poll. Otherwise its process holds it back, or it is gone.
    pub(crate) fn begin(&mut self, task: TaskRef) -> bool {
        let Some(record) = self.tasks[task.slot].as_mut().filter(|record| record.number == task.number) else {
            return false;
        };
        let process = &mut self.processes[record.process.0];
        if !process.alive {
            return false;
        }
        if process.holds(self.now, record.class) {
            process.held.push(task);
            return false;
        }
        record.polls += 1;
        record.last_polled = self.now;
        self.running = record.process;
        self.trace.poll(task.number, self.now);
        true
    }

    /// Strikes a task from the books.
    pub(crate) fn finish(&mut self, task: TaskRef) {
        if self.tasks[task.slot].as_ref().is_some_and(|record| record.number == task.number) {
            self.tasks[task.slot] = None;
            self.free.push(task.slot);
        }
    }

    /// The tasks whose processes are dead, oldest first.
    pub(crate) fn dead_tasks(&self) -> Vec<TaskRef> {
        self.refs(|process| !process.alive)
    }

    /// Tasks of living processes that `of` accepts, oldest first.
    pub(crate) fn infos(&self, of: impl Fn(ProcessId) -> bool) -> Vec<TaskInfo> {
        let mut infos: Vec<TaskInfo> = self
            .tasks
            .iter()
            .flatten()
            .filter(|record| self.process(record.process).alive && of(record.process))
            .map(|record| self.describe(record))
            .collect();
        infos.sort_by_key(|info| info.number);
        infos
    }

    pub(crate) fn info(&self, task: TaskRef) -> Option<TaskInfo> {
        let record = self.tasks[task.slot].as_ref().filter(|record| record.number == task.number)?;
        Some(self.describe(record))
    }

    fn refs(&self, of: impl Fn(&Process) -> bool) -> Vec<TaskRef> {
        let mut refs: Vec<TaskRef> = (0..)
            .zip(&self.tasks)
            .filter_map(|(slot, record)| record.as_ref().map(|record| (slot, record)))
            .filter(|(_, record)| of(self.process(record.process)))
            .map(|(slot, record)| TaskRef { number: record.number, slot })
            .collect();
        refs.sort();
        refs
    }

    fn describe(&self, record: &TaskRecord) -> TaskInfo {
        let process = self.process(record.process);
        TaskInfo {
            number: record.number,
            name: record.name.clone(),
            node: process.node.clone(),
            boot: process.boot,
            class: record.class,
            polls: record.polls,
            last_polled: record.last_polled.since_start(),
            held: process.holds(self.now, record.class),
        }
    }
}
