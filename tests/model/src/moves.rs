//! Every step that a fleet can take from a state.

use std::fmt;

use crate::rules::{Clause, Mode, Setting};
use crate::state::{
    Held, Hold, ItemState, Kind, LOOSE, Member, NAMES, NOBODY, NOT_HELD, Power, SHARD_END, STALE, State, View, Worker,
    Write, name,
};
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
    rules: &'a Setting,
    from: State,
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
    worker.power == Power::Up && held.hold == Hold::Yes && validity_age(rules, s, w, l) < rules.valid_for()
}

fn validity_age(rules: &Setting, s: &State, w: usize, l: usize) -> u8 {
    match rules.mode {
        Mode::PerLease => s.workers[w].held[l].age,
        Mode::PerWorker => s.workers[w].age,
    }
}

/// Whether a member's heartbeat is recent enough.
fn is_member(rules: &Setting, s: &State, w: usize) -> bool {
    let worker = &s.workers[w];
    match rules.mode {
        Mode::PerLease => true,
        Mode::PerWorker => worker.member == Member::Registered && worker.age < rules.valid_for(),
    }
}

/// Puts a write among those whose sender does not wait. Without room it is never applied, which it might be anyhow.
fn loosen(rules: &Setting, s: &mut State, m: Write) {
    if m.is_some() && !m.applied {
        if let Some(slot) = s.loose[..rules.loose].iter_mut().find(|slot| !slot.is_some()) {
            *slot = m;
        }
    }
}

fn has_room(rules: &Setting, s: &State) -> bool {
    s.loose[..rules.loose].iter().any(|m| !m.is_some())
}

/// Drops what hangs on a validity that ran out.
fn lapse(rules: &Setting, s: &mut State, w: usize) {
    if s.workers[w].power != Power::Up || !rules.has(Clause::LapseIsFinal) {
        return;
    }
    match rules.mode {
        Mode::PerLease => {
            for l in 0..=rules.children {
                let held = s.workers[w].held[l];
                if matches!(held.hold, Hold::Yes | Hold::Parting) && held.age >= rules.valid_for() {
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
            if s.workers[w].member == Member::Registered && s.workers[w].age >= rules.valid_for() {
                give_up(rules, s, w);
            }
        }
    }
}

fn forget_born(s: &mut State, w: usize) {
    for held in &mut s.workers[w].held {
        if held.hold == Hold::Born {
            *held = NOT_HELD;
        }
    }
}

/// A worker that the fleet has given up drops everything.
fn give_up(rules: &Setting, s: &mut State, w: usize) {
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
        let mut moves = Self { rules, from: *from, out: Vec::new() };
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
        moves.mend();
        moves
    }

    fn add(&mut self, what: &'static str, worker: usize, on: usize, fault: bool, change: impl FnOnce(&mut State)) {
        let mut next = self.from;
        change(&mut next);
        next.settle(self.rules);
        if next != self.from {
            let step = Step { what, worker: worker as u8, on: on as u8, fault };
            self.out.push((step, next));
        }
    }

    fn tick(&mut self) {
        let rules = self.rules;
        let end = rules.d + 1;
        self.add("a tick passes", 15, 15, false, |s| {
            for w in 0..rules.workers {
                let worker = &mut s.workers[w];
                let stands = worker.power == Power::Suspended;
                let pass = |age: &mut u8| {
                    *age = match (stands, rules.has(Clause::SuspendCheck)) {
                        (false, _) => (*age + 1).min(end),
                        (true, true) => end,
                        (true, false) => *age,
                    };
                };
                for l in 0..=rules.children {
                    if worker.held[l].hold != Hold::No && rules.mode == Mode::PerLease {
                        pass(&mut worker.held[l].age);
                    }
                    if worker.sent[l].is_some() {
                        pass(&mut worker.sent[l].age);
                    }
                    let view = &mut worker.views[l];
                    if view.counter != STALE {
                        view.age = (view.age + 1).min(rules.d);
                    }
                }
                if worker.member == Member::Registered {
                    pass(&mut worker.age);
                }
                if worker.beat.is_some() {
                    pass(&mut worker.beat.age);
                }
                for view in worker.items.iter_mut().filter(|view| view.counter != STALE) {
                    view.age = (view.age + 1).min(rules.d);
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
            if accepts(rules, &self.from, &m) && !is_beyond_bound(rules, &self.from, &m) {
                let (what, late) = loose_text(m.kind);
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
                if rules.suspend {
                    self.add("is suspended", w, 15, true, |s| s.workers[w].power = Power::Suspended);
                }
            }
            Power::Suspended => self.add("wakes up", w, 15, true, |s| {
                s.workers[w].power = Power::Up;
                lapse(rules, s, w);
            }),
        }
    }

    /// Writes that a worker waits for: applied, answered, refused, or given up.
    fn requests(&mut self, w: usize) {
        let rules = self.rules;
        for l in 0..=rules.children {
            let m = self.from.workers[w].sent[l];
            if !m.is_some() {
                continue;
            }
            if !m.applied && accepts(rules, &self.from, &m) && !is_beyond_bound(rules, &self.from, &m) {
                self.add("has its write applied", w, l, false, |s| {
                    let mut m = m;
                    apply(rules, s, &mut m);
                    s.workers[w].sent[l] = m;
                });
            }
            if self.from.workers[w].power != Power::Up {
                continue;
            }
            if m.applied {
                self.add("gets the answer", w, l, false, |s| answered(rules, s, w, l));
            } else if !accepts(rules, &self.from, &m) {
                self.add("is refused", w, l, false, |s| refused(rules, s, w, l));
            }
            if !rules.lost {
                continue;
            }
            self.add("gives up waiting", w, l, true, |s| {
                let m = std::mem::replace(&mut s.workers[w].sent[l], Write::NONE);
                loosen(rules, s, m);
                s.workers[w].held[l].unanswered = true;
                if m.kind == Kind::Finish {
                    forget_born(s, w);
                }
            });
        }
    }

    fn membership(&mut self, w: usize) {
        let (rules, s) = (self.rules, self.from);
        let worker = s.workers[w];
        let me = s.me(w);
        let other = 1 - worker.incarnation;
        let beat = worker.beat;
        if worker.member == Member::GivenUp && !s.mentions(name(w, other)) {
            self.add("comes back as a new incarnation", w, 15, false, |s| {
                s.workers[w] = Worker { missing: worker.missing, ..Worker::fresh(Power::Up, other) };
                forget_name(s, name(w, other));
            });
        }
        if beat.is_some() {
            if !beat.applied && accepts(rules, &s, &beat) && !is_beyond_bound(rules, &s, &beat) {
                self.add("has its sign of life applied", w, 15, false, |s| {
                    let mut m = beat;
                    apply(rules, s, &mut m);
                    s.workers[w].beat = m;
                });
            }
            if beat.applied {
                self.add("gets the answer to its sign of life", w, 15, false, |s| beat_answered(rules, s, w));
            } else if !accepts(rules, &s, &beat) {
                self.add("has its sign of life refused", w, 15, false, |s| beat_refused(rules, s, w));
            }
            if rules.lost {
                self.add("gives up waiting for its sign of life", w, 15, true, |s| {
                    let m = std::mem::replace(&mut s.workers[w].beat, Write::NONE);
                    loosen(rules, s, m);
                    s.workers[w].unanswered = true;
                });
            }
        } else {
            let kind = if worker.member == Member::New { Kind::Register } else { Kind::Beat };
            if worker.member != Member::GivenUp {
                self.add("sends a sign of life", w, 15, false, |s| {
                    s.workers[w].beat = Write { kind, on: me, by: me, counter: worker.counter, ..Write::NONE };
                });
            }
        }
        if worker.member == Member::Registered {
            let idle = worker.held.iter().all(|h| h.hold == Hold::No) && worker.sent.iter().all(|m| !m.is_some());
            if rules.moves && (idle || !rules.has(Clause::LeaveLast)) && has_room(rules, &s) && !beat.is_some() {
                self.add("leaves the fleet", w, 15, true, |s| {
                    loosen(rules, s, on_item(Kind::DeleteWorker, me, me, worker.counter));
                    if idle {
                        s.workers[w] = Worker::fresh(Power::Down, worker.incarnation);
                    }
                });
            }
        }
        if is_member(rules, &s, w) {
            self.watching(w);
        }
    }

    fn watching(&mut self, w: usize) {
        let (rules, s) = (self.rules, self.from);
        let me = s.me(w);
        for n in (0..rules.workers * 2).filter(|n| *n != usize::from(me)) {
            let (item, view) = (s.items[n], s.workers[w].items[n]);
            if item.state == ItemState::Absent {
                if !rules.has(Clause::JudgedAfter) {
                    self.add("reads that a worker item is missing", w, n, false, |s| s.workers[w].missing |= 1 << n);
                }
                continue;
            }
            if view.counter == STALE && item.state != ItemState::Fenced {
                self.add("looks at a worker item", w, n, false, |s| {
                    s.workers[w].items[n] = View { counter: item.counter, age: 0, gone: false };
                });
            }
            if view.counter != item.counter && item.state != ItemState::Fenced || !has_room(rules, &s) {
                continue;
            }
            let long_enough = view.age >= rules.d || !rules.has(Clause::FullWatch);
            let mut send = |what, kind| {
                self.add(what, w, n, false, |s| loosen(rules, s, on_item(kind, n as u8, me, item.counter)));
            };
            if item.state != ItemState::Fenced && long_enough {
                send("sends a fence", Kind::Fence);
            }
            if item.state == ItemState::Live && rules.moves {
                send("sends the eviction of a worker", Kind::EvictWorker);
            }
            let named = s.leases.iter().any(|l| usize::from(l.owner) == n);
            let may_go = item.state == ItemState::Fenced || !rules.has(Clause::DeleteFencedOnly);
            if may_go && (!named || !rules.has(Clause::DeleteFencedOnly)) {
                send("sends the deletion of a worker item", Kind::DeleteWorker);
            }
        }
    }

    fn on_lease(&mut self, w: usize, l: usize) {
        let (rules, s) = (self.rules, self.from);
        let (worker, lease) = (s.workers[w], s.leases[l]);
        let (held, view) = (worker.held[l], worker.views[l]);
        if !lease.exists {
            return;
        }
        if worker.sent[l].is_some() {
            return;
        }
        match held.hold {
            Hold::Yes => self.as_owner(w, l),
            Hold::Parting if validity_age(rules, &s, w, l) < rules.valid_for() => {
                self.send(w, l, "lets go again", Kind::Release, |m| m.intended = NOBODY);
            }
            Hold::Parting => {
                self.add("drops what it could not give away", w, l, false, |s| s.workers[w].held[l] = NOT_HELD)
            }
            Hold::Born => {}
            Hold::No => {
                if view.counter == STALE && lease.checkpoint != SHARD_END && lease.exists {
                    self.add("looks at the lease", w, l, false, |s| {
                        s.workers[w].views[l] = View { counter: lease.counter, age: 0, gone: false };
                    });
                }
                if view.counter == lease.counter && rules.mode == Mode::PerWorker && !view.gone {
                    self.judge(w, l);
                }
                let registered = is_member(rules, &s, w) || !rules.has(Clause::RegisterFirst);
                if view.counter == lease.counter && lease.checkpoint != SHARD_END && registered {
                    self.as_stranger(w, l);
                }
            }
        }
    }

    fn as_owner(&mut self, w: usize, l: usize) {
        let (rules, s) = (self.rules, self.from);
        let held = s.workers[w].held[l];
        let other = (0..rules.workers).find(|o| *o != w).map_or(NOBODY, |o| s.me(o));
        let valid = believes(rules, &s, w, l);
        if valid && held.progress == 0 && l == 0 {
            self.add("delivers", w, l, false, |s| s.workers[w].held[l].progress = 1);
        }
        // In PerWorker only progress is written.
        let moved = held.progress != s.leases[l].checkpoint;
        if rules.mode == Mode::PerLease || moved || held.unanswered {
            if valid || !rules.has(Clause::LapseIsFinal) {
                self.send(w, l, "renews", Kind::Renew, |_| {});
            }
        }
        if !valid {
            return;
        }
        let finishes = l == 0 || rules.count_to.is_some();
        if finishes && (l > 0 || held.progress == 1) {
            self.send(w, l, "finishes the shard", Kind::Finish, |_| {});
        }
        if rules.moves {
            self.send(w, l, "lets go", Kind::Release, |m| m.intended = NOBODY);
            self.send(w, l, "hands over", Kind::Release, |m| m.intended = other);
        }
    }

    fn judge(&mut self, w: usize, l: usize) {
        let (rules, s) = (self.rules, self.from);
        let owner = s.leases[l].owner;
        if owner == NOBODY || owner == s.me(w) {
            return;
        }
        let item = s.items[usize::from(owner)];
        let seen = s.workers[w].items[usize::from(owner)];
        let watched = seen.counter == item.counter && seen.age >= rules.d && item.state != ItemState::Absent;
        let gone = match item.state {
            ItemState::Absent | ItemState::Fenced => true,
            ItemState::Evicted => !rules.has(Clause::EvictedIsWatched) || (watched && !rules.has(Clause::Fence)),
            ItemState::Live => watched && !rules.has(Clause::Fence),
        };
        if gone || s.workers[w].missing & (1 << owner) != 0 {
            self.add("finds the owner gone", w, l, false, |s| s.workers[w].views[l].gone = true);
        }
    }

    fn as_stranger(&mut self, w: usize, l: usize) {
        let (rules, s) = (self.rules, self.from);
        let (lease, view, me) = (s.leases[l], s.workers[w].views[l], s.me(w));
        let parent = s.leases[0];
        let waits = l > 0 && parent.exists && parent.checkpoint != SHARD_END;
        let watched = view.age >= rules.d;
        let meant = |after: bool| {
            lease.intended == NOBODY || lease.intended == me || (after && rules.has(Clause::ClaimDeadline))
        };
        let parent_held = l > 0 && s.workers[w].held[0].hold != Hold::No;
        let own = lease.owner == me && !lease.evicted && !parent_held && rules.has(Clause::OwnTakenUp);
        let free = lease.owner == NOBODY && meant(watched);
        let expired = match rules.mode {
            Mode::PerLease => {
                let skip = lease.evicted && !rules.has(Clause::EvictedIsWatched);
                lease.owner != NOBODY && (watched || skip || !rules.has(Clause::FullWatch))
            }
            Mode::PerWorker => lease.owner != NOBODY && view.gone,
        };
        if waits && rules.has(Clause::ParentGate) {
            return;
        }
        if own && !rules.has(Clause::OwnTakenByWrite) {
            self.add("goes on with a lease in its name", w, l, false, |s| {
                let progress = lease.checkpoint.min(1);
                s.workers[w].held[l] =
                    Held { hold: Hold::Yes, counter: lease.counter, age: 0, progress, unanswered: false };
            });
        } else if own || free || expired {
            self.send(w, l, "takes the lease", Kind::Take, |m| {
                m.counter = view.counter;
                m.owner = lease.owner;
            });
        }
        if rules.moves && rules.mode == Mode::PerLease && !lease.evicted && lease.owner != NOBODY && lease.owner != me {
            if has_room(rules, &s) {
                self.add("sends an eviction", w, l, false, |s| {
                    let m = Write {
                        kind: Kind::EvictLease,
                        on: l as u8,
                        counter: view.counter,
                        owner: lease.owner,
                        by: me,
                        intended: me,
                        ..Write::NONE
                    };
                    loosen(rules, s, m);
                });
            }
        }
    }

    fn send(&mut self, w: usize, l: usize, what: &'static str, kind: Kind, shape: impl FnOnce(&mut Write)) {
        let rules = self.rules;
        let me = self.from.me(w);
        let held = self.from.workers[w].held[l];
        let mut m = Write {
            kind,
            on: l as u8,
            counter: held.counter,
            owner: me,
            by: me,
            checkpoint: held.progress,
            ..Write::NONE
        };
        shape(&mut m);
        self.add(what, w, l, false, |s| {
            s.workers[w].sent[l] = m;
            if kind == Kind::Release && rules.has(Clause::ReleaseStopsFirst) {
                s.workers[w].held[l].hold = Hold::Parting;
            }
        });
    }

    /// What a listing mends, and the end of tombstones where items may come back.
    fn mend(&mut self) {
        let (rules, s) = (self.rules, self.from);
        let live = (0..rules.workers).find(|w| s.workers[*w].power == Power::Up && is_member(rules, &s, *w));
        let Some(w) = live.filter(|_| has_room(rules, &s)) else { return };
        let me = s.me(w);
        for l in 1..=rules.children {
            let ended = s.leases[0].exists && s.leases[0].checkpoint == SHARD_END;
            if !s.leases[l].exists && ended && rules.has(Clause::ChildrenMended) {
                self.add("sends the creation of a missing child", w, l, false, |s| {
                    loosen(rules, s, Write { kind: Kind::CreateLease, on: l as u8, by: me, ..Write::NONE });
                });
            }
            if s.leases[l].checkpoint == SHARD_END && rules.count_to.is_some() && s.leases[l].exists {
                let m = Write {
                    kind: Kind::DeleteLease,
                    on: l as u8,
                    by: me,
                    counter: s.leases[l].counter,
                    owner: s.leases[l].owner,
                    ..Write::NONE
                };
                self.add("sends the deletion of a tombstone", w, l, false, |s| loosen(rules, s, m));
            }
        }
    }
}

/// A name that is used again is a new one to those who knew the old.
fn forget_name(s: &mut State, n: u8) {
    for worker in &mut s.workers {
        worker.items[usize::from(n)] = View { counter: STALE, age: 0, gone: false };
        worker.missing &= !(1 << n);
    }
}

fn on_item(kind: Kind, on: u8, by: u8, counter: u8) -> Write {
    Write { kind, on, by, counter, ..Write::NONE }
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
        Kind::Beat | Kind::None => ("has a late sign of life applied", true),
    }
}

fn answered(rules: &Setting, s: &mut State, w: usize, l: usize) {
    let m = std::mem::replace(&mut s.workers[w].sent[l], Write::NONE);
    let lone = rules.mode == Mode::PerLease;
    let from = |clause| if rules.has(clause) { m.age } else { 0 };
    let age = from(Clause::ValidFromSend);
    match m.kind {
        Kind::Take => {
            let valid = if lone {
                age < rules.valid_for()
            } else {
                is_member(rules, s, w) || !rules.has(Clause::RegisterFirst)
            };
            if valid {
                let progress = m.checkpoint.min(1);
                s.workers[w].held[l] = Held {
                    hold: Hold::Yes,
                    counter: m.counter,
                    age: if lone { age } else { 0 },
                    progress,
                    unanswered: false,
                };
            }
        }
        Kind::Finish => {
            let age = from(Clause::ChildrenFromSend);
            s.workers[w].held[l] = NOT_HELD;
            if l > 0 {
                return;
            }
            let valid = if lone { age < rules.valid_for() } else { is_member(rules, s, w) };
            for held in s.workers[w].held.iter_mut().filter(|held| held.hold == Hold::Born) {
                *held =
                    if valid { Held { hold: Hold::Yes, age: if lone { age } else { 0 }, ..*held } } else { NOT_HELD };
            }
            if !rules.has(Clause::FinishIsAtomic) {
                // The second half would be sent now.
                s.workers[w].held[l] = NOT_HELD;
            }
        }
        Kind::Release => s.workers[w].held[l] = NOT_HELD,
        _ => {
            let held = &mut s.workers[w].held[l];
            held.counter = m.counter;
            held.unanswered = false;
            if lone {
                held.age = age;
            }
        }
    }
    lapse(rules, s, w);
}

fn refused(rules: &Setting, s: &mut State, w: usize, l: usize) {
    let me = s.me(w);
    let m = std::mem::replace(&mut s.workers[w].sent[l], Write::NONE);
    let lease = s.leases[l];
    if m.kind == Kind::Finish {
        forget_born(s, w);
    }
    let held_now = &mut s.workers[w].held[l];
    if m.kind == Kind::Take {
        return;
    }
    if lease.exists && lease.owner == me && !lease.evicted && held_now.unanswered {
        held_now.counter = lease.counter;
        held_now.unanswered = false;
        if !rules.has(Clause::ReadGivesNoValidity) {
            held_now.age = 0;
        }
    } else {
        *held_now = NOT_HELD;
    }
}

fn beat_answered(rules: &Setting, s: &mut State, w: usize) {
    let worker = &mut s.workers[w];
    let m = std::mem::replace(&mut worker.beat, Write::NONE);
    worker.counter = m.counter;
    worker.unanswered = false;
    worker.member = Member::Registered;
    worker.age = if rules.has(Clause::ValidFromSend) { m.age } else { 0 };
    lapse(rules, s, w);
}

fn beat_refused(rules: &Setting, s: &mut State, w: usize) {
    let me = s.me(w);
    let item = s.items[usize::from(me)];
    let worker = &mut s.workers[w];
    let m = std::mem::replace(&mut worker.beat, Write::NONE);
    if m.kind == Kind::Beat && worker.unanswered && item.state == ItemState::Live {
        worker.counter = item.counter;
        worker.unanswered = false;
        if !rules.has(Clause::ReadGivesNoValidity) {
            worker.age = 0;
        }
    } else {
        give_up(rules, s, w);
    }
}

const _: () = assert!(NAMES == 6);
