//! The stream, as a consumer sees it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{IteratorPosition, ShardId, StreamArn, StreamDescription, StreamSummary, TableName};
use crate::record::RecordBatch;

/// The largest number of records one call may ask for. Source: `GetRecords`, `Limit`.
pub const MAX_RECORDS: usize = 1000;

/// Reads streams: DynamoDB Streams itself, or the in-process reference stream.
///
/// # Contract
/// 1. Within a shard, records come in the order of their sequence numbers, and a page continues exactly where the
///    iterator that was asked stands: following `next` from page to page leaves nothing out and repeats nothing.
/// 2. [`RecordsPage::next`] is absent only when the shard is closed and every record of it has been returned, by
///    this page or an earlier one. Nothing else ends a shard, least of all an empty page.
/// 3. [`SourceErrorKind::NotFound`] says that the answering replica knows no such stream or shard. It is no proof that the
///    shard is finished, or ever was.
/// 4. Asking the same iterator again gives the same records again, as long as it is neither expired nor trimmed.
/// 5. An error is classified by the service's error code, never by message text.
///
/// # Freedoms
/// 1. Pages may be empty at any time, also in the middle of a shard, and shorter than asked for.
/// 2. Listings are eventually consistent: a new shard may be missing, listed without its parent, or beside a parent that still
///    looks open; a listed shard may answer `NotFound`.
/// 3. Iterators expire 15 minutes after they were given; records older than 24 hours vanish at any moment, and
///    shards with them.
/// 4. Any call may be throttled, also when the caller kept to the limits.
///
/// # Cancel safety
/// Every method reads only. A dropped future has no effect but the call it may have cost.
#[async_trait]
pub trait StreamSource: fmt::Debug + Send + Sync + 'static {
    /// All streams of `table`, oldest first: the enabled one and those disabled in the last 24 hours.
    ///
    /// # Errors
    /// `NotFound` where the service says that the table does not exist; it may as well answer an empty list.
    async fn list_streams(&self, table: &TableName) -> Result<Vec<StreamSummary>, SourceError>;

    /// One page of the stream's description.
    ///
    /// # Errors
    /// `NotFound` when there is no such stream; `Throttled` above 10 calls a second in an account and region.
    async fn describe_stream(&self, stream: &StreamArn, page: &DescribePage) -> Result<StreamDescription, SourceError>;

    /// An iterator of `shard` at `position`.
    ///
    /// # Errors
    /// `NotFound` for an unknown stream or shard, `Trimmed` when the position is older than the shard's oldest record (the
    /// service may say so only in `get_records`), `Invalid` when the number lies outside the shard's range.
    async fn shard_iterator(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError>;

    /// The records that follow `iterator`, at most `limit` of them (1 to [`MAX_RECORDS`]) and about 1 MB.
    ///
    /// # Errors
    /// `Expired`, `Trimmed`, `NotFound`, `Throttled` (also: more than two readers of the shard), `Corrupt` when the page
    /// failed its checksum or could not be decoded.
    async fn get_records(&self, iterator: &ShardIterator, limit: usize) -> Result<RecordsPage, SourceError>;
}

/// The calls of a [`StreamSource`], for those who count, delay or fail them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceOp {
    /// [`StreamSource::list_streams`].
    ListStreams,
    /// [`StreamSource::describe_stream`].
    DescribeStream,
    /// [`StreamSource::shard_iterator`].
    GetShardIterator,
    /// [`StreamSource::get_records`].
    GetRecords,
}

impl SourceOp {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ListStreams, Self::DescribeStream, Self::GetShardIterator, Self::GetRecords];

    /// The service's name of the call.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ListStreams => "ListStreams",
            Self::DescribeStream => "DescribeStream",
            Self::GetShardIterator => "GetShardIterator",
            Self::GetRecords => "GetRecords",
        }
    }
}

/// Which page of a stream's description is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DescribePage {
    /// Begin after this shard ([`StreamDescription::last_evaluated`] of the page before).
    pub after: Option<ShardId>,
    /// Only the direct children of this shard. An implementation may ignore it and list others too.
    pub children_of: Option<ShardId>,
}

/// A place in a shard, opaque to everyone but the source that gave it. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct ShardIterator(Arc<str>);

impl ShardIterator {
    /// Wraps a source's own token.
    #[must_use]
    pub fn new(token: impl Into<Arc<str>>) -> Self {
        Self(token.into())
    }

    /// The source's own token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ShardIterator {
    /// Tokens are long and mean nothing to a reader.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.0.chars().take(24).collect();
        write!(f, "ShardIterator({shown}…)")
    }
}

/// One answer of `get_records`.
#[derive(Debug, Clone)]
pub struct RecordsPage {
    /// The records, in order; possibly none.
    pub records: RecordBatch,
    /// Where to go on. Absent at the end of a closed shard.
    pub next: Option<ShardIterator>,
}

/// A failed call to a stream.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed: {kind}")]
pub struct SourceError {
    kind: SourceErrorKind,
    operation: &'static str,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// Ask again later and more rarely: the service, or another reader, is using up the rate.
    #[error("throttled")]
    Throttled,
    /// Take a new iterator at the last delivered position.
    #[error("the iterator has expired")]
    Expired,
    /// The position is gone: find out what was lost and ask the loss policy.
    #[error("the position is older than the oldest record that is left")]
    Trimmed,
    /// The stream or shard is unknown: describe the stream again and classify.
    #[error("no such stream or shard")]
    NotFound,
    /// Ask again with backoff: a network fault, a time-out, an internal error of the service.
    #[error("the service cannot be reached or failed")]
    Unavailable,
    /// Nothing helps but a permission; ask again slowly, an operator may grant it.
    #[error("access denied: grant dynamodb:{action}")]
    Denied {
        /// The IAM action that is missing, without the service prefix.
        action: &'static str,
    },
    /// The request itself is wrong and will stay so.
    #[error("the service refuses the request as invalid")]
    Invalid,
    /// The answer could not be trusted: ask again.
    #[error("the answer is damaged")]
    Corrupt,
}

impl SourceError {
    /// An error of `operation` (the service's name of the call).
    #[must_use]
    pub fn new(kind: SourceErrorKind, operation: &'static str) -> Self {
        Self { kind, operation, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller does next.
    #[must_use]
    pub fn kind(&self) -> SourceErrorKind {
        self.kind
    }

    /// The service's name of the call.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            SourceErrorKind::Throttled
            | SourceErrorKind::Unavailable
            | SourceErrorKind::Corrupt
            | SourceErrorKind::Denied { .. } => true,
            SourceErrorKind::Expired
            | SourceErrorKind::Trimmed
            | SourceErrorKind::NotFound
            | SourceErrorKind::Invalid => false,
        }
    }
}
