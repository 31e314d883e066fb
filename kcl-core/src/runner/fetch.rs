//! Reads a shard ahead of its processor, inside the worker's byte budget.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, mpsc};

use super::consumer::StreamSetting;
use super::holding::Holding;
use super::memory::{Ahead, PagePlace};
use super::told::{describe, tried_again};
use super::unknown::{Told, Unknown};
use crate::contract::{
    DataLoss, LossCause, LossDecision, LostUntil, MAX_RECORDS, Mono, RecordsPage, ShardContext, ShardInfo,
    ShardIterator, SourceError, SourceErrorKind, SourceOp,
};
use crate::model::{IteratorPosition, SequenceNumber, Shard, StopReason};
use crate::planted::{self, Bug};
use crate::policy::backoff::Backoff;
use crate::policy::foreign::OwnCalls;
use crate::policy::loss;
use crate::policy::polling::{EMPTY_AT_THE_TIP, EMPTY_FOR_SURE, Poll, Polling};
use crate::record::{Record, RecordBatch};
use crate::surface::event::EventKind;
use crate::surface::metrics;

/// What the fetching side has to say.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// Records, in order.
    Page(FetchedPage),
    /// Every record of the shard was fetched. The children, where the shard is gone and they are known already; and whether all was
    /// read through an iterator taken before the application's beginning was fixed.
    End { children: Option<Vec<Shard>>, since_start: bool },
    /// The loss policy stops the shard.
    Stop(StopReason),
}

/// A page and its place in the byte budget, given back when the page is dropped.
#[derive(Debug)]
pub(crate) struct FetchedPage {
    pub(crate) records: RecordBatch,
    /// Read through an iterator taken before the application's beginning was fixed: all of it is wanted.
    pub(crate) since_start: bool,
    _place: PagePlace,
}

pub(crate) struct Fetch {
    setting: Arc<StreamSetting>,
    holding: Arc<Holding>,
    info: ShardInfo,
    context: ShardContext,
    /// Where reading goes on when a new iterator is needed.
    position: IteratorPosition,
    iterator: Option<ShardIterator>,
    /// The iterator, or one that it led to, was taken before the application's beginning was fixed.
    since_start: bool,
    polling: Polling,
    /// When the next page may be asked for.
    poll_at: Mono,
    ahead: Ahead,
    /// Boxed, since a channel makes room for dozens at once, and there are thousands of shards.
    pages: mpsc::Sender<Box<Fetched>>,
    /// The position was said to be trimmed, once: DynamoDB Local says it of positions that are there.
    doubted: bool,
    /// How often in a row the position was refused as invalid.
    refused: u32,
    /// Empty pages in a row, and how far behind reading was before them.
    empty_pages: u32,
    last_lag: Duration,
    /// Pauses between failures in a row.
    failures: Option<Backoff>,
    unknown: Unknown,
    own_calls: OwnCalls,
    /// When the last page was asked for.
    asked_at: SystemTime,
}

/// Refusals of a position as invalid after which it counts as lost.
const REFUSALS: u32 = 3;

/// After so long without room for a page, somebody should know.
const LONG_WAIT: Duration = Duration::from_secs(10);

/// The fetching side has said its last word.
struct Done;

type Step = Result<(), Done>;

impl Fetch {
    /// Reads from the position, or by the iterator where there is one, which was taken before the application's beginning was fixed.
    pub(crate) fn new(
        setting: Arc<StreamSetting>,
        holding: Arc<Holding>,
        info: ShardInfo,
        context: ShardContext,
        (position, latest): (IteratorPosition, Option<ShardIterator>),
        ahead: Ahead,
        pages: mpsc::Sender<Box<Fetched>>,
    ) -> Self {
        let now = setting.rt.now();
        let polling = Polling::new(setting.config.polling(), now);
        Self {
            setting,
            holding,
            info,
            context,
            position,
            since_start: latest.is_some(),
            iterator: latest,
            polling,
            poll_at: now,
            ahead,
            pages,
            doubted: false,
            refused: 0,
            empty_pages: 0,
            last_lag: Duration::ZERO,
            failures: None,
            unknown: Unknown::default(),
            own_calls: OwnCalls::default(),
            asked_at: SystemTime::UNIX_EPOCH,
        }
    }

    /// Reads until the end of the shard. Ends early when the lease is lost or nobody listens.
    pub(crate) async fn run(mut self) {
        while self.holding.is_valid() {
            if self.step().await.is_err() {
                return;
            }
        }
    }

    async fn step(&mut self) -> Step {
        let Some(iterator) = self.iterator.clone() else {
            return self.open().await;
        };
        self.setting.rt.sleep_until(self.poll_at).await;
        self.wait_for_gate().await;
        // A place in the channel first: there is no use in fetching what has to wait.
        let pages = self.pages.clone();
        let Ok(channel) = pages.reserve().await else { return Err(Done) };
        self.ahead.wait_for_room(&self.setting.budget).await;
        let Ok(slot) = self.setting.budget.fetch_slot().await else { return Err(Done) };
        if !self.holding.is_valid() {
            return Err(Done);
        }
        if !self.setting.gate.is_open() {
            // What is held here, others may need meanwhile.
            return Ok(());
        }
        match self.get_records(&iterator).await {
            Ok(page) => self.fetched(page, channel, Some(slot)).await,
            Err(error) => {
                // Whatever follows may wait long; others need not.
                drop((channel, slot));
                self.get_failed(&error).await
            }
        }
    }

    /// Takes an iterator at the position.
    async fn open(&mut self) -> Step {
        let setting = self.setting.clone();
        self.since_start &= self.after().is_some();
        let call = setting.source.shard_iterator(&setting.stream, &self.info.shard, self.position);
        let opened = setting.rt.timeout(setting.config.source_timeout, call).await;
        match opened.unwrap_or_else(|| Err(timed_out("GetShardIterator"))) {
            Ok(iterator) => {
                self.iterator = Some(iterator);
                Ok(())
            }
            Err(error) => match (error.kind(), self.position) {
                (SourceErrorKind::Trimmed, _) => self.trimmed().await,
                (SourceErrorKind::NotFound, _) => self.not_found(&error).await,
                (SourceErrorKind::Invalid, IteratorPosition::At(_)) => {
                    self.position = IteratorPosition::TrimHorizon;
                    self.setting.events.tell(EventKind::OpenedAtTrimHorizon { shard: self.info.shard.clone() });
                    Ok(())
                }
                // The service may say so of a number below what is left.
                (SourceErrorKind::Invalid, IteratorPosition::After(_)) if self.refused >= REFUSALS => {
                    self.trimmed().await
                }
                (kind, _) => {
                    self.refused += u32::from(kind == SourceErrorKind::Invalid);
                    self.retry_later(&error).await;
                    Ok(())
                }
            },
        }
    }

    /// Waits until the application holds a reader slot. What was read before is delivered meanwhile.
    async fn wait_for_gate(&self) {
        if !self.setting.gate.is_open() {
            self.setting.board.waits_for_slot(&self.holding.lease.key, true);
            self.setting.gate.opened().await;
            self.setting.board.waits_for_slot(&self.holding.lease.key, false);
        }
    }

    async fn get_records(&mut self, iterator: &ShardIterator) -> Result<RecordsPage, SourceError> {
        self.wait_for_gate().await;
        let setting = &self.setting;
        self.own_calls.made(setting.rt.now());
        self.asked_at = setting.rt.wall();
        let call = setting.source.get_records(iterator, MAX_RECORDS);
        let limit = setting.gate.open_for(setting.config.source_timeout);
        let answered = setting.rt.timeout(limit, call).await;
        answered.unwrap_or_else(|| Err(timed_out("GetRecords")))
    }

    /// Passes a page on. Only the absence of a next iterator ends the shard, and never before its records were passed on.
    ///
    /// The slot is given back as soon as the page has its place in the budget, and the place in the channel before anything else
    /// is said: what waits for the processor must not hold what other shards wait for.
    async fn fetched(
        &mut self,
        page: RecordsPage,
        channel: mpsc::Permit<'_, Box<Fetched>>,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Step {
        self.failures = None;
        self.unknown = Unknown::default();
        self.doubted = false;
        self.refused = 0;
        let now = self.setting.rt.now();
        let lag = self.lag(&page);
        self.context.set_lag(lag);
        let setting = self.setting.clone();
        setting.board.lag(&self.holding.lease.key, lag);
        metrics::fetched(&setting.stream, page.records.bytes(), lag);
        self.poll_at = self.polling.next_poll(now, poll_of(&page), Some(lag));
        self.iterator = page.next;
        if let Some(last) = page.records.last() {
            self.position = IteratorPosition::After(last.sequence_number());
            let Ok(bytes) = self.charge(page.records.bytes()).await else { return Err(Done) };
            drop(slot);
            metrics::memory(setting.budget.used());
            let (records, since_start) = (page.records, self.since_start);
            let _place = self.ahead.page(bytes);
            channel.send(Box::new(Fetched::Page(FetchedPage { records, since_start, _place })));
        } else {
            drop((channel, slot));
            if self.empty_pages >= EMPTY_FOR_SURE {
                self.holding.reached_tip(self.asked_at, self.after());
            }
        }
        if self.iterator.is_none() { self.end(None).await } else { Ok(()) }
    }

    /// Charges a page, and tells when that takes long: processors that do not return hold the whole budget.
    async fn charge(&self, bytes: usize) -> Result<OwnedSemaphorePermit, AcquireError> {
        let setting = &self.setting;
        let charged = setting.budget.charge(bytes);
        tokio::pin!(charged);
        match setting.rt.timeout(LONG_WAIT, &mut charged).await {
            Some(charged) => charged,
            None => {
                setting.events.tell(EventKind::WaitingForMemory { shard: self.info.shard.clone() });
                charged.await
            }
        }
    }

    /// How far behind the shard's end reading is. An empty page says nothing by itself: they come in the middle of a shard too.
    fn lag(&mut self, page: &RecordsPage) -> Duration {
        match page.records.last().map(Record::created_at) {
            Some(newest) => {
                self.empty_pages = 0;
                let age = newest.and_then(|at| self.setting.rt.wall().duration_since(at).ok());
                self.last_lag = age.unwrap_or_default();
            }
            None => {
                self.empty_pages = self.empty_pages.saturating_add(1);
                if self.empty_pages >= EMPTY_AT_THE_TIP {
                    self.last_lag = Duration::ZERO;
                }
            }
        }
        self.last_lag
    }

    async fn end(&self, children: Option<Vec<Shard>>) -> Step {
        self.say(Fetched::End { children, since_start: self.since_start }).await
    }

    /// Says a last word.
    async fn say(&self, last: Fetched) -> Step {
        // Nobody listens when the shard is being given up.
        let _nobody_listens = self.pages.send(Box::new(last)).await;
        Err(Done)
    }

    async fn get_failed(&mut self, error: &SourceError) -> Step {
        match error.kind() {
            SourceErrorKind::Expired => {
                self.iterator = None;
                if planted::is(Bug::ExpiredSkipsAhead) {
                    self.position = IteratorPosition::Latest;
                }
                // A service that says so of every iterator is not asked at full speed.
                self.poll_at = self.polling.next_poll(self.setting.rt.now(), Poll::Empty, None);
                Ok(())
            }
            SourceErrorKind::Trimmed => self.trimmed().await,
            SourceErrorKind::NotFound => self.not_found(error).await,
            _ => {
                // A refused iterator may be a damaged one.
                if error.kind() == SourceErrorKind::Invalid {
                    self.iterator = None;
                }
                self.retry_later(error).await;
                Ok(())
            }
        }
    }

    async fn retry_later(&mut self, error: &SourceError) {
        let shard = Some(self.info.shard.clone());
        let now = self.setting.rt.now();
        if error.kind() == SourceErrorKind::Throttled {
            self.poll_at = self.polling.next_poll(now, Poll::Throttled, None);
            self.setting.events.tell(EventKind::Throttled { shard, operation: error.operation() });
            if error.operation() == SourceOp::GetRecords.name() {
                self.setting.gate.refused(&self.own_calls, &self.setting.stream, now, &self.setting.events);
            }
        } else {
            self.poll_at = self.polling.next_poll(now, Poll::Failed, None);
            self.setting.events.tell(tried_again(shard, error));
        }
        self.setting.board.error(&self.holding.lease.key, &describe(error));
        let pause = self.failures.get_or_insert_with(|| backoff(error.kind())).next_pause();
        self.setting.rt.sleep(self.setting.rt.jitter(pause)).await;
    }

    /// The last record that was fetched or is acknowledged.
    fn after(&self) -> Option<SequenceNumber> {
        match self.position {
            IteratorPosition::After(at) => Some(at),
            IteratorPosition::At(_) | IteratorPosition::TrimHorizon | IteratorPosition::Latest => None,
        }
    }

    /// The position is older than what is left. Once more first; then find out what is lost and ask the policy.
    async fn trimmed(&mut self) -> Step {
        self.iterator = None;
        if !self.doubted {
            self.doubted = true;
            return Ok(());
        }
        let mut page = match self.oldest_page().await {
            Ok(page) => page,
            Err(error) => {
                if error.kind() == SourceErrorKind::NotFound {
                    return self.not_found(&error).await;
                }
                self.retry_later(&error).await;
                return Ok(());
            }
        };
        let first = page.records.first().map(Record::sequence_number);
        let until = match (first, &page.next) {
            (Some(first), _) => LostUntil::Before(first),
            (None, None) => LostUntil::ShardEnd,
            (None, Some(_)) => LostUntil::Now,
        };
        let after = self.after();
        // What is left may reach back to what is done, or to the shard's very start: then the answer was wrong.
        let whole = match after {
            Some(after) => first.is_some_and(|first| first <= after),
            None => first.is_some() && first == self.holding.lease.starting_sequence,
        };
        if !whole
            && !self.was_read_to_the_tip()
            && self.wanted()
            && self.lost(until, LossCause::Trimmed).await? == LossDecision::StopShard
        {
            return Err(Done);
        }
        if let Some(after) = after {
            let done = page.records.iter().take_while(|record| record.sequence_number() <= after).count();
            page.records = page.records.slice(done..);
        }
        if !(whole && after.is_some()) {
            self.position = IteratorPosition::TrimHorizon;
        }
        self.since_start = false;
        let pages = self.pages.clone();
        let Ok(channel) = pages.reserve().await else { return Err(Done) };
        self.fetched(page, channel, None).await
    }

    /// Whether the shard is known to have held nothing after the position so lately that nothing that came later can be trimmed.
    fn was_read_to_the_tip(&self) -> bool {
        let done = self.after();
        loss::was_read_to_the_tip(&self.holding.lease, done, self.holding.tip_of(done), self.setting.rt.wall())
    }

    /// Whether records that are gone from the position on were wanted: those of a shard that has been read were.
    fn wanted(&self) -> bool {
        let lease = &self.holding.lease;
        self.after().is_some() || loss::was_wanted(lease, self.setting.began_at, self.setting.rt.wall())
    }

    /// The first page from the oldest record that is left; empty pages in between are skipped, up to a bound.
    async fn oldest_page(&mut self) -> Result<RecordsPage, SourceError> {
        const EMPTY_PAGES: usize = 64;
        let setting = self.setting.clone();
        self.wait_for_gate().await;
        let _slot = setting.budget.fetch_slot().await;
        let call = setting.source.shard_iterator(&setting.stream, &self.info.shard, IteratorPosition::TrimHorizon);
        let opened = setting.rt.timeout(setting.config.source_timeout, call).await;
        let mut iterator = opened.unwrap_or_else(|| Err(timed_out("GetShardIterator")))?;
        let mut pages = 0;
        loop {
            let page = self.get_records(&iterator).await?;
            pages += 1;
            match &page.next {
                Some(next) if page.records.is_empty() && pages < EMPTY_PAGES => iterator = next.clone(),
                _ => return Ok(page),
            }
            setting.rt.sleep(setting.config.poll_every).await;
        }
    }

    /// Reports a loss to the policy. `Err` when the policy's answer was passed on as the last word.
    async fn lost(&mut self, until: LostUntil, cause: LossCause) -> Result<LossDecision, Done> {
        let loss = DataLoss { shard: self.info.clone(), after: self.after(), until, cause };
        let decision = if loss::is_accepted(&self.holding.lease, loss.after) {
            LossDecision::Continue
        } else {
            // A policy that panics has decided nothing: then nothing may follow the gap.
            let asked = AssertUnwindSafe(self.setting.config.losses.on_loss(&loss)).catch_unwind().await;
            asked.unwrap_or(LossDecision::StopShard)
        };
        let text = loss.to_string();
        self.setting.events.tell(EventKind::DataLost { loss: Box::new(loss), decision });
        if decision == LossDecision::StopShard {
            self.say(Fetched::Stop(StopReason::DataLost { lost: text })).await?;
        }
        Ok(decision)
    }

    /// The service knows no such shard. That proves nothing: try again, and ask for listings until it is certain.
    async fn not_found(&mut self, error: &SourceError) -> Step {
        self.iterator = None;
        if planted::is(Bug::NotFoundIsEnd) {
            return self.end(None).await;
        }
        let setting = self.setting.clone();
        let children = match self.unknown.said(&self.info.shard, &setting.directory, &setting.rt).await {
            Told::Gone(children) => children,
            Told::Searching => return Ok(()),
            Told::Retry => {
                self.retry_later(error).await;
                return Ok(());
            }
        };
        let asks = self.wanted() && !planted::is(Bug::AbsentParentSilent);
        if asks && self.lost(LostUntil::ShardEnd, LossCause::ShardVanished).await? == LossDecision::StopShard {
            return Err(Done);
        }
        self.end(Some(children)).await
    }
}

fn poll_of(page: &RecordsPage) -> Poll {
    match page.records.len() {
        0 => Poll::Empty,
        MAX_RECORDS.. => Poll::Full,
        // A page that the service cut at its size limit.
        _ if page.records.bytes() >= FULL_PAGE => Poll::Full,
        _ => Poll::Partial,
    }
}

/// Bytes at which a page counts as cut by the service's limit of 1 MB rather than by the end of the shard.
const FULL_PAGE: usize = 900_000;

/// Between calls that fail, over and above the pace of polling. Asking often does not help where an operator has to act.
fn backoff(kind: SourceErrorKind) -> Backoff {
    let first = match kind {
        SourceErrorKind::Denied { .. } | SourceErrorKind::Invalid => Duration::from_secs(5),
        _ => Duration::from_millis(100),
    };
    Backoff::new(first, Duration::from_secs(30))
}

pub(crate) fn timed_out(operation: &'static str) -> SourceError {
    SourceError::new(SourceErrorKind::Unavailable, operation).with_source("no answer within source_timeout")
}
