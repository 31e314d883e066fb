//! How much is fetched and not yet processed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kcl_core::reference::{MemoryLeaseTable, ReferenceStream, StreamOptions};
use kcl_core::{
    DataLoss, DescribePage, IteratorPosition, LossDecision, LossPolicy, RecordsPage, Rt, ShardId, ShardIterator,
    SourceError, StreamArn, StreamDescription, StreamSource, StreamSummary, StreamViewType, TableName, Worker,
    WorkerConfig,
};
use serde_dynamo::{AttributeValue, Item};
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

/// Takes its time to decide, as one does that writes the loss down first.
#[derive(Debug)]
struct Deliberate(Rt);

#[async_trait]
impl LossPolicy for Deliberate {
    async fn on_loss(&self, _: &DataLoss) -> LossDecision {
        self.0.sleep(100 * SECOND).await;
        LossDecision::Continue
    }
}

fn large_item(number: usize) -> Item {
    let mut item = Item::default();
    item.insert("id".to_owned(), AttributeValue::S(number.to_string()));
    item.insert("text".to_owned(), AttributeValue::S("x".repeat(10_000)));
    item
}

#[test]
fn pages_after_a_loss_that_is_being_decided_about_stay_within_the_byte_budget() {
    const BUDGET: usize = 8 << 20;
    const FETCHES: usize = 4;
    sim::run(2, |sim| async move {
        let outstanding = Arc::new(Outstanding::default());
        let mut options = StreamOptions::unthrottled();
        options.page_records = 50;
        let service = ReferenceStream::new(sim.rt(), options);
        let table: TableName = "orders".parse().expect("legal");
        let stream = service.create_table(&table, &["id"], StreamViewType::NewImage, 40).expect("a stream");
        let leases = MemoryLeaseTable::new();
        let source = Arc::new(Weighing { inner: Arc::new(service.clone()), outstanding: outstanding.clone() });
        let delivered = Arc::new(AtomicUsize::new(0));
        let start = |name: &str, seconds: u32| {
            let (source, leases, delivered) = (source.clone(), leases.clone(), delivered.clone());
            sim.node(name).boot(move |rt| async move {
                let config = WorkerConfig::default().with_memory(BUDGET).with_concurrent_fetches(FETCHES);
                let policy = Arc::new(Deliberate(rt.clone()));
                let worker = Worker::builder("sim", source, Arc::new(leases)).table("orders").rt(rt.clone());
                let count = move |_| {
                    delivered.fetch_add(1, Ordering::Relaxed);
                    std::future::ready(Ok(()))
                };
                let worker =
                    worker.for_each(count).config(config.with_losses(policy)).build().await.expect("described");
                worker.run_until(rt.sleep(seconds * SECOND)).await.expect("runs")
            })
        };
        for number in 0..400 {
            service.put(&table, large_item(number)).expect("there");
        }
        start("a", 15).await.expect("ends");
        assert_eq!(delivered.swap(0, Ordering::Relaxed), 400);
        for number in 0..3600 {
            service.put(&table, large_item(1000 + number)).expect("there");
        }
        let mut left = 0;
        for (shard, records) in service.written(&stream) {
            let of_late = &records[records.len() - 50..];
            service.trim(&stream, &shard, of_late[0].sequence_number()).expect("there");
            left += of_late.len() - 1;
        }
        outstanding.now.store(0, Ordering::Relaxed);
        outstanding.peak.store(0, Ordering::Relaxed);
        let running = start("b", 1000);
        sim.sleep(90 * SECOND).await;
        assert_eq!(delivered.load(Ordering::Relaxed), 0, "the policies have not answered");
        let (largest, peak) =
            [&outstanding.largest_page, &outstanding.peak].map(|bytes| bytes.load(Ordering::Relaxed)).into();
        assert!(peak <= BUDGET + FETCHES * largest, "{peak} bytes, pages of {largest}");
        running.await.expect("ends");
        assert_eq!(delivered.load(Ordering::Relaxed), left);
    });
}
