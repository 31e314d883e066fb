//! What the fleet loop waits for beside its jobs: one timer for all.

use super::Fleet;
use crate::contract::Mono;

impl Fleet {
    /// When the loop has something to do again at the latest. It also turns now and then for nothing, which shows that it does.
    pub(super) fn next_alarm(&self) -> Mono {
        let turn = self.session.rt().now() + self.session.access.timing.renew_every();
        let observation = (!self.observing).then_some(self.next_observation);
        let watch = self.is_far_between().then_some(self.next_watch);
        observation.into_iter().chain(watch).chain(self.next_expiry).fold(turn, Mono::min)
    }

    /// Does the first of what is due.
    pub(super) fn alarm(&mut self) {
        let now = self.session.rt().now();
        if !self.observing && now >= self.next_observation {
            self.observe();
        } else if self.is_far_between() && now >= self.next_watch {
            self.watch();
        } else if self.next_expiry.is_some_and(|at| now >= at) {
            // The take names the counter that stood still, so it needs no other look.
            self.lease_expired();
        }
    }
}
