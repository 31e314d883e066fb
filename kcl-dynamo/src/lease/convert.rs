//! Items to nouns and back. Pure.

use std::collections::{BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use kcl_core::{
    BootstrapMarker, Checkpoint, KeyForm, Lease, LeaseCounter, LeaseKey, Liveness, NewLease, PendingCheckpoint,
    ShardId, StartPosition, StopReason, TableItem, TableMeta, Tip, WorkerId, WorkerItem, WorkerState,
};

use super::schema::*;

/// An item as the SDK has it.
pub(super) type Item = HashMap<String, AttributeValue>;

/// Why an item is not what it was read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ItemError {
    #[error("it has no attribute {0}")]
    Missing(&'static str),
    #[error("its attribute {name} is not {wanted}")]
    Damaged { name: &'static str, wanted: &'static str },
    #[error("it is of the entity type {0}")]
    OtherType(String),
}

/// What an item is. Never fails: what cannot be understood is foreign.
pub(super) fn table_item(item: &Item) -> TableItem {
    let read = match entity_type(item) {
        TYPE_WORKER => worker_of(item).map(TableItem::Worker),
        TYPE_MARKER => marker_of(item).map(TableItem::Marker),
        TYPE_META => meta_of(item).map(TableItem::Meta),
        _ => lease_of(item).map(Arc::new).map(TableItem::Lease),
    };
    read.unwrap_or_else(|why| {
        let key = text(item, LEASE_KEY).ok().flatten().unwrap_or_default().to_owned();
        TableItem::Foreign { key, why: why.to_string() }
    })
}

/// Items written before Java's version 3.5 have no type, and are leases.
fn entity_type(item: &Item) -> &str {
    item.get(ENTITY_TYPE).and_then(|value| value.as_s().ok()).map_or(TYPE_LEASE, String::as_str)
}

/// A lease, Java's or ours.
pub(super) fn lease_of(item: &Item) -> Result<Lease, ItemError> {
    if entity_type(item) != TYPE_LEASE {
        return Err(ItemError::OtherType(entity_type(item).to_owned()));
    }
    let key: LeaseKey = required(parsed(item, LEASE_KEY, "a lease key")?, LEASE_KEY)?;
    let counter = required(number(item, LEASE_COUNTER)?, LEASE_COUNTER)?;
    let checkpoint = required(parsed(item, CHECKPOINT, "a checkpoint")?, CHECKPOINT)?;
    let shard = shard_of(item, &key)?;
    let mut lease = Lease::new(key, shard, LeaseCounter(counter), checkpoint);
    lease.stream = parsed(item, STREAM_ARN, "the ARN of a stream")?;
    lease.owner = parsed(item, LEASE_OWNER, "an owner")?;
    lease.pending = pending_of(item)?;
    lease.parents = shards(item, PARENTS)?;
    lease.children = shards(item, CHILDREN)?;
    lease.starting_sequence = parsed(item, STARTING_SEQUENCE, "a sequence number")?;
    lease.start_at = number(item, START_AT)?.map(from_millis);
    lease.root = flag(item, ROOT)?;
    lease.intended_for = parsed(item, INTENDED_FOR, "an owner")?;
    lease.evicted = flag(item, EVICTED)?;
    lease.stop = text(item, STOP_REASON)?.map(StopReason::parse);
    lease.loss_accepted = flag(item, LOSS_ACCEPTED)?;
    lease.owner_switches = number(item, OWNER_SWITCHES)?.unwrap_or(0);
    lease.load = load_of(item);
    lease.checkpoint_owner = parsed(item, CHECKPOINT_OWNER, "an owner")?;
    let (tip_at, tip) = (number(item, TIP_AT)?, parsed(item, TIP_CHECKPOINT, "a checkpoint")?);
    lease.tip = tip_at.zip(tip).map(|(at, checkpoint)| Tip { at: from_millis(at), checkpoint });
    Ok(lease)
}

/// Java writes a fraction. What is no number is none: nothing depends on it but who reads the shard.
fn load_of(item: &Item) -> Option<u32> {
    let load = item.get(THROUGHPUT)?.as_n().ok()?.parse::<f64>().ok()?;
    Some(load as u32)
}

/// Java names the shard in qualified items; a bare key is the shard.
fn shard_of(item: &Item, key: &LeaseKey) -> Result<ShardId, ItemError> {
    let shard = match text(item, SHARD_ID)? {
        Some(shard) => shard,
        None if key.is_qualified() => key.as_str().rsplit(':').next().unwrap_or_default(),
        None => key.as_str(),
    };
    shard.parse().map_err(|_| ItemError::Damaged { name: SHARD_ID, wanted: "a shard id" })
}

fn pending_of(item: &Item) -> Result<Option<PendingCheckpoint>, ItemError> {
    let Some(at) = parsed(item, PENDING, "a checkpoint")? else { return Ok(None) };
    let state = match item.get(PENDING_STATE) {
        None => None,
        Some(AttributeValue::B(blob)) => Some(blob.as_ref().to_vec().into()),
        Some(_) => return Err(ItemError::Damaged { name: PENDING_STATE, wanted: "binary" }),
    };
    Ok(Some(PendingCheckpoint { at, state }))
}

/// The whole item of a lease that does not exist yet.
pub(super) fn item_of(new: &NewLease) -> Item {
    let mut item = Item::from([
        (LEASE_KEY.to_owned(), s(new.key.as_str())),
        (ENTITY_TYPE.to_owned(), s(TYPE_LEASE)),
        (LEASE_COUNTER.to_owned(), n(new.counter.0)),
        (OWNER_SWITCHES.to_owned(), n(0)),
        (CHECKPOINT.to_owned(), s(&Checkpoint::TrimHorizon.to_string())),
        (SUB_SEQUENCE.to_owned(), n(0)),
        // The adapter gives every shard this range; without one, Java lists all shards to fill it in.
        (STARTING_HASH_KEY.to_owned(), s("0")),
        (ENDING_HASH_KEY.to_owned(), s("1")),
        (STREAM_ARN.to_owned(), s(new.stream.as_str())),
    ]);
    let mut set = |name: &str, value: Option<AttributeValue>| {
        if let Some(value) = value {
            item.insert(name.to_owned(), value);
        }
    };
    if new.key.is_qualified() {
        set(STREAM_NAME, Some(s(&LeaseKey::stream_identifier(&new.stream))));
        set(SHARD_ID, Some(s(new.shard.as_str())));
    }
    set(LEASE_OWNER, new.owner.as_ref().map(|owner| s(owner.as_str())));
    set(PARENTS, new.parent.as_ref().and_then(|parent| ss([parent])));
    set(STARTING_SEQUENCE, new.starting_sequence.map(|at| s(at.as_str())));
    set(START_AT, new.start_at.map(|at| n(to_millis(at))));
    set(ROOT, new.root.then_some(AttributeValue::Bool(true)));
    item
}

pub(super) fn worker_key(worker: &WorkerId) -> String {
    format!("{WORKER_PREFIX}{worker}")
}

pub(super) fn worker_of(item: &Item) -> Result<WorkerItem, ItemError> {
    let wanted = "worker/ and a worker's id";
    let key = required(text(item, LEASE_KEY)?, LEASE_KEY)?;
    let id = key.strip_prefix(WORKER_PREFIX).and_then(|id| id.parse().ok());
    let weight = required(number(item, WORKER_WEIGHT)?, WORKER_WEIGHT)?;
    Ok(WorkerItem {
        id: id.ok_or(ItemError::Damaged { name: LEASE_KEY, wanted })?,
        counter: LeaseCounter(required(number(item, WORKER_COUNTER)?, WORKER_COUNTER)?),
        state: match required(text(item, WORKER_STATE)?, WORKER_STATE)? {
            "LIVE" => WorkerState::Live,
            "LEAVING" => WorkerState::Leaving,
            "EVICTED" => WorkerState::Evicted,
            "FENCED" => WorkerState::Fenced,
            _ => return Err(ItemError::Damaged { name: WORKER_STATE, wanted: "LIVE, LEAVING, EVICTED or FENCED" }),
        },
        weight: u32::try_from(weight).map_err(|_| ItemError::Damaged { name: WORKER_WEIGHT, wanted: "a weight" })?,
    })
}

pub(super) fn worker_state(state: WorkerState) -> AttributeValue {
    s(match state {
        WorkerState::Live => "LIVE",
        WorkerState::Leaving => "LEAVING",
        WorkerState::Evicted => "EVICTED",
        WorkerState::Fenced => "FENCED",
    })
}

pub(super) fn worker_item(worker: &WorkerItem) -> Item {
    Item::from([
        (LEASE_KEY.to_owned(), s(&worker_key(&worker.id))),
        (ENTITY_TYPE.to_owned(), s(TYPE_WORKER)),
        (WORKER_COUNTER.to_owned(), n(worker.counter.0)),
        (WORKER_STATE.to_owned(), worker_state(worker.state)),
        (WORKER_WEIGHT.to_owned(), n(worker.weight.into())),
    ])
}

pub(super) fn marker_key(stream: &kcl_core::StreamArn) -> String {
    format!("{MARKER_PREFIX}{stream}")
}

pub(super) fn marker_of(item: &Item) -> Result<BootstrapMarker, ItemError> {
    let wanted = "TRIM_HORIZON, LATEST or AT_TIMESTAMP";
    Ok(BootstrapMarker {
        stream: required(parsed(item, STREAM_ARN, "the ARN of a stream")?, STREAM_ARN)?,
        at: from_millis(required(number(item, MARKER_AT)?, MARKER_AT)?),
        start: match required(text(item, MARKER_START)?, MARKER_START)? {
            "TRIM_HORIZON" => StartPosition::TrimHorizon,
            "LATEST" => StartPosition::Latest,
            "AT_TIMESTAMP" => {
                let at = required(number(item, MARKER_START_TIMESTAMP)?, MARKER_START_TIMESTAMP)?;
                StartPosition::AtTimestamp(from_millis(at))
            }
            _ => return Err(ItemError::Damaged { name: MARKER_START, wanted }),
        },
        complete: flag(item, MARKER_COMPLETE)?,
    })
}

pub(super) fn marker_item(marker: &BootstrapMarker) -> Item {
    let (start, at) = match marker.start {
        StartPosition::TrimHorizon => ("TRIM_HORIZON", None),
        StartPosition::Latest => ("LATEST", None),
        StartPosition::AtTimestamp(at) => ("AT_TIMESTAMP", Some(at)),
    };
    let mut item = Item::from([
        (LEASE_KEY.to_owned(), s(&marker_key(&marker.stream))),
        (ENTITY_TYPE.to_owned(), s(TYPE_MARKER)),
        (STREAM_ARN.to_owned(), s(marker.stream.as_str())),
        (MARKER_AT.to_owned(), n(to_millis(marker.at))),
        (MARKER_START.to_owned(), s(start)),
        (MARKER_COMPLETE.to_owned(), AttributeValue::Bool(marker.complete)),
    ]);
    if let Some(at) = at {
        item.insert(MARKER_START_TIMESTAMP.to_owned(), n(to_millis(at)));
    }
    item
}

pub(super) fn meta_of(item: &Item) -> Result<TableMeta, ItemError> {
    let schema = required(number(item, META_SCHEMA)?, META_SCHEMA)?;
    Ok(TableMeta {
        schema: u32::try_from(schema).map_err(|_| ItemError::Damaged { name: META_SCHEMA, wanted: "a version" })?,
        liveness: match required(text(item, META_LIVENESS)?, META_LIVENESS)? {
            "PER_LEASE" => Liveness::PerLease,
            "PER_WORKER" => Liveness::PerWorker,
            _ => return Err(ItemError::Damaged { name: META_LIVENESS, wanted: "PER_LEASE or PER_WORKER" }),
        },
        key_form: match required(text(item, META_KEY_FORM)?, META_KEY_FORM)? {
            "QUALIFIED" => KeyForm::Qualified,
            "BARE" => KeyForm::Bare,
            _ => return Err(ItemError::Damaged { name: META_KEY_FORM, wanted: "QUALIFIED or BARE" }),
        },
    })
}

/// How often the fleet was told to look.
pub(super) fn rings_of(item: &Item) -> Result<u64, ItemError> {
    let rings = number(item, META_RINGS)?.unwrap_or_default();
    u64::try_from(rings).map_err(|_| ItemError::Damaged { name: META_RINGS, wanted: "a whole number" })
}

/// `None` for a liveness that this crate cannot write down.
pub(super) fn meta_item(meta: &TableMeta) -> Option<Item> {
    let liveness = match meta.liveness {
        Liveness::PerLease => "PER_LEASE",
        Liveness::PerWorker => "PER_WORKER",
        _ => return None,
    };
    let key_form = match meta.key_form {
        KeyForm::Qualified => "QUALIFIED",
        KeyForm::Bare => "BARE",
    };
    Some(Item::from([
        (LEASE_KEY.to_owned(), s(META_KEY)),
        (ENTITY_TYPE.to_owned(), s(TYPE_META)),
        (META_SCHEMA.to_owned(), n(meta.schema.into())),
        (META_LIVENESS.to_owned(), s(liveness)),
        (META_KEY_FORM.to_owned(), s(key_form)),
    ]))
}

pub(super) fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

pub(super) fn n(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(super) fn b(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// A set of shards; DynamoDB has no empty sets, so an empty one is an absent attribute.
pub(super) fn ss<'a>(shards: impl IntoIterator<Item = &'a ShardId>) -> Option<AttributeValue> {
    let shards: Vec<String> = shards.into_iter().map(ToString::to_string).collect();
    (!shards.is_empty()).then_some(AttributeValue::Ss(shards))
}

/// Rounds down: an earlier instant filters less.
pub(super) fn to_millis(at: SystemTime) -> i64 {
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_nanos().div_ceil(1_000_000)).map_or(i64::MIN, |millis| -millis)
        }
    }
}

fn from_millis(millis: i64) -> SystemTime {
    let distance = Duration::from_millis(millis.unsigned_abs());
    let at = if millis < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    at.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn required<T>(value: Option<T>, name: &'static str) -> Result<T, ItemError> {
    value.ok_or(ItemError::Missing(name))
}

fn text<'a>(item: &'a Item, name: &'static str) -> Result<Option<&'a str>, ItemError> {
    match item.get(name) {
        None => Ok(None),
        Some(AttributeValue::S(text)) => Ok(Some(text)),
        Some(_) => Err(ItemError::Damaged { name, wanted: "a text" }),
    }
}

fn parsed<T: FromStr>(item: &Item, name: &'static str, wanted: &'static str) -> Result<Option<T>, ItemError> {
    let parse = |text: &str| text.parse().map_err(|_| ItemError::Damaged { name, wanted });
    text(item, name)?.map(parse).transpose()
}

fn number(item: &Item, name: &'static str) -> Result<Option<i64>, ItemError> {
    let damaged = ItemError::Damaged { name, wanted: "a whole number of 64 bits" };
    match item.get(name) {
        None => Ok(None),
        Some(AttributeValue::N(text)) => text.parse().map(Some).map_err(|_| damaged),
        Some(_) => Err(damaged),
    }
}

fn flag(item: &Item, name: &'static str) -> Result<bool, ItemError> {
    match item.get(name) {
        None => Ok(false),
        Some(AttributeValue::Bool(flag)) => Ok(*flag),
        Some(_) => Err(ItemError::Damaged { name, wanted: "true or false" }),
    }
}

fn shards(item: &Item, name: &'static str) -> Result<BTreeSet<ShardId>, ItemError> {
    let damaged = ItemError::Damaged { name, wanted: "a set of shard ids" };
    match item.get(name) {
        None => Ok(BTreeSet::new()),
        Some(AttributeValue::Ss(shards)) => {
            shards.iter().map(|shard| shard.parse()).collect::<Result<_, _>>().map_err(|_| damaged)
        }
        Some(_) => Err(damaged),
    }
}

#[cfg(test)]
mod tests;
