//! Bugs that are planted on purpose, each at the rule that it breaks, to see whether the simulator finds them.
//!
//! They exist only under the feature `planted`, which only the simulator's own build turns on. Without it `is` is constant and nothing
//! of a plant is left in the code. A run is one thread, so the bug of a run is its thread's.

/// A bug. Each is a mistake that is easily made, or was found in another library.
#[cfg_attr(not(feature = "planted"), expect(unreachable_pub, reason = "public for the simulator's build"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A validity counts from the answer instead of from the sending.
    ValidityFromReply,
    /// A validity lasts as long as others wait, whatever the clocks.
    NoDriftMargin,
    /// A validity that has run out is revived by reading that the lease still names its owner.
    ValidityRevived,
    /// An answer that arrives after the machine was suspended gives validity as if it had not been.
    ValidAfterSuspend,
    /// That a machine was suspended is never noticed.
    SuspendUnnoticed,
    /// Finding one's own write, whose answer was lost, gives a validity.
    ReadExtends,
    /// Calls are not dropped, nor begun less, when the validity has run out and nobody has said so yet.
    NoCheckBeforeDelivery,
    /// A lease is taken from a living owner instead of evicting it.
    TheftNotEviction,
    /// A counter that stood still for half of the lease duration is expired.
    TakesTooEarly,
    /// An owner that was evicted takes the lease back.
    EvictedTakesBack,
    /// A silent worker's leases are taken without fencing it, and a worker that is refused keeps its leases. One alone is covered by the other.
    NeitherFenceNorDropAll,
    /// A worker that a scan does not show counts as gone.
    StaleAbsence,
    /// Reading one's own item after a refused heartbeat counts as a heartbeat.
    LookIsBeat,
    /// A lease that names its own worker, after an answer that was lost, is never taken up.
    OwnNeverTakenUp,
    /// A lease put aside for a worker that is dead is left to it for ever.
    HandOverToDead,
    /// A shard is finished, and its children's leases are created later.
    EndBeforeChildren,
    /// A closed shard none of whose children is listed yet counts as one without children.
    ChildrenNotAwaited,
    /// Children are read from their latest record.
    LatestChildren,
    /// Tombstones are deleted while their shards are still listed.
    TombstonesEarly,
    /// Leases of children that wait for their parents are made at the beginning and count as work, and the oldest are not given first,
    /// which alone would still bring every parent to its end.
    WaitingChildrenFillCap,
    /// The end of a parent that is absent is not asked about.
    AbsentParentSilent,
    /// A shard that the service does not find has ended.
    NotFoundIsEnd,
    /// An expired iterator is replaced by one at the latest record.
    ExpiredSkipsAhead,
    /// The checkpoint is what was fetched.
    CheckpointOfFetched,
    /// A batch that failed is acknowledged.
    FailureAcknowledges,
    /// A new instance begins after what the old one was given.
    ReplacedFromDelivered,
    /// A lease is given away without the last checkpoint.
    ReleaseWithoutCheckpoint,
    /// A write whose answer was lost means that the lease is lost.
    LostReplyIsLostLease,
    /// A write whose answer was lost was not applied.
    LostReplyNotApplied,
    /// A shard that a policy has stopped is taken by the next worker that looks.
    StoppedIsTaken,
    /// A processor that fails at the end of a shard has agreed to it.
    EndAgreedByFailure,
    /// A checkpoint takes what is prepared beyond it with it.
    PreparedForgotten,
    /// Each acknowledgement puts the next checkpoint off, so that a busy shard has none.
    CadenceRestarts,
    /// All workers count the same, whatever their weights.
    WeightsIgnored,
    /// A worker that leaves does not take its item away.
    ItemLeftBehind,
}

#[cfg(feature = "planted")]
mod plants {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    impl Bug {
        /// All of them, and the promises that each breaks.
        pub const ALL: [(Self, &'static str); 35] = [
            (Self::ValidityFromReply, "P3"),
            (Self::NoDriftMargin, "P3"),
            (Self::ValidityRevived, "P3"),
            (Self::ValidAfterSuspend, "P3"),
            (Self::SuspendUnnoticed, "P3"),
            (Self::ReadExtends, "P3"),
            (Self::NoCheckBeforeDelivery, "P3"),
            (Self::TheftNotEviction, "P3"),
            (Self::TakesTooEarly, "P3"),
            (Self::EvictedTakesBack, "P3 P5"),
            (Self::NeitherFenceNorDropAll, "P3"),
            (Self::StaleAbsence, "P3"),
            (Self::LookIsBeat, "P3"),
            (Self::OwnNeverTakenUp, "P5"),
            (Self::HandOverToDead, "P5"),
            (Self::EndBeforeChildren, "P5"),
            (Self::ChildrenNotAwaited, "P5"),
            (Self::LatestChildren, "P6"),
            (Self::TombstonesEarly, "P8"),
            (Self::WaitingChildrenFillCap, "P5"),
            (Self::AbsentParentSilent, "P6"),
            (Self::NotFoundIsEnd, "P6"),
            (Self::ExpiredSkipsAhead, "P6"),
            (Self::CheckpointOfFetched, "P2"),
            (Self::FailureAcknowledges, "P2"),
            (Self::ReplacedFromDelivered, "P2"),
            (Self::ReleaseWithoutCheckpoint, "P9"),
            (Self::LostReplyIsLostLease, "P5"),
            (Self::LostReplyNotApplied, "P5"),
            (Self::StoppedIsTaken, "P6"),
            (Self::EndAgreedByFailure, "P2"),
            (Self::PreparedForgotten, "P2"),
            (Self::CadenceRestarts, "P2"),
            (Self::WeightsIgnored, "P5"),
            (Self::ItemLeftBehind, "P9"),
        ];
    }

    /// From now on this thread's workers have this bug, and no other.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this thread's workers have the bug.
    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub(crate) use plants::is;
#[cfg(feature = "planted")]
pub use plants::plant;

/// Whether this thread's workers have the bug: never.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
