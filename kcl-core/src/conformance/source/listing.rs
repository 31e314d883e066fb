//! Promises about listings. They are eventually consistent, so the cases ask until they see what must come.

use std::collections::BTreeSet;

use super::CaseResult;
use super::bed::{BedSpec, SourceBeds};
use super::support::{describe, describe_all, one_shard, put_all, until_listed};
use crate::contract::DescribePage;
use crate::model::{ShardId, StreamStatus, StreamViewType};

/// A table's stream is in the list of its streams.
pub async fn a_stream_is_listed_by_its_table(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, _) = one_shard(beds).await?;
    let listed = bed.source().list_streams(&bed.table()).await?;
    assert!(listed.iter().any(|summary| summary.arn == bed.stream()), "{listed:?}");
    Ok(())
}

/// A description tells whether the stream is enabled, what its records carry, and its shards.
pub async fn a_description_tells_status_view_and_shards(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, shard) = one_shard(beds).await?;
    let described = describe(&*bed, &DescribePage::default()).await?;
    assert_eq!(described.status, StreamStatus::Enabled);
    assert_eq!(described.view_type, Some(StreamViewType::NewAndOldImages));
    let [listed] = described.shards.as_slice() else { return Err(format!("not one shard: {described:?}").into()) };
    assert_eq!((&listed.id, &listed.parent, listed.is_closed()), (&shard, &None, false));
    Ok(())
}

/// Following the pages of a description lists every shard once.
pub async fn pages_of_a_description_list_each_shard_once(beds: &dyn SourceBeds) -> CaseResult {
    let bed = beds.build(BedSpec { view_type: StreamViewType::KeysOnly, shards: 201 }).await?;
    let listed = until_listed(&*bed, |shards| shards.len() >= 201).await?;
    let ids: BTreeSet<&ShardId> = listed.iter().map(|shard| &shard.id).collect();
    assert_eq!((listed.len(), ids.len()), (201, 201));
    let first = describe(&*bed, &DescribePage::default()).await?;
    assert!(first.last_evaluated.is_some() && first.shards.len() <= 100, "{} in a page", first.shards.len());
    Ok(())
}

/// Children are listed, name their parent, and the parent is closed.
pub async fn children_are_listed_with_their_parent(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, root) = one_shard(beds).await?;
    put_all(&*bed, 0..2).await?;
    bed.split(&root, 2).await?;
    let listed = until_listed(&*bed, |shards| {
        shards.len() == 3 && shards.iter().all(|shard| shard.is_closed() == shard.parent.is_none())
    })
    .await?;
    let children: Vec<_> = listed.iter().filter(|shard| shard.parent.as_ref() == Some(&root)).collect();
    assert_eq!(children.len(), 2, "{listed:?}");
    bed.split(&children[0].id, 1).await?;
    until_listed(&*bed, |shards| shards.iter().any(|shard| shard.parent.as_ref() == Some(&children[0].id))).await?;
    Ok(())
}

/// The filter lists the direct children of a shard, and no other.
pub async fn the_child_filter_lists_the_children_alone(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, root) = one_shard(beds).await?;
    bed.split(&root, 2).await?;
    let listed = until_listed(&*bed, |shards| shards.len() == 3).await?;
    let child = listed.iter().find(|shard| shard.parent.is_some()).ok_or("no child is listed")?;
    bed.split(&child.id, 1).await?;
    until_listed(&*bed, |shards| shards.len() == 4).await?;
    for (parent, children) in [(&root, 2), (&child.id, 1)] {
        let filtered = describe_all(&*bed, Some(parent)).await?;
        assert_eq!(filtered.len(), children, "{filtered:?}");
        assert!(filtered.iter().all(|shard| shard.parent.as_ref() == Some(parent)), "{filtered:?}");
    }
    Ok(())
}

/// A stream that is switched off is soon `DISABLED`; its shards are closed and get no children.
pub async fn a_disabled_stream_has_closed_shards_without_children(beds: &dyn SourceBeds) -> CaseResult {
    let (bed, _) = one_shard(beds).await?;
    put_all(&*bed, 0..2).await?;
    bed.disable().await?;
    let listed = until_listed(&*bed, |shards| shards.iter().all(|shard| shard.is_closed())).await?;
    assert_eq!(listed.len(), 1, "{listed:?}");
    let status = describe(&*bed, &DescribePage::default()).await?.status;
    assert!(matches!(status, StreamStatus::Disabling | StreamStatus::Disabled), "{status}");
    Ok(())
}
