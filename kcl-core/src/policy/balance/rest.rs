//! When the fleet is at rest: a plan that had nothing to do will have nothing to do either, as long as nothing changes but time.

use std::collections::BTreeSet;

use super::{Balance, LeaseHold, Plan, View};
use crate::model::Owner;

impl Balance {
    /// Whether `plan`, just made of `view`, is what would be made of it at any later time too. Everything that a plan waits for is over
    /// then: the crew has been the same for long enough, each lease is held by a worker of the view for long enough, nobody is
    /// deaf or holds too much.
    pub(crate) fn is_at_rest(&self, view: &View, plan: &Plan) -> bool {
        let idle = *plan == Plan::default() && self.over.is_empty() && self.deaf.is_empty();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{LeaseView, Limits, WorkerView};
    use super::*;
    use crate::Mono;
    use crate::model::WorkerId;

    const SECOND: Duration = Duration::from_secs(1);

    fn worker(n: u64) -> WorkerId {
        WorkerId::new("w", n).expect("legal")
    }

    fn at(seconds: u64) -> Mono {
        Mono::new(Duration::from_secs(seconds))
    }

    /// Two workers and four leases, as the first sees them.
    fn view(holds: &[LeaseHold], now: Mono) -> View {
        let workers = [0, 1].map(|n| WorkerView { id: worker(n), weight: 100, leaving: false });
        let leases = holds.iter().enumerate().map(|(n, hold)| {
            let key = format!("k{n}").parse().expect("legal");
            LeaseView { key, hold: hold.clone(), cost: 1 }
        });
        let limits = Limits {
            max_leases: 100,
            min_hold: 30 * SECOND,
            settle: 10 * SECOND,
            claim_deadline: 3 * SECOND,
            evict_after: 60 * SECOND,
            moves_per_round: 100,
        };
        View { me: worker(0), workers: workers.to_vec(), doubtful: false, leases: leases.collect(), now, limits }
    }

    fn holds() -> Vec<LeaseHold> {
        let held = |n, since| LeaseHold::Held { by: worker(n).owner(), since };
        let intended_for = Some(worker(1).owner());
        vec![
            held(0, None),
            held(0, Some(at(5))),
            held(1, None),
            held(7, None),
            LeaseHold::Free { intended_for, since: at(5) },
            LeaseHold::Expiring,
        ]
    }

    #[test]
    fn a_fleet_at_rest_has_nothing_to_do_at_any_later_time() {
        let (holds, mut rested) = (holds(), 0);
        for n in 0..holds.len().pow(4) {
            let place = |power| holds[n / holds.len().pow(power) % holds.len()].clone();
            let holds = [place(0), place(1), place(2), place(3)];
            let mut balance = Balance::default();
            for now in [0, 6, 12, 40, 70] {
                let plan = balance.plan(&view(&holds, at(now)));
                if balance.is_at_rest(&view(&holds, at(now)), &plan) {
                    rested += 1;
                    for later in [now, now + 1, now + 30, now + 10_000] {
                        assert_eq!(balance.clone().plan(&view(&holds, at(later))), Plan::default(), "{holds:?}");
                    }
                }
            }
        }
        assert!(rested > 0);
    }

    #[test]
    fn a_fleet_comes_to_rest_once_its_crew_and_its_leases_have_stayed_for_long_enough() {
        let all = holds();
        let holds = [&all[0], &all[1], &all[2], &all[2]].map(Clone::clone);
        let mut balance = Balance::default();
        let rests = [0, 6, 12, 34, 35].map(|now| {
            let plan = balance.plan(&view(&holds, at(now)));
            balance.is_at_rest(&view(&holds, at(now)), &plan)
        });
        assert_eq!(rests, [false, false, false, false, true]);
    }
}
