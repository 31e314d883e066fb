//! Why a page, a record or an item cannot be read, and where.

use std::fmt;

use crate::model::SequenceNumberError;

/// A page, a record or an item that cannot be read. It tells where, and holds none of the data itself but the names on the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordError(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    kind: RecordErrorKind,
    record: Option<usize>,
    path: String,
    offset: Option<usize>,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordErrorKind {
    /// The text is not JSON of the expected form.
    #[error("expected {expected}")]
    Json {
        /// What should stand there.
        expected: &'static str,
    },
    /// The bytes are not UTF-8.
    #[error("the text is not UTF-8")]
    Utf8,
    /// Lists and maps are nested more deeply than the service's limit of [`super::codec::MAX_DEPTH`] levels.
    #[error("nested too deeply")]
    TooDeep,
    /// The text is longer than the 4 GiB that the spans of a page can name.
    #[error("longer than 4 GiB")]
    TooLong,
    /// An attribute has a type that the service did not have when this was written. Holds the first characters of its tag.
    #[error("unknown attribute type {0:?}")]
    UnknownType(String),
    /// An attribute value names no type, or more than one.
    #[error("an attribute value must have exactly one type")]
    NotOneType,
    /// A binary value is not base64.
    #[error("a binary value is not base64")]
    Base64,
    /// A field is missing.
    #[error("the field {0} is missing")]
    Missing(&'static str),
    /// The sequence number is none.
    #[error(transparent)]
    SequenceNumber(#[from] SequenceNumberError),
    /// The attribute has another type than the Rust type wants.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What the Rust type wants.
        expected: &'static str,
        /// What the attribute is.
        found: &'static str,
    },
    /// The number does not fit the Rust type.
    #[error("the number is no {0}")]
    Number(&'static str),
    /// The Rust type's own `Deserialize` refused the data.
    #[error("{0}")]
    Refused(String),
}

impl RecordError {
    pub(crate) fn new(kind: RecordErrorKind) -> Self {
        Self(Box::new(Inner { kind, record: None, path: String::new(), offset: None }))
    }

    pub(crate) fn at(kind: RecordErrorKind, offset: usize) -> Self {
        Self(Box::new(Inner { kind, record: None, path: String::new(), offset: Some(offset) }))
    }

    /// Puts the error inside the field or attribute `name`.
    #[must_use]
    pub(crate) fn within(mut self, name: &str) -> Self {
        let dot = if self.0.path.is_empty() || self.0.path.starts_with('[') { "" } else { "." };
        self.0.path = format!("{name}{dot}{}", self.0.path);
        self
    }

    /// Puts the error inside the element `index` of a list.
    #[must_use]
    pub(crate) fn within_index(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }

    #[must_use]
    pub(crate) fn in_record(mut self, index: usize) -> Self {
        self.0.record = Some(index);
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> &RecordErrorKind {
        &self.0.kind
    }

    /// The index of the record in its page, for errors of a page.
    #[must_use]
    pub fn record_index(&self) -> Option<usize> {
        self.0.record
    }

    /// The fields and attributes on the way to the place, like `dynamodb.NewImage` or `order.lines[2].price`; may be empty.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The place in bytes from the start of the text that was read (the page, the record, or the item), where it is known.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        self.0.offset
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(index) = self.record {
            write!(f, "record {index}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        self.kind.fmt(f)?;
        match self.offset {
            Some(offset) => write!(f, " (byte {offset})"),
            None => Ok(()),
        }
    }
}

impl serde::de::Error for RecordError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(RecordErrorKind::Refused(message.to_string()))
    }
}
