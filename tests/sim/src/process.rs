//! A process: one boot of a node, with its clocks, its randomness and its tasks. It implements the runtime's contracts.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use kcl_core::{Clock, Entropy, Mono, Rt, Spawn, TaskClass};
use rand::Rng as _;
use rand::rngs::Xoshiro256PlusPlus;

use crate::clock::{LocalClock, Skew, Time, nanos};
use crate::ready::TaskRef;
use crate::rng::stream;
use crate::state::{Shared, Timer, TimerKey};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) usize);

impl ProcessId {
    /// The process that never dies: the tests' own tasks and whatever stands for services.
    pub(crate) const WORLD: Self = Self(0);
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) node: Arc<str>,
    pub(crate) boot: u32,
    pub(crate) alive: bool,
    /// When it was killed.
    pub(crate) died: Time,
    /// Whether its monotonic clock ever stood.
    pub(crate) was_suspended: bool,
    /// Whether a main future was started.
    pub(crate) started: bool,
    pub(crate) clock: LocalClock,
    pub(crate) frozen_until: Time,
    pub(crate) suspended_until: Time,
    pub(crate) blocked_until: Time,
    /// Tasks that were woken and may not run now.
    pub(crate) held: Vec<TaskRef>,
    rng: Xoshiro256PlusPlus,
}

impl Process {
    /// The first boot of `node`, at the beginning of the run.
    pub(crate) fn first(seed: u64, node: &Arc<str>) -> Self {
        Self::boot(seed, node, 1, Time::default(), Skew::default())
    }

    pub(crate) fn boot(seed: u64, node: &Arc<str>, boot: u32, now: Time, skew: Skew) -> Self {
        Self {
            node: node.clone(),
            boot,
            alive: true,
            died: Time::NEVER,
            was_suspended: false,
            started: false,
            clock: LocalClock::new(now, skew),
            frozen_until: Time::default(),
            suspended_until: Time::default(),
            blocked_until: Time::default(),
            held: Vec::new(),
            rng: stream(seed, &format!("node/{node}"), boot),
        }
    }

    /// Whether tasks of `class` may not be polled now.
    pub(crate) fn holds(&self, now: Time, class: TaskClass) -> bool {
        let blocked = now < self.blocked_until && class == TaskClass::Processing;
        blocked || now < self.frozen_until || now < self.suspended_until
    }

    /// Sets the monotonic clock going if a suspend is over; answers whether it did.
    pub(crate) fn recheck(&mut self, now: Time) -> bool {
        let resumed = self.clock.is_standing() && now >= self.suspended_until;
        if resumed {
            self.clock.set_standing(now, false);
        }
        resumed
    }
}

/// The runtime of one process.
#[derive(Debug, Clone)]
pub(crate) struct ProcessRt {
    shared: Arc<Shared>,
    id: ProcessId,
}

impl ProcessRt {
    pub(crate) fn rt(shared: &Arc<Shared>, id: ProcessId) -> Rt {
        let this = Arc::new(Self { shared: shared.clone(), id });
        Rt::new(this.clone(), this.clone(), this)
    }
}

impl Clock for ProcessRt {
    fn now(&self) -> Mono {
        let state = self.shared.lock();
        Mono::new(Duration::from_nanos(state.process(self.id).clock.read(state.now)))
    }

    fn wall(&self) -> SystemTime {
        let state = self.shared.lock();
        state.process(self.id).clock.wall(state.now)
    }

    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { process: self.clone(), at: nanos(at.since_origin()), timer: None })
    }
}

impl Spawn for ProcessRt {
    fn spawn(&self, name: Cow<'static, str>, class: TaskClass, task: BoxFuture<'static, ()>) {
        drop(self.shared.spawn(self.id, name, class, task));
    }
}

impl Entropy for ProcessRt {
    fn next_u64(&self) -> u64 {
        self.shared.lock().process_mut(self.id).rng.next_u64()
    }
}

/// Ready once the process's monotonic clock reads `at`.
#[derive(Debug)]
struct Sleep {
    process: ProcessRt,
    at: u64,
    timer: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.process.shared.lock();
        let now = state.now;
        let clock = state.process(this.process.id).clock;
        if clock.read(now) >= this.at {
            // One that was due has been taken out when it fired.
            this.timer = this.timer.filter(|key| key.due > now);
            return Poll::Ready(());
        }
        let due = clock.when(this.at);
        let kept = this.timer.filter(|key| key.due == due);
        let mut replaced = None;
        match kept.and_then(|key| state.timers.get_mut(key)) {
            Some(Timer::Wake(_, waker)) if waker.will_wake(cx.waker()) => {}
            Some(timer) => replaced = Some(std::mem::replace(timer, Timer::Wake(this.process.id, cx.waker().clone()))),
            None => {
                replaced = this.timer.take().and_then(|key| state.timers.remove(key));
                this.timer = Some(state.timers.insert(due, Timer::Wake(this.process.id, cx.waker().clone())));
            }
        }
        drop(state);
        // A waker belongs to whoever polls, and may do anything when it is dropped: not under the lock.
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let removed = self.timer.take().and_then(|key| self.process.shared.lock().timers.remove(key));
        drop(removed);
    }
}
