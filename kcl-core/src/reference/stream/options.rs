//! How the modelled service is set up. The defaults are the service's documented numbers.

use std::time::Duration;

/// How a [`ReferenceStream`](super::ReferenceStream) behaves.
///
/// Start from `StreamOptions::default()`, which is the service as documented, or from
/// [`StreamOptions::unthrottled`], and change fields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamOptions {
    /// The region in ARNs and records.
    pub region: String,
    /// The account in ARNs: twelve digits.
    pub account: String,
    /// How long records are kept, and a closed shard after its closing. 24 hours.
    pub retention: Duration,
    /// How long iterators live, counted from the answer that gave them. 15 minutes.
    pub iterator_life: Duration,
    /// Roll every open shard when it is this old. Off by default; the service does it about every four hours.
    pub roll_every: Option<Duration>,
    /// How late listings tell what happened.
    pub visibility: Visibility,
    /// How long a new stream is `ENABLING`, lists no shards and captures nothing.
    pub enabling_for: Duration,
    /// How long a stream that was switched off is `DISABLING`.
    pub disabling_for: Duration,
    /// Shards in one page of DescribeStream, at most. 100.
    pub describe_page: usize,
    /// Whether a full page of DescribeStream names a next one even if that will be empty.
    pub trailing_empty_page: bool,
    /// Records in one page, at most. 1000.
    pub page_records: usize,
    /// Bytes in one page, at most, by the sizes that the records tell; a page always holds one record. 1 MiB.
    pub page_bytes: u64,
    /// Make every n-th page of an iterator's chain empty.
    pub empty_page_every: Option<u32>,
    /// What comes at the end of a closed shard.
    pub last_page: LastPage,
    /// DescribeStream calls in any second. 10; `None` is no limit.
    pub describes_per_second: Option<usize>,
    /// ListStreams calls in any second. 5; `None` is no limit.
    pub lists_per_second: Option<usize>,
    /// GetRecords calls on one shard in any second. 10, which is two readers at the customary rate of 5; the service
    /// documents none. `None` is no limit.
    pub reads_per_second: Option<usize>,
    /// Readers of one shard at the same time. A reader is a chain of iterators that begins at a GetShardIterator, since
    /// nothing else tells who asks, and it counts for one second after each answered call. Who takes a new iterator for
    /// every page is many readers. 2; `None` is no limit.
    pub readers_per_shard: Option<usize>,
    /// Whether records and shards that were trimmed stay known to [`written`](super::ReferenceStream::written) and
    /// [`shards`](super::ReferenceStream::shards). On by default, because a test needs them; switch it off where a
    /// stream lives for days, because they take memory for ever.
    pub keep_history: bool,
}

/// How late listings and lookups tell of a new shard: eventual consistency, on command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Visibility {
    /// A child is listed this long after it was made.
    pub child_after: Duration,
    /// A parent is listed as closed this long after it was closed. With a shorter `child_after` an open parent is
    /// listed beside its child; with a longer one a closed parent without.
    pub closing_after: Duration,
    /// A child answers `NotFound` for this long after it was made, even if it is listed.
    pub readable_after: Duration,
}

/// How a closed shard ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LastPage {
    /// The page with the last records is the last page.
    #[default]
    WithRecords,
    /// One more page comes, without records.
    ExtraEmpty,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            region: "local-1".to_owned(),
            account: "000000000000".to_owned(),
            retention: Duration::from_secs(24 * 3600),
            iterator_life: Duration::from_secs(15 * 60),
            roll_every: None,
            visibility: Visibility::default(),
            enabling_for: Duration::ZERO,
            disabling_for: Duration::ZERO,
            describe_page: 100,
            trailing_empty_page: false,
            page_records: 1000,
            page_bytes: 1 << 20,
            empty_page_every: None,
            last_page: LastPage::default(),
            describes_per_second: Some(10),
            lists_per_second: Some(5),
            reads_per_second: Some(10),
            readers_per_shard: Some(2),
            keep_history: true,
        }
    }
}

impl StreamOptions {
    /// The documented service without any of its limits on calls and readers.
    #[must_use]
    pub fn unthrottled() -> Self {
        Self {
            describes_per_second: None,
            lists_per_second: None,
            reads_per_second: None,
            readers_per_shard: None,
            ..Self::default()
        }
    }
}
