//! One of several streams that a worker reads, with its own processors.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::for_each::ForEach;
use crate::contract::{ProcessError, RecordProcessorFactory, ShardInfo};
use crate::model::{ArnError, StartPosition};
use crate::record::Record;
use crate::runner::{Factory, StreamSpec};

/// A stream to read: given to [`WorkerBuilder::consume`](super::WorkerBuilder::consume).
#[must_use]
#[derive(Clone)]
pub struct Stream {
    name: String,
    start: Option<StartPosition>,
    factory: Option<Factory>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("name", &self.name).field("start", &self.start).finish_non_exhaustive()
    }
}

impl Stream {
    /// The stream of this table, given by name or ARN. When it is disabled and another one is enabled, the old one is read to its end,
    /// and then the new one from its beginning.
    pub fn table(name: impl Into<String>) -> Self {
        Self { name: name.into(), start: None, factory: None }
    }

    /// The stream with this ARN and no other.
    pub fn arn(arn: impl Into<String>) -> Self {
        Self::table(arn)
    }

    /// Where the application begins on this stream if it has never read it. Default: what the builder says.
    pub fn start(mut self, start: StartPosition) -> Self {
        self.start = Some(start);
        self
    }

    /// Makes the processors of this stream. Default: what the builder says.
    pub fn processor(mut self, factory: impl RecordProcessorFactory) -> Self {
        self.factory = Some(Factory(Arc::new(factory)));
        self
    }

    /// Calls `each` for every record of this stream, one after the other within a shard.
    pub fn for_each<F, Fut>(self, each: F) -> Self
    where
        F: Fn(Record) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ProcessError>> + Send + 'static,
    {
        self.processor(move |_: &ShardInfo| ForEach::new(each.clone()))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn spec(&self) -> Result<StreamSpec, ArnError> {
        self.name.parse()
    }

    /// Its own start position, or that of the builder.
    pub(super) fn start_or(&self, start: StartPosition) -> StartPosition {
        self.start.unwrap_or(start)
    }

    /// Its own factory, or that of the builder.
    pub(super) fn factory_or(&self, factory: Option<&Factory>) -> Option<Factory> {
        self.factory.as_ref().or(factory).cloned()
    }
}
