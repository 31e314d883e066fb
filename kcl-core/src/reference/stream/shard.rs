//! One shard: its records, its range of keys, and how long they last.

use std::collections::VecDeque;
use std::time::Duration;

use super::error::{ServiceError, ServiceErrorCode};
use super::limits::Readers;
use super::options::Visibility;
use super::sequence::{Number, Random};
use crate::contract::Mono;
use crate::model::{IteratorPosition, SequenceNumber, ShardId};
use crate::record::Record;

/// A record, with what the service needs to know at every read.
#[derive(Debug)]
struct Stored {
    record: Record,
    number: SequenceNumber,
    bytes: u64,
    written: Mono,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) parent: Option<ShardId>,
    pub(super) children: Vec<ShardId>,
    /// The first and the last hash of the keys that it takes.
    pub(super) keys: (u64, u64),
    pub(super) starting: SequenceNumber,
    pub(super) opened: Mono,
    pub(super) closed: Option<Closed>,
    /// It left the listings, with all its records; kept only for the history.
    pub(super) vanished: bool,
    /// Answers `NotFound` until then, on command.
    pub(super) unknown_until: Option<Mono>,
    pub(super) readers: Readers,
    next: Number,
    records: VecDeque<Stored>,
    /// How many records were trimmed, and the last of them.
    trimmed: u64,
    trimmed_through: Option<SequenceNumber>,
    history: Vec<Record>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Closed {
    pub(super) at: Mono,
    pub(super) ending: SequenceNumber,
}

/// Records read from a shard.
pub(super) struct Span {
    pub(super) records: Vec<Record>,
    /// The index behind the last of them.
    pub(super) index: u64,
    /// Whether nothing is left and nothing will come.
    pub(super) ended: bool,
}

impl Shard {
    pub(super) fn new(parent: Option<ShardId>, keys: (u64, u64), start: Number, opened: Mono) -> Self {
        Self {
            parent,
            children: Vec::new(),
            keys,
            starting: start.to_sequence(),
            opened,
            closed: None,
            vanished: false,
            unknown_until: None,
            readers: Readers::default(),
            next: start,
            records: VecDeque::new(),
            trimmed: 0,
            trimmed_through: None,
            history: Vec::new(),
        }
    }

    /// The number that the next record gets. The first may be the one the shard starts with.
    pub(super) fn take_number(&mut self, random: &mut Random) -> SequenceNumber {
        let number = match self.total() {
            0 => self.next.plus(random.below(2)),
            _ => self.next.plus(1 + random.below(97)),
        };
        self.next = number;
        number.to_sequence()
    }

    pub(super) fn append(&mut self, record: Record, bytes: u64, written: Mono) {
        let number = record.sequence_number();
        self.records.push_back(Stored { record, number, bytes, written });
    }

    /// Closes the shard. Its ending number may be that of its last record, or a little above.
    pub(super) fn close(&mut self, at: Mono, random: &mut Random) -> Number {
        let last = self.next.plus(random.below(3));
        self.closed = Some(Closed { at, ending: last.to_sequence() });
        last
    }

    /// How many records were ever written.
    pub(super) fn total(&self) -> u64 {
        self.trimmed + self.records.len() as u64
    }

    /// The index that reading from `position` begins at.
    ///
    /// A number that was trimmed is refused for `After` too: the service looks the named record up.
    pub(super) fn index_of(&self, position: IteratorPosition) -> Result<u64, ServiceError> {
        let at = match position {
            IteratorPosition::TrimHorizon => return Ok(self.trimmed),
            IteratorPosition::Latest => return Ok(self.total()),
            IteratorPosition::At(at) | IteratorPosition::After(at) => at,
        };
        if at < self.starting || self.closed.is_some_and(|closed| at > closed.ending) {
            return Err(ServiceError::new(ServiceErrorCode::Validation, "Invalid SequenceNumber for the shard"));
        }
        if self.trimmed_through.is_some_and(|trimmed| at <= trimmed) {
            return Err(trimmed());
        }
        let before = match position {
            IteratorPosition::After(_) => self.records.partition_point(|stored| stored.number <= at),
            _ => self.records.partition_point(|stored| stored.number < at),
        };
        Ok(self.trimmed + before as u64)
    }

    /// At most `limit` records from `index` on, of at most `bytes` together, but one in any case.
    pub(super) fn read(&self, index: u64, limit: usize, bytes: u64) -> Result<Span, ServiceError> {
        let Some(skip) = index.checked_sub(self.trimmed) else { return Err(trimmed()) };
        // What cannot be a place in memory is behind the end, like any index that is too large.
        let start = usize::try_from(skip).unwrap_or(usize::MAX).min(self.records.len());
        let mut left = bytes;
        let mut records = Vec::new();
        for stored in self.records.range(start..).take(limit) {
            if stored.bytes > left && !records.is_empty() {
                break;
            }
            left = left.saturating_sub(stored.bytes);
            records.push(stored.record.clone());
        }
        let index = self.trimmed + (start + records.len()) as u64;
        Ok(Span { records, index, ended: self.closed.is_some() && index == self.total() })
    }

    /// Drops what was written `retention` ago or earlier.
    pub(super) fn trim_old(&mut self, now: Mono, retention: Duration, keep: bool) {
        while self.records.front().is_some_and(|stored| stored.written + retention <= now) {
            self.trim_first(keep);
        }
    }

    /// Drops the records up to and with `through`; all of them without one.
    pub(super) fn trim(&mut self, through: Option<SequenceNumber>, keep: bool) {
        while self.records.front().is_some_and(|stored| through.is_none_or(|through| stored.number <= through)) {
            self.trim_first(keep);
        }
    }

    fn trim_first(&mut self, keep: bool) {
        let Some(stored) = self.records.pop_front() else { return };
        self.trimmed += 1;
        self.trimmed_through = Some(stored.number);
        if keep {
            self.history.push(stored.record);
        }
    }

    /// Every record that is known, in order.
    pub(super) fn written(&self) -> Vec<Record> {
        let kept = self.records.iter().map(|stored| &stored.record);
        self.history.iter().chain(kept).cloned().collect()
    }

    /// The oldest record that is left.
    pub(super) fn oldest(&self) -> Option<SequenceNumber> {
        self.records.front().map(|stored| stored.number)
    }

    /// When the newest record that is left was written.
    pub(super) fn last_write(&self) -> Option<Mono> {
        self.records.back().map(|stored| stored.written)
    }

    /// Whether a listing at `now` shows it.
    pub(super) fn is_listed(&self, now: Mono, lag: Visibility) -> bool {
        let lag = if self.parent.is_some() { lag.child_after } else { Duration::ZERO };
        !self.vanished && self.opened + lag <= now
    }

    /// The ending number, where a listing at `now` shows one.
    pub(super) fn listed_ending(&self, now: Mono, lag: Visibility) -> Option<SequenceNumber> {
        self.closed.filter(|closed| closed.at + lag.closing_after <= now).map(|closed| closed.ending)
    }

    /// Whether a reader at `now` finds it.
    pub(super) fn is_readable(&self, now: Mono, lag: Visibility) -> bool {
        let lag = if self.parent.is_some() { lag.readable_after } else { Duration::ZERO };
        !self.vanished && self.opened + lag <= now && self.unknown_until.is_none_or(|until| until <= now)
    }
}

fn trimmed() -> ServiceError {
    ServiceError::new(ServiceErrorCode::TrimmedDataAccess, "The position is older than the trim horizon")
}
