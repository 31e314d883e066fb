//! What the keeper of a lease, its consumer and its checkpointers share.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::pulse::Pulse;
use crate::contract::{CheckpointFailure, CheckpointPort, LeaseLost, MAX_PREPARED_STATE, Rt};
use crate::model::{
    Checkpoint, Lease, LeaseCounter, LeaseWrite, NewLease, Owner, PendingCheckpoint, SequenceNumber, StopReason, Tip,
};
use crate::planted::{self, Bug};
use crate::policy::load::Meter;
use crate::policy::loss;
use crate::policy::progress::Progress;
use crate::policy::tenure::{LeaseTiming, Validity};
use crate::surface::lock;

/// One lease while this worker holds it.
#[derive(Debug)]
pub(crate) struct Holding {
    /// The lease as it was when the tenure began.
    pub(crate) lease: Lease,
    timing: LeaseTiming,
    rt: Rt,
    validity: Mutex<Validity>,
    /// Where the worker's heartbeats keep all its leases, they alone count.
    pulse: Option<Arc<Pulse>>,
    progress: Mutex<Progress>,
    meter: Mutex<Meter>,
    /// What is prepared and not made, as the last write left it.
    pending: Mutex<Option<PendingCheckpoint>>,
    /// When the shard was last read to its tip, and the last record read then.
    tip: Mutex<Option<(SystemTime, Option<SequenceNumber>)>>,
    /// When the tip was seen that the lease notes, or is about to; and how old that may grow.
    noted: Mutex<Option<SystemTime>>,
    note_within: Duration,
    /// The counter that the keeper's last write left.
    counter: Mutex<LeaseCounter>,
    /// Something waits to be recorded.
    pub(crate) dirty: Notify,
    lost: CancellationToken,
    why_lost: OnceLock<LeaseLost>,
    /// Boxed, since a channel makes room for dozens at once, and there are thousands of leases.
    orders: mpsc::Sender<Box<Order>>,
}

/// What the keeper is asked to write.
#[derive(Debug)]
pub(crate) enum Order {
    /// Record everything acknowledged up to `at`, now.
    Flush { at: SequenceNumber, done: oneshot::Sender<Result<(), CheckpointFailure>> },
    /// The first half of a two-phase checkpoint.
    Prepare { pending: PendingCheckpoint, done: oneshot::Sender<Result<(), CheckpointFailure>> },
    /// A last word; the keeper ends with it.
    Part { parting: Parting, done: oneshot::Sender<Parted> },
}

/// How an owner gives a lease up.
#[derive(Debug, Clone)]
pub(crate) enum Parting {
    /// Anyone may take it, `intended_for` first.
    Release { intended_for: Option<Owner> },
    /// Nobody may, until an operator clears it.
    Stop { reason: StopReason },
    /// The shard is done; these are its children.
    Finish { children: Vec<NewLease> },
}

/// How the parting went.
#[derive(Debug)]
pub(crate) enum Parted {
    /// It is durable. For a finish: the children this worker now owns, with the validity that the transaction gave.
    Done { children: Vec<(Lease, Validity)> },
    /// The lease was lost first.
    Lost(LeaseLost),
}

/// Room for orders: a processor's spawned tasks may all ask for a checkpoint at once, then they wait their turn.
const ORDERS: usize = 16;

impl Holding {
    pub(crate) fn new(
        lease: Lease,
        timing: LeaseTiming,
        validity: Validity,
        pulse: Option<Arc<Pulse>>,
        rt: Rt,
    ) -> (Arc<Self>, mpsc::Receiver<Box<Order>>) {
        let (orders, received) = mpsc::channel(ORDERS);
        let holding = Self {
            timing,
            validity: Mutex::new(validity),
            pulse,
            progress: Mutex::new(Progress::new(lease.checkpoint)),
            meter: Mutex::new(Meter::new(lease.load, rt.now())),
            noted: Mutex::new(lease.tip.map(|tip| tip.at)),
            note_within: loss::note_tip_within(&lease.key),
            counter: Mutex::new(lease.counter),
            rt,
            pending: Mutex::new(lease.pending.clone()),
            tip: Mutex::default(),
            dirty: Notify::new(),
            lost: CancellationToken::new(),
            why_lost: OnceLock::new(),
            orders,
            lease,
        };
        (Arc::new(holding), received)
    }

    /// Whether this worker may act for the shard now. Asked before every delivery.
    pub(crate) fn is_valid(&self) -> bool {
        !self.lost.is_cancelled() && self.validity().holds(&self.rt.stamp(), self.timing)
    }

    fn validity(&self) -> Validity {
        match &self.pulse {
            Some(pulse) => pulse.validity(),
            None => *lock(&self.validity),
        }
    }

    /// The pulse that this lease hangs on, where it is the worker's.
    pub(crate) fn pulse(&self) -> Option<&Pulse> {
        self.pulse.as_deref()
    }

    pub(crate) fn set_validity(&self, validity: Validity) {
        *lock(&self.validity) = validity;
    }

    pub(crate) fn set_pending(&self, pending: Option<PendingCheckpoint>) {
        *lock(&self.pending) = pending;
    }

    pub(crate) fn pending(&self) -> Option<PendingCheckpoint> {
        lock(&self.pending).clone()
    }

    /// The counter of the lease as this worker wrote it last.
    pub(crate) fn counter(&self) -> LeaseCounter {
        *lock(&self.counter)
    }

    pub(crate) fn set_counter(&self, counter: LeaseCounter) {
        *lock(&self.counter) = counter;
    }

    /// At `at`, the shard held nothing after `read`. An idle lease that nobody renews is written for that alone, now and then.
    pub(crate) fn reached_tip(&self, at: SystemTime, read: Option<SequenceNumber>) {
        *lock(&self.tip) = Some((at, read));
        let Some(tip) = self.tip().filter(|_| self.pulse.is_some()) else { return };
        let mut noted = lock(&self.noted);
        if loss::is_to_be_noted(*noted, tip.at, self.note_within) {
            *noted = Some(tip.at);
            self.dirty.notify_one();
        }
    }

    /// When the shard held nothing after `read`, as far as this owner has seen.
    pub(crate) fn tip_of(&self, read: Option<SequenceNumber>) -> Option<SystemTime> {
        lock(&self.tip).filter(|(_, at_tip)| *at_tip <= read).map(|(at, _)| at)
    }

    /// What a write may say of the tip: where all that was read then is done.
    pub(crate) fn tip(&self) -> Option<Tip> {
        let progress = self.progress();
        let at = self.tip_of(progress.acknowledged())?;
        Some(Tip { at, checkpoint: progress.unrecorded().unwrap_or(progress.recorded()) })
    }

    /// Adds what was acknowledged to a write of `lease`, as the table has it. What is prepared beyond that stays prepared.
    pub(crate) fn with_progress(&self, write: LeaseWrite, lease: &Lease) -> LeaseWrite {
        let write = write.with_tip(self.tip());
        let progress = self.progress();
        let checkpoint = progress.unrecorded();
        let load = self.meter().news(lease.load, self.rt.now());
        let mut write = write.with_checkpoint(checkpoint).with_load(load);
        let prepared = lease.pending.as_ref().filter(|prepared| Some(prepared.at) > checkpoint);
        let prepared = prepared.filter(|_| !planted::is(Bug::PreparedForgotten));
        if let (Some(_), Some(prepared)) = (checkpoint, prepared) {
            write = write.with_pending(prepared.clone());
        }
        if progress.ends_filter(checkpoint) { write.without_start_at() } else { write }
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }

    pub(crate) fn meter(&self) -> MutexGuard<'_, Meter> {
        lock(&self.meter)
    }

    /// Fires when this worker may no longer act for the shard.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Ends the tenure. The first reason stands.
    pub(crate) fn lose(&self, why: LeaseLost) {
        // A second reason adds nothing.
        let _first_stands = self.why_lost.set(why);
        self.lost.cancel();
    }

    /// Why the tenure ended. `Expired` where a validity ran out that nobody has noticed yet.
    pub(crate) fn why_lost(&self) -> LeaseLost {
        self.why_lost.get().copied().unwrap_or(LeaseLost::Expired)
    }

    /// Acknowledges up to `at`; the keeper records it in its own time.
    pub(crate) fn acknowledge(&self, at: SequenceNumber) -> Result<(), CheckpointFailure> {
        if self.lost.is_cancelled() {
            return Err(CheckpointFailure::LeaseLost);
        }
        let news = self
            .progress()
            .acknowledge(at)
            .map_err(|beyond| CheckpointFailure::BeyondDelivered { at, delivered: beyond.delivered })?;
        if news {
            self.dirty.notify_one();
        }
        Ok(())
    }

    /// Gives the lease up and waits until that is durable.
    pub(crate) async fn part(&self, parting: Parting) -> Parted {
        let (done, parted) = oneshot::channel();
        if self.orders.send(Box::new(Order::Part { parting, done })).await.is_err() {
            return Parted::Lost(self.why_lost());
        }
        parted.await.unwrap_or_else(|_keeper_ended| Parted::Lost(self.why_lost()))
    }

    async fn order(
        &self,
        order: Order,
        answer: oneshot::Receiver<Result<(), CheckpointFailure>>,
    ) -> Result<(), CheckpointFailure> {
        self.orders.send(Box::new(order)).await.map_err(|_keeper_ended| CheckpointFailure::LeaseLost)?;
        answer.await.unwrap_or(Err(CheckpointFailure::LeaseLost))
    }
}

#[async_trait]
impl CheckpointPort for Holding {
    async fn checkpoint(&self, at: SequenceNumber) -> Result<(), CheckpointFailure> {
        self.acknowledge(at)?;
        if self.progress().recorded() >= Checkpoint::Sequence(at) {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        self.order(Order::Flush { at, done }, answer).await
    }

    fn ack(&self, at: SequenceNumber) -> Result<(), CheckpointFailure> {
        self.acknowledge(at)
    }

    async fn prepare(&self, at: SequenceNumber, state: Option<Bytes>) -> Result<(), CheckpointFailure> {
        let delivered = self.progress().delivered();
        if Some(at) > delivered {
            return Err(CheckpointFailure::BeyondDelivered { at, delivered });
        }
        let len = state.as_ref().map_or(0, Bytes::len);
        if len > MAX_PREPARED_STATE {
            return Err(CheckpointFailure::StateTooLarge { len });
        }
        let pending = PendingCheckpoint { at: Checkpoint::Sequence(at), state };
        let (done, answer) = oneshot::channel();
        self.order(Order::Prepare { pending, done }, answer).await
    }
}
