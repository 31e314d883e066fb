//! Promises about where reading begins, and about what is not there.

use std::time::Duration;

use super::CaseResult;
use super::bed::SourceBeds;
use super::support::{describe_all, glance, iterator, numbers_of, one_shard, page, put_all, read, read_shard};
use crate::contract::{DescribePage, MAX_RECORDS, SourceErrorKind};
use crate::model::{IteratorPosition, SequenceNumber, ShardId, StreamArn};

const MINUTE: Duration = Duration::from_secs(60);

/// `TrimHorizon` is the oldest record that is left.
pub async fn trim_horizon_is_the_oldest_record(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..3).await?;
    for _time in 0..2 {
        assert_eq!(numbers_of(&read_shard(&*bed, &shard, 3).await?.records)?, [0, 1, 2]);
    }
    Ok(())
}

/// `At` a record begins with that record.
pub async fn at_begins_with_the_record_named(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..5).await?;
    let written = read_shard(&*bed, &shard, 5).await?.records;
    for (n, record) in written.iter().enumerate() {
        let from = iterator(&*bed, &shard, IteratorPosition::At(record.sequence_number())).await?;
        let read = read(&*bed, from, 5 - n, MAX_RECORDS).await?;
        assert_eq!(numbers_of(&read.records)?, (n..5).collect::<Vec<_>>());
    }
    Ok(())
}

/// `After` a record begins with the one behind it, also if that is written later.
pub async fn after_begins_behind_the_record_named(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..5).await?;
    let written = read_shard(&*bed, &shard, 5).await?.records;
    let mut iterators = Vec::new();
    for record in &written {
        iterators.push(iterator(&*bed, &shard, IteratorPosition::After(record.sequence_number())).await?);
    }
    put_all(&*bed, 5..6).await?;
    for (n, from) in iterators.into_iter().enumerate() {
        let read = read(&*bed, from, 5 - n, MAX_RECORDS).await?;
        assert_eq!(numbers_of(&read.records)?, (n + 1..6).collect::<Vec<_>>());
    }
    Ok(())
}

/// Where the listing gives the number that a shard starts with, reading at it gives the whole shard.
pub async fn at_the_starting_number_is_the_whole_shard(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..3).await?;
    let listed = describe_all(&*bed, None).await?;
    let Some(starting) = listed.first().and_then(|shard| shard.starting) else { return Ok(()) };
    let from = iterator(&*bed, &shard, IteratorPosition::At(starting)).await?;
    assert_eq!(numbers_of(&read(&*bed, from, 3, MAX_RECORDS).await?.records)?, [0, 1, 2]);
    Ok(())
}

/// `Latest` gives what is written after it, and nothing from before.
pub async fn latest_sees_later_writes_alone(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..3).await?;
    // Once they were read they are in the stream, so that the iterator stands behind them.
    read_shard(&*bed, &shard, 3).await?;
    let latest = iterator(&*bed, &shard, IteratorPosition::Latest).await?;
    let idle = glance(&*bed, latest).await?;
    assert!(idle.records.is_empty(), "records from before");
    put_all(&*bed, 3..5).await?;
    let later = read(&*bed, idle.next.ok_or("an open shard has ended")?, 2, MAX_RECORDS).await?;
    assert_eq!(numbers_of(&later.records)?, [3, 4]);
    Ok(())
}

/// A number below the shard's range is invalid, or trimmed.
pub async fn a_number_below_the_shard_is_refused(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..3).await?;
    read_shard(&*bed, &shard, 3).await?;
    let below = IteratorPosition::At(SequenceNumber::from_u128(0));
    let refused = iterator(&*bed, &shard, below).await.err().map(|error| error.kind());
    assert!(matches!(refused, Some(SourceErrorKind::Invalid | SourceErrorKind::Trimmed)), "{refused:?}");
    Ok(())
}

/// A shard that the stream does not have is not found.
pub async fn an_unknown_shard_is_not_found(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, _) = one_shard(beds).await?;
    let unknown: ShardId = "shardId-00000000000000000001-00000000".parse()?;
    let refused = iterator(&*bed, &unknown, IteratorPosition::TrimHorizon).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(SourceErrorKind::NotFound));
    Ok(())
}

/// A stream that the table does not have is not found.
pub async fn an_unknown_stream_is_not_found(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    let stream = bed.stream();
    let unknown: StreamArn = stream.as_str().replace(stream.label(), "2001-01-01T00:00:00.000").parse()?;
    let described = bed.source().describe_stream(&unknown, &DescribePage::default()).await;
    assert_eq!(described.err().map(|error| error.kind()), Some(SourceErrorKind::NotFound));
    let opened = bed.source().shard_iterator(&unknown, &shard, IteratorPosition::TrimHorizon).await;
    assert_eq!(opened.err().map(|error| error.kind()), Some(SourceErrorKind::NotFound));
    Ok(())
}

/// An iterator lives 15 minutes from the answer that gave it, the next of a page too.
pub async fn iterators_expire_after_fifteen_minutes(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..1).await?;
    let first = iterator(&*bed, &shard, IteratorPosition::TrimHorizon).await?;
    bed.advance(14 * MINUTE).await?;
    let chained = page(&*bed, &first, 1).await?.next.ok_or("an open shard has ended")?;
    bed.advance(2 * MINUTE).await?;
    let refused = page(&*bed, &first, 1).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(SourceErrorKind::Expired), "16 minutes old");
    page(&*bed, &chained, 1).await?;
    bed.advance(14 * MINUTE).await?;
    let refused = page(&*bed, &chained, 1).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(SourceErrorKind::Expired), "chained, 16 minutes old");
    Ok(())
}

/// A position whose record is trimmed is refused, when it is asked for or when it is read; the rest can be read.
pub async fn a_trimmed_position_is_refused(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..4).await?;
    let early = iterator(&*bed, &shard, IteratorPosition::TrimHorizon).await?;
    let written = read_shard(&*bed, &shard, 4).await?.records;
    let second = IteratorPosition::At(written[1].sequence_number());
    bed.trim(&shard, written[2].sequence_number()).await?;
    let refused = page(&*bed, &early, 1).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(SourceErrorKind::Trimmed), "an iterator from before the trim");
    let answer = match iterator(&*bed, &shard, second).await {
        Ok(at) => page(&*bed, &at, 1).await.map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(answer.err().map(|error| error.kind()), Some(SourceErrorKind::Trimmed), "a trimmed number");
    assert_eq!(numbers_of(&read_shard(&*bed, &shard, 1).await?.records)?, [3]);
    Ok(())
}

/// After a day, and some patience, records are gone; the shard is read on from its horizon.
pub async fn records_are_gone_after_the_retention(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..3).await?;
    bed.advance(60 * 25 * MINUTE).await?;
    put_all(&*bed, 3..4).await?;
    assert_eq!(numbers_of(&read_shard(&*bed, &shard, 1).await?.records)?, [3]);
    Ok(())
}
