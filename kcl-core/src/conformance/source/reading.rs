//! Promises about pages.

use std::time::Duration;

use super::bed::SourceBeds;
use super::support::{
    PATIENCE, first_page, glance, item, iterator, numbers_of, one_shard, page, put_all, read, read_shard,
};
use super::{BedError, CaseResult};
use crate::contract::{DescribePage, MAX_RECORDS, ShardIterator, SourceErrorKind, SourceOp};
use crate::model::IteratorPosition;

/// Records come in the order of their sequence numbers, which is the order in which they were written.
pub async fn records_come_in_the_order_of_their_numbers(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, (0..40).rev()).await?;
    let read = read_shard(&*bed, &shard, 40).await?;
    assert_eq!(numbers_of(&read.records)?, (0..40).rev().collect::<Vec<_>>());
    assert!(read.records.is_sorted_by(|a, b| a.sequence_number() < b.sequence_number()), "numbers must rise");
    Ok(())
}

/// Following `next` from page to page leaves nothing out and repeats nothing.
pub async fn pages_continue_where_the_one_before_ended(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..10).await?;
    let from = iterator(&*bed, &shard, IteratorPosition::TrimHorizon).await?;
    let first = read(&*bed, from, 7, 3).await?;
    put_all(&*bed, 10..17).await?;
    let next = first.next.ok_or("an open shard has ended")?;
    let second = read(&*bed, next, 17 - first.records.len(), 3).await?;
    let mut all = numbers_of(&first.records)?;
    all.extend(numbers_of(&second.records)?);
    assert_eq!(all, (0..17).collect::<Vec<_>>());
    Ok(())
}

/// A page has at most as many records as were asked for.
pub async fn a_page_holds_no_more_than_the_limit(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..5).await?;
    for limit in [1, 2, 4] {
        let from = iterator(&*bed, &shard, IteratorPosition::TrimHorizon).await?;
        let (_, answer) = first_page(&*bed, from, limit).await?;
        assert!(answer.records.len() <= limit, "{} records for a limit of {limit}", answer.records.len());
    }
    Ok(())
}

/// Asking the same iterator again gives the same records again.
pub async fn an_iterator_asked_again_gives_the_same_records(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..6).await?;
    let from = iterator(&*bed, &shard, IteratorPosition::TrimHorizon).await?;
    let (at, first) = first_page(&*bed, from, 3).await?;
    put_all(&*bed, 6..9).await?;
    let again = page(&*bed, &at, 3).await?;
    let (first, again) = (numbers_of(&first.records)?, numbers_of(&again.records)?);
    assert!(again.starts_with(&first), "{again:?} is not {first:?}");
    Ok(())
}

/// On an open shard an empty page has a next one, which leads to what is written later.
pub async fn an_empty_page_is_no_end(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..2).await?;
    let caught_up = read_shard(&*bed, &shard, 2).await?;
    let next = caught_up.next.ok_or("an open shard has ended")?;
    let idle = glance(&*bed, next).await?;
    assert!(idle.records.is_empty(), "records that nobody wrote");
    put_all(&*bed, 2..4).await?;
    let later = read(&*bed, idle.next.ok_or("an idle shard has ended")?, 2, MAX_RECORDS).await?;
    assert_eq!(numbers_of(&later.records)?, [2, 3]);
    Ok(())
}

/// Two readers each get everything.
pub async fn two_readers_do_not_disturb_each_other(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..12).await?;
    let fast = iterator(&*bed, &shard, IteratorPosition::TrimHorizon).await?;
    let slow = iterator(&*bed, &shard, IteratorPosition::TrimHorizon).await?;
    let (fast, slow) = futures::join!(read(&*bed, fast, 12, 5), read(&*bed, slow, 12, 1));
    let all: Vec<usize> = (0..12).collect();
    assert_eq!(numbers_of(&fast?.records)?, all);
    assert_eq!(numbers_of(&slow?.records)?, all);
    Ok(())
}

/// A page ends before it is too large; nothing is lost by it.
pub async fn a_page_is_no_larger_than_the_service_allows(beds: &dyn SourceBeds) -> CaseResult {
    let Some(max) = beds.capabilities().max_page_bytes else { return Ok(()) };
    let (bed, shard) = one_shard(beds).await?;
    let large = "x".repeat(300_000);
    for n in 0..8 {
        bed.put(item(n, &large)).await?;
    }
    let mut next = iterator(&*bed, &shard, IteratorPosition::TrimHorizon).await?;
    let mut seen = Vec::new();
    for _page in 0..PATIENCE {
        if seen.len() >= 8 {
            break;
        }
        let answer = page(&*bed, &next, MAX_RECORDS).await?;
        let bytes = answer.records.len() * large.len();
        assert!(bytes <= max, "a page of {bytes} bytes, where {max} are allowed");
        seen.extend(numbers_of(&answer.records)?);
        next = answer.next.ok_or("an open shard has ended")?;
        bed.pause().await;
    }
    assert_eq!(seen, (0..8).collect::<Vec<_>>());
    Ok(())
}

/// A limit is from 1 to 1000.
pub async fn a_limit_out_of_range_is_invalid(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    let at = iterator(&*bed, &shard, IteratorPosition::TrimHorizon).await?;
    for limit in [0, MAX_RECORDS + 1] {
        let refused = page(&*bed, &at, limit).await.err().map(|error| error.kind());
        assert_eq!(refused, Some(SourceErrorKind::Invalid), "a limit of {limit}");
    }
    Ok(())
}

/// What is no iterator is refused.
pub async fn a_garbled_iterator_is_invalid(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, _) = one_shard(beds).await?;
    let refused = page(&*bed, &ShardIterator::new("garbled"), 1).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(SourceErrorKind::Invalid));
    Ok(())
}

/// Every call may be throttled, is told so, and succeeds later.
pub async fn a_throttled_call_is_told_so(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    let at = iterator(&*bed, &shard, IteratorPosition::TrimHorizon).await?;
    let (source, stream, table) = (bed.source(), bed.stream(), bed.table());
    for op in SourceOp::ALL {
        // The polls before may have used up the rate.
        bed.advance(Duration::from_secs(2)).await?;
        for throttled in [true, false] {
            if throttled {
                bed.throttle(op, Duration::from_secs(5)).await?;
            } else {
                bed.advance(Duration::from_secs(5)).await?;
            }
            let answer = match op {
                SourceOp::ListStreams => source.list_streams(&table).await.map(drop),
                SourceOp::DescribeStream => source.describe_stream(&stream, &DescribePage::default()).await.map(drop),
                SourceOp::GetShardIterator => {
                    source.shard_iterator(&stream, &shard, IteratorPosition::TrimHorizon).await.map(drop)
                }
                SourceOp::GetRecords => source.get_records(&at, 1).await.map(drop),
            };
            let refused = answer.err().map(|error| error.kind());
            assert_eq!(refused, throttled.then_some(SourceErrorKind::Throttled), "{}", op.name());
        }
    }
    Ok::<(), BedError>(())
}
