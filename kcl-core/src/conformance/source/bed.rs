//! What a case is run on.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_dynamo::Item;

use crate::contract::{SourceOp, StreamSource};
use crate::model::{SequenceNumber, ShardId, StreamArn, StreamViewType, TableName};

/// Why a bed could not do what a case told it.
pub type BedError = Box<dyn Error + Send + Sync>;

/// What beds can be told to do, and what their source does. Start from [`SourceCapabilities::FEWEST`] or
/// [`SourceCapabilities::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceCapabilities {
    /// [`SourceBed::disable`].
    pub can_disable: bool,
    /// [`SourceBed::split`].
    pub can_split: bool,
    /// [`SourceBed::trim`].
    pub can_trim: bool,
    /// [`SourceBed::advance`].
    pub can_advance: bool,
    /// [`SourceBed::throttle`].
    pub can_throttle: bool,
    /// Iterators are refused when they are older than 15 minutes.
    pub expires_iterators: bool,
    /// DescribeStream honours [`children_of`](crate::DescribePage::children_of).
    pub child_filter: bool,
    /// The bytes of items that a page holds at most, where there is such a limit.
    pub max_page_bytes: Option<usize>,
    /// How many shards a new stream can have.
    pub max_shards: usize,
}

impl SourceCapabilities {
    /// A stream of one shard that is only read and written.
    pub const FEWEST: Self = Self {
        can_disable: false,
        can_split: false,
        can_trim: false,
        can_advance: false,
        can_throttle: false,
        expires_iterators: false,
        child_filter: false,
        max_page_bytes: None,
        max_shards: 1,
    };

    /// All that the service itself does, and all that can be done to the stream that models it.
    pub const ALL: Self = Self {
        can_disable: true,
        can_split: true,
        can_trim: true,
        can_advance: true,
        can_throttle: true,
        expires_iterators: true,
        child_filter: true,
        max_page_bytes: Some(1 << 20),
        max_shards: 10_000,
    };
}

/// The stream that a case wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BedSpec {
    /// What its records carry.
    pub view_type: StreamViewType,
    /// How many shards it has, at most [`SourceCapabilities::max_shards`].
    pub shards: usize,
}

/// Builds beds.
#[async_trait]
pub trait SourceBeds: Send + Sync {
    /// What the beds can do.
    fn capabilities(&self) -> SourceCapabilities;

    /// A new, empty table with an enabled stream. Its one key attribute is the text `id`.
    async fn build(&self, spec: BedSpec) -> Result<Box<dyn SourceBed>, BedError>;
}

/// A table, its stream, and the source that reads it.
///
/// The commands that not every implementation has fail unless they are overridden; no case uses one whose capability
/// is not declared.
#[async_trait]
pub trait SourceBed: Send + Sync {
    /// What is tested.
    fn source(&self) -> Arc<dyn StreamSource>;

    /// The table.
    fn table(&self) -> TableName;

    /// Its stream.
    fn stream(&self) -> StreamArn;

    /// Writes an item over whatever has its key.
    async fn put(&self, item: Item) -> Result<(), BedError>;

    /// Deletes the item with these keys.
    async fn delete(&self, keys: Item) -> Result<(), BedError>;

    /// Lets a moment pass before the source is asked again: long enough that polling keeps to its rates.
    async fn pause(&self);

    /// Switches the stream off.
    async fn disable(&self) -> Result<(), BedError> {
        Err("cannot switch the stream off".into())
    }

    /// Closes `shard` and puts `children` (1 or 2) in its place.
    async fn split(&self, shard: &ShardId, children: usize) -> Result<(), BedError> {
        Err(format!("cannot put {children} children in the place of {shard}").into())
    }

    /// Trims the records of `shard` up to and with `through`.
    async fn trim(&self, shard: &ShardId, through: SequenceNumber) -> Result<(), BedError> {
        Err(format!("cannot trim {shard} through {through}").into())
    }

    /// Lets `time` pass.
    async fn advance(&self, time: Duration) -> Result<(), BedError> {
        Err(format!("cannot let {time:?} pass").into())
    }

    /// Throttles `op` for `time`.
    async fn throttle(&self, op: SourceOp, time: Duration) -> Result<(), BedError> {
        Err(format!("cannot throttle {} for {time:?}", op.name()).into())
    }
}
