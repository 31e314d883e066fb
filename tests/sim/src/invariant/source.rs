//! The stream as one worker reads it, watched: calls, failures and pages.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kcl_core::{
    DescribePage, IteratorPosition, Record, RecordsPage, ShardId, ShardIterator, SourceError, SourceOp, StreamArn,
    StreamDescription, StreamSource, StreamSummary, TableName,
};

use super::{Seen, Watch};

pub(super) struct Watched {
    inner: Arc<dyn StreamSource>,
    watch: Watch,
    /// The shards that iterators are of.
    shards: Mutex<BTreeMap<String, ShardId>>,
}

/// Iterators that are remembered. One that is forgotten, because it was not asked for long, is not counted when it is.
const ITERATORS: usize = 4096;

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Watched {
    pub(super) fn new(inner: Arc<dyn StreamSource>, watch: Watch) -> Self {
        Self { inner, watch, shards: Mutex::default() }
    }

    fn remember(&self, iterator: &ShardIterator, shard: &ShardId) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if shards.len() >= ITERATORS {
            shards.clear();
        }
        shards.insert(iterator.as_str().to_owned(), shard.clone());
    }

    fn shard_of(&self, iterator: &ShardIterator) -> Option<ShardId> {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.get(iterator.as_str()).cloned()
    }

    fn forget(&self, iterator: &ShardIterator) {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).remove(iterator.as_str());
    }

    fn asked(&self, op: SourceOp, shard: Option<&ShardId>) {
        self.watch.see(&Seen::Asked { place: self.watch.here(), op, shard });
    }

    fn answered<T>(&self, op: SourceOp, answer: Result<T, SourceError>) -> Result<T, SourceError> {
        if let Err(error) = &answer {
            self.watch.see(&Seen::Denied { op, kind: error.kind() });
        }
        answer
    }
}

#[async_trait]
impl StreamSource for Watched {
    async fn list_streams(&self, table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        self.inner.list_streams(table).await
    }

    async fn describe_stream(&self, stream: &StreamArn, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        self.asked(SourceOp::DescribeStream, None);
        self.answered(SourceOp::DescribeStream, self.inner.describe_stream(stream, page).await)
    }

    async fn shard_iterator(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError> {
        let given = self.inner.shard_iterator(stream, shard, position).await;
        let given = self.answered(SourceOp::GetShardIterator, given)?;
        self.remember(&given, shard);
        Ok(given)
    }

    async fn get_records(&self, iterator: &ShardIterator, limit: usize) -> Result<RecordsPage, SourceError> {
        let shard = self.shard_of(iterator);
        self.asked(SourceOp::GetRecords, shard.as_ref());
        let page = self.answered(SourceOp::GetRecords, self.inner.get_records(iterator, limit).await)?;
        if let Some(shard) = &shard {
            self.forget(iterator);
            if let Some(next) = &page.next {
                self.remember(next, shard);
            }
            let last = page.records.last().map(Record::sequence_number);
            self.watch.see(&Seen::Fetched { place: self.watch.here(), shard, bytes: page.records.bytes(), last });
        }
        Ok(page)
    }
}
