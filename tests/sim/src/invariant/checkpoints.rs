//! S3: a checkpoint never moves back but by an operator's rewind, and never passes what was acknowledged, or set aside by the sink.
//!
//! What was prepared stays prepared until a checkpoint has reached it.
//! A shard that was finished does not begin again, and a lease that its owner gives away, after asking the processor to shut down,
//! holds all that was acknowledged.
//! What was acknowledged is known from the processors alone. A shard ends after its processor has agreed to that, or once the loss of
//! its rest was reported. While a start position filters, records may be passed over unseen. Source: P2, P8.

use std::collections::{BTreeMap, BTreeSet};

use kcl_core::{Checkpoint, Lease, SequenceNumber, ShardId};

use super::{Invariant, Law, Now, Seen};
use crate::history::{Event, Session};

#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    acknowledged: BTreeMap<ShardId, SequenceNumber>,
    /// Agreed to be at their end.
    ended: BTreeSet<ShardId>,
    /// None of the application's business.
    settled: BTreeSet<ShardId>,
    /// The instance that was opened last on a shard, and what it acknowledged.
    own: BTreeMap<ShardId, (Session, Option<SequenceNumber>)>,
    /// Instances that were asked to shut down, and not told of a loss since.
    parting: BTreeSet<Session>,
    /// Finished by the lease table.
    finished: BTreeSet<ShardId>,
    /// An operator is about to write these.
    operated: BTreeSet<ShardId>,
}

impl Checkpoints {
    fn written(&mut self, before: &Lease, after: &Lease) -> Result<(), String> {
        let (from, to, shard) = (before.checkpoint, after.checkpoint, &after.shard);
        if self.operated.remove(shard) {
            self.rewound(shard, to);
            return Ok(());
        }
        if to < from {
            return Err(format!("the checkpoint of {shard} moved back from {from:?} to {to:?}"));
        }
        if after.is_finished() {
            self.finished.insert(shard.clone());
        }
        if let Some(prepared) = before.pending.as_ref().filter(|prepared| prepared.at > to && after.pending.is_none()) {
            return Err(format!("{:?} was prepared on {shard}, and is forgotten at {to:?}", prepared.at));
        }
        let acknowledged = self.acknowledged.get(shard).copied().max(from.sequence());
        let own = if before.owner == after.owner { None } else { self.own.remove(shard) };
        let own = own.filter(|(session, _)| after.owner.is_none() && self.parting.contains(session));
        let own = own.and_then(|(_, acknowledged)| acknowledged);
        match to {
            _ if to.sequence() < own && to != Checkpoint::ShardEnd => {
                Err(format!("{shard} was given away at {to:?}, and {own:?} was acknowledged"))
            }
            _ if to == from => Ok(()),
            Checkpoint::ShardEnd if self.ended.contains(shard) || self.settled.contains(shard) => Ok(()),
            Checkpoint::ShardEnd => Err(format!("{shard} was finished, and its processor had not agreed")),
            _ if before.start_at.is_some() || to.sequence() <= acknowledged => Ok(()),
            _ => Err(format!("the checkpoint {to:?} of {shard} passes what was acknowledged, {acknowledged:?}")),
        }
    }
}

impl Checkpoints {
    /// All that was said of the shard beyond the checkpoint counts no more.
    fn rewound(&mut self, shard: &ShardId, to: Checkpoint) {
        if to == Checkpoint::ShardEnd {
            return;
        }
        match to.sequence() {
            Some(at) => self.acknowledged.insert(shard.clone(), at),
            None => self.acknowledged.remove(shard),
        };
        self.ended.remove(shard);
        self.finished.remove(shard);
        self.own.remove(shard);
    }
}

impl Invariant for Checkpoints {
    fn law(&self) -> Law {
        Law { id: "S3", promise: "P2 P8", name: "checkpoints" }
    }

    fn see(&mut self, _: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Lease { before: Some(before), after: Some(after) } => return self.written(before, after),
            Seen::Lease { before: None, after: Some(after) } if self.finished.contains(&after.shard) => {
                return Err(format!("{} was finished, and begins again", after.shard));
            }
            Seen::Operated { shard } => {
                self.operated.insert((*shard).clone());
            }
            Seen::Begun { settled } => self.settled.extend(settled.iter().cloned()),
            Seen::Parting(session) => {
                self.parting.insert(*session);
            }
            Seen::Lost { session, .. } => {
                self.parting.remove(session);
            }
            Seen::Opened(opened) => {
                self.own.insert(opened.shard.clone(), (opened.session, None));
            }
            Seen::Line(line) => match line.event {
                Event::Acknowledged(at) => {
                    if let Some((_, own)) = self.own.get_mut(&line.shard).filter(|(own, _)| *own == line.session) {
                        *own = (*own).max(Some(at));
                    }
                    let acknowledged = self.acknowledged.entry(line.shard.clone()).or_insert(at);
                    *acknowledged = at.max(*acknowledged);
                }
                Event::SetAside(at) => {
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
    use kcl_core::PendingCheckpoint;

    use super::super::testing::{Bench, at, id, lease, number, opened};
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
    fn an_operator_may_take_a_shard_back_and_what_follows_is_acknowledged_anew() {
        let mut bench = Bench::new(Checkpoints::default());
        bench.fine(&bench.line(1, "s", Event::Acknowledged(number(7))).seen());
        assert!(moves(&mut bench, Checkpoint::TrimHorizon, upto(7)).is_ok());
        bench.fine(&Seen::Operated { shard: &id("s") });
        assert!(moves(&mut bench, upto(7), upto(2)).is_ok());
        assert!(moves(&mut bench, upto(2), upto(7)).is_err(), "nobody has processed it again");
        assert!(moves(&mut bench, upto(2), Checkpoint::TrimHorizon).is_err(), "only once");
    }

    #[test]
    fn what_the_sink_has_taken_is_acknowledged() {
        let mut bench = Bench::new(Checkpoints::default());
        bench.fine(&bench.line(0, "s", Event::SetAside(number(5))).seen());
        assert!(moves(&mut bench, Checkpoint::TrimHorizon, upto(5)).is_ok());
        assert!(moves(&mut bench, upto(5), upto(6)).is_err());
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
    fn what_was_prepared_and_is_forgotten_is_found() {
        let mut bench = Bench::new(Checkpoints::default());
        bench.fine(&bench.line(1, "s", Event::Acknowledged(number(7))).seen());
        let prepared = PendingCheckpoint { at: upto(7), state: None };
        let mut before = at(lease("s", 1, Some("a/1")), upto(2));
        before.pending = Some(prepared);
        let after = |to| at(lease("s", 2, Some("a/1")), to);
        bench.wrong(&Seen::Lease { before: Some(&before), after: Some(&after(upto(6))) }, "is forgotten");
        bench.fine(&Seen::Lease { before: Some(&before), after: Some(&after(upto(7))) });
        let mut kept = after(upto(6));
        kept.pending.clone_from(&before.pending);
        bench.fine(&Seen::Lease { before: Some(&before), after: Some(&kept) });
    }

    #[test]
    fn a_shard_that_was_finished_and_begins_again_is_found() {
        let mut bench = Bench::new(Checkpoints::default());
        bench.fine(&bench.line(1, "s", Event::Ended).seen());
        assert!(moves(&mut bench, upto(7), Checkpoint::ShardEnd).is_ok());
        bench.wrong(&Seen::Lease { before: None, after: Some(&lease("s", 0, None)) }, "begins again");
    }

    #[test]
    fn a_lease_that_is_given_away_without_what_was_acknowledged_is_found() {
        let mut bench = Bench::new(Checkpoints::default());
        let held = lease("s", 1, Some("a/1"));
        for given_away in [upto(7), Checkpoint::ShardEnd] {
            bench.fine(&Seen::Opened(&opened(1, "s", 1)));
            bench.fine(&bench.line(1, "s", Event::Acknowledged(number(7))).seen());
            bench.fine(&bench.line(1, "s", Event::Ended).seen());
            bench.fine(&Seen::Parting(Session(1)));
            bench.fine(&Seen::Lease { before: Some(&held), after: Some(&at(lease("s", 2, None), given_away)) });
        }
        bench.fine(&Seen::Lease { before: Some(&held), after: Some(&lease("s", 2, None)) });
        bench.fine(&Seen::Opened(&opened(1, "s", 1)));
        bench.fine(&bench.line(1, "s", Event::Acknowledged(number(7))).seen());
        bench.wrong(&Seen::Lease { before: Some(&held), after: Some(&lease("s", 2, None)) }, "given away");
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
