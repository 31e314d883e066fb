//! S4: a child is opened only after its parent is done.
//!
//! Done is: finished in the lease table, now or before its tombstone went; or reported as lost to its end; or none of the
//! application's business since it began. A shard whose lease was there before the watch, left by another program, has been judged by
//! nobody and is passed over, and so is one that has left the stream itself. Who the parent is comes from the service, not from what the engine wrote. By induction this
//! holds for all ancestors. What an operator has taken back is done no more. Where a table's stream was replaced, all of the old one comes first. Source: P1, P6.

use std::collections::{BTreeMap, BTreeSet};

use kcl_core::ShardId;

use super::{Invariant, Law, Now, Seen};
use crate::history::Event;

#[derive(Debug, Default)]
pub(super) struct ParentsFirst {
    done: BTreeSet<ShardId>,
    /// Whose leases were created before the watch's eyes.
    created: BTreeSet<ShardId>,
    /// An operator is about to write these.
    operated: BTreeSet<ShardId>,
    /// The counter with which an operator took a lease back. Whoever had it before may go on until its time is over, and nobody reads
    /// the parent until then.
    taken_back: BTreeMap<ShardId, i64>,
}

impl Invariant for ParentsFirst {
    fn law(&self) -> Law {
        Law { id: "S4", promise: "P1 P6", name: "parents first" }
    }

    fn see(&mut self, _: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Lease { before, after: Some(after) } => {
                if before.is_none() {
                    self.created.insert(after.shard.clone());
                }
                if self.operated.remove(&after.shard) && !after.is_finished() {
                    self.done.remove(&after.shard);
                    self.taken_back.insert(after.shard.clone(), after.counter.0);
                }
                if after.is_finished() {
                    self.done.insert(after.shard.clone());
                }
            }
            Seen::Operated { shard } => {
                self.operated.insert((*shard).clone());
            }
            Seen::Begun { settled } => self.done.extend(settled.iter().cloned()),
            Seen::Line(line) if matches!(line.event, Event::Lost(_, None)) => {
                self.done.insert(line.shard.clone());
            }
            Seen::Opened(opened) if self.created.contains(&opened.shard) => {
                let taken_back = self.taken_back.get(&opened.shard).and_then(|counter| u64::try_from(*counter).ok());
                if taken_back.is_some_and(|counter| opened.epoch < counter) {
                    return Ok(());
                }
                if let Some(parent) = opened.parent.as_ref().filter(|parent| !self.done.contains(parent)) {
                    return Err(format!("{} was opened before its parent {parent} was done", opened.shard));
                }
                if let Some(old) = opened.before.iter().find(|old| !self.done.contains(old)) {
                    return Err(format!("{} was opened before {old}, of the stream before, was done", opened.shard));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kcl_core::Checkpoint;

    use super::super::Opened;
    use super::super::testing::{Bench, at, id, lease, opened};
    use super::*;

    fn child() -> Opened {
        Opened { parent: Some(id("p")), ..opened(1, "c", 0) }
    }

    fn bench() -> Bench<ParentsFirst> {
        let mut bench = Bench::new(ParentsFirst::default());
        bench.fine(&Seen::Lease { before: None, after: Some(&lease("c", 0, Some("a/1"))) });
        bench
    }

    #[test]
    fn a_child_waits_for_a_parent_that_an_operator_took_back() {
        let mut bench = bench();
        let (done, back) = (at(lease("p", 3, None), Checkpoint::ShardEnd), lease("p", 4, Some("a/1")));
        bench.fine(&Seen::Lease { before: Some(&lease("p", 2, None)), after: Some(&done) });
        bench.fine(&Seen::Opened(&child()));
        bench.fine(&Seen::Operated { shard: &id("p") });
        bench.fine(&Seen::Lease { before: Some(&done), after: Some(&back) });
        bench.wrong(&Seen::Opened(&child()), "before its parent");
    }

    #[test]
    fn a_shard_of_a_new_stream_waits_for_all_of_the_old_one() {
        let mut bench = bench();
        let opened = Opened { before: vec![id("p")], ..opened(1, "c", 0) };
        bench.wrong(&Seen::Opened(&opened), "of the stream before");
        let done = at(lease("p", 3, None), Checkpoint::ShardEnd);
        bench.fine(&Seen::Lease { before: Some(&lease("p", 2, None)), after: Some(&done) });
        bench.fine(&Seen::Opened(&opened));
    }

    #[test]
    fn a_child_that_is_opened_before_its_parent_is_finished_is_found() {
        bench().wrong(&Seen::Opened(&child()), "before its parent p");
    }

    #[test]
    fn a_parent_is_done_when_it_is_finished_or_lost_or_was_never_wanted() {
        let mut finished = bench();
        let end = at(lease("p", 3, None), Checkpoint::ShardEnd);
        finished.fine(&Seen::Lease { before: Some(&lease("p", 2, Some("a/1"))), after: Some(&end) });
        finished.fine(&Seen::Lease { before: Some(&end), after: None });
        finished.fine(&Seen::Opened(&child()));

        let mut lost = bench();
        lost.fine(&lost.line(0, "p", Event::Lost(None, None)).seen());
        lost.fine(&Seen::Opened(&child()));

        let mut settled = bench();
        settled.fine(&Seen::Begun { settled: &BTreeSet::from([id("p")]) });
        settled.fine(&Seen::Opened(&child()));
    }

    #[test]
    fn a_loss_in_the_midst_of_the_parent_does_not_end_it() {
        let mut bench = bench();
        let number = super::super::testing::number(1);
        bench.fine(&bench.line(0, "p", Event::Lost(None, Some(number))).seen());
        bench.wrong(&Seen::Opened(&child()), "before its parent");
    }
}
