//! The byte budget of a worker: pages that are fetched and not yet processed, over all its shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};

/// Permits stand for this many bytes, so that a budget of terabytes still fits the semaphore.
const UNIT: usize = 1024;

/// Bounds the memory of fetched pages, whatever the number of shards.
#[derive(Debug, Clone)]
pub(crate) struct ByteBudget {
    bytes: Arc<Semaphore>,
    total: usize,
    /// Fetches under way: each may hold one page that is not charged yet.
    fetches: Arc<Semaphore>,
    /// Those of them whose shard's last call failed: one that is not answered lasts long, and a stream that does not answer must not hold up
    /// the others.
    failing: Arc<Semaphore>,
}

/// The right to fetch one page. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct FetchSlot {
    _slot: OwnedSemaphorePermit,
    _failing: Option<OwnedSemaphorePermit>,
}

impl ByteBudget {
    pub(crate) fn new(bytes: usize, concurrent_fetches: usize) -> Self {
        let total = (bytes / UNIT).clamp(1, u32::MAX as usize);
        Self {
            bytes: Arc::new(Semaphore::new(total)),
            total,
            fetches: Arc::new(Semaphore::new(concurrent_fetches.max(1))),
            failing: Arc::new(Semaphore::new((concurrent_fetches / 2).max(1))),
        }
    }

    /// Waits for the right to fetch one page. Shards whose last call failed are given half of all at most.
    pub(crate) async fn fetch_slot(&self, failing: bool) -> Result<FetchSlot, AcquireError> {
        let failing = if failing { Some(self.failing.clone().acquire_owned().await?) } else { None };
        Ok(FetchSlot { _slot: self.fetches.clone().acquire_owned().await?, _failing: failing })
    }

    /// Charges a fetched page, waiting until there is room. A page larger than the whole budget takes all of it.
    pub(crate) async fn charge(&self, bytes: usize) -> Result<OwnedSemaphorePermit, AcquireError> {
        let permits = bytes.div_ceil(UNIT).clamp(1, self.total);
        // At most `u32::MAX`, see `new`.
        self.bytes.clone().acquire_many_owned(u32::try_from(permits).unwrap_or(u32::MAX)).await
    }

    /// Whether a shard that has pages waiting should leave the rest to others.
    pub(crate) fn is_scarce(&self) -> bool {
        self.bytes.available_permits() * 2 < self.total
    }

    /// Bytes that pages hold now.
    pub(crate) fn used(&self) -> usize {
        (self.total - self.bytes.available_permits()) * UNIT
    }
}

/// Pages of one shard that are fetched and not yet processed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ahead {
    inner: Arc<AheadInner>,
}

#[derive(Debug, Default)]
struct AheadInner {
    pages: AtomicUsize,
    processed: Notify,
}

/// One page's place in the budget. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct PagePlace {
    ahead: Ahead,
    _bytes: OwnedSemaphorePermit,
}

impl Ahead {
    pub(crate) fn page(&self, bytes: OwnedSemaphorePermit) -> PagePlace {
        self.inner.pages.fetch_add(1, Ordering::Relaxed);
        PagePlace { ahead: self.clone(), _bytes: bytes }
    }

    /// Waits while this shard runs ahead at the cost of others.
    pub(crate) async fn wait_for_room(&self, budget: &ByteBudget) {
        while budget.is_scarce() && self.inner.pages.load(Ordering::Relaxed) > 0 {
            self.inner.processed.notified().await;
        }
    }
}

impl Drop for PagePlace {
    fn drop(&mut self) {
        self.ahead.inner.pages.fetch_sub(1, Ordering::Relaxed);
        self.ahead.inner.processed.notify_one();
    }
}
