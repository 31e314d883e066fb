//! What an operator sets and sees: settings, events, status, metrics. The runners report here; nothing here acts.

pub(crate) mod config;
pub(crate) mod event;
pub(crate) mod health;
pub mod metrics;
pub(crate) mod status;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock whose holder panicked still guards whole values: nothing is left half done under the locks of this library.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
