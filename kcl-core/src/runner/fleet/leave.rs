//! Leaving: everything is handed over or given away, within a deadline.
//!
//! ```text
//!   announced ──one look of the others──► each lease to the worker that expects it ──► none left
//!        │ nobody else is there                    │ half of the time is over            │ calls run on
//!        └────────────► given away to whoever takes it ◄─────────────────────────────────┘
//!                                 │ the deadline, or a second request
//!                                 └──► running calls are dropped, what is acknowledged is recorded
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{Done, Drained, Fleet};
use crate::contract::Mono;
use crate::model::{Lease, LeaseKey};
use crate::policy::round;
use crate::runner::consumer::ConsumerEnd;
use crate::runner::holding::Parting;
use crate::runner::session::Session;

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
        let running = self.abandon().await;
        Self::give_back_the_rest(&session, &running).await;
        Drained { released, abandoned, running: !running.is_empty() }
    }

    /// Ends the calls that did not return, and gives their leases away with what was acknowledged. Returns the leases whose call runs
    /// on, because it blocks its thread: those expire.
    async fn abandon(&mut self) -> BTreeSet<LeaseKey> {
        let timing = self.session.access.timing;
        let rt = self.session.rt().clone();
        let held = std::mem::take(&mut self.held);
        let partings = held.into_iter().map(|(key, held)| {
            let rt = rt.clone();
            async move {
                // Whole, so that its keeper lives until it has written the last word.
                let mut held = held;
                held.consumer.abort();
                if rt.timeout(timing.request_timeout(), &mut held.consumer).await.is_none() {
                    return Some(key);
                }
                // Each keeper gives up when its validity ends; this bound only owns the wait.
                let parting = held.holding.part(Parting::Release { intended_for: None });
                rt.timeout(timing.duration(), parting).await.is_none().then_some(key)
            }
        });
        let running: BTreeSet<LeaseKey> = futures::future::join_all(partings).await.into_iter().flatten().collect();
        if !running.is_empty() {
            tracing::warn!(leases = running.len(), "some leases could not be given away; they expire");
        }
        running
    }

    /// Gives away what names this incarnation and was never begun with: a finish or a take whose answer was lost.
    async fn give_back_the_rest(session: &Session, running: &BTreeSet<LeaseKey>) {
        let access = &session.access;
        let scan = match access.scan().await {
            Ok(scan) => scan,
            Err(error) => return tracing::debug!(%error, "what else names this worker expires"),
        };
        let me = session.id.owner();
        let ours =
            |lease: &&Arc<Lease>| lease.owner.as_ref() == Some(&me) && !lease.evicted && !running.contains(&lease.key);
        for lease in scan.leases.iter().filter(ours) {
            access.give_back(lease).await;
        }
    }

    /// Gives a lease away that was won while the worker stops.
    pub(super) fn give_back(&mut self, lease: Lease) {
        let (session, key) = (self.session.clone(), lease.key.clone());
        self.pending.insert(key.clone());
        self.jobs.push(Box::pin(async move {
            let lease = session.access.give_back(&lease).await;
            Done::Wrote { key, lease }
        }));
    }
}
