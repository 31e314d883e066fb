//! Counts the calls of a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::contract::{SourceError, SourceOp, StreamSource};

/// Counts calls and passes them on. Clones count together.
#[derive(Debug, Clone)]
pub struct CountingSource {
    inner: Arc<dyn StreamSource>,
    counts: Arc<[AtomicU64; SourceOp::ALL.len()]>,
}

impl CountingSource {
    /// Counts the calls of `inner` that are made through this.
    #[must_use]
    pub fn new(inner: Arc<dyn StreamSource>) -> Self {
        Self { inner, counts: Arc::default() }
    }

    /// How often `op` was called, counted at the start of each call.
    #[must_use]
    pub fn count(&self, op: SourceOp) -> u64 {
        self.counts[op as usize].load(Ordering::Relaxed)
    }

    /// How often any was called.
    #[must_use]
    pub fn total(&self) -> u64 {
        SourceOp::ALL.into_iter().map(|op| self.count(op)).sum()
    }

    async fn before(&self, op: SourceOp) -> Result<(), SourceError> {
        self.counts[op as usize].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn after(&self, _op: SourceOp, (): ()) -> Result<(), SourceError> {
        Ok(())
    }
}

around_source!(CountingSource);
