//! Looking out for leases that others are about to hand over: each is read by itself until its owner has let go of it.

use std::sync::Arc;

use super::{Done, Fleet};
use crate::contract::StartReason;
use crate::model::{Lease, LeaseKey};
use crate::policy::expect::Expecting;
use crate::policy::round::Streams;
use crate::runner::session::Session;

impl Fleet {
    /// Begins to watch what the plan expects.
    pub(super) fn look_out_for(&mut self, expected: Vec<LeaseKey>) {
        let (now, linger) = (self.session.rt().now(), self.session.limits().claim_deadline);
        for (key, unwanted) in self.expecting.begin(expected, now, linger) {
            let lease = self.seen.leases().get(&key).map(|seen| Lease::clone(&seen.item));
            let session = self.session.clone();
            self.jobs.push(Box::pin(async move {
                let lease = match lease {
                    Some(lease) => unwanted.run_until_cancelled(session.handed_over(&lease)).await.flatten(),
                    None => None,
                };
                Done::Expected { lease }
            }));
        }
    }

    /// Takes an expected lease at once if its owner has let go of it.
    pub(super) fn expected(&mut self, lease: Option<Lease>) {
        self.expecting.end();
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
    async fn handed_over(self: &Arc<Self>, seen: &Lease) -> Option<Lease> {
        let rt = self.rt();
        let until = rt.now() + self.limits().evict_after;
        while rt.now() < until {
            rt.sleep(rt.jitter(Expecting::LOOK_EVERY)).await;
            match self.access.bounded(self.access.table.get(&seen.key)).await {
                Ok(Some(lease)) if lease.owner == seen.owner => {}
                Ok(other) => return other,
                // The table is short of capacity or away: what is looked for is found by a scan.
                Err(_) => return None,
            }
        }
        None
    }
}
