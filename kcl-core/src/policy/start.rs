//! Where reading a shard begins, given its lease.

use std::time::{Duration, SystemTime};

use crate::model::{Checkpoint, IteratorPosition, Lease, SequenceNumber};
use crate::planted::{self, Bug};

/// Where the first iterator of a lease is taken.
///
/// An unread shard is opened at its starting sequence number where that is known: `TRIM_HORIZON` would hide what was trimmed
/// while nobody read. Java's `LATEST` and `AT_TIMESTAMP` (whose timestamp is not stored) are read from the beginning: that
/// may repeat, and never loses.
pub(crate) fn first_position(lease: &Lease, acknowledged: Option<SequenceNumber>) -> IteratorPosition {
    if let Some(at) = acknowledged {
        return IteratorPosition::After(at);
    }
    if planted::is(Bug::LatestChildren) && !lease.parents.is_empty() {
        return IteratorPosition::Latest;
    }
    match lease.checkpoint {
        Checkpoint::Sequence(at) => IteratorPosition::After(at),
        Checkpoint::TrimHorizon | Checkpoint::Latest | Checkpoint::AtTimestamp | Checkpoint::ShardEnd => {
            lease.starting_sequence.map_or(IteratorPosition::TrimHorizon, IteratorPosition::At)
        }
    }
}

/// Drops records stamped before the wanted start, until the first that passes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StartFilter {
    from: Option<SystemTime>,
}

impl StartFilter {
    /// Wants records stamped at `start_at` or later, less `slack`: the service stamps to the second, DynamoDB Local to the
    /// minute, and the clocks of two machines differ.
    pub(crate) fn new(start_at: Option<SystemTime>, slack: Duration) -> Self {
        Self { from: start_at.map(|at| at.checked_sub(slack).unwrap_or(SystemTime::UNIX_EPOCH)) }
    }

    /// Everything is wanted.
    pub(crate) const fn open() -> Self {
        Self { from: None }
    }

    /// Whether it still drops records.
    pub(crate) const fn is_active(&self) -> bool {
        self.from.is_some()
    }

    /// How many of the next records are unwanted, given their stamps. A record without a stamp is wanted.
    pub(crate) fn unwanted(&mut self, stamps: impl IntoIterator<Item = Option<SystemTime>>) -> usize {
        let Some(from) = self.from else { return 0 };
        let mut dropped = 0;
        for stamp in stamps {
            if stamp.is_none_or(|stamp| stamp >= from) {
                self.from = None;
                break;
            }
            dropped += 1;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filtering_ends_with_the_first_record_that_passes() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let mut filter = StartFilter::new(at(100), Duration::from_secs(10));
        assert_eq!(filter.unwanted([at(1), at(89)]), 2);
        assert!(filter.is_active());
        assert_eq!(filter.unwanted([at(50), at(90), at(3)]), 1);
        assert!(!filter.is_active());
        assert_eq!(filter.unwanted([at(1)]), 0);
        assert_eq!(StartFilter::new(at(100), Duration::ZERO).unwanted([None]), 0);
        assert_eq!(StartFilter::open().unwanted([at(1)]), 0);
    }
}
