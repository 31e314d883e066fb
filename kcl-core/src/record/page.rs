//! Pages of records as the service writes them, and where in a page its records lie.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::RecordBatch;
use super::codec::{encode_string, utf8};
use super::cursor::Cursor;
use super::error::{RecordError, RecordErrorKind};
use super::{Name, Record};

/// A decoded answer of GetRecords.
#[derive(Debug, Clone)]
pub struct DecodedPage {
    /// The records; they share the answer's bytes.
    pub records: RecordBatch,
    /// Where to go on. Absent at the end of a closed shard.
    pub next_shard_iterator: Option<String>,
}

/// Splits the body of an answer to GetRecords into its records, without copying them.
///
/// Sequence numbers, event names and times are read; keys and images are found, and decoded when they are asked for. Unknown
/// fields are skipped, of a field that is given twice the last counts, and `null` counts as absent.
///
/// # Errors
/// The body is not of the form that the service writes, or a record has no sequence number; the error says which.
pub fn decode_page(body: Bytes) -> Result<DecodedPage, RecordError> {
    if u32::try_from(body.len()).is_err() {
        return Err(RecordError::new(RecordErrorKind::TooLong));
    }
    let page = Arc::new(body);
    let mut cursor = Cursor::new(utf8(&page)?);
    let (mut records, mut next, mut answered) = (Vec::new(), None, false);
    cursor.take(b'{', "an object")?;
    let mut first = true;
    while let Some(key) = cursor.next_key(&mut first)? {
        match &*key {
            "Records" => {
                answered = true;
                records = decode_records(&mut cursor, &page)?;
            }
            // One that is no text would end the shard if it were skipped.
            "NextShardIterator" if cursor.peek() != Some(b'n') => next = Some(cursor.string()?.into_owned()),
            _ => {
                cursor.skip()?;
            }
        }
    }
    cursor.end()?;
    // An answer without either could come from anything between us and the service, and would end the shard.
    if !answered && next.is_none() {
        return Err(RecordError::new(RecordErrorKind::Missing("Records")));
    }
    Ok(DecodedPage { records: RecordBatch::of_page(records, page.len()), next_shard_iterator: next })
}

fn decode_records(cursor: &mut Cursor<'_>, page: &Arc<Bytes>) -> Result<Vec<Record>, RecordError> {
    let mut records = Vec::new();
    if cursor.peek() == Some(b'n') {
        cursor.skip()?;
        return Ok(records);
    }
    cursor.take(b'[', "an array of records")?;
    let mut first = true;
    while cursor.next_element(&mut first)? {
        let record = decode_record(cursor, page).map_err(|error| error.in_record(records.len()))?;
        if records.is_empty() {
            records.reserve_exact(likely_records(page.len() - cursor.offset(), record.span.len()));
        }
        records.push(record);
    }
    Ok(records)
}

/// How many records a page has when its first takes `first` bytes and `rest` bytes follow: they tend to be alike.
fn likely_records(rest: usize, first: usize) -> usize {
    // However short the first one is.
    1 + (rest / first.max(1)).min(MOST_RECORDS - 1)
}

/// What GetRecords answers at most.
const MOST_RECORDS: usize = 1000;

/// The record that begins here.
pub(super) fn decode_record(cursor: &mut Cursor<'_>, page: &Arc<Bytes>) -> Result<Record, RecordError> {
    let fields = Fields::read(cursor)?;
    let sequence_number = match fields.sequence_number {
        Some(text) => text.parse().map_err(|error| RecordError::at(RecordErrorKind::from(error), cursor.offset()))?,
        None => return Err(cursor.error(RecordErrorKind::Missing("dynamodb.SequenceNumber"))),
    };
    Ok(Record {
        page: Arc::clone(page),
        span: fields.span,
        sequence_number,
        name: Name::parse(fields.event_name.as_deref()),
        created_ms: fields.created.and_then(milliseconds),
        keys: fields.keys,
        new_image: fields.new_image,
        old_image: fields.old_image,
    })
}

/// Appends the body of an answer to GetRecords that has these records, each in the service's own form.
pub fn encode_page(records: &[Record], next_shard_iterator: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"Records\":[");
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(record.raw_json());
    }
    out.push(b']');
    if let Some(next) = next_shard_iterator {
        out.extend_from_slice(b",\"NextShardIterator\":");
        encode_string(next, out);
    }
    out.push(b'}');
}

/// A part of a page. Pages are shorter than 4 GiB, and nothing ends at 0, so an `Option` of it takes 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: NonZeroU32,
}

impl Span {
    /// Places beyond 4 GiB become the last one: such a span cannot be read, and reading it says so.
    pub(super) fn new(start: usize, end: usize) -> Self {
        let end = u32::try_from(end).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        Self { start: u32::try_from(start).unwrap_or(u32::MAX), end }
    }

    pub(super) fn len(self) -> usize {
        (self.end.get() - self.start) as usize
    }

    pub(super) fn of(self, page: &[u8]) -> &[u8] {
        page.get(self.start as usize..self.end.get() as usize).unwrap_or_default()
    }
}

/// The fields of a record, as they stand in its JSON.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) span: Span,
    pub(super) event_id: Option<Cow<'a, str>>,
    pub(super) event_name: Option<Cow<'a, str>>,
    pub(super) region: Option<Cow<'a, str>>,
    pub(super) user_identity: Option<&'a str>,
    pub(super) sequence_number: Option<Cow<'a, str>>,
    pub(super) created: Option<&'a str>,
    pub(super) size_bytes: Option<&'a str>,
    pub(super) view_type: Option<Cow<'a, str>>,
    pub(super) keys: Option<Span>,
    pub(super) new_image: Option<Span>,
    pub(super) old_image: Option<Span>,
}

impl<'a> Fields<'a> {
    /// Reads the record that begins here and goes past it.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, RecordError> {
        cursor.take(b'{', "a record")?;
        let start = cursor.offset() - 1;
        let mut fields = Self {
            span: Span::new(start, start + 1),
            event_id: None,
            event_name: None,
            region: None,
            user_identity: None,
            sequence_number: None,
            created: None,
            size_bytes: None,
            view_type: None,
            keys: None,
            new_image: None,
            old_image: None,
        };
        let mut first = true;
        while let Some(key) = cursor.next_key(&mut first)? {
            match &*key {
                "eventID" => fields.event_id = cursor.string_or_skip()?,
                "eventName" => fields.event_name = cursor.string_or_skip()?,
                "awsRegion" => fields.region = cursor.string_or_skip()?,
                "userIdentity" => fields.user_identity = present(cursor.skip()?),
                "dynamodb" if cursor.peek() == Some(b'{') => {
                    fields.read_change(cursor).map_err(|error| error.within("dynamodb"))?;
                }
                _ => {
                    cursor.skip()?;
                }
            }
        }
        fields.span = Span::new(start, cursor.offset());
        Ok(fields)
    }

    fn read_change(&mut self, cursor: &mut Cursor<'a>) -> Result<(), RecordError> {
        cursor.take(b'{', "an object")?;
        let mut first = true;
        while let Some(key) = cursor.next_key(&mut first)? {
            match &*key {
                "SequenceNumber" => self.sequence_number = cursor.string_or_skip()?,
                "ApproximateCreationDateTime" => self.created = present(cursor.skip()?),
                "SizeBytes" => self.size_bytes = present(cursor.skip()?),
                "StreamViewType" => self.view_type = cursor.string_or_skip()?,
                "Keys" => self.keys = item_span(cursor)?,
                "NewImage" => self.new_image = item_span(cursor)?,
                "OldImage" => self.old_image = item_span(cursor)?,
                _ => {
                    cursor.skip()?;
                }
            }
        }
        Ok(())
    }
}

fn present(text: &str) -> Option<&str> {
    (text != "null").then_some(text)
}

fn item_span(cursor: &mut Cursor<'_>) -> Result<Option<Span>, RecordError> {
    let text = cursor.skip()?;
    let end = cursor.offset();
    Ok(present(text).map(|text| Span::new(end - text.len(), end)))
}

/// Seconds since 1970, whole or not, as milliseconds. A time that is no such number counts as not told.
fn milliseconds(seconds: &str) -> Option<i64> {
    let milliseconds = (seconds.parse::<f64>().ok()? * 1000.0).round();
    // The largest range in which every whole number of milliseconds is exact.
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
    (milliseconds.abs() < 9_007_199_254_740_992.0).then_some(milliseconds as i64)
}
