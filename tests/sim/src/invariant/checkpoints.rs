//! S3: a checkpoint never moves back, and never passes what was acknowledged.
//!
//! What was acknowledged is known from the processors alone. A shard ends after its processor has agreed to that, or once the loss of
//! its rest was reported. While a start position filters, records may be passed over unseen. Source: P2, P8.

use std::collections::{BTreeMap, BTreeSet};

use kcl_core::{Checkpoint, Lease, SequenceNumber, ShardId};

use super::{Invariant, Law, Now, Seen};
use crate::history::Event;

#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    acknowledged: BTreeMap<ShardId, SequenceNumber>,
    /// Agreed to be at their end.
    ended: BTreeSet<ShardId>,
    /// None of the application's business.
    settled: BTreeSet<ShardId>,
}

impl Checkpoints {
    fn written(&self, before: &Lease, after: &Lease) -> Result<(), String> {
        let (from, to, shard) = (before.checkpoint, after.checkpoint, &after.shard);
        if to < from {
            return Err(format!("the checkpoint of {shard} moved back from {from:?} to {to:?}"));
        }
        let acknowledged = self.acknowledged.get(shard).copied().max(from.sequence());
        match to {
            _ if to == from => Ok(()),
            Checkpoint::ShardEnd if self.ended.contains(shard) || self.settled.contains(shard) => Ok(()),
            Checkpoint::ShardEnd => Err(format!("{shard} was finished, and its processor had not agreed")),
            _ if before.start_at.is_some() || to.sequence() <= acknowledged => Ok(()),
            _ => Err(format!("the checkpoint {to:?} of {shard} passes what was acknowledged, {acknowledged:?}")),
        }
    }
}

impl Invariant for Checkpoints {
    fn law(&self) -> Law {
        Law { id: "S3", promise: "P2 P8", name: "checkpoints" }
    }

    fn see(&mut self, _: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Lease { before: Some(before), after: Some(after) } => return self.written(before, after),
            Seen::Begun { settled } => self.settled.extend(settled.iter().cloned()),
            Seen::Line(line) => match line.event {
                Event::Acknowledged(at) => {
                    let acknowledged = self.acknowledged.entry(line.shard.clone()).or_insert(at);
                    *acknowledged = at.max(*acknowledged);
                }
                Event::Ended | Event::Lost(_, None) => {
                    self.ended.insert(line.shard.clone());
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, at, lease, number};
    use super::*;

    fn upto(n: u128) -> Checkpoint {
        Checkpoint::Sequence(number(n))
    }

    fn moves(bench: &mut Bench<Checkpoints>, from: Checkpoint, to: Checkpoint) -> Result<(), String> {
        let before = at(lease("s", 1, Some("a/1")), from);
        let after = at(lease("s", 2, Some("a/1")), to);
        bench.see(&Seen::Lease { before: Some(&before), after: Some(&after) })
    }

    #[test]
    fn a_checkpoint_that_moves_back_is_found() {
        let mut bench = Bench::new(Checkpoints::default());
        assert!(moves(&mut bench, upto(5), upto(4)).is_err());
        assert!(moves(&mut bench, upto(5), Checkpoint::TrimHorizon).is_err());
        assert!(moves(&mut bench, upto(5), upto(5)).is_ok());
    }

    #[test]
    fn a_checkpoint_beyond_what_was_acknowledged_is_found() {
        let mut bench = Bench::new(Checkpoints::default());
        assert!(moves(&mut bench, Checkpoint::TrimHorizon, upto(1)).is_err());
        bench.fine(&bench.line(1, "s", Event::Acknowledged(number(7))).seen());
        bench.fine(&bench.line(1, "s", Event::Acknowledged(number(3))).seen());
        assert!(moves(&mut bench, Checkpoint::TrimHorizon, upto(7)).is_ok());
        assert!(moves(&mut bench, Checkpoint::TrimHorizon, upto(8)).is_err());
    }

    #[test]
    fn a_shard_that_is_finished_before_its_processor_agreed_is_found() {
        let mut bench = Bench::new(Checkpoints::default());
        assert!(moves(&mut bench, upto(7), Checkpoint::ShardEnd).is_err());
        bench.fine(&bench.line(1, "s", Event::Ended).seen());
        assert!(moves(&mut bench, upto(7), Checkpoint::ShardEnd).is_ok());
        assert!(moves(&mut bench, Checkpoint::ShardEnd, upto(7)).is_err());
    }
}
