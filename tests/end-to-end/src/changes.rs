//! When shards changed hands, as the deliveries of a fleet show it.

use std::collections::{BTreeMap, BTreeSet};

use crate::delivery::Delivery;

/// A shard that one worker delivered from and then another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The shard.
    pub shard: String,
    /// Who had it, as its place among the workers that were given.
    pub from: usize,
    /// Who has it then.
    pub to: usize,
    /// When the last record came to the one, in milliseconds since the epoch.
    pub last: u128,
    /// When the first record came to the other.
    pub first: u128,
    /// How many records the other was handed that had been delivered before.
    pub again: usize,
}

impl Change {
    /// How long the shard was silent, in milliseconds.
    #[must_use]
    pub fn silence(&self) -> u128 {
        self.first.saturating_sub(self.last)
    }
}

/// One delivery of a shard. Of one instant, those of a worker stay together and in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct At {
    at: u128,
    worker: usize,
    sequence: u128,
}

/// The changes of hands in the deliveries of each worker, in the order of their times within a shard.
#[must_use]
pub fn changes<W: AsRef<[Delivery]>>(workers: &[W]) -> Vec<Change> {
    let mut shards: BTreeMap<(&str, &str), Vec<At>> = BTreeMap::new();
    for (worker, deliveries) in workers.iter().enumerate() {
        for delivery in deliveries.as_ref() {
            let of_shard = shards.entry((&delivery.table, &delivery.shard)).or_default();
            of_shard.push(At { at: delivery.at, worker, sequence: delivery.sequence });
        }
    }
    let mut changes: Vec<Change> = Vec::new();
    for ((_, shard), mut deliveries) in shards {
        deliveries.sort_unstable();
        // The furthest that was delivered before the present owner.
        let (mut before, mut furthest) = (0, 0);
        let mut present: Option<(usize, u128)> = None;
        for At { at, worker, sequence } in deliveries {
            if let Some((from, last)) = present.filter(|(from, _)| *from != worker) {
                before = furthest;
                let shard = shard.to_owned();
                changes.push(Change { shard, from, to: worker, last, first: at, again: 0 });
            }
            if sequence <= before
                && let Some(change) = changes.last_mut()
            {
                change.again += 1;
            }
            furthest = furthest.max(sequence);
            present = Some((worker, at));
        }
    }
    changes
}

/// How long each shard was silent between one batch and the next since `from`, whoever it was delivered by, in milliseconds.
#[must_use]
pub fn gaps<W: AsRef<[Delivery]>>(workers: &[W], from: u128) -> Vec<u128> {
    let mut shards: BTreeMap<&str, BTreeSet<u128>> = BTreeMap::new();
    for delivery in workers.iter().flat_map(AsRef::as_ref).filter(|delivery| delivery.at >= from) {
        shards.entry(&delivery.shard).or_default().insert(delivery.at);
    }
    let pairs = shards.values().flat_map(|times| times.iter().zip(times.iter().skip(1)));
    pairs.map(|(before, after)| after - before).collect()
}

/// The middle and the worst of some times.
#[must_use]
pub fn median_and_worst(mut times: Vec<u128>) -> Option<(u128, u128)> {
    times.sort_unstable();
    Some((*times.get(times.len() / 2)?, *times.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(shard: &str, sequence: u128, at: u128) -> Delivery {
        Delivery { table: "t".into(), shard: shard.into(), epoch: 1, sequence, key: "k".into(), version: 1, at }
    }

    #[test]
    fn a_shard_that_goes_from_one_worker_to_another_is_silent_in_between() {
        let old = vec![delivery("s", 1, 10), delivery("s", 2, 20), delivery("x", 1, 90)];
        let new = vec![delivery("s", 2, 50), delivery("s", 3, 60)];
        let change = Change { shard: "s".into(), from: 0, to: 1, last: 20, first: 50, again: 1 };
        assert_eq!(changes(&[old, new]), [change]);
    }

    #[test]
    fn a_worker_that_keeps_its_shards_changes_nothing() {
        let workers =
            [vec![delivery("s", 1, 10), delivery("s", 2, 20), delivery("s", 3, 20)], vec![delivery("x", 1, 15)]];
        assert_eq!(changes(&workers), []);
        assert_eq!((gaps(&workers, 0), gaps(&workers, 11)), (vec![10], vec![]));
        assert_eq!(median_and_worst(Vec::new()), None);
        assert_eq!(median_and_worst(vec![9, 1, 5]), Some((5, 9)));
    }
}
