//! Where reading begins, and how far it has come.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use super::{SequenceNumber, SequenceNumberError};

/// Where an application begins on a stream it has never read. Fixed once per application and stream, by whichever
/// worker starts first; all workers, now and later, agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// The oldest record the stream still has (up to 24 hours old).
    TrimHorizon,
    /// From now on. Nothing written after the application's first start is missed, also while shards roll; some
    /// records written shortly before it may be delivered.
    Latest,
    /// The first record written at or after this instant. Some written shortly before may be delivered, because the
    /// service stamps records to the second.
    AtTimestamp(SystemTime),
}

/// Where a shard iterator begins.
///
/// Source: `ShardIteratorType` of `GetShardIterator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IteratorPosition {
    /// The oldest record of the shard that is not trimmed.
    TrimHorizon,
    /// Just after the newest record of the shard.
    Latest,
    /// At this record.
    At(SequenceNumber),
    /// Right after this record.
    After(SequenceNumber),
}

/// How far a shard is done, as a lease item stores it.
///
/// The order is progress: `AT_TIMESTAMP < TRIM_HORIZON < LATEST < any number < SHARD_END`.
/// Source: `SentinelCheckpoint` and `ExtendedSequenceNumber` of the Java library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checkpoint {
    /// Nothing is done; Java starts at a timestamp of its configuration. Read here, never written.
    AtTimestamp,
    /// Nothing is done; start at the oldest record.
    TrimHorizon,
    /// Nothing is done; Java starts at the newest record. Read here, never written.
    Latest,
    /// Everything up to and with this record is done.
    Sequence(SequenceNumber),
    /// The shard is finished: every record was delivered and acknowledged.
    ShardEnd,
}

/// A checkpoint text that is neither a sentinel nor a sequence number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint is TRIM_HORIZON, LATEST, AT_TIMESTAMP, SHARD_END or a sequence number")]
pub struct CheckpointError(#[from] SequenceNumberError);

impl Checkpoint {
    /// The last record that is done, if one is named.
    #[must_use]
    pub fn sequence(&self) -> Option<SequenceNumber> {
        match self {
            Self::Sequence(at) => Some(*at),
            Self::AtTimestamp | Self::TrimHorizon | Self::Latest | Self::ShardEnd => None,
        }
    }
}

impl serde::Serialize for Checkpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtTimestamp => f.write_str("AT_TIMESTAMP"),
            Self::TrimHorizon => f.write_str("TRIM_HORIZON"),
            Self::Latest => f.write_str("LATEST"),
            Self::Sequence(at) => fmt::Display::fmt(at, f),
            Self::ShardEnd => f.write_str("SHARD_END"),
        }
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        match text {
            "AT_TIMESTAMP" => Ok(Self::AtTimestamp),
            "TRIM_HORIZON" => Ok(Self::TrimHorizon),
            "LATEST" => Ok(Self::Latest),
            "SHARD_END" => Ok(Self::ShardEnd),
            number => Ok(Self::Sequence(number.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_ordered_by_progress_and_read_back() {
        let order = ["AT_TIMESTAMP", "TRIM_HORIZON", "LATEST", "9", "10", "SHARD_END"];
        let parsed: Vec<Checkpoint> = order.iter().map(|t| t.parse().expect(t)).collect();
        assert!(parsed.is_sorted());
        assert_eq!(parsed.iter().map(ToString::to_string).collect::<Vec<_>>(), order);
        assert!("".parse::<Checkpoint>().is_err());
        assert!("shard_end".parse::<Checkpoint>().is_err());
    }
}
