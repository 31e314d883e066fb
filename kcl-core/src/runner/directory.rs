//! The shards of one stream, as this worker knows them: one listing for all who ask, within the budget of DescribeStream calls.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

use super::fetch::{describe, timed_out};
use crate::contract::{DescribePage, Mono, Rt, SourceError, SourceErrorKind, StreamSource};
use crate::model::{Shard, ShardId, StreamArn, StreamDescription, StreamStatus};
use crate::planted::{self, Bug};
use crate::policy::backoff::Backoff;
use crate::policy::budget::Budget;
use crate::policy::listing::{ChildPages, Children, Listing, ListingPages, PageStep};
use crate::surface::event::{EventKind, Events};
use crate::surface::lock;

/// The service allows 10 DescribeStream calls a second in an account and region; some are left to others.
const DESCRIBE_CALLS_PER_SECOND: f64 = 8.0;

/// How long a shard must have been absent from the listings to be gone: listings are eventually consistent.
const ABSENT_FOR: Duration = Duration::from_secs(5);

/// Tries of one page.
const PAGE_TRIES: usize = 4;

/// Between calls that fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Directory {
    stream: StreamArn,
    source: Arc<dyn StreamSource>,
    rt: Rt,
    events: Events,
    timeout: Duration,
    budget: Mutex<Budget>,
    /// Held while a listing is made, so that all who want one share it.
    latest: AsyncMutex<Option<Dated>>,
}

#[derive(Debug, Clone)]
struct Dated {
    /// When it was begun.
    begun: Mono,
    listing: Arc<Listing>,
}

impl Directory {
    pub(crate) fn new(
        stream: StreamArn,
        source: Arc<dyn StreamSource>,
        rt: Rt,
        events: Events,
        timeout: Duration,
    ) -> Self {
        let budget = Mutex::new(Budget::new(DESCRIBE_CALLS_PER_SECOND, DESCRIBE_CALLS_PER_SECOND, rt.now()));
        Self { stream, source, rt, events, timeout, budget, latest: AsyncMutex::new(None) }
    }

    /// Divides the budget among all who list: the live workers of the fleet, for each stream.
    pub(crate) fn shared_by(&self, listers: usize) {
        lock(&self.budget).reshare(DESCRIBE_CALLS_PER_SECOND, listers, self.rt.now());
    }

    /// A complete listing begun no earlier than `not_before`.
    pub(crate) async fn listing(&self, not_before: Mono) -> Result<Arc<Listing>, SourceError> {
        let mut latest = self.latest.lock().await;
        if let Some(dated) = latest.as_ref().filter(|dated| dated.begun >= not_before) {
            return Ok(dated.listing.clone());
        }
        let begun = self.rt.now();
        let listing = Arc::new(self.list().await?);
        *latest = Some(Dated { begun, listing: listing.clone() });
        Ok(listing)
    }

    async fn list(&self) -> Result<Listing, SourceError> {
        let mut pages = ListingPages::default();
        let mut page = ListingPages::first();
        loop {
            match pages.push(self.describe(&page).await?) {
                PageStep::Next(next) => page = next,
                PageStep::Complete(listing) => return Ok(listing),
                PageStep::Stuck => return Err(endless()),
            }
        }
    }

    /// One page, asked for a few times: a walk over hundreds of them must not begin again for one that failed.
    async fn describe(&self, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        let mut backoff = Backoff::new(Duration::from_millis(200), LONGEST_PAUSE);
        for _ in 1..PAGE_TRIES {
            match self.describe_once(page).await {
                Err(error) if error.is_retryable() => self.failed(&error, &mut backoff).await,
                settled => return settled,
            }
        }
        self.describe_once(page).await
    }

    async fn describe_once(&self, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        loop {
            let taken = lock(&self.budget).take(self.rt.now());
            match taken {
                Ok(()) => break,
                Err(at) => self.rt.sleep_until(at).await,
            }
        }
        let call = self.source.describe_stream(&self.stream, page);
        self.rt.timeout(self.timeout, call).await.unwrap_or_else(|| Err(timed_out("DescribeStream")))
    }

    /// A complete listing, asked for until there is one.
    async fn listing_at_last(&self, not_before: Mono) -> Arc<Listing> {
        let mut backoff = Backoff::new(Duration::from_millis(200), LONGEST_PAUSE);
        loop {
            match self.listing(not_before).await {
                Ok(listing) => return listing,
                Err(error) => self.failed(&error, &mut backoff).await,
            }
        }
    }

    async fn failed(&self, error: &SourceError, backoff: &mut Backoff) {
        self.events.tell(match error.kind() {
            SourceErrorKind::Throttled => EventKind::Throttled { shard: None, operation: "DescribeStream" },
            SourceErrorKind::NotFound => EventKind::StreamMissing { stream: self.stream.clone() },
            _ => EventKind::SourceRetried { shard: None, error: describe(error) },
        });
        self.rt.sleep(self.rt.jitter(backoff.next_pause())).await;
    }

    /// The children of a shard that was read to its end. Waits until one is listed, or until it is certain that there is none:
    /// a complete listing of a stream that is disabled.
    ///
    /// # Cancel safety
    /// Reads only.
    pub(crate) async fn children(&self, shard: &ShardId) -> Vec<Shard> {
        let mut backoff = Backoff::new(Duration::from_millis(200), LONGEST_PAUSE);
        let mut waiting = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut told = false;
        loop {
            let begun = self.rt.now();
            match self.list_children(shard).await {
                Ok(children) if !children.shards.is_empty() || planted::is(Bug::ChildrenNotAwaited) => {
                    return children.shards;
                }
                Ok(children) => {
                    // Only a complete listing shows that none will come.
                    if children.status == StreamStatus::Disabled && self.listing_at_last(begun).await.is_settled(shard)
                    {
                        return Vec::new();
                    }
                    let pause = waiting.next_pause();
                    if !told && pause >= Duration::from_secs(1) {
                        told = true;
                        self.events.tell(EventKind::WaitingForChildren { shard: shard.clone() });
                    }
                    self.rt.sleep(self.rt.jitter(pause)).await;
                }
                Err(error) => self.failed(&error, &mut backoff).await,
            }
        }
    }

    async fn list_children(&self, shard: &ShardId) -> Result<Children, SourceError> {
        let mut pages = ChildPages::of(shard.clone());
        let mut page = pages.first();
        loop {
            match pages.push(self.describe(&page).await?) {
                PageStep::Next(next) => page = next,
                PageStep::Complete(children) => return Ok(children),
                PageStep::Stuck => return Err(endless()),
            }
        }
    }

    /// Whether a shard that a call did not find is gone: absent from two complete listings, some time apart. Then the shards that
    /// name it as their parent; `None` when it is listed.
    ///
    /// # Cancel safety
    /// Reads only.
    pub(crate) async fn gone(&self, shard: &ShardId) -> Option<Vec<Shard>> {
        let first = self.listing_at_last(self.rt.now()).await;
        if first.contains(shard) {
            return None;
        }
        self.rt.sleep(ABSENT_FOR).await;
        let second = self.listing_at_last(self.rt.now()).await;
        if second.contains(shard) {
            return None;
        }
        Some(second.children_of(shard).cloned().collect())
    }
}

fn endless() -> SourceError {
    SourceError::new(SourceErrorKind::Corrupt, "DescribeStream").with_source("its pages do not come to an end")
}
