//! How much is fetched and not yet processed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kcl_core::{
    DescribePage, IteratorPosition, RecordsPage, ShardId, ShardIterator, SourceError, StreamArn, StreamDescription,
    StreamSource, StreamSummary, TableName,
};
use sim::fleet::Setup;
use sim::world::Call;

const SECOND: Duration = Duration::from_secs(1);

/// Bytes that were fetched and not processed, now and at most.
#[derive(Debug, Default)]
struct Outstanding {
    now: AtomicUsize,
    peak: AtomicUsize,
    largest_page: AtomicUsize,
}

#[derive(Debug)]
struct Weighing {
    inner: Arc<dyn StreamSource>,
    outstanding: Arc<Outstanding>,
}

#[async_trait]
impl StreamSource for Weighing {
    async fn list_streams(&self, table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        self.inner.list_streams(table).await
    }

    async fn describe_stream(&self, stream: &StreamArn, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        self.inner.describe_stream(stream, page).await
    }

    async fn shard_iterator(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.inner.shard_iterator(stream, shard, position).await
    }

    async fn get_records(&self, iterator: &ShardIterator, limit: usize) -> Result<RecordsPage, SourceError> {
        let page = self.inner.get_records(iterator, limit).await?;
        let bytes = page.records.bytes();
        let now = self.outstanding.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.outstanding.peak.fetch_max(now, Ordering::Relaxed);
        self.outstanding.largest_page.fetch_max(bytes, Ordering::Relaxed);
        Ok(page)
    }
}

#[test]
fn many_shards_with_slow_processors_stay_within_the_byte_budget() {
    const BUDGET: usize = 8 << 20;
    const FETCHES: usize = 4;
    sim::run(1, |sim| async move {
        let outstanding = Arc::new(Outstanding::default());
        let weighed = outstanding.clone();
        let mut setup = Setup::new(200).configure(|c| c.with_memory(BUDGET).with_concurrent_fetches(FETCHES));
        setup.options.page_records = 250;
        setup.source = Arc::new(move |inner| Arc::new(Weighing { inner, outstanding: weighed.clone() }));
        let fleet = setup.build(&sim);
        fleet.write(200_000, 200_000);
        let processed = outstanding.clone();
        let slow = Arc::new(move |call: Call| -> futures::future::BoxFuture<'static, _> {
            let processed = processed.clone();
            Box::pin(async move {
                call.rt.sleep(2 * SECOND).await;
                processed.now.fetch_sub(call.batch.bytes(), Ordering::Relaxed);
                Ok(())
            })
        });
        let _worker = fleet.join_scripted("a", slow);
        let verdict = fleet.drained(600 * SECOND).await;
        assert_eq!((verdict.delivered, verdict.repeated), (200_000, 0));
        let largest = outstanding.largest_page.load(Ordering::Relaxed);
        let peak = outstanding.peak.load(Ordering::Relaxed);
        assert!(200 * 2 * largest > 2 * BUDGET, "the budget is not in the way: {largest}");
        assert!(peak > BUDGET / 2, "{peak}");
        assert!(peak <= BUDGET + FETCHES * largest, "{peak} bytes, pages of {largest}");
    });
}
