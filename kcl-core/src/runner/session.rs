//! One run of a worker under one incarnation: what its jobs work with.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc};
use tracing::Instrument;

use super::bootstrap::Bootstrap;
use super::consumer::{Consumer, ConsumerEnd, GiveUp, StreamSetting};
use super::directory::{Directory, ListingBudget};
use super::fleet::{BEGIN_AGAIN, BEGIN_LATER, Done, WorkerAnswer};
use super::holding::Holding;
use super::keeper::{Keeper, KeeperSetting};
use super::memory::ByteBudget;
use super::pulse::Pulse;
use super::readers::Readers;
use super::subscription::Subscription;
use super::take::{TRIES, TableAccess};
use super::told::{describe, tried_again};
use crate::contract::{
    BootstrapMarker, LeaseErrorKind, LeaseLost, Liveness, Mono, Rt, ShardInfo, ShardIterator, StreamSource, TaskClass,
    TaskHandle, WorkerItem, WorkerState,
};
use crate::model::{KeyForm, Lease, LeaseKey, NewLease, ShardId, StreamArn, WorkerId};
use crate::planted::{self, Bug};
use crate::policy::backoff::Backoff;
use crate::policy::balance::Limits;
use crate::policy::lineage::{self, Absences, MissingLease};
use crate::policy::listing::Listing;
use crate::policy::observe::{Observations, Reply};
use crate::policy::round::Streams;
use crate::policy::succession;
use crate::policy::tenure::{Tenure, Validity};
use crate::surface::config::WorkerConfig;
use crate::surface::event::Events;
use crate::surface::lock;
use crate::surface::status::Board;

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: WorkerId,
    pub(crate) access: TableAccess,
    pub(crate) source: Arc<dyn StreamSource>,
    /// What to begin with.
    pub(crate) streams: Vec<(StreamArn, Arc<Subscription>)>,
    pub(crate) readers: Readers,
    pub(crate) config: Arc<WorkerConfig>,
    pub(crate) form: KeyForm,
    pub(crate) liveness: Liveness,
    /// In PerWorker, what all leases hang on.
    pub(crate) pulse: Option<Arc<Pulse>>,
    /// Takes under way at once are bounded: a worker that inherits thousands of leases must not drown its own heartbeats.
    pub(crate) takes: Semaphore,
    pub(crate) events: Events,
    pub(crate) board: Board,
    pub(crate) budget: ByteBudget,
    pub(crate) listings: ListingBudget,
}

/// A stream whose first leases exist.
#[derive(Debug, Clone)]
pub(crate) struct StreamRun {
    pub(crate) setting: Arc<StreamSetting>,
    marker: BootstrapMarker,
    /// Iterators taken before the beginning was fixed.
    pub(crate) latest: BTreeMap<LeaseKey, ShardIterator>,
    absences: Arc<Mutex<Absences>>,
    /// When the stream is listed next; absent while a listing is under way.
    pub(crate) next_discovery: Option<Mono>,
}

/// Takes under way at once.
pub(super) const TAKES: usize = 64;
/// All that one worker is handed in a round comes at once, and the last of it waits for the takes of the others: with so many, for less than
/// 0.1 s.
const MOVES_PER_ROUND: usize = 300;

impl Session {
    pub(crate) fn takes() -> Semaphore {
        Semaphore::new(TAKES)
    }

    /// The tenure that begins with an acknowledged write sent at `sent`, which left `lease`.
    pub(super) fn tenure(&self, lease: Lease, sent: Validity) -> Tenure {
        let (me, timing) = (self.id.owner(), self.access.timing);
        match &self.pulse {
            Some(pulse) => Tenure::under_worker(me, timing, lease, pulse.validity()),
            None => Tenure::begun(me, timing, lease, sent),
        }
    }

    pub(crate) fn rt(&self) -> &Rt {
        &self.access.rt
    }

    pub(crate) fn limits(&self) -> Limits {
        let d = self.config.lease_duration;
        Limits {
            max_leases: self.config.max_leases,
            min_hold: self.config.min_hold,
            settle: self.config.settle,
            claim_deadline: self.config.observe_every * 3,
            evict_after: self.config.min_hold.saturating_add(d * 3),
            moves_per_round: MOVES_PER_ROUND,
        }
    }

    /// Brings a stream to its beginning.
    pub(super) async fn begin(self: Arc<Self>, stream: StreamArn, subscription: Arc<Subscription>) -> Done {
        let rt = self.rt().clone();
        let source = self.source.clone();
        let timeout = self.config.source_timeout;
        let (events, listings) = (self.events.of(&stream), self.listings.clone());
        let directory = Directory::new(stream.clone(), source.clone(), rt.clone(), events, timeout, listings);
        let directory = Arc::new(directory);
        let bootstrap = Bootstrap {
            access: self.access.clone(),
            source,
            directory: directory.clone(),
            stream: stream.clone(),
            start: subscription.start,
            form: self.form,
        };
        // A lease that does not name its stream is of the first.
        let mut arns: Vec<StreamArn> = self.streams.iter().map(|(stream, _)| stream.clone()).collect();
        arns.push(stream.clone());
        // A listing of many shards takes longer than a lease lasts: only what was seen to be fixed was left to another for long.
        let mut fixed_since = None;
        let mut patience = Backoff::new(BEGIN_AGAIN, BEGIN_LATER);
        loop {
            let begun = match self.access.scan().await {
                Ok(scan) => {
                    let streams = Streams { arns: &arns, form: self.form };
                    let of_stream = |lease: &Arc<Lease>| streams.stream_of(lease) == Some(&stream);
                    let leases: Vec<Arc<Lease>> = scan.leases.into_iter().filter(of_stream).collect();
                    let known = scan.markers.iter().find(|marker| marker.stream == stream);
                    let since = match known {
                        Some(_) => *fixed_since.get_or_insert(rt.now()),
                        None => rt.now(),
                    };
                    bootstrap.run(&leases, known, since).await
                }
                Err(error) => Err(error.into()),
            };
            match begun {
                Ok(Some(begun)) => {
                    let setting = Arc::new(self.stream_setting(&stream, subscription, directory, &begun.marker));
                    let run = StreamRun {
                        setting,
                        marker: begun.marker,
                        latest: begun.latest,
                        absences: Arc::default(),
                        next_discovery: Some(rt.now()),
                    };
                    return Done::Begun(Box::new(run));
                }
                Ok(None) => {}
                // Nothing was begun on it, and nothing of it is left.
                Err(_) if directory.is_known_to_be_gone() => {
                    let successor = self.successor(&stream, &subscription).await;
                    return Done::Vanished { stream, subscription, successor };
                }
                Err(error) => {
                    self.failed(&stream, &error);
                    if error.waits_for_an_operator() {
                        rt.sleep(rt.jitter(patience.next_pause())).await;
                        continue;
                    }
                }
            }
            rt.sleep(rt.jitter(BEGIN_AGAIN)).await;
        }
    }

    /// Something about a whole stream failed, and is tried again.
    fn failed(&self, stream: &StreamArn, error: &(dyn std::error::Error + 'static)) {
        self.board.failed(&describe(error));
        self.events.of(stream).tell(tried_again(None, error));
    }

    fn stream_setting(
        &self,
        stream: &StreamArn,
        subscription: Arc<Subscription>,
        directory: Arc<Directory>,
        marker: &BootstrapMarker,
    ) -> StreamSetting {
        let events = self.events.of(stream);
        StreamSetting {
            stream: stream.clone(),
            source: self.source.clone(),
            directory,
            subscription,
            gate: self.readers.gate(stream, &events, &self.board),
            config: self.config.clone(),
            rt: self.rt().clone(),
            events,
            board: self.board.clone(),
            budget: self.budget.clone(),
            form: self.form,
            me: self.id.owner(),
            began_at: marker.at,
        }
    }

    /// Lists a stream; creates the leases that are missing and deletes tombstones whose shards are gone. Where nothing of it is left to
    /// read, looks for the stream that follows it.
    pub(super) async fn discover(
        self: Arc<Self>,
        run: StreamRun,
        leases: BTreeMap<ShardId, Lease>,
        next: Mono,
    ) -> Done {
        let stream = run.setting.stream.clone();
        let mut successor = None;
        let asked = self.rt().now();
        match run.setting.directory.listing(asked).await {
            Ok(listing) => {
                self.mend(&run, &listing, &leases, &(asked..self.rt().now())).await;
                if succession::is_drained(&listing, &leases) {
                    successor = self.successor(&stream, &run.setting.subscription).await;
                }
            }
            Err(error) => self.failed(&stream, &error),
        }
        Done::Discovered { stream, next, successor }
    }

    /// The stream that follows one that is read to its end, if there is one and it is to be read.
    async fn successor(&self, old: &StreamArn, subscription: &Subscription) -> Option<StreamArn> {
        let call = subscription.next_stream(old, self.source.as_ref());
        match self.rt().timeout(self.config.source_timeout, call).await {
            Some(Ok(next)) => next,
            Some(Err(error)) => {
                self.failed(old, &error);
                None
            }
            None => None,
        }
    }

    async fn mend(&self, run: &StreamRun, listing: &Listing, leases: &BTreeMap<ShardId, Lease>, made: &Range<Mono>) {
        let (missing, tombstones) = {
            let mut absences = lock(&run.absences);
            absences.observe(listing, leases, made);
            let missing = lineage::missing(listing, leases, &absences, self.form, &run.marker, self.access.beginning());
            (missing, absences.tombstones(listing, leases))
        };
        for missing in missing {
            self.create_missing(run, missing).await;
        }
        for (key, guard) in tombstones {
            if let Err(error) = self.access.bounded(self.access.table.delete(&key, &guard)).await {
                tracing::debug!(%error, %key, "a tombstone was not deleted");
            }
        }
    }

    /// Creates the lease of a shard that has none. Where its parent is gone unread, the parent gets a lease instead: whoever takes
    /// that finds the shard gone, and the loss policy is asked before the child begins.
    async fn create_missing(&self, run: &StreamRun, missing: MissingLease) {
        let new = match missing.lost_parent.filter(|_| !planted::is(Bug::AbsentParentSilent)) {
            None => missing.lease,
            Some(parent) => {
                // The scan may have missed the shard's own lease.
                match self.access.bounded(self.access.table.get(&missing.lease.key)).await {
                    Ok(None) => {}
                    Ok(Some(_)) | Err(_) => return,
                }
                NewLease {
                    key: LeaseKey::of(self.form, &run.setting.stream, &parent),
                    shard: parent,
                    parent: None,
                    starting_sequence: None,
                    start_at: missing.lease.start_at,
                    root: false,
                    ..missing.lease
                }
            }
        };
        match self.access.bounded(self.access.table.create(&new)).await {
            Ok(_) => tracing::info!(shard = %new.shard, "created the lease of a shard that had none"),
            Err(error) if matches!(error.kind(), LeaseErrorKind::Conflict { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, shard = %new.shard, "the lease of a shard was not created; tried again")
            }
        }
    }

    /// Removes the item of a worker that is gone.
    pub(super) async fn remove(self: Arc<Self>, worker: WorkerItem) -> Done {
        if let Err(error) = self.access.bounded(self.access.table.delete_worker(&worker)).await {
            tracing::debug!(%error, worker = %worker.id, "the item of a worker that is gone was left");
        }
        Done::Tidied
    }

    /// Reads a worker's item.
    pub(super) async fn ask_for(self: Arc<Self>, id: WorkerId, asked: Reply) -> Done {
        let item = self.item_of(&id).await;
        Done::Worker(WorkerAnswer { id, asked, item, fenced_by_me: false })
    }

    async fn item_of(&self, id: &WorkerId) -> Option<Option<WorkerItem>> {
        let item = self.access.tried(TRIES, || self.access.table.worker(id)).await;
        if let Err(error) = &item {
            tracing::debug!(%error, worker = %id, "the item of a worker could not be read");
        }
        item.ok()
    }

    /// Evicts or fences a worker that is still as it was seen.
    pub(super) async fn mark(self: Arc<Self>, worker: WorkerItem, state: WorkerState, asked: Reply) -> Done {
        let (item, applied) = match self.access.bounded(self.access.table.write_worker(&worker, state)).await {
            Ok(item) => (Some(Some(item)), true),
            Err(error) => {
                tracing::debug!(%error, worker = %worker.id, ?state, "not marked");
                let item = self.item_of(&worker.id).await;
                // Two who both believe that it was theirs do no harm, and none would leave what it held to the next rare look.
                let as_written =
                    matches!(&item, Some(Some(item)) if (item.state, item.counter) == (state, worker.counter.next()));
                (item, error.is_unknown() && as_written)
            }
        };
        let fenced_by_me = applied && state == WorkerState::Fenced;
        Done::Worker(WorkerAnswer { id: worker.id, asked, item, fenced_by_me })
    }

    pub(super) fn spawn_keeper(&self, tenure: Tenure, setting: &StreamSetting) -> (Arc<Holding>, TaskHandle<()>) {
        let lease = tenure.lease().clone();
        let name = format!("keeper {}", lease.shard);
        let span = tracing::info_span!("lease", shard = %lease.shard, worker = %self.id);
        let (timing, pulse, rt) = (self.access.timing, self.pulse.clone(), self.rt().clone());
        let (holding, orders) = Holding::new(lease, timing, tenure.validity(), pulse, rt);
        let keeper = KeeperSetting {
            table: self.access.table.clone(),
            rt: self.rt().clone(),
            timing: self.access.timing,
            checkpoint_every: setting.config.checkpoint_every,
            events: setting.events.clone(),
            denials: self.access.denials.clone(),
        };
        let keeper = Keeper::new(keeper, holding.clone(), tenure, orders);
        (holding, self.rt().spawn(name, TaskClass::Lease, keeper.run().instrument(span)))
    }

    pub(super) fn spawn_consumer(
        &self,
        setting: &Arc<StreamSetting>,
        holding: &Arc<Holding>,
        give_up: &GiveUp,
        info: ShardInfo,
        latest: Option<ShardIterator>,
        endings: mpsc::Sender<(LeaseKey, ConsumerEnd)>,
    ) -> TaskHandle<()> {
        let name = format!("consumer {}", info.shard);
        let span = tracing::info_span!("shard", shard = %info.shard, worker = %self.id);
        let key = holding.lease.key.clone();
        let holding = holding.clone();
        let consumer = Consumer::new(setting.clone(), holding.clone(), give_up.clone(), info, latest);
        let task = async move {
            // User code is called inside its own guard; this one keeps a fault of ours from holding the lease for ever.
            let end = std::panic::AssertUnwindSafe(consumer.run()).catch_unwind().await;
            let end = end.unwrap_or_else(|_panic| {
                holding.lose(LeaseLost::Expired);
                ConsumerEnd::Lost
            });
            // The fleet may have ended first; then nobody waits.
            let _nobody_waits = endings.send((key, end)).await;
        };
        self.rt().spawn(name, TaskClass::Processing, task.instrument(span))
    }
}

/// The leases of one stream that were seen, by shard.
pub(super) fn leases_of(seen: &Observations, run: &StreamRun, form: KeyForm) -> BTreeMap<ShardId, Lease> {
    let arns = std::slice::from_ref(&run.setting.stream);
    let streams = Streams { arns, form };
    let leases = seen.leases().values().map(|seen| &*seen.item);
    leases
        .filter(|lease| streams.stream_of(lease).is_some())
        .map(|lease| (lease.shard.clone(), lease.clone()))
        .collect()
}
