//! L1, the history checker: whatever was written is delivered or reported as lost, in order, and nothing else is.
//!
//! [`judge`] compares a history with the [`Truth`], what was really written. It is a plain function of the two. An outcome that nobody
//! knows is nobody's fault: what was delivered counts from the beginning of the call, whether or not the call returned, and a
//! checkpoint counts when the table shows it, whatever its writer was told. Source: design, P1, P2 and P6.

use std::collections::BTreeMap;
use std::fmt;

use kcl_core::{Checkpoint, SequenceNumber, ShardId};

use super::{Ending, Law};
use crate::history::{Entry, Event, Session};

pub(super) const LAW: Law = Law { id: "L1", promise: "P1 P2 P6", name: "records" };

/// What is wrong, one sentence each.
pub(super) fn check(ending: &Ending) -> Vec<String> {
    let Verdict { violations, missing, .. } = &ending.verdict;
    let missing =
        missing.iter().map(|(shard, number)| format!("{number} of {shard} was neither delivered nor reported"));
    violations.iter().map(ToString::to_string).chain(missing).collect()
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {
    /// By shard.
    pub shards: BTreeMap<ShardId, ShardTruth>,
}

/// What was written to one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardTruth {
    /// The shard it continues.
    pub parent: Option<ShardId>,
    /// Every record, in order.
    pub written: Vec<SequenceNumber>,
    /// How many of the first need not be delivered: they are older than the application's start, or were trimmed
    /// before it knew of the shard.
    pub optional: usize,
    /// How many of the first must not be delivered: they are older than the application's start by more than its slack.
    pub unwanted: usize,
    /// Whether the application never had to finish it: its children wait for nothing.
    pub gone: bool,
}

/// What is wrong with a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A record was delivered that was never written.
    Phantom(SequenceNumber),
    /// A record was delivered that is older than the application's start.
    Unwanted(SequenceNumber),
    /// A record was delivered although `expected`, before it in the shard, had not been delivered to anyone.
    Reordered {
        /// The first record that nobody had been given.
        expected: SequenceNumber,
        /// The record that was delivered.
        got: SequenceNumber,
    },
    /// A processor skipped from one record to another that is not its successor.
    Skipped {
        /// The furthest record that this processor had been given.
        from: SequenceNumber,
        /// The record that was delivered.
        to: SequenceNumber,
    },
    /// A processor began after this record, which nobody had acknowledged: a call that was given it may have failed.
    Unprocessed(SequenceNumber),
    /// A child was opened before its parent had ended.
    ChildBeforeParent(ShardId),
    /// A processor was called although another had been opened on the shard.
    Overlap(Session),
    /// A processor was called after it was closed.
    CallAfterClose,
    /// A shard was ended although this record had not been delivered.
    EndedEarly(SequenceNumber),
    /// The recorded checkpoint moved back from here.
    MovedBack(Checkpoint),
    /// A checkpoint was recorded beyond the last record that was acknowledged.
    BeyondAcknowledged(Option<SequenceNumber>),
}

/// A fault, and where it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The fault.
    pub fault: Fault,
    /// The place in the history.
    pub index: usize,
    /// The line there.
    pub entry: Entry,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { at, session, shard, event } = &self.entry;
        write!(f, "{:?} at {at:?}, line {}: session {} on {shard}: {event:?}", self.fault, self.index, session.0)
    }
}

/// What a history shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What must never happen.
    pub violations: Vec<Finding>,
    /// What was written and neither delivered nor reported as lost. In the midst of a run: not yet.
    pub missing: Vec<(ShardId, SequenceNumber)>,
    /// How many different records were delivered.
    pub delivered: u64,
    /// How many deliveries repeated a record to the same processor, after a failure.
    pub retried: u64,
    /// How many deliveries repeated a record to another processor, after a change of owner.
    pub repeated: u64,
}

impl Verdict {
    /// Whether nothing is wrong and nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.violations.is_empty() && self.missing.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { violations, missing, delivered, retried, repeated } = self;
        write!(f, "{delivered} delivered, {retried} retried, {repeated} repeated, {} missing", missing.len())?;
        missing.iter().take(5).try_for_each(|(shard, number)| write!(f, "\n  missing: {number} of {shard}"))?;
        violations.iter().take(10).try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// Compares a history with what was written. Linear but for a search of each record's place.
#[must_use]
pub fn judge(truth: &Truth, entries: &[Entry]) -> Verdict {
    let mut judge = Judge::new(truth);
    judge.recorded = entries.iter().any(|entry| matches!(entry.event, Event::Recorded(_)));
    for (index, entry) in entries.iter().enumerate() {
        for fault in judge.see(entry) {
            judge.verdict.violations.push(Finding { fault, index, entry: entry.clone() });
        }
    }
    judge.finish()
}

struct Judge<'a> {
    shards: BTreeMap<&'a ShardId, Seen<'a>>,
    closed: std::collections::BTreeSet<Session>,
    /// The history tells what was recorded: a parent is finished when the lease table says so.
    recorded: bool,
    verdict: Verdict,
}

/// How far one shard is.
struct Seen<'a> {
    truth: &'a ShardTruth,
    /// For each record: who was given it last, if anyone.
    given: Vec<Option<Session>>,
    lost: Vec<bool>,
    /// How many of the first records are accounted for.
    next: usize,
    ended: bool,
    acknowledged: Option<SequenceNumber>,
    recorded: Option<Checkpoint>,
    /// The session that was opened last, and one more than the furthest record it was given.
    session: Option<(Session, Option<usize>)>,
    /// The last session of an owner from whom an operator took the shard back.
    unaware: Option<Session>,
    /// Since then nobody has taken the lease.
    rewinding: bool,
}

impl<'a> Judge<'a> {
    fn new(truth: &'a Truth) -> Self {
        let shards = truth.shards.iter().map(|(id, truth)| (id, Seen::new(truth))).collect();
        Self { shards, closed: Default::default(), recorded: false, verdict: Verdict::default() }
    }

    fn see(&mut self, entry: &Entry) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.closed.contains(&entry.session) && !matches!(entry.event, Event::Lost(..) | Event::LostThrough(..)) {
            faults.push(Fault::CallAfterClose);
        }
        let unfinished = self.unfinished_parent(&entry.shard);
        let Some(shard) = self.shards.get_mut(&entry.shard) else {
            // A shard that was never written to.
            if let Event::Delivered(number) = entry.event {
                faults.push(Fault::Phantom(number));
            }
            return faults;
        };
        // Until its next write is refused, an owner does not know that an operator has taken the shard back.
        if entry.session != Session::WORLD && entry.event != Event::Closed {
            if shard.rewinding {
                shard.unaware = shard.unaware.max(Some(entry.session));
            }
            if Some(entry.session) <= shard.unaware {
                return faults;
            }
        }
        match &entry.event {
            Event::Opened => {
                faults.extend(unfinished.map(Fault::ChildBeforeParent));
                shard.session = Some((entry.session, None));
            }
            Event::Delivered(number) => {
                faults.extend(shard.overlap(entry.session));
                faults.extend(shard.delivered(entry.session, *number, &mut self.verdict));
            }
            Event::Returned => faults.extend(shard.overlap(entry.session)),
            Event::Rewound(to) => shard.rewound(*to),
            Event::Resumed => shard.rewinding = false,
            Event::Acknowledged(at) | Event::SetAside(at) => shard.acknowledged = shard.acknowledged.max(Some(*at)),
            Event::Recorded(checkpoint) => faults.extend(shard.recorded(*checkpoint)),
            Event::Ended => {
                faults.extend(shard.overlap(entry.session));
                faults.extend(shard.truth.written.get(shard.next).map(|number| Fault::EndedEarly(*number)));
                shard.ended = true;
            }
            Event::Closed => {
                self.closed.insert(entry.session);
            }
            Event::Lost(after, before) => {
                shard.lose(|number| *after < Some(number) && before.is_none_or(|before| number < before));
                shard.ended |= before.is_none();
            }
            Event::LostThrough(after, last) => shard.lose(|number| *after < Some(number) && Some(number) <= *last),
        }
        faults
    }

    fn unfinished_parent(&self, shard: &ShardId) -> Option<ShardId> {
        let parent = self.shards.get(shard)?.truth.parent.as_ref()?;
        let seen = self.shards.get(parent)?;
        let finished = if self.recorded { seen.recorded == Some(Checkpoint::ShardEnd) } else { seen.ended };
        (!finished && !seen.truth.gone).then(|| parent.clone())
    }

    fn finish(mut self) -> Verdict {
        for (id, shard) in &self.shards {
            let missing = (shard.next..shard.given.len()).filter(|index| !shard.is_accounted(*index));
            self.verdict.missing.extend(missing.map(|index| ((*id).clone(), shard.truth.written[index])));
        }
        self.verdict
    }
}

impl<'a> Seen<'a> {
    fn new(truth: &'a ShardTruth) -> Self {
        let len = truth.written.len();
        let next = truth.optional.min(len);
        // What need not be delivered may be passed over.
        let acknowledged = next.checked_sub(1).map(|last| truth.written[last]);
        let (given, lost) = (vec![None; len], vec![false; len]);
        Self {
            truth,
            given,
            lost,
            next,
            ended: false,
            acknowledged,
            recorded: None,
            session: None,
            unaware: None,
            rewinding: false,
        }
    }

    fn is_accounted(&self, index: usize) -> bool {
        self.given[index].is_some() || self.lost[index]
    }

    fn account(&mut self) {
        while self.next < self.given.len() && self.is_accounted(self.next) {
            self.next += 1;
        }
    }

    fn overlap(&self, session: Session) -> Option<Fault> {
        self.session.filter(|(latest, _)| *latest != session).map(|(latest, _)| Fault::Overlap(latest))
    }

    fn delivered(&mut self, session: Session, number: SequenceNumber, verdict: &mut Verdict) -> Option<Fault> {
        let written = &self.truth.written;
        let Ok(index) = written.binary_search(&number) else { return Some(Fault::Phantom(number)) };
        match self.given[index].replace(session) {
            None => verdict.delivered += 1,
            Some(last) if last == session => verdict.retried += 1,
            Some(_) => verdict.repeated += 1,
        }
        if index < self.truth.unwanted {
            return Some(Fault::Unwanted(number));
        }
        let furthest = self.session.as_mut().filter(|(latest, _)| *latest == session).map(|(_, furthest)| furthest);
        let before = furthest.and_then(|furthest| {
            let before = *furthest;
            *furthest = before.max(Some(index + 1));
            before
        });
        let fault = if index > self.next {
            Some(Fault::Reordered { expected: written[self.next], got: number })
        } else {
            let skips = |from: usize| (from..index).any(|skipped| !self.lost[skipped]);
            let done = self.acknowledged.map_or(0, |at| written.partition_point(|number| *number <= at));
            if before.is_none() && skips(done) {
                self.account();
                return Some(Fault::Unprocessed(written[done]));
            }
            before.filter(|from| skips(*from)).map(|from| Fault::Skipped { from: written[from - 1], to: number })
        };
        self.account();
        fault
    }

    fn recorded(&mut self, checkpoint: Checkpoint) -> Option<Fault> {
        let before = self.recorded.replace(checkpoint);
        let beyond = match checkpoint {
            Checkpoint::ShardEnd => !self.ended && !self.truth.gone,
            checkpoint => checkpoint.sequence() > self.acknowledged,
        };
        match before.filter(|before| *before > checkpoint) {
            Some(before) => Some(Fault::MovedBack(before)),
            None => beyond.then_some(Fault::BeyondAcknowledged(self.acknowledged)),
        }
    }

    fn rewound(&mut self, to: Checkpoint) {
        let done = to.sequence().map_or(0, |at| self.truth.written.partition_point(|number| *number <= at));
        self.given[done..].fill(None);
        self.next = self.next.min(done);
        (self.ended, self.acknowledged, self.recorded) = (false, to.sequence(), Some(to));
        self.unaware = self.session.map(|(session, _)| session).max(self.unaware);
        self.rewinding = true;
        self.account();
    }

    fn lose(&mut self, gone: impl Fn(SequenceNumber) -> bool) {
        for (number, lost) in self.truth.written.iter().zip(&mut self.lost) {
            *lost |= gone(*number);
        }
        self.account();
    }
}

#[cfg(test)]
mod tests;
