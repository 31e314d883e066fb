//! DynamoDB JSON: the form in which the service writes items, as `{"name": {"S": "Ada"}, "tags": {"SS": ["a", "b"]}}`.
//!
//! The one codec for pages, the wire façade, failure sinks and a record's JSON form.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_dynamo::{AttributeValue, Item};

use super::cursor::Cursor;
use super::de::ItemDeserializer;
pub use super::error::{RecordError, RecordErrorKind};

/// How many lists and maps may lie around a value. Source: the service's limit for nested attributes.
pub const MAX_DEPTH: u8 = 32;

/// Decodes an item from DynamoDB JSON. Of an attribute that is given twice, the last counts.
///
/// # Errors
/// The text is no item; the error says where.
pub fn decode_item(json: &[u8]) -> Result<Item, RecordError> {
    let mut cursor = Cursor::new(utf8(json)?);
    let item = map(&mut cursor, 0)?;
    cursor.end()?;
    Ok(item)
}

/// Decodes one attribute value, as `{"N": "1"}`.
///
/// # Errors
/// The text is no attribute value; the error says where.
pub fn decode_value(json: &[u8]) -> Result<AttributeValue, RecordError> {
    let mut cursor = Cursor::new(utf8(json)?);
    let value = value(&mut cursor, 0)?;
    cursor.end()?;
    Ok(value)
}

/// Reads an item straight into a Rust type, by the rules of `serde_dynamo::from_item` and without making an item first.
///
/// Beyond those rules, strings without escapes can be borrowed, a binary value can be read as a sequence of `u8`, and 128-bit
/// integers are understood.
///
/// # Errors
/// The text is no item, or the type cannot be made from it; the error says where.
pub fn read_item<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, RecordError> {
    let mut cursor = Cursor::new(utf8(json)?);
    let value = T::deserialize(ItemDeserializer::new(&mut cursor))?;
    cursor.end()?;
    Ok(value)
}

/// Appends `item` as DynamoDB JSON: compact, with the names in order, so equal items give equal texts.
pub fn encode_item(item: &Item, out: &mut Vec<u8>) {
    encode_map(item.iter(), out);
}

/// Appends one attribute value as DynamoDB JSON.
pub fn encode_value(value: &AttributeValue, out: &mut Vec<u8>) {
    let tag = tag_of(value);
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(tag.as_bytes());
    out.extend_from_slice(b"\":");
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => encode_string(text, out),
        AttributeValue::B(bytes) => encode_binary(bytes, out),
        AttributeValue::Bool(flag) | AttributeValue::Null(flag) => {
            out.extend_from_slice(if *flag { b"true" } else { b"false" });
        }
        AttributeValue::M(map) => encode_map(map.iter(), out),
        AttributeValue::L(list) => encode_list(list, out, encode_value),
        AttributeValue::Ss(set) | AttributeValue::Ns(set) => {
            encode_list(set, out, |text, out| encode_string(text, out))
        }
        AttributeValue::Bs(set) => encode_list(set, out, |bytes, out| encode_binary(bytes, out)),
    }
    out.push(b'}');
}

/// Appends `text` as a JSON string with its quotes.
pub fn encode_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1F => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn encode_map<'a>(map: impl Iterator<Item = (&'a String, &'a AttributeValue)>, out: &mut Vec<u8>) {
    let mut members: Vec<_> = map.collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    out.push(b'{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode_string(name, out);
        out.push(b':');
        encode_value(value, out);
    }
    out.push(b'}');
}

fn encode_list<T>(list: &[T], out: &mut Vec<u8>, encode: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, value) in list.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode(value, out);
    }
    out.push(b']');
}

fn encode_binary(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

pub(super) fn utf8(json: &[u8]) -> Result<&str, RecordError> {
    std::str::from_utf8(json).map_err(|error| RecordError::at(RecordErrorKind::Utf8, error.valid_up_to()))
}

/// The types of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    S,
    N,
    B,
    Bool,
    Null,
    M,
    L,
    Ss,
    Ns,
    Bs,
}

impl Tag {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "S" => Self::S,
            "N" => Self::N,
            "B" => Self::B,
            "BOOL" => Self::Bool,
            "NULL" => Self::Null,
            "M" => Self::M,
            "L" => Self::L,
            "SS" => Self::Ss,
            "NS" => Self::Ns,
            "BS" => Self::Bs,
            _ => return None,
        })
    }

    /// What a reader of an error calls it.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::S => "a string (S)",
            Self::N => "a number (N)",
            Self::B => "a binary (B)",
            Self::Bool => "a boolean (BOOL)",
            Self::Null => "a null (NULL)",
            Self::M => "a map (M)",
            Self::L => "a list (L)",
            Self::Ss => "a set of strings (SS)",
            Self::Ns => "a set of numbers (NS)",
            Self::Bs => "a set of binaries (BS)",
        }
    }
}

fn tag_of(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::S(_) => "S",
        AttributeValue::N(_) => "N",
        AttributeValue::B(_) => "B",
        AttributeValue::Bool(_) => "BOOL",
        AttributeValue::Null(_) => "NULL",
        AttributeValue::M(_) => "M",
        AttributeValue::L(_) => "L",
        AttributeValue::Ss(_) => "SS",
        AttributeValue::Ns(_) => "NS",
        AttributeValue::Bs(_) => "BS",
    }
}

/// Opens an attribute value up to the colon behind its type. Members that are `null` count as absent, as the AWS SDKs have it.
pub(super) fn open(cursor: &mut Cursor<'_>) -> Result<Tag, RecordError> {
    cursor.take(b'{', "an attribute value")?;
    let mut first = true;
    while let Some(key) = cursor.next_key(&mut first)? {
        if cursor.peek() == Some(b'n') {
            cursor.skip()?;
            continue;
        }
        return Tag::parse(&key)
            .ok_or_else(|| cursor.error(RecordErrorKind::UnknownType(key.chars().take(16).collect())));
    }
    Err(cursor.error(RecordErrorKind::NotOneType))
}

/// Closes an attribute value whose content was read.
pub(super) fn close(cursor: &mut Cursor<'_>) -> Result<(), RecordError> {
    while cursor.next_key(&mut false)?.is_some() {
        if cursor.peek() != Some(b'n') {
            return Err(cursor.error(RecordErrorKind::NotOneType));
        }
        cursor.skip()?;
    }
    Ok(())
}

/// The depth inside a list or a map that lies at `depth`.
pub(super) fn deeper(cursor: &Cursor<'_>, depth: u8) -> Result<u8, RecordError> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(cursor.error(RecordErrorKind::TooDeep)) }
}

pub(super) fn binary(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, RecordError> {
    let text = cursor.string()?;
    STANDARD.decode(text.as_bytes()).map_err(|_malformed| cursor.error(RecordErrorKind::Base64))
}

fn value(cursor: &mut Cursor<'_>, depth: u8) -> Result<AttributeValue, RecordError> {
    let value = match open(cursor)? {
        Tag::S => AttributeValue::S(text(cursor)?),
        Tag::N => AttributeValue::N(text(cursor)?),
        Tag::B => AttributeValue::B(binary(cursor)?),
        Tag::Bool => AttributeValue::Bool(cursor.bool()?),
        Tag::Null => AttributeValue::Null(cursor.bool()?),
        Tag::M => {
            let depth = deeper(cursor, depth)?;
            AttributeValue::M(map(cursor, depth)?.into_inner())
        }
        Tag::L => {
            let depth = deeper(cursor, depth)?;
            AttributeValue::L(list(cursor, |cursor| value(cursor, depth))?)
        }
        Tag::Ss => AttributeValue::Ss(list(cursor, text)?),
        Tag::Ns => AttributeValue::Ns(list(cursor, text)?),
        Tag::Bs => AttributeValue::Bs(list(cursor, binary)?),
    };
    close(cursor)?;
    Ok(value)
}

fn text(cursor: &mut Cursor<'_>) -> Result<String, RecordError> {
    cursor.string().map(Cow::into_owned)
}

fn map(cursor: &mut Cursor<'_>, depth: u8) -> Result<Item, RecordError> {
    cursor.take(b'{', "a map of attributes")?;
    let (mut map, mut first) = (Item::default(), true);
    while let Some(name) = cursor.next_key(&mut first)? {
        let value = value(cursor, depth).map_err(|error| error.within(&name))?;
        map.insert(name.into_owned(), value);
    }
    Ok(map)
}

fn list<'de, T>(
    cursor: &mut Cursor<'de>,
    mut element: impl FnMut(&mut Cursor<'de>) -> Result<T, RecordError>,
) -> Result<Vec<T>, RecordError> {
    cursor.take(b'[', "a list")?;
    let (mut list, mut first) = (Vec::new(), true);
    while cursor.next_element(&mut first)? {
        list.push(element(cursor).map_err(|error| error.within_index(list.len()))?);
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
