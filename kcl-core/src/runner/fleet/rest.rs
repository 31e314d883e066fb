//! What a look at the table costs while the fleet is at rest: nothing is planned anew where nothing has changed but counters.

use std::collections::BTreeMap;

use super::Fleet;
use crate::contract::{Liveness, Mono};
use crate::policy::balance::Plan;
use crate::policy::recall;
use crate::policy::round::{self, Streams};

/// A plan that had nothing to do, and will have nothing to do until something else is seen or somebody is late.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// What had been seen by then.
    news: u64,
    /// Workers that lived.
    workers: usize,
}

impl Fleet {
    /// Notes that a turn whose plan is at rest has begun nothing, with so many workers alive. One that is silent may come back, and
    /// its counter would be no news: the fleet is not at rest until its item is gone.
    pub(super) fn come_to_rest(&mut self, workers: usize, now: Mono) {
        if self.pending.is_empty() && self.asking.is_empty() && self.all_show_life(now) {
            self.rest = Some(Rest { news: self.seen.news(), workers });
        }
    }

    fn all_show_life(&self, now: Mono) -> bool {
        let session = &self.session;
        round::all_show_life(&self.seen, &session.id, session.liveness, session.access.timing, now)
    }

    /// Whether there is nothing to plan, and nobody to look after.
    pub(super) fn is_at_rest(&self, now: Mono) -> bool {
        self.resting(now).is_some()
    }

    fn resting(&self, now: Mono) -> Option<Rest> {
        let known = self.rest.filter(|rest| rest.news == self.seen.news() && self.leaving.is_none());
        let rest = known.filter(|_| self.pending.is_empty() && self.all_show_life(now));
        debug_assert!(
            rest.is_none() || self.has_nothing_to_do(now),
            "something that a plan depends on is not told as news"
        );
        rest
    }

    /// What remains to be done in a turn that has nothing to plan. Answers whether this is one.
    pub(super) fn stays_at_rest(&mut self, now: Mono) -> bool {
        self.rest = self.resting(now);
        let Some(rest) = self.rest else { return false };
        self.ask_the_doubtful();
        // What was expected is so no longer.
        self.look_out_for(BTreeMap::new());
        self.discover(now, rest.workers);
        self.set_next_expiry(now);
        true
    }

    /// Has each lease written that another seems to have written, so that its keeper learns of it.
    pub(super) fn ask_the_doubtful(&self) {
        if self.session.liveness == Liveness::PerLease {
            return;
        }
        for (key, shard) in &self.held {
            if recall::is_doubtful(&self.seen, key, shard.holding.counter()) {
                shard.holding.dirty.notify_one();
            }
        }
    }

    /// Whether a whole turn would do nothing now: what is saved by not making it.
    fn has_nothing_to_do(&self, now: Mono) -> bool {
        let (session, held, arns) = (&self.session, self.held_keys(), self.arns());
        let (own, streams) = (self.own(&held), Streams { arns: &arns, form: session.form });
        let view = round::view(&self.seen, &own, &streams, session.limits(), session.access.timing, now);
        self.balance.clone().plan(&view) == Plan::default()
            && round::unclaimed(&self.seen, &own, &streams).is_empty()
            && recall::recalled(&self.seen, &own, &streams).is_empty()
            && round::departed(&self.seen, &own, session.access.timing, now).is_empty()
            && round::doubted(&self.seen, &own).is_empty()
    }
}
