//! Records, batches of them, and the one codec between DynamoDB JSON and items.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::SystemTime;

use serde_dynamo::Item;

use crate::model::{SequenceNumber, StreamViewType};

/// One change of an item. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Record {
    parts: Arc<RecordParts>,
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
    /// When, to the second.
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
    /// Something that this version does not know.
    Unknown(String),
}

impl Record {
    /// A record of these parts.
    #[must_use]
    pub fn new(parts: RecordParts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// Its place in the shard.
    #[must_use]
    pub fn sequence_number(&self) -> SequenceNumber {
        self.parts.sequence_number
    }

    /// When it was written, to the second.
    #[must_use]
    pub fn created_at(&self) -> Option<SystemTime> {
        Some(self.parts.created_at)
    }
}

/// Records of one shard, in order. Cheap to clone and to cut.
#[derive(Debug, Clone)]
pub struct RecordBatch {
    records: Arc<[Record]>,
    range: Range<usize>,
    bytes: usize,
}

impl RecordBatch {
    /// A batch of `records`, which must be in order.
    #[must_use]
    pub fn new(records: Vec<Record>) -> Self {
        let bytes = records.len() * 256;
        Self { range: 0..records.len(), records: records.into(), bytes }
    }

    /// The memory that the records take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A part of this batch, without copying.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let start = self.range.start + range.start;
        Self { range: start..start + range.len(), ..self.clone() }
    }
}

impl Deref for RecordBatch {
    type Target = [Record];

    fn deref(&self) -> &[Record] {
        &self.records[self.range.clone()]
    }
}
