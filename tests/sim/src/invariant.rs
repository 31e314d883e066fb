//! What must hold in every run, whatever fails: one file for each property.
//!
//! A [`Watch`] sees everything that matters in a fleet at the instant it happens, in the order of true time: every change of the lease
//! table, every call of a processor, every page that is fetched. It tells the checkers, one by one, and the first that objects fails
//! the run after the present poll. A [`Fleet`](crate::fleet::Fleet) has a watch from its beginning, so every test of the engine is
//! judged by all of them. No checker asks a worker what it believes it may do, but for the token that the worker itself gives to
//! processors; and none looks over the whole world again: each event costs a few steps in small maps.
//!
//! | id | promise | file | what |
//! |---|---|---|---|
//! | S1 | P3 | `one_owner` | only the owner by the lease table is called, and nobody believes to own what another does |
//! | S2 | P3 | `lease_writes` | counters rise by one; a take needs an owner that stood still, or was fenced |
//! | S3 | P2, P8 | `checkpoints` | a checkpoint never moves back and never passes what was acknowledged |
//! | S4 | P1 | `parents_first` | no child is opened before its parent is finished, or its loss was reported |
//! | S5 | P1 | `order` | within one ownership, records come in order |
//! | S6 | P3 | `last_call` | nothing is called after its last word |
//! | S7 | P1 | `one_call` | one call at a time for each shard |
//! | S8 | P7 | `memory` | what is fetched and not processed stays within the budget |
//! | S9 | P7 | `call_rate` | calls to the stream stay within their budgets |
//! | S10 | P5, P6 | `frontier` | no lease is deleted unfinished; at the end every shard that can be read has a lease |
//! | S11 | P4 | `readers` | only who holds a reader slot reads the stream, and of its workers one each shard |
//! | L1 | P2, P6 | `records` | nothing is lost, reordered or invented: the history checker |
//! | L2 | P5 | `tombstones` | closed shards are finished, and what is gone leaves the table |
//! | L3 | P5 | `even_share` | the shards are evenly shared |
//! | L4 | P5 | `caught_up` | every record is processed soon after it was written |
//! | L5 | P9 | `no_leak` | a worker that has ended leaves no task behind |
//! | L6 | P9 | `repeats` | without faults nothing is delivered twice; after crashes no more than was under way |
//! | L7 | P5 | `unowned` | a shard is without a reader for no longer than a lease lasts, and an observation |
//!
//! S are judged at every step, L once faults have ended and the fleet had time to settle ([`Watch::check_end`]). A run in which nothing
//! interesting happened proves nothing: [`Sometimes`] counts what did, and a set of runs that misses a [`Milestone`] fails.

mod call_rate;
mod caught_up;
mod checkpoints;
mod end;
mod even_share;
mod frontier;
mod last_call;
mod lease_writes;
mod memory;
mod no_leak;
mod one_call;
mod one_owner;
mod order;
mod parents_first;
mod readers;
pub(crate) mod records;
mod repeats;
mod sometimes;
mod source;
mod table;
mod talk;
pub(crate) mod tombstones;
mod unowned;

#[cfg(test)]
mod testing;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kcl_core::reference::{MemoryLeaseTable, ReferenceStream, ShardView};
use kcl_core::{
    BootstrapMarker, DataLoss, EventKind, Lease, LeaseGuard, LeaseLost, LeaseTable, Liveness, LostUntil, Reader,
    SequenceNumber, ShardContext, ShardId, SourceErrorKind, SourceOp, StartPosition, StreamArn, StreamSource,
    WorkerConfig, WorkerItem,
};
use tokio_util::sync::CancellationToken;

use crate::Handle;
use crate::history::{Entry, Session};
use crate::process::ProcessId;
use crate::world::{streams, truth};

pub use end::{Ending, Expect, ShardFact};
pub use sometimes::{Milestone, Sometimes};
pub use unowned::Gap;

/// A property, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Law {
    /// `S1` to `S11` and `L1` to `L7`.
    pub id: &'static str,
    /// The promises of `docs/guarantees.md` that rest on it.
    pub promise: &'static str,
    /// In a few words.
    pub name: &'static str,
}

/// A property that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// When, since the run began.
    pub at: Duration,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { law: Law { id, promise, name }, at, what } = self;
        write!(f, "{id} ({promise}) {name}, at {at:?}: {what}")
    }
}

/// What the rules depend on.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// D.
    pub(crate) lease_duration: Duration,
    pub(crate) memory: usize,
    pub(crate) concurrent_fetches: usize,
    pub(crate) calls_per_second: u32,
    pub(crate) max_leases: usize,
    pub(crate) start: StartPosition,
    /// How the death of a worker is seen; the table's meta item says.
    pub(crate) liveness: Liveness,
}

impl Rules {
    pub(crate) fn new(config: &WorkerConfig, start: StartPosition) -> Self {
        Self {
            lease_duration: config.lease_duration,
            memory: config.memory,
            concurrent_fetches: config.concurrent_fetches,
            calls_per_second: config.calls_per_second,
            max_leases: config.max_leases,
            start,
            liveness: Liveness::PerLease,
        }
    }
}

/// One boot of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) ProcessId);

/// What a place is able to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Its tasks run.
    Runs,
    /// Its leases are kept, but user code blocks its threads.
    Blocked,
    /// It runs, but was suspended some time: it learns what it missed only when it looks at its clocks.
    Woken,
    /// Nothing of it runs.
    Stands,
    /// It has ended, at this time.
    Dead(Duration),
}

/// A processor instance that was initialised.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) session: Session,
    pub(crate) shard: ShardId,
    pub(crate) place: Place,
    /// The lease's counter when its tenure began.
    pub(crate) epoch: u64,
    pub(crate) lost: CancellationToken,
    /// The shard that it continues, whatever listings and leases say.
    pub(crate) parent: Option<ShardId>,
    /// The shards of the streams that the table had before.
    pub(crate) before: Vec<ShardId>,
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seen<'a> {
    /// A write was applied: the item before and after. A lease that was put there by hand is seen at its next write.
    Lease { before: Option<&'a Lease>, after: Option<&'a Lease> },
    /// An operator is about to take a lease back, or to let its owner go: the next change of it is that.
    Operated { shard: &'a ShardId },
    /// A write of a lease was refused.
    Refused { guard: &'a LeaseGuard, current: Option<&'a Lease> },
    /// A worker's item changed.
    Worker { before: Option<&'a WorkerItem>, after: Option<&'a WorkerItem> },
    /// A shard was finished, whose children that have not left the stream these are; and whether one of them has a lease.
    Finished { shard: &'a ShardId, children: &'a [ShardId], leased: bool },
    /// The tombstone of a shard was deleted, or it was reported as vanished; and whether it has left the stream.
    TakenAsGone { shard: &'a ShardId, vanished: bool },
    /// The beginning was fixed or completed, and these shards are none of the application's business.
    Begun { settled: &'a BTreeSet<ShardId> },
    /// A processor was initialised.
    Opened(&'a Opened),
    /// A line of the history.
    Line(&'a Entry),
    /// A call of this processor began.
    CallBegan(Session),
    /// It returned or was dropped.
    CallOver(Session),
    /// `shutdown_requested` returned.
    Parting(Session),
    /// It was told that its lease is lost.
    Lost { session: Session, shard: &'a ShardId, why: LeaseLost },
    /// A call to the stream was made.
    Asked { place: Place, op: SourceOp, shard: Option<&'a ShardId> },
    /// It failed.
    Denied { op: SourceOp, kind: SourceErrorKind },
    /// A page was given to a worker.
    Fetched { place: Place, shard: &'a ShardId, bytes: usize, last: Option<SequenceNumber> },
    /// A call for records arrives at the stream from an application, and these hold the stream's slots, if they are kept at all.
    Read { application: &'a str, holders: Option<&'a [String]> },
    /// The loss of records after the first was reported, and the second, which it counts among them, is there.
    Reported { shard: &'a ShardId, after: Option<SequenceNumber>, there: Option<SequenceNumber> },
    /// A reader slot went from one application to another.
    SlotPassed,
    /// An application was refused by these holders.
    TurnedAway { application: &'a str, holders: &'a [Reader] },
    /// A worker told an event.
    Told(&'a EventKind),
}

/// What a checker may know beside the event.
pub(crate) struct Now<'a> {
    pub(crate) at: Duration,
    pub(crate) rules: &'a Rules,
    pub(crate) condition: &'a dyn Fn(Place) -> Condition,
}

/// A property that is judged at every step.
pub(crate) trait Invariant: fmt::Debug + Send {
    fn law(&self) -> Law;

    /// Takes an event in.
    ///
    /// # Errors
    /// What is wrong.
    fn see(&mut self, now: &Now<'_>, seen: &Seen<'_>) -> Result<(), String>;
}

fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<one_owner::OneOwner>::default(),
        Box::<lease_writes::LeaseWrites>::default(),
        Box::<checkpoints::Checkpoints>::default(),
        Box::<parents_first::ParentsFirst>::default(),
        Box::<order::Order>::default(),
        Box::<last_call::LastCall>::default(),
        Box::<one_call::OneCall>::default(),
        Box::<memory::Memory>::default(),
        Box::<call_rate::CallRate>::default(),
        Box::<frontier::Frontier>::default(),
        Box::<readers::Readers>::default(),
    ]
}

/// Sees everything and judges it. Clones share what they saw.
#[derive(Clone)]
pub struct Watch {
    sim: Handle,
    state: Arc<Mutex<State>>,
}

struct State {
    rules: Rules,
    service: ReferenceStream,
    stream: StreamArn,
    invariants: Vec<Box<dyn Invariant>>,
    unowned: unowned::Unowned,
    waits: repeats::Waits,
    sometimes: Sometimes,
    violation: Option<Violation>,
    talks: bool,
}

/// How long listings may leave a shard out.
const NEW: Duration = Duration::from_secs(10);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("violation", &self.lock().violation).finish_non_exhaustive()
    }
}

impl Watch {
    /// A watch over the consumers of `stream`, whose workers have this configuration and start.
    ///
    /// It sees what goes through [`Watch::table`] and [`Watch::source`], and what a [`History`](crate::History) that knows it records.
    #[must_use]
    pub fn attach(
        sim: &Handle,
        service: &ReferenceStream,
        stream: &StreamArn,
        config: &WorkerConfig,
        start: StartPosition,
    ) -> Self {
        let state = State {
            rules: Rules::new(config, start),
            service: service.clone(),
            stream: stream.clone(),
            invariants: all(),
            unowned: unowned::Unowned::default(),
            waits: repeats::Waits::default(),
            sometimes: Sometimes::default(),
            violation: None,
            talks: false,
        };
        Self { sim: sim.clone(), state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease table, watched.
    #[must_use]
    pub fn table(&self, inner: MemoryLeaseTable) -> Arc<dyn LeaseTable> {
        Arc::new(table::Watched { inner, watch: self.clone(), operated: None })
    }

    /// The lease table as an operator writes it, who may do what no worker may; each lease that he has written is told as he left it.
    #[must_use]
    pub fn operators_table(
        &self,
        inner: MemoryLeaseTable,
        rewound: impl Fn(&Lease) + Send + Sync + 'static,
    ) -> Arc<dyn LeaseTable> {
        Arc::new(table::Watched { inner, watch: self.clone(), operated: Some(Box::new(rewound)) })
    }

    /// An application was refused at its start.
    pub(crate) fn turned_away(&self, application: &str, holders: &[Reader]) {
        self.see(&Seen::TurnedAway { application, holders });
    }

    /// The stream, watched, as one worker reads it.
    #[must_use]
    pub fn source(&self, inner: Arc<dyn StreamSource>) -> Arc<dyn StreamSource> {
        Arc::new(source::Watched::new(inner, self.clone()))
    }

    /// Prints what happens to leases and what workers tell, from now on.
    pub fn talk(&self) {
        self.lock().talks = true;
    }

    /// What did not hold first, if anything.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.lock().violation.clone()
    }

    /// What happened how often.
    #[must_use]
    pub fn sometimes(&self) -> Sometimes {
        self.lock().sometimes.clone()
    }

    /// The longest times that shards were without a reader, longest first.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        self.lock().unowned.gaps()
    }

    /// Judges the end of a run, once faults have ended and the fleet had time to settle.
    ///
    /// # Errors
    /// All that does not hold.
    pub fn check_end(&self, ending: &Ending, expect: &Expect) -> Result<(), Vec<Violation>> {
        let violations = end::check(ending, expect, &self.gaps(), self.lock().waits.longest().as_ref());
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }

    /// Whose task is being polled.
    pub(crate) fn here(&self) -> Place {
        Place(self.sim.running())
    }

    pub(crate) fn see(&self, seen: &Seen<'_>) {
        let at = self.sim.now();
        let mut state = self.lock();
        let State { rules, invariants, unowned, waits, sometimes, violation, talks, .. } = &mut *state;
        if *talks {
            talk::talk(at, seen);
        }
        if violation.is_some() {
            return;
        }
        let condition = |place: Place| self.sim.condition(place.0);
        let now = Now { at, rules, condition: &condition };
        unowned.see(&now, seen);
        waits.see(&now, seen);
        sometimes.see(seen);
        for invariant in invariants {
            if let Err(what) = invariant.see(&now, seen) {
                let found = violation.insert(Violation { law: invariant.law(), at, what });
                return self.sim.fail(found.to_string());
            }
        }
    }

    /// A processor was initialised.
    pub(crate) fn opened(&self, session: Session, context: &ShardContext) {
        let shard = context.shard().clone();
        // Of the ancestors of a shard that is gone itself nobody can know.
        let parent = self.view(&shard).filter(|view| !view.vanished).and_then(|view| view.shard.parent);
        let (epoch, lost, place) = (context.epoch(), context.lost().clone(), self.here());
        let before = self.earlier_than(&shard);
        self.see(&Seen::Opened(&Opened { session, shard, place, epoch, lost, parent, before }));
    }

    fn view(&self, shard: &ShardId) -> Option<ShardView> {
        let (service, stream) = {
            let state = self.lock();
            (state.service.clone(), state.stream.clone())
        };
        streams(&service, &stream).iter().find_map(|stream| service.shard(stream, shard))
    }

    /// The shards of the streams before the one that this shard is of.
    fn earlier_than(&self, shard: &ShardId) -> Vec<ShardId> {
        let (service, stream) = {
            let state = self.lock();
            (state.service.clone(), state.stream.clone())
        };
        let all = streams(&service, &stream);
        let own = all.iter().position(|stream| service.shard(stream, shard).is_some()).unwrap_or(0);
        all[..own].iter().flat_map(|stream| service.shards(stream)).map(|view| view.shard.id).collect()
    }

    /// A shard was finished in this table.
    pub(crate) async fn finished(&self, lease: &Lease, table: &MemoryLeaseTable) {
        let Some(view) = self.view(&lease.shard) else { return };
        let there = |child: &ShardId| self.view(child).is_some_and(|child| !child.vanished);
        let children: Vec<ShardId> = view.children.into_iter().filter(there).collect();
        let mut leased = false;
        for child in &children {
            let key = lease.key.as_str().replace(lease.shard.as_str(), child.as_str()).parse();
            leased |= matches!(key, Ok(key) if table.get(&key).await.is_ok_and(|lease| lease.is_some()));
        }
        self.see(&Seen::Finished { shard: &lease.shard, children: &children, leased });
    }

    /// Something was done that only a shard that has left the stream allows. Listings may contradict each other about a shard that is
    /// new, and then two of them may leave it out.
    pub(crate) fn taken_as_gone(&self, shard: &ShardId) {
        let is_new = |view: &ShardView| self.sim.rt().now().since(view.opened) < NEW;
        let vanished = self.view(shard).is_none_or(|view| view.vanished || is_new(&view));
        self.see(&Seen::TakenAsGone { shard, vanished });
    }

    /// The records of a shard that are neither trimmed nor gone with it.
    fn readable(&self, shard: &ShardId) -> Vec<SequenceNumber> {
        let Some(oldest) = self.view(shard).filter(|view| !view.vanished).and_then(|view| view.oldest) else {
            return Vec::new();
        };
        let truth = {
            let state = self.lock();
            truth(&state.service, &streams(&state.service, &state.stream))
        };
        let written = truth.shards.get(shard).map(|shard| shard.written.clone()).unwrap_or_default();
        written.into_iter().filter(|number| *number >= oldest).collect()
    }

    /// A loss was reported, and may be of what is there.
    pub(crate) fn reported(&self, loss: &DataLoss) {
        let (shard, after) = (&loss.shard.shard, loss.after);
        let lost = |number: SequenceNumber| match loss.until {
            LostUntil::Before(before) => after < Some(number) && number < before,
            LostUntil::ShardEnd => after < Some(number),
            // What was written since the last look is not meant.
            _ => false,
        };
        let there = self.readable(shard).into_iter().find(|number| lost(*number));
        self.see(&Seen::Reported { shard, after, there });
    }

    /// The beginning was fixed or completed: what is gone by now is none of the application's business, nor is what was closed when
    /// it began at the end.
    pub(crate) fn begun(&self, marker: &BootstrapMarker) {
        let settled = {
            let state = self.lock();
            let skips = marker.start == StartPosition::Latest;
            let views = state.service.shards(&marker.stream).into_iter();
            let settled = views.filter(|view| view.vanished || (skips && view.closed.is_some()));
            settled.map(|view| view.shard.id).collect()
        };
        self.see(&Seen::Begun { settled: &settled });
    }

    pub(crate) fn liveness(&self, liveness: Liveness) {
        self.lock().rules.liveness = liveness;
    }
}
