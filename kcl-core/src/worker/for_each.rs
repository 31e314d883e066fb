//! A processor made of one closure.

use std::future::Future;
use std::marker::PhantomData;

use async_trait::async_trait;

use crate::contract::{ProcessError, RecordProcessor, ShardContext};
use crate::record::{Record, RecordBatch};

/// Calls a closure for each record, one after the other; an error names the record it failed on.
#[derive(Debug)]
pub struct ForEach<F, Fut> {
    each: F,
    _future: PhantomData<fn() -> Fut>,
}

impl<F, Fut> ForEach<F, Fut> {
    /// A processor that calls `each`.
    #[must_use]
    pub fn new(each: F) -> Self {
        Self { each, _future: PhantomData }
    }
}

#[async_trait]
impl<F, Fut> RecordProcessor for ForEach<F, Fut>
where
    F: Fn(Record) -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), ProcessError>> + Send,
{
    async fn process_records(&mut self, batch: &RecordBatch, _shard: &ShardContext) -> Result<(), ProcessError> {
        for record in batch.iter() {
            (self.each)(record.clone()).await.map_err(|error| error.at(record))?;
        }
        Ok(())
    }
}
