//! L7: a shard is without a reader for no longer than a lease lasts and an observation takes.
//!
//! Counted from the death of its reader, or from the write that gave the lease away, to the opening by the next. What a machine that
//! stands takes with it is not counted: nobody can tell when it will go on. Source: P5, P9.

use std::collections::BTreeMap;
use std::time::Duration;

use kcl_core::ShardId;

use super::{Condition, Expect, Law, Now, Place, Seen};

pub(super) const LAW: Law = Law { id: "L7", promise: "P5", name: "unowned" };

/// A time without a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// How long.
    pub lasted: Duration,
    /// When it ended, since the run began.
    pub until: Duration,
    /// The shard.
    pub shard: ShardId,
    /// Whether the reader before died; it gave the shard away otherwise.
    pub after_death: bool,
}

#[derive(Debug, Default)]
pub(super) struct Unowned {
    readers: BTreeMap<ShardId, Place>,
    released: BTreeMap<ShardId, Duration>,
    /// The longest, longest first.
    gaps: Vec<Gap>,
}

/// So many are kept.
const LONGEST: usize = 16;

impl Unowned {
    pub(super) fn see(&mut self, now: &Now<'_>, seen: &Seen<'_>) {
        match seen {
            Seen::Lease { before: Some(before), after: Some(after) }
                if before.owner.is_some() && after.owner.is_none() && after.stop.is_none() && !after.is_finished() =>
            {
                self.released.insert(after.shard.clone(), now.at);
            }
            Seen::Opened(opened) => {
                let released = self.released.remove(&opened.shard);
                let reader = self.readers.insert(opened.shard.clone(), opened.place);
                let died = reader.and_then(|reader| match (now.condition)(reader) {
                    Condition::Dead(at) => Some(at),
                    _ => None,
                });
                let (since, after_death) = match (released, died) {
                    (Some(at), _) => (at, false),
                    (None, Some(at)) => (at, true),
                    (None, None) => return,
                };
                let gap = Gap { lasted: now.at - since, until: now.at, shard: opened.shard.clone(), after_death };
                let place = self.gaps.partition_point(|other| other.lasted >= gap.lasted);
                self.gaps.insert(place, gap);
                self.gaps.truncate(LONGEST);
            }
            _ => {}
        }
    }

    pub(super) fn gaps(&self) -> Vec<Gap> {
        self.gaps.clone()
    }
}

/// What is wrong, one sentence each.
pub(super) fn check(gaps: &[Gap], expect: &Expect) -> Vec<String> {
    let Some(most) = expect.unowned else { return Vec::new() };
    let long = gaps.iter().filter(|gap| gap.lasted > most);
    long.map(|gap| format!("{} was without a reader for {:?} until {:?}", gap.shard, gap.lasted, gap.until)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, lease, opened};
    use super::*;

    #[test]
    fn the_time_from_a_release_or_a_death_to_the_next_opening_is_a_gap() {
        let mut bench = Bench::new(());
        let mut unowned = Unowned::default();
        bench.with(|now| unowned.see(now, &Seen::Opened(&opened(1, "s", 1))));
        bench.after(5.0);
        let (held, free) = (lease("s", 1, Some("a/1")), lease("s", 2, None));
        bench.with(|now| unowned.see(now, &Seen::Lease { before: Some(&held), after: Some(&free) }));
        bench.after(2.0);
        bench.with(|now| unowned.see(now, &Seen::Opened(&opened(2, "s", 3))));
        bench.dies(2);
        bench.after(11.0);
        bench.with(|now| unowned.see(now, &Seen::Opened(&opened(3, "s", 4))));
        let gaps = unowned.gaps();
        let lasted: Vec<u64> = gaps.iter().map(|gap| gap.lasted.as_secs()).collect();
        assert_eq!(lasted, [11, 2]);
        let with = |seconds| check(&gaps, &Expect { unowned: Some(Duration::from_secs(seconds)), ..Expect::default() });
        assert_eq!((with(11).len(), with(10).len(), with(1).len()), (0, 1, 2));
    }
}
