//! L2: a closed shard that was read is finished, and leaves the table once the service has forgotten it.
//!
//! Source: design §5 (life of a lease); P5.

use std::collections::BTreeMap;
use std::time::Duration;

use kcl_core::{Lease, ShardId};

use super::{Ending, Expect, Law, ShardFact};

pub(super) const LAW: Law = Law { id: "L2", promise: "P5", name: "tombstones" };

/// What is wrong, one sentence each.
pub(super) fn check(ending: &Ending, expect: &Expect) -> Vec<String> {
    let Some(patience) = expect.tombstones_gone_after else { return Vec::new() };
    let facts: BTreeMap<&ShardId, &ShardFact> = ending.shards.iter().map(|fact| (&fact.shard, fact)).collect();
    let mut wrong = Vec::new();
    for lease in ending.leases.iter().filter(|lease| lease.stop.is_none()) {
        let Some(fact) = facts.get(&lease.shard) else { continue };
        let Some(closed) = fact.closed else { continue };
        let closed_for = ending.at.saturating_sub(closed);
        if closed_for < patience {
            continue;
        }
        if !lease.is_finished() {
            wrong.push(format!("{}, closed {closed_for:?} ago, is at {:?}", lease.shard, lease.checkpoint));
        } else if is_overdue(lease, fact, ending.at, patience) {
            wrong.push(format!("the tombstone of {}, which is gone, is still there", lease.shard));
        }
    }
    wrong
}

/// Whether the tombstone of a shard has outlived what it stood for by more than `patience`.
pub(crate) fn is_overdue(lease: &Lease, fact: &ShardFact, now: Duration, patience: Duration) -> bool {
    let gone_for = |closed| now.saturating_sub(closed) >= patience + RETENTION;
    lease.is_finished() && lease.stop.is_none() && fact.vanished && fact.closed.is_some_and(gone_for)
}

/// How long the service keeps a closed shard.
const RETENTION: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use kcl_core::Checkpoint;

    use super::super::testing::{at, ending, lease};
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn closed(checkpoint: Checkpoint, hours: u64, vanished: bool) -> Vec<String> {
        let lease = at(lease("s", 3, None), checkpoint);
        let mut ending = ending(&[("s", None)], vec![lease]);
        ending.at = MINUTE + MINUTE * 60 * u32::try_from(hours).expect("few");
        ending.shards[0].closed = Some(MINUTE);
        ending.shards[0].vanished = vanished;
        check(&ending, &Expect { tombstones_gone_after: Some(5 * MINUTE), ..Expect::default() })
    }

    #[test]
    fn a_closed_shard_that_is_not_finished_is_found() {
        assert_eq!(closed(Checkpoint::TrimHorizon, 1, false).len(), 1);
        assert_eq!(closed(Checkpoint::TrimHorizon, 0, false), [""; 0]);
        assert_eq!(closed(Checkpoint::ShardEnd, 1, false), [""; 0]);
    }

    #[test]
    fn a_tombstone_that_outlives_its_shard_is_found() {
        assert_eq!(closed(Checkpoint::ShardEnd, 25, true).len(), 1);
        assert_eq!(closed(Checkpoint::ShardEnd, 23, true), [""; 0]);
    }
}
