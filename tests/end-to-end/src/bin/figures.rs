//! Prints figures of one worker with default settings on DynamoDB Local. Run by hand, on a machine that does nothing else:
//!
//! ```sh
//! cargo run -p end-to-end --bin figures
//! ```
//! * start to first record, with a lease table that exists and with a new one;
//! * write to processor, at 20 records a second for a minute, and the calls that this takes;
//! * calls in a minute without writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use conformance::dynamodb_local::{self, LocalServer};
use end_to_end::tables::{self, Version};
use kcl_core::wrap::{CountingLeaseTable, CountingSource};
use kcl_dynamo::{
    DynamoLeaseTable, DynamoStreamSource, LeaseTableOptions, ProcessError, RecordBatch, RecordProcessor, ShardContext,
    ShardInfo, SourceOp, StreamOptions, Worker,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Records a second while latency is measured.
const RATE: f64 = 20.0;

/// How many there are.
const SAMPLES: usize = 1200;

/// The first of their versions; starts come before.
const FIRST: u64 = 1000;

/// Tells when each version came. Versions are unique here.
struct Clock {
    came: UnboundedSender<(u64, Instant)>,
}

#[async_trait]
impl RecordProcessor for Clock {
    async fn process_records(&mut self, batch: &RecordBatch, _shard: &ShardContext) -> Result<(), ProcessError> {
        let now = Instant::now();
        for record in batch {
            let version = Version::of(record).map_err(|e| ProcessError::msg(e.to_string()))?.version;
            self.came.send((version, now))?;
        }
        Ok(())
    }
}

fn clock() -> (impl Fn(&ShardInfo) -> Clock + Send + Sync + 'static, UnboundedReceiver<(u64, Instant)>) {
    let (came, comes) = unbounded_channel();
    (move |_: &ShardInfo| Clock { came: came.clone() }, comes)
}

fn version(version: u64) -> Version {
    Version { pk: format!("key-{}", version % 100), version }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Some(server) = dynamodb_local::start().or_skip("figures") else { return Ok(()) };
    tables::create(&server.dynamodb(), "orders").await?;
    first_record(&server).await?;
    latency_and_calls(&server).await
}

/// Starts one worker after the other; each finds one record that it has not seen.
async fn first_record(server: &LocalServer) -> anyhow::Result<()> {
    let db = server.dynamodb();
    for (run, what) in ["new", "exists", "exists", "exists"].into_iter().enumerate() {
        tables::put(&db, "orders", &version(run as u64)).await?;
        let (factory, mut comes) = clock();
        let begun = Instant::now();
        let worker = Worker::builder("starts", &server.config()).table("orders").processor(factory).build().await?;
        let built = begun.elapsed();
        let handle = worker.handle();
        let running = tokio::spawn(worker.run());
        let (_, came) = comes.recv().await.context("the worker ended")?;
        println!("start to first record, lease table {what}: {:?} (build {built:?})", came - begun);
        handle.shutdown();
        running.await??;
    }
    Ok(())
}

async fn latency_and_calls(server: &LocalServer) -> anyhow::Result<()> {
    let (aws, db) = (server.config(), server.dynamodb());
    let source = CountingSource::new(Arc::new(DynamoStreamSource::new(&aws, &StreamOptions::default())?));
    let table = DynamoLeaseTable::open(&db, LeaseTableOptions::new("figures".parse()?)).await?;
    let leases = CountingLeaseTable::new(Arc::new(table));
    let (factory, mut comes) = clock();
    let worker = kcl_core::Worker::builder("figures", Arc::new(source.clone()), Arc::new(leases.clone()))
        .table("orders")
        .processor(factory)
        .build()
        .await?;
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());
    comes.recv().await.context("the worker ended")?;

    let (begun, reads) = (Instant::now(), source.count(SourceOp::GetRecords));
    let _before = leases.take_counts();
    let written = write_evenly(&db).await?;
    let spent = begun.elapsed().as_secs_f64();
    let calls = (source.count(SourceOp::GetRecords) - reads) as f64 / spent;
    let counts = leases.take_counts();
    let mut waits = Vec::new();
    while waits.len() < SAMPLES {
        let (version, came) = comes.recv().await.context("the worker ended")?;
        if let Some((sent, acknowledged)) = written.get(&version) {
            waits.push((came.saturating_duration_since(*sent), came.saturating_duration_since(*acknowledged)));
        }
    }
    let from_sent: Vec<Duration> = waits.iter().map(|(sent, _)| *sent).collect();
    let from_acknowledged: Vec<Duration> = waits.iter().map(|(_, acknowledged)| *acknowledged).collect();
    println!("write sent to processor at {:.1} records/s: {}", SAMPLES as f64 / spent, percentiles(from_sent));
    println!("write acknowledged to processor: {}", percentiles(from_acknowledged));
    println!(
        "meanwhile: {calls:.2} GetRecords/s; lease table: {:.0} reads and {:.0} writes a minute",
        counts.reads() as f64 * 60.0 / spent,
        counts.writes() as f64 * 60.0 / spent
    );

    tokio::time::sleep(Duration::from_secs(10)).await;
    let (reads, total) = (source.count(SourceOp::GetRecords), source.total());
    let _before = leases.take_counts();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let counts = leases.take_counts();
    println!(
        "a minute without writes: {} GetRecords, {} other calls of the stream; lease table: {} reads, {} writes ({counts:?})",
        source.count(SourceOp::GetRecords) - reads,
        (source.total() - total) - (source.count(SourceOp::GetRecords) - reads),
        counts.reads(),
        counts.writes()
    );
    handle.shutdown();
    running.await??;
    Ok(())
}

/// Writes at [`RATE`]: when each version was sent, and when it was acknowledged. Each write goes to a place of its own within its
/// turn, all over it: turns of 50 ms alone would keep in step with a poll every 250 ms, and measure that.
async fn write_evenly(db: &aws_sdk_dynamodb::Client) -> anyhow::Result<BTreeMap<u64, (Instant, Instant)>> {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let mut written = BTreeMap::new();
    let begun = tokio::time::Instant::now();
    for turn in 0..SAMPLES {
        let place = turn as f64 + (turn as f64 * GOLDEN).fract();
        tokio::time::sleep_until(begun + Duration::from_secs_f64(place / RATE)).await;
        let (number, sent) = (FIRST + turn as u64, Instant::now());
        tables::put(db, "orders", &version(number)).await?;
        written.insert(number, (sent, Instant::now()));
    }
    Ok(written)
}

fn percentiles(mut waits: Vec<Duration>) -> String {
    waits.sort_unstable();
    let at = |part: f64| waits.get(((waits.len() - 1) as f64 * part) as usize).copied().unwrap_or_default();
    format!("p50 {:?}, p99 {:?}, longest {:?}", at(0.5), at(0.99), at(1.0))
}
