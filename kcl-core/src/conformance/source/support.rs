//! What the cases have in common: patient calls, whole listings, and items that are told apart.

use serde_dynamo::{AttributeValue, Item};

use super::bed::{BedError, BedSpec, SourceBed, SourceBeds};
use crate::contract::{DescribePage, MAX_RECORDS, RecordsPage, ShardIterator, SourceError, SourceErrorKind};
use crate::model::{IteratorPosition, Shard, ShardId, StreamDescription, StreamViewType};
use crate::record::Record;

/// How often a call is repeated that a source may refuse or answer with nothing. Every wait has an end.
pub(super) const PATIENCE: usize = 200;

/// A stream of one shard with both images.
pub(super) async fn one_shard(beds: &dyn SourceBeds) -> Result<(Box<dyn SourceBed>, ShardId), BedError> {
    let bed = beds.build(BedSpec { view_type: StreamViewType::NewAndOldImages, shards: 1 }).await?;
    let shards = until_listed(&*bed, |shards| !shards.is_empty()).await?;
    assert_eq!(shards.len(), 1, "a bed of one shard lists {shards:?}");
    let shard = shards[0].id.clone();
    Ok((bed, shard))
}

/// The item with the key `n`, zero-padded, and the attribute `v`.
pub(super) fn item(n: usize, v: &str) -> Item {
    let mut item = key(n);
    item.insert("v".to_owned(), AttributeValue::S(v.to_owned()));
    item
}

/// The key of [`item`].
pub(super) fn key(n: usize) -> Item {
    let mut key = Item::default();
    key.insert("id".to_owned(), AttributeValue::S(format!("{n:06}")));
    key
}

/// Which [`item`] the record is about.
pub(super) fn number_of(record: &Record) -> Result<usize, BedError> {
    match record.keys()?.get("id") {
        Some(AttributeValue::S(text)) => Ok(text.parse()?),
        other => Err(format!("the key attribute id is {other:?}").into()),
    }
}

/// The [`item`]s that the records are about.
pub(super) fn numbers_of(records: &[Record]) -> Result<Vec<usize>, BedError> {
    records.iter().map(number_of).collect()
}

/// Writes one item for each number.
pub(super) async fn put_all(bed: &dyn SourceBed, numbers: impl IntoIterator<Item = usize>) -> Result<(), BedError> {
    for n in numbers {
        bed.put(item(n, "first")).await?;
    }
    Ok(())
}

/// The iterator of `shard` at `position`.
pub(super) async fn iterator(
    bed: &dyn SourceBed,
    shard: &ShardId,
    position: IteratorPosition,
) -> Result<ShardIterator, SourceError> {
    for _attempt in 0..PATIENCE {
        match bed.source().shard_iterator(&bed.stream(), shard, position).await {
            Err(error) if error.kind() == SourceErrorKind::Throttled => bed.pause().await,
            answer => return answer,
        }
    }
    Err(SourceError::new(SourceErrorKind::Throttled, "GetShardIterator"))
}

/// One page.
pub(super) async fn page(
    bed: &dyn SourceBed,
    iterator: &ShardIterator,
    limit: usize,
) -> Result<RecordsPage, SourceError> {
    for _attempt in 0..PATIENCE {
        match bed.source().get_records(iterator, limit).await {
            Err(error) if error.kind() == SourceErrorKind::Throttled => bed.pause().await,
            answer => return answer,
        }
    }
    Err(SourceError::new(SourceErrorKind::Throttled, "GetRecords"))
}

/// The first page from `from` on that has records, and the iterator that gave it.
pub(super) async fn first_page(
    bed: &dyn SourceBed,
    from: ShardIterator,
    limit: usize,
) -> Result<(ShardIterator, RecordsPage), BedError> {
    let mut at = from;
    for _page in 0..PATIENCE {
        let answer = page(bed, &at, limit).await?;
        if !answer.records.is_empty() {
            return Ok((at, answer));
        }
        at = answer.next.ok_or("the shard ended without a record")?;
        bed.pause().await;
    }
    Err("no page had a record".into())
}

/// What was read, and where to go on; nowhere at the end of the shard.
pub(super) struct Read {
    pub(super) records: Vec<Record>,
    pub(super) next: Option<ShardIterator>,
}

/// Reads from `from` on, `limit` at a time, until there are `wanted` records or the shard ends.
pub(super) async fn read(
    bed: &dyn SourceBed,
    from: ShardIterator,
    wanted: usize,
    limit: usize,
) -> Result<Read, BedError> {
    let mut read = Read { records: Vec::new(), next: Some(from) };
    let mut empty = 0;
    while let Some(at) = read.next.take() {
        if read.records.len() >= wanted || empty == PATIENCE {
            read.next = Some(at);
            break;
        }
        let answer = page(bed, &at, limit).await?;
        if answer.records.is_empty() {
            empty += 1;
            bed.pause().await;
        }
        read.records.extend(answer.records.iter().cloned());
        read.next = answer.next;
    }
    Ok(read)
}

/// Reads `shard` from its oldest record until there are `wanted` records or the shard ends.
pub(super) async fn read_shard(bed: &dyn SourceBed, shard: &ShardId, wanted: usize) -> Result<Read, BedError> {
    let from = iterator(bed, shard, IteratorPosition::TrimHorizon).await?;
    read(bed, from, wanted, MAX_RECORDS).await
}

/// Follows `from` for a few pages: whatever is there now.
pub(super) async fn glance(bed: &dyn SourceBed, from: ShardIterator) -> Result<Read, BedError> {
    let mut read = Read { records: Vec::new(), next: Some(from) };
    for _page in 0..6 {
        let Some(at) = read.next.take() else { break };
        let answer = page(bed, &at, MAX_RECORDS).await?;
        read.records.extend(answer.records.iter().cloned());
        read.next = answer.next;
        bed.pause().await;
    }
    Ok(read)
}

/// One page of the description.
pub(super) async fn describe(bed: &dyn SourceBed, page: &DescribePage) -> Result<StreamDescription, SourceError> {
    for _attempt in 0..PATIENCE {
        match bed.source().describe_stream(&bed.stream(), page).await {
            Err(error) if error.kind() == SourceErrorKind::Throttled => bed.pause().await,
            answer => return answer,
        }
    }
    Err(SourceError::new(SourceErrorKind::Throttled, "DescribeStream"))
}

/// All pages of the description.
pub(super) async fn describe_all(bed: &dyn SourceBed, children_of: Option<&ShardId>) -> Result<Vec<Shard>, BedError> {
    let mut page = DescribePage { after: None, children_of: children_of.cloned() };
    let mut shards = Vec::new();
    for _page in 0..PATIENCE {
        let answer = describe(bed, &page).await?;
        shards.extend(answer.shards);
        match answer.last_evaluated {
            None => return Ok(shards),
            Some(last) => page.after = Some(last),
        }
    }
    Err("the description does not end".into())
}

/// The description, asked for until it looks as `wanted`.
pub(super) async fn until_listed(
    bed: &dyn SourceBed,
    wanted: impl Fn(&[Shard]) -> bool + Send,
) -> Result<Vec<Shard>, BedError> {
    let mut shards = Vec::new();
    for _attempt in 0..PATIENCE {
        shards = describe_all(bed, None).await?;
        if wanted(&shards) {
            return Ok(shards);
        }
        bed.pause().await;
    }
    Err(format!("the description stays at {shards:?}").into())
}
