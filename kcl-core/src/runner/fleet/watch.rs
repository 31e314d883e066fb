//! How a fleet runner looks after the other workers.
//!
//! ```text
//!   point reads of two (every `observe_every`, in a large fleet) ─┐
//!   scans ────────────────────────────────────────────────────────┴─► silent for D ──► fence ──► inherit
//!   somebody has come or gone, and rings ──► one small read (as often) ──► scan
//!   a lease names a worker that no scan shows ──► point read ──► gone ──► its leases may be taken
//! ```

use std::collections::BTreeSet;

use super::{Done, Fleet};
use crate::contract::{Liveness, Mono, StartReason, WorkerItem, WorkerState};
use crate::model::{LeaseKey, Owner, StreamArn, WorkerId};
use crate::policy::observe::Reply;
use crate::policy::pacing;
use crate::policy::round::{self, Farewell, Own, Streams};

/// What a request about a worker's item brought.
#[derive(Debug)]
pub(in crate::runner) struct WorkerAnswer {
    pub(in crate::runner) id: WorkerId,
    /// When the request was sent.
    pub(in crate::runner) asked: Reply,
    /// The item, strongly consistent; nothing when the table did not answer.
    pub(in crate::runner) item: Option<Option<WorkerItem>>,
    /// This worker's own write has fenced it.
    pub(in crate::runner) fenced_by_me: bool,
}

impl Fleet {
    /// A lease has stood still long enough, or a worker is gone, between two looks at the table. A worker whose looks fail, or are rare,
    /// sees everything stand still, and leaves it to those that see.
    pub(super) fn lease_expired(&mut self) {
        let now = self.session.rt().now();
        self.next_expiry = None;
        let sees = now.since(self.last_look) < self.session.access.timing.renew_every();
        if sees || self.session.liveness == Liveness::PerWorker {
            self.act_between_looks(now);
        }
    }

    /// Whether scans are so rare that something is looked at between them.
    pub(super) fn is_far_between(&self) -> bool {
        self.pace > self.session.config.observe_every
    }

    /// Whether the workers before this one are watched by point reads.
    fn watches(&self) -> bool {
        self.session.liveness == Liveness::PerWorker && self.is_far_between()
    }

    /// Reads the items of the workers that this one watches, and fences those that have been silent for too long.
    pub(super) fn watch(&mut self) {
        let (session, now) = (self.session.clone(), self.session.rt().now());
        self.next_watch = now + session.rt().jitter(session.config.observe_every);
        if self.is_far_between() {
            let listening = session.clone();
            self.jobs.push(Box::pin(async move {
                Done::Rings(listening.access.bounded(listening.access.table.rings()).await.ok())
            }));
        }
        if !self.watches() {
            return;
        }
        if !self.is_at_rest(now) {
            self.look_after(&self.held_keys(), now);
        }
        for id in pacing::watched(&self.seen, &session.id) {
            self.ask_for(id);
        }
    }

    fn ask_for(&mut self, id: WorkerId) {
        if self.asking.insert(id.clone()) {
            self.jobs.push(Box::pin(self.session.clone().ask_for(id, self.seen.asking())));
        }
    }

    fn mark(&mut self, worker: WorkerItem, state: WorkerState) {
        if self.asking.insert(worker.id.clone()) {
            self.jobs.push(Box::pin(self.session.clone().mark(worker, state, self.seen.asking())));
        }
    }

    /// Fences and removes workers that are gone, and asks for those that may be.
    pub(super) fn look_after(&mut self, held: &BTreeSet<LeaseKey>, now: Mono) {
        let (session, known) = (self.session.clone(), self.doubted.take());
        let own = self.own(held);
        let departed = round::departed(&self.seen, &own, session.access.timing, now);
        let departed: Vec<_> = departed.into_iter().map(|(worker, what)| (worker.clone(), what)).collect();
        let doubted = match known {
            Some((news, doubted)) if news == self.seen.news() => doubted,
            _ => round::doubted(&self.seen, &own),
        };
        for (worker, what) in departed {
            match what {
                Farewell::Fence => self.mark(worker, WorkerState::Fenced),
                Farewell::Delete => self.jobs.push(Box::pin(session.clone().remove(worker))),
            }
        }
        for id in &doubted {
            self.ask_for(id.clone());
        }
        self.doubted = Some((self.seen.news(), doubted));
    }

    /// Looks at once if somebody has told the fleet to. Whoever asks for the first time cannot know whether that was before its last
    /// look, or after it.
    pub(super) fn heard(&mut self, rings: Option<u64>) {
        let Some(rings) = rings else { return };
        self.session.board.heard();
        if self.rings.replace(rings) != Some(rings) {
            self.look_now();
        }
    }

    /// Asks a whole worker to let go, where only whole workers can be asked.
    pub(super) fn evict_worker(&mut self, owner: &Owner) {
        let worker = round::worker_of(owner).and_then(|id| self.seen.workers().get(&id));
        let Some(worker) = worker.map(|seen| seen.item.clone()) else { return };
        if worker.state.lives() {
            self.mark(worker, WorkerState::Evicted);
        }
    }

    /// Takes in what is known of a worker now.
    pub(super) fn worker_answered(&mut self, answer: WorkerAnswer) {
        let now = self.session.rt().now();
        let WorkerAnswer { id, asked, item, fenced_by_me } = answer;
        self.asking.remove(&id);
        let Some(item) = item else { return };
        let standing = |item: &WorkerItem| (item.state, item.weight);
        let before = self.seen.workers().get(&id).map(|seen| standing(&seen.item));
        let after = item.as_ref().map(standing);
        self.seen.worker(&id, item, asked, now);
        match after {
            Some((WorkerState::Fenced, _)) => {
                if fenced_by_me {
                    self.tell_of_a_death();
                    self.inherit(&id);
                }
                self.lease_expired();
            }
            // It has left, and what it held is elsewhere than it was seen last.
            None => self.look_now(),
            Some(_) if before != after => self.look_now(),
            Some(_) => self.prepare_for_silence(&id, now),
        }
        if before.is_some() && before.map(|(state, _)| state) != after.map(|(state, _)| state) {
            self.look_now();
        }
        self.set_next_expiry(now);
    }

    /// All are to count without it from the same time on: what one is to give another expects.
    fn tell_of_a_death(&self) {
        let session = self.session.clone();
        self.jobs.push(Box::pin(async move {
            session.access.ring().await;
            Done::Tidied
        }));
    }

    /// A watched worker that is about to be fenced: what it holds is looked up before, so that it can be taken at once.
    fn prepare_for_silence(&mut self, id: &WorkerId, now: Mono) {
        let (timing, config) = (self.session.access.timing, &self.session.config);
        let Some(seen) = self.seen.workers().get(id) else { return };
        let early = timing.duration().saturating_sub(config.observe_every * 2).max(timing.renew_every() * 2);
        if !self.watches() || !seen.stood_still(early, now) {
            self.alarmed.remove(id);
        } else if self.alarmed.insert(id.clone()) {
            self.look_now();
        }
    }

    /// Takes all that a worker held that this one has fenced. In a small fleet everybody has seen it, and the plan gives each its share.
    fn inherit(&mut self, id: &WorkerId) {
        self.alarmed.remove(id);
        if !self.watches() {
            return;
        }
        let held = self.held_keys();
        let arns = self.arns();
        let streams = Streams { arns: &arns, form: self.session.form };
        let room = self.session.config.max_leases.saturating_sub(held.len() + self.pending.len());
        let estate = round::estate(&self.seen, &self.own(&held), &streams, id);
        let estate: Vec<_> = estate.into_iter().take(room).cloned().collect();
        tracing::info!(worker = %id, leases = estate.len(), "inheriting from a worker that is gone");
        for lease in estate {
            self.take(lease, StartReason::TakenOver, &streams);
        }
    }

    /// When to look again: at the usual pace, or as soon as the plan has more for this worker, but at most once in an interval.
    pub(super) fn next_look(&self, now: Mono) -> Mono {
        // Whoever leaves gives its shards away at that instant: a look just before it puts that off by no interval.
        if let Some(from) = self.leaving.filter(|from| now < *from) {
            return from;
        }
        let rt = self.session.rt();
        let usual = now + rt.jitter(self.pace);
        let soonest = now + rt.jitter(self.session.config.observe_every);
        self.next_move.map_or(usual, |at| at.max(soonest).min(usual))
    }

    /// The same without a new look at the table: the next one is no later than the plan wants it.
    pub(super) fn act_between_looks(&mut self, now: Mono) {
        self.act(now);
        self.next_observation = self.next_observation.min(self.next_look(now));
    }

    /// Looks at the whole table at once; again, if a look is under way that may have begun too early.
    pub(super) fn look_now(&mut self) {
        self.look_again = self.observing;
        self.next_observation = self.session.rt().now();
    }

    pub(super) fn arns(&self) -> Vec<StreamArn> {
        self.streams.keys().cloned().collect()
    }

    pub(super) fn held_keys(&self) -> BTreeSet<LeaseKey> {
        self.held.keys().cloned().collect()
    }

    pub(super) fn own<'a>(&'a self, held: &'a BTreeSet<LeaseKey>) -> Own<'a> {
        let session = &self.session;
        Own {
            id: &session.id,
            weight: session.config.weight,
            liveness: session.liveness,
            leaving: self.leaving.is_some(),
            held,
            pending: &self.pending,
        }
    }

    pub(super) fn set_next_expiry(&mut self, now: Mono) {
        let held = BTreeSet::new();
        self.next_expiry = round::next_expiry(&self.seen, &self.own(&held), self.session.access.timing, now);
    }
}
