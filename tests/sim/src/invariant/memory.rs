//! S8: what is fetched and not processed stays within the worker's byte budget, and one page for each fetch under way.
//!
//! A page counts from the answer that brought it until the processor is given its last record, or another instance begins. Where a start
//! position filters, pages go unseen, and nothing is judged. Source: P7.

use std::collections::{BTreeMap, VecDeque};

use kcl_core::{SequenceNumber, ShardId, StartPosition};

use super::{Invariant, Law, Now, Place, Seen};
use crate::history::{Event, Session};

#[derive(Debug, Default)]
pub(super) struct Memory {
    sessions: BTreeMap<Session, Place>,
    /// Pages that wait, by worker and shard: the last record, and the bytes.
    waiting: BTreeMap<(Place, ShardId), VecDeque<(SequenceNumber, usize)>>,
    used: BTreeMap<Place, usize>,
}

/// The largest page. A page of the service has at most 1 MiB of records; their JSON is larger.
const PAGE: usize = 4 << 20;

impl Memory {
    fn processed(&mut self, place: Place, shard: &ShardId, to: Option<SequenceNumber>) {
        let Some(waiting) = self.waiting.get_mut(&(place, shard.clone())) else { return };
        while let Some((last, bytes)) = waiting.front().copied() {
            if to.is_some_and(|to| to < last) {
                return;
            }
            waiting.pop_front();
            if let Some(used) = self.used.get_mut(&place) {
                *used -= bytes;
            }
        }
    }
}

impl Invariant for Memory {
    fn law(&self) -> Law {
        Law { id: "S8", promise: "P7", name: "memory" }
    }

    fn see(&mut self, now: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Opened(opened) => {
                self.sessions.insert(opened.session, opened.place);
                self.processed(opened.place, &opened.shard, None);
            }
            Seen::Line(line) => {
                let to = match line.event {
                    Event::Delivered(number) => Some(number),
                    Event::Ended | Event::Closed => None,
                    _ => return Ok(()),
                };
                if let Some(place) = self.sessions.get(&line.session).copied() {
                    self.processed(place, &line.shard, to);
                }
            }
            Seen::Fetched { place, shard, bytes, last: Some(last) }
                if now.rules.start == StartPosition::TrimHorizon =>
            {
                self.waiting.entry((*place, (*shard).clone())).or_default().push_back((*last, *bytes));
                let used = self.used.entry(*place).or_default();
                *used += bytes;
                let bound = now.rules.memory.saturating_add(now.rules.concurrent_fetches.saturating_mul(PAGE));
                if *used > bound {
                    return Err(format!("{used} bytes wait to be processed, {bound} are allowed"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, id, number, opened, place};
    use super::*;

    #[test]
    fn a_worker_that_fetches_more_than_its_budget_is_found() {
        let mut bench = Bench::new(Memory::default());
        (bench.rules.memory, bench.rules.concurrent_fetches) = (10 << 20, 1);
        bench.fine(&Seen::Opened(&opened(1, "s", 1)));
        let shard = id("s");
        let page = |last| Seen::Fetched { place: place(1), shard: &shard, bytes: 1 << 20, last: Some(number(last)) };
        for n in 1..=14 {
            bench.fine(&page(n));
        }
        bench.fine(&bench.line(1, "s", Event::Delivered(number(1))).seen());
        bench.fine(&page(15));
        bench.wrong(&page(16), "wait to be processed");
    }

    #[test]
    fn pages_of_an_instance_that_was_discarded_do_not_count() {
        let mut bench = Bench::new(Memory::default());
        (bench.rules.memory, bench.rules.concurrent_fetches) = (1 << 20, 0);
        let shard = id("s");
        for n in 1..=5 {
            bench.fine(&Seen::Opened(&opened(n, "s", 1)));
            bench.fine(&Seen::Fetched { place: place(n), shard: &shard, bytes: 1 << 20, last: Some(number(1)) });
        }
    }
}
