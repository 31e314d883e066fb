//! A fleet of production workers on the reference stream: what the tests of the engine are written with.

mod losses;
mod member;
mod network;
mod owners;
mod sink;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use kcl_core::reference::{MemoryLeaseTable, ReferenceStream, ShardView, StreamOptions};
use kcl_core::wrap::{
    CountingLeaseTable, FaultyLeaseTable, LatencyLeaseTable, LeaseCall, LeaseFault, ObservedLeaseTable,
};
use kcl_core::{
    BuildError, Checkpoint, FailurePolicy, Lease, LeaseCounter, LeaseTable, Liveness, LossDecision, ProcessError,
    RecordProcessor, RecordProcessorFactory, Report, Rt, RunError, ShardId, ShardInfo, StartPosition, StreamArn,
    StreamSource, StreamViewType, TableName, TaskClass, Worker, WorkerBuilder, WorkerConfig, WorkerHandle,
};
use serde_dynamo::{AttributeValue, Item};

pub use losses::Losses;
pub use member::{Events, Member, Place};
pub use network::{Network, Weather};
pub use owners::{Owned, Owners};
pub use sink::Sink;

use crate::Handle;
use crate::history::{Event, History, Session};
use crate::invariant::records::{Truth, Verdict};
use crate::invariant::{Ending, Watch};
use crate::world::{self, Conduct, RecordingProcessor, Script};

/// The counters that an operator left, by the keys of leases.
type Rewound = Arc<Mutex<BTreeMap<String, LeaseCounter>>>;

type WrapSource = dyn Fn(Arc<dyn StreamSource>) -> Arc<dyn StreamSource> + Send + Sync;

/// What a fleet is like. Change fields, then [`Setup::build`].
#[derive(Clone)]
pub struct Setup {
    /// Shards at the beginning.
    pub shards: usize,
    /// How the service behaves.
    pub options: StreamOptions,
    /// Where the application begins.
    pub start: StartPosition,
    /// The settings of every worker. Loss policy and checkpoints come from the fields below.
    pub config: WorkerConfig,
    /// How the processors of [`Fleet::join`] behave.
    pub conduct: Conduct,
    /// What is decided about losses.
    pub losses: LossDecision,
    /// How long a call to the lease table takes there and back.
    pub table_latency: RangeInclusive<Duration>,
    /// Items in a page of a scan of the lease table: with few, a scan is no snapshot.
    pub scan_page: usize,
    /// Writes that scans of the lease table lag behind.
    pub scan_lag: usize,
    /// Records that a processor fails on so many times in a row go to the fleet's sink, which fails now and then; zero: the settings
    /// say what happens to them.
    pub set_aside_after: u32,
    /// The application's name.
    pub application: String,
    /// Whether the workers follow the table from stream to stream.
    pub follows_table: bool,
    /// What the workers read through.
    pub source: Arc<WrapSource>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("shards", &self.shards).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Setup {
    /// A stream with so many shards, read from its beginning with the default settings.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self {
            shards,
            options: StreamOptions::unthrottled(),
            start: StartPosition::TrimHorizon,
            config: WorkerConfig::default(),
            conduct: Conduct::default(),
            losses: LossDecision::StopShard,
            table_latency: Duration::from_millis(2)..=Duration::from_millis(10),
            scan_page: 1000,
            scan_lag: 0,
            set_aside_after: 0,
            application: "sim".to_owned(),
            follows_table: false,
            source: Arc::new(|source| source),
        }
    }

    /// Changes the settings of the workers.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(WorkerConfig) -> WorkerConfig) -> Self {
        self.config = change(self.config);
        self
    }

    /// Sets how a death is seen.
    #[must_use]
    pub fn under(self, mode: Liveness) -> Self {
        self.configure(|config| config.with_liveness(Some(mode)))
    }

    /// Makes the table `orders`, its stream, and an empty lease table.
    ///
    /// # Panics
    /// The options make no stream.
    #[must_use]
    pub fn build(self, sim: &Handle) -> Fleet {
        let service = ReferenceStream::new(sim.rt(), self.options.clone());
        let table: TableName = "orders".parse().expect("a legal name");
        let view = StreamViewType::NewAndOldImages;
        let stream = service.create_table(&table, &["id"], view, self.shards).expect("a stream");
        self.build_on(sim, &service, &table, &stream)
    }

    /// A fleet with a lease table of its own on a stream that is there.
    #[must_use]
    pub fn build_on(self, sim: &Handle, service: &ReferenceStream, table: &TableName, stream: &StreamArn) -> Fleet {
        let (service, table, stream) = (service.clone(), table.clone(), stream.clone());
        let leases = MemoryLeaseTable::new().with_page_size(self.scan_page);
        let watch = Watch::attach(sim, &service, &stream, &self.config, self.start);
        let history = History::watched(&watch);
        leases.set_scan_lag(self.scan_lag);
        let source = (self.source)(Arc::new(service.clone()));
        let losses = Losses::new(sim, &service, &stream, &history, self.losses);
        let counted = CountingLeaseTable::new(watch.table(leases.clone()));
        let owners = Owners::default();
        let rewound = Rewound::default();
        let observed = observed(sim, &leases, Arc::new(counted.clone()), &history, &owners, &rewound);
        let (sim, setup, written) = (sim.clone(), self, Arc::default());
        Fleet {
            sim,
            source,
            service,
            stream,
            table,
            leases,
            counted,
            owners,
            observed,
            history,
            watch,
            losses,
            setup,
            rewound,
            written,
        }
    }
}

/// A stream, a lease table, and the history of every processor. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// The run.
    pub sim: Handle,
    /// The service.
    pub service: ReferenceStream,
    /// The stream that is consumed.
    pub stream: StreamArn,
    /// Its table.
    pub table: TableName,
    /// The leases, as they are.
    pub leases: MemoryLeaseTable,
    /// The requests that reached them.
    pub counted: CountingLeaseTable,
    /// Who owned what, and when.
    pub owners: Owners,
    /// What the processors saw and what was recorded.
    pub history: History,
    /// What judges it all.
    pub watch: Watch,
    /// What was reported as lost.
    pub losses: Losses,
    /// What the fleet is like: changes count for workers that join later.
    pub setup: Setup,
    source: Arc<dyn StreamSource>,
    observed: Arc<dyn LeaseTable>,
    /// What an operator took back and nobody has taken since.
    rewound: Rewound,
    written: Arc<AtomicUsize>,
}

/// The table, with a line in the history whenever a call has changed the checkpoint of a lease, and one in the owners' log whenever one
/// has changed its owner.
fn observed(
    sim: &Handle,
    leases: &MemoryLeaseTable,
    inner: Arc<dyn LeaseTable>,
    history: &History,
    owners: &Owners,
    rewound: &Rewound,
) -> Arc<dyn LeaseTable> {
    let told: Mutex<BTreeMap<String, Checkpoint>> = Mutex::default();
    let (owners, rewound) = (owners.clone(), rewound.clone());
    let (sim, leases, history) = (sim.clone(), leases.clone(), history.clone());
    Arc::new(ObservedLeaseTable::new(inner, move |call| {
        if !call.operation.is_write() {
            return;
        }
        let Ok(key) = call.subject.parse() else { return };
        // The table in memory answers at once.
        let Some(Ok(Some(lease))) = leases.get(&key).now_or_never() else { return };
        owners.note(sim.now(), &lease);
        let mut rewound = rewound.lock().unwrap_or_else(PoisonError::into_inner);
        if rewound.get(&call.subject).is_some_and(|left| *left != lease.counter) {
            rewound.remove(&call.subject);
            history.record(sim.now(), Session::WORLD, &lease.shard, Event::Resumed);
        }
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(call.subject.clone(), lease.checkpoint) != Some(lease.checkpoint) {
            history.record(sim.now(), Session::WORLD, &lease.shard, Event::Recorded(lease.checkpoint));
        }
    }))
}

impl Fleet {
    /// Writes `count` items, whose keys are taken from `keys` keys in turn. Each write changes its item.
    ///
    /// # Panics
    /// The table is gone.
    pub fn write(&self, count: usize, keys: usize) {
        for _ in 0..count {
            let number = self.written.fetch_add(1, Ordering::Relaxed);
            let mut item = Item::default();
            item.insert("id".to_owned(), AttributeValue::S(format!("k{}", number % keys)));
            item.insert("number".to_owned(), AttributeValue::N(number.to_string()));
            self.service.put(&self.table, item).expect("the table is there");
        }
    }

    /// Starts a worker whose processors record what they see and behave as the setup says.
    #[must_use]
    pub fn join(&self, name: &str) -> Member {
        let fleet = self.clone();
        self.join_with(name, move |rt| RecordingProcessor::factory(&fleet.sim, rt, &fleet.history, fleet.setup.conduct))
    }

    /// The same, where `decide` says how each call to the lease table fares, and nothing else delays it.
    #[must_use]
    pub fn join_by(&self, name: &str, decide: impl Fn(&LeaseCall) -> LeaseFault + Send + Sync + 'static) -> Member {
        let (fleet, (table, source)) = (self.clone(), self.services());
        let table = Arc::new(FaultyLeaseTable::new(table, self.sim.rt(), decide));
        let place = Place { node: self.sim.node(name), name, table, source, registry: None };
        self.join_at(place, Network::new(&self.sim, name), move |rt| {
            RecordingProcessor::factory(&fleet.sim, rt, &fleet.history, fleet.setup.conduct)
        })
    }

    /// Starts a worker whose processors record what they see and do this with it.
    #[must_use]
    pub fn join_scripted(&self, name: &str, script: Script) -> Member {
        let fleet = self.clone();
        self.join_with(name, move |rt| {
            let (fleet, rt) = (fleet.clone(), rt.clone());
            move |info: &ShardInfo| fleet.recorder(&rt, &info.shard).with_script(script.clone())
        })
    }

    /// A processor that records what it sees.
    #[must_use]
    pub fn recorder(&self, rt: &Rt, shard: &ShardId) -> RecordingProcessor {
        RecordingProcessor::new(&self.sim, rt, &self.history, shard, self.setup.conduct)
    }

    /// Starts a worker with the factory that is made for its runtime.
    ///
    /// The run fails if the worker cannot be built.
    #[must_use]
    pub fn join_with<F>(&self, name: &str, factory: impl FnOnce(&Rt) -> F) -> Member
    where
        F: RecordProcessorFactory,
    {
        let network = Network::new(&self.sim, name);
        let latency = LatencyLeaseTable::new(self.observed.clone(), self.sim.rt(), self.setup.table_latency.clone());
        let table = network.carry(Arc::new(latency));
        let place = Place { node: self.sim.node(name), name, table, source: self.source.clone(), registry: None };
        self.join_at(place, network, factory)
    }

    /// The lease table and the stream as they are, without a network.
    #[must_use]
    pub fn services(&self) -> (Arc<dyn LeaseTable>, Arc<dyn StreamSource>) {
        (self.observed.clone(), self.source.clone())
    }

    /// Starts a worker at a place, with the factory that is made for its runtime.
    ///
    /// The run fails if the worker cannot be built.
    #[must_use]
    pub fn join_at<F>(&self, place: Place<'_>, network: Network, factory: impl FnOnce(&Rt) -> F) -> Member
    where
        F: RecordProcessorFactory,
    {
        let Place { node, name, table, source, registry } = place;
        let (handle, told) = (Arc::new(Mutex::new(None)), Events::of(&self.watch));
        let source = self.watch.source(source);
        let setup = &self.setup;
        let config = setup.config.clone().with_name(name).with_checkpoints(setup.conduct.checkpoints);
        let config = config.with_losses(Arc::new(self.losses.clone()));
        let config = match setup.set_aside_after {
            0 => config,
            attempts => {
                let policy = FailurePolicy::set_aside_after(attempts, Arc::new(Sink::new(self)));
                config.with_failures(policy.with_backoff(Duration::from_millis(100), Duration::from_secs(2)))
            }
        };
        let (fleet, start) = (self.clone(), setup.start);
        // A stream that throttles or cannot be reached for less than this ends no program. The last pause may be 5 s.
        let patience = config.source_timeout.saturating_mul(4).saturating_sub(Duration::from_secs(5));
        let (given, events, here) = (handle.clone(), told.clone(), self.clone());
        let main = node.boot(move |rt| {
            let factory = Shared(Arc::new(factory(&rt)));
            let describe = move || {
                let application = &fleet.setup.application;
                let builder = Worker::builder(application.clone(), source.clone(), table.clone());
                let builder = match fleet.setup.follows_table {
                    true => builder.table(fleet.table.as_str()),
                    false => builder.stream(fleet.stream.as_str()),
                };
                let builder = match &registry {
                    Some(registry) => builder.reader_registry(registry.clone(), application.clone()),
                    None => builder,
                };
                builder.start(start).config(config.clone()).processor(factory.clone())
            };
            here.run(describe, patience, rt, events, given)
        });
        Member { node, network, events: told, handle, main }
    }

    async fn run(
        self,
        describe: impl Fn() -> WorkerBuilder + Send,
        patience: Duration,
        rt: Rt,
        events: Events,
        given: Arc<Mutex<Option<WorkerHandle>>>,
    ) -> Result<Report, RunError> {
        let sim = self.sim.clone();
        let worker = loop {
            let begun = rt.now();
            match describe().rt(rt.clone()).build().await {
                Ok(worker) => break worker,
                Err(BuildError::Stream(error)) if rt.now().since(begun) < patience => {
                    sim.fail(format!("a worker gave up at its start after {:?}: {error:?}", rt.now().since(begun)));
                    std::future::pending::<()>().await;
                }
                // The program ends, and whoever keeps it running starts it again.
                Err(BuildError::Stream(_) | BuildError::Table(_) | BuildError::Registry(_)) => {
                    rt.sleep(START_AGAIN).await
                }
                Err(BuildError::ReaderLimit(limit)) => {
                    self.watch.turned_away(&self.setup.application, &limit.holders);
                    rt.sleep(START_AGAIN).await;
                }
                Err(error) => panic!("the worker is not described well: {error:?}"),
            }
        };
        let mut stream = worker.handle().events();
        let listen = async move {
            while let Some(event) = stream.next().await {
                events.push(sim.now(), event.kind);
            }
        };
        let _listener = rt.spawn("events", TaskClass::Lease, listen);
        *given.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker.handle());
        worker.run().await
    }

    /// The same fleet, whose workers from now on decide this about losses.
    #[must_use]
    pub fn deciding(mut self, decision: LossDecision) -> Self {
        self.losses = self.losses.deciding(decision);
        self
    }

    /// The lease table as an operator writes it.
    #[must_use]
    pub fn operators_table(&self) -> Arc<dyn LeaseTable> {
        let (sim, history, rewound) = (self.sim.clone(), self.history.clone(), self.rewound.clone());
        self.watch.operators_table(self.leases.clone(), move |lease| {
            rewound.lock().unwrap_or_else(PoisonError::into_inner).insert(lease.key.to_string(), lease.counter);
            history.record(sim.now(), Session::WORLD, &lease.shard, Event::Rewound(lease.checkpoint));
        })
    }

    /// The table's streams, oldest first.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamArn> {
        world::streams(&self.service, &self.stream)
    }

    /// The stream that takes what is written, or took it last.
    #[must_use]
    pub fn newest_stream(&self) -> StreamArn {
        self.streams().pop().unwrap_or_else(|| self.stream.clone())
    }

    /// All shards of all streams of the table.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardView> {
        self.streams().iter().flat_map(|stream| self.service.shards(stream)).collect()
    }

    /// What was written by now.
    #[must_use]
    pub fn truth(&self) -> Truth {
        world::truth(&self.service, &self.streams())
    }

    /// What the history shows by now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.history.judge(&self.truth())
    }

    /// Waits until everything that was written is delivered or reported as lost, and returns what the history shows.
    ///
    /// # Panics
    /// That takes longer than `limit`, or something that must never happen has happened.
    pub async fn drained(&self, limit: Duration) -> Verdict {
        let until = self.sim.now() + limit;
        loop {
            let verdict = self.verdict();
            assert!(verdict.violations.is_empty() && self.sim.now() <= until, "seed {}: {verdict}", self.sim.seed());
            if verdict.is_complete() {
                return verdict;
            }
            self.sim.sleep(Duration::from_secs(1)).await;
        }
    }

    /// What there is by now, with these workers alive, for [`Watch::check_end`]. Tasks of workers that have ended are the caller's to
    /// add.
    #[must_use]
    pub fn ending<'a>(&self, living: impl IntoIterator<Item = &'a Member>) -> Ending {
        let truth = self.truth();
        Ending {
            at: self.sim.now(),
            leases: self.leases.leases(),
            shards: self.shards().into_iter().map(Into::into).collect(),
            verdict: self.history.judge(&truth),
            truth,
            owned: living.into_iter().map(|member| (format!("{:?}", member.node), member.owned().len())).collect(),
            leaked: Vec::new(),
        }
    }

    /// The lease of a shard.
    #[must_use]
    pub fn lease(&self, shard: &ShardId) -> Option<Lease> {
        self.leases.leases().into_iter().find(|lease| lease.shard == *shard)
    }
}

/// How long it takes until a program that has failed at its start is started again.
const START_AGAIN: Duration = Duration::from_secs(2);

/// A factory for every start of one program.
struct Shared<F>(Arc<F>);

impl<F> Clone for Shared<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[async_trait]
impl<F: RecordProcessorFactory> RecordProcessorFactory for Shared<F> {
    async fn create(&self, shard: &ShardInfo) -> Result<Box<dyn RecordProcessor>, ProcessError> {
        self.0.create(shard).await
    }
}
