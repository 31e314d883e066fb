//! Fleets whose workers, or whose streams, are not all alike.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kcl_core::reference::{MemoryLeaseTable, ReferenceStream, StreamOptions};
use kcl_core::{
    DescribePage, IteratorPosition, LeaseTable, Liveness, ProcessError, RecordBatch, RecordsPage, ShardContext,
    ShardId, ShardInfo, ShardIterator, SourceError, Stream, StreamArn, StreamDescription, StreamSource, StreamSummary,
    StreamViewType, TableName, Worker, WorkerConfig, WorkerHandle,
};
use serde_dynamo::{AttributeValue, Item};
use sim::fleet::{Member as Worked, Setup};
use sim::world::Workload;
use sim::{Handle, Main, Node, in_both_modes, seeds};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Two tables, and a lease table that workers share.
struct World {
    sim: Handle,
    service: ReferenceStream,
    leases: MemoryLeaseTable,
    streams: [StreamArn; 2],
    /// Records of `orders` that were processed.
    orders: Arc<AtomicUsize>,
    written: AtomicUsize,
}

struct Member {
    _node: Node,
    handle: Arc<Mutex<Option<WorkerHandle>>>,
    main: Main<()>,
}

impl Member {
    fn handle(&self) -> WorkerHandle {
        self.handle.lock().expect("whole").clone().expect("built")
    }

    fn owned(&self) -> usize {
        self.handle().status().shards.len()
    }
}

/// A stream whose calls are not answered once that is ordered.
#[derive(Debug)]
struct Silent {
    inner: ReferenceStream,
    stream: StreamArn,
    silent: Arc<AtomicBool>,
    iterators: Mutex<Vec<ShardIterator>>,
}

impl Silent {
    async fn pass(&self, concerned: bool) {
        if concerned && self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl StreamSource for Silent {
    async fn list_streams(&self, table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        self.inner.list_streams(table).await
    }

    async fn describe_stream(&self, stream: &StreamArn, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        self.pass(*stream == self.stream).await;
        self.inner.describe_stream(stream, page).await
    }

    async fn shard_iterator(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError> {
        let iterator = self.inner.shard_iterator(stream, shard, position).await?;
        if *stream == self.stream {
            self.iterators.lock().expect("whole").push(iterator.clone());
        }
        Ok(iterator)
    }

    async fn get_records(&self, iterator: &ShardIterator, limit: usize) -> Result<RecordsPage, SourceError> {
        let page = self.inner.get_records(iterator, limit).await?;
        let concerned = self.iterators.lock().expect("whole").contains(iterator);
        if let (true, Some(next)) = (concerned, &page.next) {
            self.iterators.lock().expect("whole").push(next.clone());
        }
        self.pass(concerned).await;
        Ok(page)
    }
}

impl World {
    fn new(sim: &Handle, orders: usize, users: usize) -> Self {
        let service = ReferenceStream::new(sim.rt(), StreamOptions::unthrottled());
        let streams = [("orders", orders), ("users", users)].map(|(table, shards)| {
            let table = table.parse().expect("a legal name");
            service.create_table(&table, &["id"], StreamViewType::NewAndOldImages, shards).expect("a stream")
        });
        let (orders, written) = (Arc::default(), AtomicUsize::new(0));
        Self { sim: sim.clone(), service, leases: MemoryLeaseTable::new(), streams, orders, written }
    }

    fn write(&self, table: &str, count: usize) {
        for _ in 0..count {
            let mut item = Item::default();
            let number = self.written.fetch_add(1, Ordering::Relaxed);
            item.insert("id".to_owned(), AttributeValue::S(format!("k{number}")));
            self.service.put(&table.parse().expect("a legal name"), item).expect("the table is there");
        }
    }

    fn join(&self, name: &str, tables: &[&str]) -> Member {
        self.join_with(name, tables, Arc::new(self.service.clone()), |config| config)
    }

    fn join_with(
        &self,
        name: &str,
        tables: &[&str],
        source: Arc<dyn StreamSource>,
        configure: impl FnOnce(WorkerConfig) -> WorkerConfig,
    ) -> Member {
        let node = self.sim.node(name);
        let leases: Arc<dyn LeaseTable> = Arc::new(self.leases.clone());
        let mut builder = Worker::builder("sim", source, leases)
            .config(configure(WorkerConfig::default().with_name(name)))
            .for_each(|_| async { Ok(()) });
        for table in tables {
            let orders = self.orders.clone();
            builder = match *table {
                "orders" => builder.consume(Stream::table("orders").for_each(move |_| {
                    orders.fetch_add(1, Ordering::Relaxed);
                    async { Ok(()) }
                })),
                // Nothing can be made of it.
                "broken" => builder.consume(Stream::table("users").processor(Broken)),
                table => builder.table(table),
            };
        }
        let handle: Arc<Mutex<Option<WorkerHandle>>> = Arc::default();
        let given = handle.clone();
        let main = node.boot(move |rt| async move {
            let worker = builder.rt(rt).build().await.expect("built");
            *given.lock().expect("whole") = Some(worker.handle());
            worker.run().await.expect("runs");
        });
        Member { _node: node, handle, main }
    }

    fn silent(&self) -> (Arc<Silent>, Arc<AtomicBool>) {
        let (silent, stream) = (Arc::new(AtomicBool::new(false)), self.streams[1].clone());
        let source =
            Silent { inner: self.service.clone(), stream, silent: silent.clone(), iterators: Mutex::default() };
        (Arc::new(source), silent)
    }

    /// The part of the time for which leases were seen without an owner, and how often they changed it.
    async fn watched(&self, time: Duration) -> (f64, usize) {
        let until = self.sim.now() + time;
        let (mut free, mut all, mut moves, mut owners) = (0, 0, 0, BTreeMap::new());
        while self.sim.now() < until {
            for lease in self.leases.leases() {
                all += 1;
                match lease.owner {
                    None => free += 1,
                    Some(owner) => {
                        let before = owners.insert(lease.key.clone(), owner.clone());
                        moves += usize::from(before.is_some_and(|before| before != owner));
                    }
                }
            }
            self.sim.sleep(SECOND / 10).await;
        }
        (f64::from(free) / f64::from(all), moves)
    }
}

/// A factory that makes nothing.
struct Broken;

#[async_trait]
impl kcl_core::RecordProcessorFactory for Broken {
    async fn create(&self, _: &ShardInfo) -> Result<Box<dyn kcl_core::RecordProcessor>, ProcessError> {
        Err(std::io::Error::other("no disk").into())
    }
}

#[test]
fn a_stream_that_only_new_workers_know_is_unread_for_a_small_part_of_the_time() {
    for seed in seeds(3) {
        sim::run(seed, |sim| async move {
            let world = World::new(&sim, 6, 6);
            let _old = ["a", "b", "c"].map(|name| world.join(name, &["orders"]));
            sim.sleep(2 * MINUTE).await;
            let _new = world.join("d", &["orders", "users"]);
            sim.sleep(2 * MINUTE).await;
            let (free, moves) = world.watched(10 * MINUTE).await;
            assert!(free < 0.05, "seed {seed}: {free}, {moves} moves");
        });
    }
}

#[test]
fn a_stream_that_does_not_answer_holds_up_no_other() {
    sim::run(1, |sim| async move {
        for users in [20, 300] {
            let world = World::new(&sim, 2, users);
            let (source, silent) = world.silent();
            let _a = world.join_with("a", &["orders", "users"], source, |config| config);
            sim.sleep(MINUTE).await;
            silent.store(true, Ordering::Relaxed);
            // Until each of its shards has waited for an answer once.
            sim.sleep(2 * MINUTE).await;
            let mut worst = Duration::ZERO;
            for n in 1..=600 {
                world.write("orders", 1);
                let wrote = sim.now();
                while world.orders.load(Ordering::Relaxed) < n {
                    sim.sleep(SECOND / 20).await;
                }
                worst = worst.max(sim.now() - wrote);
                sim.sleep(SECOND).await;
            }
            assert!(worst < 3 * SECOND, "{users} shards are silent: {worst:?}");
        }
    });
}

#[test]
fn a_factory_that_fails_stops_the_shards_of_its_stream_alone() {
    sim::run(2, |sim| async move {
        let world = World::new(&sim, 2, 2);
        let a = world.join("a", &["orders", "broken"]);
        sim.sleep(5 * MINUTE).await;
        world.write("orders", 50);
        sim.sleep(10 * SECOND).await;
        let status = a.handle().status();
        assert_eq!((world.orders.load(Ordering::Relaxed), status.stopped.len()), (50, 2), "{status:?}");
        assert!(status.stopped.iter().all(|stopped| stopped.reason.to_string().contains("no disk")), "{status:?}");
    });
}

#[test]
fn a_worker_stops_in_time_though_a_stream_does_not_answer() {
    for begun in [true, false] {
        sim::run(3, |sim| async move {
            let world = World::new(&sim, 2, 2);
            let (source, silent) = world.silent();
            let mut a = world.join_with("a", &["orders", "users"], source, |config| config);
            sim.sleep(if begun { MINUTE } else { SECOND / 1000 }).await;
            silent.store(true, Ordering::Relaxed);
            sim.sleep(20 * SECOND).await;
            let asked = sim.now();
            a.handle().shutdown();
            a.handle().shutdown();
            while a.main.now().is_none() {
                sim.sleep(SECOND / 10).await;
            }
            assert!(sim.now() - asked < 5 * SECOND, "begun {begun}: {:?}", sim.now() - asked);
            assert!(world.leases.leases().iter().all(|lease| lease.owner.is_none()), "begun {begun}");
        });
    }
}

#[test]
fn a_worker_that_leaves_just_as_it_is_given_its_share_leaves_nothing_unread() {
    for (mode, seed) in in_both_modes(12) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(30).under(mode).build(&sim);
            let [a, b] = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(60 * SECOND).await;
            let workload = Workload { keys: 200, every: SECOND / 20, until: sim.now() + 60 * SECOND };
            let _writer = workload.start(&sim, &fleet.service, &fleet.table);
            let c = fleet.join("c");
            sim.sleep(Duration::from_millis(9_800 + seed * 150)).await;
            let report = c.stop().await;
            sim.sleep(5 * SECOND).await;
            let owned = a.owned().len() + b.owned().len();
            assert_eq!((owned, report.abandoned), (30, 0), "{mode:?} seed {seed}: {report:?}");
            let verdict = fleet.drained(120 * SECOND).await;
            assert_eq!(verdict.repeated, 0, "{mode:?} seed {seed}: {verdict}");
        });
    }
}

#[test]
fn a_deploy_that_changes_settings_repeats_nothing_and_ends_even() {
    for (mode, seed) in in_both_modes(6) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(12).under(mode).build(&sim);
            let mut old: Vec<Worked> = ["a", "b", "c"].iter().map(|name| fleet.join(name)).collect();
            sim.sleep(60 * SECOND).await;
            let workload = Workload { keys: 200, every: SECOND / 20, until: sim.now() + 200 * SECOND };
            let _writer = workload.start(&sim, &fleet.service, &fleet.table);
            let mut changed = fleet.clone();
            changed.setup = changed.setup.configure(|config| match seed % 3 {
                0 => config.with_settle(60 * SECOND).with_observe_every(5 * SECOND),
                1 => config.with_settle(Duration::ZERO).with_min_hold(Duration::ZERO).with_discover_every(5 * SECOND),
                _ => config.with_observe_every(SECOND / 5).with_discover_every(300 * SECOND).with_weight(1),
            });
            let mut new = Vec::new();
            for name in ["d", "e", "f"] {
                new.push(changed.join(name));
                sim.sleep(20 * SECOND).await;
                assert_eq!(old.remove(0).stop().await.abandoned, 0);
                sim.sleep(5 * SECOND).await;
            }
            sim.sleep(120 * SECOND).await;
            let verdict = fleet.drained(300 * SECOND).await;
            assert_eq!(verdict.repeated, 0, "{mode:?} seed {seed}: {verdict}");
            let counts: Vec<usize> = new.iter().map(|worker| worker.owned().len()).collect();
            assert_eq!(counts, [4; 3], "{mode:?} seed {seed}");
        });
    }
}

#[test]
fn weights_and_caps_at_their_ends_come_to_rest() {
    for mode in [Liveness::PerLease, Liveness::PerWorker] {
        sim::run(4, |sim| async move {
            let world = World::new(&sim, 7, 3);
            let both = ["orders", "users"];
            let join = |name: &str, weight, most| {
                world.join_with(name, &both, Arc::new(world.service.clone()), |config| {
                    config.with_liveness(Some(mode)).with_weight(weight).with_max_leases(most)
                })
            };
            let [light, heavy] = [("l", 1), ("h", u32::MAX)].map(|(name, weight)| join(name, weight, 4));
            sim.sleep(5 * MINUTE).await;
            let (_, moves) = world.watched(5 * MINUTE).await;
            assert_eq!((light.owned(), heavy.owned(), moves), (4, 4, 0), "{mode:?}");
            let third = join("t", u32::MAX, 4);
            sim.sleep(2 * MINUTE).await;
            let (free, moves) = world.watched(5 * MINUTE).await;
            assert_eq!((light.owned(), heavy.owned(), third.owned()), (2, 4, 4), "{mode:?}");
            assert!(free < 1e-9 && moves == 0, "{mode:?}: {free} {moves}");
        });
    }
}

#[test]
fn a_worker_that_is_evicted_while_a_call_hangs_stops_when_it_is_told() {
    for (mode, seed) in in_both_modes(4) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(4).under(mode).build(&sim);
            let a = fleet.join_with("a", |_| |_: &ShardInfo| Hanging);
            fleet.write(50, 50);
            sim.sleep(30 * SECOND).await;
            let id = a.handle().expect("built").status().worker.expect("joined");
            let admin = kcl_core::Admin::new(fleet.operators_table(), sim.rt());
            admin.evict_worker(&id).await.expect("evicted");
            sim.sleep(5 * SECOND).await;
            let (asked, now) = (sim.now(), seed % 2 == 0);
            if now {
                a.handle().expect("built").shutdown_now();
            }
            let report = a.stop().await;
            let most = if now { 8 * SECOND } else { 45 * SECOND };
            assert!(sim.now() - asked < most, "{mode:?} now {now}: {:?} {report:?}", sim.now() - asked);
            sim.sleep(20 * SECOND).await;
            assert!(fleet.leases.leases().iter().all(|lease| lease.owner.is_none()), "{mode:?} now {now}");
        });
    }
}

/// It never returns.
struct Hanging;

#[async_trait]
impl kcl_core::RecordProcessor for Hanging {
    async fn process_records(&mut self, _: &RecordBatch, _: &ShardContext) -> Result<(), ProcessError> {
        std::future::pending().await
    }
}
