//! Keeps this application's reader slots, and holds up reading while a stream's slot is not held.
//!
//! ```text
//!   registry ◄──look, renew── keeper (one for each stream) ──right to read──► gate ──► every fetch of the stream
//! ```
//! Every worker of the application does the same; whoever sees the slot stand still for a while renews it for all. The slot of a stream
//! that was left is not renewed, until somebody waits at its gate: a rewind has brought it back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::told::{denied_by_registry, describe};
use crate::contract::{
    Mono, Outcome, Reader, ReaderLimit, ReaderRegistry, ReaderSlot, ReaderSlots, RegistryError, RegistryErrorKind, Rt,
    TaskClass, TaskHandle,
};
use crate::model::StreamArn;
use crate::policy::backoff::Backoff;
use crate::policy::foreign::{ForeignReaders, OwnCalls};
use crate::policy::readers::{SlotStep, SlotWatch, all_fresh, slot_timing};
use crate::policy::tenure::Validity;
use crate::surface::config::ReaderPolicy;
use crate::surface::event::{EventKind, Events};
use crate::surface::status::Board;
use crate::surface::{lock, metrics};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Tries of a round that others get in the way of.
const TRIES: usize = 8;

/// Between tries: so many workers of one application may begin at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Rounds of a worker that starts, where the registry throttles or cannot be reached.
const START_TRIES: u32 = 6;

/// Between them.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The reader slots of one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    slots: Option<Arc<Slots>>,
    rt: Rt,
    gates: Arc<Mutex<BTreeMap<StreamArn, Kept>>>,
}

/// A gate, and the task that opens and shuts it.
#[derive(Debug)]
struct Kept {
    gate: Gate,
    _keeper: Option<TaskHandle<()>>,
}

#[derive(Debug)]
struct Slots {
    registry: Arc<dyn ReaderRegistry>,
    me: Reader,
    policy: ReaderPolicy,
    limit: usize,
    /// What was seen when the worker was built.
    admitted: Mutex<BTreeMap<StreamArn, SlotWatch>>,
}

/// Why an application may not begin on a stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error(transparent)]
    Limit(#[from] ReaderLimit),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Readers {
    /// Slots in `registry`; without one, or with [`ReaderPolicy::Off`], every stream may be read.
    pub(crate) fn new(
        registry: Option<(Arc<dyn ReaderRegistry>, Reader)>,
        policy: ReaderPolicy,
        limit: usize,
        rt: Rt,
    ) -> Self {
        let slots = registry
            .filter(|_| policy != ReaderPolicy::Off)
            .map(|(registry, me)| Arc::new(Slots { registry, me, policy, limit, admitted: Mutex::default() }));
        Self { slots, rt, gates: Arc::default() }
    }

    /// Claims or renews the application's slots of all these streams before anything is begun.
    ///
    /// All are looked at before one is claimed: an application that is refused for one stream and started again and again would keep
    /// others from the rest.
    ///
    /// # Errors
    /// Others hold the slots, or the registry cannot be asked.
    ///
    /// # Cancel safety
    /// Slots may have been claimed; they free themselves.
    pub(crate) async fn admit(&self, streams: &[StreamArn]) -> Result<(), NotAdmitted> {
        let Some(slots) = &self.slots else { return Ok(()) };
        let mut watches = Vec::new();
        for stream in streams {
            let mut watch = SlotWatch::new(slots.me.clone(), slots.limit, self.rt.now());
            let full = slots.patiently(stream, &mut watch, &self.rt, Round::Look).await?;
            self.refuse(stream, full)?;
            watches.push(watch);
        }
        for (stream, mut watch) in streams.iter().zip(watches) {
            let full = slots.patiently(stream, &mut watch, &self.rt, Round::Claim).await?;
            self.refuse(stream, full)?;
            lock(&slots.admitted).insert(stream.clone(), watch);
        }
        Ok(())
    }

    fn refuse(&self, stream: &StreamArn, full: Vec<ReaderSlot>) -> Result<(), ReaderLimit> {
        if full.is_empty() || !all_fresh(&full, self.rt.wall()) {
            return Ok(());
        }
        let holders = full.into_iter().map(|slot| slot.holder).collect();
        Err(ReaderLimit { stream: stream.clone(), holders })
    }

    /// The gate that every read of the stream goes through. The first call begins to keep the slot.
    pub(crate) fn gate(&self, stream: &StreamArn, events: &Events, board: &Board) -> Gate {
        let mut gates = lock(&self.gates);
        if let Some(kept) = gates.get(stream) {
            return kept.gate.clone();
        }
        let kept = match &self.slots {
            None => Kept { gate: Gate::new(Right::Always, self.rt.clone()).0, _keeper: None },
            Some(slots) => {
                let (gate, rights) = Gate::new(Right::Until(None), self.rt.clone());
                let wanted = gate.wanted.subscribe();
                let admitted = lock(&slots.admitted).remove(stream);
                let watch = admitted.unwrap_or_else(|| SlotWatch::new(slots.me.clone(), slots.limit, self.rt.now()));
                let (slots, stream, events, rt) = (slots.clone(), stream.clone(), events.clone(), self.rt.clone());
                let keeper = SlotKeeper { slots, stream, events, board: board.clone(), rt, rights, wanted, held: None };
                let keeper = self.rt.spawn("reader slot", TaskClass::Lease, keeper.run(watch));
                Kept { gate, _keeper: Some(keeper) }
            }
        };
        let gate = kept.gate.clone();
        gates.insert(stream.clone(), kept);
        gate
    }

    /// A shard of the stream is read from now on, also if the stream had been left.
    pub(crate) fn want(&self, stream: &StreamArn) {
        if let Some(kept) = lock(&self.gates).get(stream) {
            kept.gate.want();
        }
    }

    /// Nothing of the stream is left to read: its slot is not renewed any more, and frees itself. Whoever reads it all the same waits
    /// until the slot is held again.
    pub(crate) fn leave(&self, stream: &StreamArn) {
        if let Some(kept) = lock(&self.gates).get(stream) {
            kept.gate.wanted.send_replace(false);
        }
    }
}

/// How far a round goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Nothing is written.
    Look,
    /// What is due is claimed or renewed.
    Claim,
}

impl Slots {
    /// A round, made again where that may help: one call that is throttled ends no program.
    async fn patiently(
        &self,
        stream: &StreamArn,
        watch: &mut SlotWatch,
        rt: &Rt,
        how: Round,
    ) -> Result<Vec<ReaderSlot>, RegistryError> {
        let mut backoff = Backoff::new(PAUSE, LONGEST_PAUSE);
        for _ in 1..START_TRIES {
            match self.round(stream, watch, rt, how).await {
                Err(error) if error.is_retryable() => rt.sleep(rt.jitter(backoff.next_pause())).await,
                settled => return settled,
            }
        }
        self.round(stream, watch, rt, how).await
    }

    /// Looks, and claims or renews where that is due. Returns who holds the slots where all are taken, else nobody.
    async fn round(
        &self,
        stream: &StreamArn,
        watch: &mut SlotWatch,
        rt: &Rt,
        how: Round,
    ) -> Result<Vec<ReaderSlot>, RegistryError> {
        for _ in 0..TRIES {
            let sent = rt.stamp();
            let slots = bounded(rt, self.registry.slots(stream)).await?;
            watch.read(sent, rt.now(), slots);
            let claim = match watch.decide(&rt.stamp()) {
                SlotStep::Keep => return Ok(Vec::new()),
                SlotStep::Full(holders) => return Ok(holders),
                SlotStep::Write(_) if how == Round::Look => return Ok(Vec::new()),
                SlotStep::Write(claim) => claim,
            };
            let sent = rt.stamp();
            match bounded(rt, self.registry.write(stream, watch.seen(), &claim)).await {
                Ok(slots) => {
                    watch.wrote(sent, rt.now(), slots);
                    return Ok(Vec::new());
                }
                // Another worker of ours was faster, or another application.
                Err(error) if *error.kind() == RegistryErrorKind::Conflict => rt.sleep(rt.jitter(PAUSE)).await,
                Err(error) => return Err(error),
            }
        }
        Err(RegistryError::new(RegistryErrorKind::Throttled, "write").with_source("others write at the same time"))
    }
}

async fn bounded(
    rt: &Rt,
    call: impl Future<Output = Result<ReaderSlots, RegistryError>> + Send,
) -> Result<ReaderSlots, RegistryError> {
    rt.timeout(REQUEST_TIMEOUT, call).await.unwrap_or_else(|| {
        let kind = RegistryErrorKind::Unavailable { outcome: Outcome::Unknown };
        Err(RegistryError::new(kind, "request").with_source("no answer within the request time-out"))
    })
}

/// Keeps the slot of one stream.
struct SlotKeeper {
    slots: Arc<Slots>,
    stream: StreamArn,
    events: Events,
    board: Board,
    rt: Rt,
    rights: watch::Sender<Right>,
    /// Whether there is anything to read.
    wanted: watch::Receiver<bool>,
    /// What was told last.
    held: Option<bool>,
}

impl SlotKeeper {
    async fn run(mut self, mut watch: SlotWatch) {
        loop {
            if !*self.wanted.borrow() {
                self.board.slot_left(&self.stream);
                self.held = None;
                if self.wanted.wait_for(|wanted| *wanted).await.is_err() {
                    return;
                }
            }
            self.grant(watch.validity());
            let outcome = self.slots.round(&self.stream, &mut watch, &self.rt, Round::Claim).await;
            self.grant(watch.validity());
            self.tell(watch.validity(), outcome);
            let next = watch.next_look(&self.rt.stamp(), |pause| self.rt.jitter(pause));
            self.rt.sleep_until(next).await;
        }
    }

    /// Who only asks at the start waits for its slot like any other, and once it has had it reads on without.
    fn grant(&self, validity: Option<Validity>) {
        let admitted = self.slots.policy == ReaderPolicy::AdmitOnly && validity.is_some();
        let right = *self.rights.borrow();
        if let Right::Until(_) = right {
            self.rights.send_replace(if admitted { Right::Always } else { Right::Until(validity) });
        }
    }

    fn tell(&mut self, validity: Option<Validity>, outcome: Result<Vec<ReaderSlot>, RegistryError>) {
        let holds = validity.is_some_and(|validity| validity.holds(&self.rt.stamp(), slot_timing()));
        if let Err(error) = &outcome {
            denied_by_registry(error).into_iter().for_each(|event| self.events.tell(event));
            tracing::warn!(%error, stream = %self.stream, "the reader slot was not looked at; tried again");
        }
        let (holders, error) = match outcome {
            Ok(slots) => (slots.into_iter().map(|slot| slot.holder).collect(), None),
            Err(error) => (Vec::new(), Some(describe(&error))),
        };
        self.board.slot(&self.stream, holds, &holders, error.as_deref());
        if self.held.replace(holds) == Some(holds) {
            return;
        }
        let stream = self.stream.clone();
        self.events.tell(match holds {
            true => EventKind::ReaderSlotHeld { stream },
            false => EventKind::ReaderSlotLost { stream, holders, error },
        });
    }
}

/// Whether a stream may be read.
#[derive(Debug, Clone, Copy)]
enum Right {
    Always,
    Until(Option<Validity>),
}

impl Right {
    fn holds(self, rt: &Rt) -> bool {
        match self {
            Self::Always => true,
            Self::Until(validity) => validity.is_some_and(|validity| validity.holds(&rt.stamp(), slot_timing())),
        }
    }
}

/// What every read of a stream goes through. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    rights: watch::Receiver<Right>,
    wanted: Arc<watch::Sender<bool>>,
    rt: Rt,
    foreign: Arc<Mutex<ForeignReaders>>,
}

impl Gate {
    fn new(right: Right, rt: Rt) -> (Self, watch::Sender<Right>) {
        let (sender, rights) = watch::channel(right);
        (Self { rights, wanted: Arc::new(watch::Sender::new(true)), rt, foreign: Arc::default() }, sender)
    }

    fn want(&self) {
        self.wanted.send_if_modified(|wanted| !std::mem::replace(wanted, true));
    }

    /// Whether the stream may be read now.
    pub(crate) fn is_open(&self) -> bool {
        self.rights.borrow().holds(&self.rt)
    }

    /// For how long a call that begins now may take: it ends with the right to read, although that may have been renewed by then.
    pub(crate) fn open_for(&self, at_most: Duration) -> Duration {
        match *self.rights.borrow() {
            Right::Always => at_most,
            Right::Until(validity) => {
                let left = validity.map(|validity| validity.deadline(slot_timing()).since(self.rt.now()));
                left.unwrap_or_default().min(at_most)
            }
        }
    }

    /// Waits until the stream may be read.
    ///
    /// # Cancel safety
    /// Dropping it ends the wait and nothing else.
    pub(crate) async fn opened(&self) {
        let mut rights = self.rights.clone();
        loop {
            let right = *rights.borrow_and_update();
            if right.holds(&self.rt) {
                return;
            }
            self.want();
            if rights.changed().await.is_err() {
                // The worker has ended.
                std::future::pending::<()>().await;
            }
        }
    }

    /// A read was refused for too many calls. Tells when that means that others read the stream.
    pub(crate) fn refused(&self, own: &OwnCalls, stream: &StreamArn, now: Mono, events: &Events) {
        if own.explain_refusal() {
            return;
        }
        metrics::foreign_throttle(stream);
        let told = lock(&self.foreign).refused(now);
        if let Some(throttles) = told {
            events.tell(EventKind::ForeignReaders { stream: stream.clone(), throttles });
        }
    }
}
