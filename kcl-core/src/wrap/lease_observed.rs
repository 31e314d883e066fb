//! Tells of the calls of a lease table.

use std::fmt;
use std::sync::Arc;

use super::lease_call::{AroundLeaseTable, LeaseCall, Pending};
use crate::contract::{LeaseError, LeaseTable};

/// Tells a closure of each call of the table inside, once that is answered and before its caller hears of it.
#[derive(Clone)]
pub struct ObservedLeaseTable {
    inner: Arc<dyn LeaseTable>,
    after: Arc<dyn Fn(&LeaseCall) + Send + Sync>,
}

impl fmt::Debug for ObservedLeaseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedLeaseTable").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl ObservedLeaseTable {
    /// Calls of `inner` are told to `after`, whatever they answered.
    #[must_use]
    pub fn new(inner: Arc<dyn LeaseTable>, after: impl Fn(&LeaseCall) + Send + Sync + 'static) -> Self {
        Self { inner, after: Arc::new(after) }
    }
}

impl AroundLeaseTable for ObservedLeaseTable {
    async fn around<T: Send + 'static>(&self, call: LeaseCall, pending: Pending<T>) -> Result<T, LeaseError> {
        let answer = pending(self.inner.clone()).await;
        (self.after)(&call);
        answer
    }
}
