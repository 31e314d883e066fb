//! The workers of a walk as the engine would run them: each has the engine's own tenures, observations and plan, is given the answers that
//! the model's steps bring, and must decide what the model allows.

mod look;
mod tally;
mod told;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kcl_core::{KeyForm, Lease, LeaseKey, Stamp, StreamArn, WorkerId, WorkerItem, WorkerState};

use look::Look;
pub use tally::Tally;

use crate::contract::Liveness;
use crate::engine::{self, owners_clock, watchers_clock};
pub use crate::engine::{key, new_lease};
use crate::moves::{Step, believes};
use crate::planted::{self, Bug};
use crate::policy::balance::{Balance, Limits};
use crate::policy::observe::{Observations, Reply};
use crate::policy::round::{self, Own, Streams};
use crate::policy::tenure::{LeaseTiming, Refusal, Tenure, Validity};
use crate::rules::{Mode, Setting};
use crate::state::{Hold, Kind, LEASES, Member, NOBODY, Power, State, Write};

/// What the table answered to a write that it applied.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The lease as it is now, or the children that a finish created.
    pub leases: Vec<Lease>,
    /// The worker item as it is now.
    pub worker: Option<WorkerItem>,
}

/// All that the table holds.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Its leases.
    pub leases: &'a [Lease],
    /// Its worker items.
    pub workers: &'a [WorkerItem],
}

/// One step of a walk.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    /// The step.
    pub step: &'a Step,
    /// The state before.
    pub from: &'a State,
    /// The state after.
    pub to: &'a State,
    /// The steps that are open then.
    pub open: &'a [(Step, State)],
    /// What the table holds then.
    pub table: Table<'a>,
}

/// What a worker sees of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// All of it, as it is.
    Fresh,
    /// Each item as it was some steps ago, or not at all if it was not there then.
    Stale,
}

/// A bug of the engine's policy, see `kcl-core/src/planted.rs`.
#[derive(Debug, Clone, Copy)]
pub struct Plant(Bug);

impl Plant {
    /// Those that concern ownership, and how a worker has to look to be misled.
    pub const ALL: &'static [(Self, Looks)] = &[
        (Self(Bug::ValidityFromReply), Looks::Fresh),
        (Self(Bug::NoDriftMargin), Looks::Fresh),
        (Self(Bug::SuspendUnnoticed), Looks::Fresh),
        (Self(Bug::TakesTooEarly), Looks::Fresh),
        (Self(Bug::EvictedTakesBack), Looks::Fresh),
        (Self(Bug::NeitherFenceNorDropAll), Looks::Fresh),
        (Self(Bug::StaleAbsence), Looks::Stale),
        (Self(Bug::OwnNeverTakenUp), Looks::Fresh),
        (Self(Bug::HandOverToDead), Looks::Fresh),
    ];
}

/// Steps that a stale look may lag behind.
const LAG: usize = 6;

/// The workers of one walk.
#[derive(Debug)]
pub struct Workers<'a> {
    rules: &'a Setting,
    timing: LeaseTiming,
    arns: [StreamArn; 1],
    /// Ticks that have passed.
    ticks: u64,
    bodies: Vec<Body>,
    /// Planted in the engine's policy.
    plant: Option<Plant>,
    looks: Looks,
    /// The table as it was, the latest last.
    past: Vec<(Vec<Lease>, Vec<WorkerItem>)>,
    draw: u64,
    /// What was decided.
    pub tally: Tally,
}

/// One incarnation.
#[derive(Debug)]
struct Body {
    id: WorkerId,
    /// Ticks that its monotonic clock has seen.
    awake: u64,
    /// When it looked first.
    looks_since: Option<u64>,
    seen: Observations,
    /// Workers that were read, with when they were asked for, and not yet heard of.
    asked: Vec<(WorkerId, Option<WorkerItem>, Reply)>,
    balance: Balance,
    tenures: [Option<Tenure>; LEASES],
    /// When it forgot what it had seen of a lease, by its own doing.
    forgot: [u64; LEASES],
    sent: [Option<Stamp>; LEASES],
    applied: [Answer; LEASES],
    /// Its own item as it knows it.
    item: Option<WorkerItem>,
    unanswered: bool,
    pulse: Option<Validity>,
    beat_sent: Option<Stamp>,
    beat_applied: Answer,
    /// It has dropped all, and acts no more.
    over: bool,
}

/// The worker item's name.
#[must_use]
pub fn id(name: u8) -> WorkerId {
    WorkerId::new(&format!("w{}", name / 2), u64::from(name % 2)).expect("legal")
}

/// The owner that a name stands for.
#[must_use]
pub fn owner(name: u8) -> Option<kcl_core::Owner> {
    (name != NOBODY).then(|| id(name).owner())
}

impl Body {
    fn new(name: u8, awake: u64) -> Self {
        Self {
            id: id(name),
            awake,
            looks_since: None,
            seen: Observations::default(),
            asked: Vec::new(),
            balance: Balance::default(),
            tenures: Default::default(),
            forgot: Default::default(),
            sent: Default::default(),
            applied: Default::default(),
            item: None,
            unanswered: false,
            pulse: None,
            beat_sent: None,
            beat_applied: Answer::default(),
            over: false,
        }
    }

    /// Takes in what was read of single workers.
    fn hear(&mut self) {
        let now = watchers_clock(self.awake);
        for (id, item, asked) in std::mem::take(&mut self.asked) {
            self.seen.worker(&id, item, asked, now);
        }
    }

    fn give_up(&mut self) {
        self.tenures = Default::default();
        self.pulse = self.pulse.map(Validity::ended);
        self.over = true;
    }
}

impl<'a> Workers<'a> {
    /// The workers at the beginning of a walk.
    #[must_use]
    pub fn new(rules: &'a Setting, s: &State, table: Table<'_>, looks: Looks, plant: Option<Plant>) -> Self {
        let bodies = (0..rules.workers).map(|w| Body::new(s.me(w), 0)).collect();
        let arns = [engine::stream()];
        let mut all = Self {
            rules,
            timing: engine::timing(rules.d),
            arns,
            ticks: 0,
            bodies,
            plant,
            looks,
            past: Vec::new(),
            draw: 1,
            tally: Tally::default(),
        };
        for w in 0..rules.workers {
            let now = all.now(w);
            let body = &mut all.bodies[w];
            if s.workers[w].member == Member::Registered {
                body.pulse = Some(Validity::from_write(now));
                body.item = table.workers.iter().find(|item| item.id == body.id).cloned();
            }
            for l in 0..=rules.children {
                if s.workers[w].held[l].hold == Hold::Yes {
                    all.begin(w, l, table.leases[l].clone(), now);
                }
            }
        }
        all
    }

    fn now(&self, w: usize) -> Stamp {
        owners_clock(self.bodies[w].awake, self.ticks)
    }

    fn lone(&self) -> bool {
        self.rules.mode == Mode::PerLease
    }

    fn begin(&mut self, w: usize, l: usize, lease: Lease, sent: Stamp) {
        let (now, timing, lone) = (self.now(w), self.timing, self.lone());
        let body = &mut self.bodies[w];
        let me = body.id.owner();
        let tenure = match (lone, body.pulse) {
            (true, _) => Tenure::begun(me, timing, lease, Validity::from_write(sent)),
            (false, Some(pulse)) => Tenure::under_worker(me, timing, lease, pulse),
            (false, None) => return,
        };
        body.tenures[l] = Some(tenure).filter(|tenure| tenure.holds(&now));
    }

    /// Goes along with a step.
    ///
    /// # Errors
    /// The engine would not have sent the write, or decides what the model does not allow.
    pub fn follow(&mut self, taken: &Taken<'_>, answer: Answer) -> Result<(), String> {
        planted::with(self.plant.map(|plant| plant.0), || self.go_along(taken, answer))
    }

    fn go_along(&mut self, taken: &Taken<'_>, answer: Answer) -> Result<(), String> {
        self.pass_time(taken);
        self.past.push((taken.table.leases.to_vec(), taken.table.workers.to_vec()));
        if self.past.len() > LAG {
            self.past.remove(0);
        }
        self.note_applied(taken, &answer);
        let w = usize::from(taken.step.worker);
        if let Some(m) = taken.step.sent.filter(|m| usize::from(m.by / 2) == w) {
            self.sends(w, &m)?;
        }
        if let Some((m, told)) = taken.step.told {
            self.learns(w, &m, told, taken, answer);
        }
        if taken.step.what == "drops what is lost" {
            // Its next write finds nothing.
            let tenure = &mut self.bodies[w].tenures[usize::from(taken.step.on)];
            tenure.take_if(|tenure| matches!(tenure.refused(None), Refusal::Lost(_)));
        }
        self.lapse(taken);
        self.same_lives(taken)?;
        for w in 0..self.rules.workers {
            if taken.to.workers[w].power == Power::Up {
                self.looks(w, taken);
                self.same_validity(w, taken)?;
                if !self.bodies[w].over && (self.lone() || self.bodies[w].pulse.is_some()) {
                    self.same_decisions(w, taken)?;
                }
            }
        }
        Ok(())
    }

    fn pass_time(&mut self, taken: &Taken<'_>) {
        if taken.step.what == "a tick passes" {
            self.ticks += 1;
            for (body, worker) in self.bodies.iter_mut().zip(&taken.from.workers) {
                body.awake += u64::from(worker.power != Power::Suspended);
            }
        }
    }

    /// An answer that is under way.
    fn note_applied(&mut self, taken: &Taken<'_>, answer: &Answer) {
        for (w, body) in self.bodies.iter_mut().enumerate() {
            let (before, after) = (&taken.from.workers[w], &taken.to.workers[w]);
            for l in 0..LEASES {
                if after.sent[l].applied && !before.sent[l].applied {
                    body.applied[l] = answer.clone();
                }
            }
            if after.beat.applied && !before.beat.applied {
                body.beat_applied = answer.clone();
            }
        }
    }

    /// The engine names the same version.
    fn sends(&mut self, w: usize, m: &Write) -> Result<(), String> {
        let now = self.now(w);
        let body = &mut self.bodies[w];
        let named = match m.kind {
            Kind::Take if self.looks == Looks::Fresh => {
                body.seen.leases().get(&key(m.on.into())).map(|seen| seen.item.guard())
            }
            Kind::Take => None,
            Kind::Renew | Kind::Release | Kind::Finish => {
                body.tenures[usize::from(m.on)].as_ref().map(|tenure| tenure.lease().guard())
            }
            Kind::Beat => {
                body.beat_sent = Some(now);
                let named = body.item.as_ref().filter(|_| !body.over).map(|item| item.counter.0);
                return match named.filter(|named| *named != i64::from(m.counter)) {
                    Some(named) => Err(format!("worker {w}'s heartbeat names {named} in the engine: {m:?}")),
                    None => Ok(()),
                };
            }
            Kind::Register | Kind::Adopt => {
                body.beat_sent = Some(now);
                return Ok(());
            }
            _ => return Ok(()),
        };
        body.sent[usize::from(m.on)] = Some(now);
        match named {
            Some(named) if (named.counter.0, &named.owner) != (m.counter.into(), &owner(m.owner)) => {
                Err(format!("worker {w} names {named:?} in the engine: {m:?}"))
            }
            _ => Ok(()),
        }
    }

    /// What the worker's own clocks end.
    fn lapse(&mut self, taken: &Taken<'_>) {
        for w in 0..self.rules.workers {
            let now = self.now(w);
            if taken.to.workers[w].power != Power::Up {
                continue;
            }
            let (body, timing) = (&mut self.bodies[w], self.timing);
            if body.pulse.is_some_and(|pulse| !pulse.holds(&now, timing)) {
                body.give_up();
            }
            for tenure in &mut body.tenures {
                if let (Some(tenure), Some(pulse)) = (tenure.as_mut(), body.pulse) {
                    tenure.sustained(pulse);
                }
                tenure.take_if(|tenure| !tenure.holds(&now));
            }
        }
    }

    /// Incarnations begin and end with the model's.
    fn same_lives(&mut self, taken: &Taken<'_>) -> Result<(), String> {
        for w in 0..self.rules.workers {
            let (before, after) = (&taken.from.workers[w], &taken.to.workers[w]);
            let awake = self.bodies[w].awake;
            let gives_up = after.member == Member::GivenUp && before.member != Member::GivenUp;
            if before.incarnation != after.incarnation || (before.power, after.power) == (Power::Down, Power::Up) {
                self.bodies[w] = Body::new(taken.to.me(w), awake);
            } else if after.power == Power::Down || (gives_up && taken.step.what == "gives itself up") {
                self.bodies[w].give_up();
            } else if gives_up && !self.bodies[w].over {
                return Err(format!("worker {w} goes on in the engine: {:?}", self.bodies[w]));
            }
        }
        Ok(())
    }

    /// What a scan shows to one worker.
    fn scan(&mut self, table: Table<'_>) -> (Vec<Lease>, Vec<WorkerItem>) {
        if self.looks == Looks::Fresh {
            return (table.leases.to_vec(), table.workers.to_vec());
        }
        let past = &self.past;
        let draw = &mut self.draw;
        let mut when = || {
            *draw = draw.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            &past[(*draw >> 33) as usize % past.len()]
        };
        let leases = (0..LEASES).filter_map(|l| when().0.iter().find(|lease| lease.key == key(l)).cloned()).collect();
        let names = 0..self.rules.workers as u8 * 2;
        let workers = names.filter_map(|name| when().1.iter().find(|item| item.id == id(name)).cloned()).collect();
        (leases, workers)
    }

    /// A look at the whole table, and at those that it does not show to live.
    fn looks(&mut self, w: usize, taken: &Taken<'_>) {
        let now = watchers_clock(self.bodies[w].awake);
        let (leases, mut workers) = self.scan(taken.table);
        if self.lone() {
            // Membership is not modelled here: each that runs shows that it lives.
            let up = (0..self.rules.workers).filter(|o| taken.to.workers[*o].power == Power::Up);
            workers.extend(up.map(|o| {
                let counter = kcl_core::LeaseCounter(self.ticks as i64 + 1);
                WorkerItem { id: id(taken.to.me(o)), counter, state: WorkerState::Live, weight: 100 }
            }));
        }
        let body = &mut self.bodies[w];
        body.looks_since.get_or_insert(body.awake);
        // Where looks are stale, answers to what was asked after the last one are late, too.
        body.hear();
        body.seen.scanned(leases.into_iter().map(Arc::new).collect(), workers, now);
        let held = BTreeSet::new();
        let asked = body.seen.asking();
        for id in round::doubted(&body.seen, &own(body, self.rules, &held, &held)) {
            let item = taken.table.workers.iter().find(|item| item.id == id).cloned();
            body.asked.push((id, item, asked));
        }
        if self.looks == Looks::Fresh {
            body.hear();
        }
    }

    fn same_validity(&mut self, w: usize, taken: &Taken<'_>) -> Result<(), String> {
        let now = self.now(w);
        for l in 0..=self.rules.children {
            let model = believes(self.rules, taken.to, w, l);
            let lets_go = taken.to.workers[w].held[l].hold == Hold::Parting;
            let engine = self.bodies[w].tenures[l].as_ref().is_some_and(|tenure| tenure.holds(&now));
            match (engine, model) {
                (true, false) if !lets_go => {
                    return Err(format!("worker {w} is valid on {l} in the engine alone: {:?}", self.bodies[w]));
                }
                (true, true) => self.tally.valid += 1,
                (false, true) => self.tally.stricter += 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn same_decisions(&mut self, w: usize, taken: &Taken<'_>) -> Result<(), String> {
        let (rules, timing, now) = (self.rules, self.timing, watchers_clock(self.bodies[w].awake));
        let worker = &taken.to.workers[w];
        let keys = |is: &dyn Fn(usize) -> bool| (0..=rules.children).filter(|l| is(*l)).map(key).collect();
        let held: BTreeSet<LeaseKey> = keys(&|l| matches!(worker.held[l].hold, Hold::Yes | Hold::Parting));
        let pending: BTreeSet<LeaseKey> = keys(&|l| worker.sent[l].kind == Kind::Take);
        let mut balance = std::mem::take(&mut self.bodies[w].balance);
        let body = &self.bodies[w];
        let own = own(body, rules, &held, &pending);
        let streams = Streams { arns: &self.arns, form: KeyForm::Bare };
        let view = round::view(&body.seen, &own, &streams, limits(), timing, now);
        let look = Look { w, body, taken, rules, streams, looks: self.looks };
        look.unclaimed(&own, &mut self.tally)?;
        look.planned(&balance.plan(&view), &mut self.tally)?;
        if rules.mode == Mode::PerWorker {
            look.departed(round::departed(&body.seen, &own, timing, now), &mut self.tally)?;
        }
        if self.looks == Looks::Fresh {
            look.expired(&view, &mut self.tally)?;
        }
        self.bodies[w].balance = balance;
        Ok(())
    }
}

fn own<'b>(body: &'b Body, rules: &Setting, held: &'b BTreeSet<LeaseKey>, pending: &'b BTreeSet<LeaseKey>) -> Own<'b> {
    let liveness = match rules.mode {
        Mode::PerLease => Liveness::PerLease,
        Mode::PerWorker => Liveness::PerWorker,
    };
    Own { id: &body.id, weight: 100, liveness, leaving: false, held, pending }
}

/// As impatient as can be.
fn limits() -> Limits {
    Limits {
        max_leases: LEASES,
        min_hold: Duration::ZERO,
        settle: Duration::ZERO,
        claim_deadline: Duration::from_millis(1),
        evict_after: Duration::ZERO,
        moves_per_round: LEASES,
    }
}
