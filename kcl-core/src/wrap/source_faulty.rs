//! Makes a stream fail in every way that the contract allows.

use std::fmt;
use std::sync::Arc;

use crate::contract::{SourceError, SourceErrorKind, SourceOp, StreamSource};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceFault {
    /// It is not made, and fails so.
    Refused(SourceErrorKind),
    /// It is made, its answer is lost, and the caller is told this.
    ReplyLost(SourceErrorKind),
}

type Decide = dyn Fn(SourceOp) -> Option<SourceFault> + Send + Sync;

/// Asks a closure about every call of the stream inside, and does to it what the closure says.
#[derive(Clone)]
pub struct FaultySource {
    inner: Arc<dyn StreamSource>,
    decide: Arc<Decide>,
}

impl FaultySource {
    /// Calls of `inner` go as `decide` says, which is asked once for each call, before it; `None` lets it be.
    #[must_use]
    pub fn new(
        inner: Arc<dyn StreamSource>,
        decide: impl Fn(SourceOp) -> Option<SourceFault> + Send + Sync + 'static,
    ) -> Self {
        Self { inner, decide: Arc::new(decide) }
    }

    /// The error that takes the answer's place, if the call is made all the same.
    async fn before(&self, op: SourceOp) -> Result<Option<SourceErrorKind>, SourceError> {
        match (self.decide)(op) {
            None => Ok(None),
            Some(SourceFault::Refused(kind)) => Err(SourceError::new(kind, op.name())),
            Some(SourceFault::ReplyLost(kind)) => Ok(Some(kind)),
        }
    }

    async fn after(&self, op: SourceOp, lost: Option<SourceErrorKind>) -> Result<(), SourceError> {
        lost.map_or(Ok(()), |kind| Err(SourceError::new(kind, op.name())))
    }
}

impl fmt::Debug for FaultySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultySource").field("inner", &self.inner).finish_non_exhaustive()
    }
}

around_source!(FaultySource);
