//! What the engine costs by itself, on a stream whose answers are ready in memory.
//!
//! ```sh
//! cargo bench -p kcl-core --bench engine
//! ```
//! Two figures are records a second of one core: the engine on pages that are split into records already, and the engine
//! with the splitting of each page. The third is how much of max(fetch, process) one shard reaches while it catches up,
//! in virtual time, where it is exact, and on this machine's clock.
#![expect(clippy::disallowed_methods, reason = "a benchmark is where clocks are read and tasks begin")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use kcl_core::reference::MemoryLeaseTable;
use kcl_core::wrap::LatencySource;
use kcl_core::{
    Clock, DescribePage, Entropy, EventName, IteratorPosition, Mono, ProcessError, Record, RecordBatch, RecordParts,
    RecordProcessor, RecordsPage, Rt, SequenceNumber, Shard, ShardContext, ShardId, ShardInfo, ShardIterator,
    SourceError, Spawn, StreamArn, StreamDescription, StreamSource, StreamStatus, StreamSummary, StreamViewType,
    TableName, TaskClass, Worker, decode_page, encode_page,
};
use serde_dynamo::{AttributeValue, Item};
use tokio::sync::Notify;

const ARN: &str = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026-01-01T00:00:00.000";
const RECORDS_A_PAGE: usize = 1000;
const ROUNDS: usize = 5;
const ROUND_TRIP: Duration = Duration::from_millis(20);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted =
        |name: &str| arguments.iter().all(|given| given.starts_with("--")) || arguments.iter().any(|a| a == name);
    if wanted("batches") {
        engine("batches", &Arc::new(Ready::new(64, 300, Pages::Batches)));
    }
    if wanted("bodies") {
        engine("bodies", &Arc::new(Ready::new(16, 150, Pages::Bodies)));
    }
    if wanted("catch-up") {
        catch_up();
    }
}

/// Rounds of one kind, and the median of what they used.
fn engine(name: &str, source: &Arc<Ready>) {
    let mut rates: Vec<f64> = (0..ROUNDS).map(|_| round(name, source)).collect();
    rates.sort_by(f64::total_cmp);
    println!("engine/{name} records_per_second={:.0} (median of {ROUNDS}, by CPU time)", rates[ROUNDS / 2]);
}

/// One worker, from its first record to its last; records a second of CPU time.
fn round(name: &str, source: &Arc<Ready>) -> f64 {
    let seen = Seen::new(source.total());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let ended = runtime.block_on(async {
        let rt = Rt::tokio().expect("a thread");
        consume(source.clone(), rt, &seen, Duration::ZERO).await
    });
    let begun = *seen.begun.get().expect("records came");
    let (records, wall, cpu) = (source.total(), ended.wall - begun.wall, ended.cpu - begun.cpu);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |time: Duration| records as f64 / time.as_secs_f64();
    println!("  {name}: {records} records, wall {wall:.2?}, CPU of all threads {cpu:.2?}, {:.0}/s by wall", rate(wall));
    rate(cpu)
}

/// One shard, a round trip of 20 ms for each page, and a processor that takes as long.
fn catch_up() {
    const PAGES: u32 = 200;
    let ideal = ROUND_TRIP * PAGES;
    let paused = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let took = paused.expect("a runtime").block_on(async {
        let origin = tokio::time::Instant::now();
        let rt = Rt::new(Arc::new(Paused(origin)), Arc::new(LocalTasks), Arc::new(Numbers::default()));
        let source = Arc::new(Ready::new(1, PAGES as usize, Pages::Batches));
        catch_up_on(source, rt).await
    });
    println!("catch-up/virtual fraction={:.4} ({took:?} for {PAGES} pages, ideal {ideal:?})", ratio(ideal, took));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (alone, took) = runtime.block_on(async {
        let rt = Rt::tokio().expect("a thread");
        let source = Arc::new(Ready::new(1, PAGES as usize, Pages::Bodies));
        let slow = LatencySource::fixed(source.clone(), rt.clone(), ROUND_TRIP);
        let begun = rt.now();
        for iterator in &source.iterators[..PAGES as usize] {
            slow.get_records(iterator, RECORDS_A_PAGE).await.expect("a page");
        }
        let alone = rt.now().since(begun);
        (alone, catch_up_on(source, rt).await)
    });
    println!("catch-up/real fraction={:.4} ({took:.3?}, fetching alone {alone:.3?})", ratio(alone, took));
}

async fn catch_up_on(source: Arc<Ready>, rt: Rt) -> Duration {
    let seen = Seen::new(source.total());
    let slow = Arc::new(LatencySource::fixed(source, rt.clone(), ROUND_TRIP));
    consume(slow, rt.clone(), &seen, ROUND_TRIP).await;
    // The first page has to be fetched before anything can be done side by side; that is not counted.
    rt.now().since(*seen.begun_at.get().expect("records came"))
}

fn ratio(of: Duration, to: Duration) -> f64 {
    of.as_secs_f64() / to.as_secs_f64()
}

/// Runs a worker until everything was seen.
async fn consume(source: Arc<dyn StreamSource>, rt: Rt, seen: &Arc<Seen>, takes: Duration) -> Usage {
    let counting = seen.clone();
    let processing = rt.clone();
    let worker = Worker::builder("bench", source, Arc::new(MemoryLeaseTable::new()))
        .stream(ARN)
        .processor(move |_: &ShardInfo| Count { seen: counting.clone(), rt: processing.clone(), takes })
        // The default of 5 calls a second is what the service can bear, not what the engine can.
        .configure(|config| config.with_calls_per_second(1_000_000))
        .rt(rt)
        .build()
        .await
        .expect("a worker");
    let mut usage = None;
    worker
        .run_until(async {
            seen.all.notified().await;
            usage = Some(Usage::now());
        })
        .await
        .expect("a report");
    usage.expect("it stopped because all was seen")
}

/// Time spent so far.
#[derive(Debug, Clone, Copy)]
struct Usage {
    wall: Instant,
    cpu: Duration,
}

impl Usage {
    fn now() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }
}

/// CPU time of all threads of this process, living ones only: those of a round live until it ends.
fn cpu_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let nanoseconds = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// What the processors of a round have seen together.
#[derive(Debug)]
struct Seen {
    records: AtomicU64,
    wanted: u64,
    begun: OnceLock<Usage>,
    begun_at: OnceLock<Mono>,
    all: Notify,
}

impl Seen {
    fn new(wanted: u64) -> Arc<Self> {
        Arc::new(Self {
            records: AtomicU64::new(0),
            wanted,
            begun: OnceLock::new(),
            begun_at: OnceLock::new(),
            all: Notify::new(),
        })
    }
}

/// Counts records by looking at each.
struct Count {
    seen: Arc<Seen>,
    rt: Rt,
    takes: Duration,
}

#[async_trait]
impl RecordProcessor for Count {
    async fn process_records(&mut self, batch: &RecordBatch, _shard: &ShardContext) -> Result<(), ProcessError> {
        self.seen.begun.get_or_init(Usage::now);
        self.seen.begun_at.get_or_init(|| self.rt.now());
        let inserts = batch.iter().filter(|record| record.event_name() == EventName::Insert).count() as u64;
        if !self.takes.is_zero() {
            self.rt.sleep(self.takes).await;
        }
        if self.seen.records.fetch_add(inserts, Ordering::Relaxed) + inserts == self.seen.wanted {
            self.seen.all.notify_one();
        }
        Ok(())
    }
}

/// In which form pages are ready.
#[derive(Debug)]
enum Pages {
    /// As a source gives them; one costs a reference count.
    Batches,
    /// As the service sends them; splitting one into records is part of the call.
    Bodies,
}

/// A stream of open shards that hold the same pages.
#[derive(Debug)]
struct Ready {
    shards: Vec<Shard>,
    bodies: Vec<Bytes>,
    batches: Vec<RecordBatch>,
    /// One for each page, and one behind the last.
    iterators: Vec<ShardIterator>,
    indexes: BTreeMap<String, usize>,
    form: Pages,
}

impl Ready {
    fn new(shards: usize, pages: usize, form: Pages) -> Self {
        let bodies: Vec<Bytes> = (0..pages).map(body).collect();
        let decoded = bodies.iter().map(|body| decode_page(body.clone()).expect("a page").records);
        let batches = match form {
            Pages::Batches => decoded.collect(),
            Pages::Bodies => Vec::new(),
        };
        let shard = |n: usize| Shard {
            id: format!("shardId-{n:020}-{n:08x}").parse().expect("an id"),
            parent: None,
            starting: Some(SequenceNumber::from_u128(1)),
            ending: None,
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            bodies,
            batches,
            iterators: (0..=pages).map(|page| ShardIterator::new(page.to_string())).collect(),
            indexes: (0..=pages).map(|page| (page.to_string(), page)).collect(),
            form,
        }
    }

    fn total(&self) -> u64 {
        (self.shards.len() * self.bodies.len() * RECORDS_A_PAGE) as u64
    }
}

/// A page of new items of about 100 bytes, as the service counts them.
fn body(page: usize) -> Bytes {
    let now = SystemTime::now();
    let record = |index: usize| {
        let at = page * RECORDS_A_PAGE + index;
        let mut keys = Item::default();
        keys.insert("pk".to_owned(), AttributeValue::S(format!("order-{at:010}")));
        let mut image = keys.clone();
        image.insert("payload".to_owned(), AttributeValue::S("x".repeat(75)));
        Record::new(RecordParts {
            event_id: format!("{at:032x}"),
            event_name: EventName::Insert,
            region: "eu-west-1".to_owned(),
            sequence_number: SequenceNumber::from_u128(100_000_000_000_000_000_000_000 + at as u128),
            created_at: now,
            keys,
            new_image: Some(image),
            old_image: None,
            view_type: StreamViewType::NewImage,
            size_bytes: 118,
            deleted_by_ttl: false,
        })
    };
    let records: Vec<Record> = (0..RECORDS_A_PAGE).map(record).collect();
    let mut body = Vec::new();
    encode_page(&records, Some("next"), &mut body);
    body.into()
}

#[async_trait]
impl StreamSource for Ready {
    async fn list_streams(&self, _table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        Ok(vec![StreamSummary { arn: ARN.parse().expect("an ARN") }])
    }

    async fn describe_stream(&self, _: &StreamArn, _: &DescribePage) -> Result<StreamDescription, SourceError> {
        Ok(StreamDescription {
            status: StreamStatus::Enabled,
            view_type: Some(StreamViewType::NewImage),
            shards: self.shards.clone(),
            last_evaluated: None,
        })
    }

    async fn shard_iterator(
        &self,
        _stream: &StreamArn,
        _shard: &ShardId,
        _position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError> {
        Ok(self.iterators[0].clone())
    }

    async fn get_records(&self, iterator: &ShardIterator, _limit: usize) -> Result<RecordsPage, SourceError> {
        let page = self.indexes[iterator.as_str()];
        let Some(body) = self.bodies.get(page) else {
            return Ok(RecordsPage { records: RecordBatch::empty(), next: Some(iterator.clone()) });
        };
        let records = match self.form {
            Pages::Batches => self.batches[page].clone(),
            Pages::Bodies => decode_page(body.clone()).expect("a page").records,
        };
        Ok(RecordsPage { records, next: Some(self.iterators[page + 1].clone()) })
    }
}

/// Tokio's paused clock, on which no time passes while anything can be done.
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn now(&self) -> Mono {
        Mono::new(self.0.elapsed())
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.0.elapsed()
    }

    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()> {
        tokio::time::sleep_until(self.0 + at.since_origin()).boxed()
    }
}

struct LocalTasks;

impl Spawn for LocalTasks {
    fn spawn(&self, _name: Cow<'static, str>, _class: TaskClass, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

#[derive(Default)]
struct Numbers(AtomicU64);

impl Entropy for Numbers {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}
