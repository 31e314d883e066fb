//! Every step that a fleet can take from a state: time, faults, and writes that arrive.

use std::fmt;

use crate::engine;
use crate::rules::{Clause, Mode, Setting};
use crate::state::{Hold, Kind, LOOSE, Member, NOBODY, NOT_HELD, Power, State, Worker, Write, name};
use crate::table::{accepts, apply, is_beyond_bound};

/// One step, as a trace shows it.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What happens.
    pub what: &'static str,
    /// To which worker.
    pub worker: u8,
    /// With which lease or name.
    pub on: u8,
    /// Whether progress may not be owed to it.
    pub fault: bool,
    /// The write that reached the table in this step, and whether it was applied.
    pub wrote: Option<(Write, bool)>,
    /// The write that the worker decided on in this step.
    pub sent: Option<Write>,
    /// What the worker learned in this step of a write that it waited for.
    pub told: Option<(Write, Told)>,
}

/// What a worker learns of its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It was applied.
    Acknowledged,
    /// It was refused.
    Refused,
    /// No answer came.
    Nothing,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.worker {
            NOBODY => write!(f, "{}", self.what)?,
            w => write!(f, "worker {w} {}", self.what)?,
        }
        if self.on == NOBODY { Ok(()) } else { write!(f, " ({})", self.on) }
    }
}

/// The steps of one state.
pub struct Moves<'a> {
    pub(crate) rules: &'a Setting,
    pub(crate) from: State,
    /// What reaches the table in the step that is added next.
    pub(crate) wrote: Option<(Write, bool)>,
    /// What its worker decides on.
    pub(crate) sent: Option<Write>,
    /// What its worker learns.
    pub(crate) told: Option<(Write, Told)>,
    /// What was found.
    pub out: Vec<(Step, State)>,
}

impl fmt::Debug for Moves<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moves").field("steps", &self.out.len()).finish_non_exhaustive()
    }
}

/// Whether the worker may deliver from the lease, as far as it knows.
#[must_use]
pub fn believes(rules: &Setting, s: &State, w: usize, l: usize) -> bool {
    let (worker, held) = (&s.workers[w], &s.workers[w].held[l]);
    worker.power == Power::Up && held.hold == Hold::Yes && engine::holds(rules, validity_age(rules, s, w, l))
}

pub(crate) fn validity_age(rules: &Setting, s: &State, w: usize, l: usize) -> u8 {
    match rules.mode {
        Mode::PerLease => s.workers[w].held[l].age,
        Mode::PerWorker => s.workers[w].age,
    }
}

/// Whether a member's heartbeat is recent enough.
pub(crate) fn is_member(rules: &Setting, s: &State, w: usize) -> bool {
    let worker = &s.workers[w];
    match rules.mode {
        Mode::PerLease => true,
        Mode::PerWorker => worker.member == Member::Registered && engine::holds(rules, worker.age),
    }
}

/// Puts a write among those whose sender does not wait. Without room it is never applied, which it might be anyhow.
pub(crate) fn loosen(rules: &Setting, s: &mut State, m: Write) {
    let may = rules.lost && (m.kind != Kind::Register || rules.late_registration);
    if may
        && m.is_some()
        && !m.applied
        && let Some(slot) = s.loose[..rules.loose].iter_mut().find(|slot| !slot.is_some())
    {
        *slot = m;
    }
}

/// Drops what hangs on a validity that ran out.
pub(crate) fn lapse(rules: &Setting, s: &mut State, w: usize) {
    if s.workers[w].power != Power::Up || !rules.has(Clause::LapseIsFinal) {
        return;
    }
    match rules.mode {
        Mode::PerLease => {
            for l in 0..=rules.children {
                let held = s.workers[w].held[l];
                if matches!(held.hold, Hold::Yes | Hold::Parting) && !engine::holds(rules, held.age) {
                    let sent = std::mem::replace(&mut s.workers[w].sent[l], Write::NONE);
                    s.workers[w].held[l] = NOT_HELD;
                    loosen(rules, s, sent);
                    if sent.kind == Kind::Finish {
                        forget_born(s, w);
                    }
                }
            }
        }
        Mode::PerWorker => {
            if s.workers[w].member == Member::Registered && !engine::holds(rules, s.workers[w].age) {
                give_up(rules, s, w);
            }
        }
    }
}

/// Whether a worker that runs has not written in time what keeps it valid through the next tick. It may be slow, but progress is owed
/// by those that are not.
fn lets_lapse(rules: &Setting, s: &State, w: usize) -> bool {
    let worker = &s.workers[w];
    let ends = |age: u8| engine::holds(rules, age) && !engine::holds(rules, age + 1);
    worker.power == Power::Up
        && match rules.mode {
            Mode::PerLease => worker.held.iter().any(|held| held.hold == Hold::Yes && ends(held.age)),
            Mode::PerWorker => worker.member == Member::Registered && ends(worker.age),
        }
}

pub(crate) fn forget_born(s: &mut State, w: usize) {
    for held in &mut s.workers[w].held {
        if held.hold == Hold::Born {
            *held = NOT_HELD;
        }
    }
}

/// A worker that the fleet has given up drops everything.
pub(crate) fn give_up(rules: &Setting, s: &mut State, w: usize) {
    let old = s.workers[w];
    s.workers[w] = Worker { member: Member::GivenUp, ..Worker::fresh(old.power, old.incarnation) };
    s.workers[w].missing = old.missing;
    for m in old.sent {
        loosen(rules, s, m);
    }
    loosen(rules, s, old.beat);
}

impl<'a> Moves<'a> {
    /// Every step from `from`.
    #[must_use]
    pub fn of(rules: &'a Setting, from: &State) -> Self {
        let mut moves = Self { rules, from: *from, wrote: None, sent: None, told: None, out: Vec::new() };
        moves.tick();
        moves.loose_writes();
        for w in 0..rules.workers {
            moves.power(w);
            if from.workers[w].power != Power::Down {
                moves.requests(w);
            }
            if from.workers[w].power == Power::Up {
                if rules.mode == Mode::PerWorker {
                    moves.membership(w);
                }
                for l in 0..=rules.children {
                    moves.on_lease(w, l);
                }
            }
        }
        if rules.mode == Mode::PerWorker {
            moves.judgements();
        }
        moves.mend();
        moves
    }

    pub(crate) fn add(
        &mut self,
        what: &'static str,
        worker: usize,
        on: usize,
        fault: bool,
        change: impl FnOnce(&mut State),
    ) {
        let (wrote, sent, told) = (self.wrote.take(), self.sent.take(), self.told.take());
        let mut next = self.from;
        change(&mut next);
        next.settle(self.rules);
        if next != self.from {
            let step = Step { what, worker: worker as u8, on: on as u8, fault, wrote, sent, told };
            self.out.push((step, next));
        }
    }

    /// Whether the table would apply the write now, within the bound on counters.
    pub(crate) fn is_open_to(&self, m: &Write) -> bool {
        accepts(self.rules, &self.from, m) && !is_beyond_bound(self.rules, &self.from, m)
    }

    /// Whether a write of the lease may still arrive.
    fn is_awaited(&self, l: u8) -> bool {
        let on = |m: &Write| m.is_some() && m.is_on_lease() && m.on == l;
        self.from.loose.iter().any(on) || self.from.workers.iter().any(|w| w.sent.iter().any(on))
    }

    fn tick(&mut self) {
        let rules = self.rules;
        let end = rules.over();
        let fault = (0..rules.workers).any(|w| lets_lapse(rules, &self.from, w));
        self.add("a tick passes", 15, 15, fault, |s| {
            for lease in &mut s.leases {
                lease.still = (lease.still + 1).min(rules.d);
            }
            for item in &mut s.items {
                item.still = (item.still + 1).min(rules.d);
            }
            for w in 0..rules.workers {
                let worker = &mut s.workers[w];
                let stands = worker.power == Power::Suspended;
                let pass = |age: &mut u8| {
                    *age = match stands {
                        false => (*age + 1).min(end),
                        true if engine::holds_after_a_suspended_tick(rules, *age) => *age,
                        true => end,
                    };
                };
                for l in 0..=rules.children {
                    if worker.held[l].hold != Hold::No && rules.mode == Mode::PerLease {
                        pass(&mut worker.held[l].age);
                    }
                    if worker.sent[l].is_some() {
                        pass(&mut worker.sent[l].age);
                    }
                }
                if worker.member == Member::Registered {
                    pass(&mut worker.age);
                }
                if worker.beat.is_some() {
                    pass(&mut worker.beat.age);
                }
                lapse(rules, s, w);
            }
        });
    }

    fn loose_writes(&mut self) {
        let rules = self.rules;
        for n in 0..LOOSE {
            let m = self.from.loose[n];
            if !m.is_some() {
                continue;
            }
            self.add("a write gets lost", 15, usize::from(m.on), false, |s| s.loose[n] = Write::NONE);
            if self.is_open_to(&m) {
                let (what, late) = loose_text(m.kind);
                self.wrote = Some((m, true));
                self.add(what, usize::from(m.by / 2), usize::from(m.on), late, |s| {
                    s.loose[n] = Write::NONE;
                    let mut m = m;
                    apply(rules, s, &mut m);
                });
            }
        }
    }

    fn power(&mut self, w: usize) {
        let rules = self.rules;
        let worker = self.from.workers[w];
        let other = 1 - worker.incarnation;
        match worker.power {
            Power::Down => {
                if rules.crash && !self.from.mentions(name(w, other)) {
                    self.add("starts as a new incarnation", w, 15, true, |s| {
                        s.workers[w] = Worker { missing: worker.missing, ..Worker::fresh(Power::Up, other) };
                        forget_name(s, name(w, other));
                    });
                }
            }
            Power::Up => {
                if rules.crash {
                    self.add("crashes", w, 15, true, |s| {
                        give_up(rules, s, w);
                        s.workers[w] = Worker::fresh(Power::Down, worker.incarnation);
                    });
                }
                if rules.suspends() {
                    self.add("is suspended", w, 15, true, |s| s.workers[w].power = Power::Suspended);
                }
            }
            Power::Suspended => self.add("wakes up", w, 15, true, |s| {
                s.workers[w].power = Power::Up;
                lapse(rules, s, w);
            }),
        }
    }

    /// A write that its sender does not wait for. Sent and not yet applied, it differs from one not yet sent in nothing but that its
    /// sender may be gone: the item's counter still stands, so all that was true of the item is. Only where counters come back is the
    /// way between a step.
    pub(crate) fn aside(&mut self, what: &'static str, w: usize, fault: bool, m: Write) {
        let rules = self.rules;
        let again = m.kind == Kind::CreateLease && rules.has(Clause::NotCreatedAgain);
        if rules.count_to.is_some() && rules.lost && !again {
            self.sent = Some(m);
            self.add(what, w, usize::from(m.on), fault, |s| loosen(rules, s, m));
        }
        if self.is_open_to(&m) && !(again && self.is_awaited(m.on)) {
            self.wrote = Some((m, true));
            self.sent = Some(m);
            self.add(what, w, usize::from(m.on), fault, |s| {
                let mut m = m;
                apply(rules, s, &mut m);
            });
        }
    }
}

/// A name that is used again is a new one to those who knew the old.
pub(crate) fn forget_name(s: &mut State, n: u8) {
    for worker in &mut s.workers {
        worker.missing &= !(1 << n);
    }
}

fn loose_text(kind: Kind) -> (&'static str, bool) {
    match kind {
        Kind::EvictLease => ("has its eviction applied", false),
        Kind::CreateLease => ("has its creation applied", false),
        Kind::DeleteLease => ("has its deletion applied", false),
        Kind::Fence => ("has its fence applied", false),
        Kind::EvictWorker => ("has its eviction of a worker applied", false),
        Kind::DeleteWorker => ("has its deletion of a worker item applied", false),
        Kind::Take => ("has a late take applied", true),
        Kind::Renew => ("has a late renewal applied", true),
        Kind::Release => ("has a late release applied", true),
        Kind::Finish => ("has a late finish applied", true),
        Kind::Register => ("has a late registration applied", true),
        Kind::Beat | Kind::Adopt | Kind::None => ("has a late sign of life applied", true),
    }
}
