//! Two applications read a stream, and no more.

use std::sync::Arc;
use std::time::Duration;

use kcl_core::reference::{MemoryLeaseTable, MemoryReaderRegistry, ReferenceStream, StreamOptions};
use kcl_core::wrap::{FaultySource, LatencySource};
use kcl_core::{
    BuildError, EventKind, ProcessError, READER_SLOTS, Reader, ReaderPolicy, ReaderRegistry, ReaderSlots, Record,
    RegistryError, RegistryErrorKind, Resource, Rt, SlotClaim, SourceOp, StreamArn, StreamSource, StreamViewType,
    TableName, Worker, WorkerConfig, WorkerHandle,
};
use serde_dynamo::{AttributeValue, Item};
use sim::{Handle, Node};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A table, its stream, and a registry that all applications share.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) sim: Handle,
    pub(crate) service: ReferenceStream,
    pub(crate) table: TableName,
    pub(crate) stream: StreamArn,
    pub(crate) registry: MemoryReaderRegistry,
    written: Arc<AtomicUsize>,
}

/// A worker of an application, on a node of its own.
pub(crate) struct App {
    pub(crate) node: Node,
    pub(crate) leases: MemoryLeaseTable,
    pub(crate) handle: Arc<Mutex<Option<WorkerHandle>>>,
    refused: Arc<Mutex<Option<BuildError>>>,
    told: Arc<Mutex<Vec<EventKind>>>,
    read: Arc<AtomicUsize>,
    /// When it stops reaching the registry.
    cut: Arc<AtomicBool>,
    way: Arc<Way>,
}

/// How long calls for records are on their way to the stream, in seconds, and when the last one arrived.
#[derive(Debug, Default)]
pub(crate) struct Way {
    seconds: AtomicU64,
    last_arrival: Mutex<Duration>,
}

impl Way {
    /// The stream at the end of it.
    fn to(self: Arc<Self>, stream: &ReferenceStream, sim: &Handle) -> LatencySource {
        let (way, clock) = (self.clone(), sim.clone());
        let arriving = FaultySource::new(Arc::new(stream.clone()), move |op| {
            if op == SourceOp::GetRecords {
                *way.last_arrival.lock().expect("whole") = clock.now();
            }
            None
        });
        LatencySource::new(Arc::new(arriving), sim.rt(), move |op| match op {
            SourceOp::GetRecords => SECOND * 2 * self.seconds.load(Ordering::Relaxed) as u32,
            _ => Duration::ZERO,
        })
    }
}

/// A registry that one worker cannot reach for a while.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) inner: MemoryReaderRegistry,
    pub(crate) cut: Arc<AtomicBool>,
}

impl Cut {
    fn check(&self) -> Result<(), RegistryError> {
        match self.cut.load(Ordering::Relaxed) {
            true => Err(RegistryError::new(RegistryErrorKind::Denied { action: "GetItem" }, "slots")),
            false => Ok(()),
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

impl World {
    pub(crate) fn new(sim: &Handle, options: StreamOptions) -> Self {
        let service = ReferenceStream::new(sim.rt(), options);
        let table: TableName = "orders".parse().expect("a legal name");
        let stream = service.create_table(&table, &["id"], StreamViewType::NewAndOldImages, 2).expect("a stream");
        let (registry, written) = (MemoryReaderRegistry::new(), Arc::default());
        Self { sim: sim.clone(), service, table, stream, registry, written }
    }

    pub(crate) fn write(&self, count: usize) {
        for _ in 0..count {
            let number = self.written.fetch_add(1, Ordering::Relaxed);
            let mut item = Item::default();
            item.insert("id".to_owned(), AttributeValue::S(format!("k{number}")));
            self.service.put(&self.table, item).expect("the table is there");
        }
    }

    pub(crate) fn join(&self, application: &str) -> App {
        self.join_with(application, application, MemoryLeaseTable::new(), |config| config)
    }

    pub(crate) fn join_with(
        &self,
        application: &str,
        node: &str,
        leases: MemoryLeaseTable,
        configure: impl FnOnce(WorkerConfig) -> WorkerConfig,
    ) -> App {
        let app = App {
            node: self.sim.node(node),
            leases: leases.clone(),
            handle: Arc::default(),
            refused: Arc::default(),
            told: Arc::default(),
            read: Arc::default(),
            cut: Arc::default(),
            way: Arc::default(),
        };
        let read = app.read.clone();
        let source = Arc::new(app.way.clone().to(&self.service, &self.sim));
        let registry = Arc::new(Cut { inner: self.registry.clone(), cut: app.cut.clone() });
        let builder = Worker::builder(application, source, Arc::new(leases))
            .table("orders")
            .config(configure(WorkerConfig::default().with_name(node)))
            .reader_registry(registry, format!("{application}-leases"))
            .for_each(move |_: Record| {
                read.fetch_add(1, Ordering::Relaxed);
                async { Ok::<(), ProcessError>(()) }
            });
        let (handle, refused, told) = (app.handle.clone(), app.refused.clone(), app.told.clone());
        let run = move |rt: Rt| async move {
            let worker = match builder.rt(rt.clone()).build().await {
                Ok(worker) => worker,
                Err(error) => {
                    *refused.lock().expect("whole") = Some(error);
                    return;
                }
            };
            let mut events = worker.handle().events();
            let listen = async move {
                while let Some(event) = events.next().await {
                    told.lock().expect("whole").push(event.kind);
                }
            };
            let _listener = rt.spawn("events", kcl_core::TaskClass::Lease, listen);
            *handle.lock().expect("whole") = Some(worker.handle());
            worker.run().await.expect("runs");
        };
        // Its end is looked for in what it leaves.
        let _main = app.node.boot(run);
        app
    }
}

impl App {
    pub(crate) fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, such: impl Fn(&EventKind) -> bool) -> usize {
        self.told.lock().expect("whole").iter().filter(|kind| such(kind)).count()
    }

    pub(crate) fn refusal(&self) -> Option<BuildError> {
        self.refused.lock().expect("whole").take()
    }
}

pub(crate) fn lost(kind: &EventKind) -> bool {
    matches!(kind, EventKind::ReaderSlotLost { .. })
}

pub(crate) fn held(kind: &EventKind) -> bool {
    matches!(kind, EventKind::ReaderSlotHeld { .. })
}

#[test]
fn a_third_application_is_refused_by_name_of_the_two_that_read() {
    sim::run(1, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let [a, b] = ["mailer", "indexer"].map(|name| world.join(name));
        sim.sleep(10 * SECOND).await;
        world.write(100);
        let c = world.join("archiver");
        sim.sleep(10 * SECOND).await;
        let Some(BuildError::ReaderLimit(limit)) = c.refusal() else { panic!("it was to be refused") };
        let reader = |name: &str| Reader { application: name.to_owned(), lease_table: format!("{name}-leases") };
        assert_eq!((limit.stream, limit.holders), (world.stream.clone(), vec![reader("mailer"), reader("indexer")]));
        assert_eq!((a.read(), b.read(), c.read()), (100, 100, 0));
        assert_eq!(c.leases.snapshot().len(), 1, "nothing but what the table is was written");
    });
}

#[test]
fn the_slot_of_a_dead_application_frees_itself_and_the_next_one_gets_it() {
    sim::run(2, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let [a, b] = ["mailer", "indexer"].map(|name| world.join(name));
        sim.sleep(MINUTE).await;
        a.node.kill();
        let died = sim.now();
        world.write(100);
        sim.sleep(4 * MINUTE).await;
        // Long enough for the slot to look abandoned: this one waits for it.
        let c = world.join("archiver");
        sim.sleep(4 * MINUTE).await;
        assert!(c.refusal().is_none());
        assert_eq!((b.read(), c.read()), (100, 100), "after {:?}", sim.now() - died);
        assert_eq!(b.count(lost), 0);
        assert_eq!(c.count(held), 1);
    });
}

#[test]
fn the_workers_of_one_application_share_a_slot_and_the_work_of_renewing_it() {
    sim::run(3, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let leases = MemoryLeaseTable::new();
        let workers: Vec<App> =
            (0..5).map(|n| world.join_with("mailer", &format!("w{n}"), leases.clone(), |config| config)).collect();
        sim.sleep(60 * MINUTE).await;
        let slots = world.registry.snapshot().remove(&world.stream).expect("claimed");
        assert_eq!(slots.0.iter().flatten().count(), 1);
        let writes = slots.0.iter().flatten().next().expect("held").counter.0;
        assert!((30..=90).contains(&writes), "{writes} writes in an hour, whatever the number of workers");
        assert!(workers.iter().all(|worker| worker.count(lost) == 0));
        // Whoever dies, the others keep the slot.
        for worker in &workers[1..] {
            worker.node.kill();
        }
        sim.sleep(10 * MINUTE).await;
        world.write(50);
        sim.sleep(30 * SECOND).await;
        assert_eq!((workers[0].read(), workers[0].count(lost)), (50, 0));
    });
}

#[test]
fn an_application_that_cannot_renew_its_slot_stops_reading_before_another_begins() {
    for seed in 0..5 {
        sim::run(seed, |sim| async move {
            let world = World::new(&sim, StreamOptions::default());
            let [a, _b] = ["mailer", "indexer"].map(|name| world.join(name));
            sim.sleep(MINUTE + SECOND * u32::try_from(seed).expect("small")).await;
            a.cut.store(true, Ordering::Relaxed);
            sim.sleep(4 * MINUTE).await;
            let c = world.join("archiver");
            let mut paused = false;
            for _ in 0..600 {
                world.write(1);
                let (before, others) = (a.read(), c.read());
                sim.sleep(SECOND).await;
                paused |= a.count(lost) == 1;
                assert!(!(a.read() > before && c.read() > others), "seed {seed}: three read at {:?}", sim.now());
            }
            assert!(paused && a.read() < c.read(), "{} {}", a.read(), c.read());
            // Its leases are not lost: it waits for a slot.
            assert!(a.leases.leases().iter().all(|lease| lease.owner.is_some()));
        });
    }
}

#[test]
fn a_call_that_is_under_way_when_the_slot_is_lost_does_not_arrive_any_more() {
    sim::run(11, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let patient = |config: WorkerConfig| config.with_source_timeout(MINUTE);
        let a = world.join_with("mailer", "mailer", MemoryLeaseTable::new(), patient);
        sim.sleep(MINUTE).await;
        a.cut.store(true, Ordering::Relaxed);
        a.way.seconds.store(40, Ordering::Relaxed);
        let mut lost_at = None;
        for _ in 0..4 * 60 {
            sim.sleep(SECOND).await;
            lost_at = lost_at.or((a.count(lost) == 1).then(|| sim.now()));
        }
        let (lost_at, last) = (lost_at.expect("lost"), *a.way.last_arrival.lock().expect("whole"));
        assert!(last < lost_at, "a call arrived at {last:?}, and the slot was lost at {lost_at:?}");
    });
}

#[test]
fn reading_goes_on_where_it_was_when_the_slot_is_held_again() {
    sim::run(5, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let a = world.join("mailer");
        sim.sleep(MINUTE).await;
        a.cut.store(true, Ordering::Relaxed);
        sim.sleep(10 * MINUTE).await;
        world.write(100);
        sim.sleep(MINUTE).await;
        assert_eq!((a.read(), a.count(lost)), (0, 1));
        let denied = |kind: &EventKind| {
            matches!(
                kind,
                EventKind::AccessDenied { resource: Resource::ReaderRegistry, call: "slots", action: "GetItem", .. }
            )
        };
        assert!(a.count(denied) > 0, "it says what to grant");
        a.cut.store(false, Ordering::Relaxed);
        sim.sleep(MINUTE).await;
        assert_eq!((a.read(), a.count(held)), (100, 2));
    });
}

#[test]
fn an_application_that_was_only_to_be_admitted_reads_on_without_its_slot() {
    sim::run(6, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let admit_only = |config: WorkerConfig| config.with_readers(ReaderPolicy::AdmitOnly);
        let a = world.join_with("mailer", "mailer", MemoryLeaseTable::new(), admit_only);
        sim.sleep(MINUTE).await;
        a.cut.store(true, Ordering::Relaxed);
        sim.sleep(10 * MINUTE).await;
        world.write(100);
        sim.sleep(MINUTE).await;
        assert_eq!((a.read(), a.count(lost)), (100, 1));
    });
}

#[test]
fn an_application_without_the_policy_neither_asks_nor_is_counted() {
    sim::run(7, |sim| async move {
        let world = World::new(&sim, StreamOptions::unthrottled());
        let off = |config: WorkerConfig| config.with_readers(ReaderPolicy::Off);
        let apps: Vec<App> =
            ["x", "y", "z"].iter().map(|name| world.join_with(name, name, MemoryLeaseTable::new(), off)).collect();
        world.write(100);
        sim.sleep(MINUTE).await;
        assert!(apps.iter().all(|app| app.read() == 100));
        assert!(world.registry.snapshot().is_empty());
    });
}

#[test]
fn where_a_trigger_reads_too_one_slot_is_left() {
    sim::run(8, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let one = |config: WorkerConfig| config.with_reader_slots(READER_SLOTS - 1);
        let _a = world.join_with("mailer", "mailer", MemoryLeaseTable::new(), one);
        sim.sleep(10 * SECOND).await;
        let b = world.join_with("indexer", "indexer", MemoryLeaseTable::new(), one);
        sim.sleep(10 * SECOND).await;
        let Some(BuildError::ReaderLimit(limit)) = b.refusal() else { panic!("it was to be refused") };
        assert_eq!(limit.holders.len(), 1);
    });
}

#[test]
fn throttling_that_a_worker_does_not_cause_is_told_as_foreign_readers() {
    sim::run(9, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let a = world.join("mailer");
        sim.sleep(MINUTE).await;
        assert_eq!(a.count(|kind| matches!(kind, EventKind::ForeignReaders { .. })), 0);
        world.service.throttle(SourceOp::GetRecords, 5 * MINUTE);
        sim.sleep(5 * MINUTE).await;
        assert_eq!(a.count(|kind| matches!(kind, EventKind::ForeignReaders { .. })), 1);
    });
}

#[test]
fn a_registry_that_denies_access_is_told_at_the_start() {
    sim::run(10, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let registry = Arc::new(Cut { inner: world.registry.clone(), cut: Arc::new(AtomicBool::new(true)) });
        let source: Arc<dyn StreamSource> = Arc::new(world.service.clone());
        let node = sim.node("a");
        let built = node.boot(move |rt| async move {
            let builder = Worker::builder("mailer", source, Arc::new(MemoryLeaseTable::new()));
            let builder = builder.table("orders").reader_registry(registry, "leases");
            let built = builder.for_each(|_| async { Ok(()) }).rt(rt).build().await;
            built.expect_err("the registry denies access")
        });
        let error = built.await.expect("alive");
        assert!(matches!(&error, BuildError::Registry(_)), "{error}");
        assert!(error.to_string().contains("ReaderPolicy::Off"), "{error}");
    });
}
