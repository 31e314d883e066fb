//! What a worker was told to read, and the way from a stream that was switched off to the one that follows it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::consumer::Factory;
use super::resolve::StreamSpec;
use crate::contract::{BootstrapMarker, SourceError, StreamSource};
use crate::model::{Lease, StartPosition, StreamArn};
use crate::policy::succession;

/// What is read, from where, and by which processors.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) spec: StreamSpec,
    /// Where the application begins on a stream that it has never read.
    pub(crate) start: StartPosition,
    pub(crate) factory: Factory,
}

impl Subscription {
    /// Whether the stream that comes after one that was switched off is read too.
    pub(crate) fn follows(&self) -> bool {
        matches!(self.spec, StreamSpec::Table { .. })
    }

    /// The same, for a stream that follows another: nothing of it is left out.
    pub(crate) fn at_the_beginning(&self) -> Arc<Self> {
        Arc::new(Self { start: StartPosition::TrimHorizon, ..self.clone() })
    }

    /// The stream of the same table that was enabled next after `old`.
    pub(crate) async fn next_stream(
        &self,
        old: &StreamArn,
        source: &dyn StreamSource,
    ) -> Result<Option<StreamArn>, SourceError> {
        let StreamSpec::Table { name, .. } = &self.spec else { return Ok(None) };
        let listed = source.list_streams(name).await?;
        Ok(succession::successor(old, listed.iter().map(|stream| &stream.arn)).cloned())
    }

    /// The stream after `old` that a worker of this fleet has begun on: then `old` was read to its end.
    pub(crate) fn announced<'a>(
        &self,
        old: &StreamArn,
        markers: impl Iterator<Item = &'a BootstrapMarker>,
    ) -> Option<&'a StreamArn> {
        succession::successor(old, markers.map(|marker| &marker.stream)).filter(|_| self.follows())
    }

    /// The streams before `current` that were read to their ends, and are to be read again: only a rewind does that.
    pub(crate) fn taken_back(&self, current: &StreamArn, leases: &[Arc<Lease>]) -> BTreeSet<StreamArn> {
        if self.follows() { succession::taken_back(current, leases) } else { BTreeSet::new() }
    }
}

/// The streams that leases belong to, where that is known.
pub(crate) fn owned_by<'a>(
    leases: &'a [Arc<Lease>],
    streams: &'a crate::policy::round::Streams<'a>,
) -> impl Iterator<Item = (&'a StreamArn, &'a Lease)> {
    leases.iter().filter_map(|lease| Some((streams.stream_of(lease).or(lease.stream.as_ref())?, &**lease)))
}
