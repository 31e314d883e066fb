//! Counts the calls of a lease table.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::lease_call::{AroundLeaseTable, LeaseCall, LeaseOperation, Pending};
use crate::contract::{LeaseError, LeaseTable};

/// Counts the calls of the table inside, whatever they answer. Clones share their counts.
#[derive(Debug, Clone)]
pub struct CountingLeaseTable {
    inner: Arc<dyn LeaseTable>,
    counts: Arc<Mutex<LeaseCounts>>,
}

/// How often each method was called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaseCounts(BTreeMap<LeaseOperation, u64>);

impl LeaseCounts {
    /// Calls of one method.
    #[must_use]
    pub fn of(&self, operation: LeaseOperation) -> u64 {
        self.0.get(&operation).copied().unwrap_or(0)
    }

    /// Calls of the methods that only read.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.0.iter().filter(|(operation, _)| !operation.is_write()).map(|(_, n)| n).sum()
    }

    /// Calls of the methods that write.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.0.iter().filter(|(operation, _)| operation.is_write()).map(|(_, n)| n).sum()
    }
}

impl CountingLeaseTable {
    /// Counts the calls of `inner` from now on.
    #[must_use]
    pub fn new(inner: Arc<dyn LeaseTable>) -> Self {
        Self { inner, counts: Arc::default() }
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> LeaseCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counts so far; counting starts again at zero.
    #[must_use]
    pub fn take_counts(&self) -> LeaseCounts {
        std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AroundLeaseTable for CountingLeaseTable {
    async fn around<T: Send + 'static>(&self, call: LeaseCall, pending: Pending<T>) -> Result<T, LeaseError> {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).0.entry(call.operation).or_default() += 1;
        pending(self.inner.clone()).await
    }
}
