//! Notices panics, also those that are caught inside a task.

use std::any::Any;
use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

/// A panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Panic {
    pub(crate) message: String,
    pub(crate) location: String,
}

/// The panics of one run.
#[derive(Debug, Default)]
pub(crate) struct Panics {
    log: Mutex<Log>,
    /// Whether there are fatal ones. Spares a lock for each poll.
    fatal: AtomicBool,
}

#[derive(Debug, Default)]
struct Log {
    allowed: Vec<String>,
    tolerated: u64,
    fatal: Vec<Panic>,
}

thread_local! {
    /// The run that this thread is carrying out.
    static CURRENT: RefCell<Option<Arc<Panics>>> = const { RefCell::new(None) };
}

/// Directs this thread's panics to a run for as long as it lives.
#[derive(Debug)]
pub(crate) struct Watch {
    outer: Option<Arc<Panics>>,
}

impl Panics {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch(self: &Arc<Self>) -> Watch {
        install();
        Watch { outer: CURRENT.replace(Some(self.clone())) }
    }

    /// Panics with a text that contains `text` do not fail the run.
    pub(crate) fn allow(&self, text: String) {
        self.lock().allowed.push(text);
    }

    pub(crate) fn tolerated(&self) -> u64 {
        self.lock().tolerated
    }

    /// Takes the first panic that fails the run.
    pub(crate) fn take_fatal(&self) -> Option<Panic> {
        if !self.fatal.load(Ordering::Relaxed) {
            return None;
        }
        let mut log = self.lock();
        if log.fatal.is_empty() { None } else { Some(log.fatal.remove(0)) }
    }

    /// Counts the panic if it is allowed, and keeps it if it is not. Answers whether it is allowed.
    fn record(&self, panic: Panic) -> bool {
        let mut log = self.lock();
        let allowed = log.allowed.iter().any(|text| panic.message.contains(text));
        if allowed {
            log.tolerated += 1;
        } else {
            log.fatal.push(panic);
            self.fatal.store(true, Ordering::Relaxed);
        }
        allowed
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        CURRENT.set(self.outer.take());
    }
}

/// A hook is the only place that sees a panic which is caught further up in the task. It belongs to the process; it
/// touches only the panics of threads that carry out a run, and hands on all others.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let run = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
            let allowed = run.is_some_and(|run| run.record(describe(info)));
            if !allowed {
                before(info);
            }
        }));
    });
}

fn describe(info: &PanicHookInfo<'_>) -> Panic {
    let location = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    Panic { message: text(info.payload()), location }
}

fn text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
