//! When the fleet is at rest: a plan that had nothing to do will have nothing to do either, as long as nothing changes but time.

use std::collections::BTreeSet;

use super::{Balance, LeaseHold, Plan, View};
use crate::model::Owner;

impl Balance {
    /// Whether `plan`, just made of `view`, is what would be made of it at any later time too. Everything that a plan waits for is over
    /// then: the crew has been the same for long enough, each lease is held by a worker of the view for long enough, nobody is
    /// deaf or holds too much.
    pub(crate) fn is_at_rest(&self, view: &View, plan: &Plan) -> bool {
        let idle = plan.moves.is_empty() && plan.expected.is_empty() && self.over.is_empty() && self.deaf.is_empty();
        let settled = |since| view.now.since(since) >= view.limits.settle;
        if !idle || !self.crew.as_ref().is_some_and(|crew| settled(crew.since)) {
            return false;
        }
        let owners: BTreeSet<Owner> = view.workers.iter().map(|worker| worker.id.owner()).collect();
        view.leases.iter().all(|lease| match &lease.hold {
            LeaseHold::Held { by, since } => {
                owners.contains(by) && since.is_none_or(|since| view.now.since(since) >= view.limits.min_hold)
            }
            _ => false,
        })
    }
}
