//! Looking out for leases that others are about to hand over: each is read by itself until its owner has let go of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Done, Fleet};
use crate::contract::StartReason;
use crate::model::{Lease, LeaseKey, WorkerId};
use crate::policy::backoff::Backoff;
use crate::policy::expect::{Expecting, Watches};
use crate::policy::round::Streams;
use crate::runner::session::Session;

/// The watches that are under way.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    expecting: Expecting,
    /// Each ends its watch.
    unwanted: BTreeMap<LeaseKey, CancellationToken>,
}

/// How the watch of a lease ended.
#[expect(clippy::large_enum_variant, reason = "short-lived, and most come")]
pub(in crate::runner) enum WatchEnd {
    /// The lease has another owner, or none; absent where it was deleted.
    Came(Option<Lease>),
    /// The table refuses to be read, or the owner kept it for too long.
    GaveUp,
    /// The plan gives it to another.
    Unwanted,
}

impl Fleet {
    /// Watches what the plan expects, and nothing else.
    pub(super) fn look_out_for(&mut self, expected: BTreeMap<WorkerId, Vec<LeaseKey>>) {
        let (now, linger) = (self.session.rt().now(), self.session.limits().claim_deadline);
        let Watches { begin, end } = self.lookout.expecting.plan(expected, now, linger);
        for unwanted in end.iter().filter_map(|key| self.lookout.unwanted.remove(key)) {
            unwanted.cancel();
        }
        begin.into_iter().for_each(|key| self.watch_lease(key));
    }

    fn watch_lease(&mut self, key: LeaseKey) {
        let unwanted = CancellationToken::new();
        self.lookout.unwanted.insert(key.clone(), unwanted.clone());
        let lease = self.seen.leases().get(&key).map(|seen| Lease::clone(&seen.item));
        let session = self.session.clone();
        self.jobs.push(Box::pin(async move {
            let end = match lease {
                Some(lease) => unwanted.run_until_cancelled(session.handed_over(&lease)).await,
                None => Some(WatchEnd::GaveUp),
            };
            Done::Expected { key, end: end.unwrap_or(WatchEnd::Unwanted) }
        }));
    }

    /// Takes an expected lease at once if its owner has let go of it.
    pub(super) fn expected(&mut self, key: &LeaseKey, end: WatchEnd) {
        let lease = match end {
            WatchEnd::Unwanted => return,
            WatchEnd::GaveUp => {
                self.lookout.unwanted.remove(key);
                return self.lookout.expecting.gave_up(key);
            }
            WatchEnd::Came(lease) => lease,
        };
        self.lookout.unwanted.remove(key);
        if let Some(next) = self.lookout.expecting.came(key) {
            self.watch_lease(next);
        }
        let Some(lease) = lease else { return };
        self.seen.lease(lease.clone(), self.session.rt().now());
        let mine = lease.owner.is_none() && lease.intended_for == Some(self.session.id.owner());
        if mine && !self.draining && self.leaving.is_none() {
            let arns = self.arns();
            let streams = Streams { arns: &arns, form: self.session.form };
            self.take(lease, StartReason::HandedOver, &streams);
        }
    }
}

impl Session {
    /// Reads a lease again and again until it has another owner than `seen`, or none; not longer than its owner is given before it is
    /// evicted.
    async fn handed_over(self: &Arc<Self>, seen: &Lease) -> WatchEnd {
        let rt = self.rt();
        let until = rt.now() + self.limits().evict_after;
        let usual = || Backoff::new(Expecting::LOOK_EVERY, self.config.observe_every);
        let mut backoff = usual();
        while rt.now() < until {
            let pause = match self.access.bounded(self.access.table.get(&seen.key)).await {
                Ok(Some(lease)) if lease.owner == seen.owner => {
                    backoff = usual();
                    Expecting::LOOK_EVERY
                }
                Ok(other) => return WatchEnd::Came(other),
                // The table is short of capacity or away: reads that fail grow as rare as scans.
                Err(error) if error.is_retryable() => backoff.next_pause(),
                Err(_) => return WatchEnd::GaveUp,
            };
            rt.sleep(rt.jitter(pause)).await;
        }
        WatchEnd::GaveUp
    }
}
