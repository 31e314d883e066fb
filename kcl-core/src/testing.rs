//! A runtime for this crate's own tests: tokio's paused clock, on which a day passes at once.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::contract::{Clock, Entropy, Mono, Rt, Spawn, TaskClass};

/// Drives `work` to its end on one thread, in virtual time.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

/// A runtime of the virtual clock. Must be called within [`run`].
pub(crate) fn virtual_rt() -> Rt {
    let origin = tokio::time::Instant::now();
    Rt::new(Arc::new(Paused { origin }), Arc::new(LocalTasks), Arc::new(Counter(AtomicU64::new(1))))
}

struct Paused {
    origin: tokio::time::Instant,
}

impl Clock for Paused {
    fn now(&self) -> Mono {
        Mono::new(self.origin.elapsed())
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.origin.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()> {
        tokio::time::sleep_until(self.origin + at.since_origin()).boxed()
    }
}

struct LocalTasks;

impl Spawn for LocalTasks {
    #[expect(clippy::disallowed_methods, reason = "this is where tasks start")]
    fn spawn(&self, _name: Cow<'static, str>, _class: TaskClass, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

struct Counter(AtomicU64);

impl Entropy for Counter {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
