//! Commands about tables, their streams and their items.

use kcl_core::reference::Written;
use kcl_core::{StreamViewType, TableName};
use serde::Deserialize;
use serde_dynamo::Item;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Failure, Outcome, read, table};
use crate::wire::item::{self, KeySchema, KeyType};
use crate::wire::{WireService, lock};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    table: String,
    keys: Vec<KeyAttribute>,
    #[serde(default)]
    view_type: ViewType,
    #[serde(default = "one")]
    shards: usize,
}

/// A text attribute by its name alone, or a name with a type.
#[derive(Deserialize)]
#[serde(untagged)]
enum KeyAttribute {
    Text(String),
    Typed { name: String, r#type: KeyType },
}

impl KeyAttribute {
    fn name(&self) -> &str {
        match self {
            Self::Text(name) | Self::Typed { name, .. } => name,
        }
    }

    fn kind(&self) -> KeyType {
        match self {
            Self::Text(_) => KeyType::S,
            Self::Typed { r#type, .. } => *r#type,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ViewType {
    KeysOnly,
    NewImage,
    OldImage,
    #[default]
    NewAndOldImages,
}

impl From<ViewType> for StreamViewType {
    fn from(view: ViewType) -> Self {
        match view {
            ViewType::KeysOnly => Self::KeysOnly,
            ViewType::NewImage => Self::NewImage,
            ViewType::OldImage => Self::OldImage,
            ViewType::NewAndOldImages => Self::NewAndOldImages,
        }
    }
}

/// More shards than a test has a use for, and few enough to be made at once.
const MOST_SHARDS: usize = 100_000;

fn one() -> usize {
    1
}

fn bounded(shards: usize) -> Result<usize, Failure> {
    match shards {
        1..=MOST_SHARDS => Ok(shards),
        _ => Err(Failure::other(format!("a stream has 1 to {MOST_SHARDS} shards"))),
    }
}

pub(super) fn create(service: &WireService, body: &[u8]) -> Outcome {
    let command: Create = read(body)?;
    let table = table(&command.table)?;
    let names: Vec<&str> = command.keys.iter().map(KeyAttribute::name).collect();
    let stream = service.stream.create_table(&table, &names, command.view_type.into(), bounded(command.shards)?)?;
    let types = command.keys.iter().map(KeyAttribute::kind).collect();
    lock(&service.known.key_types).insert(table, types);
    Ok(made(service, &stream))
}

fn made(service: &WireService, stream: &kcl_core::StreamArn) -> Value {
    let shards: Vec<Value> = service.stream.open_shards(stream).iter().map(|id| id.as_str().into()).collect();
    json!({ "stream": stream.as_str(), "shards": shards })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnlyTable {
    table: String,
}

pub(super) fn delete(service: &WireService, body: &[u8]) -> Outcome {
    let table = table(&read::<OnlyTable>(body)?.table)?;
    service.stream.delete_table(&table)?;
    lock(&service.known.key_types).remove(&table);
    Ok(json!({}))
}

pub(super) fn disable(service: &WireService, body: &[u8]) -> Outcome {
    service.stream.disable_stream(&table(&read::<OnlyTable>(body)?.table)?)?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enable {
    table: String,
    #[serde(default)]
    view_type: ViewType,
    #[serde(default = "one")]
    shards: usize,
}

pub(super) fn enable(service: &WireService, body: &[u8]) -> Outcome {
    let Enable { table: name, view_type, shards } = read(body)?;
    let stream = service.stream.enable_stream(&table(&name)?, view_type.into(), bounded(shards)?)?;
    Ok(made(service, &stream))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    table: String,
    item: Box<RawValue>,
}

pub(super) fn put(service: &WireService, body: &[u8]) -> Outcome {
    let command: Put = read(body)?;
    let (table, item) = (table(&command.table)?, decode(&command.item)?);
    schema(service, &table)?.check_item(&item)?;
    Ok(recorded(service.stream.put(&table, item)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    table: String,
    key: Box<RawValue>,
    attributes: Box<RawValue>,
}

pub(super) fn update(service: &WireService, body: &[u8]) -> Outcome {
    let command: Update = read(body)?;
    let (table, key) = checked_key(service, &command.table, &command.key)?;
    let attributes = decode(&command.attributes)?;
    schema(service, &table)?.check_update(&attributes)?;
    Ok(recorded(service.stream.update(&table, &key, attributes)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    table: String,
    key: Box<RawValue>,
}

pub(super) fn remove(service: &WireService, body: &[u8]) -> Outcome {
    let command: Delete = read(body)?;
    let (table, key) = checked_key(service, &command.table, &command.key)?;
    Ok(recorded(service.stream.delete(&table, &key)?))
}

pub(super) fn expire(service: &WireService, body: &[u8]) -> Outcome {
    let command: Delete = read(body)?;
    let (table, key) = checked_key(service, &command.table, &command.key)?;
    Ok(recorded(service.stream.ttl_delete(&table, &key)?))
}

/// The key attributes of a table that exists.
fn schema(service: &WireService, table: &TableName) -> Result<KeySchema, Failure> {
    service.stream.table(table)?;
    Ok(service.key_schema(table)?)
}

/// A table and a key of its, as the service would check it.
fn checked_key(service: &WireService, name: &str, key: &RawValue) -> Result<(TableName, Item), Failure> {
    let (table, key) = (table(name)?, decode(key)?);
    schema(service, &table)?.check_key(&key)?;
    Ok((table, key))
}

fn decode(json: &RawValue) -> Result<Item, Failure> {
    Ok(item::decode(json)?)
}

/// Where a change was recorded; `null` where nothing changed, or no stream is enabled.
fn recorded(written: Option<Written>) -> Value {
    let written = written
        .map(|written| json!({ "shard": written.shard.as_str(), "sequence_number": written.sequence_number.as_str() }));
    json!({ "recorded": written })
}
