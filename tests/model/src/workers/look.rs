//! What a worker decides after a look at the table, held against what the model allows.

use kcl_core::{Lease, LeaseKey, WorkerId, WorkerItem};

use super::{Body, Looks, Taken, Tally, id, key};
use crate::moves::Step;
use crate::policy::balance::{LeaseHold, Move, Plan, View};
use crate::policy::round::{self, Farewell, Own, Streams};
use crate::rules::{Mode, Setting};
use crate::state::{Hold, Kind, LEASES, NOBODY, Write};

/// What one worker decides after one look.
pub(super) struct Look<'a> {
    pub(super) w: usize,
    pub(super) body: &'a Body,
    pub(super) taken: &'a Taken<'a>,
    pub(super) rules: &'a Setting,
    pub(super) streams: Streams<'a>,
    pub(super) looks: Looks,
}

impl Look<'_> {
    /// Whether the model has a step in which the worker, or anyone, decides on such a write.
    fn model_may(&self, w: Option<usize>, kind: Kind, on: u8) -> bool {
        let is = |m: &Write| m.kind == kind && m.on == on;
        let by = |step: &Step| w.is_none_or(|w| usize::from(step.worker) == w);
        self.taken.open.iter().any(|(step, _)| by(step) && step.sent.as_ref().is_some_and(is))
    }

    fn allowed(&self, allowed: bool, what: impl FnOnce() -> String) -> Result<(), String> {
        if allowed { Ok(()) } else { Err(format!("worker {} {} in the engine alone", self.w, what())) }
    }

    /// Whether the table would refuse a write of the lease as the worker saw it: it may decide what it likes.
    fn is_outdated(&self, seen: &LeaseKey) -> bool {
        let now = self.taken.table.leases.iter().find(|lease| lease.key == *seen).map(Lease::guard);
        self.body.seen.leases().get(seen).map(|seen| seen.item.guard()) != now
    }

    /// A take also waits for what strongly consistent reads show of the parents.
    fn waits(&self, seen: &LeaseKey) -> bool {
        let Some(lease) = self.body.seen.leases().get(seen) else { return false };
        let parents = round::parents_to_read(&lease.item, &self.streams);
        self.taken.table.leases.iter().any(|lease| parents.contains(&lease.key) && !lease.is_finished())
    }

    pub(super) fn unclaimed(&self, own: &Own<'_>, tally: &mut Tally) -> Result<(), String> {
        let unclaimed = round::unclaimed(&self.body.seen, own, &self.streams);
        let worker = &self.taken.to.workers[self.w];
        for lease in &unclaimed {
            let l = number(&lease.key);
            // The model may have a tenure that the engine has lost.
            let idle = worker.held[usize::from(l)].hold == Hold::No && !worker.sent[usize::from(l)].is_some();
            if idle && !self.is_outdated(&lease.key) && !self.waits(&lease.key) {
                tally.own += 1;
                self.allowed(self.model_may(Some(self.w), Kind::Take, l), || format!("takes up its own {l}"))?;
            }
        }
        let me = self.taken.to.me(self.w);
        for l in 0..=self.rules.children as u8 {
            let lease = &self.taken.to.leases[usize::from(l)];
            let own = lease.exists && lease.owner == me && !lease.evicted;
            let takes = own && self.model_may(Some(self.w), Kind::Take, l);
            if takes && self.looks == Looks::Fresh && !unclaimed.iter().any(|lease| lease.key == key(usize::from(l))) {
                return Err(format!("worker {} takes up its own {l} in the model alone", self.w));
            }
        }
        Ok(())
    }

    pub(super) fn planned(&self, plan: &Plan, tally: &mut Tally) -> Result<(), String> {
        let worker = &self.taken.to.workers[self.w];
        for planned in &plan.moves {
            let (kind, key) = match planned {
                Move::Take(key) => (Kind::Take, key),
                Move::HandOver { key, .. } => (Kind::Release, key),
                Move::Evict(key) => (Kind::EvictLease, key),
            };
            let (l, lease) = (number(key), usize::from(number(key)));
            let busy = worker.sent[lease].is_some() || worker.held[lease].hold == Hold::Parting;
            // The runner gives away only what it holds.
            let idle = kind == Kind::Release && self.body.tenures[lease].is_none();
            let vain = kind != Kind::Release && (self.is_outdated(key) || kind == Kind::Take && self.waits(key));
            if busy || idle || vain || (kind != Kind::Take && !self.rules.moves) {
                continue;
            }
            let allowed = match (kind, self.rules.mode) {
                (Kind::EvictLease, Mode::PerWorker) => {
                    let owner = self.taken.to.leases[lease].owner;
                    self.is_outdated_worker(&id(owner)) || self.model_may(None, Kind::EvictWorker, owner)
                }
                _ => self.model_may(Some(self.w), kind, l),
            };
            *(if kind == Kind::Take { &mut tally.takes } else { &mut tally.moves }) += 1;
            self.allowed(allowed, || format!("does {planned:?}"))?;
        }
        Ok(())
    }

    fn is_outdated_worker(&self, id: &WorkerId) -> bool {
        let version = |item: &WorkerItem| (item.counter, item.state);
        let now = self.taken.table.workers.iter().find(|item| item.id == *id).map(version);
        self.body.seen.workers().get(id).map(|seen| version(&seen.item)) != now
    }

    pub(super) fn departed(&self, departed: Vec<(&WorkerItem, Farewell)>, tally: &mut Tally) -> Result<(), String> {
        for (item, what) in departed {
            let name = (0..self.rules.workers as u8 * 2).find(|name| id(*name) == item.id).unwrap_or(NOBODY);
            let kind = if what == Farewell::Fence { Kind::Fence } else { Kind::DeleteWorker };
            if !self.is_outdated_worker(&item.id) {
                tally.farewells += 1;
                self.allowed(self.model_may(None, kind, name), || format!("does {what:?} to {item:?}"))?;
            }
        }
        Ok(())
    }

    /// What the model may take from another, the engine may take too, if it has looked for long enough.
    pub(super) fn expired(&self, view: &View, tally: &mut Tally) -> Result<(), String> {
        let looks_since = self.body.looks_since.unwrap_or(self.body.awake);
        for l in 0..=self.rules.children as u8 {
            let looked = self.body.awake - looks_since.max(self.body.forgot[usize::from(l)]);
            let long_enough = looked >= u64::from(self.rules.d) && !self.rules.suspend;
            let lease = &self.taken.to.leases[usize::from(l)];
            let others = lease.owner != NOBODY && lease.owner != self.taken.to.me(self.w);
            let sees = self.rules.mode == Mode::PerWorker || long_enough;
            if !(others && sees && !lease.gone && self.model_may(Some(self.w), Kind::Take, l)) {
                continue;
            }
            let hold = view.leases.iter().find(|lease| lease.key == key(usize::from(l))).map(|lease| &lease.hold);
            if !matches!(hold, Some(LeaseHold::Expired { .. } | LeaseHold::Lapsed)) {
                return Err(format!("worker {} may take {l} in the model alone: {view:?}", self.w));
            }
            tally.expired += 1;
        }
        Ok(())
    }
}

fn number(of: &LeaseKey) -> u8 {
    (0..LEASES as u8).find(|l| key(usize::from(*l)) == *of).unwrap_or(NOBODY)
}
