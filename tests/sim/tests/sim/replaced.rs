//! A table's stream is disabled, and another one is enabled.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::reference::{MemoryLeaseTable, MemoryReaderRegistry, ReferenceStream, StreamOptions};
use kcl_core::{
    Admin, EventKind, Liveness, LossDecision, LossPolicy, ProcessError, Reader, ReaderRegistry, Record, RecordBatch,
    RecordProcessor, ShardContext, ShardInfo, SourceOp, StreamArn, StreamSource, StreamViewType, TableName, Worker,
    WorkerConfig,
};
use serde_dynamo::{AttributeValue, Item};
use sim::{Handle, Node};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What was delivered: the stream, and the key.
pub(crate) type Delivered = Arc<Mutex<Vec<(StreamArn, String)>>>;

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) sim: Handle,
    pub(crate) service: ReferenceStream,
    /// The way to the stream of those that join.
    pub(crate) source: Arc<dyn StreamSource>,
    pub(crate) table: TableName,
    pub(crate) leases: MemoryLeaseTable,
    pub(crate) registry: MemoryReaderRegistry,
    /// Their way to the registry.
    pub(crate) slots: Arc<dyn ReaderRegistry>,
    pub(crate) delivered: Delivered,
    pub(crate) told: Arc<Mutex<Vec<(String, EventKind)>>>,
    losses: LossDecision,
    /// How long their processors take.
    pub(crate) per_batch: Duration,
}

struct Recorder {
    sim: Handle,
    delivered: Delivered,
    per_batch: Duration,
}

#[async_trait::async_trait]
impl RecordProcessor for Recorder {
    async fn process_records(&mut self, batch: &RecordBatch, shard: &ShardContext) -> Result<(), ProcessError> {
        let of = |record: &Record| {
            let Some(AttributeValue::S(id)) = record.keys().expect("decoded").get("id").cloned() else {
                panic!("a text")
            };
            (shard.info().stream.clone(), id)
        };
        self.sim.sleep(self.per_batch).await;
        self.delivered.lock().expect("whole").extend(batch.iter().map(of));
        Ok(())
    }
}

impl World {
    fn new(sim: &Handle) -> (Self, StreamArn) {
        Self::of(sim, 2)
    }

    /// A stream of so many shards.
    pub(crate) fn of(sim: &Handle, shards: usize) -> (Self, StreamArn) {
        let service = ReferenceStream::new(sim.rt(), StreamOptions::unthrottled());
        let table: TableName = "orders".parse().expect("a legal name");
        let stream = service.create_table(&table, &["id"], StreamViewType::NewAndOldImages, shards).expect("a stream");
        let registry = MemoryReaderRegistry::new();
        let world = Self {
            sim: sim.clone(),
            source: Arc::new(service.clone()),
            service,
            table,
            leases: MemoryLeaseTable::new(),
            slots: Arc::new(registry.clone()),
            registry,
            delivered: Delivered::default(),
            told: Arc::default(),
            losses: LossDecision::StopShard,
            per_batch: Duration::ZERO,
        };
        (world, stream)
    }

    pub(crate) fn write(&self, name: &str, count: usize) {
        for number in 0..count {
            let mut item = Item::default();
            item.insert("id".to_owned(), AttributeValue::S(format!("{name}-{number}")));
            self.service.put(&self.table, item).expect("the table is there");
        }
    }

    pub(crate) fn enable(&self) -> StreamArn {
        self.service.enable_stream(&self.table, StreamViewType::NewAndOldImages, 3).expect("enabled")
    }

    /// The stream is replaced, and those who are there read what is written before and after.
    pub(crate) async fn replaced_and_read(&self, old: &StreamArn) -> StreamArn {
        self.write("old", 200);
        self.service.disable_stream(&self.table).expect("disabled");
        let new = self.enable();
        self.write("new", 100);
        self.sim.sleep(5 * MINUTE).await;
        assert_eq!(self.counts(), BTreeMap::from([(old.clone(), 200), (new.clone(), 100)]));
        new
    }

    pub(crate) fn join(&self, name: &str) -> Node {
        self.join_with(name, |config| config)
    }

    pub(crate) fn join_with(&self, name: &str, configure: impl FnOnce(WorkerConfig) -> WorkerConfig) -> Node {
        let node = self.sim.node(name);
        let losses: Arc<dyn LossPolicy> = Arc::new(self.losses);
        let (sim, delivered, per_batch) = (self.sim.clone(), self.delivered.clone(), self.per_batch);
        let builder = Worker::builder("sim", self.source.clone(), Arc::new(self.leases.clone()))
            .table("orders")
            .config(configure(WorkerConfig::default().with_name(name).with_losses(losses)))
            .reader_registry(self.slots.clone(), "sim".to_owned())
            .processor(move |_: &ShardInfo| Recorder { sim: sim.clone(), delivered: delivered.clone(), per_batch });
        let (told, name) = (self.told.clone(), name.to_owned());
        let _main = node.boot(move |rt| async move {
            let worker = builder.rt(rt.clone()).build().await.expect("built");
            let mut events = worker.handle().events();
            let listen = async move {
                while let Some(event) = events.next().await {
                    told.lock().expect("whole").push((name.clone(), event.kind));
                }
            };
            let _listener = rt.spawn("events", kcl_core::TaskClass::Lease, listen);
            worker.run().await.expect("runs");
        });
        node
    }

    /// An application begins on the stream and dies; then it is written to and switched off.
    async fn left_unread(&self) {
        let a = self.join("a");
        self.sim.sleep(MINUTE).await;
        a.kill();
        self.write("old", 200);
        self.service.disable_stream(&self.table).expect("disabled");
    }

    /// Records delivered of each stream.
    pub(crate) fn counts(&self) -> BTreeMap<StreamArn, usize> {
        let mut counts = BTreeMap::new();
        for (stream, _) in self.delivered.lock().expect("whole").iter() {
            *counts.entry(stream.clone()).or_default() += 1;
        }
        counts
    }

    /// The streams that followed others, as each worker told it.
    pub(crate) fn replaced(&self) -> Vec<(StreamArn, StreamArn)> {
        let told = self.told.lock().expect("whole");
        let replaced = told.iter().filter_map(|(_, kind)| match kind {
            EventKind::StreamReplaced { old, new } => Some((old.clone(), new.clone())),
            _ => None,
        });
        replaced.collect()
    }

    pub(crate) fn count(&self, such: impl Fn(&EventKind) -> bool) -> usize {
        self.told.lock().expect("whole").iter().filter(|(_, kind)| such(kind)).count()
    }

    /// All of the first stream were delivered before any of the second.
    pub(crate) fn in_order(&self, first: &StreamArn) -> bool {
        let delivered = self.delivered.lock().expect("whole");
        let last = delivered.iter().rposition(|(stream, _)| stream == first);
        let next = delivered.iter().position(|(stream, _)| stream != first);
        next.is_none() || last < next
    }
}

#[test]
fn a_stream_that_is_replaced_while_it_is_read_is_drained_and_then_followed_from_the_beginning() {
    for seed in 0..5 {
        sim::run(seed, |sim| async move {
            let (world, old) = World::new(&sim);
            let _workers = ["a", "b", "c"].map(|name| world.join(name));
            sim.sleep(MINUTE).await;
            world.write("old", 500);
            world.service.disable_stream(&world.table).expect("disabled");
            world.write("between", 50);
            sim.sleep(SECOND * u32::try_from(seed * 7).expect("small")).await;
            let new = world.enable();
            world.write("new", 300);
            sim.sleep(5 * MINUTE).await;
            let wanted = BTreeMap::from([(old.clone(), 500), (new.clone(), 300)]);
            assert_eq!(world.counts(), wanted, "seed {seed}");
            assert!(world.in_order(&old), "seed {seed}: the old stream first");
            assert_eq!(world.replaced(), vec![(old, new); 3], "seed {seed}: each worker tells it once");
            assert_eq!(world.count(|kind| matches!(kind, EventKind::DataLost { .. })), 0);
        });
    }
}

/// The service counts DescribeStream calls by account. A worker makes 8 a second, and as many at once after a quiet time.
#[test]
fn a_worker_that_goes_on_with_another_stream_lists_no_oftener_than_with_one() {
    sim::run(18, |sim| async move {
        let (world, old) = World::new(&sim);
        world.service.reconfigure(|options| options.describe_page = 1);
        for _ in 0..8 {
            world.service.roll_all(&old).expect("enabled");
        }
        let _a = world.join("a");
        sim.sleep(MINUTE).await;
        world.service.disable_stream(&world.table).expect("disabled");
        sim.sleep(MINUTE / 2).await;
        world.service.enable_stream(&world.table, StreamViewType::NewAndOldImages, 30).expect("enabled");
        for _ in 0..600 {
            let before = world.service.calls().of(SourceOp::DescribeStream);
            sim.sleep(SECOND).await;
            let calls = world.service.calls().of(SourceOp::DescribeStream) - before;
            assert!(calls <= 16, "{calls} calls in a second");
        }
        assert_eq!(world.replaced().len(), 1);
    });
}

/// Who runs when the stream is rewound that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fleet {
    /// Those who have read it to its end.
    Those,
    /// Others, who began with the one that follows it.
    Others,
    /// Nobody, and a worker starts later.
    Nobody,
}

#[test]
fn a_stream_that_was_left_is_read_again_once_it_is_rewound_and_then_left_again() {
    for mode in [Liveness::PerLease, Liveness::PerWorker] {
        for fleet in [Fleet::Those, Fleet::Others, Fleet::Nobody] {
            sim::run(19, |sim| async move {
                let (world, old) = World::new(&sim);
                let join = |name| world.join_with(name, |config| config.with_liveness(Some(mode)));
                let mut workers = ["a", "b"].map(join);
                sim.sleep(MINUTE).await;
                let new = world.replaced_and_read(&old).await;
                if fleet != Fleet::Those {
                    workers.iter().for_each(Node::kill);
                    sim.sleep(MINUTE).await;
                }
                if fleet == Fleet::Others {
                    workers = ["c", "d"].map(join);
                    sim.sleep(MINUTE).await;
                }
                // Long enough for the slot of the old stream to have lapsed, and for somebody else to have had it in between.
                sim.sleep(10 * MINUTE).await;
                let me = Reader { application: "sim".to_owned(), lease_table: "sim".to_owned() };
                let renewed = async |stream: &StreamArn| {
                    let slots = world.registry.slots(stream).await.expect("read");
                    slots.of(&me).map(|(_, slot)| slot.counter)
                };
                let before = renewed(&old).await;

                let admin = Admin::new(Arc::new(world.leases.clone()), sim.rt());
                let rewound = admin.rewind_stream(&old).await.expect("rewound");
                assert_eq!(rewound.len(), 2, "{mode:?} {fleet:?}");
                if fleet == Fleet::Nobody {
                    workers = ["c", "d"].map(join);
                }
                world.write("later", 50);
                sim.sleep(2 * MINUTE).await;
                let counts = BTreeMap::from([(old.clone(), 400), (new.clone(), 150)]);
                assert_eq!(world.counts(), counts, "{mode:?} {fleet:?}");
                assert!(before != renewed(&old).await, "{mode:?} {fleet:?}: it was read under a slot");
                assert!(
                    world.leases.leases().iter().filter(|l| l.stream.as_ref() == Some(&old)).all(|l| l.is_finished())
                );
                // Nothing of it is left to read.
                sim.sleep(5 * MINUTE).await;
                let left = renewed(&old).await;
                sim.sleep(20 * MINUTE).await;
                assert_eq!(renewed(&old).await, left, "{mode:?} {fleet:?}");
                drop(workers);
            });
        }
    }
}

#[test]
fn a_stream_that_was_replaced_while_nobody_ran_is_drained_first() {
    sim::run(11, |sim| async move {
        let (world, old) = World::new(&sim);
        world.left_unread().await;
        sim.sleep(MINUTE).await;
        let middle = world.enable();
        world.write("middle", 100);
        world.service.disable_stream(&world.table).expect("disabled");
        sim.sleep(MINUTE).await;
        let new = world.enable();
        world.write("new", 50);
        sim.sleep(MINUTE).await;
        let _b = world.join("b");
        sim.sleep(10 * MINUTE).await;
        let counts = BTreeMap::from([(old.clone(), 200), (middle.clone(), 100), (new.clone(), 50)]);
        assert_eq!(world.counts(), counts);
        assert!(world.in_order(&old));
        assert_eq!(world.replaced(), [(old, middle.clone()), (middle, new)]);
    });
}

#[test]
fn a_worker_that_starts_when_all_streams_are_disabled_drains_what_its_application_began_on() {
    sim::run(17, |sim| async move {
        let (world, old) = World::new(&sim);
        world.left_unread().await;
        sim.sleep(MINUTE).await;
        let new = world.enable();
        world.write("new", 100);
        world.service.disable_stream(&world.table).expect("disabled");
        let _b = world.join("b");
        sim.sleep(5 * MINUTE).await;
        assert_eq!(world.counts(), BTreeMap::from([(old, 200), (new, 100)]));
    });
}

#[test]
fn an_application_that_is_new_begins_with_the_stream_that_is_enabled() {
    sim::run(12, |sim| async move {
        let (world, _old) = World::new(&sim);
        world.write("old", 200);
        world.service.disable_stream(&world.table).expect("disabled");
        let new = world.enable();
        world.write("new", 50);
        let _a = world.join("a");
        sim.sleep(MINUTE).await;
        assert_eq!(world.counts(), BTreeMap::from([(new, 50)]));
        assert_eq!(world.replaced(), []);
    });
}

#[test]
fn a_stream_that_nobody_replaces_is_drained_and_waited_for() {
    sim::run(13, |sim| async move {
        let (world, old) = World::new(&sim);
        let _a = world.join("a");
        sim.sleep(MINUTE).await;
        world.write("old", 200);
        world.service.disable_stream(&world.table).expect("disabled");
        sim.sleep(2 * HOUR).await;
        assert_eq!(world.counts(), BTreeMap::from([(old, 200)]));
        let new = world.enable();
        world.write("new", 50);
        sim.sleep(5 * MINUTE).await;
        assert_eq!(world.counts().get(&new), Some(&50));
    });
}

#[test]
fn a_stream_that_is_gone_unread_is_reported_decided_on_and_then_left_alone() {
    for decision in [LossDecision::StopShard, LossDecision::Continue] {
        sim::run(14, |sim| async move {
            let (mut world, old) = World::new(&sim);
            world.losses = decision;
            world.left_unread().await;
            sim.sleep(25 * HOUR).await;
            let new = world.enable();
            world.write("new", 50);
            let _b = world.join("b");
            sim.sleep(HOUR).await;
            assert_eq!(world.count(|kind| matches!(kind, EventKind::StreamGone { .. })), 1);
            assert_eq!(world.count(|kind| matches!(kind, EventKind::DataLost { .. })), 2);
            // It is not asked for any more: what is listed from now on is the new one.
            let leases = world.leases.leases();
            let of_old = leases.iter().filter(|lease| lease.stream.as_ref() == Some(&old));
            match decision {
                LossDecision::StopShard => {
                    assert!(of_old.clone().count() == 2 && of_old.clone().all(|lease| lease.stop.is_some()));
                    assert_eq!(world.counts().get(&new), None, "what was stopped holds up what follows");
                    let before = world.service.calls().of(SourceOp::DescribeStream);
                    sim.sleep(HOUR).await;
                    assert_eq!(world.service.calls().of(SourceOp::DescribeStream), before);
                }
                LossDecision::Continue => {
                    assert_eq!(of_old.count(), 0, "its tombstones are deleted");
                    assert_eq!(world.counts().get(&new), Some(&50));
                }
            }
        });
    }
}

#[test]
fn a_shard_that_was_idle_for_more_than_a_day_has_lost_nothing_when_its_owner_restarts() {
    for mode in [Liveness::PerLease, Liveness::PerWorker] {
        sim::run(15, |sim| async move {
            let (world, old) = World::new(&sim);
            let join = |name| world.join_with(name, |config| config.with_liveness(Some(mode)));
            let a = join("a");
            sim.sleep(MINUTE).await;
            world.write("old", 200);
            sim.sleep(30 * HOUR).await;
            a.kill();
            sim.sleep(MINUTE).await;
            let _b = join("b");
            sim.sleep(5 * MINUTE).await;
            assert_eq!(world.count(|kind| matches!(kind, EventKind::DataLost { .. })), 0, "{mode:?}");
            world.write("later", 100);
            sim.sleep(MINUTE).await;
            assert_eq!(world.counts(), BTreeMap::from([(old, 300)]), "{mode:?}");
        });
    }
}

#[test]
fn what_was_written_after_the_owner_died_and_trimmed_is_still_a_loss() {
    sim::run(16, |sim| async move {
        let (world, _old) = World::new(&sim);
        let a = world.join("a");
        sim.sleep(MINUTE).await;
        world.write("old", 200);
        sim.sleep(30 * HOUR).await;
        a.kill();
        world.write("missed", 100);
        sim.sleep(26 * HOUR).await;
        let _b = world.join("b");
        sim.sleep(5 * MINUTE).await;
        assert!(world.count(|kind| matches!(kind, EventKind::DataLost { .. })) > 0);
    });
}
