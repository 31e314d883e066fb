//! The reader registry: where the applications of an account and region agree on who reads a stream.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::lease_table::Outcome;
use crate::model::{LeaseCounter, StreamArn};

/// The slots of a stream: as many as it can have readers at once. Source: the service's quotas, two processes for each shard.
pub const READER_SLOTS: usize = 2;

/// Keeps the reader slots of streams: one item for each stream, with all of its slots.
///
/// # Contract
/// 1. [`ReaderRegistry::write`] is one atomic step. It is applied only if, at that instant, the slot that it writes is as it was
///    seen (empty, or the same holder and counter) and every other slot has the holder that was seen, or none where none was.
///    The counters of other slots do not matter: two holders do not hinder each other's renewals.
/// 2. A write that is applied leaves in its slot what [`ReaderSlots::after`] says, and the other slots as they are.
/// 3. `Ok` is returned only after the write is durable, with the slots as the write left them.
/// 4. A refused write says so with [`RegistryErrorKind::Conflict`].
/// 5. `slots` is strongly consistent: it sees every write that was acknowledged before it was called.
/// 6. Nothing is ever removed: a slot passes from holder to holder by writes alone, and its counter only rises.
///
/// # Freedoms
/// 1. [`RegistryErrorKind::Unavailable`] with [`Outcome::Unknown`]: the write may have been applied, or may be at any later time.
///    A write whose future was dropped has the same standing.
/// 2. Any call may be throttled.
///
/// # Cancel safety
/// Dropping a read costs nothing. Dropping a write leaves its outcome unknown (freedom 1).
#[async_trait]
pub trait ReaderRegistry: fmt::Debug + Send + Sync + 'static {
    /// The slots of a stream. All are empty where nobody has claimed one yet.
    ///
    /// # Errors
    /// `Throttled`, `Unavailable`, `Denied`; `Invalid` when the item is not one of this library's.
    async fn slots(&self, stream: &StreamArn) -> Result<ReaderSlots, RegistryError>;

    /// Claims or renews a slot, if the slots are still as `seen`.
    ///
    /// # Errors
    /// `Conflict` when they are not.
    async fn write(
        &self,
        stream: &StreamArn,
        seen: &ReaderSlots,
        claim: &SlotClaim,
    ) -> Result<ReaderSlots, RegistryError>;
}

/// An application that reads a stream: what all of its workers agree on, and no other application shares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reader {
    /// Its name.
    pub application: String,
    /// Its lease table.
    pub lease_table: String,
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (lease table {})", self.application, self.lease_table)
    }
}

/// A slot that was claimed at some time. Whether its holder lives is seen by its counter alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderSlot {
    /// Who claimed it.
    pub holder: Reader,
    /// Moved by every write of the slot.
    pub counter: LeaseCounter,
    /// How long the counter must be seen to stand still before another may claim the slot.
    pub life: Duration,
    /// When it was written last, by the clock of the worker that did. For people, and for a quick refusal: no right follows from it.
    pub renewed_at: SystemTime,
}

/// The slots of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReaderSlots(pub [Option<ReaderSlot>; READER_SLOTS]);

/// What is written into a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotClaim {
    /// Which slot, below [`READER_SLOTS`].
    pub slot: usize,
    /// See [`ReaderSlot::holder`].
    pub holder: Reader,
    /// See [`ReaderSlot::life`].
    pub life: Duration,
    /// See [`ReaderSlot::renewed_at`].
    pub renewed_at: SystemTime,
}

impl ReaderSlots {
    /// The slots as `claim` leaves them. Every implementation of the registry must store exactly this.
    #[must_use]
    pub fn after(&self, claim: &SlotClaim) -> Self {
        let mut next = self.clone();
        if let Some(slot) = next.0.get_mut(claim.slot) {
            let counter = slot.as_ref().map_or(LeaseCounter(0), |seen| seen.counter.next());
            let (holder, life, renewed_at) = (claim.holder.clone(), claim.life, claim.renewed_at);
            *slot = Some(ReaderSlot { holder, counter, life, renewed_at });
        }
        next
    }

    /// Whether a claim of `slot` by somebody who saw `self` may be applied to `now`.
    #[must_use]
    pub fn admits(&self, now: &Self, slot: usize) -> bool {
        self.0.iter().zip(&now.0).enumerate().all(|(index, (seen, now))| match (seen, now) {
            (None, None) => true,
            (Some(seen), Some(now)) => seen.holder == now.holder && (index != slot || seen.counter == now.counter),
            (None, Some(_)) | (Some(_), None) => false,
        })
    }

    /// The slot that `reader` holds, or held last.
    #[must_use]
    pub fn of(&self, reader: &Reader) -> Option<(usize, &ReaderSlot)> {
        let mut held = self.0.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.as_ref()?)));
        held.find(|(_, slot)| slot.holder == *reader)
    }
}

/// A failed call to the registry.
#[derive(Debug, thiserror::Error)]
#[error("{operation} on the reader registry failed: {kind}")]
pub struct RegistryError {
    kind: RegistryErrorKind,
    operation: &'static str,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryErrorKind {
    /// Look at the slots again: they are not as they were seen.
    #[error("the slots are not as they were last seen")]
    Conflict,
    /// Try again later; nothing was written.
    #[error("throttled")]
    Throttled,
    /// A network fault, a time-out, an internal error.
    #[error("the registry cannot be reached or failed ({outcome:?})")]
    Unavailable {
        /// Whether the write may have been applied.
        outcome: Outcome,
    },
    /// Nothing helps but a permission.
    #[error("access denied: grant dynamodb:{action} on the registry's table")]
    Denied {
        /// The IAM action that is missing, without the service prefix.
        action: &'static str,
    },
    /// The table or an item in it is not what this library can work with.
    #[error("{what}")]
    Invalid {
        /// What is wrong and what to change.
        what: String,
    },
}

impl RegistryError {
    /// An error of `operation`.
    #[must_use]
    pub fn new(kind: RegistryErrorKind, operation: &'static str) -> Self {
        Self { kind, operation, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller does next.
    #[must_use]
    pub fn kind(&self) -> &RegistryErrorKind {
        &self.kind
    }

    /// Whether the same call may succeed later without anybody's doing.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            RegistryErrorKind::Throttled | RegistryErrorKind::Unavailable { .. } => true,
            RegistryErrorKind::Conflict | RegistryErrorKind::Denied { .. } | RegistryErrorKind::Invalid { .. } => false,
        }
    }

    /// The call that failed.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }
}

/// All reader slots of a stream are held by other applications.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the readers of stream {stream} are {}: stop one of them, raise reader_slots if the service allows more readers here, or \
     choose another ReaderPolicy",
    names(holders)
)]
pub struct ReaderLimit {
    /// The stream.
    pub stream: StreamArn,
    /// Who holds the slots.
    pub holders: Vec<Reader>,
}

fn names(holders: &[Reader]) -> String {
    holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
