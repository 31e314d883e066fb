//! Promises about the end of a shard, and about its children.

use std::collections::BTreeMap;

use super::CaseResult;
use super::bed::SourceBeds;
use super::support::{item, number_of, numbers_of, one_shard, put_all, read_shard, until_listed};
use crate::model::ShardId;
use crate::record::Record;

/// A closed shard gives all its records, and only then has no next page.
pub async fn a_closed_shard_ends_behind_its_last_record(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    put_all(&*bed, 0..5).await?;
    bed.disable().await?;
    let read = read_shard(&*bed, &shard, usize::MAX).await?;
    assert!(read.next.is_none(), "a closed shard does not end");
    assert_eq!(numbers_of(&read.records)?, [0, 1, 2, 3, 4]);
    Ok(())
}

/// A closed shard without records ends.
pub async fn an_empty_closed_shard_ends(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    bed.disable().await?;
    let read = read_shard(&*bed, &shard, usize::MAX).await?;
    assert!(read.next.is_none() && read.records.is_empty(), "an empty closed shard does not end");
    Ok(())
}

/// When a shard rolls it ends, and what is written later is in its child.
pub async fn a_rolled_shard_ends_and_its_child_goes_on(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, parent) = one_shard(beds).await?;
    put_all(&*bed, 0..3).await?;
    bed.split(&parent, 1).await?;
    put_all(&*bed, 3..6).await?;
    let before = read_shard(&*bed, &parent, usize::MAX).await?;
    assert!(before.next.is_none(), "a rolled shard does not end");
    assert_eq!(numbers_of(&before.records)?, [0, 1, 2]);
    let listed = until_listed(&*bed, |shards| shards.len() > 1).await?;
    let child = listed.iter().find(|shard| shard.parent.as_ref() == Some(&parent)).ok_or("no child is listed")?;
    let after = read_shard(&*bed, &child.id, 3).await?;
    assert!(after.next.is_some(), "an open child has ended");
    assert_eq!(numbers_of(&after.records)?, [3, 4, 5]);
    Ok(())
}

/// Read parents first, every item's changes come in the order they were made, and none is missing.
pub async fn an_items_order_survives_a_split(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, parent) = one_shard(beds).await?;
    let change = async |version: usize| {
        for n in 0..8 {
            bed.put(item(n, &version.to_string())).await?;
        }
        Ok::<(), super::BedError>(())
    };
    change(0).await?;
    bed.split(&parent, 2).await?;
    change(1).await?;
    let listed = until_listed(&*bed, |shards| shards.len() > 2).await?;
    let children: Vec<&ShardId> =
        listed.iter().filter(|shard| shard.parent.as_ref() == Some(&parent)).map(|shard| &shard.id).collect();
    assert_eq!(children.len(), 2, "a split makes two children: {listed:?}");
    change(2).await?;
    let mut records: Vec<Record> = read_shard(&*bed, &parent, usize::MAX).await?.records;
    let mut left = 24 - records.len();
    for child in children {
        // Nobody knows how many are in which child, so each is read until it stays empty.
        let read = read_shard(&*bed, child, left).await?;
        left -= read.records.len();
        records.extend(read.records);
    }
    let mut versions: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for record in &records {
        let new = record.new_image()?.ok_or("a record lacks its new image")?;
        let version: super::views::Version = serde_dynamo::from_item(new)?;
        versions.entry(number_of(record)?).or_default().push(version.v.parse()?);
    }
    assert_eq!(versions, (0..8).map(|n| (n, vec![0, 1, 2])).collect());
    Ok(())
}
