//! The Java library's rules for reading a lease, as a check of stored items.
//!
//! Source: `DynamoDBLeaseSerializer`, `DynamoDBMultiStreamLeaseSerializer`, `DynamoUtils`, `ExtendedSequenceNumber`,
//! `HashKeyRangeForLease` and `StreamIdentifier` of KCL 3.5, and `KinesisMapperUtil` of the DynamoDB Streams adapter 2.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

/// An item as the client gives it.
pub type Item = HashMap<String, AttributeValue>;

/// What an attribute must be.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Number,
    Shards,
    Bytes,
    Checkpoint,
}

/// Every attribute that Java writes on a lease: its kind, and whether an item without it is refused.
const ATTRIBUTES: &[(&str, Kind, bool)] = &[
    ("leaseKey", Kind::Text, true),
    ("leaseCounter", Kind::Number, true),
    ("ownerSwitchesSinceCheckpoint", Kind::Number, true),
    ("checkpoint", Kind::Checkpoint, true),
    ("checkpointSubSequenceNumber", Kind::Number, true),
    // Without a range, Java lists every shard to fill it in.
    ("startingHashKey", Kind::Number, true),
    ("endingHashKey", Kind::Number, true),
    ("leaseOwner", Kind::Text, false),
    ("pendingCheckpoint", Kind::Checkpoint, false),
    ("pendingCheckpointSubSequenceNumber", Kind::Number, false),
    ("pendingCheckpointState", Kind::Bytes, false),
    ("parentShardId", Kind::Shards, false),
    ("childShardIds", Kind::Shards, false),
    ("throughputKBps", Kind::Number, false),
    ("entityType", Kind::Text, false),
    ("streamName", Kind::Text, false),
    ("shardId", Kind::Text, false),
];

/// Everything about a lease item that Java would refuse, stumble over, or has not written itself. An empty answer is a lease that
/// Java goes on with.
#[must_use]
pub fn violations(item: &Item) -> Vec<String> {
    let mut found = Vec::new();
    for (name, kind, required) in ATTRIBUTES {
        match item.get(*name) {
            None if *required => found.push(format!("{name} is missing")),
            None => {}
            Some(value) if is_of(*kind, value, name) => {}
            Some(value) => found.push(format!("{name} is {value:?}")),
        }
    }
    let known = |name: &String| ATTRIBUTES.iter().any(|(known, ..)| known == name);
    found.extend(item.keys().filter(|name| !known(name)).map(|name| format!("{name} is not Java's")));
    if text(item, "entityType").is_some_and(|kind| kind != "LEASE") {
        found.push("it is no LEASE".to_owned());
    }
    if text(item, "startingHashKey") >= text(item, "endingHashKey") {
        found.push("the hash range is empty".to_owned());
    }
    found.extend(identity(item));
    found
}

fn is_of(kind: Kind, value: &AttributeValue, name: &str) -> bool {
    match (kind, value) {
        (Kind::Text, AttributeValue::S(text)) => !text.is_empty(),
        // Hash keys are big decimal numbers, kept as texts.
        (Kind::Number, AttributeValue::S(text)) => name.ends_with("HashKey") && text.parse::<u128>().is_ok(),
        (Kind::Number, AttributeValue::N(number)) => match name {
            "throughputKBps" => number.parse::<f64>().is_ok(),
            _ => number.parse::<i64>().is_ok(),
        },
        (Kind::Shards, AttributeValue::Ss(shards)) => !shards.is_empty(),
        (Kind::Bytes, AttributeValue::B(_)) => true,
        (Kind::Checkpoint, AttributeValue::S(text)) => {
            let sentinel = ["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END"].contains(&text.as_str());
            sentinel || (!text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()))
        }
        _ => false,
    }
}

/// A lease of several streams says which it is of, in the form `account:stream:epoch`, and its key is that and the shard.
fn identity(item: &Item) -> Option<String> {
    let key = text(item, "leaseKey")?;
    match (text(item, "streamName"), text(item, "shardId")) {
        (None, None) => key.contains(':').then(|| format!("the key {key} has no streamName and no shardId beside it")),
        (Some(stream), Some(shard)) => {
            let parts: Vec<&str> = stream.split(':').collect();
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let legal =
                matches!(parts[..], [account, name, epoch] if digits(account) && !name.is_empty() && digits(epoch));
            let same = key == format!("{stream}:{shard}");
            (!legal || !same).then(|| format!("the key {key} is not that of {shard} of {stream}"))
        }
        _ => Some("one of streamName and shardId is missing".to_owned()),
    }
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> Vec<Item> {
        let text = include_str!("../../../kcl-dynamo/tests/data/java-lease-items.json");
        let java: serde_json::Value = serde_json::from_str(text).expect("legal JSON");
        let groups = java["leases"].as_object().expect("groups").values();
        let items = groups.flat_map(|group| group.as_array().expect("items").clone());
        items.map(|json| crate::items::to_table(serde_json::from_value(json).expect("DynamoDB JSON"))).collect()
    }

    #[test]
    fn what_java_wrote_is_javas() {
        assert_eq!(golden().len(), 8);
        for item in golden() {
            assert_eq!(violations(&item), [""; 0], "{item:?}");
        }
    }

    #[test]
    fn what_java_would_stumble_over_is_found() {
        let s = |text: &str| AttributeValue::S(text.to_owned());
        let n = |number: &str| AttributeValue::N(number.to_owned());
        for (name, value) in [
            ("leaseCounter", None),
            ("leaseCounter", Some(s("1"))),
            ("ownerSwitchesSinceCheckpoint", None),
            ("checkpoint", Some(s("shard_end"))),
            ("checkpoint", Some(n("12"))),
            ("parentShardId", Some(s("shardId-A"))),
            ("childShardIds", Some(AttributeValue::Ss(Vec::new()))),
            ("startingHashKey", Some(s("1"))),
            ("leaseOwner", Some(s(""))),
            ("entityType", Some(s("KCL_RS_META"))),
            ("checkpointOwner", Some(s("w1"))),
            ("stopReason", Some(s("data-lost: all"))),
            ("streamName", Some(s("1:t:1"))),
            ("leaseKey", Some(s("1:t:1:shardId-A"))),
        ] {
            let mut item = golden().remove(0);
            match &value {
                Some(value) => item.insert(name.to_owned(), value.clone()),
                None => item.remove(name),
            };
            assert_ne!(violations(&item), [""; 0], "{name}: {value:?}");
        }
    }
}
