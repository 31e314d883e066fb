//! S10: the bookkeeping of the lineage.
//!
//! What is reported as lost is not there, and was not read before. At every step: an unfinished lease is never deleted, and a finished one only when its shard has left the stream; a shard that is there
//! is not reported as vanished; whoever finishes a shard leaves a lease for one of its children at least. At the end: every shard that
//! could be read has a lease, and every lease is of a shard that there is or was a moment ago. Source: design §5 (only the frontier is leased); P5, P6.

use std::collections::{BTreeMap, BTreeSet};

use kcl_core::{Checkpoint, Lease, ShardId};

use super::{Ending, Invariant, Law, Now, Seen};

#[derive(Debug, Default)]
pub(super) struct Frontier {
    /// How far each shard was read when it got its last owner, or was taken back to.
    begun_at: BTreeMap<ShardId, Checkpoint>,
}

pub(super) const LAW: Law = Law { id: "S10", promise: "P5 P6", name: "frontier" };

impl Invariant for Frontier {
    fn law(&self) -> Law {
        LAW
    }

    fn see(&mut self, _: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Lease { before: Some(gone), after: None } if !gone.is_finished() => {
                Err(format!("the lease of {} was deleted at {:?}", gone.shard, gone.checkpoint))
            }
            Seen::Lease { before, after: Some(after) } => {
                let begun_at = self.begun_at.entry(after.shard.clone()).or_insert(after.checkpoint);
                if before.is_none_or(|before| before.owner != after.owner) || after.checkpoint < *begun_at {
                    *begun_at = after.checkpoint;
                }
                Ok(())
            }
            Seen::Reported { shard, there: Some(there), .. } => {
                Err(format!("{there} of {shard} was reported as lost, and it is there"))
            }
            Seen::Reported { shard, after, .. } => match self.begun_at.get(*shard) {
                Some(done) if done.sequence() > *after => {
                    Err(format!("{shard} was read to {done:?}, and all after {after:?} was reported as lost"))
                }
                _ => Ok(()),
            },
            Seen::TakenAsGone { shard, vanished: false } => Err(format!("{shard} was taken as gone, and it is there")),
            Seen::Finished { shard, children, leased: false } if !children.is_empty() => {
                Err(format!("{shard} was finished, and none of its children {children:?} has a lease"))
            }
            _ => Ok(()),
        }
    }
}

/// The end: what is wrong, one sentence each.
pub(super) fn check(ending: &Ending) -> Vec<String> {
    let leases: BTreeMap<&ShardId, &Lease> = ending.leases.iter().map(|lease| (&lease.shard, lease)).collect();
    let known: BTreeSet<&ShardId> = ending.shards.iter().map(|fact| &fact.shard).collect();
    // A shard that has a descendant with a lease was read or left out on purpose.
    let mut covered: BTreeSet<&ShardId> = BTreeSet::new();
    let parents: BTreeMap<&ShardId, &ShardId> =
        ending.shards.iter().filter_map(|fact| Some((&fact.shard, fact.parent.as_ref()?))).collect();
    for shard in leases.keys() {
        let mut at = Some(*shard);
        while let Some(shard) = at.filter(|shard| covered.insert(shard)) {
            at = parents.get(shard).copied();
        }
    }
    let stopped = ending.leases.iter().any(|lease| lease.stop.is_some());
    let waits = |shard: &ShardId| {
        let parent = parents.get(shard).and_then(|parent| leases.get(*parent));
        stopped || parent.is_some_and(|parent| !parent.is_finished())
    };
    let listed = ending.shards.iter().filter(|fact| !fact.vanished).map(|fact| &fact.shard);
    let missing = listed.filter(|shard| !covered.contains(shard) && !waits(shard));
    let unknown = leases.keys().filter(|shard| !known.contains(*shard));
    missing
        .map(|shard| format!("{shard} has no lease"))
        .chain(unknown.map(|shard| format!("a lease is of {shard}, which never was")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, at, ending, id, lease, number};
    use super::*;

    fn finished(shard: &str) -> Lease {
        at(lease(shard, 9, None), Checkpoint::ShardEnd)
    }

    #[test]
    fn an_unfinished_lease_that_is_deleted_is_found() {
        let mut bench = Bench::new(Frontier::default());
        bench.fine(&Seen::Lease { before: Some(&finished("s")), after: None });
        bench.wrong(&Seen::Lease { before: Some(&lease("s", 1, None)), after: None }, "deleted");
    }

    #[test]
    fn a_shard_that_is_finished_without_a_lease_for_any_of_its_children_is_found() {
        let mut bench = Bench::new(Frontier::default());
        let (parent, child) = (id("p"), [id("c")]);
        bench.fine(&Seen::Finished { shard: &parent, children: &child, leased: true });
        bench.fine(&Seen::Finished { shard: &parent, children: &[], leased: false });
        bench.wrong(&Seen::Finished { shard: &parent, children: &child, leased: false }, "none of its children");
    }

    #[test]
    fn a_shard_that_is_there_and_is_taken_as_gone_is_found() {
        let mut bench = Bench::new(Frontier::default());
        bench.fine(&Seen::TakenAsGone { shard: &id("p"), vanished: true });
        bench.wrong(&Seen::TakenAsGone { shard: &id("p"), vanished: false }, "it is there");
    }

    #[test]
    fn a_report_of_a_loss_that_covers_what_is_there_or_what_was_read_is_found() {
        let mut bench = Bench::new(Frontier::default());
        let shard = id("s");
        let reported = |after, there| Seen::Reported { shard: &shard, after, there };
        bench.fine(&reported(None, None));
        bench.wrong(&reported(None, Some(number(7))), "it is there");
        let read = at(lease("s", 1, Some("a/1")), Checkpoint::Sequence(number(5)));
        bench.fine(&Seen::Lease { before: Some(&lease("s", 0, None)), after: Some(&read) });
        bench.fine(&reported(Some(number(5)), None));
        bench.wrong(&reported(Some(number(4)), None), "was read to");
        let back = at(lease("s", 2, Some("a/1")), Checkpoint::Sequence(number(2)));
        bench.fine(&Seen::Lease { before: Some(&read), after: Some(&back) });
        bench.fine(&reported(Some(number(4)), None));
    }

    #[test]
    fn a_child_without_a_lease_is_found_once_its_parent_is_finished() {
        let shards = [("p", None), ("c", Some("p"))];
        assert_eq!(check(&ending(&shards, vec![lease("p", 1, Some("a/1"))])), [""; 0]);
        assert_eq!(check(&ending(&shards, vec![finished("p")])).len(), 1);
        assert_eq!(check(&ending(&shards, vec![finished("p"), lease("c", 1, Some("a/1"))])), [""; 0]);
        assert_eq!(check(&ending(&shards, vec![lease("c", 1, Some("a/1"))])), [""; 0], "the tombstone is gone");
    }

    #[test]
    fn a_lease_of_a_shard_that_never_was_is_found() {
        assert_eq!(check(&ending(&[("p", None)], vec![lease("p", 1, None), lease("x", 1, None)])).len(), 1);
    }
}
