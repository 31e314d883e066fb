//! Records, batches of them, and the one codec between DynamoDB JSON and items.

mod batch;
pub mod codec;
mod cursor;
mod de;
mod error;
mod json;
mod page;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Deserialize;
use serde_dynamo::Item;

pub use self::batch::RecordBatch;
pub use self::error::{RecordError, RecordErrorKind};
pub use self::page::{DecodedPage, decode_page, encode_page};

use self::cursor::Cursor;
use self::page::{Fields, Span};
use crate::model::{SequenceNumber, StreamArn, StreamViewType};

/// Who the service says it is when its time-to-live deletes an item.
const TTL_PRINCIPAL: &str = "dynamodb.amazonaws.com";
const TTL_TYPE: &str = "Service";

/// One change of an item. Cheap to clone: one reference count.
///
/// A record is a place in the JSON of the page it came with. Sequence number, event name and time were read when the page
/// came; keys and images are decoded each time they are asked for, so ask once.
#[derive(Clone)]
pub struct Record {
    page: Arc<Bytes>,
    span: Span,
    sequence_number: SequenceNumber,
    name: Name,
    created_ms: Option<i64>,
    keys: Option<Span>,
    new_image: Option<Span>,
    old_image: Option<Span>,
}

/// What a record is made of, for sources that make their own.
#[derive(Debug, Clone)]
pub struct RecordParts {
    /// A name for the change, unique in the stream.
    pub event_id: String,
    /// What happened.
    pub event_name: EventName,
    /// The region that wrote it.
    pub region: String,
    /// Its place in the shard.
    pub sequence_number: SequenceNumber,
    /// When, to the second. Milliseconds are kept where there are any.
    pub created_at: SystemTime,
    /// The item's keys.
    pub keys: Item,
    /// The item after the change.
    pub new_image: Option<Item>,
    /// The item before the change.
    pub old_image: Option<Item>,
    /// What the stream's records carry.
    pub view_type: StreamViewType,
    /// The size that the service tells.
    pub size_bytes: u64,
    /// Whether the service's time-to-live deleted the item.
    pub deleted_by_ttl: bool,
}

/// What happened to an item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventName {
    /// It is new.
    Insert,
    /// It was changed.
    Modify,
    /// It was deleted.
    Remove,
    /// Something that this version does not know. Empty where the record names nothing.
    Unknown(String),
}

impl EventName {
    /// The service's name of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Insert => "INSERT",
            Self::Modify => "MODIFY",
            Self::Remove => "REMOVE",
            Self::Unknown(name) => name,
        }
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An [`EventName`] as records keep it: the text of an unknown one stays in the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Insert,
    Modify,
    Remove,
    Unknown,
}

impl Name {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("INSERT") => Self::Insert,
            Some("MODIFY") => Self::Modify,
            Some("REMOVE") => Self::Remove,
            _ => Self::Unknown,
        }
    }
}

/// Who made a change, where the service tells; it does so for its own deletes by time-to-live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserIdentity {
    kind: Option<String>,
    principal_id: Option<String>,
}

impl UserIdentity {
    /// The kind of identity, `Service` for the service itself.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// Its name, `dynamodb.amazonaws.com` for the service itself.
    #[must_use]
    pub fn principal_id(&self) -> Option<&str> {
        self.principal_id.as_deref()
    }
}

impl Record {
    /// A record of these parts, written in the service's form: it behaves like one that came from there.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "who makes a record has no more use for its parts")]
    pub fn new(parts: RecordParts) -> Self {
        let (json, items) = json::encode_parts(&parts);
        let name = Name::parse(Some(parts.event_name.as_str()));
        let since = parts.created_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            span: Span::new(0, json.len()),
            page: Arc::new(Bytes::from(json)),
            sequence_number: parts.sequence_number,
            name,
            created_ms: i64::try_from(since.as_millis()).ok(),
            keys: items.keys,
            new_image: items.new_image,
            old_image: items.old_image,
        }
    }

    /// Reads a single record, in the service's form or in the form of [`Record::to_json`].
    ///
    /// # Errors
    /// The text is no record, or has no sequence number.
    pub fn from_json(json: impl Into<Bytes>) -> Result<Self, RecordError> {
        let page = Arc::new(json.into());
        if u32::try_from(page.len()).is_err() {
            return Err(RecordError::new(RecordErrorKind::TooLong));
        }
        let mut cursor = Cursor::new(codec::utf8(&page)?);
        let record = page::decode_record(&mut cursor, &page)?;
        cursor.end()?;
        Ok(record)
    }

    /// Its place in the shard.
    #[must_use]
    pub fn sequence_number(&self) -> SequenceNumber {
        self.sequence_number
    }

    /// What happened to the item.
    #[must_use]
    pub fn event_name(&self) -> EventName {
        match self.name {
            Name::Insert => EventName::Insert,
            Name::Modify => EventName::Modify,
            Name::Remove => EventName::Remove,
            Name::Unknown => {
                EventName::Unknown(self.field(|fields| fields.event_name).map(Cow::into_owned).unwrap_or_default())
            }
        }
    }

    /// When it was written, to the second. `None` where the record does not tell.
    #[must_use]
    pub fn created_at(&self) -> Option<SystemTime> {
        let distance = Duration::from_millis(self.created_ms?.unsigned_abs());
        if self.created_ms < Some(0) { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
    }

    /// A name for the change, unique in the stream.
    #[must_use]
    pub fn event_id(&self) -> Option<Cow<'_, str>> {
        self.field(|fields| fields.event_id)
    }

    /// The region that wrote it.
    #[must_use]
    pub fn region(&self) -> Option<Cow<'_, str>> {
        self.field(|fields| fields.region)
    }

    /// What the stream's records carry.
    #[must_use]
    pub fn view_type(&self) -> Option<StreamViewType> {
        self.field(|fields| fields.view_type?.parse().ok())
    }

    /// The size of the record in bytes, as the service tells it: that of keys and images in its own storage.
    #[must_use]
    pub fn size_bytes(&self) -> Option<u64> {
        self.field(|fields| fields.size_bytes?.parse().ok())
    }

    /// Who made the change, where the record tells.
    #[must_use]
    pub fn user_identity(&self) -> Option<UserIdentity> {
        self.field(|fields| UserIdentity::read(fields.user_identity?).ok())
    }

    /// Whether the service's time-to-live deleted the item. Replicas of a global table may not tell; nor does DynamoDB Local.
    #[must_use]
    pub fn is_ttl_delete(&self) -> bool {
        self.name == Name::Remove
            && self.user_identity().is_some_and(|identity| {
                identity.kind() == Some(TTL_TYPE) && identity.principal_id() == Some(TTL_PRINCIPAL)
            })
    }

    /// The keys of the item.
    ///
    /// # Errors
    /// The record has no keys, or they cannot be decoded.
    pub fn keys(&self) -> Result<Item, RecordError> {
        self.decode(self.keys_span()?, "Keys")
    }

    /// The item after the change. `None` for a deleted item, and where the stream's view type leaves it out.
    ///
    /// # Errors
    /// It cannot be decoded.
    pub fn new_image(&self) -> Result<Option<Item>, RecordError> {
        self.new_image.map(|span| self.decode(span, "NewImage")).transpose()
    }

    /// The item before the change. `None` for a new item, and where the stream's view type leaves it out.
    ///
    /// # Errors
    /// It cannot be decoded.
    pub fn old_image(&self) -> Result<Option<Item>, RecordError> {
        self.old_image.map(|span| self.decode(span, "OldImage")).transpose()
    }

    /// The keys of the item as a Rust type. The type may borrow from the record; see [`codec::read_item`].
    ///
    /// # Errors
    /// The record has no keys, or the type cannot be made from them.
    pub fn keys_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, RecordError> {
        self.read(self.keys_span()?, "Keys")
    }

    /// The item after the change as a Rust type. The type may borrow from the record; see [`codec::read_item`].
    ///
    /// # Errors
    /// The type cannot be made from it.
    pub fn new_image_as<'a, T: Deserialize<'a>>(&'a self) -> Result<Option<T>, RecordError> {
        self.new_image.map(|span| self.read(span, "NewImage")).transpose()
    }

    /// The item before the change as a Rust type. The type may borrow from the record; see [`codec::read_item`].
    ///
    /// # Errors
    /// The type cannot be made from it.
    pub fn old_image_as<'a, T: Deserialize<'a>>(&'a self) -> Result<Option<T>, RecordError> {
        self.old_image.map(|span| self.read(span, "OldImage")).transpose()
    }

    /// The record in the service's own form, as it came.
    #[must_use]
    pub fn raw_json(&self) -> &[u8] {
        self.span.of(&self.page)
    }

    /// The record's one JSON form: that of the records in a Lambda event, in one line. `stream` becomes its `eventSourceARN`.
    /// A record with a damaged text becomes `{"unreadable": …, "because": …}`.
    #[must_use]
    pub fn to_json(&self, stream: Option<&StreamArn>) -> String {
        // Texts that nobody asked for yet may hold escapes that mean nothing: then the record is given as it came.
        json::lambda_form(self.raw_json(), stream).unwrap_or_else(|error| {
            let text = String::from_utf8_lossy(self.raw_json());
            serde_json::json!({ "unreadable": text, "because": error.to_string() }).to_string()
        })
    }

    /// The length of its text.
    fn bytes(&self) -> usize {
        self.span.len()
    }

    /// A field that is read only now. The record was gone through when it was made, so nothing can be wrong with it here.
    fn field<'a, T>(&'a self, get: impl FnOnce(Fields<'a>) -> Option<T>) -> Option<T> {
        let text = codec::utf8(self.raw_json()).ok()?;
        get(Fields::read(&mut Cursor::new(text)).ok()?)
    }

    fn keys_span(&self) -> Result<Span, RecordError> {
        self.keys.ok_or_else(|| RecordError::new(RecordErrorKind::Missing("dynamodb.Keys")))
    }

    fn decode(&self, span: Span, name: &str) -> Result<Item, RecordError> {
        codec::decode_item(span.of(&self.page)).map_err(|error| error.within(name))
    }

    fn read<'a, T: Deserialize<'a>>(&'a self, span: Span, name: &str) -> Result<T, RecordError> {
        codec::read_item(span.of(&self.page)).map_err(|error| error.within(name))
    }

    /// Everything there is to know, decoded.
    fn content(&self) -> Result<impl PartialEq + use<>, RecordError> {
        let keys = self.keys.map(|span| self.decode(span, "Keys")).transpose()?;
        let images = (self.new_image()?, self.old_image()?);
        let text = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        let described = (self.event_name(), text(self.event_id()), text(self.region()), self.user_identity());
        Ok((described, self.created_ms, self.view_type(), self.size_bytes(), keys, images))
    }
}

impl PartialEq for Record {
    /// Whether both tell the same change, however their texts are written.
    fn eq(&self, other: &Self) -> bool {
        self.sequence_number == other.sequence_number
            && (self.raw_json() == other.raw_json()
                || matches!((self.content(), other.content()), (Ok(mine), Ok(theirs)) if mine == theirs))
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    /// Names and sizes only: the data may be large, and may be nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("sequence_number", &self.sequence_number)
            .field("event_name", &self.event_name())
            .field("keys_bytes", &self.keys.map(Span::len))
            .field("new_image_bytes", &self.new_image.map(Span::len))
            .field("old_image_bytes", &self.old_image.map(Span::len))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
