//! Membership: the worker's own item, which shows the fleet that it lives.

use std::sync::Arc;

use super::keeper::timed_out;
use crate::contract::{LeaseError, LeaseErrorKind, LeaseTable, Rt, WorkerItem, WorkerState};
use crate::model::WorkerId;
use crate::policy::tenure::LeaseTiming;

/// This worker's item.
#[derive(Debug)]
pub(crate) struct Member {
    table: Arc<dyn LeaseTable>,
    rt: Rt,
    timing: LeaseTiming,
    item: WorkerItem,
    /// What the heartbeats say.
    state: WorkerState,
    /// There is news, which do not wait for the next heartbeat.
    news: bool,
    /// A write on the item's counter went unanswered and may still be applied.
    unanswered: bool,
}

impl Member {
    /// Joins the fleet. Nothing is taken before this was acknowledged.
    pub(crate) async fn register(
        table: Arc<dyn LeaseTable>,
        rt: Rt,
        timing: LeaseTiming,
        id: &WorkerId,
        weight: u32,
    ) -> Result<Self, LeaseError> {
        let limit = timing.request_timeout();
        let registered = rt.timeout(limit, table.register_worker(id, weight)).await;
        let item = match registered.unwrap_or_else(|| Err(timed_out())) {
            Ok(item) => item,
            // The incarnation was drawn at random: an item that bears it is an earlier try of ours, whose answer was lost.
            Err(error) if matches!(error.kind(), LeaseErrorKind::Conflict { .. }) => {
                let found = rt.timeout(limit, table.worker(id)).await.unwrap_or_else(|| Err(timed_out()))?;
                found.ok_or(error)?
            }
            Err(error) => return Err(error),
        };
        Ok(Self { table, rt, timing, item, state: WorkerState::Live, news: false, unanswered: false })
    }

    /// Tells the fleet, from the next heartbeat on, which is sent at once: nothing more is meant for this worker.
    pub(crate) fn announce_leaving(&mut self) {
        self.state = WorkerState::Leaving;
        self.news = true;
    }

    /// Shows that the worker lives for as long as `work` takes, or until the fleet has given it up; then `work` goes on without it.
    pub(crate) async fn stay_during<T>(&mut self, work: impl Future<Output = T> + Send) -> T {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = self.stay() => {}
        }
        work.await
    }

    /// Shows that the worker lives, until the fleet has given it up.
    pub(crate) async fn stay(&mut self) {
        loop {
            if !std::mem::take(&mut self.news) {
                self.rt.sleep(self.timing.renew_every()).await;
            }
            // Until it is answered: a heartbeat that is dropped may still be applied.
            let before = std::mem::replace(&mut self.unanswered, true);
            let call = self.table.write_worker(&self.item, self.state);
            let answered = self.rt.timeout(self.timing.request_timeout(), call).await;
            match answered.unwrap_or_else(|| Err(timed_out())) {
                Ok(item) => {
                    self.item = item;
                    self.unanswered = false;
                }
                Err(error) if matches!(error.kind(), LeaseErrorKind::Conflict { .. }) => {
                    // It may be our own heartbeat, whose answer was lost, that moved the counter.
                    match self.look().await {
                        Some(item) if before && item.state.lives() => {
                            self.news = item.state != self.state;
                            self.item = item;
                            self.unanswered = false;
                        }
                        _ => return,
                    }
                }
                Err(error) => {
                    self.unanswered = before || error.is_unknown();
                    tracing::warn!(%error, "the worker's sign of life failed");
                }
            }
        }
    }

    /// The item as the table has it, asked for until there is an answer.
    async fn look(&self) -> Option<WorkerItem> {
        loop {
            let call = self.table.worker(&self.item.id);
            match self.rt.timeout(self.timing.request_timeout(), call).await {
                Some(Ok(item)) => return item,
                Some(Err(error)) => tracing::warn!(%error, "the worker's own item cannot be read"),
                None => {}
            }
            self.rt.sleep(self.rt.jitter(self.timing.renew_every())).await;
        }
    }

    /// Leaves the fleet, within one request time-out. A failure leaves an item that the others remove once it has stood still.
    pub(crate) async fn leave(&mut self) {
        let limit = self.timing.request_timeout();
        let leaving = async {
            // A heartbeat whose answer was lost may have moved the counter.
            if self.table.delete_worker(&self.item).await.is_err()
                && let Some(item) = self.table.worker(&self.item.id).await?
            {
                self.table.delete_worker(&item).await?;
            }
            Ok::<(), LeaseError>(())
        };
        match self.rt.timeout(limit, leaving).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!(%error, "the worker's item was not removed"),
            None => tracing::warn!("the worker's item was not removed in time"),
        }
    }
}
