//! A node: a machine or a container, which boots, runs, fails and boots again under the same name.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kcl_core::{Rt, TaskClass, TaskEnd};
use tokio::sync::oneshot;

use crate::clock::{Skew, Time};
use crate::failure::TaskInfo;
use crate::process::{Process, ProcessId, ProcessRt};
use crate::state::{Shared, State, Timer};

/// A node. Cheap to clone; every clone is the same node. Everything here acts on the boot that is present at the call.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
    name: Arc<str>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name).field("boot", &self.boots()).finish_non_exhaustive()
    }
}

impl Node {
    pub(crate) fn named(shared: &Arc<Shared>, name: &str) -> Self {
        let mut state = shared.lock();
        let name: Arc<str> = Arc::from(name);
        if !state.nodes.contains_key(&name) {
            let id = ProcessId(state.processes.len());
            let now = state.now;
            state.processes.push(Process::boot(shared.seed, &name, 1, now, Skew::default()));
            state.nodes.insert(name.clone(), id);
        }
        drop(state);
        Self { shared: shared.clone(), name }
    }

    fn id(&self, state: &State) -> ProcessId {
        state.nodes[&self.name]
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the present boot, from 1.
    #[must_use]
    pub fn boots(&self) -> u32 {
        let state = self.shared.lock();
        state.process(self.id(&state)).boot
    }

    /// Whether the present boot has not been killed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let state = self.shared.lock();
        state.process(self.id(&state)).alive
    }

    /// The runtime of the present boot. It stays safe when that boot is killed: its clocks go on, and what it is asked
    /// to start is dropped at once.
    #[must_use]
    pub fn rt(&self) -> Rt {
        let id = self.id(&self.shared.lock());
        ProcessRt::rt(&self.shared, id)
    }

    /// Runs `main` as the node's program. A node that was killed, or that runs a program already, is killed and boots
    /// again first.
    pub fn boot<F>(&self, main: impl FnOnce(Rt) -> F) -> Main<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let fresh = {
            let state = self.shared.lock();
            let process = state.process(self.id(&state));
            process.alive && !process.started
        };
        if !fresh {
            self.reboot();
        }
        {
            let mut state = self.shared.lock();
            let id = self.id(&state);
            state.process_mut(id).started = true;
        }
        self.start("main".into(), main(self.rt()))
    }

    /// Runs `task` on the node beside its program.
    pub fn spawn<F>(&self, name: impl Into<std::borrow::Cow<'static, str>>, task: F) -> Main<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.start(name.into(), task)
    }

    fn start<F>(&self, name: std::borrow::Cow<'static, str>, task: F) -> Main<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let task = async move {
            // Whoever started it may not wait for it.
            let _unwanted = done.send(task.await).is_err();
        };
        let id = self.id(&self.shared.lock());
        drop(self.shared.spawn(id, name, TaskClass::Lease, Box::pin(task)));
        Main { result }
    }

    /// Ends the present boot: every task is dropped at the await where it stands, as soon as the present poll is over
    /// and before anything else is polled. Destructors do run, unlike in a real crash, but find their runtime dead:
    /// nothing they start begins.
    pub fn kill(&self) {
        let mut wake = Vec::new();
        {
            let mut state = self.shared.lock();
            let (id, now) = (self.id(&state), state.now);
            let process = state.process_mut(id);
            (process.alive, process.died) = (false, process.died.min(now));
            (process.frozen_until, process.suspended_until, process.blocked_until) = Default::default();
            self.shared.recheck(&mut state, id, &mut wake);
        }
        self.shared.order(|orders| orders.bury = true);
        wake_all(wake);
    }

    /// Kills the present boot and begins the next: new clocks from zero, new randomness, no tasks.
    pub fn reboot(&self) {
        self.kill();
        let mut state = self.shared.lock();
        let old = state.process(self.id(&state));
        let (boot, skew) = (old.boot + 1, old.clock.skew());
        let id = ProcessId(state.processes.len());
        let now = state.now;
        state.processes.push(Process::boot(self.shared.seed, &self.name, boot, now, skew));
        state.nodes.insert(self.name.clone(), id);
    }

    /// Polls nothing of the node for `time`; both clocks go on, timers expire and answers arrive. A long pause of a
    /// process, as of SIGSTOP or of a virtual machine that moves. `Duration::MAX` lasts until [`Node::thaw`].
    pub fn freeze(&self, time: Duration) {
        self.hold(time, |process, until| process.frozen_until = process.frozen_until.max(until));
    }

    /// Ends a freeze, and what blocks user code.
    pub fn thaw(&self) {
        self.change(|process, _| {
            process.frozen_until = Time::default();
            process.blocked_until = Time::default();
            false
        });
    }

    /// Suspends the machine for `time`: nothing is polled and the monotonic clock stands, while the wall clock goes on.
    pub fn suspend(&self, time: Duration) {
        self.hold(time, |process, until| process.suspended_until = process.suspended_until.max(until));
        self.change(|process, now| {
            if now < process.suspended_until {
                process.clock.set_standing(now, true);
                process.was_suspended = true;
            }
            true
        });
    }

    /// Polls no task of [`TaskClass::Processing`] for `time`: user code blocks its threads.
    pub fn block_processing(&self, time: Duration) {
        self.hold(time, |process, until| process.blocked_until = process.blocked_until.max(until));
    }

    /// Lets the monotonic clock run faster by `ppm` parts per million (slower if negative), from now on and in later
    /// boots.
    ///
    /// # Panics
    /// Beyond 10 %, which no clock is wrong by.
    pub fn set_rate(&self, ppm: i32) {
        assert!(ppm.abs() <= 100_000, "a clock that is wrong by {ppm} ppm");
        self.skew(|skew| skew.ppm = ppm);
    }

    /// Sets the wall clock `offset` ahead of the truth, from now on and in later boots.
    pub fn set_wall_ahead(&self, offset: Duration) {
        self.skew(|skew| skew.wall = i64::try_from(offset.as_nanos()).unwrap_or(i64::MAX));
    }

    /// Sets the wall clock `offset` behind the truth, from now on and in later boots.
    pub fn set_wall_behind(&self, offset: Duration) {
        self.skew(|skew| skew.wall = -i64::try_from(offset.as_nanos()).unwrap_or(i64::MAX));
    }

    /// The living tasks of the present boot, oldest first. Once its program has ended and the run has settled there
    /// should be none.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskInfo> {
        let state = self.shared.lock();
        let id = self.id(&state);
        state.infos(|process| process == id)
    }

    fn skew(&self, change: impl FnOnce(&mut Skew)) {
        self.change(|process, now| {
            let mut skew = process.clock.skew();
            change(&mut skew);
            process.clock.set_skew(now, skew);
            true
        });
    }

    fn hold(&self, time: Duration, set: impl FnOnce(&mut Process, Time)) {
        let mut state = self.shared.lock();
        let (id, until) = (self.id(&state), state.now.after(time));
        set(state.process_mut(id), until);
        state.timers.insert(until, Timer::Recheck(id));
    }

    /// Changes the process, wakes its sleepers if its clock changed (answer true), and lets go what may run.
    fn change(&self, change: impl FnOnce(&mut Process, Time) -> bool) {
        let mut wake = Vec::new();
        {
            let mut state = self.shared.lock();
            let (id, now) = (self.id(&state), state.now);
            if change(state.process_mut(id), now) {
                wake = state.timers.take_sleepers(id);
            }
            self.shared.recheck(&mut state, id, &mut wake);
        }
        wake_all(wake);
    }
}

fn wake_all(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// The result of a task to come. Dropping it does not end the task.
#[derive(Debug)]
pub struct Main<T> {
    result: oneshot::Receiver<T>,
}

impl<T> Main<T> {
    /// The result, if the task has ended by now.
    pub fn now(&mut self) -> Option<Result<T, TaskEnd>> {
        match self.result.try_recv() {
            Ok(output) => Some(Ok(output)),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(TaskEnd::Dropped)),
        }
    }
}

impl<T> Future for Main<T> {
    type Output = Result<T, TaskEnd>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.result).poll(cx).map(|result| result.map_err(|_| TaskEnd::Dropped))
    }
}
