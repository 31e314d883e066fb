//! Streams and shards as the service describes them.

use std::fmt;
use std::str::FromStr;

use super::{SequenceNumber, ShardId, StreamArn};

/// One shard of a stream, as DescribeStream lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// The shard's name.
    pub id: ShardId,
    /// The shard it continues. Named even when that one is trimmed and no longer listed.
    pub parent: Option<ShardId>,
    /// The first number the shard may hold. Absent only where an implementation does not tell.
    pub starting: Option<SequenceNumber>,
    /// The last number it may hold: present means that the shard is closed to writes, not that it was read.
    pub ending: Option<SequenceNumber>,
}

impl Shard {
    /// Whether the shard takes no more writes.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ending.is_some()
    }
}

/// The life of a stream: `ENABLING`, `ENABLED`, `DISABLING`, `DISABLED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamStatus {
    /// Being set up; it lists no shards yet.
    Enabling,
    /// Taking changes.
    Enabled,
    /// Being switched off.
    Disabling,
    /// Switched off: its shards are closed, have no children to come, and stay readable for 24 hours.
    Disabled,
}

impl fmt::Display for StreamStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enabling => "ENABLING",
            Self::Enabled => "ENABLED",
            Self::Disabling => "DISABLING",
            Self::Disabled => "DISABLED",
        })
    }
}

/// What a stream's records carry beside the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamViewType {
    /// Only the keys of the changed item.
    KeysOnly,
    /// The item as it is after the change.
    NewImage,
    /// The item as it was before the change.
    OldImage,
    /// Both.
    NewAndOldImages,
    /// One that this version does not know; records are delivered all the same.
    Unknown(String),
}

impl StreamViewType {
    /// The service's name of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::KeysOnly => "KEYS_ONLY",
            Self::NewImage => "NEW_IMAGE",
            Self::OldImage => "OLD_IMAGE",
            Self::NewAndOldImages => "NEW_AND_OLD_IMAGES",
            Self::Unknown(name) => name,
        }
    }
}

impl FromStr for StreamViewType {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "KEYS_ONLY" => Self::KeysOnly,
            "NEW_IMAGE" => Self::NewImage,
            "OLD_IMAGE" => Self::OldImage,
            "NEW_AND_OLD_IMAGES" => Self::NewAndOldImages,
            other => Self::Unknown(other.to_owned()),
        })
    }
}

/// One stream of a table, as ListStreams names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSummary {
    /// The stream. Its label tells the order in which a table's streams were enabled.
    pub arn: StreamArn,
}

/// One page of DescribeStream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDescription {
    /// Whether the stream still takes changes.
    pub status: StreamStatus,
    /// What its records carry.
    pub view_type: Option<StreamViewType>,
    /// This page's shards, in the order of their ids.
    pub shards: Vec<Shard>,
    /// Where the next page starts; absent at the end. A page may be empty and still name a next one.
    pub last_evaluated: Option<ShardId>,
}
