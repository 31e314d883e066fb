//! What workers do with leases: those they hold, those of others, and those that nobody has.

use crate::answers::{answered, refused};
use crate::engine;
use crate::moves::{Moves, Told, believes, forget_born, is_member, loosen, validity_age};
use crate::rules::{Clause, Mode};
use crate::state::{Held, Hold, ItemState, Kind, NOBODY, NOT_HELD, Power, SHARD_END, Write};
use crate::table::{accepts, apply};

impl Moves<'_> {
    /// Writes that a worker waits for: applied, answered, refused, or given up.
    pub(crate) fn requests(&mut self, w: usize) {
        let rules = self.rules;
        for l in 0..=rules.children {
            let m = self.from.workers[w].sent[l];
            if !m.is_some() {
                continue;
            }
            if !m.applied && self.is_open_to(&m) {
                self.wrote = Some((m, true));
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
                self.told = Some((m, Told::Acknowledged));
                self.add("gets the answer", w, l, false, |s| answered(rules, s, w, l));
            } else if !accepts(rules, &self.from, &m) {
                self.wrote = Some((m, false));
                self.told = Some((m, Told::Refused));
                self.add("is refused", w, l, false, |s| refused(rules, s, w, l));
            }
            if !rules.lost {
                continue;
            }
            self.told = Some((m, Told::Nothing));
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

    pub(crate) fn on_lease(&mut self, w: usize, l: usize) {
        let (rules, s) = (self.rules, self.from);
        let (worker, lease) = (s.workers[w], s.leases[l]);
        if worker.sent[l].is_some() {
            return;
        }
        match worker.held[l].hold {
            Hold::Yes if lease.exists => self.as_owner(w, l),
            Hold::Parting if lease.exists && engine::holds(rules, validity_age(rules, &s, w, l)) => {
                self.send(w, l, Kind::Release, |m| m.intended = NOBODY);
            }
            Hold::Yes | Hold::Parting => {
                self.add("drops what is lost", w, l, false, |s| s.workers[w].held[l] = NOT_HELD);
            }
            Hold::Born => {}
            Hold::No => {
                let registered = is_member(rules, &s, w) || !rules.has(Clause::RegisterFirst);
                if lease.exists && lease.checkpoint != SHARD_END && registered {
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
        if valid && held.progress < rules.records && l == 0 {
            self.add("delivers", w, l, false, |s| s.workers[w].held[l].progress += 1);
        }
        // In PerWorker only progress is written.
        let moved = held.progress != s.leases[l].checkpoint;
        let writes = rules.mode == Mode::PerLease || moved || held.unanswered;
        if writes && (valid || !rules.has(Clause::LapseIsFinal)) {
            self.send(w, l, Kind::Renew, |_| {});
        }
        if !valid {
            return;
        }
        let finishes = l == 0 || rules.count_to.is_some();
        if finishes && (l > 0 || held.progress == rules.records) {
            self.send(w, l, Kind::Finish, |_| {});
        }
        if rules.moves {
            self.send(w, l, Kind::Release, |m| m.intended = NOBODY);
            self.send(w, l, Kind::Release, |m| m.intended = other);
        }
    }

    /// Whether the owner of the lease is found to be gone by a look at its item now. What is found so stays so.
    fn is_owner_gone(&self, w: usize, l: usize) -> bool {
        let (rules, s) = (self.rules, &self.from);
        let owner = s.leases[l].owner;
        if owner == NOBODY || owner == s.me(w) {
            return false;
        }
        let item = s.items[usize::from(owner)];
        let watched = engine::stood_still(rules, item.still) && !rules.has(Clause::Fence);
        let gone = match item.state {
            ItemState::Absent | ItemState::Fenced => true,
            ItemState::Evicted => watched || !rules.has(Clause::EvictedIsWatched),
            ItemState::Live => watched,
        };
        gone || s.leases[l].gone || s.workers[w].missing & (1 << owner) != 0
    }

    fn as_stranger(&mut self, w: usize, l: usize) {
        let (rules, s) = (self.rules, self.from);
        let (lease, me) = (s.leases[l], s.me(w));
        let parent = s.leases[0];
        let waits = l > 0 && parent.exists && parent.checkpoint != SHARD_END;
        // A scan may not show the parent yet; only a read does for certain.
        let seen = !rules.stale || rules.has(Clause::ParentIsRead);
        if waits && seen && rules.has(Clause::ParentGate) {
            return;
        }
        let watched = engine::stood_still(rules, lease.still);
        // How long the deadline is makes no difference to what may happen.
        let late = rules.has(Clause::ClaimDeadline);
        let parent_held = l > 0 && s.workers[w].held[0].hold != Hold::No;
        let own = lease.owner == me && !lease.evicted && !parent_held && rules.has(Clause::OwnTakenUp);
        let free = lease.owner == NOBODY && (lease.intended == NOBODY || lease.intended == me || late);
        let expired = match rules.mode {
            Mode::PerLease => {
                let skip = lease.evicted && !rules.has(Clause::EvictedIsWatched);
                lease.owner != NOBODY && (watched || skip || !rules.has(Clause::FullWatch))
            }
            Mode::PerWorker => self.is_owner_gone(w, l),
        };
        if own && !rules.has(Clause::OwnTakenByWrite) {
            self.add("goes on with a lease in its name", w, l, false, |s| {
                let progress = lease.checkpoint.min(rules.records);
                s.workers[w].held[l] =
                    Held { hold: Hold::Yes, counter: lease.counter, age: 0, progress, unanswered: false };
            });
        } else if own || free || expired {
            self.send(w, l, Kind::Take, |m| {
                m.counter = lease.counter;
                m.owner = lease.owner;
            });
        }
        if rules.moves && rules.mode == Mode::PerLease && !lease.evicted && lease.owner != NOBODY && lease.owner != me {
            let (counter, owner) = (lease.counter, lease.owner);
            let m = Write { kind: Kind::EvictLease, on: l as u8, counter, owner, by: me, intended: me, ..Write::NONE };
            self.aside("writes an eviction", w, false, m);
        }
    }

    fn send(&mut self, w: usize, l: usize, kind: Kind, shape: impl FnOnce(&mut Write)) {
        let rules = self.rules;
        let me = self.from.me(w);
        let held = self.from.workers[w].held[l];
        let checkpoint = held.progress;
        let mut m = Write { kind, on: l as u8, counter: held.counter, owner: me, by: me, checkpoint, ..Write::NONE };
        shape(&mut m);
        let stop = |s: &mut crate::state::State| {
            if kind == Kind::Release && rules.has(Clause::ReleaseStopsFirst) {
                s.workers[w].held[l].hold = Hold::Parting;
            }
        };
        if rules.slow {
            self.sent = Some(m);
            self.add(sends(kind, m.intended), w, l, false, |s| {
                s.workers[w].sent[l] = m;
                stop(s);
            });
            return;
        }
        if self.is_open_to(&m) {
            (self.wrote, self.sent, self.told) = (Some((m, true)), Some(m), Some((m, Told::Acknowledged)));
            self.add(does(kind, m.intended), w, l, false, |s| {
                stop(s);
                let mut m = m;
                s.workers[w].sent[l] = m;
                apply(rules, s, &mut m);
                s.workers[w].sent[l] = m;
                answered(rules, s, w, l);
            });
            if rules.lost {
                (self.wrote, self.sent, self.told) = (Some((m, true)), Some(m), Some((m, Told::Nothing)));
                self.add(unheard(kind), w, l, true, |s| {
                    stop(s);
                    let mut m = m;
                    apply(rules, s, &mut m);
                    s.workers[w].held[l].unanswered = true;
                });
            }
        } else if !accepts(rules, &self.from, &m) {
            (self.wrote, self.sent, self.told) = (Some((m, false)), Some(m), Some((m, Told::Refused)));
            self.add("is refused", w, l, false, |s| {
                stop(s);
                s.workers[w].sent[l] = m;
                refused(rules, s, w, l);
            });
        }
        if rules.lost {
            (self.sent, self.told) = (Some(m), Some((m, Told::Nothing)));
            self.add(delays(kind), w, l, true, |s| {
                stop(s);
                loosen(rules, s, m);
                s.workers[w].held[l].unanswered = true;
            });
        }
    }

    /// What a listing mends, and the end of tombstones where items may come back.
    pub(crate) fn mend(&mut self) {
        let (rules, s) = (self.rules, self.from);
        let live = (0..rules.workers).find(|w| s.workers[*w].power == Power::Up && is_member(rules, &s, *w));
        let Some(w) = live else { return };
        let me = s.me(w);
        for l in 0..=rules.children {
            let lease = s.leases[l];
            let ended = s.leases[0].exists && s.leases[0].checkpoint == SHARD_END;
            if l > 0 && !lease.exists && ended && rules.has(Clause::ChildrenMended) {
                self.aside(
                    "creates a missing child",
                    w,
                    false,
                    Write { kind: Kind::CreateLease, on: l as u8, by: me, ..Write::NONE },
                );
            }
            let stood = engine::stood_still(rules, lease.still) || !rules.has(Clause::TombstoneStands);
            if l > 0 && stood && lease.checkpoint == SHARD_END && rules.count_to.is_some() && lease.exists {
                let (counter, owner) = (lease.counter, lease.owner);
                let m = Write { kind: Kind::DeleteLease, on: l as u8, by: me, counter, owner, ..Write::NONE };
                self.aside("deletes a tombstone", w, false, m);
            }
        }
    }
}

fn sends(kind: Kind, intended: u8) -> &'static str {
    match kind {
        Kind::Take => "sends a take",
        Kind::Renew => "sends a renewal",
        Kind::Finish => "sends a finish",
        _ if intended != NOBODY => "sends a hand-over",
        _ => "sends a release",
    }
}

fn does(kind: Kind, intended: u8) -> &'static str {
    match kind {
        Kind::Take => "takes the lease",
        Kind::Renew => "records its progress",
        Kind::Finish => "finishes the shard",
        _ if intended != NOBODY => "hands over",
        _ => "lets go",
    }
}

fn unheard(kind: Kind) -> &'static str {
    match kind {
        Kind::Take => "takes the lease and does not hear of it",
        Kind::Renew => "records its progress and does not hear of it",
        Kind::Finish => "finishes the shard and does not hear of it",
        _ => "lets go and does not hear of it",
    }
}

fn delays(kind: Kind) -> &'static str {
    match kind {
        Kind::Take => "sends a take that is late",
        Kind::Renew => "sends a renewal that is late",
        Kind::Finish => "sends a finish that is late",
        _ => "sends a release that is late",
    }
}
