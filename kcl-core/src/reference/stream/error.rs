//! Errors: the service's, by the names it gives them, and those of misused tables.

use std::fmt;

use crate::contract::{SourceError, SourceErrorKind, SourceOp};
use crate::model::{ArnError, ShardId, StreamArn, TableName};

/// The error codes of the service. Source: the `Errors` sections of its API reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceErrorCode {
    /// No such table, stream or shard.
    ResourceNotFound,
    /// Too many readers of a shard, or too many calls on it.
    LimitExceeded,
    /// Too many calls of an operation. The service sends it, its model does not list it.
    Throttling,
    /// The iterator is older than 15 minutes.
    ExpiredIterator,
    /// The position is trimmed.
    TrimmedDataAccess,
    /// The request is malformed.
    Validation,
}

impl ServiceErrorCode {
    /// The code as it goes over the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResourceNotFound => "ResourceNotFoundException",
            Self::LimitExceeded => "LimitExceededException",
            Self::Throttling => "ThrottlingException",
            Self::ExpiredIterator => "ExpiredIteratorException",
            Self::TrimmedDataAccess => "TrimmedDataAccessException",
            Self::Validation => "ValidationException",
        }
    }

    fn kind(self) -> SourceErrorKind {
        match self {
            Self::ResourceNotFound => SourceErrorKind::NotFound,
            Self::LimitExceeded | Self::Throttling => SourceErrorKind::Throttled,
            Self::ExpiredIterator => SourceErrorKind::Expired,
            Self::TrimmedDataAccess => SourceErrorKind::Trimmed,
            Self::Validation => SourceErrorKind::Invalid,
        }
    }
}

impl fmt::Display for ServiceErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the service answered: the source of every [`SourceError`] of a reference stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ServiceError {
    code: ServiceErrorCode,
    message: &'static str,
}

impl ServiceError {
    pub(super) fn new(code: ServiceErrorCode, message: &'static str) -> Self {
        Self { code, message }
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ServiceErrorCode {
        self.code
    }

    /// The text beside the code. For people: nothing is decided by it.
    #[must_use]
    pub fn message(&self) -> &'static str {
        self.message
    }

    pub(super) fn of(self, operation: SourceOp) -> SourceError {
        SourceError::new(self.code.kind(), operation.name()).with_source(self)
    }
}

/// Why a table, or a command to a stream, could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// There is such a table already.
    #[error("the table {0} exists")]
    TableExists(TableName),
    /// There is no such table.
    #[error("there is no table {0}")]
    NoTable(TableName),
    /// There is no such stream, or it is gone.
    #[error("there is no stream {0}")]
    NoStream(StreamArn),
    /// There is no such shard, or it is gone.
    #[error("there is no shard {0}")]
    NoShard(ShardId),
    /// The table has an enabled stream already.
    #[error("the table {0} already has an enabled stream")]
    StreamEnabled(TableName),
    /// The table has no enabled stream.
    #[error("the table {0} has no enabled stream")]
    NotEnabled(TableName),
    /// A table has one or two key attributes.
    #[error("a table has one or two key attributes, not {0}")]
    KeyCount(usize),
    /// The item lacks a key attribute, or that is not a text, a number or binary.
    #[error("the key attribute {0} is missing or is not a text, a number or binary")]
    Key(String),
    /// The shard takes no more writes.
    #[error("the shard {0} is closed")]
    Closed(ShardId),
    /// The shard still takes writes.
    #[error("the shard {0} is open")]
    Open(ShardId),
    /// The region or the account of the options make no ARN.
    #[error(transparent)]
    Arn(#[from] ArnError),
}
