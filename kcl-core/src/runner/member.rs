//! Membership: the worker's own item, which shows the fleet that it lives.
//!
//! ```text
//!   register ──► stay: a heartbeat every D / 3 ──► leave
//!      │             ├─ unanswered: superseded by a write on the same counter
//!      │             ├─ refused after an unanswered one: read; if live, go on from there
//!      │             └─ refused otherwise ──► given up
//!      └─ each acknowledged write of the item is a beat of the pulse; a read is none
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::keeper::timed_out;
use super::pulse::Pulse;
use super::take::TableAccess;
use super::told::{Denials, describe};
use crate::contract::{LeaseError, LeaseErrorKind, LeaseTable, Liveness, Mono, Rt, Stamp, WorkerItem, WorkerState};
use crate::model::WorkerId;
use crate::planted::{self, Bug};
use crate::policy::backoff::Backoff;
use crate::policy::tenure::{self, LeaseTiming};
use crate::surface::event::{EventKind, Events};

/// What membership works with.
#[derive(Debug, Clone)]
pub(crate) struct MemberSetting {
    pub(crate) table: Arc<dyn LeaseTable>,
    pub(crate) rt: Rt,
    pub(crate) timing: LeaseTiming,
    pub(crate) liveness: Liveness,
    pub(crate) events: Events,
    pub(crate) denials: Option<Denials>,
}

/// This worker's item.
#[derive(Debug)]
pub(crate) struct Member {
    setting: MemberSetting,
    item: WorkerItem,
    pulse: Arc<Pulse>,
    /// When the last acknowledged write was sent.
    sent: Mono,
    /// What the heartbeats say.
    state: WorkerState,
    /// There is news, which do not wait for the next heartbeat, and of which the fleet is told.
    news: bool,
    /// A write on the item's counter went unanswered and may still be applied.
    unanswered: bool,
}

/// How one heartbeat went.
enum Beat {
    /// Acknowledged.
    Shown,
    /// Not answered, or not made: try again.
    Again,
    /// The fleet has given this incarnation up.
    Refused,
}

impl Member {
    /// Joins the fleet. Nothing is taken before this was acknowledged.
    ///
    /// An incarnation is tried once: a try whose answer was lost may have been applied, counted out and removed since, and in a second
    /// life of its item the counters of the first would come again, which late writes of others name.
    ///
    /// # Errors
    /// The item may be there all the same. Nobody counts on it, and the others remove it once it has stood still.
    pub(crate) async fn register(setting: MemberSetting, id: &WorkerId, weight: u32) -> Result<Self, LeaseError> {
        let sent = setting.rt.stamp();
        let registering = setting.table.register_worker(id, weight);
        let registered = setting.rt.timeout(setting.timing.request_timeout(), registering).await;
        let item = registered.unwrap_or_else(|| Err(timed_out()))?;
        let pulse = Pulse::new(setting.timing, sent);
        // The first heartbeat at once: the others count on a worker that has shown that it knows of its registration. One that was
        // applied late has nobody behind it.
        let (state, sent) = (WorkerState::Live, sent.mono);
        Ok(Self { setting, item, pulse, sent, state, news: true, unanswered: false })
    }

    /// Tells the fleet, from the next heartbeat on, which is sent at once: nothing more is meant for this worker.
    pub(crate) fn announce_leaving(&mut self) {
        self.state = WorkerState::Leaving;
        self.news = true;
    }

    /// What this incarnation's right to act hangs on.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Shows that the worker lives, until the fleet has given it up or, where its leases hang on that, its validity has run out.
    ///
    /// # Cancel safety
    /// A heartbeat that is under way counts as unanswered.
    pub(crate) async fn stay(&mut self) {
        let (rt, pulse) = (self.setting.rt.clone(), self.pulse.clone());
        match self.setting.liveness {
            Liveness::PerLease => self.beat_on().await,
            Liveness::PerWorker => tokio::select! {
                biased;
                () = pulse.lapse(&rt) => {}
                () = self.beat_on() => {}
            },
        }
        pulse.end();
    }

    /// Shows that the worker lives for as long as `work` takes, or until it may not act any more; then `work` goes on without it.
    pub(crate) async fn stay_during<T>(&mut self, work: impl Future<Output = T> + Send) -> T {
        let mut work = std::pin::pin!(work);
        let may_stay = self.setting.liveness == Liveness::PerLease || !self.pulse.over().is_cancelled();
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = self.stay(), if may_stay => {}
        }
        work.await
    }

    /// Whether what this worker gave its word for may still be going on: the others must wait that long.
    pub(crate) fn may_still_act(&self) -> bool {
        self.setting.rt.now() < self.pulse.deadline()
    }

    /// Until a heartbeat is refused.
    async fn beat_on(&mut self) {
        let rt = self.setting.rt.clone();
        loop {
            let news = self.news;
            if !news {
                let due = self.sent + self.setting.timing.renew_every();
                rt.sleep_until(due).await;
                self.report_lateness(due);
            }
            let mut backoff = Backoff::new(Duration::from_millis(20), self.setting.timing.renew_every());
            loop {
                match self.beat().await {
                    Beat::Shown if news => {
                        self.news = false;
                        // The others look at once; one that is not told looks later.
                        self.access().ring().await;
                        break;
                    }
                    Beat::Shown => break,
                    Beat::Again => rt.sleep(rt.jitter(backoff.next_pause())).await,
                    Beat::Refused => return,
                }
            }
        }
    }

    fn access(&self) -> TableAccess {
        let MemberSetting { table, rt, timing, .. } = &self.setting;
        TableAccess { table: table.clone(), rt: rt.clone(), timing: *timing, denials: None }
    }

    fn report_lateness(&self, due: Mono) {
        let late = self.setting.rt.now().since(due);
        if late > self.setting.timing.renew_every() / 2 {
            self.setting.events.tell(EventKind::LateHeartbeat { late });
        }
    }

    async fn beat(&mut self) -> Beat {
        let (rt, limit) = (self.setting.rt.clone(), self.setting.timing.request_timeout());
        let sent = rt.stamp();
        // Until it is answered: a heartbeat that is dropped may still be applied.
        let before = std::mem::replace(&mut self.unanswered, true);
        let call = self.setting.table.write_worker(&self.item, self.state);
        let error = match rt.timeout(limit, call).await.unwrap_or_else(|| Err(timed_out())) {
            Ok(item) => {
                self.shown(item, sent);
                return Beat::Shown;
            }
            Err(error) => error,
        };
        self.unanswered = before || error.is_unknown();
        match error.kind() {
            // It may be our own heartbeat, whose answer was lost, that moved the counter.
            LeaseErrorKind::Conflict { .. } if self.unanswered => match self.look().await {
                Ok(Some(item)) if tenure::is_own_heartbeat(&self.item, self.unanswered, &item) => {
                    self.item = item;
                    self.unanswered = false;
                    if planted::is(Bug::LookIsBeat) {
                        self.shown(self.item.clone(), self.setting.rt.stamp());
                        return Beat::Shown;
                    }
                    Beat::Again
                }
                Ok(_) => Beat::Refused,
                Err(error) => self.failed(&error),
            },
            LeaseErrorKind::Conflict { .. } => Beat::Refused,
            _ => self.failed(&error),
        }
    }

    fn shown(&mut self, item: WorkerItem, sent: Stamp) {
        self.item = item;
        self.unanswered = false;
        self.sent = sent.mono;
        // Where the leases have validities of their own, nobody asks the pulse.
        self.pulse.beat(sent, &self.setting.rt.stamp());
    }

    fn failed(&self, error: &LeaseError) -> Beat {
        if !self.setting.denials.as_ref().is_some_and(|denials| denials.heed(error)) {
            self.setting.events.tell(EventKind::HeartbeatRetried { error: describe(error) });
        }
        Beat::Again
    }

    /// The item as the table has it.
    async fn look(&self) -> Result<Option<WorkerItem>, LeaseError> {
        let call = self.setting.table.worker(&self.item.id);
        let limit = self.setting.timing.request_timeout();
        self.setting.rt.timeout(limit, call).await.unwrap_or_else(|| Err(timed_out()))
    }

    /// Leaves the fleet, within one request time-out. A failure leaves an item that the others remove once it has stood still.
    pub(crate) async fn leave(&mut self) {
        self.pulse.end();
        if planted::is(Bug::ItemLeftBehind) {
            return;
        }
        let limit = self.setting.timing.request_timeout();
        let table = &self.setting.table;
        let leaving = async {
            // A heartbeat whose answer was lost may have moved the counter.
            if table.delete_worker(&self.item).await.is_err()
                && let Some(item) = table.worker(&self.item.id).await?
            {
                table.delete_worker(&item).await?;
            }
            Ok::<(), LeaseError>(())
        };
        match self.setting.rt.timeout(limit, leaving).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!(%error, "the worker's item was not removed"),
            None => tracing::warn!("the worker's item was not removed in time"),
        }
    }
}

/// However a membership ends, also because its worker was dropped: nobody may act under it any more.
impl Drop for Member {
    fn drop(&mut self) {
        self.pulse.end();
    }
}
