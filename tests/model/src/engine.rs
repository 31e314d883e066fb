//! What the engine's policy says about the model's ticks: how long a write lets its sender act, what an answer to the next one makes of
//! that, and how long a counter must stand still. Where a clause of these is taken out, the bug is planted in the policy itself.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use kcl_core::{KeyForm, Lease, LeaseCounter, LeaseKey, Mono, NewLease, Stamp, StreamArn};

use crate::planted::{self, Bug};
use crate::policy::observe::Observations;
use crate::policy::tenure::{LeaseTiming, Validity};
use crate::rules::{Clause, Setting};

/// A tick in true time. D is so long that `d` ticks are a whole watch on a clock that is 2 % fast.
const TICK: u64 = 1000;
const FAST: u64 = 1020;
const SLOW: u64 = 980;

/// The most ticks that are told apart.
const AGES: usize = 8;

/// The engine's durations for a D of so many ticks.
pub(crate) fn timing(d: u8) -> LeaseTiming {
    LeaseTiming::new(Duration::from_millis(u64::from(d) * FAST))
}

/// Both clocks of an owner, whose monotonic clock is 2 % slow and stands while the machine is suspended.
pub(crate) fn owners_clock(awake: u64, ticks: u64) -> Stamp {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000 + ticks * TICK);
    Stamp { mono: Mono::new(Duration::from_millis(awake * SLOW)), wall }
}

/// The clock of a watcher, which is 2 % fast.
pub(crate) fn watchers_clock(awake: u64) -> Mono {
    Mono::new(Duration::from_millis(awake * FAST))
}

pub(crate) fn stream() -> StreamArn {
    "arn:aws:dynamodb:r:123456789012:table/t/stream/l".parse().expect("legal")
}

/// The key of a lease's item.
#[must_use]
pub fn key(lease: usize) -> LeaseKey {
    LeaseKey::of(KeyForm::Bare, &stream(), &format!("shard-{lease}").parse().expect("legal"))
}

/// A lease as it is created.
#[must_use]
pub fn new_lease(lease: usize, owner: Option<kcl_core::Owner>, counter: u8) -> NewLease {
    let shard = |n: usize| format!("shard-{n}").parse().expect("legal");
    NewLease {
        key: key(lease),
        counter: LeaseCounter(counter.into()),
        stream: stream(),
        shard: shard(lease),
        owner,
        parent: (lease > 0).then(|| shard(0)),
        starting_sequence: None,
        start_at: None,
        root: lease == 0,
    }
}

/// The policy's answers, by age in ticks.
#[derive(Debug, Clone, Copy)]
struct Answers {
    d: u8,
    bugs: u64,
    holds: [bool; AGES],
    holds_after_a_suspended_tick: [bool; AGES],
    /// By the age of the validity and of the write that was answered: the age of the new validity, if there is one.
    extended: [[Option<u8>; AGES]; AGES],
    stood_still: [bool; AGES],
}

thread_local! {
    static ANSWERS: RefCell<Option<Answers>> = const { RefCell::new(None) };
}

fn planted_by(clause: Clause) -> Option<Bug> {
    match clause {
        Clause::DriftMargin => Some(Bug::NoDriftMargin),
        Clause::ValidFromSend => Some(Bug::ValidityFromReply),
        Clause::SuspendCheck => Some(Bug::SuspendUnnoticed),
        Clause::LapseIsFinal => Some(Bug::NeitherFenceNorDropAll),
        _ => None,
    }
}

/// The engine's policy with the bugs that the clauses taken out stand for.
pub(crate) fn engine<T>(rules: &Setting, act: impl FnOnce() -> T) -> T {
    planted::with(rules.without.iter().copied().filter_map(planted_by), act)
}

fn answers<T>(rules: &Setting, ask: impl FnOnce(&Answers) -> T) -> T {
    let bugs = rules.without.iter().fold(0, |all, clause| all | 1_u64 << *clause as u64);
    ANSWERS.with_borrow_mut(|known| {
        if known.as_ref().is_none_or(|known| (known.d, known.bugs) != (rules.d, bugs)) {
            *known = Some(engine(rules, || Answers::of(rules.d, bugs)));
        }
        ask(known.get_or_insert_with(|| Answers::of(rules.d, bugs)))
    })
}

impl Answers {
    fn of(d: u8, bugs: u64) -> Self {
        let timing = timing(d);
        // Now is late enough for all that was before it.
        let now = AGES as u64;
        let at = |age: usize| owners_clock(now - age as u64, now - age as u64);
        let given = |age: usize| Validity::from_write(at(age));
        let holds = std::array::from_fn(|age| given(age).holds(&at(0), timing));
        let woken = owners_clock(now, now + 1);
        let extended = |validity: usize, write: usize| {
            let next = given(validity).extended(at(write), &at(0), timing);
            let age = (0..AGES).find(|age| at(*age).mono == next.sent());
            age.filter(|_| next.holds(&at(0), timing)).map(|age| age as u8)
        };
        Self {
            d,
            bugs,
            holds,
            holds_after_a_suspended_tick: std::array::from_fn(|age| given(age).holds(&woken, timing)),
            extended: std::array::from_fn(|validity| std::array::from_fn(|write| extended(validity, write))),
            stood_still: std::array::from_fn(|still| {
                let mut seen = Observations::default();
                let lease: Lease = new_lease(0, None, 0).created();
                seen.lease(lease, watchers_clock(0));
                seen.leases()[&key(0)].stood_still(timing.duration(), watchers_clock(still as u64))
            }),
        }
    }
}

/// Whether a write that was sent so long ago, on the sender's clock, lets its sender act.
pub(crate) fn holds(rules: &Setting, age: u8) -> bool {
    answers(rules, |known| known.holds[usize::from(age)])
}

/// Whether it does after a tick more for which the machine was suspended.
pub(crate) fn holds_after_a_suspended_tick(rules: &Setting, age: u8) -> bool {
    answers(rules, |known| known.holds_after_a_suspended_tick[usize::from(age)])
}

/// The age of the validity after a write of age `write` was acknowledged; nothing if it is over.
pub(crate) fn extended(rules: &Setting, validity: u8, write: u8) -> Option<u8> {
    answers(rules, |known| known.extended[usize::from(validity)][usize::from(write)])
}

/// Whether a counter that has stood still for so long has done so for D.
pub(crate) fn stood_still(rules: &Setting, still: u8) -> bool {
    answers(rules, |known| known.stood_still[usize::from(still)])
}
