//! How often a worker looks at the lease table, so that the cost of looking does not grow with the fleet and a death is seen as fast in a
//! large fleet as in a small one.
//!
//! A scan shows everything and costs as much as the table is large. Up to four workers scan at every interval of observation. In a
//! larger fleet each scans so much more rarely that all of them together scan as often as four would, and:
//!
//! * in PerWorker, each worker watches the two before it in the order of ids by point reads of their items: two small reads for each
//!   worker and interval. Who sees a change scans at once.
//! * in PerLease, a death shows in the counters of the leases alone, and whoever takes a lease must have watched it for a whole lease
//!   duration. So the first two workers in the order of ids go on scanning at every interval, the third at every second, the fourth at
//!   every fourth, until the common pace is reached. None of them is special: if one dies, the next is one place further ahead. A scan
//!   reads sixteen leases for the price of one point read, so this is cheaper than watching leases one by one up to 32 workers, and
//!   simpler beyond.

use std::time::Duration;

use super::balance::{View, WorkerView};
use super::observe::Observations;
use crate::contract::{Liveness, WorkerState};
use crate::model::WorkerId;

/// So many workers scan at every interval of observation; more of them share as many scans.
const SCANS_PER_INTERVAL: u32 = 4;

/// So many workers watch each worker.
const WATCHERS: usize = 2;

/// How long from one scan to the next, of a worker that holds, or is about to hold, so many leases, and whose plan expects some or none.
pub(crate) fn pace(liveness: Liveness, observe_every: Duration, view: &View, held: usize, expects: bool) -> Duration {
    match expects || is_short(view, held) {
        // The others hand over as they look, each at its own time.
        true => observe_every,
        false => scan_every(liveness, observe_every, &view.workers, &view.me),
    }
}

/// How long from one scan to the next, of a worker in a fleet of `workers`, in the order of their ids.
fn scan_every(liveness: Liveness, observe_every: Duration, workers: &[WorkerView], me: &WorkerId) -> Duration {
    let fleet = u32::try_from(workers.len()).unwrap_or(u32::MAX).max(1);
    let common = observe_every.saturating_mul(fleet.max(SCANS_PER_INTERVAL)) / SCANS_PER_INTERVAL;
    match liveness {
        Liveness::PerWorker => common,
        Liveness::PerLease => {
            let rank = workers.iter().take_while(|worker| worker.id < *me).count();
            let doublings = u32::try_from(rank.saturating_sub(WATCHERS - 1)).unwrap_or(u32::MAX);
            let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
            observe_every.saturating_mul(factor).min(common)
        }
    }
}

/// Whether a worker that holds nothing, and is about to hold nothing, is to have a share: the others are about to hand some to it, and it
/// looks as often as in a small fleet.
fn is_short(view: &View, held: usize) -> bool {
    let weight = |worker: &WorkerView| u128::from(worker.weight.max(1));
    let mine = view.workers.iter().find(|worker| worker.id == view.me).map_or(0, weight);
    held == 0 && view.leases.len() as u128 * mine >= view.workers.iter().map(weight).sum()
}

/// The workers that this one watches by point reads: the two before it in the order of ids, the last being before the first. Those
/// that are not fenced yet are among them, so that a dead one is watched until it is.
pub(crate) fn watched(seen: &Observations, me: &WorkerId) -> Vec<WorkerId> {
    let others = || {
        let workers = seen.workers().values().filter(|worker| worker.item.state != WorkerState::Fenced);
        workers.map(|worker| &worker.item.id).filter(|id| *id != me)
    };
    let mut before: Vec<&WorkerId> = others().filter(|id| *id < me).collect();
    let after: Vec<&WorkerId> = others().filter(|id| *id > me).collect();
    before.splice(0..0, after);
    before.into_iter().rev().take(WATCHERS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Mono, WorkerItem};
    use crate::model::LeaseCounter;
    use crate::policy::balance::{LeaseHold, LeaseView, Limits};

    const SECOND: Duration = Duration::from_secs(1);

    fn id(n: u64) -> WorkerId {
        WorkerId::new("w", n).expect("legal")
    }

    fn fleet(size: u64) -> Vec<WorkerView> {
        (0..size).map(|n| WorkerView { id: id(n), weight: 100, leaving: false }).collect()
    }

    fn scans_in_a_second(liveness: Liveness, size: u64) -> f64 {
        let fleet = fleet(size);
        fleet.iter().map(|worker| 1.0 / scan_every(liveness, SECOND, &fleet, &worker.id).as_secs_f64()).sum()
    }

    #[test]
    fn a_small_fleet_scans_at_every_interval() {
        for liveness in [Liveness::PerLease, Liveness::PerWorker] {
            for size in 1..=4 {
                assert!((scans_in_a_second(liveness, size) - size as f64).abs() < 1e-9, "{liveness:?} {size}");
            }
        }
    }

    #[test]
    fn a_large_fleet_scans_no_more_than_a_middling_one() {
        for size in [5, 10, 100, 1000] {
            assert!((scans_in_a_second(Liveness::PerWorker, size) - 4.0).abs() < 1e-3, "{size}");
            let scans = scans_in_a_second(Liveness::PerLease, size);
            assert!((4.0..8.0).contains(&scans), "{size}: {scans}");
        }
    }

    #[test]
    fn two_workers_of_a_large_fleet_watch_every_lease_at_every_interval() {
        let fleet = fleet(100);
        let every = |n: u64| scan_every(Liveness::PerLease, SECOND, &fleet, &id(n)).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 99].map(every), [1, 1, 2, 4, 8, 16, 25, 25]);
    }

    #[test]
    fn a_worker_that_is_to_have_nothing_looks_no_oftener_than_the_others() {
        let limits = Limits {
            max_leases: usize::MAX,
            min_hold: SECOND,
            settle: SECOND,
            claim_deadline: SECOND,
            evict_after: SECOND,
            moves_per_round: 1,
        };
        let lease = |n: u64| LeaseView {
            key: format!("lease-{n}").parse().expect("legal"),
            hold: LeaseHold::Held { by: id(n % 10).owner(), since: None },
            cost: 1,
        };
        let view = |weight| {
            let mut workers = fleet(20);
            workers[19].weight = weight;
            let (me, leases) = (id(19), (0..30).map(lease).collect());
            View { me, workers, doubtful: false, leases, now: Mono::new(SECOND), limits }
        };
        let pace = |weight| pace(Liveness::PerWorker, SECOND, &view(weight), 0, false);
        assert_eq!([100, 70, 60, 1].map(pace).map(|pace| pace.as_secs()), [1, 1, 5, 5]);
    }

    #[test]
    fn every_worker_is_watched_by_the_two_after_it() {
        let mut seen = Observations::default();
        let item = |n, state| WorkerItem { id: id(n), counter: LeaseCounter(0), state, weight: 100 };
        let mut items: Vec<WorkerItem> = (0..6).map(|n| item(n, WorkerState::Live)).collect();
        items[4].state = WorkerState::Fenced;
        items[3].state = WorkerState::Evicted;
        seen.saw(vec![], items, Mono::new(SECOND));
        let watched = |n| watched(&seen, &id(n));
        assert_eq!(watched(5), [id(3), id(2)]);
        assert_eq!(watched(1), [id(0), id(5)]);
        assert_eq!(watched(0), [id(5), id(3)]);
        seen.saw(vec![], vec![item(1, WorkerState::Live)], Mono::new(SECOND));
        assert_eq!(super::watched(&seen, &id(1)), []);
    }
}
