//! Items: their keys, the hash that finds a key's shard, and their sizes.

use serde_dynamo::{AttributeValue, Item};

use super::error::TableError;
use super::sequence::mix;

/// An item's primary key, in one form for equal keys, which orders items in their table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Vec<KeyValue>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum KeyValue {
    Text(String),
    /// As written: `1` and `1.0` are two keys here and one in the service.
    Number(String),
    Binary(Vec<u8>),
}

/// The key of `item` in a table with the key attributes `names`, and those attributes alone.
pub(super) fn key_of(item: &Item, names: &[String]) -> Result<(Key, Item), TableError> {
    let mut values = Vec::with_capacity(names.len());
    let mut keys = Item::default();
    for name in names {
        let value = item.get(name).ok_or_else(|| TableError::Key(name.clone()))?;
        values.push(match value {
            AttributeValue::S(text) => KeyValue::Text(text.clone()),
            AttributeValue::N(number) => KeyValue::Number(number.clone()),
            AttributeValue::B(bytes) => KeyValue::Binary(bytes.clone()),
            _ => return Err(TableError::Key(name.clone())),
        });
        keys.insert(name.clone(), value.clone());
    }
    Ok((Key(values), keys))
}

impl Key {
    /// Where among all keys it lies. Only the partition key counts, so all items of one partition share a shard.
    pub(super) fn hash(&self) -> u64 {
        let (kind, bytes) = match self.0.first() {
            Some(KeyValue::Text(text)) => (1, text.as_bytes()),
            Some(KeyValue::Number(number)) => (2, number.as_bytes()),
            Some(KeyValue::Binary(bytes)) => (3, bytes.as_slice()),
            None => (0, [].as_slice()),
        };
        // FNV-1a, and a finish that spreads it over the upper bits, which choose the shard.
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ kind, step))
    }
}

/// The size of an item in bytes, by the service's rules for item sizes.
#[must_use]
pub fn item_size(item: &Item) -> u64 {
    item.iter().map(|(name, value)| name.len() as u64 + size_of_value(value)).sum()
}

/// Source: "DynamoDB item sizes and formats" of the developer guide.
fn size_of_value(value: &AttributeValue) -> u64 {
    let number = |digits: &String| digits.len().div_ceil(2) as u64 + 1;
    match value {
        AttributeValue::S(text) => text.len() as u64,
        AttributeValue::N(digits) => number(digits),
        AttributeValue::B(bytes) => bytes.len() as u64,
        AttributeValue::Bool(_) | AttributeValue::Null(_) => 1,
        AttributeValue::Ss(texts) => texts.iter().map(|text| text.len() as u64).sum(),
        AttributeValue::Ns(numbers) => numbers.iter().map(number).sum(),
        AttributeValue::Bs(all) => all.iter().map(|bytes| bytes.len() as u64).sum(),
        AttributeValue::L(values) => 3 + values.iter().map(|value| 1 + size_of_value(value)).sum::<u64>(),
        AttributeValue::M(map) => {
            3 + map.iter().map(|(name, value)| 1 + name.len() as u64 + size_of_value(value)).sum::<u64>()
        }
    }
}
