//! Items as the table service checks them.

use std::collections::BTreeSet;

use kcl_core::codec::decode_item;
use kcl_core::reference::item_size;
use kcl_core::{RecordError, RecordErrorKind};
use serde_dynamo::{AttributeValue, Item};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::protocol::Refusal;

/// Source: "Quotas in Amazon DynamoDB" of the developer guide.
const MOST_BYTES: u64 = 400 * 1024;
const MOST_HASH_KEY_BYTES: usize = 2048;
const MOST_RANGE_KEY_BYTES: usize = 1024;
const MOST_DIGITS: usize = 38;
const LARGEST_EXPONENT: i64 = 125;
const SMALLEST_EXPONENT: i64 = -130;

/// The type of a key attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub(super) enum KeyType {
    S,
    N,
    B,
}

impl KeyType {
    fn of(value: &AttributeValue) -> Option<Self> {
        match value {
            AttributeValue::S(_) => Some(Self::S),
            AttributeValue::N(_) => Some(Self::N),
            AttributeValue::B(_) => Some(Self::B),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::S => "S",
            Self::N => "N",
            Self::B => "B",
        }
    }
}

/// The key attributes of a table. The type is not known of a table that was made without the control interface; it counts as
/// that of a text where it must be told, and is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeySchema(pub(super) Vec<(String, Option<KeyType>)>);

impl KeySchema {
    /// As DescribeTable tells them.
    pub(super) fn attributes(&self) -> impl Iterator<Item = Value> {
        self.0
            .iter()
            .map(|(name, kind)| json!({ "AttributeName": name, "AttributeType": kind.unwrap_or(KeyType::S).name() }))
    }

    /// The key attributes alone.
    pub(super) fn key_of(&self, item: &Item) -> Item {
        let mut key = Item::default();
        for (name, _) in &self.0 {
            if let Some(value) = item.get(name) {
                key.insert(name.clone(), value.clone());
            }
        }
        key
    }

    pub(super) fn check_item(&self, item: &Item) -> Result<(), Refusal> {
        for (name, wanted) in &self.0 {
            let Some(value) = item.get(name) else {
                return Err(invalid(format!("Missing the key {name} in the item")));
            };
            if let (Some(wanted), found) = (wanted, KeyType::of(value))
                && found != Some(*wanted)
            {
                let found = found.map_or("another type", KeyType::name);
                let expected = wanted.name();
                return Err(invalid(format!("Type mismatch for key {name} expected: {expected} actual: {found}")));
            }
            not_empty(name, value)?;
        }
        self.check_sizes(item)?;
        if item_size(item) > MOST_BYTES {
            return Err(Refusal::validation("Item size has exceeded the maximum allowed size"));
        }
        Ok(())
    }

    pub(super) fn check_key(&self, key: &Item) -> Result<(), Refusal> {
        let fits = |(name, wanted): &(String, Option<KeyType>)| {
            key.get(name).is_some_and(|value| KeyType::of(value).is_some_and(|found| wanted.is_none_or(|w| w == found)))
        };
        if key.len() != self.0.len() || !self.0.iter().all(fits) {
            return Err(Refusal::validation("The provided key element does not match the schema"));
        }
        key.iter().try_for_each(|(name, value)| not_empty(name, value))?;
        self.check_sizes(key)
    }

    /// Attributes that are set of an item that has a key already.
    pub(super) fn check_update(&self, attributes: &Item) -> Result<(), Refusal> {
        if let Some((name, _)) = self.0.iter().find(|(name, _)| attributes.contains_key(name)) {
            return Err(invalid(format!("Cannot update attribute {name}. This attribute is part of the key")));
        }
        match item_size(attributes) > MOST_BYTES {
            true => Err(Refusal::validation("Item size to update has exceeded the maximum allowed size")),
            false => Ok(()),
        }
    }

    fn check_sizes(&self, item: &Item) -> Result<(), Refusal> {
        let size = |at: usize| self.0.get(at).and_then(|(name, _)| item.get(name)).map_or(0, key_bytes);
        if size(0) > MOST_HASH_KEY_BYTES {
            return Err(invalid("Size of hashkey has exceeded the maximum size limit of2048 bytes"));
        }
        match size(1) > MOST_RANGE_KEY_BYTES {
            true => Err(invalid("Aggregated size of all range keys has exceeded the size limit of 1024 bytes")),
            false => Ok(()),
        }
    }
}

/// What a key attribute's value takes. Numbers are never too long.
fn key_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => bytes.len(),
        _ => 0,
    }
}

fn not_empty(name: &str, value: &AttributeValue) -> Result<(), Refusal> {
    let what = match value {
        AttributeValue::S(text) if text.is_empty() => "string",
        AttributeValue::B(bytes) if bytes.is_empty() => "binary",
        _ => return Ok(()),
    };
    Err(Refusal::validation(format!(
        "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty {what} value. Key: {name}"
    )))
}

/// Decodes and checks an item of a request.
pub(super) fn decode(json: &RawValue) -> Result<Item, Refusal> {
    let item = decode_item(json.get().as_bytes()).map_err(|error| of_codec(&error))?;
    item.values().try_for_each(check_value)?;
    Ok(item)
}

fn of_codec(error: &RecordError) -> Refusal {
    match error.kind() {
        RecordErrorKind::UnknownType(_) | RecordErrorKind::NotOneType => {
            Refusal::validation("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes")
        }
        RecordErrorKind::TooDeep => {
            Refusal::validation("Nesting Levels have exceeded supported limits: the item has too many levels")
        }
        _ => Refusal::serialization(error.to_string()),
    }
}

fn check_value(value: &AttributeValue) -> Result<(), Refusal> {
    match value {
        AttributeValue::N(text) => check_number(text),
        AttributeValue::Null(false) => Err(invalid("Null attribute value types must have the value of true")),
        AttributeValue::Ss(set) => check_set("string", set, |_| Ok(())),
        AttributeValue::Ns(set) => check_set("number", set, |text: &String| check_number(text)),
        AttributeValue::Bs(set) => check_set("binary", set, |_| Ok(())),
        AttributeValue::L(list) => list.iter().try_for_each(check_value),
        AttributeValue::M(map) => map.values().try_for_each(check_value),
        AttributeValue::S(_) | AttributeValue::B(_) | AttributeValue::Bool(_) | AttributeValue::Null(true) => Ok(()),
    }
}

fn check_set<T: Ord>(kind: &str, set: &[T], each: impl Fn(&T) -> Result<(), Refusal>) -> Result<(), Refusal> {
    if set.is_empty() {
        return Err(invalid(format!("An {kind} set  may not be empty")));
    }
    set.iter().try_for_each(each)?;
    match set.iter().collect::<BTreeSet<_>>().len() == set.len() {
        true => Ok(()),
        false => Err(invalid("Input collection contains duplicates")),
    }
}

/// Numbers have up to 38 digits that count, and lie between 1E-130 and 9.99E+125. They are kept as they are written.
fn check_number(text: &str) -> Result<(), Refusal> {
    let no_number = || Refusal::validation(format!("The parameter cannot be converted to a numeric value: {text}"));
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().map_err(|_text| no_number())?),
        None => (unsigned, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(no_number());
    }
    let from_first = digits.trim_start_matches('0');
    if from_first.is_empty() {
        return Ok(());
    }
    if from_first.trim_end_matches('0').len() > MOST_DIGITS {
        return Err(Refusal::validation("Attempting to store more than 38 significant digits in a Number"));
    }
    // The place of the first digit that counts.
    let places = i64::try_from(whole.len()).unwrap_or(i64::MAX);
    let zeros = i64::try_from(digits.len() - from_first.len()).unwrap_or(i64::MAX);
    let magnitude = exponent.saturating_add(places).saturating_sub(zeros).saturating_sub(1);
    match magnitude {
        _ if magnitude > LARGEST_EXPONENT => Err(Refusal::validation(
            "Number overflow. Attempting to store a number with magnitude larger than supported range",
        )),
        _ if magnitude < SMALLEST_EXPONENT => Err(Refusal::validation(
            "Number underflow. Attempting to store a number with magnitude smaller than supported range",
        )),
        _ => Ok(()),
    }
}

fn invalid(why: impl std::fmt::Display) -> Refusal {
    Refusal::validation(format!("One or more parameter values were invalid: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_their_types_and_no_longer_than_the_service_allows() {
        let schema = KeySchema(vec![("pk".to_owned(), Some(KeyType::S)), ("sk".to_owned(), Some(KeyType::N))]);
        let texts = KeySchema(vec![("pk".to_owned(), Some(KeyType::S)), ("sk".to_owned(), Some(KeyType::S))]);
        let n = |text: &str| AttributeValue::N(text.to_owned());
        let s = |length: usize| AttributeValue::S("k".repeat(length));
        let item = |pk: AttributeValue, sk: AttributeValue| {
            let mut item = Item::default();
            item.insert("pk".to_owned(), pk);
            item.insert("sk".to_owned(), sk);
            item
        };
        for (schema, item, good) in [
            (&schema, item(s(2048), n("1")), true),
            (&schema, item(s(2049), n("1")), false),
            (&schema, item(n("1"), n("1")), false),
            (&schema, item(s(1), s(1)), false),
            (&schema, item(s(0), n("1")), false),
            (&texts, item(s(1), s(1024)), true),
            (&texts, item(s(1), s(1025)), false),
        ] {
            assert_eq!(schema.check_item(&item).is_ok(), good);
            assert_eq!(schema.check_key(&item).is_ok(), good);
            assert!(schema.check_update(&item).is_err(), "keys are not changed");
        }
        assert_eq!(schema.check_update(&Item::default()), Ok(()));
    }

    #[test]
    fn numbers_are_those_that_the_service_stores() {
        for good in [
            "0",
            "-1",
            "+1.50",
            "1e10",
            "1E-130",
            "9.9e125",
            "000",
            "0.00001",
            "12345678901234567890123456789012345678000",
        ] {
            assert_eq!(check_number(good), Ok(()), "{good}");
        }
        for bad in ["", "-", "a", "1.2.3", "1e", "e5", " 1", "1e126", "1e-131", "0x1", "NaN", "1".repeat(39).as_str()] {
            assert!(check_number(bad).is_err(), "{bad}");
        }
    }
}
