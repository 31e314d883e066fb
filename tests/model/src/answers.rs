//! What a worker makes of the answers to its writes.

use crate::engine;
use crate::moves::{forget_born, give_up, is_member, lapse};
use crate::rules::{Clause, Mode, Setting};
use crate::state::{Held, Hold, ItemState, Kind, Member, NOT_HELD, State, Write};

pub(crate) fn answered(rules: &Setting, s: &mut State, w: usize, l: usize) {
    let m = std::mem::replace(&mut s.workers[w].sent[l], Write::NONE);
    let lone = rules.mode == Mode::PerLease;
    let from = |clause| if rules.has(clause) { m.age } else { 0 };
    let age = from(Clause::ValidFromSend);
    match m.kind {
        Kind::Take => {
            let valid = if lone {
                engine::holds(rules, age)
            } else {
                is_member(rules, s, w) || !rules.has(Clause::RegisterFirst)
            };
            if valid {
                let (age, progress) = (if lone { age } else { 0 }, m.checkpoint.min(rules.records));
                s.workers[w].held[l] = Held { hold: Hold::Yes, counter: m.counter, age, progress, unanswered: false };
            }
        }
        Kind::Finish => {
            s.workers[w].held[l] = NOT_HELD;
            if l == 0 {
                begin_born(rules, s, w, from(Clause::ChildrenFromSend));
            }
        }
        Kind::Release => s.workers[w].held[l] = NOT_HELD,
        _ => {
            let held = &mut s.workers[w].held[l];
            held.counter = m.counter;
            held.unanswered = false;
            if lone {
                held.age = engine::extended(rules, held.age, m.age).unwrap_or(rules.over());
            }
        }
    }
    lapse(rules, s, w);
}

fn begin_born(rules: &Setting, s: &mut State, w: usize, age: u8) {
    let lone = rules.mode == Mode::PerLease;
    let valid = if lone { engine::holds(rules, age) } else { is_member(rules, s, w) };
    for held in s.workers[w].held.iter_mut().filter(|held| held.hold == Hold::Born) {
        *held = if valid { Held { hold: Hold::Yes, age: if lone { age } else { 0 }, ..*held } } else { NOT_HELD };
    }
}

pub(crate) fn refused(rules: &Setting, s: &mut State, w: usize, l: usize) {
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

pub(crate) fn beat_answered(rules: &Setting, s: &mut State, w: usize) {
    let worker = &mut s.workers[w];
    let m = std::mem::replace(&mut worker.beat, Write::NONE);
    worker.counter = m.counter;
    worker.unanswered = false;
    let before = std::mem::replace(&mut worker.member, Member::Registered);
    worker.age = match before {
        Member::Registered => engine::extended(rules, worker.age, m.age).unwrap_or(rules.over()),
        _ if rules.has(Clause::ValidFromSend) => m.age,
        _ => 0,
    };
    lapse(rules, s, w);
}

pub(crate) fn beat_refused(rules: &Setting, s: &mut State, w: usize) {
    let me = s.me(w);
    let item = s.items[usize::from(me)];
    let worker = &mut s.workers[w];
    let m = std::mem::replace(&mut worker.beat, Write::NONE);
    let live = item.state == ItemState::Live;
    match m.kind {
        // An item of this name is an earlier try to register: a write on its counter comes next.
        Kind::Register if live || !rules.has(Clause::RegisterFindsLive) => {}
        Kind::Beat if worker.unanswered && live => {
            worker.counter = item.counter;
            worker.unanswered = false;
            if !rules.has(Clause::ReadGivesNoValidity) {
                worker.age = 0;
            }
        }
        _ => give_up(rules, s, w),
    }
}
