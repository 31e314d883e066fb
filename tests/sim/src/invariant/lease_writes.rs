//! S2: what a write may do to a lease.
//!
//! The counter rises by one with every write, and where a lease is created again it is none that it had before. A lease goes from one
//! owner to another only if its counter stood still for D, less what two clocks that are wrong by 2 % make of it; where workers show
//! that they live, only once the owner's item is fenced or gone. An operator may name any owner. What
//! is finished or stopped has no owner, nobody takes more than it may own, and an evicted owner takes its lease back no sooner than another might. Source: design §5, rules 1, 3, 4 and 7; P3.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use kcl_core::{Lease, LeaseKey, Liveness, Owner, ShardId, WorkerState};

use super::{Invariant, Law, Now, Seen};

#[derive(Debug, Default)]
pub(super) struct LeaseWrites {
    /// When each counter moved last.
    moved: BTreeMap<LeaseKey, Duration>,
    /// The counters that keys had up to the last deletion.
    had: BTreeMap<LeaseKey, RangeInclusive<i64>>,
    /// The workers that have an item.
    workers: BTreeMap<Owner, WorkerState>,
    /// What each owner took, but for what it was asked to let go of. Children of what it finished come on top until it gives them away.
    owned: BTreeMap<Owner, BTreeSet<LeaseKey>>,
    /// An operator is about to write these.
    operated: BTreeSet<ShardId>,
}

/// More that may be under way to a worker while it looks at what it has.
const UNDER_WAY: usize = 4;

impl LeaseWrites {
    /// Nobody takes much more than it may own: what is under way for it may come to a little more.
    fn owns(&mut self, now: &Now<'_>, before: Option<&Lease>, after: &Lease) -> Result<(), String> {
        let of = |lease: Option<&Lease>| lease.filter(|lease| !lease.evicted).and_then(|lease| lease.owner.clone());
        let (from, to) = (of(before), of(Some(after)));
        if from == to {
            return Ok(());
        }
        if let Some(owned) = from.and_then(|from| self.owned.get_mut(&from)) {
            owned.remove(&after.key);
        }
        let Some(to) = to.filter(|_| before.is_some()) else { return Ok(()) };
        let owned = self.owned.entry(to.clone()).or_default();
        owned.insert(after.key.clone());
        let (count, most) = (owned.len(), now.rules.max_leases.saturating_add(UNDER_WAY));
        if count > most {
            return Err(format!(
                "{to} took {} and has {count}, of {} that it may own",
                after.key, now.rules.max_leases
            ));
        }
        Ok(())
    }

    fn written(&mut self, now: &Now<'_>, before: &Lease, after: &Lease) -> Result<(), String> {
        if after.counter != before.counter.next() {
            return Err(format!("the counter of {} went from {:?} to {:?}", after.key, before.counter, after.counter));
        }
        let moved = self.moved.insert(after.key.clone(), now.at);
        if self.operated.remove(&after.shard) {
            return Ok(());
        }
        if after.owner.is_some() && after.is_finished() {
            return Err(format!("{}, which is finished, got the owner {:?}", after.key, after.owner));
        }
        if after.owner.is_some() && before.owner.is_none() && before.stop.is_some() && after.stop.is_some() {
            return Err(format!("{}, which is stopped, got the owner {:?}", after.key, after.owner));
        }
        let (Some(from), Some(to)) = (&before.owner, &after.owner) else { return Ok(()) };
        // Who was evicted may take the lease again as anyone else may: once it has stood still for D. Nobody else may be left who would.
        let retaken = before.evicted && !after.evicted;
        if from == to && !retaken {
            return Ok(());
        }
        match now.rules.liveness {
            Liveness::PerWorker => match self.workers.get(from) {
                None | Some(WorkerState::Fenced) => Ok(()),
                Some(state) => Err(format!("{to} took {} from {from}, which is {state:?}", after.key)),
            },
            _ => {
                let still = moved.map(|moved| now.at - moved);
                // A clock that is 2 % fast says D after so much.
                let least = now.rules.lease_duration * 98 / 100;
                match still.filter(|still| *still < least) {
                    None => Ok(()),
                    Some(still) => {
                        Err(format!("{to} took {} from {from}, after {still:?} of standing still", after.key))
                    }
                }
            }
        }
    }
}

impl Invariant for LeaseWrites {
    fn law(&self) -> Law {
        Law { id: "S2", promise: "P3", name: "lease writes" }
    }

    fn see(&mut self, now: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Lease { before: Some(before), after: Some(after) } => {
                self.owns(now, Some(before), after)?;
                self.written(now, before, after)
            }
            Seen::Operated { shard } => {
                self.operated.insert((*shard).clone());
                Ok(())
            }
            Seen::Lease { before: None, after: Some(after) } => {
                self.owns(now, None, after)?;
                self.moved.insert(after.key.clone(), now.at);
                let had = self.had.get(&after.key).filter(|had| had.contains(&after.counter.0));
                let wrong = had.map(|_| format!("{} begins at {:?}, which it had before", after.key, after.counter));
                self.had.entry(after.key.clone()).or_insert(after.counter.0..=after.counter.0);
                wrong.map_or(Ok(()), Err)
            }
            Seen::Lease { before: Some(before), after: None } => {
                self.moved.remove(&before.key);
                if let Some(had) = self.had.get_mut(&before.key) {
                    *had = *had.start()..=before.counter.0;
                }
                Ok(())
            }
            Seen::Worker { before, after } => {
                match (before, after) {
                    (_, Some(worker)) => self.workers.insert(worker.id.owner(), worker.state),
                    (Some(worker), None) => self.workers.remove(&worker.id.owner()),
                    (None, None) => None,
                };
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, lease, worker};
    use super::*;

    fn held() -> (Bench<LeaseWrites>, Lease) {
        let mut bench = Bench::new(LeaseWrites::default());
        let (free, held) = (lease("s", 0, None), lease("s", 1, Some("a/1")));
        bench.fine(&Seen::Lease { before: None, after: Some(&free) });
        bench.fine(&Seen::Lease { before: Some(&free), after: Some(&held) });
        (bench, held)
    }

    #[test]
    fn a_worker_that_takes_much_more_than_it_may_own_is_found() {
        let mut bench = Bench::new(LeaseWrites::default());
        bench.rules.max_leases = 2;
        let take = |n: usize| {
            let name = format!("s{n}");
            (lease(&name, 0, None), lease(&name, 1, Some("a/1")))
        };
        for (free, held) in (0..2 + UNDER_WAY).map(take) {
            bench.fine(&Seen::Lease { before: None, after: Some(&free) });
            bench.fine(&Seen::Lease { before: Some(&free), after: Some(&held) });
        }
        let (free, held) = take(9);
        bench.wrong(&Seen::Lease { before: Some(&free), after: Some(&held) }, "that it may own");
        let (_, first) = take(0);
        bench.fine(&Seen::Lease { before: Some(&first), after: Some(&lease("s0", 2, None)) });
        bench.fine(&Seen::Lease { before: Some(&lease("s0", 2, None)), after: Some(&lease("s0", 3, Some("b/1"))) });
    }

    #[test]
    fn a_take_of_a_lease_that_moved_a_moment_ago_is_theft() {
        let (mut bench, held) = held();
        bench.after(9.7);
        bench.wrong(&Seen::Lease { before: Some(&held), after: Some(&lease("s", 2, Some("b/1"))) }, "standing still");
        let (mut bench, held) = self::held();
        bench.after(9.9);
        bench.fine(&Seen::Lease { before: Some(&held), after: Some(&lease("s", 2, Some("b/1"))) });
    }

    #[test]
    fn a_counter_that_does_not_rise_by_one_is_found() {
        let (mut bench, held) = held();
        bench.wrong(&Seen::Lease { before: Some(&held), after: Some(&lease("s", 3, Some("a/1"))) }, "counter");
        let (mut bench, held) = self::held();
        bench.wrong(&Seen::Lease { before: Some(&held), after: Some(&lease("s", 1, Some("a/1"))) }, "counter");
    }

    #[test]
    fn a_lease_that_is_created_again_with_a_counter_that_it_had_is_found() {
        let (mut bench, held) = held();
        bench.fine(&Seen::Lease { before: Some(&held), after: None });
        bench.wrong(&Seen::Lease { before: None, after: Some(&lease("s", 1, None)) }, "before");
        bench.fine(&Seen::Lease { before: None, after: Some(&lease("s", 2, None)) });
    }

    #[test]
    fn what_is_finished_or_stopped_gets_no_owner() {
        let (mut bench, held) = held();
        let mut finished = lease("s", 2, Some("a/1"));
        finished.checkpoint = kcl_core::Checkpoint::ShardEnd;
        bench.wrong(&Seen::Lease { before: Some(&held), after: Some(&finished) }, "finished");
        let mut stopped = lease("s", 1, None);
        stopped.stop = Some(kcl_core::StopReason::parse("x"));
        let mut taken = stopped.clone();
        (taken.owner, taken.counter) = (Some("b/1".parse().expect("legal")), stopped.counter.next());
        bench.wrong(&Seen::Lease { before: Some(&stopped), after: Some(&taken) }, "stopped");
    }

    #[test]
    fn an_evicted_owner_takes_its_lease_back_no_sooner_than_another_might() {
        let (mut bench, mut evicted) = held();
        evicted.evicted = true;
        bench.after(5.0);
        bench
            .wrong(&Seen::Lease { before: Some(&evicted), after: Some(&lease("s", 2, Some("a/1"))) }, "standing still");
    }

    #[test]
    fn a_worker_that_is_not_fenced_keeps_its_leases_where_workers_show_that_they_live() {
        let (mut bench, held) = held();
        bench.rules.liveness = Liveness::PerWorker;
        bench.after(100.0);
        let mut a = worker("a", 1);
        let (from, to) = (lease("s", 1, Some(a.id.owner().as_str())), lease("s", 2, Some("b/1")));
        bench.fine(&Seen::Worker { before: None, after: Some(&a) });
        bench.wrong(&Seen::Lease { before: Some(&from), after: Some(&to) }, "Live");
        a.state = WorkerState::Fenced;
        bench.fine(&Seen::Worker { before: None, after: Some(&a) });
        bench.fine(&Seen::Lease { before: Some(&from), after: Some(&to) });
        bench.fine(&Seen::Lease { before: Some(&held), after: Some(&to) });
    }
}
