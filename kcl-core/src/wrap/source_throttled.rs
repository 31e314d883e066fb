//! Throttles a stream.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::contract::{Mono, Rt, SourceError, SourceErrorKind, SourceOp, StreamSource};

/// Refuses calls above a rate as `Throttled`. Clones, and so all who share one, use up the rate together.
#[derive(Debug, Clone)]
pub struct ThrottledSource {
    inner: Arc<dyn StreamSource>,
    rt: Rt,
    limits: BTreeMap<SourceOp, usize>,
    answered: Arc<Mutex<BTreeMap<SourceOp, VecDeque<Mono>>>>,
}

impl ThrottledSource {
    /// Throttles nothing yet.
    #[must_use]
    pub fn new(inner: Arc<dyn StreamSource>, rt: Rt) -> Self {
        Self { inner, rt, limits: BTreeMap::new(), answered: Arc::default() }
    }

    /// Lets through `per_second` calls of `op` in any second, and refuses the others without making them.
    #[must_use]
    pub fn limit(mut self, op: SourceOp, per_second: usize) -> Self {
        self.limits.insert(op, per_second);
        self
    }

    async fn before(&self, op: SourceOp) -> Result<(), SourceError> {
        let Some(limit) = self.limits.get(&op) else { return Ok(()) };
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let (recent, now) = (answered.entry(op).or_default(), self.rt.now());
        while recent.front().is_some_and(|at| *at + Duration::from_secs(1) <= now) {
            recent.pop_front();
        }
        if recent.len() >= *limit {
            return Err(SourceError::new(SourceErrorKind::Throttled, op.name()));
        }
        recent.push_back(now);
        Ok(())
    }

    async fn after(&self, _op: SourceOp, (): ()) -> Result<(), SourceError> {
        Ok(())
    }
}

around_source!(ThrottledSource);
