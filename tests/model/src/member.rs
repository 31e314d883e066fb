//! Membership in PerWorker: signs of life, and what others make of their absence.

use crate::answers::{beat_answered, beat_refused};
use crate::engine;
use crate::moves::{Moves, Told, forget_name, give_up, is_member, loosen};
use crate::rules::Clause;
use crate::state::{Hold, ItemState, Kind, Member, Power, Worker, Write, name};
use crate::table::{accepts, apply};

impl Moves<'_> {
    pub(crate) fn membership(&mut self, w: usize) {
        let (rules, s) = (self.rules, self.from);
        let worker = s.workers[w];
        let other = 1 - worker.incarnation;
        if worker.member == Member::GivenUp {
            if !s.mentions(name(w, other)) {
                self.add("comes back as a new incarnation", w, 15, false, |s| {
                    s.workers[w] = Worker { missing: worker.missing, ..Worker::fresh(Power::Up, other) };
                    forget_name(s, name(w, other));
                });
            }
            return;
        }
        if worker.beat.is_some() {
            self.beat_under_way(w);
        } else {
            self.beat(w);
        }
        if worker.member == Member::Registered {
            // It may fail in itself at any time.
            self.add("gives itself up", w, 15, true, |s| give_up(rules, s, w));
            self.leave(w);
        }
    }

    fn beat(&mut self, w: usize) {
        let (rules, s) = (self.rules, self.from);
        let (worker, me) = (s.workers[w], s.me(w));
        let item = s.items[usize::from(me)];
        let m = match worker.member {
            Member::New if item.state == ItemState::Absent => on_item(Kind::Register, me, me, worker.counter),
            Member::New => on_item(Kind::Adopt, me, me, item.counter),
            _ => on_item(Kind::Beat, me, me, worker.counter),
        };
        if rules.slow {
            self.sent = Some(m);
            self.add("sends a sign of life", w, 15, false, |s| s.workers[w].beat = m);
            return;
        }
        if self.is_open_to(&m) {
            (self.wrote, self.sent, self.told) = (Some((m, true)), Some(m), Some((m, Told::Acknowledged)));
            self.add("shows a sign of life", w, 15, false, |s| {
                let mut m = m;
                apply(rules, s, &mut m);
                s.workers[w].beat = m;
                beat_answered(rules, s, w);
            });
            if rules.lost {
                (self.wrote, self.sent, self.told) = (Some((m, true)), Some(m), Some((m, Told::Nothing)));
                self.add("shows a sign of life whose answer is lost", w, 15, true, |s| {
                    let mut m = m;
                    apply(rules, s, &mut m);
                    s.workers[w].unanswered = true;
                });
            }
        } else if !accepts(rules, &s, &m) {
            (self.wrote, self.sent, self.told) = (Some((m, false)), Some(m), Some((m, Told::Refused)));
            self.add("has its sign of life refused", w, 15, false, |s| {
                s.workers[w].beat = m;
                beat_refused(rules, s, w);
            });
        }
        if rules.lost {
            (self.sent, self.told) = (Some(m), Some((m, Told::Nothing)));
            self.add("sends a sign of life that is late", w, 15, true, |s| {
                loosen(rules, s, m);
                s.workers[w].unanswered = true;
            });
        }
    }

    fn beat_under_way(&mut self, w: usize) {
        let (rules, s) = (self.rules, self.from);
        let beat = s.workers[w].beat;
        if !beat.applied && self.is_open_to(&beat) {
            self.wrote = Some((beat, true));
            self.add("has its sign of life applied", w, 15, false, |s| {
                let mut m = beat;
                apply(rules, s, &mut m);
                s.workers[w].beat = m;
            });
        }
        if beat.applied {
            self.told = Some((beat, Told::Acknowledged));
            self.add("gets the answer to its sign of life", w, 15, false, |s| beat_answered(rules, s, w));
        } else if !accepts(rules, &s, &beat) {
            (self.wrote, self.told) = (Some((beat, false)), Some((beat, Told::Refused)));
            self.add("has its sign of life refused", w, 15, false, |s| beat_refused(rules, s, w));
        }
        if rules.lost {
            self.told = Some((beat, Told::Nothing));
            self.add("gives up waiting for its sign of life", w, 15, true, |s| {
                let m = std::mem::replace(&mut s.workers[w].beat, Write::NONE);
                loosen(rules, s, m);
                s.workers[w].unanswered = true;
            });
        }
    }

    fn leave(&mut self, w: usize) {
        let (rules, s) = (self.rules, self.from);
        let (worker, me) = (s.workers[w], s.me(w));
        let idle = worker.held.iter().all(|h| h.hold == Hold::No) && worker.sent.iter().all(|m| !m.is_some());
        if !rules.moves || worker.beat.is_some() || (!idle && rules.has(Clause::LeaveLast)) {
            return;
        }
        let m = on_item(Kind::DeleteWorker, me, me, worker.counter);
        let gone = |s: &mut crate::state::State| {
            if idle {
                s.workers[w] = Worker::fresh(Power::Down, worker.incarnation);
            }
        };
        if self.is_open_to(&m) {
            self.wrote = Some((m, true));
            self.add("leaves the fleet", w, 15, true, |s| {
                let mut m = m;
                apply(rules, s, &mut m);
                gone(s);
            });
        }
        self.add("leaves the fleet, and its item stays for now", w, 15, true, |s| {
            loosen(rules, s, m);
            gone(s);
        });
    }

    /// What any member may write of the item of another. Whether there is a member now decides only whether progress is owed to it.
    pub(crate) fn judgements(&mut self) {
        let (rules, s) = (self.rules, self.from);
        for n in 0..rules.workers * 2 {
            let item = s.items[n];
            let others = |w: &usize| s.workers[*w].power == Power::Up && usize::from(s.me(*w)) != n;
            let watcher = (0..rules.workers).filter(others).find(|w| is_member(rules, &s, *w));
            let (by, fault) = (watcher.unwrap_or(15), watcher.is_none());
            if item.state == ItemState::Absent {
                if !rules.has(Clause::JudgedAfter) {
                    for w in (0..rules.workers).filter(others).filter(|w| is_member(rules, &s, *w)) {
                        self.add("reads that a worker item is missing", w, n, false, |s| {
                            s.workers[w].missing |= 1 << n;
                        });
                    }
                }
                continue;
            }
            let m = |kind| on_item(kind, n as u8, crate::state::NOBODY, item.counter);
            let long_enough = engine::stood_still(rules, item.still) || !rules.has(Clause::FullWatch);
            if item.state != ItemState::Fenced && long_enough && rules.has(Clause::Fence) {
                self.aside("writes a fence", by, fault, m(Kind::Fence));
            }
            if item.state == ItemState::Live && rules.moves {
                self.aside("evicts a worker", by, fault, m(Kind::EvictWorker));
            }
            let named = s.leases.iter().any(|l| usize::from(l.owner) == n);
            // Which leases name it is told by a scan.
            let may_go = item.state == ItemState::Fenced && (!named || rules.stale);
            if may_go || !rules.has(Clause::DeleteFencedOnly) {
                self.aside("deletes a worker item", by, fault, m(Kind::DeleteWorker));
            }
        }
    }
}

fn on_item(kind: Kind, on: u8, by: u8, counter: u8) -> Write {
    Write { kind, on, by, counter, ..Write::NONE }
}
