//! The four operations of DynamoDB Streams.
//!
//! Source: the API reference of DynamoDB Streams, for members, ranges and errors; the wording of validation errors is that of
//! the framework the service is built on, where it is known.

use std::error::Error as _;
use std::time::{SystemTime, UNIX_EPOCH};

use kcl_core::reference::ServiceError;
use kcl_core::{
    DescribePage, IteratorPosition, MAX_RECORDS, SequenceNumber, Shard, ShardId, ShardIterator, SourceError, StreamArn,
    TableName, encode_page,
};
use serde_json::{Value, json};

use super::WireService;
use super::fields::{Checks, Fields, checked};
use super::protocol::Refusal;
use super::table::{key_schema, table_length, table_name};

const ARN: (usize, usize) = (37, 1024);
const SHARD: (usize, usize) = (28, 65);
const NUMBER: (usize, usize) = (21, 40);
const TOKEN: (usize, usize) = (1, 2048);
const MOST_SHARDS: usize = 100;
const MOST_STREAMS: usize = 100;

/// `ListStreams`.
pub(super) fn list_streams(service: &WireService, fields: &Fields<'_>) -> Result<Vec<u8>, Refusal> {
    let table = fields.text("TableName")?;
    let limit = fields.integer("Limit")?;
    let after = fields.text("ExclusiveStartStreamArn")?;
    let mut checks = Checks::default();
    table_length(&mut checks, table.as_ref());
    checks.range("limit", limit, (1, 100));
    checks.length("exclusiveStartStreamArn", after.as_ref(), ARN);
    checks.finish()?;
    let table: Option<TableName> = table.as_deref().map(table_name).transpose()?;
    let after = after.as_deref().map(arn).transpose()?;
    let page = service.stream.list_limited(table.as_ref(), after.as_ref(), at_most(limit, MOST_STREAMS));
    let page = page.map_err(|error| refused(&error))?;
    let streams: Vec<Value> = page.streams.iter().map(|stream| summary(&stream.arn)).collect();
    let mut answer = json!({ "Streams": streams });
    set(&mut answer, "LastEvaluatedStreamArn", page.last_evaluated.map(|arn| Value::from(arn.as_str())));
    Ok(answer.to_string().into_bytes())
}

/// `DescribeStream`.
pub(super) fn describe_stream(service: &WireService, fields: &Fields<'_>) -> Result<Vec<u8>, Refusal> {
    let stream = fields.text("StreamArn")?;
    let limit = fields.integer("Limit")?;
    let after = fields.text("ExclusiveStartShardId")?;
    let filter = fields.structure("ShardFilter")?;
    let kind = filter.as_ref().map(|filter| filter.text("Type")).transpose()?.flatten();
    let parent = filter.as_ref().map(|filter| filter.text("ShardId")).transpose()?.flatten();
    let mut checks = Checks::default();
    checks.required("streamArn", stream.as_ref());
    checks.length("streamArn", stream.as_ref(), ARN);
    checks.range("limit", limit, (1, 100));
    checks.length("exclusiveStartShardId", after.as_ref(), SHARD);
    checks.one_of("shardFilter.type", kind.as_ref(), &["CHILD_SHARDS"]);
    checks.length("shardFilter.shardId", parent.as_ref(), SHARD);
    checks.finish()?;
    let stream = arn(&checked(stream)?)?;
    let after = after.as_deref().map(shard_id).transpose()?;
    // Without a shard the filter lets nothing through.
    let children_of = filter.map(|_filter| shard_id(parent.as_deref().unwrap_or("none"))).transpose()?;
    let page = DescribePage { after, children_of };
    let described = service.stream.describe_limited(&stream, &page, at_most(limit, MOST_SHARDS));
    let described = described.map_err(|error| refused(&error))?;
    let table = service.stream.table_of(&stream);
    let table = table.map_err(|_gone| Refusal::not_found("Requested resource not found: Stream not found"))?;
    let mut description = summary(&stream);
    set(&mut description, "StreamStatus", Some(described.status.to_string().into()));
    set(&mut description, "StreamViewType", Some(table.view_type.as_str().into()));
    set(&mut description, "CreationRequestDateTime", Some(epoch_seconds(table.created_at)));
    set(&mut description, "KeySchema", Some(key_schema(&table.keys)));
    set(&mut description, "Shards", Some(described.shards.iter().map(shard).collect()));
    set(&mut description, "LastEvaluatedShardId", described.last_evaluated.map(|id| id.as_str().into()));
    Ok(json!({ "StreamDescription": description }).to_string().into_bytes())
}

/// `GetShardIterator`.
pub(super) fn get_shard_iterator(service: &WireService, fields: &Fields<'_>) -> Result<Vec<u8>, Refusal> {
    let stream = fields.text("StreamArn")?;
    let shard = fields.text("ShardId")?;
    let kind = fields.text("ShardIteratorType")?;
    let number = fields.text("SequenceNumber")?;
    let mut checks = Checks::default();
    checks.required("streamArn", stream.as_ref());
    checks.length("streamArn", stream.as_ref(), ARN);
    checks.required("shardId", shard.as_ref());
    checks.length("shardId", shard.as_ref(), SHARD);
    checks.required("shardIteratorType", kind.as_ref());
    let kinds = ["AT_SEQUENCE_NUMBER", "TRIM_HORIZON", "LATEST", "AFTER_SEQUENCE_NUMBER"];
    checks.one_of("shardIteratorType", kind.as_ref(), &kinds);
    checks.length("sequenceNumber", number.as_ref(), NUMBER);
    checks.finish()?;
    let stream = arn(&checked(stream)?)?;
    let shard = shard_id(&checked(shard)?)?;
    let position = position(&checked(kind)?, number.as_deref())?;
    let iterator = service.stream.open_shard(&stream, &shard, position).map_err(|error| refused(&error))?;
    Ok(json!({ "ShardIterator": iterator.as_str() }).to_string().into_bytes())
}

/// `GetRecords`.
pub(super) fn get_records(service: &WireService, fields: &Fields<'_>) -> Result<Vec<u8>, Refusal> {
    let iterator = fields.text("ShardIterator")?;
    let limit = fields.integer("Limit")?;
    let mut checks = Checks::default();
    checks.required("shardIterator", iterator.as_ref());
    checks.length("shardIterator", iterator.as_ref(), TOKEN);
    checks.range("limit", limit, (1, 1000));
    checks.finish()?;
    let iterator = ShardIterator::new(checked(iterator)?);
    let page = service.stream.read_page(&iterator, at_most(limit, MAX_RECORDS)).map_err(|error| refused(&error))?;
    let records: Vec<_> = page.records.iter().cloned().collect();
    let length: usize = records.iter().map(|record| record.raw_json().len() + 1).sum();
    let mut body = Vec::with_capacity(length + 1024);
    encode_page(&records, page.next.as_ref().map(ShardIterator::as_str), &mut body);
    Ok(body)
}

fn position(kind: &str, number: Option<&str>) -> Result<IteratorPosition, Refusal> {
    let number: Option<SequenceNumber> = number
        .map(|text| text.parse().map_err(|_text| Refusal::validation(format!("Invalid SequenceNumber: {text}"))))
        .transpose()?;
    match (kind, number) {
        ("TRIM_HORIZON", None) => Ok(IteratorPosition::TrimHorizon),
        ("LATEST", None) => Ok(IteratorPosition::Latest),
        ("AT_SEQUENCE_NUMBER", Some(at)) => Ok(IteratorPosition::At(at)),
        ("AFTER_SEQUENCE_NUMBER", Some(at)) => Ok(IteratorPosition::After(at)),
        (_, Some(_)) => Err(Refusal::validation(format!("SequenceNumber must not be provided for {kind}"))),
        (_, None) => Err(Refusal::validation(format!("SequenceNumber is required for {kind}"))),
    }
}

/// What the reference stream says, in the words of the protocol.
fn refused(error: &SourceError) -> Refusal {
    match error.source().and_then(|cause| cause.downcast_ref::<ServiceError>()) {
        Some(service) => Refusal::new(service.code().as_str(), service.message()),
        // Every error of it has one.
        None => Refusal::new("InternalServerError", error.to_string()),
    }
}

pub(super) fn arn(text: &str) -> Result<StreamArn, Refusal> {
    text.parse().map_err(|_malformed| Refusal::validation("Invalid StreamArn"))
}

fn shard_id(text: &str) -> Result<ShardId, Refusal> {
    text.parse().map_err(|_malformed| Refusal::validation("Invalid ShardId"))
}

/// A limit that was checked, `most` without one.
fn at_most(limit: Option<i64>, most: usize) -> usize {
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(most)
}

fn summary(stream: &StreamArn) -> Value {
    json!({ "StreamArn": stream.as_str(), "TableName": stream.table_name(), "StreamLabel": stream.label() })
}

fn shard(shard: &Shard) -> Value {
    let mut range = json!({});
    set(&mut range, "StartingSequenceNumber", shard.starting.map(|number| number.as_str().into()));
    set(&mut range, "EndingSequenceNumber", shard.ending.map(|number| number.as_str().into()));
    let mut listed = json!({ "ShardId": shard.id.as_str(), "SequenceNumberRange": range });
    set(&mut listed, "ParentShardId", shard.parent.as_ref().map(|id| id.as_str().into()));
    listed
}

/// Sets a member that has a value.
pub(super) fn set(structure: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        structure[name] = value;
    }
}

/// A time as the protocol writes it: seconds since 1970, with milliseconds behind the point.
pub(super) fn epoch_seconds(time: SystemTime) -> Value {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact below 2^53")]
    Value::from(since.as_millis() as f64 / 1000.0)
}
