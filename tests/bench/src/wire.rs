//! The wire server: what a page costs it, and its share of the work beside a consumer.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context;
use kcl_dynamo::reference::{MovableClock, ReferenceStream, StreamOptions};
use kcl_dynamo::wire::{ServerOptions, WireServer, WireService};
use kcl_dynamo::{DynamoStreamSource, IteratorPosition, Rt, StreamArn, StreamSource, StreamViewType};
use serde_dynamo::{AttributeValue, Item};

use crate::consume::{self, Look};
use crate::{cpu_time, cpu_time_of, runtime, server};

/// Who reads from the server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reader {
    /// The stream source alone, which splits pages into records and does nothing with them.
    Pages,
    /// The same, one record a page.
    Singles,
    /// The whole consumer, whose processor decodes every new image.
    Worker,
}

impl Reader {
    const ALL: [Self; 3] = [Self::Pages, Self::Singles, Self::Worker];

    fn name(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Singles => "singles",
            Self::Worker => "worker",
        }
    }
}

impl FromStr for Reader {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Self::ALL.into_iter().find(|reader| reader.name() == text).with_context(|| format!("{text} is no reader"))
    }
}

/// Every reader in turns, each against a server of its own.
pub(crate) fn measure(records: usize, passes: usize, rounds: usize) -> anyhow::Result<()> {
    println!("{records} records of 1 KB, {passes} passes, {rounds} rounds in turns");
    for round in 1..=rounds {
        for reader in Reader::ALL {
            one(round, reader, records, passes)?;
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn one(round: usize, reader: Reader, records: usize, passes: usize) -> anyhow::Result<()> {
    // So that a single record a page takes no longer than a thousand.
    let records = if matches!(reader, Reader::Singles) { records / 10 } else { records };
    let server = Served::start(records)?;
    let (before, begun) = (cpu_time_of(&server.id())?, Instant::now());
    let output = Command::new(std::env::current_exe()?)
        .args(["wire-read", reader.name(), &server.endpoint, &server.stream])
        .args([records.to_string(), passes.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "{} failed", reader.name());
    let wall = begun.elapsed();
    let served = cpu_time_of(&server.id())?.saturating_sub(before);
    let text = String::from_utf8(output.stdout)?;
    let mut figures = text.split_whitespace().map(str::parse::<u64>);
    let mut next = || figures.next().context("a figure is missing")?.context("a figure is no number");
    let (used, pages) = (Duration::from_millis(next()?), next()?);
    let rate = pages as f64 / served.as_secs_f64();
    let total = (records * passes) as f64;
    println!(
        "round {round} {:8} {pages} pages: server {:.1} us a page = {rate:.0} pages/s on one core; \
         a record: server {:.2} us, reader {:.2} us (server's share {:.0} %); CPU {served:.2?} and {used:.2?}, wall {wall:.2?}",
        reader.name(),
        served.as_secs_f64() * 1e6 / pages as f64,
        served.as_secs_f64() * 1e6 / total,
        used.as_secs_f64() * 1e6 / total,
        100.0 * served.as_secs_f64() / (served + used).as_secs_f64(),
    );
    Ok(())
}

/// A server in a process of its own.
struct Served {
    child: Child,
    endpoint: String,
    stream: String,
}

impl Served {
    fn start(records: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["wire-serve", &records.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut next = || lines.next().context("the server says too little")?.context("unreadable");
        Ok(Self { endpoint: next()?, stream: next()?, child })
    }

    fn id(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself; nobody is left to be told.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The server's process: one thread, `records` items of 1 KB in one shard, until its input ends.
pub(crate) fn serve(records: usize) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let server = runtime.block_on(async {
        let rt = Rt::tokio()?;
        let clock = MovableClock::running(&rt);
        let stream = ReferenceStream::new(clock.rt(&rt), StreamOptions::unthrottled());
        let table = "orders".parse()?;
        let arn = stream.create_table(&table, &["pk"], StreamViewType::NewImage, 1)?;
        for index in 0..records {
            stream.put(&table, order(index))?;
        }
        let server = WireServer::start(WireService::new(stream, &rt), ServerOptions::default()).await?;
        println!("{}\n{arn}", server.endpoint());
        std::io::stdout().flush()?;
        anyhow::Ok(server)
    })?;
    // On a thread of its own, for it blocks.
    let input = std::thread::spawn(|| std::io::stdin().read(&mut [0]));
    runtime.block_on(async {
        while !input.is_finished() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        server.stop().await;
    });
    Ok(())
}

fn order(index: usize) -> Item {
    let mut item = Item::default();
    item.insert("pk".to_owned(), AttributeValue::S(format!("order-{index:010}")));
    item.insert("customer".to_owned(), AttributeValue::S(format!("customer-{:06}", index % 1000)));
    item.insert("total".to_owned(), AttributeValue::N((index * 7).to_string()));
    item.insert("note".to_owned(), AttributeValue::S("n".repeat(930)));
    item
}

/// The reader's process. Prints its CPU time in milliseconds, and how many pages it read.
pub(crate) fn read(reader: Reader, endpoint: &str, stream: &str, records: usize, passes: usize) -> anyhow::Result<()> {
    let pages = runtime()?.block_on(async {
        let aws = server::config(endpoint);
        let source = DynamoStreamSource::new(&aws, &kcl_dynamo::StreamOptions::default())?;
        let mut pages = 0;
        for _pass in 0..passes {
            pages += match reader {
                Reader::Pages => follow(&source, &stream.parse()?, records, 1000).await?,
                Reader::Singles => follow(&source, &stream.parse()?, records, 1).await?,
                Reader::Worker => {
                    consume::worker_without_leases(&aws, stream, records, Look::Image).await?;
                    records.div_ceil(1000)
                }
            };
        }
        anyhow::Ok(pages)
    })?;
    println!("{} {pages}", cpu_time()?.as_millis());
    Ok(())
}

async fn follow(
    source: &DynamoStreamSource,
    stream: &StreamArn,
    records: usize,
    limit: usize,
) -> anyhow::Result<usize> {
    let shards = source.describe_stream(stream, &kcl_dynamo::DescribePage::default()).await?.shards;
    let shard = &shards.first().context("no shard")?.id;
    let mut next = Some(source.shard_iterator(stream, shard, IteratorPosition::TrimHorizon).await?);
    let (mut seen, mut pages) = (0, 0);
    while let Some(at) = next.take().filter(|_| seen < records) {
        let page = source.get_records(&at, limit).await?;
        seen += page.records.len();
        pages += 1;
        next = page.next;
    }
    anyhow::ensure!(seen == records, "{seen} records were read, not {records}");
    Ok(pages)
}
