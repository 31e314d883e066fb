//! From the SDK's types to ours. Enumerations go by their text, so that a newer SDK changes nothing here.

use aws_sdk_dynamodbstreams::types;
use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use kcl_core::{IteratorPosition, Shard, StreamArn, StreamDescription, StreamStatus, StreamViewType};

/// What is wrong with an answer, for people.
type Damage = String;

pub(super) fn stream_arn(stream: &types::Stream) -> Result<StreamArn, Damage> {
    let text = stream.stream_arn().ok_or("a listed stream has no ARN")?;
    text.parse().map_err(|e| format!("{e}"))
}

pub(super) fn description(described: &types::StreamDescription) -> Result<StreamDescription, Damage> {
    Ok(StreamDescription {
        status: status(described.stream_status().map_or("", |s| s.as_str()))?,
        view_type: described.stream_view_type().map(|view| view_type(view.as_str())),
        shards: described.shards().iter().map(shard).collect::<Result<_, _>>()?,
        last_evaluated: described.last_evaluated_shard_id().map(|id| parse("shard id", id)).transpose()?,
    })
}

pub(super) fn position(position: &IteratorPosition) -> (ShardIteratorType, Option<String>) {
    match position {
        IteratorPosition::TrimHorizon => (ShardIteratorType::TrimHorizon, None),
        IteratorPosition::Latest => (ShardIteratorType::Latest, None),
        IteratorPosition::At(number) => (ShardIteratorType::AtSequenceNumber, Some(number.to_string())),
        IteratorPosition::After(number) => (ShardIteratorType::AfterSequenceNumber, Some(number.to_string())),
    }
}

fn status(text: &str) -> Result<StreamStatus, Damage> {
    Ok(match text {
        "ENABLING" => StreamStatus::Enabling,
        "ENABLED" => StreamStatus::Enabled,
        "DISABLING" => StreamStatus::Disabling,
        "DISABLED" => StreamStatus::Disabled,
        other => return Err(format!("the stream's status {other:?} is unknown")),
    })
}

fn view_type(text: &str) -> StreamViewType {
    match text.parse() {
        Ok(view) => view,
        Err(never) => match never {},
    }
}

fn shard(listed: &types::Shard) -> Result<Shard, Damage> {
    let range = listed.sequence_number_range();
    let number = |text: Option<&str>| text.map(|text| parse("sequence number", text)).transpose();
    Ok(Shard {
        id: parse("shard id", listed.shard_id().unwrap_or_default())?,
        parent: listed.parent_shard_id().map(|id| parse("parent shard id", id)).transpose()?,
        starting: number(range.and_then(|r| r.starting_sequence_number()))?,
        ending: number(range.and_then(|r| r.ending_sequence_number()))?,
    })
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Result<T, Damage> {
    text.parse().map_err(|e| format!("a listed {what} is wrong: {e}"))
}
