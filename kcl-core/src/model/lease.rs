//! A lease: who reads a shard, and how far it is done. One item of the lease table.

use std::collections::BTreeSet;
use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;

use super::{Checkpoint, LeaseCounter, LeaseKey, Owner, SequenceNumber, ShardId, StreamArn};

/// A lease as it was read. Attributes that we do not know are not here; every write leaves them in place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The item's key.
    pub key: LeaseKey,
    /// The stream, where the item says it. Items of a Java single-stream table do not.
    pub stream: Option<StreamArn>,
    /// The shard.
    pub shard: ShardId,
    /// Moved by every write.
    pub counter: LeaseCounter,
    /// Who reads the shard; nobody when absent.
    pub owner: Option<Owner>,
    /// How far the shard is done.
    pub checkpoint: Checkpoint,
    /// The part of a two-phase checkpoint that was prepared and not yet made.
    pub pending: Option<PendingCheckpoint>,
    /// The shards this one continues; at most one with DynamoDB Streams.
    pub parents: BTreeSet<ShardId>,
    /// The shards that continue this one, written when it finishes.
    pub children: BTreeSet<ShardId>,
    /// The first number of the shard, where the listing gave one when the lease was created.
    pub starting_sequence: Option<SequenceNumber>,
    /// Records stamped before this instant are not wanted (a start at LATEST or at a timestamp). Ends with the first
    /// record that passes.
    pub start_at: Option<SystemTime>,
    /// Whether the shard had no parent left when the application began: what was trimmed from it before then was never wanted.
    pub root: bool,
    /// The worker this lease was put aside for.
    pub intended_for: Option<Owner>,
    /// Set on the lease of a live owner that must let go; it may not write the lease again.
    pub evicted: bool,
    /// Why nobody may read the shard until an operator clears it.
    pub stop: Option<StopReason>,
    /// An operator has accepted what is lost at this checkpoint: the loss policy is not asked about it again. Ends with the next
    /// checkpoint.
    pub loss_accepted: bool,
    /// How often the owner changed since the last checkpoint. Kept for the Java library.
    pub owner_switches: i64,
    /// What reading the shard took lately, in KB a second, on a coarse scale. Its owner records it with other writes.
    pub load: Option<u32>,
    /// The owner that a Java leader asked to hand the lease to [`Lease::owner`], which reads it once this is gone.
    pub checkpoint_owner: Option<Owner>,
    /// When the shard was last seen to be read to its tip, everything acknowledged.
    pub tip: Option<Tip>,
}

impl Lease {
    /// A lease of which nothing more is known: no owner, no lineage, nothing pending. For implementations of the lease
    /// table, which fill in what the item holds.
    #[must_use]
    pub fn new(key: LeaseKey, shard: ShardId, counter: LeaseCounter, checkpoint: Checkpoint) -> Self {
        Self {
            key,
            stream: None,
            shard,
            counter,
            owner: None,
            checkpoint,
            pending: None,
            parents: BTreeSet::new(),
            children: BTreeSet::new(),
            starting_sequence: None,
            start_at: None,
            root: false,
            intended_for: None,
            evicted: false,
            stop: None,
            loss_accepted: false,
            owner_switches: 0,
            load: None,
            checkpoint_owner: None,
            tip: None,
        }
    }

    /// What a conditional write names to prove that it saw this version.
    #[must_use]
    pub fn guard(&self) -> LeaseGuard {
        LeaseGuard { counter: self.counter, owner: self.owner.clone() }
    }

    /// Whether the shard is finished. A finished lease is a tombstone: it has no owner and nobody takes it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.checkpoint == Checkpoint::ShardEnd
    }

    /// The lease as `write` leaves it. Every implementation of the lease table must store exactly this.
    #[must_use]
    pub fn after(&self, write: &LeaseWrite) -> Self {
        let mut next = self.clone();
        next.counter = self.counter.next();
        match &write.owner {
            Change::Keep => {}
            Change::Clear => next.owner = None,
            Change::Set(owner) => {
                // Java counts a real change of owner only.
                if self.owner.as_ref() != Some(owner) && self.owner.is_some() {
                    next.owner_switches += 1;
                }
                next.owner = Some(owner.clone());
                next.checkpoint_owner = None;
                next.evicted = false;
                next.intended_for = None;
            }
        }
        if let Some(checkpoint) = write.checkpoint {
            next.checkpoint = checkpoint;
            next.pending = None;
            next.owner_switches = 0;
            next.loss_accepted = false;
        }
        write.pending.apply(&mut next.pending);
        write.start_at.apply(&mut next.start_at);
        write.intended_for.apply(&mut next.intended_for);
        write.stop.apply(&mut next.stop);
        write.tip.apply(&mut next.tip);
        if write.load.is_some() {
            next.load = write.load;
        }
        if write.evict {
            next.evicted = true;
        }
        if let Some(children) = &write.children {
            next.children.clone_from(children);
        }
        next.loss_accepted |= write.accept_loss;
        if write.strip { next.stripped() } else { next }
    }

    /// The lease without what is this library's own, as the Java library would have written it.
    fn stripped(self) -> Self {
        Self {
            stream: None,
            starting_sequence: None,
            start_at: None,
            root: false,
            intended_for: None,
            evicted: false,
            stop: None,
            loss_accepted: false,
            tip: None,
            ..self
        }
    }

    /// Whether the item holds anything that is this library's own.
    #[must_use]
    pub fn has_own_attributes(&self) -> bool {
        self.clone().stripped() != *self
    }

    /// What the keys of all leases of this one's stream begin with; empty where keys are bare.
    #[must_use]
    pub fn key_prefix(&self) -> &str {
        self.key.as_str().strip_suffix(self.shard.as_str()).unwrap_or_default()
    }
}

/// The version of a lease that a writer saw. A write whose guard no longer matches is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseGuard {
    /// The counter last seen.
    pub counter: LeaseCounter,
    /// The owner last seen; `None` means that there was none.
    pub owner: Option<Owner>,
}

impl LeaseGuard {
    /// Whether `lease` is still the version that was seen.
    #[must_use]
    pub fn matches(&self, lease: &Lease) -> bool {
        self.counter == lease.counter && self.owner == lease.owner
    }
}

/// A lease that does not exist yet. It is created by conditional creation, never over another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLease {
    /// The item's key.
    pub key: LeaseKey,
    /// Where its counter begins: higher than any that a lease of this key has had, see [`LeaseCounter::beginning`].
    pub counter: LeaseCounter,
    /// The stream.
    pub stream: StreamArn,
    /// The shard.
    pub shard: ShardId,
    /// Who owns it from the start.
    pub owner: Option<Owner>,
    /// The shard's parent.
    pub parent: Option<ShardId>,
    /// The first number of the shard, where the listing gave one.
    pub starting_sequence: Option<SequenceNumber>,
    /// See [`Lease::start_at`].
    pub start_at: Option<SystemTime>,
    /// See [`Lease::root`].
    pub root: bool,
}

impl NewLease {
    /// The lease as it reads back once created.
    #[must_use]
    pub fn created(&self) -> Lease {
        Lease {
            stream: Some(self.stream.clone()),
            owner: self.owner.clone(),
            parents: self.parent.iter().cloned().collect(),
            starting_sequence: self.starting_sequence,
            start_at: self.start_at,
            root: self.root,
            ..Lease::new(self.key.clone(), self.shard.clone(), self.counter, Checkpoint::TrimHorizon)
        }
    }
}

/// A checkpoint that was prepared but not made: the successor is told both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingCheckpoint {
    /// The position that was prepared.
    pub at: Checkpoint,
    /// The processor's own bytes.
    pub state: Option<Bytes>,
}

/// At an instant, everything that a shard held was done. It shows a later owner that an old checkpoint whose record was trimmed
/// meanwhile is no loss: the shard was idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// The instant, by its owner's clock.
    pub at: SystemTime,
    /// How far the shard was done then. A lease whose checkpoint was moved back behind it says nothing by its tip.
    pub checkpoint: Checkpoint,
}

/// Why a shard is not read: a decision of the failure policy or the loss policy, written on the lease so that it
/// survives every change of owner. The shard and its descendants wait until it is cleared.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The processor failed on a record as often as the policy allows.
    ProcessorFailed {
        /// The last error, as text.
        error: String,
    },
    /// Records were lost before they could be read, and the loss policy said to stop.
    DataLost {
        /// What was lost, as text.
        lost: String,
    },
    /// Written by a version or a tool that this one does not know.
    Other {
        /// Its text.
        text: String,
    },
}

impl serde::Serialize for StopReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProcessorFailed { error } => write!(f, "processor-failed: {error}"),
            Self::DataLost { lost } => write!(f, "data-lost: {lost}"),
            Self::Other { text } => f.write_str(text),
        }
    }
}

impl StopReason {
    /// Reads back what [`fmt::Display`] wrote. Never fails: an unknown text is a stop all the same.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.split_once(": ") {
            Some(("processor-failed", error)) => Self::ProcessorFailed { error: error.to_owned() },
            Some(("data-lost", lost)) => Self::DataLost { lost: lost.to_owned() },
            _ => Self::Other { text: text.to_owned() },
        }
    }
}

/// What a write does to one attribute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// Leaves it.
    #[default]
    Keep,
    /// Replaces it.
    Set(T),
    /// Removes it.
    Clear,
}

impl<T: Clone> Change<T> {
    fn apply(&self, to: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Set(value) => *to = Some(value.clone()),
            Self::Clear => *to = None,
        }
    }
}

/// One write of a lease. Whatever it changes, it moves the counter by one.
///
/// The constructors are the moves of the protocol; [`LeaseWrite::with_checkpoint`] may ride on each that is the
/// owner's own. What a write means for the item is defined by [`Lease::after`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LeaseWrite {
    /// Setting the owner also ends an eviction, an intention and a hand-off asked for by a Java leader.
    pub owner: Change<Owner>,
    /// Also removes what was prepared and sets the owner switches to 0.
    pub checkpoint: Option<Checkpoint>,
    /// Applied after `checkpoint`.
    pub pending: Change<PendingCheckpoint>,
    /// See [`Lease::children`].
    pub children: Option<BTreeSet<ShardId>>,
    /// See [`Lease::start_at`].
    pub start_at: Change<SystemTime>,
    /// See [`Lease::intended_for`]. Applied after `owner`.
    pub intended_for: Change<Owner>,
    /// Sets [`Lease::evicted`].
    pub evict: bool,
    /// See [`Lease::stop`].
    pub stop: Change<StopReason>,
    /// See [`Lease::tip`].
    pub tip: Change<Tip>,
    /// Replaces [`Lease::load`] where it is given.
    pub load: Option<u32>,
    /// Sets [`Lease::loss_accepted`]. Applied after `checkpoint`.
    pub accept_loss: bool,
    /// Removes every attribute that is this library's own. Applied last.
    pub strip: bool,
}

/// One of several writes that are applied together, see [`LeaseTable::write_all`](crate::LeaseTable::write_all).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardedWrite {
    /// The lease.
    pub key: LeaseKey,
    /// The version of it that was seen.
    pub seen: LeaseGuard,
    /// What is written.
    pub write: LeaseWrite,
}

impl LeaseWrite {
    /// The owner shows that it lives.
    #[must_use]
    pub fn renew() -> Self {
        Self::default()
    }

    /// `owner` takes the lease.
    #[must_use]
    pub fn take(owner: Owner) -> Self {
        Self { owner: Change::Set(owner), ..Self::default() }
    }

    /// The owner gives the lease away; anyone may take it at once, `intended_for` first where it is named.
    #[must_use]
    pub fn release(intended_for: Option<Owner>) -> Self {
        let intended_for = intended_for.map_or(Change::Clear, Change::Set);
        Self { owner: Change::Clear, intended_for, ..Self::default() }
    }

    /// Another worker asks a live owner to let go: the owner stays named, and its next write is refused.
    #[must_use]
    pub fn evict(intended_for: Owner) -> Self {
        Self { evict: true, intended_for: Change::Set(intended_for), ..Self::default() }
    }

    /// The owner gives the shard up until an operator clears the stop.
    #[must_use]
    pub fn stop(reason: StopReason) -> Self {
        Self { stop: Change::Set(reason), ..Self::release(None) }
    }

    /// Lets a stopped shard be read again.
    #[must_use]
    pub fn clear_stop() -> Self {
        Self { stop: Change::Clear, ..Self::default() }
    }

    /// An operator moves the checkpoint back; what was prepared and the filter of a start position go with it.
    ///
    /// `held_by` is whoever may still read the shard or one that continues it, or stands for the operator. It is named as an owner
    /// that must let go, so nobody takes the lease before that has expired.
    #[must_use]
    pub fn rewind(to: Checkpoint, held_by: Option<Owner>) -> Self {
        let evict = held_by.is_some();
        let owner = held_by.map_or(Change::Clear, Change::Set);
        Self {
            owner,
            checkpoint: Some(to),
            start_at: Change::Clear,
            intended_for: Change::Clear,
            evict,
            ..Self::default()
        }
    }

    /// An operator takes away what is this library's own.
    #[must_use]
    pub fn strip() -> Self {
        Self { strip: true, ..Self::default() }
    }

    /// The owner is done with the shard: `SHARD_END`, no owner, and the names of the shards that continue it. What
    /// [`LeaseTable::finish`](crate::LeaseTable::finish) does to the parent.
    #[must_use]
    pub fn finish(children: BTreeSet<ShardId>) -> Self {
        Self { checkpoint: Some(Checkpoint::ShardEnd), children: Some(children), ..Self::release(None) }
    }

    /// Records progress with this write.
    #[must_use]
    pub fn with_checkpoint(mut self, checkpoint: Option<Checkpoint>) -> Self {
        self.checkpoint = checkpoint;
        self
    }

    /// Records what reading the shard takes.
    #[must_use]
    pub fn with_load(mut self, load: Option<u32>) -> Self {
        self.load = load;
        self
    }

    /// The first half of a two-phase checkpoint.
    #[must_use]
    pub fn with_pending(mut self, pending: PendingCheckpoint) -> Self {
        self.pending = Change::Set(pending);
        self
    }

    /// Accepts what is lost at the checkpoint that this write leaves.
    #[must_use]
    pub fn accepting_loss(mut self) -> Self {
        self.accept_loss = true;
        self
    }

    /// Notes that the shard is read to its tip.
    #[must_use]
    pub fn with_tip(mut self, tip: Option<Tip>) -> Self {
        self.tip = tip.map_or(Change::Keep, Change::Set);
        self
    }

    /// Ends the filter of a start position: a wanted record was seen.
    #[must_use]
    pub fn without_start_at(mut self) -> Self {
        self.start_at = Change::Clear;
        self
    }
}
