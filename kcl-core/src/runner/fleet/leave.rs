//! Leaving: everything is handed over or given away, within a deadline.
//!
//! ```text
//!   announced ──one look of the others──► each lease to the worker that expects it ──► none left
//!        │ nobody else is there                    │ half of the time is over            │ calls run on
//!        └────────────► given away to whoever takes it ◄─────────────────────────────────┘
//!                                 │ the deadline, or a second request
//!                                 └──► running calls are dropped, what is acknowledged is recorded
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{Done, Drained, Fleet};
use crate::contract::{LeaseLost, Mono};
use crate::model::{Lease, LeaseKey};
use crate::policy::round;
use crate::runner::consumer::ConsumerEnd;
use crate::runner::holding::{Holding, Parted, Parting};
use crate::runner::session::{Session, TAKES};

/// What could not be given away by its consumers.
#[derive(Default)]
struct Abandoned {
    /// Their call blocks its thread and runs on: they expire.
    running: BTreeSet<LeaseKey>,
    /// Nobody works on them, and whether their last word was written is not known.
    unrecorded: BTreeMap<LeaseKey, Arc<Holding>>,
}

impl Fleet {
    /// Hands every shard to the worker that is to have it, and gives away what is left, within `shutdown_timeout`. Running calls are
    /// not waited for any more once `now` is cancelled.
    pub(crate) async fn leave(mut self, now: &CancellationToken) -> Drained {
        let rt = self.session.rt().clone();
        let (began, patience) = (rt.now(), self.session.config.shutdown_timeout);
        let others = round::successors(&self.seen, &self.session.id, self.session.access.timing, began);
        let mut released = 0;
        if others > 0 && !self.held.is_empty() {
            let until = began + patience / 2;
            released = self.hand_over_all(until, now).await;
        }
        self.drain_until(began + patience, released, now).await
    }

    /// Gives shards to those that the plan names, until all are on their way.
    async fn hand_over_all(&mut self, until: Mono, now: &CancellationToken) -> usize {
        let rt = self.session.rt().clone();
        // By then every other worker has seen who leaves, and looks out for what it gets: it looks or, in a large fleet, hears that it
        // is to look, within an interval of observation. A look that was under way began too early, so that it takes two; this
        // worker's own, before it hands anything over, is the second. The quarter is for the heartbeat and the ring that announce it.
        let ready = rt.now() + self.session.config.observe_every * 5 / 4 + self.look_took;
        self.leaving = Some(ready);
        self.next_observation = ready;
        let mut released = 0;
        loop {
            let asked = self.held.values().all(|held| held.give_up.asked().is_cancelled());
            if asked && self.pending.is_empty() {
                return released;
            }
            tokio::select! {
                biased;
                () = now.cancelled() => return released,
                () = rt.sleep_until(until) => return released,
                Some((key, end)) = self.ended.recv() => {
                    released += usize::from(matches!(end, ConsumerEnd::Released));
                    self.consumer_ended(&key, end);
                }
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.done(done),
                () = rt.sleep_until(self.next_observation), if !self.observing => self.observe(),
            }
        }
    }

    /// Asks every consumer to give its shard away, and waits for as long as the configuration allows.
    pub(crate) async fn drain(self, now: &CancellationToken) -> Drained {
        let deadline = self.session.rt().now() + self.session.config.shutdown_timeout;
        self.drain_until(deadline, 0, now).await
    }

    async fn drain_until(mut self, deadline: Mono, mut released: usize, now: &CancellationToken) -> Drained {
        let session = self.session.clone();
        self.draining = true;
        for held in self.held.values() {
            // One that was asked already keeps whom it was told.
            held.give_up.ask(None);
        }
        // A take that is under way may still bring a lease, which is given away again.
        while !self.held.is_empty() || !self.pending.is_empty() {
            tokio::select! {
                biased;
                Some((key, end)) = self.ended.recv() => {
                    released += usize::from(matches!(end, ConsumerEnd::Released));
                    self.consumer_ended(&key, end);
                }
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => {
                    if let Done::Took { .. } | Done::Wrote { .. } = done {
                        self.done(done);
                    }
                }
                () = now.cancelled() => break,
                () = session.rt().sleep_until(deadline) => break,
            }
        }
        let abandoned = self.held.len();
        let Abandoned { running, unrecorded } = self.abandon().await;
        let timing = session.access.timing;
        let rest = Self::give_back_the_rest(&session, &running, &unrecorded);
        if session.rt().timeout(timing.request_timeout(), rest).await.is_none() {
            tracing::debug!("what else names this worker expires");
        }
        Drained { released, abandoned, running: !running.is_empty() }
    }

    /// Ends the calls that did not return, and gives their leases away with what was acknowledged. Takes no longer than a last word may.
    async fn abandon(&mut self) -> Abandoned {
        let timing = self.session.access.timing;
        let rt = self.session.rt().clone();
        let until = rt.now() + timing.last_word();
        let held = std::mem::take(&mut self.held);
        let partings = held.into_iter().map(|(key, held)| {
            let rt = rt.clone();
            async move {
                // Whole, so that its keeper lives until it has written the last word.
                let mut held = held;
                held.consumer.abort();
                if rt.timeout(timing.request_timeout(), &mut held.consumer).await.is_none() {
                    return Some((key, None));
                }
                let parting = held.holding.part(Parting::Release { intended_for: None });
                if let Some(Parted::Done { .. }) = rt.timeout(until.since(rt.now()), parting).await {
                    return None;
                }
                // Its keeper may not have come to the order yet.
                held.holding.lose(LeaseLost::Shutdown);
                Some((key, Some(held.holding.clone())))
            }
        });
        let mut abandoned = Abandoned::default();
        for (key, holding) in futures::future::join_all(partings).await.into_iter().flatten() {
            match holding {
                Some(holding) => drop(abandoned.unrecorded.insert(key, holding)),
                None => drop(abandoned.running.insert(key)),
            }
        }
        if !abandoned.running.is_empty() {
            tracing::warn!(leases = abandoned.running.len(), "calls run on; their leases expire");
        }
        abandoned
    }

    /// Gives away what names this incarnation and nobody works on: a finish or a take whose answer was lost, and a lease whose last word
    /// was not answered.
    async fn give_back_the_rest(
        session: &Session,
        running: &BTreeSet<LeaseKey>,
        unrecorded: &BTreeMap<LeaseKey, Arc<Holding>>,
    ) {
        let access = &session.access;
        let scan = match access.scan().await {
            Ok(scan) => scan,
            Err(error) => return tracing::debug!(%error, "what else names this worker expires"),
        };
        let me = session.id.owner();
        let ours =
            |lease: &&Arc<Lease>| lease.owner.as_ref() == Some(&me) && !lease.evicted && !running.contains(&lease.key);
        let leases = futures::stream::iter(scan.leases.iter().filter(ours));
        let given_back = leases.for_each_concurrent(TAKES, |lease| async move {
            let worked_on = unrecorded.get(&lease.key).map(|holding| &**holding);
            // What another has written meanwhile is theirs.
            let _current = access.give_back(lease, worked_on).await;
        });
        given_back.await;
    }

    /// Gives a lease away that was won while the worker stops.
    pub(super) fn give_back(&mut self, lease: Lease) {
        let (session, key) = (self.session.clone(), lease.key.clone());
        self.pending.insert(key.clone());
        self.jobs.push(Box::pin(async move {
            let lease = session.access.give_back(&lease, None).await;
            Done::Wrote { key, lease }
        }));
    }
}
