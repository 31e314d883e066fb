//! Gives the calls of a stream a round trip.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::contract::{Rt, SourceError, SourceOp, StreamSource};

type RoundTrip = dyn Fn(SourceOp) -> Duration + Send + Sync;

/// Delays calls: half of the round trip passes before the call, half after it, so an answer is as old as on a network.
#[derive(Clone)]
pub struct LatencySource {
    inner: Arc<dyn StreamSource>,
    rt: Rt,
    round_trip: Arc<RoundTrip>,
}

impl LatencySource {
    /// The round trip of each call of `inner` is what `round_trip` says when it begins.
    #[must_use]
    pub fn new(
        inner: Arc<dyn StreamSource>,
        rt: Rt,
        round_trip: impl Fn(SourceOp) -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self { inner, rt, round_trip: Arc::new(round_trip) }
    }

    /// Every call takes `round_trip`.
    #[must_use]
    pub fn fixed(inner: Arc<dyn StreamSource>, rt: Rt, round_trip: Duration) -> Self {
        Self::new(inner, rt, move |_| round_trip)
    }

    /// Every call takes from half of `longest` to all of it, at random.
    #[must_use]
    pub fn jittered(inner: Arc<dyn StreamSource>, rt: Rt, longest: Duration) -> Self {
        let random = rt.clone();
        Self::new(inner, rt, move |_| random.jitter(longest))
    }

    /// The half that is still to come.
    async fn before(&self, op: SourceOp) -> Result<Duration, SourceError> {
        let half = (self.round_trip)(op) / 2;
        self.rt.sleep(half).await;
        Ok(half)
    }

    async fn after(&self, _op: SourceOp, half: Duration) -> Result<(), SourceError> {
        self.rt.sleep(half).await;
        Ok(())
    }
}

impl fmt::Debug for LatencySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencySource").field("inner", &self.inner).finish_non_exhaustive()
    }
}

around_source!(LatencySource);
