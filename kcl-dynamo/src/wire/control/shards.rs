//! Commands about shards, and what there is.

use std::time::Duration;

use kcl_core::reference::ShardView;
use kcl_core::{SequenceNumber, ShardId, StreamArn};
use serde::Deserialize;
use serde_json::{Value, json};

use super::weather::seconds;
use super::{Failure, Of, Outcome, read};
use crate::wire::WireService;

/// A command about one shard. A misspelt member is refused: without `through` a trim takes all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfShard {
    stream: Option<String>,
    table: Option<String>,
    shard: Option<String>,
    through: Option<String>,
    seconds: Option<f64>,
}

struct Target {
    stream: StreamArn,
    shard: ShardId,
    through: Option<SequenceNumber>,
    time: Option<Duration>,
}

impl OfShard {
    fn stream(&self, service: &WireService) -> Result<StreamArn, Failure> {
        Of { stream: self.stream.clone(), table: self.table.clone() }.stream(service)
    }

    fn target(self, service: &WireService) -> Result<Target, Failure> {
        let stream = self.stream(service)?;
        let shard = self.shard.ok_or_else(|| Failure::other("name a shard"))?;
        Ok(Target {
            stream,
            shard: shard.parse().map_err(Failure::other)?,
            through: self.through.map(|number| number.parse().map_err(Failure::other)).transpose()?,
            time: self.seconds.map(seconds).transpose()?,
        })
    }
}

fn target(service: &WireService, body: &[u8]) -> Result<Target, Failure> {
    read::<OfShard>(body)?.target(service)
}

pub(super) fn split(service: &WireService, body: &[u8]) -> Outcome {
    let target = target(service, body)?;
    Ok(children(&service.stream.split(&target.stream, &target.shard)?))
}

pub(super) fn roll(service: &WireService, body: &[u8]) -> Outcome {
    let command: OfShard = read(body)?;
    if command.shard.is_none() {
        return Ok(children(&service.stream.roll_all(&command.stream(service)?)?));
    }
    let target = command.target(service)?;
    Ok(children(&[service.stream.roll(&target.stream, &target.shard)?]))
}

pub(super) fn trim(service: &WireService, body: &[u8]) -> Outcome {
    let target = target(service, body)?;
    match target.through {
        Some(through) => service.stream.trim(&target.stream, &target.shard, through)?,
        None => service.stream.trim_all(&target.stream, &target.shard)?,
    }
    Ok(json!({}))
}

pub(super) fn remove(service: &WireService, body: &[u8]) -> Outcome {
    let target = target(service, body)?;
    service.stream.remove_shard(&target.stream, &target.shard)?;
    Ok(json!({}))
}

pub(super) fn hide(service: &WireService, body: &[u8]) -> Outcome {
    let target = target(service, body)?;
    let time = target.time.ok_or_else(|| Failure::other("say for how many seconds"))?;
    service.stream.make_unknown(&target.stream, &target.shard, time)?;
    Ok(json!({}))
}

fn children(made: &[ShardId]) -> Value {
    json!({ "children": made.iter().map(ShardId::as_str).collect::<Vec<_>>() })
}

pub(super) fn list(service: &WireService, body: &[u8]) -> Outcome {
    let stream = read::<Of>(body)?.stream(service)?;
    let table = service.stream.table_of(&stream)?;
    let shards: Vec<Value> = service.stream.shards(&stream).iter().map(shown).collect();
    Ok(json!({ "stream": stream.as_str(), "status": table.status.to_string(), "shards": shards }))
}

fn shown(view: &ShardView) -> Value {
    json!({
        "shard": view.shard.id.as_str(),
        "parent": view.shard.parent.as_ref().map(ShardId::as_str),
        "children": view.children.iter().map(ShardId::as_str).collect::<Vec<_>>(),
        "starting": view.shard.starting.map(|number| number.to_string()),
        "ending": view.shard.ending.map(|number| number.to_string()),
        "open": view.closed.is_none(),
        "oldest": view.oldest.map(|number| number.to_string()),
        "written": view.written,
        "vanished": view.vanished,
    })
}

pub(super) fn streams(service: &WireService, body: &[u8]) -> Outcome {
    let _nothing: std::collections::BTreeMap<String, Value> = read(body)?;
    let tables: Vec<Value> = service.stream.tables().iter().map(|table| table.as_str().into()).collect();
    let streams: Vec<Value> = service.stream.streams().iter().map(|stream| stream.as_str().into()).collect();
    Ok(json!({ "tables": tables, "streams": streams }))
}
