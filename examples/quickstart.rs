//! Leases, watched: two workers share a stream, a shard splits, a worker dies, and nothing is lost.
//!
//! `cargo run --example quickstart` needs no setup: the stream and the lease table are in this process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use examples::short;
use kcl_core::reference::{MemoryLeaseTable, ReferenceStream, StreamOptions};
use kcl_core::{
    ProcessError, RecordBatch, RecordProcessor, Report, Rt, RunError, SequenceNumber, ShardContext, ShardId, ShardInfo,
    Start, StreamViewType, TableName, Worker, WorkerConfig, WorkerHandle,
};
use serde_dynamo::{AttributeValue, Item};

/// How often each record of each shard was delivered.
type Ledger = Arc<Mutex<BTreeMap<(ShardId, SequenceNumber), usize>>>;

/// What a user writes: a processor. This one counts, and says what happens to it.
struct Clerk {
    worker: &'static str,
    ledger: Ledger,
}

#[async_trait]
impl RecordProcessor for Clerk {
    async fn initialize(&mut self, shard: &ShardContext) -> Result<Start, ProcessError> {
        let parents: Vec<String> = shard.info().parents.iter().map(short).collect();
        let of = if parents.is_empty() { String::new() } else { format!(", child of {}", parents.join(", ")) };
        println!("  {:>4} begins with {}{of} ({:?})", self.worker, short(shard.shard()), shard.info().reason);
        Ok(Start::Checkpoint)
    }

    async fn process_records(&mut self, batch: &RecordBatch, shard: &ShardContext) -> Result<(), ProcessError> {
        let mut ledger = self.ledger.lock().map_err(|_poisoned| "the ledger is damaged")?;
        let mut again = 0;
        for record in batch.iter() {
            let times = ledger.entry((shard.shard().clone(), record.sequence_number())).or_default();
            *times += 1;
            again += usize::from(*times > 1);
        }
        let note = if again > 0 { format!(", {again} of them again") } else { String::new() };
        println!("  {:>4} processes {} records of {}{note}", self.worker, batch.len(), short(shard.shard()));
        Ok(())
    }

    async fn shard_ended(&mut self, shard: &ShardContext) -> Result<(), ProcessError> {
        println!("  {:>4} has read {} to its end; now its children may begin", self.worker, short(shard.shard()));
        Ok(())
    }
}

struct Demo {
    rt: Rt,
    service: ReferenceStream,
    leases: MemoryLeaseTable,
    table: TableName,
    ledger: Ledger,
    written: usize,
}

type Running = (WorkerHandle, tokio::task::JoinHandle<Result<Report, RunError>>);

impl Demo {
    /// Starts a worker. Against AWS this is all the same, with `kcl_dynamo::Worker::builder("clerks", &aws)`.
    async fn start(&self, name: &'static str) -> anyhow::Result<Running> {
        let ledger = self.ledger.clone();
        let worker = Worker::builder("clerks", Arc::new(self.service.clone()), Arc::new(self.leases.clone()))
            .table(self.table.as_str())
            .processor(move |_: &ShardInfo| Clerk { worker: name, ledger: ledger.clone() })
            // Shorter times than a service would use, so that the demonstration is over in seconds.
            .config(
                WorkerConfig::default()
                    .with_name(name)
                    .with_lease_duration(Duration::from_secs(2))
                    .with_observe_every(Duration::from_millis(200))
                    .with_min_hold(Duration::from_millis(500)),
            )
            .rt(self.rt.clone())
            .build()
            .await?;
        Ok((worker.handle(), tokio::spawn(worker.run())))
    }

    fn write(&mut self, orders: usize) -> anyhow::Result<()> {
        for _ in 0..orders {
            self.written += 1;
            let order = HashMap::from([
                ("id".to_owned(), AttributeValue::S(format!("order-{}", self.written))),
                ("total".to_owned(), AttributeValue::N("42".to_owned())),
            ]);
            self.service.put(&self.table, Item::from(order))?;
        }
        println!("       {orders} orders are written");
        Ok(())
    }

    /// Waits until everything that was written has been delivered.
    async fn all_delivered(&self) -> anyhow::Result<()> {
        for _ in 0..300 {
            if self.counts()?.0 == self.written {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("not everything was delivered within 30 s")
    }

    /// Records delivered, and those among them that were delivered again.
    fn counts(&self) -> anyhow::Result<(usize, usize)> {
        let ledger = self.ledger.lock().map_err(|_poisoned| anyhow::anyhow!("the ledger is damaged"))?;
        Ok((ledger.len(), ledger.values().filter(|times| **times > 1).count()))
    }

    fn show_leases(&self) {
        println!("       the lease table:");
        for lease in self.leases.leases() {
            let owner =
                lease.owner.as_ref().map_or("nobody", |owner| owner.as_str().split('/').next().unwrap_or_default());
            println!("         {}  owner {owner:<7} checkpoint {}", short(&lease.shard), lease.checkpoint);
        }
    }
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rt = Rt::tokio()?;
    let service = ReferenceStream::new(rt.clone(), StreamOptions::default());
    let table: TableName = "orders".parse()?;
    let stream = service.create_table(&table, &["id"], StreamViewType::NewAndOldImages, 2)?;
    let mut demo = Demo { rt, service, leases: MemoryLeaseTable::new(), table, ledger: Ledger::default(), written: 0 };

    println!("1. Two workers start on a stream of two shards, and take a lease each.");
    let ann = demo.start("ann").await?;
    let bob = demo.start("bob").await?;
    pause(2500).await;
    demo.show_leases();

    println!("\n2. Orders are written to the table; each change is a record in one of the shards.");
    demo.write(40)?;
    demo.all_delivered().await?;

    println!("\n3. A shard splits in two. Its children wait until it is read to its end.");
    let shard = demo.service.open_shards(&stream).remove(0);
    demo.write(20)?;
    demo.service.split(&stream, &shard)?;
    demo.write(20)?;
    demo.all_delivered().await?;
    pause(1500).await;
    demo.show_leases();

    println!(
        "\n4. Bob is killed. Nobody tells Ann: she sees that his leases stand still for two seconds, and takes them."
    );
    demo.write(40)?;
    pause(1300).await;
    bob.1.abort();
    demo.write(40)?;
    demo.all_delivered().await?;
    demo.show_leases();

    println!("\n5. Ann is asked to stop: what she has done is recorded, and her leases are free at once.");
    ann.0.shutdown();
    let report = ann.1.await??;
    demo.show_leases();

    let (delivered, again) = demo.counts()?;
    println!("\n{} shards released, {} abandoned.", report.released, report.abandoned);
    println!(
        "{} records written, {delivered} delivered, {again} of them delivered again after the crash.",
        demo.written
    );
    anyhow::ensure!(delivered == demo.written, "records were lost");
    Ok(())
}
