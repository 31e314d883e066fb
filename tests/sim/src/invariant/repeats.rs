//! L6: a graceful hand-over delivers nothing twice, and a crash no more than was under way.
//!
//! What that is depends on the run, so its scenario says it. And where nothing fails, what was acknowledged is recorded as soon as the
//! settings say, so that a crash would repeat no more than that. Source: P9, P2.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kcl_core::{SequenceNumber, ShardId};

use super::{Ending, Expect, Law, Now, Seen};
use crate::history::Event;

pub(super) const LAW: Law = Law { id: "L6", promise: "P9", name: "repeats" };

/// How long what was acknowledged waited to be recorded.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// By shard, what waits, and since when.
    waiting: BTreeMap<ShardId, VecDeque<(SequenceNumber, Duration)>>,
    longest: Option<Wait>,
}

/// The longest time that an acknowledgement waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    lasted: Duration,
    shard: ShardId,
    at: SequenceNumber,
}

impl Waits {
    pub(super) fn see(&mut self, now: &Now<'_>, seen: &Seen<'_>) {
        match seen {
            Seen::Opened(opened) => drop(self.waiting.remove(&opened.shard)),
            Seen::Line(line) => {
                if let Event::Acknowledged(at) = line.event {
                    self.waiting.entry(line.shard.clone()).or_default().push_back((at, now.at));
                    self.look(now, &line.shard);
                }
            }
            Seen::Lease { after: Some(after), .. } => {
                self.look(now, &after.shard);
                if let Some(waiting) = self.waiting.get_mut(&after.shard) {
                    let done = after.checkpoint.sequence();
                    waiting.retain(|(at, _)| !after.is_finished() && Some(*at) > done);
                }
            }
            _ => {}
        }
    }

    /// Notes how long the oldest has waited.
    fn look(&mut self, now: &Now<'_>, shard: &ShardId) {
        let Some((at, since)) = self.waiting.get(shard).and_then(VecDeque::front).copied() else { return };
        let lasted = now.at - since;
        if self.longest.as_ref().is_none_or(|longest| lasted > longest.lasted) {
            self.longest = Some(Wait { lasted, shard: shard.clone(), at });
        }
    }

    pub(super) fn longest(&self) -> Option<Wait> {
        self.longest.clone()
    }
}

/// What is wrong, one sentence each.
pub(super) fn check(ending: &Ending, expect: &Expect, longest: Option<&Wait>) -> Vec<String> {
    let repeated = ending.verdict.repeated;
    let again = expect.repeats.filter(|most| repeated > *most);
    let again = again.map(|most| format!("{repeated} records were delivered again, {most} may be"));
    let late = longest.filter(|wait| expect.recorded_within.is_some_and(|most| wait.lasted > most));
    let late = late
        .map(|Wait { lasted, shard, at }| format!("{at} of {shard} was recorded {lasted:?} after it was acknowledged"));
    again.into_iter().chain(late).collect()
}

#[cfg(test)]
mod tests {
    use super::super::records::Verdict;
    use super::super::testing::{Bench, at, lease, number};
    use super::*;

    #[test]
    fn an_acknowledgement_that_is_recorded_too_late_is_found() {
        let (mut bench, mut waits) = (Bench::new(()), Waits::default());
        for n in 1..=3 {
            let line = bench.line(1, "s", Event::Acknowledged(number(n)));
            bench.with(|now| waits.see(now, &line.seen()));
            bench.after(2.0);
        }
        let recorded = at(lease("s", 1, Some("a/1")), kcl_core::Checkpoint::Sequence(number(2)));
        bench.with(|now| waits.see(now, &Seen::Lease { before: None, after: Some(&recorded) }));
        bench.after(1.0);
        bench.with(|now| waits.see(now, &Seen::Lease { before: None, after: Some(&recorded) }));
        let within = |seconds| Expect { recorded_within: Some(Duration::from_secs(seconds)), ..Expect::default() };
        let longest = waits.longest();
        assert_eq!(
            check(&Ending::default(), &within(5), longest.as_ref()).len(),
            1,
            "the first waited for six seconds"
        );
        assert_eq!(check(&Ending::default(), &within(6), longest.as_ref()), [""; 0]);
    }

    #[test]
    fn more_repeats_than_expected_are_found() {
        let ending = Ending { verdict: Verdict { repeated: 3, ..Verdict::default() }, ..Ending::default() };
        let with = |repeats| check(&ending, &Expect { repeats, ..Expect::default() }, None).len();
        assert_eq!((with(None), with(Some(3)), with(Some(2))), (0, 0, 1));
    }
}
