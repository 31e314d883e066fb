//! Makes a lease table take time.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::lease_call::{AroundLeaseTable, LeaseCall, Pending};
use crate::contract::{LeaseError, LeaseTable, Rt};

/// Every call of the table inside takes a random time: half of it on the way there, half on the way back.
///
/// A call dropped on its way there was not made; one dropped on its way back was.
#[derive(Debug, Clone)]
pub struct LatencyLeaseTable {
    inner: Arc<dyn LeaseTable>,
    rt: Rt,
    round_trip: RangeInclusive<Duration>,
}

impl LatencyLeaseTable {
    /// Calls of `inner` take a round trip out of this range, in `rt`'s time.
    #[must_use]
    pub fn new(inner: Arc<dyn LeaseTable>, rt: Rt, round_trip: RangeInclusive<Duration>) -> Self {
        Self { inner, rt, round_trip }
    }

    fn draw(&self) -> Duration {
        let (low, high) = (*self.round_trip.start(), *self.round_trip.end());
        let span = u64::try_from(high.saturating_sub(low).as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        low + Duration::from_nanos(self.rt.next_u64() % span)
    }
}

impl AroundLeaseTable for LatencyLeaseTable {
    async fn around<T: Send + 'static>(&self, _call: LeaseCall, pending: Pending<T>) -> Result<T, LeaseError> {
        let half = self.draw() / 2;
        self.rt.sleep(half).await;
        let answer = pending(self.inner.clone()).await;
        self.rt.sleep(half).await;
        answer
    }
}
