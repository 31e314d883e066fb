//! What happened, beside what must not: a run in which nothing interesting happens proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kcl_core::{EventKind, LeaseLost, Owner, ShardId, SourceErrorKind, SourceOp, WorkerState};

use super::Seen;
use crate::history::Event;

/// Something that a set of runs must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// A lease of an owner that did not react was marked.
    Evicted,
    /// An owner learned of its eviction.
    EvictionObeyed,
    /// A lease went from one owner to another.
    TakenOver,
    /// A lease was given to a certain worker, and that one took it.
    HandedOver,
    /// A lease was given to a certain worker, and another took it.
    HandOverMissed,
    /// A lease was given away.
    Released,
    /// A write of an owner was refused because the lease is another's by now.
    ZombieRefused,
    /// A write was refused by what an earlier one of the same owner had left, whose answer was lost.
    OwnWriteFound,
    /// A shard ended before its children were listed.
    ChildWaited,
    /// A shard was finished, with one child.
    FinishedWithOne,
    /// A shard was finished, with two children.
    FinishedWithTwo,
    /// A tombstone was deleted.
    TombstoneDeleted,
    /// A validity ran out.
    Expired,
    /// A worker that the fleet had given up came back.
    Rejoined,
    /// A worker was fenced.
    Fenced,
    /// An iterator expired.
    IteratorExpired,
    /// A call to the stream was throttled.
    Throttled,
    /// The service knew no such shard or stream.
    NotFound,
    /// A position had been trimmed.
    Trimmed,
    /// Records were lost, and reported.
    LossReported,
    /// A shard could not be opened at its first number. Too rare to be asked of every search.
    OpenedAtTrimHorizon,
    /// A processor failed.
    ProcessorFailed,
    /// A record was delivered to a second processor.
    Repeated,
    /// A shard was stopped.
    Stopped,
    /// The owner wrote later than planned.
    LateRenewal,
    /// A call was dropped before it returned.
    CallDropped,
    /// An application was refused because others hold the reader slots.
    ReaderRefused,
    /// An application lost its reader slot.
    ReaderSlotLost,
    /// A reader slot went from one application to another.
    ReaderSlotPassed,
    /// A stream was read to its end, and the one after it begun.
    StreamReplaced,
    /// Records that no processor could process went to the sink.
    SetAside,
    /// An operator took a shard back.
    Rewound,
}

impl Milestone {
    /// What a search of some hundred seeds must reach.
    pub const ALL: [Self; 31] = [
        Self::Evicted,
        Self::EvictionObeyed,
        Self::TakenOver,
        Self::HandedOver,
        Self::HandOverMissed,
        Self::Released,
        Self::ZombieRefused,
        Self::OwnWriteFound,
        Self::ChildWaited,
        Self::FinishedWithOne,
        Self::FinishedWithTwo,
        Self::TombstoneDeleted,
        Self::Expired,
        Self::Rejoined,
        Self::Fenced,
        Self::IteratorExpired,
        Self::Throttled,
        Self::NotFound,
        Self::Trimmed,
        Self::LossReported,
        Self::ProcessorFailed,
        Self::Repeated,
        Self::Stopped,
        Self::LateRenewal,
        Self::CallDropped,
        Self::ReaderRefused,
        Self::ReaderSlotLost,
        Self::ReaderSlotPassed,
        Self::StreamReplaced,
        Self::SetAside,
        Self::Rewound,
    ];
}

/// Counts of what happened.
#[derive(Debug, Clone, Default)]
pub struct Sometimes {
    counts: BTreeMap<Milestone, u64>,
    intended: BTreeMap<ShardId, Owner>,
    running: BTreeSet<crate::history::Session>,
    delivered: BTreeMap<ShardId, (crate::history::Session, kcl_core::SequenceNumber)>,
}

impl Sometimes {
    /// How often it happened.
    #[must_use]
    pub fn count(&self, milestone: Milestone) -> u64 {
        self.counts.get(&milestone).copied().unwrap_or(0)
    }

    /// Those of `wanted` that did not happen.
    #[must_use]
    pub fn missing(&self, wanted: &[Milestone]) -> Vec<Milestone> {
        wanted.iter().copied().filter(|milestone| self.count(*milestone) == 0).collect()
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for (milestone, count) in &other.counts {
            *self.counts.entry(*milestone).or_default() += count;
        }
    }

    fn reach(&mut self, milestone: Milestone) {
        *self.counts.entry(milestone).or_default() += 1;
    }

    pub(super) fn see(&mut self, seen: &Seen<'_>) {
        match seen {
            Seen::Lease { before: Some(before), after: Some(after) } => self.written(before, after),
            Seen::Lease { before: Some(_), after: None } => self.reach(Milestone::TombstoneDeleted),
            Seen::Refused { guard, current: Some(current) } => {
                let ours = guard.owner.is_some() && current.owner == guard.owner;
                if ours && current.counter == guard.counter.next() && !current.evicted {
                    self.reach(Milestone::OwnWriteFound);
                } else if guard.owner.is_some() && !ours {
                    self.reach(Milestone::ZombieRefused);
                }
            }
            Seen::Worker { after: Some(worker), .. } if worker.state == WorkerState::Fenced => {
                self.reach(Milestone::Fenced);
            }
            Seen::Operated { .. } => self.reach(Milestone::Rewound),
            Seen::SlotPassed => self.reach(Milestone::ReaderSlotPassed),
            Seen::TurnedAway { .. } => self.reach(Milestone::ReaderRefused),
            Seen::Denied { op, kind } => self.denied(*op, *kind),
            Seen::CallBegan(session) => {
                self.running.insert(*session);
            }
            Seen::CallOver(session) if self.running.remove(session) => self.reach(Milestone::CallDropped),
            Seen::Line(line) => match line.event {
                Event::Returned => {
                    self.running.remove(&line.session);
                }
                Event::Delivered(number) => {
                    let furthest = self.delivered.entry(line.shard.clone()).or_insert((line.session, number));
                    if furthest.0 != line.session && number <= furthest.1 {
                        *self.counts.entry(Milestone::Repeated).or_default() += 1;
                    } else if number >= furthest.1 {
                        *furthest = (line.session, number);
                    }
                }
                _ => {}
            },
            Seen::Told(kind) => self.told(kind),
            _ => {}
        }
    }

    fn written(&mut self, before: &kcl_core::Lease, after: &kcl_core::Lease) {
        if after.is_finished() && !before.is_finished() {
            match after.children.len() {
                1 => self.reach(Milestone::FinishedWithOne),
                2.. => self.reach(Milestone::FinishedWithTwo),
                0 => {}
            }
            return;
        }
        if after.evicted && !before.evicted {
            self.reach(Milestone::Evicted);
        }
        match (&before.owner, &after.owner) {
            (Some(_), None) if after.stop.is_none() => {
                self.reach(Milestone::Released);
                if let Some(intended) = &after.intended_for {
                    self.intended.insert(after.shard.clone(), intended.clone());
                }
            }
            (None, Some(owner)) => match self.intended.remove(&after.shard) {
                Some(intended) if intended == *owner => self.reach(Milestone::HandedOver),
                Some(_) => self.reach(Milestone::HandOverMissed),
                None => {}
            },
            (Some(from), Some(to)) if from != to => self.reach(Milestone::TakenOver),
            _ => {}
        }
    }

    fn denied(&mut self, op: SourceOp, kind: SourceErrorKind) {
        match kind {
            SourceErrorKind::Expired => self.reach(Milestone::IteratorExpired),
            SourceErrorKind::Throttled => self.reach(Milestone::Throttled),
            SourceErrorKind::NotFound if op != SourceOp::ListStreams => self.reach(Milestone::NotFound),
            SourceErrorKind::Trimmed => self.reach(Milestone::Trimmed),
            _ => {}
        }
    }

    fn told(&mut self, kind: &EventKind) {
        match kind {
            EventKind::Rejoining { .. } => self.reach(Milestone::Rejoined),
            EventKind::LeaseLost { why: LeaseLost::Evicted, .. } => self.reach(Milestone::EvictionObeyed),
            EventKind::LeaseLost { why: LeaseLost::Expired, .. } => self.reach(Milestone::Expired),
            EventKind::LateRenewal { .. } => self.reach(Milestone::LateRenewal),
            EventKind::WaitingForChildren { .. } => self.reach(Milestone::ChildWaited),
            EventKind::DataLost { .. } => self.reach(Milestone::LossReported),
            EventKind::OpenedAtTrimHorizon { .. } => self.reach(Milestone::OpenedAtTrimHorizon),
            EventKind::ProcessorFailed { .. } => self.reach(Milestone::ProcessorFailed),
            EventKind::ReaderSlotLost { .. } => self.reach(Milestone::ReaderSlotLost),
            EventKind::StreamReplaced { .. } => self.reach(Milestone::StreamReplaced),
            EventKind::RecordsSetAside { .. } => self.reach(Milestone::SetAside),
            EventKind::ShardStopped { .. } => self.reach(Milestone::Stopped),
            _ => {}
        }
    }
}

impl fmt::Display for Sometimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        self.counts.iter().try_for_each(|(milestone, count)| {
            let written = write!(f, "{between}{milestone:?} {count}");
            between = ", ";
            written
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::lease;
    use super::*;

    #[test]
    fn what_did_not_happen_is_missing() {
        let mut sometimes = Sometimes::default();
        let (a, free, b) = (lease("s", 1, Some("a/1")), lease("s", 2, None), lease("s", 3, Some("b/1")));
        sometimes.see(&Seen::Lease { before: Some(&a), after: Some(&free) });
        sometimes.see(&Seen::Lease { before: Some(&free), after: Some(&b) });
        sometimes.see(&Seen::Refused { guard: &a.guard(), current: Some(&b) });
        let wanted = [Milestone::Released, Milestone::ZombieRefused, Milestone::TakenOver];
        assert_eq!(sometimes.missing(&wanted), [Milestone::TakenOver]);
        sometimes.see(&Seen::Lease { before: Some(&a), after: Some(&b) });
        let mut sum = Sometimes::default();
        sum.add(&sometimes);
        sum.add(&sometimes);
        assert_eq!(sum.count(Milestone::TakenOver), 2);
        assert_eq!(sum.missing(&wanted), []);
    }

    #[test]
    fn a_write_that_finds_its_own_is_told_from_one_that_finds_anothers() {
        let mut sometimes = Sometimes::default();
        let a = lease("s", 1, Some("a/1"));
        sometimes.see(&Seen::Refused { guard: &a.guard(), current: Some(&lease("s", 2, Some("a/1"))) });
        assert_eq!(sometimes.count(Milestone::OwnWriteFound), 1);
        assert_eq!(sometimes.count(Milestone::ZombieRefused), 0);
    }
}
