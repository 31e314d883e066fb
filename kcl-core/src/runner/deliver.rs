//! Hands pages to the processor, one call at a time, until the shard ends or has to be given up.

use std::time::Duration;

use tokio::sync::mpsc;

use super::call::{CallFailure, guarded};
use super::consumer::Consumer;
use super::fetch::{Fetched, FetchedPage};
use super::told::in_brief;
use crate::contract::{FailureAction, FailureSink, Mono, ProcessError, RecordProcessor, ShardContext};
use crate::model::{SequenceNumber, Shard, StopReason};
use crate::planted::{self, Bug};
use crate::policy::retry::AfterFailure;
use crate::policy::start::StartFilter;
use crate::record::{Record, RecordBatch};
use crate::surface::config::Checkpoints;
use crate::surface::event::EventKind;
use crate::surface::metrics;
use crate::surface::status::ShardState;

/// Why reading ended.
#[derive(Debug)]
pub(crate) enum Exit {
    /// Every record was delivered and acknowledged; these shards continue.
    Ended { children: Vec<Shard> },
    /// Discard the instance and start another one at the checkpoint, after a pause.
    Replace(Duration),
    /// A policy decided that nobody reads the shard for now.
    Stop(StopReason),
    /// The worker was asked to give the shard away.
    GiveUp,
    /// The lease is gone.
    Lost,
}

impl Exit {
    /// The failure policy stops the shard.
    pub(crate) fn processor_failed(error: &ProcessError) -> Self {
        Self::Stop(StopReason::ProcessorFailed { error: in_brief(error) })
    }
}

pub(crate) struct Deliver<'a> {
    consumer: &'a mut Consumer,
    processor: Box<dyn RecordProcessor>,
    context: ShardContext,
    pages: mpsc::Receiver<Box<Fetched>>,
    next_tick: Mono,
    /// The last record that was processed or set aside.
    done: Option<SequenceNumber>,
}

impl<'a> Deliver<'a> {
    pub(crate) fn new(
        consumer: &'a mut Consumer,
        processor: Box<dyn RecordProcessor>,
        context: ShardContext,
        pages: mpsc::Receiver<Box<Fetched>>,
    ) -> Self {
        let next_tick = consumer.setting.rt.now() + consumer.setting.config.tick_every;
        let done = consumer.holding.progress().acknowledged();
        Self { consumer, processor, context, pages, next_tick, done }
    }

    /// Returns the instance, unless it must not be called again.
    pub(crate) async fn run(mut self) -> (Exit, Option<Box<dyn RecordProcessor>>) {
        let Err(ending) = self.deliver().await;
        match ending {
            Ending { exit, broken: true } => (exit, None),
            Ending { exit, broken: false } => (exit, Some(self.processor)),
        }
    }

    async fn deliver(&mut self) -> Result<std::convert::Infallible, Ending> {
        let state = &self.consumer.setting.board;
        state.state(&self.consumer.holding.lease.key, ShardState::Reading);
        loop {
            match self.next().await? {
                None => self.tick().await?,
                Some(Fetched::Page(page)) => self.page(page).await?,
                Some(Fetched::Stop(reason)) => return Err(Exit::Stop(reason).into()),
                Some(Fetched::End { children, since_start }) => {
                    if since_start {
                        *self.consumer.filter() = StartFilter::open();
                    }
                    return Err(self.shard_ended(children).await?.into());
                }
            }
        }
    }

    /// The next page, or `None` when it is time for a tick.
    async fn next(&mut self) -> Result<Option<Fetched>, Ending> {
        let (holding, rt) = (&self.consumer.holding, &self.consumer.setting.rt);
        tokio::select! {
            biased;
            () = holding.lost().cancelled() => Err(Exit::Lost.into()),
            () = self.consumer.give_up.asked().cancelled() => Err(Exit::GiveUp.into()),
            fetched = self.pages.recv() => match fetched {
                Some(fetched) => Ok(Some(*fetched)),
                // The fetching side ends only when the lease is gone or after its last word.
                None => Err(Exit::Lost.into()),
            },
            () = rt.sleep_until(self.next_tick) => Ok(None),
        }
    }

    async fn page(&mut self, page: FetchedPage) -> Result<(), Ending> {
        if page.since_start {
            self.all_wanted(&page.records);
        }
        let mut rest = self.wanted(page.records);
        if let Some(last) = rest.last().filter(|_| planted::is(Bug::CheckpointOfFetched)) {
            self.consumer.holding.progress().deliver(last.sequence_number());
            self.consumer.holding.acknowledge(last.sequence_number()).map_err(|_lost| Exit::Lost)?;
        }
        while !rest.is_empty() {
            if self.consumer.give_up.asked().is_cancelled() {
                return Err(Exit::GiveUp.into());
            }
            let batch = rest.slice(0..rest.len().min(self.consumer.setting.config.batch_size));
            let done = self.batch(&batch).await?;
            rest = rest.slice(done..rest.len());
            if self.consumer.setting.rt.now() >= self.next_tick {
                self.tick().await?;
            }
            // Lets the fetching side, which shares this task, ask for the next page.
            yield_now().await;
        }
        Ok(())
    }

    /// Ends the filter with the first of these records.
    fn all_wanted(&mut self, records: &RecordBatch) {
        if !self.consumer.filter().is_active() {
            return;
        }
        if let Some(first) = records.first() {
            *self.consumer.filter() = StartFilter::open();
            self.consumer.first_wanted = Some(first.sequence_number());
            self.consumer.holding.progress().pass_filter(first.sequence_number());
        }
    }

    /// Drops what is older than the start position. What is dropped is done.
    fn wanted(&mut self, records: RecordBatch) -> RecordBatch {
        let filter = self.consumer.filter();
        if !filter.is_active() {
            return records;
        }
        let dropped = filter.unwanted(records.iter().map(Record::created_at));
        let passed = !filter.is_active();
        let mut progress = self.consumer.holding.progress();
        if let Some(last) = dropped.checked_sub(1).and_then(|index| records.get(index)) {
            let last = last.sequence_number();
            progress.set_aside(self.done, last);
            self.done = Some(last);
        }
        if let (true, Some(first)) = (passed, records.get(dropped)) {
            progress.pass_filter(first.sequence_number());
            self.consumer.first_wanted = Some(first.sequence_number());
        }
        drop(progress);
        self.consumer.holding.dirty.notify_one();
        records.slice(dropped..records.len())
    }

    /// Delivers a batch once; returns how many of its records are done.
    async fn batch(&mut self, batch: &RecordBatch) -> Result<usize, Ending> {
        let Some(last) = batch.last().map(Record::sequence_number) else { return Ok(0) };
        let consumer = &mut *self.consumer;
        let setting = consumer.setting.clone();
        consumer.holding.progress().deliver(last);
        let started = setting.rt.now();
        let ended = guarded(&consumer.holding, &setting, self.processor.process_records(batch, &self.context)).await;
        metrics::delivered(&setting.stream, batch.len(), setting.rt.now().since(started));
        match ended {
            Ok(()) => {
                if setting.config.checkpoints == Checkpoints::Automatic {
                    consumer.holding.acknowledge(last).map_err(|_lost| Exit::Lost)?;
                }
                consumer.succeeded(Some(last));
                consumer.holding.meter().add(batch.bytes());
                self.done = Some(last);
                setting.board.processed(&consumer.holding.lease.key, last, batch.len());
                Ok(batch.len())
            }
            Err(CallFailure::Lost) => Err(Exit::Lost.into()),
            Err(CallFailure::Failed(error)) => self.failed(batch, error).await,
            Err(CallFailure::Broken(error)) => self.broken(batch, &error).await,
        }
    }

    /// Whether a record was taken with an earlier batch and is not acknowledged: it comes again only to a new instance.
    fn is_in_hand(&self, at: SequenceNumber) -> bool {
        Some(at) > self.consumer.holding.progress().acknowledged() && Some(at) <= self.done
    }

    /// The processor returned an error: acknowledge what it says is done, and redeliver the rest or hand it to the policy.
    async fn failed(&mut self, batch: &RecordBatch, error: ProcessError) -> Result<usize, Ending> {
        if let Some(last) = batch.last().filter(|_| planted::is(Bug::FailureAcknowledges)) {
            self.consumer.holding.acknowledge(last.sequence_number()).map_err(|_lost| Exit::Lost)?;
            return Ok(batch.len());
        }
        let named = error.failed_at().and_then(|at| batch.iter().position(|record| record.sequence_number() == at));
        if named.is_none() && error.failed_at().is_some_and(|at| self.is_in_hand(at)) {
            return Err(self.replace(CallFailure::Failed(error)));
        }
        let before = named.unwrap_or(0);
        if let Some(record) = before.checked_sub(1).and_then(|index| batch.get(index)) {
            let at = record.sequence_number();
            self.consumer.holding.acknowledge(at).map_err(|_lost| Exit::Lost)?;
            self.done = Some(at);
        }
        match self.consumer.failed(&error, batch.last().map(Record::sequence_number)) {
            AfterFailure::Retry(pause) => {
                self.consumer.pause(pause).await?;
                Ok(before)
            }
            AfterFailure::GiveUp => {
                // One record where it was named, all that was tried where not.
                let until = if named.is_some() { before + 1 } else { batch.len() };
                self.give_to_policy(&batch.slice(before..until), &error).await?;
                Ok(until)
            }
        }
    }

    /// The instance panicked or did not return: it is not called again.
    async fn broken(&mut self, batch: &RecordBatch, error: &ProcessError) -> Result<usize, Ending> {
        let pause = match self.consumer.failed(error, batch.last().map(Record::sequence_number)) {
            AfterFailure::Retry(pause) => pause,
            AfterFailure::GiveUp => {
                self.give_to_policy(batch, error).await.map_err(Ending::broken)?;
                Duration::ZERO
            }
        };
        Err(Ending { exit: Exit::Replace(pause), broken: true })
    }

    async fn give_to_policy(&mut self, records: &RecordBatch, error: &ProcessError) -> Result<(), Ending> {
        let setting = self.consumer.setting.clone();
        match &setting.config.failures.then {
            FailureAction::StopShard => Err(Exit::processor_failed(error).into()),
            FailureAction::SetAside(sink) => self.set_aside(sink.as_ref(), records, error).await,
        }
    }

    async fn set_aside(
        &mut self,
        sink: &dyn FailureSink,
        records: &RecordBatch,
        error: &ProcessError,
    ) -> Result<(), Ending> {
        let setting = self.consumer.setting.clone();
        let mut attempts = crate::policy::retry::Attempts::default();
        while let Err(failure) =
            guarded(&self.consumer.holding, &setting, sink.set_aside(&self.consumer.info, records, error)).await
        {
            let failure = failure.into_error()?;
            match attempts.failed(&setting.config.failures, None, None, failure.is_permanent()) {
                AfterFailure::Retry(pause) => self.consumer.pause(pause).await?,
                AfterFailure::GiveUp => {
                    let (error, failure) = (in_brief(error), in_brief(&failure));
                    let error = format!("{error}; and the failure sink failed: {failure}");
                    return Err(Exit::Stop(StopReason::ProcessorFailed { error }).into());
                }
            }
        }
        if let (Some(first), Some(last)) = (records.first(), records.last()) {
            let (first, last) = (first.sequence_number(), last.sequence_number());
            self.consumer.holding.progress().set_aside(self.done, last);
            self.consumer.holding.dirty.notify_one();
            self.done = Some(last);
            let shard = self.consumer.info.shard.clone();
            setting.events.tell(EventKind::RecordsSetAside { shard, first, last, count: records.len() });
        }
        self.consumer.succeeded(records.last().map(Record::sequence_number));
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), Ending> {
        let setting = self.consumer.setting.clone();
        self.next_tick = setting.rt.now() + setting.config.tick_every;
        match guarded(&self.consumer.holding, &setting, self.processor.tick(&self.context)).await {
            Ok(()) => {
                self.consumer.succeeded_outside();
                Ok(())
            }
            Err(failure) => Err(self.replace(failure)),
        }
    }

    /// A failure outside a batch: what is not acknowledged is delivered again, to a new instance.
    fn replace(&mut self, failure: CallFailure) -> Ending {
        let error = match failure.into_error() {
            Ok(error) => error,
            Err(exit) => return exit.into(),
        };
        let exit = match self.consumer.failed_outside(&error) {
            AfterFailure::Retry(pause) => Exit::Replace(pause),
            AfterFailure::GiveUp => Exit::processor_failed(&error),
        };
        Ending { exit, broken: true }
    }

    /// Every record was delivered: tells the processor, then waits for the children.
    async fn shard_ended(&mut self, known: Option<Vec<Shard>>) -> Result<Exit, Ending> {
        let setting = self.consumer.setting.clone();
        loop {
            match guarded(&self.consumer.holding, &setting, self.processor.shard_ended(&self.context)).await {
                Ok(()) => break,
                Err(CallFailure::Failed(_)) if planted::is(Bug::EndAgreedByFailure) => break,
                Err(CallFailure::Failed(error)) => match self.consumer.failed(&error, None) {
                    AfterFailure::Retry(pause) => self.consumer.pause(pause).await?,
                    AfterFailure::GiveUp => return Ok(Exit::processor_failed(&error)),
                },
                Err(failure) => return Err(self.replace(failure)),
            }
        }
        let delivered = self.consumer.holding.progress().delivered();
        self.consumer.succeeded(delivered);
        self.consumer.holding.progress().acknowledge_all();
        self.consumer.holding.dirty.notify_one();
        setting.board.state(&self.consumer.holding.lease.key, ShardState::WaitingForChildren);
        let children = match known {
            Some(children) => children,
            None => self.children().await?,
        };
        Ok(Exit::Ended { children })
    }

    /// Asks until a child is listed, or it is certain that there will be none.
    async fn children(&mut self) -> Result<Vec<Shard>, Ending> {
        let setting = &self.consumer.setting;
        let shard = &self.consumer.info.shard;
        tokio::select! {
            biased;
            () = self.consumer.holding.lost().cancelled() => Err(Exit::Lost.into()),
            () = self.consumer.give_up.asked().cancelled() => Err(Exit::GiveUp.into()),
            children = setting.directory.children(shard) => Ok(children),
        }
    }
}

/// An exit, and whether the instance must not be called again.
struct Ending {
    exit: Exit,
    broken: bool,
}

impl Ending {
    fn broken(mut self) -> Self {
        self.broken = true;
        self
    }
}

impl From<Exit> for Ending {
    fn from(exit: Exit) -> Self {
        Self { exit, broken: false }
    }
}

/// Lets the other half of the task run once.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
