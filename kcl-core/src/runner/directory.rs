//! The shards of one stream, as this worker knows them: one listing for all who ask, within the budget of DescribeStream calls.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

use super::fetch::timed_out;
use super::told::tried_again;
use crate::contract::{DescribePage, Mono, Rt, SourceError, SourceErrorKind, StreamSource};
use crate::model::{Shard, ShardId, StreamArn, StreamDescription, StreamStatus, TableName};
use crate::planted::{self, Bug};
use crate::policy::backoff::Backoff;
use crate::policy::budget::Budget;
use crate::policy::lineage::ABSENT_FOR;
use crate::policy::listing::{ChildPages, Children, Listing, ListingPages, PageStep};
use crate::policy::missing::Missing;
use crate::surface::event::{EventKind, Events};
use crate::surface::lock;

/// The service allows 10 DescribeStream calls a second in an account and region; some are left to others.
const DESCRIBE_CALLS_PER_SECOND: f64 = 8.0;

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
    budget: ListingBudget,
    missing: Mutex<Missing>,
    /// The stream was found to be gone: it lists nothing, for good.
    gone: OnceLock<()>,
    /// Held while a listing is made, so that all who want one share it.
    latest: AsyncMutex<Option<Dated>>,
    /// The last listing, for whom an old one will do.
    shown: Mutex<Option<Arc<Listing>>>,
    /// Calls that a whole listing takes, as the last one did.
    walk: AtomicUsize,
    /// Ended shards whose children are looked for.
    childless: AtomicUsize,
}

/// A worker's part of the DescribeStream calls that its fleet may make, for all of its streams: the service counts them by account.
/// Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct ListingBudget {
    rt: Rt,
    bucket: Arc<Mutex<Budget>>,
    /// Whose call is next. First come, first served: a listing that is made over and over would else keep others waiting for ever.
    turn: Arc<AsyncMutex<()>>,
}

impl ListingBudget {
    /// All of it, until it is known who else lists.
    pub(crate) fn new(rt: &Rt) -> Self {
        let bucket = Budget::new(DESCRIBE_CALLS_PER_SECOND, DESCRIBE_CALLS_PER_SECOND, rt.now());
        Self { rt: rt.clone(), bucket: Arc::new(Mutex::new(bucket)), turn: Arc::default() }
    }

    /// Divides it among the live workers of the fleet.
    pub(crate) fn shared_by(&self, workers: usize) {
        lock(&self.bucket).reshare(DESCRIBE_CALLS_PER_SECOND, workers, self.rt.now());
    }

    /// Waits until one more call is within it.
    async fn passed(&self) {
        let _turn = self.turn.lock().await;
        loop {
            let taken = lock(&self.bucket).take(self.rt.now());
            match taken {
                Ok(()) => return,
                Err(at) => self.rt.sleep_until(at).await,
            }
        }
    }
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
        budget: ListingBudget,
    ) -> Self {
        Self {
            stream,
            source,
            rt,
            events,
            timeout,
            budget,
            missing: Mutex::default(),
            gone: OnceLock::new(),
            latest: AsyncMutex::new(None),
            shown: Mutex::default(),
            walk: AtomicUsize::new(usize::MAX),
            childless: AtomicUsize::new(0),
        }
    }

    /// A complete listing begun no earlier than `not_before`.
    pub(crate) async fn listing(&self, not_before: Mono) -> Result<Arc<Listing>, SourceError> {
        let mut latest = self.latest.lock().await;
        if let Some(dated) = latest.as_ref().filter(|dated| dated.begun >= not_before) {
            return Ok(dated.listing.clone());
        }
        let begun = self.rt.now();
        let listing = match self.list().await {
            Err(error) if self.is_gone(&error).await => Listing::of(StreamStatus::Disabled, []),
            listed => listed?,
        };
        let listing = Arc::new(listing);
        *lock(&self.shown) = Some(listing.clone());
        *latest = Some(Dated { begun, listing: listing.clone() });
        Ok(listing)
    }

    /// Whether `error` is one too many of those that say that there is no such stream. Once gone, a stream is not asked for again.
    async fn is_gone(&self, error: &SourceError) -> bool {
        if self.gone.get().is_some() {
            return true;
        }
        let for_long = error.kind() == SourceErrorKind::NotFound && lock(&self.missing).for_long(self.rt.now());
        if !for_long || self.is_listed().await {
            return false;
        }
        if self.gone.set(()).is_ok() {
            self.events.tell(EventKind::StreamGone { stream: self.stream.clone() });
        }
        true
    }

    /// Whether the stream was found to be gone.
    pub(crate) fn is_known_to_be_gone(&self) -> bool {
        self.gone.get().is_some()
    }

    /// Whether the stream's table still names it, or may do so as far as is known.
    async fn is_listed(&self) -> bool {
        let Ok(table) = self.stream.table_name().parse::<TableName>() else { return false };
        let call = self.source.list_streams(&table);
        match self.rt.timeout(self.timeout, call).await {
            Some(Ok(streams)) => streams.iter().any(|stream| stream.arn == self.stream),
            // Who names a stream by its ARN needs no permission to list them.
            Some(Err(error)) => !matches!(error.kind(), SourceErrorKind::NotFound | SourceErrorKind::Denied { .. }),
            None => true,
        }
    }

    async fn list(&self) -> Result<Listing, SourceError> {
        let mut pages = ListingPages::default();
        let mut page = ListingPages::first();
        for walk in 1.. {
            match pages.push(self.describe(&page).await?) {
                PageStep::Next(next) => page = next,
                PageStep::Complete(listing) => {
                    self.walk.store(walk, Ordering::Relaxed);
                    return Ok(listing);
                }
                PageStep::Stuck => break,
            }
        }
        Err(endless())
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
        if self.gone.get().is_some() {
            return Err(SourceError::new(SourceErrorKind::NotFound, "DescribeStream"));
        }
        self.budget.passed().await;
        let call = self.source.describe_stream(&self.stream, page);
        let described = self.rt.timeout(self.timeout, call).await.unwrap_or_else(|| Err(timed_out("DescribeStream")));
        match &described {
            Ok(_) => lock(&self.missing).found(),
            Err(error) if error.kind() == SourceErrorKind::NotFound => lock(&self.missing).not_found(self.rt.now()),
            Err(_) => {}
        }
        described
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
            _ => tried_again(None, error),
        });
        self.rt.sleep(self.rt.jitter(backoff.next_pause())).await;
    }

    /// The children of a shard that was read to its end. Waits until one is listed, or until it is certain that there is none:
    /// a complete listing of a stream that is disabled.
    ///
    /// # Cancel safety
    /// Reads only.
    pub(crate) async fn children(&self, shard: &ShardId) -> Vec<Shard> {
        if let Some(children) = self.known_children(shard) {
            return children;
        }
        let mut backoff = Backoff::new(Duration::from_millis(200), LONGEST_PAUSE);
        let mut waiting = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut told = false;
        let _counted = Counted::new(&self.childless);
        loop {
            let begun = self.rt.now();
            match self.visible_children(shard, begun).await {
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
                Err(error) if self.is_gone(&error).await => return Vec::new(),
                Err(error) => self.failed(&error, &mut backoff).await,
            }
        }
    }

    /// The children of a shard that ended long ago, as the last listing shows: whoever reads what a day has left must not need a call
    /// for each shard of it. Where a child is closed, it has shown for long, and so has its sibling.
    fn known_children(&self, shard: &ShardId) -> Option<Vec<Shard>> {
        let listing = lock(&self.shown).clone()?;
        let ended_long_ago = listing.children_of(shard).any(|child| listing.is_closed(&child.id));
        ended_long_ago.then(|| listing.children_of(shard).cloned().collect())
    }

    /// Asks for the children of this shard alone; or, when more shards want to know than a whole listing takes calls, makes or
    /// shares one.
    async fn visible_children(&self, shard: &ShardId, not_before: Mono) -> Result<Children, SourceError> {
        if self.childless.load(Ordering::Relaxed) > self.walk.load(Ordering::Relaxed) {
            let listing = self.listing(not_before).await?;
            let shards = listing.children_of(shard).cloned().collect();
            return Ok(Children { status: listing.status(), shards });
        }
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

/// One more, for as long as this lives: also when who waits is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn endless() -> SourceError {
    SourceError::new(SourceErrorKind::Corrupt, "DescribeStream").with_source("its pages do not come to an end")
}
