//! The keeper of one lease: the only writer of it while this worker holds it.
//!
//! ```text
//!  consumer ──orders──► ┌────────┐ conditional writes, one at a time ┌─────────────┐
//!  checkpointers ─────► │ keeper │ ────────────────────────────────► │ lease table │
//!                       └────────┘ ◄──────────────────────────────── └─────────────┘
//!                         │ validity, `lost`
//!                         ▼
//!                       consumer
//! ```
//! It runs on threads that user code cannot block. Every write carries what was acknowledged by then, so a renewal is a
//! checkpoint too, and the two never race.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::holding::{Holding, Order, Parted, Parting};
use super::pulse::Pulse;
use super::told::{Denials, describe};
use crate::contract::{CheckpointFailure, LeaseError, LeaseErrorKind, LeaseLost, LeaseTable, Mono, Rt, Stamp};
use crate::model::{Change, Checkpoint, Lease, LeaseWrite, NewLease, SequenceNumber};
use crate::planted::{self, Bug};
use crate::policy::backoff::Backoff;
use crate::policy::tenure::{LeaseTiming, Refusal, Tenure, Validity};
use crate::surface::event::{EventKind, Events};
use crate::surface::metrics;

/// What a keeper works with.
#[derive(Debug, Clone)]
pub(crate) struct KeeperSetting {
    pub(crate) table: Arc<dyn LeaseTable>,
    pub(crate) rt: Rt,
    pub(crate) timing: LeaseTiming,
    /// How long an acknowledgement may wait to be recorded.
    pub(crate) checkpoint_every: Duration,
    pub(crate) events: Events,
    /// One missing permission refuses the writes of all leases.
    pub(crate) denials: Option<Denials>,
}

pub(crate) struct Keeper {
    setting: KeeperSetting,
    holding: Arc<Holding>,
    tenure: Tenure,
    orders: mpsc::Receiver<Box<Order>>,
    /// When the oldest acknowledgement that is not recorded yet was seen.
    dirty_since: Option<Mono>,
}

type Reply = oneshot::Sender<Result<(), CheckpointFailure>>;

/// One write in the keeper's name.
#[expect(clippy::large_enum_variant, reason = "one at a time lives, and nearly all are writes")]
enum Request {
    Write(LeaseWrite),
    Finish(Vec<NewLease>),
}

impl Keeper {
    pub(crate) fn new(
        setting: KeeperSetting,
        holding: Arc<Holding>,
        tenure: Tenure,
        orders: mpsc::Receiver<Box<Order>>,
    ) -> Self {
        Self { setting, holding, tenure, orders, dirty_since: None }
    }

    /// Keeps the lease until it is given up or lost.
    pub(crate) async fn run(mut self) {
        let holding = self.holding.clone();
        // A write that is under way when the worker's right to act ends is not waited for: the running call is to end now.
        let kept = tokio::select! {
            biased;
            () = over(holding.pulse()) => Err(LeaseLost::Expired),
            kept = self.keep() => kept,
        };
        if let Err(lost) = kept {
            holding.lose(lost);
        }
    }

    async fn keep(&mut self) -> Result<(), LeaseLost> {
        loop {
            let due = self.next_write();
            let rt = self.setting.rt.clone();
            tokio::select! {
                biased;
                order = self.orders.recv() => match order.map(|order| *order) {
                    None => return Ok(()),
                    Some(Order::Part { parting, done }) => {
                        // Before the write is sent: once it is applied, a successor may begin.
                        self.holding.lose(LeaseLost::Shutdown);
                        let parted = self.part(parting).await;
                        // The consumer may have been dropped; the lease is given up all the same.
                        let _nobody_waits = done.send(parted);
                        return Ok(());
                    }
                    Some(Order::Flush { at, done }) => self.flush(at, done).await?,
                    Some(Order::Prepare { pending, done }) => {
                        let write = self.progress_write().with_pending(pending);
                        self.write_and_answer(write, done).await?;
                    }
                },
                // Before what a busy processor can keep ready.
                due = reached(&rt, due) => {
                    self.report_lateness(due);
                    self.renew().await?;
                }
                () = self.holding.dirty.notified() => {
                    self.dirty_since = self.dirty_since.filter(|_| !planted::is(Bug::CadenceRestarts));
                    self.dirty_since.get_or_insert(self.setting.rt.now());
                }
            }
        }
    }

    /// When the lease is written next: when its renewal is due, or when an acknowledgement has waited enough.
    fn next_write(&self) -> Option<Mono> {
        let checkpoint = self.dirty_since.map(|since| since + self.setting.checkpoint_every);
        self.tenure.renewal_due().into_iter().chain(checkpoint).min()
    }

    /// Whether the lease may still be written for.
    fn holds(&mut self) -> bool {
        if let Some(pulse) = self.holding.pulse() {
            self.tenure.sustained(pulse.validity());
        }
        self.tenure.holds(&self.setting.rt.stamp())
    }

    fn report_lateness(&self, due: Mono) {
        let late = self.setting.rt.now().since(due);
        if late > self.setting.timing.renew_every() / 2 {
            self.setting.events.tell(EventKind::LateRenewal { shard: self.holding.lease.shard.clone(), late });
        }
    }

    /// Renews the lease. What the table refuses for now (a permission that is missing) is tried again until the validity ends.
    async fn renew(&mut self) -> Result<(), LeaseLost> {
        loop {
            match self.settle(Request::Write(self.progress_write())).await {
                Ok(_) => return Ok(()),
                Err(Unsettled::Lost(why)) => return Err(why),
                Err(Unsettled::Refused) => self.pause(REFUSED_PAUSE).await,
            }
        }
    }

    /// A renewal that records what was acknowledged.
    fn progress_write(&self) -> LeaseWrite {
        self.with_progress(LeaseWrite::renew())
    }

    fn with_progress(&self, write: LeaseWrite) -> LeaseWrite {
        self.holding.with_progress(write, self.tenure.lease())
    }

    async fn flush(&mut self, at: SequenceNumber, done: Reply) -> Result<(), LeaseLost> {
        if self.holding.progress().recorded() >= Checkpoint::Sequence(at) {
            // The caller may have stopped waiting.
            let _nobody_waits = done.send(Ok(()));
            return Ok(());
        }
        let write = self.progress_write();
        self.write_and_answer(write, done).await
    }

    async fn write_and_answer(&mut self, write: LeaseWrite, done: Reply) -> Result<(), LeaseLost> {
        let (answer, ended) = match self.settle(Request::Write(write)).await {
            Ok(_) => (Ok(()), Ok(())),
            // The write is one that the table never takes, such as a prepared state that is too large: the lease is none the worse.
            Err(Unsettled::Refused) => (Err(CheckpointFailure::Unavailable), Ok(())),
            Err(Unsettled::Lost(why @ LeaseLost::Expired)) => (Err(CheckpointFailure::Unavailable), Err(why)),
            Err(Unsettled::Lost(why)) => (Err(CheckpointFailure::LeaseLost), Err(why)),
        };
        // The caller may have stopped waiting.
        let _nobody_waits = done.send(answer);
        ended
    }

    /// Gives the lease up. While the table refuses that, the lease is renewed and it is tried again.
    async fn part(&mut self, parting: Parting) -> Parted {
        loop {
            match self.try_to_part(&parting).await {
                Ok(children) => return Parted::Done { children },
                Err(Unsettled::Lost(why)) => return Parted::Lost(why),
                Err(Unsettled::Refused) => {
                    self.pause(REFUSED_PAUSE).await;
                    if let Err(Unsettled::Lost(why)) = self.settle(Request::Write(LeaseWrite::renew())).await {
                        return Parted::Lost(why);
                    }
                }
            }
        }
    }

    async fn try_to_part(&mut self, parting: &Parting) -> Result<Vec<(Lease, Validity)>, Unsettled> {
        let request = match parting.clone() {
            Parting::Release { intended_for } if planted::is(Bug::ReleaseWithoutCheckpoint) => {
                Request::Write(LeaseWrite::release(intended_for))
            }
            Parting::Release { intended_for } => Request::Write(self.with_progress(LeaseWrite::release(intended_for))),
            Parting::Stop { reason } => Request::Write(self.with_progress(LeaseWrite::stop(reason))),
            Parting::Finish { .. } if planted::is(Bug::EndBeforeChildren) => Request::Finish(Vec::new()),
            Parting::Finish { children } => Request::Finish(children),
        };
        self.settle(request).await
    }

    /// Sends a request again and again until its outcome is known: a write on the counter that an unanswered one named either
    /// comes before it and makes it void, or is refused by it.
    ///
    /// # Errors
    /// The lease was lost, or the table refuses this request for a reason that time does not mend; nothing was written then.
    async fn settle(&mut self, request: Request) -> Result<Vec<(Lease, Validity)>, Unsettled> {
        let mut backoff = Backoff::new(Duration::from_millis(20), self.setting.timing.renew_every());
        loop {
            if !self.holds() && !self.revived().await {
                return Err(Unsettled::Lost(LeaseLost::Expired));
            }
            let sent = self.setting.rt.stamp();
            let error = match self.send(&request).await {
                Ok(Answer::Written(lease)) => {
                    self.acknowledged(sent, lease, &request).map_err(Unsettled::Lost)?;
                    return Ok(Vec::new());
                }
                Ok(Answer::Finished(children)) => {
                    let validity = Validity::from_write(sent);
                    return Ok(children.into_iter().map(|child| (child, validity)).collect());
                }
                Err(error) => error,
            };
            metrics::lease_write_failed(&error);
            match error.kind() {
                LeaseErrorKind::Conflict { current } => {
                    if matches!(request, Request::Finish(_)) && current.as_ref().is_some_and(|c| c.is_finished()) {
                        // Only an owner finishes, so an earlier, unanswered try did. Its children name this incarnation and
                        // are taken up when they are seen.
                        return Ok(Vec::new());
                    }
                    let parts = matches!(&request, Request::Write(LeaseWrite { owner: Change::Clear, .. }));
                    if parts && self.tenure.has_let_go(current.as_deref()) {
                        return Ok(Vec::new());
                    }
                    match self.tenure.refused(current.as_deref()) {
                        Refusal::Lost(why) => return Err(Unsettled::Lost(why)),
                        Refusal::OwnWriteFound => {
                            self.holding.set_counter(self.tenure.lease().counter);
                            if planted::is(Bug::ReadExtends) {
                                let (lease, now) = (self.tenure.lease().clone(), self.setting.rt.stamp());
                                self.acknowledged(now, lease, &request).map_err(Unsettled::Lost)?;
                            }
                            continue;
                        }
                    }
                }
                LeaseErrorKind::Unavailable { .. } if error.is_unknown() => match () {
                    () if planted::is(Bug::LostReplyIsLostLease) => return Err(Unsettled::Lost(LeaseLost::Taken)),
                    () if planted::is(Bug::LostReplyNotApplied) => {}
                    () => self.tenure.unanswered(),
                },
                _ => {}
            }
            if !self.setting.denials.as_ref().is_some_and(|denials| denials.heed(&error)) {
                let shard = self.holding.lease.shard.clone();
                self.setting.events.tell(EventKind::LeaseWriteRetried { shard, error: describe(&error) });
            }
            if matches!(error.kind(), LeaseErrorKind::Denied { .. } | LeaseErrorKind::Invalid { .. }) {
                return Err(Unsettled::Refused);
            }
            self.pause(backoff.next_pause()).await;
        }
    }

    /// Never, but for a planted bug: reads that the lease still names this worker, and goes on.
    async fn revived(&mut self) -> bool {
        if !planted::is(Bug::ValidityRevived) {
            return false;
        }
        let (rt, mine) = (self.setting.rt.clone(), self.tenure.lease().owner.clone());
        let read = self.setting.table.get(&self.tenure.lease().key);
        match rt.timeout(self.setting.timing.request_timeout(), read).await {
            Some(Ok(Some(lease))) if lease.owner == mine && !lease.evicted => {
                let Some(owner) = mine else { return false };
                self.tenure = Tenure::begun(owner, self.setting.timing, lease, Validity::from_write(rt.stamp()));
                self.holding.set_validity(self.tenure.validity());
                true
            }
            _ => false,
        }
    }

    fn acknowledged(&mut self, sent: Stamp, lease: Lease, request: &Request) -> Result<(), LeaseLost> {
        if let Request::Write(LeaseWrite { checkpoint: Some(checkpoint), .. }) = request {
            self.holding.progress().record(*checkpoint);
        }
        self.dirty_since = self.holding.progress().unrecorded().map(|_| sent.mono);
        self.holding.set_pending(lease.pending.clone());
        self.holding.set_counter(lease.counter);
        if let Some(pulse) = self.holding.pulse() {
            self.tenure.sustained(pulse.validity());
        }
        self.tenure.acknowledged(sent, &self.setting.rt.stamp(), lease)?;
        self.holding.set_validity(self.tenure.validity());
        Ok(())
    }

    /// One request, bounded by the request time-out and by the validity.
    async fn send(&self, request: &Request) -> Result<Answer, LeaseError> {
        let rt = &self.setting.rt;
        let lease = self.tenure.lease();
        let (key, guard) = (&lease.key, lease.guard());
        let left = self.tenure.validity().deadline(self.setting.timing).since(rt.now());
        let limit = left.min(self.setting.timing.request_timeout());
        let call = async {
            match request {
                Request::Write(write) => self.setting.table.write(key, &guard, write).await.map(Answer::Written),
                Request::Finish(children) => {
                    self.setting.table.finish(key, &guard, children).await.map(Answer::Finished)
                }
            }
        };
        rt.timeout(limit, call).await.unwrap_or_else(|| Err(timed_out()))
    }

    async fn pause(&self, time: Duration) {
        let rt = &self.setting.rt;
        let until = (rt.now() + rt.jitter(time)).min(self.tenure.validity().deadline(self.setting.timing));
        rt.sleep_until(until).await;
    }
}

/// Until the pulse that the lease hangs on is over.
async fn over(pulse: Option<&Pulse>) {
    match pulse {
        Some(pulse) => pulse.over().cancelled().await,
        None => std::future::pending().await,
    }
}

/// Until `due`, if there is such an instant.
async fn reached(rt: &Rt, due: Option<Mono>) -> Mono {
    let Some(due) = due else { return std::future::pending().await };
    rt.sleep_until(due).await;
    due
}

#[expect(clippy::large_enum_variant, reason = "one at a time lives, and nearly all are writes")]
enum Answer {
    Written(Lease),
    Finished(Vec<Lease>),
}

/// Why a request has no outcome that the keeper can go on from.
enum Unsettled {
    /// The lease is gone.
    Lost(LeaseLost),
    /// The table refuses the request as it is.
    Refused,
}

/// Between tries of what the table refuses.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// However a keeper ends, also by a fault of its own or because its worker was dropped: nobody may act on its lease any more.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.holding.lose(LeaseLost::Expired);
    }
}

/// A request to the lease table that did not answer in time: it may still be applied.
pub(crate) fn timed_out() -> LeaseError {
    LeaseError::new(LeaseErrorKind::Unavailable { outcome: crate::contract::Outcome::Unknown }, "request")
        .with_source("no answer within the request time-out")
}
