//! Items of the SDK's crates and of the library, by hand: the conversions of `serde_dynamo` would make every build of the workspace,
//! the first one of a newcomer too, wait for the SDK.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue as Table;
use aws_sdk_dynamodbstreams::types::AttributeValue as Stream;
use serde_dynamo::{AttributeValue, Item};

/// An item as the table service's client takes it.
#[must_use]
pub fn to_table(item: Item) -> HashMap<String, Table> {
    item.into_inner().into_iter().map(|(name, value)| (name, table_value(value))).collect()
}

fn table_value(value: AttributeValue) -> Table {
    let blobs = |bytes: Vec<Vec<u8>>| bytes.into_iter().map(Blob::new).collect();
    match value {
        AttributeValue::N(number) => Table::N(number),
        AttributeValue::S(text) => Table::S(text),
        AttributeValue::Bool(truth) => Table::Bool(truth),
        AttributeValue::B(bytes) => Table::B(Blob::new(bytes)),
        AttributeValue::Null(null) => Table::Null(null),
        AttributeValue::M(map) => Table::M(map.into_iter().map(|(name, value)| (name, table_value(value))).collect()),
        AttributeValue::L(list) => Table::L(list.into_iter().map(table_value).collect()),
        AttributeValue::Ss(texts) => Table::Ss(texts),
        AttributeValue::Ns(numbers) => Table::Ns(numbers),
        AttributeValue::Bs(bytes) => Table::Bs(blobs(bytes)),
    }
}

/// An item as the streams service's client gave it.
///
/// # Panics
/// The client knows a type that this does not.
#[must_use]
pub fn from_stream(item: &HashMap<String, Stream>) -> Item {
    item.iter().map(|(name, value)| (name.clone(), stream_value(value))).collect::<HashMap<_, _>>().into()
}

fn stream_value(value: &Stream) -> AttributeValue {
    match value.clone() {
        Stream::N(number) => AttributeValue::N(number),
        Stream::S(text) => AttributeValue::S(text),
        Stream::Bool(truth) => AttributeValue::Bool(truth),
        Stream::B(bytes) => AttributeValue::B(bytes.into_inner()),
        Stream::Null(null) => AttributeValue::Null(null),
        Stream::M(map) => AttributeValue::M(from_stream(&map).into_inner()),
        Stream::L(list) => AttributeValue::L(list.iter().map(stream_value).collect()),
        Stream::Ss(texts) => AttributeValue::Ss(texts),
        Stream::Ns(numbers) => AttributeValue::Ns(numbers),
        Stream::Bs(bytes) => AttributeValue::Bs(bytes.into_iter().map(|blob| blob.into_inner()).collect()),
        other => panic!("the client knows a type that this does not: {other:?}"),
    }
}
