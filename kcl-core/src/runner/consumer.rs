//! The consumer of one shard: reads it, drives the processor, and gives the shard up at its end.
//!
//! ```text
//!            ┌───────── one task ─────────┐
//!  source ──►│ fetch ──pages──► deliver   │──► processor
//!            └───────────────────│────────┘
//!                                ▼ acknowledgements, parting
//!                              keeper
//! ```
//! The task runs beside user code, which may block its thread: then this shard waits, its lease does not.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::deliver::{Deliver, Exit};
use super::directory::Directory;
use super::fetch::Fetch;
use super::holding::{Holding, Parted, Parting};
use super::memory::{Ahead, ByteBudget};
use super::readers::Gate;
use super::subscription::Subscription;
use super::told::in_brief;
use crate::contract::{
    Checkpointer, LeaseLost, ProcessError, RecordProcessor, RecordProcessorFactory, Rt, ShardContext, ShardInfo,
    ShardIterator, Start, StartReason, StreamSource,
};
use crate::model::{IteratorPosition, KeyForm, Lease, LeaseCounter, Owner, SequenceNumber, Shard, StreamArn};
use crate::planted::{self, Bug};
use crate::policy::lineage;
use crate::policy::retry::{AfterFailure, Attempts};
use crate::policy::start::{self, StartFilter};
use crate::policy::tenure::Validity;
use crate::surface::config::WorkerConfig;
use crate::surface::event::{EventKind, Events};
use crate::surface::status::{Board, ShardState};

/// What all consumers of one stream share.
#[derive(Debug)]
pub(crate) struct StreamSetting {
    pub(crate) stream: StreamArn,
    pub(crate) source: Arc<dyn StreamSource>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) subscription: Arc<Subscription>,
    /// What every read goes through.
    pub(crate) gate: Gate,
    pub(crate) config: Arc<WorkerConfig>,
    pub(crate) rt: Rt,
    pub(crate) events: Events,
    pub(crate) board: Board,
    pub(crate) budget: ByteBudget,
    pub(crate) form: KeyForm,
    pub(crate) me: Owner,
    /// When the application began on this stream.
    pub(crate) began_at: SystemTime,
}

/// A factory, as the engine holds it.
#[derive(Clone)]
pub(crate) struct Factory(pub(crate) Arc<dyn RecordProcessorFactory>);

impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Factory")
    }
}

/// Asks a consumer to give its shard up after the running call.
#[derive(Debug, Clone, Default)]
pub(crate) struct GiveUp {
    asked: CancellationToken,
    intended_for: Arc<OnceLock<Owner>>,
}

impl GiveUp {
    pub(crate) fn ask(&self, intended_for: Option<Owner>) {
        if let Some(owner) = intended_for {
            // The first intention stands.
            let _first_stands = self.intended_for.set(owner);
        }
        self.asked.cancel();
    }

    pub(crate) fn asked(&self) -> &CancellationToken {
        &self.asked
    }
}

/// How a consumer ended.
#[derive(Debug)]
pub(crate) enum ConsumerEnd {
    /// The shard is finished; this worker owns these children.
    Finished { children: Vec<(Lease, Validity)> },
    /// The shard is stopped by policy.
    Stopped,
    /// The shard was given away.
    Released,
    /// The lease was lost.
    Lost,
}

pub(crate) struct Consumer {
    pub(crate) setting: Arc<StreamSetting>,
    pub(crate) holding: Arc<Holding>,
    pub(crate) give_up: GiveUp,
    pub(crate) info: ShardInfo,
    /// Taken before the application's beginning was fixed: the shard need not be read from its start.
    pub(crate) latest: Option<ShardIterator>,
    attempts: Attempts,
    filter: StartFilter,
    /// The first record that passed the filter.
    pub(crate) first_wanted: Option<SequenceNumber>,
    /// Where the instance said that its own store is.
    start: Option<SequenceNumber>,
}

impl Consumer {
    pub(crate) fn new(
        setting: Arc<StreamSetting>,
        holding: Arc<Holding>,
        give_up: GiveUp,
        info: ShardInfo,
        latest: Option<ShardIterator>,
    ) -> Self {
        let filter = StartFilter::new(holding.lease.start_at, setting.config.start_slack);
        let attempts = Attempts::default();
        Self { setting, holding, give_up, info, latest, attempts, filter, first_wanted: None, start: None }
    }

    /// Reads the shard until it is finished, given up, stopped or lost.
    pub(crate) async fn run(mut self) -> ConsumerEnd {
        loop {
            let (exit, processor) = match self.start_instance().await {
                Ok((processor, context)) => self.read(processor, context).await,
                Err(exit) => (exit, None),
            };
            match exit {
                Exit::Replace(pause) => {
                    self.info.reason = StartReason::InstanceReplaced;
                    if let Err(exit) = self.pause(pause).await {
                        return self.end(exit, None).await;
                    }
                }
                exit => return self.end(exit, processor).await,
            }
        }
    }

    fn context(&self) -> ShardContext {
        let checkpointer = Checkpointer::new(self.holding.clone());
        let pending = self.holding.pending();
        ShardContext::new(self.info.clone(), checkpointer, self.holding.lost().clone(), pending)
    }

    /// Makes an instance and initialises it, as often as the failure policy allows.
    async fn start_instance(&mut self) -> Result<(Box<dyn RecordProcessor>, ShardContext), Exit> {
        self.setting.board.state(&self.holding.lease.key, ShardState::Starting);
        loop {
            let context = self.context();
            let factory = self.setting.subscription.factory.0.clone();
            let info = self.info.clone();
            let started = super::call::guarded(&self.holding, &self.setting, async move {
                let mut processor = factory.create(&info).await?;
                let start = processor.initialize(&context).await?;
                Ok((processor, context, start))
            })
            .await;
            let failure = match started {
                Ok((processor, context, start)) => {
                    self.start = None;
                    if let Start::After(at) = start {
                        let mut progress = self.holding.progress();
                        progress.start_after(at);
                        // What follows is wanted, wherever the application began.
                        progress.pass_filter(at);
                        self.filter = StartFilter::open();
                        self.start = Some(at);
                    }
                    return Ok((processor, context));
                }
                Err(failure) => failure.into_error()?,
            };
            match self.failed(&failure, None) {
                AfterFailure::Retry(pause) => self.pause(pause).await?,
                AfterFailure::GiveUp => return Err(Exit::processor_failed(&failure)),
            }
        }
    }

    /// Counts a failure of a delivery up to `reached`, tells of it, and says what follows.
    pub(crate) fn failed(&mut self, error: &ProcessError, reached: Option<SequenceNumber>) -> AfterFailure {
        let acknowledged = self.holding.progress().acknowledged();
        let next = self.attempts.failed(&self.setting.config.failures, acknowledged, reached, error.is_permanent());
        self.tell_failure(error);
        next
    }

    /// The same of a call that is no delivery, after which the instance is replaced.
    pub(crate) fn failed_outside(&mut self, error: &ProcessError) -> AfterFailure {
        let acknowledged = self.holding.progress().acknowledged();
        let next = self.attempts.failed_outside(&self.setting.config.failures, acknowledged, error.is_permanent());
        self.tell_failure(error);
        next
    }

    fn tell_failure(&self, error: &ProcessError) {
        let error = in_brief(error);
        self.setting.board.error(&self.holding.lease.key, &error);
        self.setting.events.tell(EventKind::ProcessorFailed {
            shard: self.info.shard.clone(),
            attempt: self.attempts.count(),
            error,
        });
    }

    pub(crate) fn succeeded(&mut self, reached: Option<SequenceNumber>) {
        self.attempts.succeeded(reached);
    }

    /// A call between batches succeeded: progress, unless it may have left something for later.
    pub(crate) fn succeeded_outside(&mut self) {
        let nothing_open = {
            let progress = self.holding.progress();
            progress.acknowledged() == progress.delivered()
        };
        if nothing_open {
            self.attempts.settled();
        }
    }

    pub(crate) fn filter(&mut self) -> &mut StartFilter {
        &mut self.filter
    }

    /// Waits, unless the shard has to be given up first.
    pub(crate) async fn pause(&self, time: std::time::Duration) -> Result<(), Exit> {
        tokio::select! {
            biased;
            () = self.holding.lost().cancelled() => Err(Exit::Lost),
            () = self.give_up.asked().cancelled() => Err(Exit::GiveUp),
            () = self.setting.rt.sleep(self.setting.rt.jitter(time)) => Ok(()),
        }
    }

    /// Where reading begins.
    fn position(&self) -> IteratorPosition {
        let mut acknowledged = self.holding.progress().acknowledged();
        if planted::is(Bug::ReplacedFromDelivered) {
            acknowledged = self.holding.progress().delivered();
        }
        match (self.start, acknowledged, self.first_wanted) {
            (Some(at), _, _) => IteratorPosition::After(at),
            (None, None, Some(first)) => IteratorPosition::At(first),
            (None, acknowledged, _) => start::first_position(&self.holding.lease, acknowledged),
        }
    }

    /// Fetches and delivers, side by side, until one of them has a reason to end.
    async fn read(
        &mut self,
        processor: Box<dyn RecordProcessor>,
        context: ShardContext,
    ) -> (Exit, Option<Box<dyn RecordProcessor>>) {
        let latest = self.latest.take().filter(|_| self.start.is_none());
        let from = (self.position(), latest);
        let (pages, received) = mpsc::channel(self.setting.config.prefetch);
        let fetch = Fetch::new(
            self.setting.clone(),
            self.holding.clone(),
            self.info.clone(),
            context.clone(),
            from,
            Ahead::default(),
            pages,
        );
        let deliver = Deliver::new(self, processor, context, received);
        let mut fetch = std::pin::pin!(fetch.run().fuse());
        let mut deliver = std::pin::pin!(deliver.run().fuse());
        loop {
            // The fetching side first: it asks for the next page while the processor has the one before.
            futures::select_biased! {
                // Its last word is in the channel.
                () = fetch => {}
                ended = deliver => return ended,
            }
        }
    }

    /// Calls the processor's last method and gives the lease up.
    async fn end(self, exit: Exit, processor: Option<Box<dyn RecordProcessor>>) -> ConsumerEnd {
        let parting = match exit {
            Exit::Ended { children } => return self.finish(&children, processor).await,
            Exit::Stop(reason) => Parting::Stop { reason },
            Exit::GiveUp => Parting::Release { intended_for: self.give_up.intended_for.get().cloned() },
            Exit::Lost | Exit::Replace(_) => {
                let why = self.holding.why_lost();
                return self.lost(why, processor).await;
            }
        };
        self.setting.board.state(&self.holding.lease.key, ShardState::Ending);
        let mut processor = processor;
        if let Some(instance) = processor.as_mut() {
            let context = self.context();
            let told = super::call::guarded(&self.holding, &self.setting, instance.shutdown_requested(&context)).await;
            match told.map_err(|failure| failure.into_error()) {
                Ok(()) => {}
                Err(Ok(error)) => self.tell_failure(&error),
                Err(Err(_lost)) => {
                    let why = self.holding.why_lost();
                    return self.lost(why, processor).await;
                }
            }
        }
        let stopped = match &parting {
            Parting::Stop { reason } => Some(reason.clone()),
            Parting::Release { .. } | Parting::Finish { .. } => None,
        };
        match self.holding.part(parting).await {
            Parted::Lost(why) => self.lost(why, processor).await,
            Parted::Done { .. } => match stopped {
                Some(reason) => {
                    self.setting.events.tell(EventKind::ShardStopped { shard: self.info.shard.clone(), reason });
                    ConsumerEnd::Stopped
                }
                None => {
                    self.setting.events.tell(EventKind::LeaseReleased { shard: self.info.shard.clone() });
                    ConsumerEnd::Released
                }
            },
        }
    }

    async fn finish(self, children: &[Shard], processor: Option<Box<dyn RecordProcessor>>) -> ConsumerEnd {
        self.setting.board.state(&self.holding.lease.key, ShardState::Ending);
        let parent = self.lease_with_filter();
        let leases = lineage::finish_children(
            children,
            &parent,
            &self.setting.stream,
            Some(&self.setting.me),
            self.setting.form,
            LeaseCounter::beginning(self.setting.rt.stamp().wall),
        );
        match self.holding.part(Parting::Finish { children: leases }).await {
            Parted::Lost(why) => self.lost(why, processor).await,
            Parted::Done { children: owned } => {
                self.setting.events.tell(EventKind::ShardFinished {
                    shard: self.info.shard.clone(),
                    children: children.iter().map(|child| child.id.clone()).collect(),
                });
                ConsumerEnd::Finished { children: owned }
            }
        }
    }

    /// The lease, without the start filter once a record has passed it.
    fn lease_with_filter(&self) -> Lease {
        let mut lease = self.holding.lease.clone();
        if !self.filter.is_active() {
            lease.start_at = None;
        }
        lease
    }

    async fn lost(self, why: LeaseLost, processor: Option<Box<dyn RecordProcessor>>) -> ConsumerEnd {
        self.holding.lose(why);
        self.setting.events.tell(EventKind::LeaseLost { shard: self.info.shard.clone(), why });
        if let Some(mut processor) = processor {
            super::call::last_word(&self.setting, processor.lease_lost(&why)).await;
        }
        ConsumerEnd::Lost
    }
}
