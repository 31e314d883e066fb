//! A fleet of production workers on the reference stream: what the tests of the engine are written with.

mod losses;
mod network;
mod owners;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use kcl_core::reference::{MemoryLeaseTable, ReferenceStream, StreamOptions};
use kcl_core::wrap::{CountingLeaseTable, LatencyLeaseTable, ObservedLeaseTable};
use kcl_core::{
    BuildError, Checkpoint, EventKind, Lease, LeaseTable, Liveness, LossDecision, ProcessError, RecordProcessor,
    RecordProcessorFactory, Report, Rt, RunError, ShardId, ShardInfo, StartPosition, StreamArn, StreamSource,
    StreamViewType, TableName, TaskClass, Worker, WorkerBuilder, WorkerConfig, WorkerHandle,
};
use serde_dynamo::{AttributeValue, Item};

pub use losses::Losses;
pub use network::{Network, Weather};
pub use owners::{Owned, Owners};

use crate::history::{Event, History, Session};
use crate::invariant::records::{Truth, Verdict};
use crate::invariant::{Ending, Seen, Watch};
use crate::world::{self, Conduct, RecordingProcessor, Script};
use crate::{Handle, Main, Node};

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
        let leases = MemoryLeaseTable::new().with_page_size(self.scan_page);
        let watch = Watch::attach(sim, &service, &stream, &self.config, self.start);
        let history = History::watched(&watch);
        leases.set_scan_lag(self.scan_lag);
        let source = (self.source)(Arc::new(service.clone()));
        let losses = Losses::new(sim, &service, &stream, &history, self.losses);
        let counted = CountingLeaseTable::new(watch.table(leases.clone()));
        let owners = Owners::default();
        let observed = observed(sim, &leases, Arc::new(counted.clone()), &history, &owners);
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
) -> Arc<dyn LeaseTable> {
    let told: Mutex<BTreeMap<String, Checkpoint>> = Mutex::default();
    let owners = owners.clone();
    let (sim, leases, history) = (sim.clone(), leases.clone(), history.clone());
    Arc::new(ObservedLeaseTable::new(inner, move |call| {
        if !call.operation.is_write() {
            return;
        }
        let Ok(key) = call.subject.parse() else { return };
        // The table in memory answers at once.
        let Some(Ok(Some(lease))) = leases.get(&key).now_or_never() else { return };
        owners.note(sim.now(), &lease);
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
        let place = Place { node: self.sim.node(name), name, table, source: self.source.clone() };
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
        let Place { node, name, table, source } = place;
        let (handle, told) = (Arc::new(Mutex::new(None)), Events::of(&self.watch));
        let source = self.watch.source(source);
        let setup = &self.setup;
        let config = setup.config.clone().with_name(name).with_checkpoints(setup.conduct.checkpoints);
        let config = config.with_losses(Arc::new(self.losses.clone()));
        let (stream, start) = (self.stream.clone(), setup.start);
        // A stream that throttles or cannot be reached for less than this ends no program. The last pause may be 5 s.
        let patience = (config.source_timeout * 4).saturating_sub(Duration::from_secs(5));
        let (given, events, sim) = (handle.clone(), told.clone(), self.sim.clone());
        let main = node.boot(move |rt| {
            let factory = Shared(Arc::new(factory(&rt)));
            let describe = move || {
                let builder = Worker::builder("sim", source.clone(), table.clone()).stream(stream.as_str());
                builder.start(start).config(config.clone()).processor(factory.clone())
            };
            Self::run(describe, patience, rt, sim, events, given)
        });
        Member { node, network, events: told, handle, main }
    }

    async fn run(
        describe: impl Fn() -> WorkerBuilder + Send,
        patience: Duration,
        rt: Rt,
        sim: Handle,
        events: Events,
        given: Arc<Mutex<Option<WorkerHandle>>>,
    ) -> Result<Report, RunError> {
        let worker = loop {
            let begun = rt.now();
            match describe().rt(rt.clone()).build().await {
                Ok(worker) => break worker,
                Err(BuildError::Stream(error)) if rt.now().since(begun) < patience => {
                    sim.fail(format!("a worker gave up at its start after {:?}: {error:?}", rt.now().since(begun)));
                    std::future::pending::<()>().await;
                }
                // The program ends, and whoever keeps it running starts it again.
                Err(BuildError::Stream(_) | BuildError::Table(_)) => rt.sleep(START_AGAIN).await,
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

    /// What was written by now.
    #[must_use]
    pub fn truth(&self) -> Truth {
        world::truth(&self.service, &self.stream)
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
            shards: self.service.shards(&self.stream).into_iter().map(Into::into).collect(),
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

/// What a worker told, with the true time.
#[derive(Debug, Clone)]
pub struct Events {
    told: Arc<Mutex<Vec<(Duration, EventKind)>>>,
    watch: Watch,
}

impl Events {
    fn of(watch: &Watch) -> Self {
        Self { told: Arc::default(), watch: watch.clone() }
    }

    fn push(&self, at: Duration, kind: EventKind) {
        self.watch.see(&Seen::Told(&kind));
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push((at, kind));
    }

    /// All so far.
    #[must_use]
    pub fn all(&self) -> Vec<(Duration, EventKind)> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many of those so far are such.
    #[must_use]
    pub fn count(&self, such: impl Fn(&EventKind) -> bool) -> usize {
        self.all().iter().filter(|(_, kind)| such(kind)).count()
    }
}

/// Where a worker runs, and what it reaches from there.
#[derive(Debug)]
pub struct Place<'a> {
    /// The machine.
    pub node: Node,
    /// The worker's name; machines of one worker's former and present life may differ.
    pub name: &'a str,
    /// The lease table.
    pub table: Arc<dyn LeaseTable>,
    /// The stream.
    pub source: Arc<dyn StreamSource>,
}

/// A worker that runs on a node.
#[derive(Debug)]
pub struct Member {
    /// The machine.
    pub node: Node,
    /// Its way to the lease table.
    pub network: Network,
    /// What it told.
    pub events: Events,
    handle: Arc<Mutex<Option<WorkerHandle>>>,
    /// Its end.
    pub main: Main<Result<Report, RunError>>,
}

impl Member {
    /// Watches and stops the worker; absent while it is being built.
    #[must_use]
    pub fn handle(&self) -> Option<WorkerHandle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The shards it owns.
    #[must_use]
    pub fn owned(&self) -> Vec<ShardId> {
        let status = self.handle().map(|handle| handle.status());
        status.into_iter().flat_map(|status| status.shards).map(|shard| shard.shard).collect()
    }

    /// Stops the worker gracefully and waits for its end.
    ///
    /// # Panics
    /// It was not built yet, is dead, or ends with an error.
    pub async fn stop(self) -> Report {
        self.handle().expect("built").shutdown();
        self.main.await.expect("alive").expect("a report")
    }

    /// Ends the machine without a word.
    pub fn crash(self) {
        self.node.kill();
    }
}
