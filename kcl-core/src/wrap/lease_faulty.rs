//! Makes a lease table fail in every way that the contract allows.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::lease_call::{AroundLeaseTable, LeaseCall, Pending};
use crate::contract::{LeaseError, LeaseErrorKind, LeaseTable, Outcome, Rt, TaskClass};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LeaseFault {
    /// Nothing: it is made and answered.
    #[default]
    None,
    /// It is not made; the caller is told that it was not applied.
    NotApplied,
    /// It is not made; the caller is told to come back later.
    Throttled,
    /// It is not made; the caller is told that a permission is missing.
    Denied {
        /// The IAM action to grant.
        action: &'static str,
    },
    /// It is made, and its answer is lost: the caller is told that the outcome is unknown.
    ReplyLost,
    /// It is made long after the caller gave up.
    Late {
        /// When it is made, counted from the call.
        applied_after: Duration,
        /// When the caller is told that the outcome is unknown, counted from the call. `None`: it is never told, and
        /// waits until it drops the call.
        told_after: Option<Duration>,
    },
    /// It is carried as a network does: once it was sent, its caller's end or impatience does not stop it.
    Carried {
        /// How long it takes to the table. `None`: it never gets there.
        there: Option<Duration>,
        /// How long its answer takes from there. `None`: it never comes, and the caller waits until it drops the call.
        back: Option<Duration>,
    },
}

type Decide = dyn Fn(&LeaseCall) -> LeaseFault + Send + Sync;

/// Asks a closure about every call of the table inside, and does to it what the closure says.
#[derive(Clone)]
pub struct FaultyLeaseTable {
    inner: Arc<dyn LeaseTable>,
    rt: Rt,
    decide: Arc<Decide>,
}

impl fmt::Debug for FaultyLeaseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyLeaseTable").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl FaultyLeaseTable {
    /// Calls of `inner` go as `decide` says.
    ///
    /// `rt` times the faults and carries the late calls. Where a caller's crash must not take its late writes with it,
    /// give the runtime of the network here, not the caller's.
    #[must_use]
    pub fn new(
        inner: Arc<dyn LeaseTable>,
        rt: Rt,
        decide: impl Fn(&LeaseCall) -> LeaseFault + Send + Sync + 'static,
    ) -> Self {
        Self { inner, rt, decide: Arc::new(decide) }
    }

    fn send_late<T: Send + 'static>(&self, after: Duration, pending: Pending<T>) {
        let (rt, inner) = (self.rt.clone(), self.inner.clone());
        let late = async move {
            rt.sleep(after).await;
            // Its caller is gone: nobody hears the answer.
            drop(pending(inner).await);
        };
        self.rt.spawn("late lease write", TaskClass::Lease, late).detach();
    }

    async fn carry<T: Send + 'static>(&self, there: Duration, pending: Pending<T>) -> Option<Result<T, LeaseError>> {
        let (rt, inner) = (self.rt.clone(), self.inner.clone());
        let (answered, answer) = oneshot::channel();
        let carried = async move {
            rt.sleep(there).await;
            // Its caller may be gone.
            let _unheard = answered.send(pending(inner).await).is_err();
        };
        self.rt.spawn("lease call under way", TaskClass::Lease, carried).detach();
        answer.await.ok()
    }
}

impl AroundLeaseTable for FaultyLeaseTable {
    async fn around<T: Send + 'static>(&self, call: LeaseCall, pending: Pending<T>) -> Result<T, LeaseError> {
        match (self.decide)(&call) {
            LeaseFault::None => pending(self.inner.clone()).await,
            LeaseFault::NotApplied => Err(call.unavailable(Outcome::NotApplied)),
            LeaseFault::Throttled => Err(call.error(LeaseErrorKind::Throttled)),
            LeaseFault::Denied { action } => Err(call.error(LeaseErrorKind::Denied { action })),
            LeaseFault::ReplyLost => {
                drop(pending(self.inner.clone()).await);
                Err(call.unavailable(Outcome::Unknown))
            }
            LeaseFault::Late { applied_after, told_after } => {
                self.send_late(applied_after, pending);
                match told_after {
                    Some(told_after) => self.rt.sleep(told_after).await,
                    None => std::future::pending().await,
                }
                Err(call.unavailable(Outcome::Unknown))
            }
            LeaseFault::Carried { there, back } => {
                let Some(there) = there else { return std::future::pending().await };
                let answer = if call.operation.is_write() {
                    self.carry(there, pending).await
                } else {
                    // Nobody notices whether a read outlives its caller.
                    if !there.is_zero() {
                        self.rt.sleep(there).await;
                    }
                    Some(pending(self.inner.clone()).await)
                };
                let Some(back) = back else { return std::future::pending().await };
                if !back.is_zero() {
                    self.rt.sleep(back).await;
                }
                answer.unwrap_or_else(|| Err(call.unavailable(Outcome::Unknown)))
            }
        }
    }
}
