//! A stream that was left for its successor and is rewound, where requests are slow or fail: `replaced` has it where nothing does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::reference::{MemoryLeaseTable, MemoryReaderRegistry, ReferenceStream, StreamOptions};
use kcl_core::{
    Admin, DescribePage, EventKind, IteratorPosition, ProcessError, ReaderRegistry, ReaderSlots, RecordBatch,
    RecordProcessor, RecordsPage, RegistryError, RegistryErrorKind, ShardContext, ShardId, ShardInfo, ShardIterator,
    SlotClaim, SourceError, StreamArn, StreamDescription, StreamSource, StreamSummary, StreamViewType, TableName,
    Worker, WorkerConfig,
};
use serde_dynamo::{AttributeValue, Item};
use sim::{Handle, Node};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Slow {
    sim: Handle,
    inner: ReferenceStream,
    millis: Arc<AtomicU64>,
}

#[async_trait::async_trait]
impl StreamSource for Slow {
    async fn list_streams(&self, table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        self.inner.list_streams(table).await
    }
    async fn describe_stream(&self, stream: &StreamArn, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        let ms = self.millis.load(Ordering::Relaxed);
        if ms > 0 {
            self.sim.sleep(Duration::from_millis(ms)).await;
        }
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
        self.inner.get_records(iterator, limit).await
    }
}

#[derive(Debug)]
struct Cut {
    inner: MemoryReaderRegistry,
    cut: Arc<AtomicBool>,
}
impl Cut {
    fn check(&self) -> Result<(), RegistryError> {
        if self.cut.load(Ordering::Relaxed) {
            Err(RegistryError::new(RegistryErrorKind::Throttled, "slots"))
        } else {
            Ok(())
        }
    }
}
#[async_trait::async_trait]
impl ReaderRegistry for Cut {
    async fn slots(&self, stream: &StreamArn) -> Result<ReaderSlots, RegistryError> {
        self.check()?;
        self.inner.slots(stream).await
    }
    async fn write(
        &self,
        stream: &StreamArn,
        seen: &ReaderSlots,
        claim: &SlotClaim,
    ) -> Result<ReaderSlots, RegistryError> {
        self.check()?;
        self.inner.write(stream, seen, claim).await
    }
}

struct Recorder {
    delivered: Arc<Mutex<Vec<StreamArn>>>,
    sim: Handle,
    slow: Arc<AtomicU64>,
}
#[async_trait::async_trait]
impl RecordProcessor for Recorder {
    async fn process_records(&mut self, batch: &RecordBatch, shard: &ShardContext) -> Result<(), ProcessError> {
        let ms = self.slow.load(Ordering::Relaxed);
        if ms > 0 {
            self.sim.sleep(Duration::from_millis(ms)).await;
        }
        self.delivered.lock().expect("whole").extend(batch.iter().map(|_| shard.info().stream.clone()));
        Ok(())
    }
}

struct World {
    sim: Handle,
    service: ReferenceStream,
    table: TableName,
    leases: MemoryLeaseTable,
    registry: MemoryReaderRegistry,
    delivered: Arc<Mutex<Vec<StreamArn>>>,
    told: Arc<Mutex<Vec<EventKind>>>,
    cut: Arc<AtomicBool>,
    millis: Arc<AtomicU64>,
    slow: Arc<AtomicU64>,
}

impl World {
    fn new(sim: &Handle) -> (Self, StreamArn) {
        let service = ReferenceStream::new(sim.rt(), StreamOptions::unthrottled());
        let table: TableName = "orders".parse().expect("a legal name");
        let stream = service.create_table(&table, &["id"], StreamViewType::NewAndOldImages, 1).expect("a stream");
        (
            Self {
                sim: sim.clone(),
                service,
                table,
                leases: MemoryLeaseTable::new(),
                registry: MemoryReaderRegistry::new(),
                delivered: Arc::default(),
                told: Arc::default(),
                cut: Arc::default(),
                millis: Arc::default(),
                slow: Arc::default(),
            },
            stream,
        )
    }
    fn write(&self, name: &str, count: usize) {
        for number in 0..count {
            let mut item = Item::default();
            item.insert("id".to_owned(), AttributeValue::S(format!("{name}-{number}")));
            self.service.put(&self.table, item).expect("the table is there");
        }
    }
    fn join(&self, name: &str) -> Node {
        let node = self.sim.node(name);
        let source: Arc<dyn StreamSource> =
            Arc::new(Slow { sim: self.sim.clone(), inner: self.service.clone(), millis: self.millis.clone() });
        let (delivered, sim, slow) = (self.delivered.clone(), self.sim.clone(), self.slow.clone());
        let builder = Worker::builder("sim", source, Arc::new(self.leases.clone()))
            .table("orders")
            .config(WorkerConfig::default().with_name(name).with_batch_size(10))
            .reader_registry(Arc::new(Cut { inner: self.registry.clone(), cut: self.cut.clone() }), "sim".to_owned())
            .processor(move |_: &ShardInfo| Recorder {
                delivered: delivered.clone(),
                sim: sim.clone(),
                slow: slow.clone(),
            });
        let told = self.told.clone();
        let _main = node.boot(move |rt| async move {
            let worker = builder.rt(rt.clone()).build().await.expect("built");
            let mut events = worker.handle().events();
            let listen = async move {
                while let Some(event) = events.next().await {
                    told.lock().expect("whole").push(event.kind);
                }
            };
            let _listener = rt.spawn("events", kcl_core::TaskClass::Lease, listen);
            worker.run().await.expect("runs");
        });
        node
    }
    fn count(&self, stream: &StreamArn) -> usize {
        self.delivered.lock().expect("whole").iter().filter(|s| *s == stream).count()
    }
}

#[test]
fn a_fleet_that_starts_after_a_rewind_reads_the_older_one_to_its_end_first() {
    sim::run(1, |sim| async move {
        let (world, old) = World::new(&sim);
        let a = world.join("a");
        sim.sleep(MINUTE).await;
        world.write("old", 200);
        world.service.disable_stream(&world.table).expect("disabled");
        let new = world.service.enable_stream(&world.table, StreamViewType::NewAndOldImages, 1).expect("enabled");
        world.write("new", 100);
        sim.sleep(5 * MINUTE).await;
        assert_eq!((world.count(&old), world.count(&new)), (200, 100));
        a.kill();
        sim.sleep(MINUTE).await;
        Admin::new(Arc::new(world.leases.clone()), sim.rt()).rewind_stream(&old).await.expect("rewound");
        world.write("later", 50);
        world.slow.store(2000, Ordering::Relaxed);
        world.delivered.lock().expect("whole").clear();
        world.told.lock().expect("whole").clear();
        let _b = world.join("b");
        sim.sleep(5 * MINUTE).await;
        assert_eq!((world.count(&old), world.count(&new)), (200, 50));
        let told = world.told.lock().expect("whole");
        let replaced = told.iter().filter(|k| matches!(k, EventKind::StreamReplaced { .. })).count();
        let finished = told.iter().position(|k| matches!(k, EventKind::ShardFinished { .. }));
        let first = told.iter().position(|k| matches!(k, EventKind::StreamReplaced { .. }));
        assert_eq!(replaced, 1);
        assert!(finished < first, "it was told to be read to its end at {first:?}, its first shard at {finished:?}");
        drop(told);
        let delivered = world.delivered.lock().expect("whole");
        let last = delivered.iter().rposition(|s| *s == old);
        let next = delivered.iter().position(|s| *s == new);
        assert!(last < next, "last of the old at {last:?}, first of the new at {next:?}");
    });
}

/// A discovery that began before the rewind says "drained" after the rewound lease was taken.
#[test]
fn a_rewound_stream_is_read_again_although_a_discovery_was_under_way() {
    let mut hung = Vec::new();
    for offset in 0..20u64 {
        let outcome = Arc::new(Mutex::new(0));
        let out = outcome.clone();
        sim::run(offset, move |sim| async move {
            let (world, old) = World::new(&sim);
            let _a = world.join("a");
            sim.sleep(MINUTE).await;
            world.write("old", 200);
            world.service.disable_stream(&world.table).expect("disabled");
            let _new = world.service.enable_stream(&world.table, StreamViewType::NewAndOldImages, 1).expect("enabled");
            sim.sleep(20 * MINUTE).await;
            assert_eq!(world.count(&old), 200);
            world.millis.store(4000, Ordering::Relaxed);
            sim.sleep(MINUTE + Duration::from_millis(offset * 1500)).await;
            // The registry is throttled for 40 seconds.
            world.cut.store(true, Ordering::Relaxed);
            Admin::new(Arc::new(world.leases.clone()), sim.rt()).rewind_stream(&old).await.expect("rewound");
            sim.sleep(Duration::from_secs(40)).await;
            world.cut.store(false, Ordering::Relaxed);
            sim.sleep(120 * MINUTE).await;
            *out.lock().expect("whole") = world.count(&old);
        });
        let count = *outcome.lock().expect("whole");
        if count != 400 {
            hung.push((offset, count));
        }
    }
    assert!(hung.is_empty(), "never read again, two hours later: {hung:?}");
}
