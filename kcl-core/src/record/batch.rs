//! Records of one shard, in order.

use std::fmt;
use std::ops::{Bound, Deref, Range, RangeBounds};
use std::sync::Arc;

use super::Record;

/// Records of one shard, in order. Cheap to clone and to cut: both cost one reference count.
///
/// Each record keeps its whole page in memory, so a part of a batch holds on to no less memory than the batch did.
#[derive(Clone)]
pub struct RecordBatch {
    /// Behind a second pointer, because a page's records would have to be copied to lie behind one.
    records: Arc<Vec<Record>>,
    range: Range<usize>,
    bytes: usize,
}

impl RecordBatch {
    /// A batch of `records`, which must be in order.
    #[must_use]
    pub fn new(records: Vec<Record>) -> Self {
        let bytes = total(&records);
        Self::of_page(records, bytes)
    }

    /// A batch of all the records of a page of `bytes`.
    pub(super) fn of_page(records: Vec<Record>, bytes: usize) -> Self {
        Self { range: 0..records.len(), records: Arc::new(records), bytes }
    }

    /// A batch without records.
    #[must_use]
    pub fn empty() -> Self {
        Self::new(Vec::new())
    }

    /// What the records cost: the length in bytes of the page they came in, with all that is around them. A part of a
    /// batch, and a batch made of single records, counts its records' own texts, so the parts of a page never cost more than the page.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A part of this batch, without copying a record. Adding up its bytes takes a look at each record of it.
    ///
    /// # Panics
    /// When `range` ends beyond the batch or before it starts, as slices do.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let from = match range.start_bound() {
            Bound::Included(at) => *at,
            Bound::Excluded(at) => *at + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(at) => *at + 1,
            Bound::Excluded(at) => *at,
            Bound::Unbounded => self.len(),
        };
        if (from, to) == (0, self.len()) {
            return self.clone();
        }
        let bytes = total(&self[from..to]);
        Self { records: Arc::clone(&self.records), range: self.range.start + from..self.range.start + to, bytes }
    }
}

fn total(records: &[Record]) -> usize {
    records.iter().map(Record::bytes).sum()
}

impl Deref for RecordBatch {
    type Target = [Record];

    fn deref(&self) -> &[Record] {
        &self.records[self.range.clone()]
    }
}

impl Default for RecordBatch {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Vec<Record>> for RecordBatch {
    fn from(records: Vec<Record>) -> Self {
        Self::new(records)
    }
}

impl FromIterator<Record> for RecordBatch {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        Self::new(records.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a RecordBatch {
    type Item = &'a Record;
    type IntoIter = std::slice::Iter<'a, Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for RecordBatch {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for RecordBatch {}

impl fmt::Debug for RecordBatch {
    /// Tells the extent, not the data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordBatch")
            .field("records", &self.len())
            .field("first", &self.first().map(Record::sequence_number))
            .field("last", &self.last().map(Record::sequence_number))
            .field("bytes", &self.bytes)
            .finish()
    }
}
