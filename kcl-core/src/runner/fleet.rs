//! The runner of one worker in its fleet: looks at the lease table, carries out its lines of the plan, starts and ends consumers.
//!
//! ```text
//!   observe (scan) ──► view ──► plan ──► take │ hand over │ evict        (every `observe_every`)
//!   list the stream ──► lineage ──► create missing leases │ delete tombstones (every `discover_every` × workers)
//!   a consumer ended ──► its children begin at once
//! ```
//! Every request runs beside the loop as a [`Job`], so that a slow table delays nobody. The loop holds no policy.

mod alarm;
mod expect;
mod follow;
mod leave;
mod recall;
mod rest;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::consumer::{ConsumerEnd, GiveUp};
use super::holding::Holding;
use super::member::Member;
use super::session::{Session, StreamRun};
use super::subscription::Subscription;
use super::take::{Scan, Taking};
use crate::contract::{LeaseError, LeaseErrorKind, Liveness, Mono, ShardInfo, StartReason, TaskHandle};
use crate::model::{Lease, LeaseKey, StreamArn, WorkerId};
use crate::planted::{self, Bug};
use crate::policy::attention;
use crate::policy::balance::{Balance, Move};
use crate::policy::observe::Observations;
use crate::policy::pacing;
use crate::policy::round::{self, Streams};
use crate::policy::tenure::{Tenure, Validity};
use crate::surface::event::EventKind;
use crate::surface::metrics;

use expect::{Lookout, WatchEnd};
use rest::Rest;
pub(super) use watch::WorkerAnswer;

/// A request that runs beside the loop, and what it brings.
pub(super) type Job = BoxFuture<'static, Done>;

/// What a job brought.
pub(super) enum Done {
    Scanned(Result<Scan, LeaseError>),
    Took {
        key: LeaseKey,
        reason: StartReason,
        taking: Taking,
    },
    Worker(WorkerAnswer),
    /// How often the fleet was told to look, where the table answered.
    Rings(Option<u64>),
    Wrote {
        key: LeaseKey,
        lease: Option<Lease>,
    },
    Discovered {
        stream: StreamArn,
        next: Mono,
        /// The stream that follows it, which is read to its end.
        successor: Option<StreamArn>,
    },
    Begun(Box<StreamRun>),
    /// The stream was gone before anything was begun on it.
    Vanished {
        stream: StreamArn,
        subscription: Arc<Subscription>,
        successor: Option<StreamArn>,
    },
    /// What was seen of a lease that was expected.
    Expected {
        key: LeaseKey,
        end: WatchEnd,
    },
    /// Nothing that concerns the loop.
    Tidied,
}

/// A shard that this worker owns.
#[derive(Debug)]
struct Held {
    holding: Arc<Holding>,
    give_up: GiveUp,
    _keeper: TaskHandle<()>,
    consumer: TaskHandle<()>,
}

/// Why a fleet runner stopped working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkEnd {
    /// As asked.
    Shutdown,
    /// The fleet has given this incarnation up.
    Fenced,
}

/// How the shards were given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drained {
    /// By their consumers.
    pub(crate) released: usize,
    /// Calls did not return in time.
    pub(crate) abandoned: usize,
    /// A call that blocks its thread runs on.
    pub(crate) running: bool,
}

/// Consumers that may have ended before the loop looks.
const ENDINGS: usize = 64;

pub(crate) struct Fleet {
    session: Arc<Session>,
    seen: Observations,
    balance: Balance,
    /// Set while there is nothing to plan.
    rest: Option<Rest>,
    streams: BTreeMap<StreamArn, StreamRun>,
    /// All streams that were begun with, those too that are not ready yet.
    begun: BTreeSet<StreamArn>,
    held: BTreeMap<LeaseKey, Held>,
    pending: BTreeSet<LeaseKey>,
    lookout: Lookout,
    jobs: FuturesUnordered<Job>,
    /// What consumers say at their end: each has a clone of the sender.
    ending: mpsc::Sender<(LeaseKey, ConsumerEnd)>,
    ended: mpsc::Receiver<(LeaseKey, ConsumerEnd)>,
    /// Foreign items that were reported already.
    foreign: BTreeSet<String>,
    observing: bool,
    /// What is under way may have begun too early: look again.
    look_again: bool,
    /// From one look to the next.
    pace: Duration,
    next_watch: Mono,
    /// How often the fleet had been told to look, when it was last asked.
    rings: Option<u64>,
    /// The owners that are doubted, as of the news that had been seen by then.
    doubted: Option<(u64, BTreeSet<WorkerId>)>,
    /// Workers that a request is under way for.
    asking: BTreeSet<WorkerId>,
    /// Silent workers whose leases were looked up before their time is over.
    alarmed: BTreeSet<WorkerId>,
    /// The worker stops and hands over what it has, from this instant on.
    leaving: Option<Mono>,
    /// The worker stops: nothing is begun any more.
    draining: bool,
    next_observation: Mono,
    /// When the plan will have more for this worker.
    next_move: Option<Mono>,
    /// When a lease of another worker expires that was not seen to be renewed.
    next_expiry: Option<Mono>,
    /// When the last whole scan was received.
    last_look: Mono,
    /// When the scan was begun that is under way, or the last one.
    look_began: Mono,
    /// How long the last whole scan took.
    look_took: Duration,
}

impl Fleet {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        let next_observation = session.rt().now();
        let pace = session.config.observe_every;
        let (ending, ended) = mpsc::channel(ENDINGS);
        Self {
            session,
            seen: Observations::default(),
            balance: Balance::default(),
            rest: None,
            streams: BTreeMap::new(),
            begun: BTreeSet::new(),
            held: BTreeMap::new(),
            pending: BTreeSet::new(),
            lookout: Lookout::default(),
            jobs: FuturesUnordered::new(),
            ending,
            ended,
            foreign: BTreeSet::new(),
            observing: false,
            look_again: false,
            pace,
            next_watch: next_observation,
            rings: None,
            doubted: None,
            asking: BTreeSet::new(),
            alarmed: BTreeSet::new(),
            leaving: None,
            draining: false,
            next_observation,
            next_move: None,
            next_expiry: None,
            last_look: next_observation,
            look_began: next_observation,
            look_took: Duration::ZERO,
        }
    }

    /// Works until asked to stop, or until the fleet has given this incarnation up.
    pub(crate) async fn work(&mut self, member: &mut Member, shutdown: &CancellationToken) -> WorkEnd {
        let session = self.session.clone();
        let mut stay = std::pin::pin!(member.stay());
        for (stream, subscription) in &session.streams {
            self.begin(stream.clone(), subscription.clone());
        }
        let fenced = loop {
            session.board.turned();
            let alarm = self.next_alarm();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break false,
                () = &mut stay => break true,
                Some((key, end)) = self.ended.recv() => self.consumer_ended(&key, end),
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.done(done),
                () = session.rt().sleep_until(alarm) => self.alarm(),
            }
        };
        if fenced { WorkEnd::Fenced } else { WorkEnd::Shutdown }
    }

    fn observe(&mut self) {
        self.observing = true;
        self.look_began = self.session.rt().now();
        let session = self.session.clone();
        self.jobs.push(Box::pin(async move { Done::Scanned(session.access.scan().await) }));
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Scanned(scan) => self.scanned(scan),
            Done::Took { key, reason, taking } => {
                self.pending.remove(&key);
                let now = self.session.rt().now();
                match taking {
                    Taking::Taken(lease, sent) => {
                        self.seen.lease(lease.clone(), now);
                        self.start(self.session.tenure(lease, Validity::from_write(sent)), reason);
                    }
                    Taking::NotTaken(Some(lease)) => self.seen.lease(*lease, now),
                    Taking::NotTaken(None) => {}
                }
            }
            Done::Worker(answer) => self.worker_answered(answer),
            Done::Rings(rings) => self.heard(rings),
            Done::Wrote { key, lease } => {
                self.pending.remove(&key);
                if let Some(lease) = lease {
                    self.seen.lease(lease, self.session.rt().now());
                }
            }
            Done::Discovered { stream, next, successor } => {
                if let Some(run) = self.streams.get_mut(&stream) {
                    run.next_discovery = Some(next);
                    let subscription = run.setting.subscription.clone();
                    self.drained(&stream, &subscription, successor);
                }
                self.look_now();
            }
            Done::Begun(run) => {
                self.rest = None;
                self.streams.insert(run.setting.stream.clone(), *run);
                // Its leases exist: look at once.
                self.look_now();
            }
            Done::Vanished { stream, subscription, successor } => self.follow(&stream, &subscription, successor),
            Done::Expected { key, end } => self.expected(&key, end),
            Done::Tidied => {}
        }
    }

    fn scanned(&mut self, scan: Result<Scan, LeaseError>) {
        let now = self.session.rt().now();
        self.observing = false;
        let again = std::mem::take(&mut self.look_again);
        self.next_observation = now + self.session.rt().jitter(self.session.config.observe_every);
        let scan = match scan {
            Ok(scan) => scan,
            Err(error) => {
                let text = super::told::describe(&error);
                self.session.board.look_failed(&text);
                if matches!(error.kind(), LeaseErrorKind::Denied { .. }) {
                    // Told by the call itself.
                    return;
                }
                return self.session.events.tell(EventKind::LeaseTableUnavailable { error: text });
            }
        };
        self.follow_others(&scan);
        let foreign: BTreeSet<String> = scan.foreign.iter().map(|(key, _)| key.clone()).collect();
        self.foreign.retain(|key| foreign.contains(key));
        for (key, why) in scan.foreign {
            if self.foreign.insert(key.clone()) {
                self.session.events.tell(EventKind::ForeignItem { key, why });
            }
        }
        self.last_look = now;
        self.look_took = now.since(self.look_began);
        self.session.board.looked();
        self.seen.scanned(scan.leases, scan.workers, now);
        self.act(now);
        self.next_observation = if again { now } else { self.next_look(now) };
    }

    /// Carries out this worker's lines of the plan.
    fn act(&mut self, now: Mono) {
        if self.stays_at_rest(now) {
            return;
        }
        let session = self.session.clone();
        let timing = session.access.timing;
        let held = self.held_keys();
        let own = self.own(&held);
        let arns = self.arns();
        let streams = Streams { arns: &arns, form: session.form };
        let view = round::view(&self.seen, &own, &streams, session.limits(), timing, now);
        let (blocked, stopped) = (attention::blocked(&self.seen, &streams), attention::stopped(&self.seen, &streams));
        let waits = !blocked.is_empty();
        session.board.seen(view.workers.len(), view.leases.len(), blocked, stopped);
        session.listings.shared_by(view.workers.len());
        let plan = self.balance.plan(&view);
        self.next_move = plan.next;
        if let Some(from) = self.leaving {
            self.pace = session.config.observe_every;
            if now >= from {
                plan.moves.into_iter().for_each(|planned| self.carry_out(planned, &streams));
            }
            return;
        }
        let unclaimed = round::unclaimed(&self.seen, &self.own(&held), &streams);
        let unclaimed: Vec<Lease> = unclaimed.into_iter().cloned().collect();
        let (workers, jobs) = (view.workers.len(), self.jobs.len());
        let at_rest = !waits && self.balance.is_at_rest(&view, &plan);
        let coming = self.pending.len();
        self.pace = pacing::pace(
            session.liveness,
            session.config.observe_every,
            &view,
            held.len() + coming,
            !plan.expected.is_empty(),
        );
        self.heed_operators(&held, &streams);
        for lease in unclaimed {
            self.take(lease, StartReason::TakenOver, &streams);
        }
        for planned in plan.moves {
            self.carry_out(planned, &streams);
        }
        self.look_after(&held, now);
        self.look_out_for(plan.expected);
        // Whatever was begun is a job.
        if at_rest && self.jobs.len() == jobs {
            self.come_to_rest(workers, now);
        }
        self.discover(now, workers);
        self.set_next_expiry(now);
    }

    fn carry_out(&mut self, planned: Move, streams: &Streams<'_>) {
        match planned {
            Move::Take(key) => {
                let Some(lease) = self.seen.leases().get(&key).map(|seen| Lease::clone(&seen.item)) else { return };
                let untouched = lease.counter.is_beginning() && lease.checkpoint.sequence().is_none();
                let reason = match (&lease.owner, untouched, &lease.intended_for) {
                    (Some(_), _, _) => StartReason::TakenOver,
                    (None, true, None) => StartReason::New,
                    (None, _, _) => StartReason::HandedOver,
                };
                self.take(lease, reason, streams);
            }
            Move::HandOver { key, to } => {
                if let Some(held) = self.held.get(&key) {
                    held.give_up.ask(Some(to.owner()));
                }
            }
            Move::Evict(key) if planted::is(Bug::TheftNotEviction) => self.carry_out(Move::Take(key), streams),
            Move::Evict(key) => {
                let Some(lease) = self.seen.leases().get(&key).map(|seen| Lease::clone(&seen.item)) else { return };
                if let (Liveness::PerWorker, Some(owner)) = (self.session.liveness, &lease.owner) {
                    return self.evict_worker(owner);
                }
                if lease.evicted || !self.pending.insert(key.clone()) {
                    return;
                }
                let session = self.session.clone();
                self.jobs.push(Box::pin(async move {
                    let lease = session.access.evict(&lease, session.id.owner()).await;
                    Done::Wrote { key, lease }
                }));
            }
        }
    }

    fn take(&mut self, lease: Lease, reason: StartReason, streams: &Streams<'_>) {
        if self.held.contains_key(&lease.key) || !self.pending.insert(lease.key.clone()) {
            return;
        }
        let session = self.session.clone();
        let parents = round::parents_to_read(&lease, streams);
        self.jobs.push(Box::pin(async move {
            let key = lease.key.clone();
            // Never closed.
            let _permit = session.takes.acquire().await;
            let taking = session.access.take(&session.id, lease, &parents).await;
            Done::Took { key, reason, taking }
        }));
    }

    /// Lists the streams whose turn it is, and mends what the listing shows.
    fn discover(&mut self, now: Mono, workers: usize) {
        let session = self.session.clone();
        let every = session.config.discover_every.saturating_mul(u32::try_from(workers).unwrap_or(u32::MAX));
        for run in self.streams.values_mut() {
            // A look that began before may not show leases that were just created, and each would be created once more.
            if run.next_discovery.is_none_or(|at| at > self.look_began) {
                continue;
            }
            run.next_discovery = None;
            let leases = super::session::leases_of(&self.seen, run, session.form);
            let next = now + session.rt().jitter(every);
            self.jobs.push(Box::pin(session.clone().discover(run.clone(), leases, next)));
        }
    }

    /// Begins with a shard: a keeper for its lease, a consumer for its records.
    fn start(&mut self, tenure: Tenure, reason: StartReason) {
        let session = self.session.clone();
        let lease = tenure.lease().clone();
        if self.draining {
            return self.give_back(lease);
        }
        let arns = self.arns();
        let stream = Streams { arns: &arns, form: session.form }.stream_of(&lease).cloned();
        let Some(run) = stream.and_then(|stream| self.streams.get_mut(&stream)) else { return };
        if self.held.contains_key(&lease.key)
            || self.pending.contains(&lease.key)
            || !tenure.holds(&session.rt().stamp())
        {
            // It names this incarnation: the next look at the table takes it again by a write.
            return;
        }
        let latest = run.latest.remove(&lease.key).filter(|_| lease.checkpoint.sequence().is_none());
        let info = ShardInfo {
            stream: run.setting.stream.clone(),
            shard: lease.shard.clone(),
            parents: lease.parents.iter().cloned().collect(),
            epoch: u64::try_from(lease.counter.0).unwrap_or_default(),
            reason,
        };
        run.setting.events.tell(EventKind::LeaseAcquired { shard: lease.shard.clone(), reason });
        session.board.begin(&lease.key, &info);
        session.readers.want(&run.setting.stream);
        let give_up = GiveUp::default();
        let (holding, keeper) = session.spawn_keeper(tenure, &run.setting);
        let consumer = session.spawn_consumer(&run.setting, &holding, &give_up, info, latest, self.ending.clone());
        let key = lease.key;
        self.rest = None;
        self.held.insert(key, Held { holding, give_up, _keeper: keeper, consumer });
        metrics::owned(self.held.len());
    }

    fn consumer_ended(&mut self, key: &LeaseKey, end: ConsumerEnd) {
        self.rest = None;
        self.held.remove(key);
        self.session.board.end(key);
        metrics::owned(self.held.len());
        match end {
            ConsumerEnd::Finished { children } => {
                let now = self.session.rt().now();
                self.seen.forget_lease(key);
                if children.is_empty() {
                    // They may exist, created by a try whose answer was lost.
                    self.look_now();
                }
                for (child, validity) in children {
                    self.seen.lease(child.clone(), now);
                    self.start(self.session.tenure(child, validity), StartReason::ParentFinished);
                }
            }
            ConsumerEnd::Stopped | ConsumerEnd::Released => self.seen.forget_lease(key),
            ConsumerEnd::Lost => {}
        }
    }
}

/// How long a beginning that could not be made is left alone.
pub(super) const BEGIN_AGAIN: Duration = Duration::from_secs(1);
/// The longest pause before a beginning that nothing but an operator can help: each try reads the whole lease table.
pub(super) const BEGIN_LATER: Duration = Duration::from_secs(30);
