//! The ways to read a stream from its beginning to what is its end now.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use async_trait::async_trait;
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use aws_types::SdkConfig;
use kcl_dynamo::reference::MemoryLeaseTable;
use kcl_dynamo::{
    DynamoStreamSource, EventName, ProcessError, ReaderPolicy, RecordBatch, RecordProcessor, Rt, ShardContext,
    ShardInfo, StreamOptions, Worker, kcl_core,
};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::server::config;

/// A loop over `GetRecords`, shard after shard, that reads one attribute of each new image.
pub(crate) async fn sdk(client: &Client, stream: &str, records: usize) -> anyhow::Result<()> {
    let described = client.describe_stream().stream_arn(stream).send().await?;
    let shards = described.stream_description.context("no description")?.shards.unwrap_or_default();
    let (mut seen, mut length) = (0, 0);
    for shard in shards {
        let iterator = client
            .get_shard_iterator()
            .stream_arn(stream)
            .shard_id(shard.shard_id.context("no id")?)
            .shard_iterator_type(ShardIteratorType::TrimHorizon)
            .send()
            .await?;
        let mut next = iterator.shard_iterator;
        while let Some(iterator) = next.take() {
            let page = client.get_records().shard_iterator(iterator).limit(1000).send().await?;
            for record in page.records() {
                let image = record.dynamodb().and_then(|change| change.new_image());
                let key = image.and_then(|image| image.get("pk")?.as_s().ok());
                length += key.context("no key")?.len();
                seen += 1;
            }
            // The shard is open: an empty page is what its end looks like.
            if !page.records().is_empty() && seen < records {
                next = page.next_shard_iterator;
            }
        }
    }
    anyhow::ensure!(seen == records && length == records * KEY_LENGTH, "{seen} records were read, not {records}");
    Ok(())
}

/// `order-` and ten digits.
const KEY_LENGTH: usize = 16;

/// What a processor does with a record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Look {
    /// Reads its keys and its event name.
    Keys,
    /// Decodes its new image into a struct.
    Image,
}

#[derive(Deserialize)]
struct Keys<'a> {
    #[serde(borrow)]
    pk: &'a str,
}

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    pk: &'a str,
    #[serde(borrow)]
    customer: &'a str,
    total: u64,
    #[serde(borrow)]
    note: &'a str,
}

/// The whole consumer, with a lease table of its own on the same server. `application` must be new.
pub(crate) async fn worker(
    endpoint: &str,
    stream: &str,
    records: usize,
    application: &str,
    look: Look,
) -> anyhow::Result<()> {
    let seen = Arc::new(Seen::default());
    let counting = seen.clone();
    let worker = Worker::builder(application, &config(endpoint))
        .stream(stream)
        .processor(move |_: &ShardInfo| Count { look, records, seen: counting.clone() })
        // The default of 5 calls a second spares the service. It lengthens a run here and changes no work but the waiting.
        // And each run is another application: the third would find no reader slot.
        .configure(|config| config.with_calls_per_second(10_000).with_readers(ReaderPolicy::Off))
        .build()
        .await?;
    worker.run_until(seen.all.notified()).await?;
    let seen = seen.records.load(Ordering::Relaxed);
    anyhow::ensure!(seen == records, "{seen} records were delivered, not {records}");
    Ok(())
}

/// The whole consumer of a server that has no lease tables: the leases are in memory.
pub(crate) async fn worker_without_leases(
    aws: &SdkConfig,
    stream: &str,
    records: usize,
    look: Look,
) -> anyhow::Result<()> {
    let seen = Arc::new(Seen::default());
    let counting = seen.clone();
    let source = DynamoStreamSource::new(aws, &StreamOptions::default())?;
    let leases = Arc::new(MemoryLeaseTable::new());
    let worker = kcl_core::Worker::builder("bench", Arc::new(source), leases)
        .rt(Rt::tokio()?)
        .stream(stream)
        .processor(move |_: &ShardInfo| Count { look, records, seen: counting.clone() })
        .configure(|config| config.with_calls_per_second(10_000))
        .build()
        .await?;
    worker.run_until(seen.all.notified()).await?;
    let seen = seen.records.load(Ordering::Relaxed);
    anyhow::ensure!(seen == records, "{seen} records were delivered, not {records}");
    Ok(())
}

#[derive(Default)]
struct Seen {
    records: AtomicUsize,
    all: Notify,
}

struct Count {
    look: Look,
    records: usize,
    seen: Arc<Seen>,
}

impl Look {
    fn at(self, batch: &RecordBatch) -> Result<usize, ProcessError> {
        let mut looked = 0;
        for record in batch {
            let right = match self {
                Self::Keys => {
                    record.event_name() == EventName::Insert && record.keys_as::<Keys<'_>>()?.pk.len() == KEY_LENGTH
                }
                Self::Image => record.new_image_as::<Order<'_>>()?.is_some_and(|order| {
                    order.pk.len() == KEY_LENGTH
                        && order.customer.len() == KEY_LENGTH - 1
                        && order.note.len() == 930
                        && order.total.is_multiple_of(7)
                }),
            };
            looked += usize::from(right);
        }
        Ok(looked)
    }
}

#[async_trait]
impl RecordProcessor for Count {
    async fn process_records(&mut self, batch: &RecordBatch, _shard: &ShardContext) -> Result<(), ProcessError> {
        let looked = self.look.at(batch)?;
        if self.seen.records.fetch_add(looked, Ordering::Relaxed) + looked == self.records {
            self.seen.all.notify_one();
        }
        Ok(())
    }
}
