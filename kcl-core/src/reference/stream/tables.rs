//! Tables and the writes of items, which become records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_dynamo::Item;

use super::ReferenceStream;
use super::error::TableError;
use super::item::{Key, item_size, key_of};
use super::lineage::Stream;
use super::state::{Found, Moment, State, Table, epoch_millis};
use crate::model::{SequenceNumber, ShardId, StreamArn, StreamViewType, TableName};
use crate::record::{EventName, Record, RecordParts};

/// Where a change was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The shard that has the record.
    pub shard: ShardId,
    /// The record's place in it.
    pub sequence_number: SequenceNumber,
}

/// A write of one item.
enum Change {
    Put(Item),
    Update(Item),
    Delete { by_ttl: bool },
}

impl ReferenceStream {
    /// Creates a table with a stream of `shards` shards (at least one). `keys` names the partition key and, where
    /// there is one, the sort key.
    ///
    /// # Errors
    /// The table exists, there are not one or two keys, or the region and account of the options make no ARN.
    pub fn create_table(
        &self,
        table: &TableName,
        keys: &[&str],
        view: StreamViewType,
        shards: usize,
    ) -> Result<StreamArn, TableError> {
        if !(1..=2).contains(&keys.len()) {
            return Err(TableError::KeyCount(keys.len()));
        }
        self.with(|state, moment| {
            if state.tables.contains_key(table) {
                return Err(TableError::TableExists(table.clone()));
            }
            let key_names: Arc<[String]> = keys.iter().map(|name| (*name).to_owned()).collect();
            let arn = state.enable(table, key_names.clone(), view, shards, moment)?;
            let items = BTreeMap::new();
            let created = Table { key_names, created_at: moment.wall, items, stream: Some(arn.clone()) };
            state.tables.insert(table.clone(), created);
            Ok(arn)
        })
    }

    /// Deletes a table and its items, without records. Its stream is switched off and stays readable for 24 hours.
    ///
    /// # Errors
    /// There is no such table.
    pub fn delete_table(&self, table: &TableName) -> Result<(), TableError> {
        self.with(|state, moment| {
            let deleted = state.tables.remove(table).ok_or_else(|| TableError::NoTable(table.clone()))?;
            deleted.stream.map_or(Ok(()), |arn| disable(state, &arn, moment))
        })
    }

    /// Switches the table's stream off: its shards close at once, get no children and stay readable for 24 hours.
    ///
    /// # Errors
    /// There is no such table, or it has no enabled stream.
    pub fn disable_stream(&self, table: &TableName) -> Result<(), TableError> {
        self.with(|state, moment| {
            let arn = table_mut(state, table)?.stream.take().ok_or_else(|| TableError::NotEnabled(table.clone()))?;
            disable(state, &arn, moment)
        })
    }

    /// Switches on a new stream, with a new ARN, for a table that has none.
    ///
    /// # Errors
    /// There is no such table, or its stream is enabled.
    pub fn enable_stream(
        &self,
        table: &TableName,
        view: StreamViewType,
        shards: usize,
    ) -> Result<StreamArn, TableError> {
        self.with(|state, moment| {
            let found = table_mut(state, table)?;
            if found.stream.is_some() {
                return Err(TableError::StreamEnabled(table.clone()));
            }
            let key_names = found.key_names.clone();
            let arn = state.enable(table, key_names, view, shards, moment)?;
            table_mut(state, table)?.stream = Some(arn.clone());
            Ok(arn)
        })
    }

    /// Writes `item` over whatever has its key. `None` when nothing was recorded: the item was there exactly as it
    /// is, or no stream is enabled.
    ///
    /// # Errors
    /// There is no such table, or the item lacks a key attribute.
    pub fn put(&self, table: &TableName, item: Item) -> Result<Option<Written>, TableError> {
        Ok(self.replace_item(table, item)?.0)
    }

    /// As [`put`](Self::put); the item that was there before is returned too.
    ///
    /// # Errors
    /// As there.
    pub fn replace_item(&self, table: &TableName, item: Item) -> Result<(Option<Written>, Option<Item>), TableError> {
        let keys = item.clone();
        self.write(table, &keys, Change::Put(item))
    }

    /// Sets `attributes` of the item with these `keys`, which is made if there is none. `None` as for
    /// [`put`](Self::put).
    ///
    /// # Errors
    /// There is no such table, or a key attribute is missing.
    pub fn update(&self, table: &TableName, keys: &Item, attributes: Item) -> Result<Option<Written>, TableError> {
        Ok(self.write(table, keys, Change::Update(attributes))?.0)
    }

    /// Deletes the item with these `keys`. `None` when there was none, or no stream is enabled.
    ///
    /// # Errors
    /// There is no such table, or a key attribute is missing.
    pub fn delete(&self, table: &TableName, keys: &Item) -> Result<Option<Written>, TableError> {
        Ok(self.take_item(table, keys)?.0)
    }

    /// As [`delete`](Self::delete); the item that was there is returned too.
    ///
    /// # Errors
    /// As there.
    pub fn take_item(&self, table: &TableName, keys: &Item) -> Result<(Option<Written>, Option<Item>), TableError> {
        self.write(table, keys, Change::Delete { by_ttl: false })
    }

    /// Deletes the item with these `keys` as the service's time-to-live does: the record says who did it.
    ///
    /// # Errors
    /// There is no such table, or a key attribute is missing.
    pub fn ttl_delete(&self, table: &TableName, keys: &Item) -> Result<Option<Written>, TableError> {
        Ok(self.write(table, keys, Change::Delete { by_ttl: true })?.0)
    }

    /// The item with these `keys`.
    ///
    /// # Errors
    /// There is no such table, or a key attribute is missing.
    pub fn get(&self, table: &TableName, keys: &Item) -> Result<Option<Item>, TableError> {
        self.with(|state, _| {
            let table = table_mut(state, table)?;
            let (key, _) = key_of(keys, &table.key_names)?;
            Ok(table.items.get(&key).cloned())
        })
    }

    /// Records a ready-made change, without a table's item: the fast way to millions of records. The record goes to
    /// the shard of its keys; its number, its time and its event id are set here, its images are taken as they are.
    ///
    /// # Errors
    /// There is no such stream, it is switched off, or a key attribute is missing.
    pub fn push(&self, stream: &StreamArn, parts: RecordParts) -> Result<Written, TableError> {
        self.with(|state, moment| {
            let mut found = state.stream(stream, moment)?;
            let (key, _) = key_of(&parts.keys, &found.0.key_names)?;
            let shard = found.0.route(key.hash()).cloned().ok_or_else(|| TableError::NoStream(stream.clone()))?;
            append(&mut found, &shard, parts, moment)
        })
    }

    /// As [`push`](Self::push), into `shard`, in order and all at once. The numbers of the first and the last are
    /// returned, `None` if there were none.
    ///
    /// # Errors
    /// There is no such stream or shard, or the shard is closed.
    pub fn push_to(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        records: impl IntoIterator<Item = RecordParts>,
    ) -> Result<Option<(SequenceNumber, SequenceNumber)>, TableError> {
        self.with(|state, moment| {
            let mut found = state.stream(stream, moment)?;
            let mut ends: Option<(SequenceNumber, SequenceNumber)> = None;
            for parts in records {
                let number = append(&mut found, shard, parts, moment)?.sequence_number;
                ends = Some((ends.map_or(number, |(first, _)| first), number));
            }
            Ok(ends)
        })
    }

    /// Where the change was recorded, and the item before it.
    fn write(
        &self,
        table: &TableName,
        keys: &Item,
        change: Change,
    ) -> Result<(Option<Written>, Option<Item>), TableError> {
        self.with(|state, moment| {
            let found = table_mut(state, table)?;
            let (key, keys) = key_of(keys, &found.key_names)?;
            let (old, new, by_ttl) = apply(found, &key, &keys, change);
            let Some(arn) = found.stream.clone().filter(|_| old != new) else { return Ok((None, old)) };
            let mut found = state.stream(&arn, moment)?;
            let (stream, options, _) = &found;
            let Some(shard) = stream.route(key.hash()).filter(|_| stream.captures(moment.now)).cloned() else {
                return Ok((None, old));
            };
            let parts = record_of(stream, &options.region, keys, old.clone(), new, by_ttl);
            Ok((Some(append(&mut found, &shard, parts, moment)?), old))
        })
    }
}

fn table_mut<'a>(state: &'a mut State, table: &TableName) -> Result<&'a mut Table, TableError> {
    state.tables.get_mut(table).ok_or_else(|| TableError::NoTable(table.clone()))
}

fn disable(state: &mut State, arn: &StreamArn, moment: Moment) -> Result<(), TableError> {
    let (stream, _, random) = state.stream(arn, moment)?;
    stream.disable(moment, random);
    Ok(())
}

/// Carries out `change`; the item before and after, and whether the time-to-live deleted it.
fn apply(table: &mut Table, key: &Key, keys: &Item, change: Change) -> (Option<Item>, Option<Item>, bool) {
    let old = table.items.get(key).cloned();
    let (new, by_ttl) = match change {
        Change::Put(item) => (Some(item), false),
        Change::Update(attributes) => {
            let mut item = old.clone().unwrap_or_else(|| keys.clone());
            item.extend(attributes.into_inner());
            // An update cannot change the key.
            item.extend(keys.clone().into_inner());
            (Some(item), false)
        }
        Change::Delete { by_ttl } => (None, by_ttl),
    };
    match &new {
        Some(item) => table.items.insert(key.clone(), item.clone()),
        None => table.items.remove(key),
    };
    (old, new, by_ttl)
}

/// The record of a change, with the images that the stream's view type has.
fn record_of(
    stream: &Stream,
    region: &str,
    keys: Item,
    old: Option<Item>,
    new: Option<Item>,
    by_ttl: bool,
) -> RecordParts {
    let event_name = match (&old, &new) {
        (None, _) => EventName::Insert,
        (Some(_), Some(_)) => EventName::Modify,
        (Some(_), None) => EventName::Remove,
    };
    let with_new = matches!(stream.view, StreamViewType::NewImage | StreamViewType::NewAndOldImages);
    let with_old = matches!(stream.view, StreamViewType::OldImage | StreamViewType::NewAndOldImages);
    let new_image = new.filter(|_| with_new);
    let old_image = old.filter(|_| with_old);
    let images = new_image.iter().chain(&old_image).map(item_size).sum::<u64>();
    RecordParts {
        event_id: String::new(),
        event_name,
        region: region.to_owned(),
        sequence_number: SequenceNumber::from_u128(0),
        created_at: UNIX_EPOCH,
        size_bytes: item_size(&keys) + images,
        keys,
        new_image,
        old_image,
        view_type: stream.view.clone(),
        deleted_by_ttl: by_ttl,
    }
}

/// Adds the record to an open shard, and sets what only its place and time decide.
fn append(
    (stream, options, random): &mut Found<'_>,
    id: &ShardId,
    mut parts: RecordParts,
    moment: Moment,
) -> Result<Written, TableError> {
    let shard = stream.shards.get_mut(id).filter(|shard| !shard.vanished);
    let shard = shard.ok_or_else(|| TableError::NoShard(id.clone()))?;
    if shard.closed.is_some() {
        return Err(TableError::Closed(id.clone()));
    }
    // So that a shard which nobody reads does not grow for ever.
    shard.trim_old(moment.now, options.retention, options.keep_history);
    let sequence_number = shard.take_number(random);
    parts.sequence_number = sequence_number;
    parts.event_id = format!("{:016x}{:016x}", random.next(), random.next());
    // Times are told to the second.
    parts.created_at = UNIX_EPOCH + Duration::from_secs(epoch_millis(moment.wall) / 1000);
    let bytes = parts.size_bytes;
    shard.append(Record::new(parts), bytes, moment.now);
    Ok(Written { shard: id.clone(), sequence_number })
}
