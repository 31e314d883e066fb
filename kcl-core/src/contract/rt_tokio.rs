//! The production runtime: tokio, the machine's clocks, the operating system's randomness.
#![expect(clippy::disallowed_methods, reason = "this is the one place where time, tasks and randomness come from")]

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::{BoxFuture, FutureExt};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::rt::{Clock, Entropy, Mono, Rt, Spawn, TaskClass};

impl Rt {
    /// The runtime of the calling task, and one thread beside it for what keeps leases alive: user code that blocks every thread of
    /// its runtime costs no lease. The thread ends with the last clone of this.
    ///
    /// # Errors
    /// The thread could not be started, or the caller is not inside a tokio runtime.
    pub fn tokio() -> io::Result<Self> {
        let processing = Handle::try_current().map_err(io::Error::other)?;
        let spawn = TokioSpawn { processing, lease: LeaseThread::start()? };
        let clock = TokioClock { origin: Instant::now() };
        Ok(Self::new(Arc::new(clock), Arc::new(spawn), Arc::new(OsEntropy)))
    }
}

struct TokioClock {
    origin: Instant,
}

impl Clock for TokioClock {
    fn now(&self) -> Mono {
        Mono::new(self.origin.elapsed())
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()> {
        // Beyond what the clock can tell there is nothing to wait for; a year will do.
        let wait = at.since_origin().min(self.origin.elapsed() + Duration::from_secs(365 * 86_400));
        let at = tokio::time::Instant::from_std(self.origin + wait);
        // Made when first polled, so that it belongs to the runtime that polls it.
        async move { tokio::time::sleep_until(at).await }.boxed()
    }
}

struct TokioSpawn {
    processing: Handle,
    lease: LeaseThread,
}

impl Spawn for TokioSpawn {
    fn spawn(&self, _name: Cow<'static, str>, class: TaskClass, task: BoxFuture<'static, ()>) {
        match class {
            TaskClass::Processing => self.processing.spawn(task),
            TaskClass::Lease => self.lease.handle.spawn(task),
        };
    }
}

/// A thread with a runtime of its own.
struct LeaseThread {
    handle: Handle,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl LeaseThread {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("kcl-leases".to_owned()).spawn(move || {
            // An error means that the sender is gone, which is the signal.
            let _gone = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _stop: stop })
    }
}

struct OsEntropy;

impl Entropy for OsEntropy {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}
