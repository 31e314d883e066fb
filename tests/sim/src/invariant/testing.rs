//! What the tests of the checkers are written with: a bench on which a checker is shown events of a small world.

use std::collections::BTreeMap;
use std::time::Duration;

use kcl_core::{
    Checkpoint, Lease, LeaseCounter, SequenceNumber, ShardId, StartPosition, WorkerConfig, WorkerId, WorkerItem,
    WorkerState,
};

use super::{Condition, Ending, Invariant, Now, Opened, Place, Rules, Seen, ShardFact};
use crate::history::{Entry, Event, Session};
use crate::process::ProcessId;

pub(super) struct Bench<I> {
    invariant: I,
    at: Duration,
    conditions: BTreeMap<Place, Condition>,
    pub(super) rules: Rules,
}

impl<I> Bench<I> {
    /// At time zero, with the default settings: a lease lasts ten seconds.
    pub(super) fn new(invariant: I) -> Self {
        let rules = Rules::new(&WorkerConfig::default(), StartPosition::TrimHorizon);
        Self { invariant, at: Duration::ZERO, conditions: BTreeMap::new(), rules }
    }

    pub(super) fn after(&mut self, seconds: f64) {
        self.at += Duration::from_secs_f64(seconds);
    }

    /// This machine stands from now on.
    pub(super) fn stands(&mut self, machine: u64) {
        self.conditions.insert(place(machine), Condition::Stands);
    }

    /// This machine dies now.
    pub(super) fn dies(&mut self, machine: u64) {
        self.conditions.insert(place(machine), Condition::Dead(self.at));
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&Now<'_>) -> T) -> T {
        let condition = |place| self.conditions.get(&place).copied().unwrap_or(Condition::Runs);
        look(&Now { at: self.at, rules: &self.rules, condition: &condition })
    }

    pub(super) fn line(&self, session: u64, shard: &str, event: Event) -> Line {
        Line(Entry { at: self.at, session: Session(session), shard: id(shard), event })
    }
}

impl<I: Invariant> Bench<I> {
    pub(super) fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let condition = |place| self.conditions.get(&place).copied().unwrap_or(Condition::Runs);
        self.invariant.see(&Now { at: self.at, rules: &self.rules, condition: &condition }, seen)
    }

    pub(super) fn fine(&mut self, seen: &Seen<'_>) {
        assert_eq!(self.see(seen), Ok(()));
    }

    pub(super) fn wrong(&mut self, seen: &Seen<'_>, text: &str) {
        let what = self.see(seen).expect_err("wrong");
        assert!(what.contains(text), "{what}");
    }
}

pub(super) struct Line(Entry);

impl Line {
    pub(super) fn seen(&self) -> Seen<'_> {
        Seen::Line(&self.0)
    }
}

pub(super) fn id(shard: &str) -> ShardId {
    shard.parse().expect("legal")
}

pub(super) fn number(n: u128) -> SequenceNumber {
    SequenceNumber::from_u128(n)
}

pub(super) fn place(machine: u64) -> Place {
    Place(ProcessId(usize::try_from(machine).expect("few")))
}

pub(super) fn worker(name: &str, incarnation: u64) -> WorkerItem {
    let id = WorkerId::new(name, incarnation).expect("legal");
    WorkerItem { id, counter: LeaseCounter(0), state: WorkerState::Live, weight: 100 }
}

pub(super) fn lease(shard: &str, counter: i64, owner: Option<&str>) -> Lease {
    let key = shard.parse().expect("legal");
    let mut lease = Lease::new(key, id(shard), LeaseCounter(counter), Checkpoint::TrimHorizon);
    lease.owner = owner.map(|owner| owner.parse().expect("legal"));
    lease
}

/// The same lease at this checkpoint.
pub(super) fn at(mut lease: Lease, checkpoint: Checkpoint) -> Lease {
    lease.checkpoint = checkpoint;
    lease
}

/// An instance on the machine of the same number.
pub(super) fn opened(session: u64, shard: &str, epoch: u64) -> Opened {
    Opened {
        session: Session(session),
        shard: id(shard),
        place: place(session),
        epoch,
        lost: tokio_util::sync::CancellationToken::new(),
        parent: None,
        before: Vec::new(),
    }
}

/// Shards with their parents, and leases.
pub(super) fn ending(shards: &[(&str, Option<&str>)], leases: Vec<Lease>) -> Ending {
    let fact = |(shard, parent): &(&str, Option<&str>)| ShardFact {
        shard: id(shard),
        parent: parent.map(id),
        closed: None,
        vanished: false,
    };
    Ending { shards: shards.iter().map(fact).collect(), leases, ..Ending::default() }
}

impl Invariant for () {
    fn law(&self) -> super::Law {
        super::Law { id: "-", promise: "-", name: "nothing" }
    }

    fn see(&mut self, _: &Now<'_>, _: &Seen<'_>) -> Result<(), String> {
        Ok(())
    }
}
