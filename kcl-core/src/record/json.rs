//! The JSON forms of a record: the service's own, and the one that Lambda events have.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use super::codec::{encode_item, encode_string, utf8};
use super::cursor::Cursor;
use super::error::RecordError;
use super::page::Span;
use super::{RecordParts, TTL_PRINCIPAL, TTL_TYPE, UserIdentity};
use crate::model::StreamArn;

/// Where keys and images lie in an encoded record.
#[derive(Debug, Default)]
pub(super) struct ItemSpans {
    pub(super) keys: Option<Span>,
    pub(super) new_image: Option<Span>,
    pub(super) old_image: Option<Span>,
}

/// A record in the service's form.
pub(super) fn encode_parts(parts: &RecordParts) -> (Vec<u8>, ItemSpans) {
    let mut out = Vec::with_capacity(512);
    let mut spans = ItemSpans::default();
    out.push(b'{');
    text_member("eventID", &parts.event_id, &mut out);
    text_member("eventName", parts.event_name.as_str(), &mut out);
    text_member("eventVersion", "1.1", &mut out);
    text_member("eventSource", "aws:dynamodb", &mut out);
    text_member("awsRegion", &parts.region, &mut out);
    name("dynamodb", &mut out);
    out.push(b'{');
    name("ApproximateCreationDateTime", &mut out);
    out.extend_from_slice(seconds(parts).as_bytes());
    spans.keys = Some(item_member("Keys", &parts.keys, &mut out));
    spans.new_image = parts.new_image.as_ref().map(|item| item_member("NewImage", item, &mut out));
    spans.old_image = parts.old_image.as_ref().map(|item| item_member("OldImage", item, &mut out));
    text_member("SequenceNumber", parts.sequence_number.as_str(), &mut out);
    name("SizeBytes", &mut out);
    out.extend_from_slice(parts.size_bytes.to_string().as_bytes());
    text_member("StreamViewType", parts.view_type.as_str(), &mut out);
    out.push(b'}');
    if parts.deleted_by_ttl {
        name("userIdentity", &mut out);
        out.push(b'{');
        text_member("PrincipalId", TTL_PRINCIPAL, &mut out);
        text_member("Type", TTL_TYPE, &mut out);
        out.push(b'}');
    }
    out.push(b'}');
    (out, spans)
}

/// Seconds since 1970: a whole number, as the service writes it, unless there are milliseconds.
fn seconds(parts: &RecordParts) -> String {
    let since = parts.created_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    match since.subsec_millis() {
        0 => since.as_secs().to_string(),
        millis => format!("{}.{millis:03}", since.as_secs()),
    }
}

/// The name of a member, with a comma before it unless it is the first.
fn name(name: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    encode_string(name, out);
    out.push(b':');
}

fn text_member(key: &str, text: &str, out: &mut Vec<u8>) {
    name(key, out);
    encode_string(text, out);
}

fn item_member(key: &str, item: &serde_dynamo::Item, out: &mut Vec<u8>) -> Span {
    name(key, out);
    let start = out.len();
    encode_item(item, out);
    Span::new(start, out.len())
}

/// A record of the service as Lambda events spell it: the same members, but those of `userIdentity` begin with small letters, and
/// `eventSourceARN` names the stream. Without white space, so that it is one line.
pub(super) fn lambda_form(record: &[u8], stream: Option<&StreamArn>) -> Result<String, RecordError> {
    let mut cursor = Cursor::new(utf8(record)?);
    let mut out = Vec::with_capacity(record.len() + 128);
    cursor.take(b'{', "a record")?;
    out.push(b'{');
    let mut first = true;
    while let Some(key) = cursor.next_key(&mut first)? {
        let value = cursor.skip()?;
        match (&*key, stream) {
            ("eventSourceARN", Some(_given_below)) => {}
            ("userIdentity", _) if value.starts_with('{') => {
                name(&key, &mut out);
                lambda_identity(&UserIdentity::read(value)?, &mut out);
            }
            _ => {
                name(&key, &mut out);
                compact(value, &mut out);
            }
        }
    }
    if let Some(stream) = stream {
        text_member("eventSourceARN", stream.as_str(), &mut out);
    }
    out.push(b'}');
    utf8(&out).map(str::to_owned)
}

fn lambda_identity(identity: &UserIdentity, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(principal) = identity.principal_id() {
        text_member("principalId", principal, out);
    }
    if let Some(kind) = identity.kind() {
        text_member("type", kind, out);
    }
    out.push(b'}');
}

/// Appends a JSON text without the white space between its parts.
fn compact(json: &str, out: &mut Vec<u8>) {
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
            continue;
        } else {
            in_string = byte == b'"';
        }
        out.push(byte);
    }
}

impl UserIdentity {
    /// Reads it in either spelling.
    pub(super) fn read(json: &str) -> Result<Self, RecordError> {
        let mut cursor = Cursor::new(json);
        let mut identity = Self { kind: None, principal_id: None };
        cursor.take(b'{', "an object")?;
        let mut first = true;
        while let Some(key) = cursor.next_key(&mut first)? {
            let text = cursor.string_or_skip()?.map(Cow::into_owned);
            match &*key {
                "Type" | "type" => identity.kind = text,
                "PrincipalId" | "principalId" => identity.principal_id = text,
                _ => {}
            }
        }
        Ok(identity)
    }
}
