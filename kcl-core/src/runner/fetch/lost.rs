//! What was gone before it could be read: which range it is, and who decides.

use std::panic::AssertUnwindSafe;

use super::super::memory::FetchSlot;
use super::{Done, Fetch, Fetched, Step, timed_out};
use crate::contract::{DataLoss, LossCause, LossDecision, LostUntil, RecordsPage, SourceError, SourceErrorKind};
use crate::model::{IteratorPosition, StopReason};
use crate::policy::loss;
use crate::record::Record;
use crate::surface::event::EventKind;
use futures::FutureExt;

impl Fetch {
    /// The position is older than what is left. Once more first; then find out what is lost and ask the policy.
    pub(super) async fn trimmed(&mut self) -> Step {
        self.iterator = None;
        if !self.doubted {
            self.doubted = true;
            return Ok(());
        }
        let (mut page, slot) = match self.oldest_page().await {
            Ok(oldest) => oldest,
            Err(error) => {
                if error.kind() == SourceErrorKind::NotFound {
                    return self.not_found(&error).await;
                }
                self.retry_later(&error).await;
                return Ok(());
            }
        };
        // Before anybody is asked, who may take long to answer: meanwhile the page is kept, and the slot is for others.
        let place = match page.records.is_empty() {
            true => None,
            false => Some(self.charge(page.records.bytes()).await.map_err(|_closed| Done)?),
        };
        drop(slot);
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
        self.fetched(page, channel, None, place).await
    }

    /// Whether the shard is known to have held nothing after the position so lately that nothing that came later can be trimmed.
    fn was_read_to_the_tip(&self) -> bool {
        let done = self.after();
        loss::was_read_to_the_tip(&self.holding.lease, done, self.holding.tip_of(done), self.setting.rt.wall())
    }

    /// Whether records that are gone from the position on were wanted: those of a shard that has been read were.
    pub(super) fn wanted(&self) -> bool {
        let lease = &self.holding.lease;
        self.after().is_some() || loss::was_wanted(lease, self.setting.began_at, self.setting.rt.wall())
    }

    /// The first page from the oldest record that is left, and the slot that it was fetched in; empty pages in between are skipped, up to
    /// a bound.
    async fn oldest_page(&mut self) -> Result<(RecordsPage, Option<FetchSlot>), SourceError> {
        const EMPTY_PAGES: usize = 64;
        let setting = self.setting.clone();
        let call = setting.source.shard_iterator(&setting.stream, &self.info.shard, IteratorPosition::TrimHorizon);
        let opened = setting.rt.timeout(setting.config.source_timeout, call).await;
        let mut iterator = opened.unwrap_or_else(|| Err(timed_out("GetShardIterator")))?;
        let mut pages = 0;
        loop {
            // Nobody else waits while this shard may not be read, nor for its pauses.
            self.wait_for_gate().await;
            // Never closed.
            let slot = setting.budget.fetch_slot(self.failures.is_some()).await.ok();
            let page = self.get_records(&iterator).await?;
            pages += 1;
            match &page.next {
                Some(next) if page.records.is_empty() && pages < EMPTY_PAGES => iterator = next.clone(),
                _ => return Ok((page, slot)),
            }
            drop(slot);
            setting.rt.sleep(setting.config.poll_every).await;
        }
    }

    /// Reports a loss to the policy. `Err` when the policy's answer was passed on as the last word.
    pub(super) async fn lost(&mut self, until: LostUntil, cause: LossCause) -> Result<LossDecision, Done> {
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
}
