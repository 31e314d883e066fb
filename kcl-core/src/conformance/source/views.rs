//! Promises about what a record shows.

use serde::Deserialize;
use serde_dynamo::Item;

use super::bed::{BedSpec, SourceBeds};
use super::support::{glance, item, iterator, key, read_shard, until_listed};
use super::{BedError, CaseResult};
use crate::model::{IteratorPosition, StreamViewType};
use crate::record::EventName;

/// The attribute by which versions of an item are told apart.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) v: String,
}

/// A change, and the version that the record shows as the new and as the old one.
type Shown = (EventName, Option<String>, Option<String>);

/// An item is made, changed and deleted; what the three records show.
async fn shown(beds: &dyn SourceBeds, view_type: StreamViewType) -> Result<Vec<Shown>, BedError> {
    let bed = beds.build(BedSpec { view_type, shards: 1 }).await?;
    let shard = until_listed(&*bed, |shards| shards.len() == 1).await?.remove(0).id;
    bed.put(item(1, "a")).await?;
    bed.put(item(1, "b")).await?;
    bed.delete(key(1)).await?;
    let records = read_shard(&*bed, &shard, 3).await?.records;
    let version = |image: Option<Item>| -> Result<Option<String>, BedError> {
        image.map(|image| Ok(serde_dynamo::from_item::<_, Version>(image)?.v)).transpose()
    };
    records
        .iter()
        .map(|record| {
            assert_eq!(record.keys()?, key(1), "the keys of {record:?}");
            Ok((record.event_name(), version(record.new_image()?)?, version(record.old_image()?)?))
        })
        .collect()
}

/// What must be shown, the new and the old version of each record.
fn expected(new: [Option<&str>; 3], old: [Option<&str>; 3]) -> Vec<Shown> {
    let events = [EventName::Insert, EventName::Modify, EventName::Remove];
    let text = |version: Option<&str>| version.map(str::to_owned);
    events.into_iter().zip(new).zip(old).map(|((event, new), old)| (event, text(new), text(old))).collect()
}

/// `KEYS_ONLY`: the keys, and no image.
pub async fn keys_only_records_have_no_image(beds: &dyn SourceBeds) -> CaseResult {
    assert_eq!(shown(beds, StreamViewType::KeysOnly).await?, expected([None; 3], [None; 3]));
    Ok(())
}

/// `NEW_IMAGE`: the item after the change, and none when it was deleted.
pub async fn new_image_records_show_the_item_after(beds: &dyn SourceBeds) -> CaseResult {
    let expected = expected([Some("a"), Some("b"), None], [None; 3]);
    assert_eq!(shown(beds, StreamViewType::NewImage).await?, expected);
    Ok(())
}

/// `OLD_IMAGE`: the item before the change, and none when it was new.
pub async fn old_image_records_show_the_item_before(beds: &dyn SourceBeds) -> CaseResult {
    let expected = expected([None; 3], [None, Some("a"), Some("b")]);
    assert_eq!(shown(beds, StreamViewType::OldImage).await?, expected);
    Ok(())
}

/// `NEW_AND_OLD_IMAGES`: both, where there are both.
pub async fn records_with_both_images_show_both(beds: &dyn SourceBeds) -> CaseResult {
    let expected = expected([Some("a"), Some("b"), None], [None, Some("a"), Some("b")]);
    assert_eq!(shown(beds, StreamViewType::NewAndOldImages).await?, expected);
    Ok(())
}

/// Neither a put of what is there already nor the deletion of what is not there makes a record.
pub async fn a_write_that_changes_nothing_has_no_record(beds: &dyn SourceBeds) -> CaseResult {
    let bed = beds.build(BedSpec { view_type: StreamViewType::KeysOnly, shards: 1 }).await?;
    let shard = until_listed(&*bed, |shards| shards.len() == 1).await?.remove(0).id;
    bed.put(item(1, "a")).await?;
    bed.put(item(1, "a")).await?;
    bed.delete(key(2)).await?;
    bed.delete(key(1)).await?;
    bed.delete(key(1)).await?;
    read_shard(&*bed, &shard, 2).await?;
    let from = iterator(&*bed, &shard, IteratorPosition::TrimHorizon).await?;
    let events: Vec<EventName> = glance(&*bed, from).await?.records.iter().map(|record| record.event_name()).collect();
    assert_eq!(events, [EventName::Insert, EventName::Remove]);
    Ok(())
}
