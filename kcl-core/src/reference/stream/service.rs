//! The service as its readers see it.

use std::ops::Bound;

use async_trait::async_trait;

use super::ReferenceStream;
use super::error::{ServiceError, ServiceErrorCode, TableError};
use super::iterator::Cursor;
use super::lineage::{Stream, no_shard};
use super::options::{LastPage, StreamOptions};
use super::shard::{Shard as StoredShard, Span};
use super::state::{Moment, State};
use crate::contract::{DescribePage, MAX_RECORDS, RecordsPage, ShardIterator, SourceError, SourceOp, StreamSource};
use crate::model::{
    IteratorPosition, Shard, ShardId, StreamArn, StreamDescription, StreamStatus, StreamSummary, TableName,
};
use crate::record::RecordBatch;

#[async_trait]
impl StreamSource for ReferenceStream {
    async fn list_streams(&self, table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        Ok(self.list_limited(Some(table), None, usize::MAX)?.streams)
    }

    async fn describe_stream(&self, stream: &StreamArn, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        self.describe_limited(stream, page, usize::MAX)
    }

    async fn shard_iterator(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.open_shard(stream, shard, position)
    }

    async fn get_records(&self, iterator: &ShardIterator, limit: usize) -> Result<RecordsPage, SourceError> {
        self.read_page(iterator, limit)
    }
}

/// One page of ListStreams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamList {
    /// The streams, each table's oldest first.
    pub streams: Vec<StreamSummary>,
    /// Where the next page starts; absent at the end.
    pub last_evaluated: Option<StreamArn>,
}

/// The calls of [`StreamSource`] without waiting, and with what the service has beyond it: every answer is there at once.
impl ReferenceStream {
    /// At most `limit` streams of `table`, or of all tables, that come after `after` (its
    /// [`last_evaluated`](StreamList::last_evaluated) of the page before).
    ///
    /// # Errors
    /// As [`StreamSource::list_streams`].
    pub fn list_limited(
        &self,
        table: Option<&TableName>,
        after: Option<&StreamArn>,
        limit: usize,
    ) -> Result<StreamList, SourceError> {
        let op = SourceOp::ListStreams;
        self.with(|state, moment| list(state, table, after, limit, moment)).map_err(|error| error.of(op))
    }

    /// As [`StreamSource::describe_stream`], with at most `limit` shards a page.
    ///
    /// # Errors
    /// As there; `Invalid` for a limit of 0.
    pub fn describe_limited(
        &self,
        stream: &StreamArn,
        page: &DescribePage,
        limit: usize,
    ) -> Result<StreamDescription, SourceError> {
        let op = SourceOp::DescribeStream;
        self.with(|state, moment| describe(state, stream, page, limit, moment)).map_err(|error| error.of(op))
    }

    /// As [`StreamSource::shard_iterator`].
    ///
    /// # Errors
    /// As there.
    pub fn open_shard(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError> {
        let op = SourceOp::GetShardIterator;
        self.with(|state, moment| open(state, stream, shard, position, moment)).map_err(|error| error.of(op))
    }

    /// As [`StreamSource::get_records`].
    ///
    /// # Errors
    /// As there.
    pub fn read_page(&self, iterator: &ShardIterator, limit: usize) -> Result<RecordsPage, SourceError> {
        let op = SourceOp::GetRecords;
        self.with(|state, moment| read(state, iterator, limit, moment)).map_err(|error| error.of(op))
    }
}

fn list(
    state: &mut State,
    table: Option<&TableName>,
    after: Option<&StreamArn>,
    limit: usize,
    moment: Moment,
) -> Result<StreamList, ServiceError> {
    state.admit(SourceOp::ListStreams, moment.now)?;
    let retention = state.options.retention;
    let after = after.cloned().map_or(Bound::Unbounded, Bound::Excluded);
    // The ARNs of one table differ in their labels alone, which sort by age.
    let mut found = state
        .streams
        .range((after, Bound::Unbounded))
        .map(|(_, stream)| stream)
        .filter(|stream| table.is_none_or(|table| stream.arn.table_name() == table.as_str()))
        .filter(|stream| stream.exists(moment.now, retention))
        .map(|stream| StreamSummary { arn: stream.arn.clone() });
    let streams: Vec<StreamSummary> = found.by_ref().take(limit).collect();
    let more = found.next().is_some();
    if streams.is_empty() && table.is_some_and(|table| !state.tables.contains_key(table)) {
        return Err(not_found("Requested resource not found: Table not found"));
    }
    let last_evaluated = streams.last().filter(|_| more).map(|stream| stream.arn.clone());
    Ok(StreamList { streams, last_evaluated })
}

fn describe(
    state: &mut State,
    arn: &StreamArn,
    page: &DescribePage,
    limit: usize,
    moment: Moment,
) -> Result<StreamDescription, ServiceError> {
    state.admit(SourceOp::DescribeStream, moment.now)?;
    if limit == 0 {
        return Err(ServiceError::new(ServiceErrorCode::Validation, "Limit must be at least 1"));
    }
    let (stream, options) = stream(state, arn, moment)?;
    let status = stream.status(moment.now, options);
    let mut listed = candidates(stream, page)
        .filter(|_| status != StreamStatus::Enabling)
        .filter(|(_, shard)| shard.is_listed(moment.now, options.visibility))
        .map(|(id, shard)| Shard {
            id: id.clone(),
            parent: shard.parent.clone(),
            starting: Some(shard.starting),
            ending: shard.listed_ending(moment.now, options.visibility),
        });
    let limit = limit.min(options.describe_page.max(1));
    let shards: Vec<Shard> = listed.by_ref().take(limit).collect();
    let full = shards.len() == limit;
    let more = full && (options.trailing_empty_page || listed.next().is_some());
    let last_evaluated = shards.last().filter(|_| more).map(|shard| shard.id.clone());
    Ok(StreamDescription { status, view_type: Some(stream.view.clone()), shards, last_evaluated })
}

/// The shards that a page is about, listed or not, in the order of their names.
fn candidates<'a>(
    stream: &'a Stream,
    page: &'a DescribePage,
) -> Box<dyn Iterator<Item = (&'a ShardId, &'a StoredShard)> + 'a> {
    let Some(parent) = &page.children_of else {
        let after = page.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        return Box::new(stream.shards.range((after, Bound::Unbounded)));
    };
    // An unknown parent has no children.
    let parent = stream.shards.get(parent).filter(|parent| !parent.vanished);
    let children = parent.map_or(&[][..], |parent| &parent.children);
    let behind = children.iter().filter(|id| page.after.as_ref().is_none_or(|after| *id > after));
    Box::new(behind.filter_map(|id| stream.shards.get_key_value(id)))
}

fn open(
    state: &mut State,
    arn: &StreamArn,
    id: &ShardId,
    position: IteratorPosition,
    moment: Moment,
) -> Result<ShardIterator, ServiceError> {
    state.admit(SourceOp::GetShardIterator, moment.now)?;
    let (generation, reader) = (state.generation, state.readers);
    let (stream, options) = stream(state, arn, moment)?;
    let shard = stream.shard_mut(id)?;
    if !shard.is_readable(moment.now, options.visibility) {
        return Err(no_shard());
    }
    shard.trim_old(moment.now, options.retention, options.keep_history);
    let index = shard.index_of(position)?;
    state.readers += 1;
    let (stream, shard) = (arn.clone(), id.clone());
    Ok(Cursor { stream, shard, index, pages: 0, reader, generation, issued: moment.now }.token())
}

fn read(
    state: &mut State,
    iterator: &ShardIterator,
    limit: usize,
    moment: Moment,
) -> Result<RecordsPage, ServiceError> {
    state.admit(SourceOp::GetRecords, moment.now)?;
    if !(1..=MAX_RECORDS).contains(&limit) {
        return Err(ServiceError::new(ServiceErrorCode::Validation, "Limit must be from 1 to 1000"));
    }
    let cursor = Cursor::parse(iterator)?;
    if cursor.is_expired(moment.now, state.options.iterator_life, state.generation) {
        return Err(ServiceError::new(ServiceErrorCode::ExpiredIterator, "The iterator has expired"));
    }
    let generation = state.generation;
    let (stream, options) = stream(state, &cursor.stream, moment)?;
    let shard = stream.shard_mut(&cursor.shard)?;
    if !shard.is_readable(moment.now, options.visibility) {
        return Err(no_shard());
    }
    shard.trim_old(moment.now, options.retention, options.keep_history);
    shard.readers.admit(cursor.reader, moment.now, options.readers_per_shard, options.reads_per_second)?;
    // Which pages are empty depends on the iterator alone, so that asking it again gives the same.
    let empty = options.empty_page_every.is_some_and(|every| every > 0 && (cursor.pages + 1).is_multiple_of(every));
    let limit = if empty { 0 } else { limit.min(options.page_records.max(1)) };
    let Span { records, index, ended } = shard.read(cursor.index, limit, options.page_bytes)?;
    let last = ended && (options.last_page == LastPage::WithRecords || records.is_empty());
    let pages = cursor.pages.wrapping_add(1);
    let next = (!last).then(|| Cursor { index, pages, generation, issued: moment.now, ..cursor }.token());
    Ok(RecordsPage { records: RecordBatch::new(records), next })
}

/// The stream `arn` as of now, and the options.
fn stream<'a>(
    state: &'a mut State,
    arn: &StreamArn,
    moment: Moment,
) -> Result<(&'a mut Stream, &'a StreamOptions), ServiceError> {
    let missing = |_: TableError| not_found("Requested resource not found: Stream not found");
    state.stream(arn, moment).map(|(stream, options, _)| (stream, options)).map_err(missing)
}

fn not_found(message: &'static str) -> ServiceError {
    ServiceError::new(ServiceErrorCode::ResourceNotFound, message)
}
