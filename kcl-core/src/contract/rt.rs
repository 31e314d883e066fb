//! The runtime: time, tasks and randomness. All three come through here, so that a whole fleet can run in virtual time.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures::future::{AbortHandle, Abortable, BoxFuture, FutureExt};
use tokio::sync::oneshot;

/// A reading of a monotonic clock: the time since an origin of the clock's own. Readings of different clocks (different
/// processes) are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(Duration);

impl Mono {
    /// The reading `since_origin` after the clock's origin.
    #[must_use]
    pub const fn new(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// The time since the clock's origin.
    #[must_use]
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// The time from `earlier` until this reading, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;

    fn sub(self, before: Duration) -> Self {
        Self(self.0.saturating_sub(before))
    }
}

/// Tells time.
///
/// # Contract
/// 1. `now` never goes back and does not follow corrections of the wall clock.
/// 2. `sleep_until(at)` is ready once `now() >= at`, and not before.
/// 3. `wall` is the time of day. It may jump; only durations within one process and stamps for people come from it.
pub trait Clock: Send + Sync + 'static {
    /// The monotonic clock. Every decision about leases and waits uses this.
    fn now(&self) -> Mono;
    /// The time of day.
    fn wall(&self) -> SystemTime;
    /// Waits.
    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()>;
}

/// Where a task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskClass {
    /// Beside the user's code, which may block its thread.
    Processing,
    /// On threads that user code cannot block: whatever keeps leases alive.
    Lease,
}

/// Starts tasks.
///
/// # Contract
/// 1. The future is polled until it is ready, or dropped when the runtime ends.
/// 2. Tasks of [`TaskClass::Lease`] make progress while every task of the other class blocks its thread.
pub trait Spawn: Send + Sync + 'static {
    /// Starts `task`; `name` is for people.
    fn spawn(&self, name: Cow<'static, str>, class: TaskClass, task: BoxFuture<'static, ()>);
}

/// Gives random numbers: jitter, incarnations.
pub trait Entropy: Send + Sync + 'static {
    /// The next number, all 64 bits random.
    fn next_u64(&self) -> u64;
}

/// Time, tasks and randomness of one process. Cheap to clone.
#[derive(Clone)]
pub struct Rt {
    clock: Arc<dyn Clock>,
    spawn: Arc<dyn Spawn>,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Rt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rt").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Rt {
    /// A runtime of these parts.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, spawn: Arc<dyn Spawn>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, spawn, entropy }
    }

    /// See [`Clock::now`].
    #[must_use]
    pub fn now(&self) -> Mono {
        self.clock.now()
    }

    /// See [`Clock::wall`].
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        self.clock.wall()
    }

    /// Both clocks, read together.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { mono: self.now(), wall: self.wall() }
    }

    /// Waits until `at`.
    ///
    /// # Cancel safety
    /// Dropping it ends the wait and nothing else.
    pub async fn sleep_until(&self, at: Mono) {
        // A timer's ticks are coarse: a wait that is over already would last until the next one.
        if at > self.now() {
            self.clock.sleep_until(at).await;
        }
    }

    /// Waits for `time`.
    ///
    /// # Cancel safety
    /// Dropping it ends the wait and nothing else.
    pub async fn sleep(&self, time: Duration) {
        self.clock.sleep_until(self.now() + time).await;
    }

    /// Runs `work` for at most `limit`; `None` when the time was up, and `work` is dropped where it stood.
    ///
    /// # Cancel safety
    /// That of `work`.
    pub async fn timeout<T>(&self, limit: Duration, work: impl Future<Output = T> + Send) -> Option<T> {
        let until = self.now() + limit;
        let mut work = std::pin::pin!(work);
        // Most work is ready at once, and then there is no timer to make.
        let mut timer = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let timer = timer.get_or_insert_with(|| self.clock.sleep_until(until));
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    /// Starts `task` and returns a handle that ends it when dropped.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, class: TaskClass, task: F) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (abort, registration) = AbortHandle::new_pair();
        let (done, result) = oneshot::channel();
        let guarded = std::panic::AssertUnwindSafe(Abortable::new(task, registration)).catch_unwind();
        // Not an async block, which would keep room for the task twice: where it is captured, and where it is awaited.
        let task = guarded.map(|ended| {
            let ended = match ended {
                Ok(Ok(output)) => Ok(output),
                Ok(Err(_aborted)) => Err(TaskEnd::Aborted),
                Err(panic) => Err(TaskEnd::Panicked(panic_text(&*panic))),
            };
            // The handle may be gone; then nobody wants the result.
            let _unwanted = done.send(ended);
        });
        self.spawn.spawn(name.into(), class, Box::pin(task));
        TaskHandle { abort, result }
    }

    /// A random number.
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        self.entropy.next_u64()
    }

    /// A random fraction of `time`: from half of it to all of it, so that workers started together drift apart.
    #[must_use]
    pub fn jitter(&self, time: Duration) -> Duration {
        let half = time / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        half + Duration::from_nanos(self.next_u64() % span)
    }
}

/// What a panic said, where it said something.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// The monotonic and the wall clock, read together. Made before a write is sent: validity counts from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The monotonic clock.
    pub mono: Mono,
    /// The wall clock, which goes on while the machine is suspended.
    pub wall: SystemTime,
}

/// A running task. Dropping the handle ends the task at its next await.
#[derive(Debug)]
pub struct TaskHandle<T> {
    abort: AbortHandle,
    result: oneshot::Receiver<Result<T, TaskEnd>>,
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskEnd {
    /// It was ended by its handle.
    #[error("the task was ended")]
    Aborted,
    /// It panicked.
    #[error("the task panicked: {0}")]
    Panicked(String),
    /// The runtime is gone.
    #[error("the runtime has ended")]
    Dropped,
}

impl<T> TaskHandle<T> {
    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.abort.abort();
    }

    /// Lets the task go on by itself; its result is lost.
    pub fn detach(mut self) {
        // The drop then aborts a task that was never started.
        self.abort = AbortHandle::new_pair().0;
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskEnd>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.result).poll(cx).map(|result| result.unwrap_or(Err(TaskEnd::Dropped)))
    }
}

impl<T> Drop for TaskHandle<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}
