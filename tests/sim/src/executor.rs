//! The executor: one thread, virtual time, and a seed that decides every order.

use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use kcl_core::TaskClass;

use crate::clock::Time;
use crate::failure::{Cause, Failure, TaskInfo};
use crate::handle::Handle;
use crate::process::ProcessId;
use crate::ready::{Sched, TaskRef, TaskWaker};
use crate::state::{Check, Orders, Shared};

/// How to run.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Which of the runnable tasks is next.
    pub sched: Sched,
    /// The virtual time that [`Sim::block_on`] allows in one call.
    pub limit: Duration,
    /// How many polls may happen at one instant before they count as endless.
    pub polls_per_instant: u64,
}

impl Config {
    /// Random choice, at most thirty days, at most a million polls at one instant.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let limit = Duration::from_secs(30 * 24 * 3_600);
        Self { seed, sched: Sched::Random, limit, polls_per_instant: 1_000_000 }
    }
}

/// A run. Everything a [`Handle`] can do, and the driving of it.
///
/// It belongs to one thread at a time, and there is nothing global in it but the panic hook, so every thread can have
/// runs of its own.
pub struct Sim {
    handle: Handle,
    config: Config,
    /// By slot. Nobody else holds them: nothing can end a task in the midst of its poll.
    tasks: Vec<Option<Task>>,
    checks: Vec<Check>,
    due: Vec<Waker>,
    instant: (Time, u64),
    failed: Option<Failure>,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("config", &self.config).field("now", &self.now()).finish_non_exhaustive()
    }
}

struct Task {
    number: u64,
    /// None for the root future, which stays with whoever waits for it.
    future: Option<BoxFuture<'static, ()>>,
    flag: Arc<TaskWaker>,
    waker: Waker,
}

enum Turn {
    /// A task was polled, or time went on.
    Went,
    /// The root future is to be polled.
    Root,
    /// Nothing can run by the given time.
    Idle,
}

impl Deref for Sim {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Sim {
    /// A run from `seed`, at time zero, with an empty world.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(Config::new(seed))
    }

    /// A run as configured.
    #[must_use]
    pub fn with(config: Config) -> Self {
        let shared = Arc::new(Shared::new(config.seed, config.sched));
        Self {
            handle: Handle { shared },
            config,
            tasks: Vec::new(),
            checks: Vec::new(),
            due: Vec::new(),
            instant: (Time::default(), 0),
            failed: None,
        }
    }

    /// What tasks get of the run.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Polls one task, or moves time to the next timer. Answers whether there was anything to do.
    ///
    /// # Errors
    /// The run has failed.
    pub fn step(&mut self) -> Result<bool, Failure> {
        let _watch = self.shared.panics.watch();
        Ok(!matches!(self.turn(Time::NEVER)?, Turn::Idle))
    }

    /// Runs everything that happens up to and at `time` since the run began; then it is that time.
    ///
    /// # Errors
    /// The run has failed.
    pub fn run_until(&mut self, time: Duration) -> Result<(), Failure> {
        self.run_to(Time::default().after(time))
    }

    /// Runs everything that happens in the next `time`.
    ///
    /// # Errors
    /// The run has failed.
    pub fn advance(&mut self, time: Duration) -> Result<(), Failure> {
        let until = self.shared.lock().now.after(time);
        self.run_to(until)
    }

    fn run_to(&mut self, until: Time) -> Result<(), Failure> {
        let _watch = self.shared.panics.watch();
        while !matches!(self.turn(until)?, Turn::Idle) {}
        let mut state = self.shared.lock();
        state.now = state.now.max(until);
        Ok(())
    }

    /// Runs until `root` is ready. It runs in the world: no fault touches it.
    ///
    /// # Errors
    /// The run has failed: a task panicked, a check found something wrong, nothing can run any more while `root`
    /// waits, or `root` is not ready within the configured limit of virtual time.
    pub fn block_on<F: Future>(&mut self, root: F) -> Result<F::Output, Failure> {
        let _watch = self.shared.panics.watch();
        let mut root = pin!(root);
        let task = self.shared.lock().admit(ProcessId::WORLD, "root".into(), TaskClass::Lease);
        let waker = self.enter(task, None);
        let ended = self.drive(task, &waker, &mut root);
        self.leave(task);
        ended
    }

    fn drive<F: Future>(&mut self, task: TaskRef, waker: &Waker, root: &mut Pin<&mut F>) -> Result<F::Output, Failure> {
        let limit = self.shared.lock().now.after(self.config.limit);
        loop {
            match self.turn(limit)? {
                Turn::Went => {}
                Turn::Root => {
                    let polled = catch_unwind(AssertUnwindSafe(|| root.as_mut().poll(&mut Context::from_waker(waker))));
                    self.after_poll(Some(task))?;
                    match polled {
                        Ok(Poll::Pending) => {}
                        Ok(Poll::Ready(output)) => return Ok(output),
                        // The panic was allowed, but nothing is left to wait for.
                        Err(_) => {
                            let message = "the root future panicked".to_owned();
                            return Err(self.fail_with(Cause::Violated { message, task: self.info(Some(task)) }));
                        }
                    }
                }
                Turn::Idle => {
                    let tasks = self.handle.tasks();
                    let waits = self.shared.lock().timers.waits();
                    let cause = if waits { Cause::Overdue(tasks) } else { Cause::Deadlocked(tasks) };
                    return Err(self.fail_with(cause));
                }
            }
        }
    }

    /// Ends every node and the world and drops all tasks.
    ///
    /// # Errors
    /// The run had failed, or a destructor panicked.
    pub fn close(&mut self) -> Result<(), Failure> {
        let _watch = self.shared.panics.watch();
        for process in &mut self.shared.lock().processes {
            process.alive = false;
        }
        let mut failed = self.failed.take();
        while let Some(orders) = self.shared.take_orders() {
            for (task, future) in orders.start {
                self.enter(task, Some(future));
            }
        }
        // Each call that fails has dropped at least one task.
        while let Err(failure) = self.bury() {
            failed.get_or_insert(failure);
        }
        self.failed = failed;
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// One poll, or one jump of time.
    fn turn(&mut self, until: Time) -> Result<Turn, Failure> {
        self.obey(None)?;
        while let Some(task) = self.handle.shared.ready.next() {
            let now = {
                let mut state = self.handle.shared.lock();
                if !state.begin(task) {
                    continue;
                }
                state.now
            };
            let Some(running) = self.tasks.get_mut(task.slot).and_then(Option::as_mut) else { continue };
            running.flag.polled();
            self.count(task, now)?;
            return self.poll(task);
        }
        if !self.handle.shared.jump(until, &mut self.due) {
            return Ok(Turn::Idle);
        }
        self.due.drain(..).for_each(Waker::wake);
        Ok(Turn::Went)
    }

    fn poll(&mut self, task: TaskRef) -> Result<Turn, Failure> {
        let Some(Task { future, waker, .. }) = self.tasks[task.slot].as_mut() else { return Ok(Turn::Went) };
        let Some(future) = future else { return Ok(Turn::Root) };
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(waker))));
        match polled {
            Ok(Poll::Pending) => self.after_poll(Some(task))?,
            // The hook has seen the panic; the task is over.
            Ok(Poll::Ready(())) | Err(_) => {
                // First what the poll asked for, so that the task is still known if the run fails.
                let checked = self.after_poll(Some(task));
                self.leave(task);
                checked?;
            }
        }
        Ok(Turn::Went)
    }

    /// Counts the polls of one instant.
    fn count(&mut self, task: TaskRef, now: Time) -> Result<(), Failure> {
        if self.instant.0 != now {
            self.instant = (now, 0);
        }
        self.instant.1 += 1;
        if self.instant.1 <= self.config.polls_per_instant {
            return Ok(());
        }
        let info = self.shared.lock().info(task);
        info.map_or(Ok(()), |info| Err(self.fail_with(Cause::Spinning(info))))
    }

    fn after_poll(&mut self, task: Option<TaskRef>) -> Result<(), Failure> {
        self.obey(task)?;
        if self.checks.is_empty() {
            return Ok(());
        }
        let now = self.handle.now();
        let wrong = self.checks.iter_mut().find_map(|check| check(now).err());
        wrong.map_or(Ok(()), |message| Err(self.fail_with(Cause::Violated { message, task: self.info(task) })))
    }

    /// Does what the last poll, `task`, asked for.
    fn obey(&mut self, task: Option<TaskRef>) -> Result<(), Failure> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.caught(task)?;
        while let Some(Orders { start, bury, checks, violation }) = self.handle.shared.take_orders() {
            for (task, future) in start {
                self.enter(task, Some(future));
            }
            self.checks.extend(checks);
            if let Some(message) = violation {
                return Err(self.fail_with(Cause::Violated { message, task: self.info(task) }));
            }
            if bury {
                self.bury()?;
            }
        }
        Ok(())
    }

    /// Fails the run if a panic was caught that is not allowed.
    fn caught(&mut self, task: Option<TaskRef>) -> Result<(), Failure> {
        let Some(panic) = self.shared.panics.take_fatal() else { return Ok(()) };
        let task = self.info(task).unwrap_or_else(|| TaskInfo::unknown(self.now()));
        Err(self.fail_with(Cause::Panicked { task, message: panic.message, location: panic.location }))
    }

    /// Drops the tasks of dead processes, oldest first.
    fn bury(&mut self) -> Result<(), Failure> {
        let dead = self.shared.lock().dead_tasks();
        for task in dead {
            let taken = self.take(task);
            // The hook has seen a panic of a destructor.
            let _caught = catch_unwind(AssertUnwindSafe(|| drop(taken))).is_err();
            let checked = self.caught(Some(task));
            self.shared.lock().finish(task);
            checked?;
        }
        Ok(())
    }

    fn enter(&mut self, task: TaskRef, future: Option<BoxFuture<'static, ()>>) -> Waker {
        if self.tasks.len() <= task.slot {
            self.tasks.resize_with(task.slot + 1, || None);
        }
        let flag = TaskWaker::ready(&self.shared.ready, task);
        let waker = Waker::from(flag.clone());
        self.tasks[task.slot] = Some(Task { number: task.number, future, flag, waker: waker.clone() });
        waker
    }

    fn take(&mut self, task: TaskRef) -> Option<Task> {
        self.tasks.get_mut(task.slot)?.take_if(|held| held.number == task.number)
    }

    /// Drops a task that is over, then forgets it.
    fn leave(&mut self, task: TaskRef) {
        drop(self.take(task));
        self.shared.lock().finish(task);
    }

    fn info(&self, task: Option<TaskRef>) -> Option<TaskInfo> {
        task.and_then(|task| self.shared.lock().info(task))
    }

    fn fail_with(&mut self, cause: Cause) -> Failure {
        let failure = Failure { seed: self.config.seed, at: self.now(), polls: self.polls(), cause: Box::new(cause) };
        self.failed.insert(failure).clone()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Tasks are dropped while their runtime is dead but whole; who wants to know of panics calls `close` before.
        let _reported = self.close().is_err();
    }
}
