//! The clauses of the rules of ownership, each of which can be taken out, and the bounds of a search.

use crate::state::Kind;

/// How the death of a worker is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each lease's counter is renewed by its owner.
    PerLease,
    /// Only the worker's own item is renewed.
    PerWorker,
}

macro_rules! clauses {
    ($($name:ident: $text:literal,)*) => {
        /// A clause of the rules.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "`text` says what each is")]
        pub enum Clause { $($name,)* }

        impl Clause {
            /// Every clause.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What the clause says.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

clauses! {
    GuardCounter: "a write names the counter it saw",
    GuardCheckpoint: "a write that only records a checkpoint names the counter, too, not the owner alone",
    DriftMargin: "validity is shorter than the watch by the drift of two clocks",
    ValidFromSend: "validity counts from the sending of the write, not from its answer",
    SuspendCheck: "a wall clock that ran ahead of the monotonic one ends validity",
    LapseIsFinal: "a lapsed validity drops what hung on it and is never revived",
    FullWatch: "a take follows a whole D of watching",
    EvictedIsWatched: "an evicted owner is watched for D before its place is taken",
    ClaimDeadline: "after a claim deadline anyone may take what was meant for another",
    OwnTakenByWrite: "a lease found in one's own name is taken by a write, not by the read",
    OwnTakenUp: "a lease found in one's own name is taken up",
    ReadGivesNoValidity: "an own write that was found by reading gives no validity",
    ChildrenFromSend: "the children's validity counts from the sending of the finish",
    FinishIsAtomic: "SHARD_END and the children are one transaction",
    ChildrenMended: "a missing child of a tombstone gets a lease",
    TombstoneStands: "a tombstone is deleted only after it has stood for D",
    FreshCounter: "a lease begins at a counter that its key has never had",
    NotCreatedAgain: "a lease that was deleted is not created again while an old write may still arrive",
    ParentGate: "nobody takes a child before its parent is SHARD_END",
    ParentIsRead: "the parent is read before its child is taken: a scan may not show it",
    ReleaseStopsFirst: "an owner stops before it sends the write that lets go",
    Fence: "a silent worker is fenced by a write on the counter that stood still",
    JudgedAfter: "that an incarnation is missing is read after the lease that named it",
    DeleteFencedOnly: "a worker item is deleted by others only when it is fenced",
    LeaveLast: "a worker deletes its own item only when it holds nothing",
    BeatNeedsLive: "a heartbeat requires the item to be live",
    RegisterFindsLive: "a registration that was found applied is gone on from only where its item is live",
    RegisterFirst: "leases are taken only after registration was acknowledged",
}

/// What is searched.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The liveness mode.
    pub mode: Mode,
    /// Workers, at most 3.
    pub workers: usize,
    /// Children of the one parent shard, at most 2.
    pub children: usize,
    /// Whether the last child has a lease, without owner, before its parent is finished.
    pub child_exists: bool,
    /// Whether the last child is not listed yet when the parent is finished.
    pub hidden: bool,
    /// Records of the parent shard, at most 2; the children have none.
    pub records: u8,
    /// D, in ticks: the least true time that a whole watch can take on a fast clock.
    pub d: u8,
    /// Writes at one time whose sender does not wait for them.
    pub loose: usize,
    /// Whether answers are lost, and writes are applied late.
    pub lost: bool,
    /// Whether a registration may be applied late.
    pub late_registration: bool,
    /// Whether sending, applying and answering are steps of their own; else a write is applied and answered where it is sent, or late.
    pub slow: bool,
    /// PerWorker: begin with a fleet whose workers have joined and of which the first holds the lease.
    pub joined: bool,
    /// Whether scans may show items as they once were, or not at all. What a write's own guard checks needs no more than that.
    pub stale: bool,
    /// Whether workers crash and come back.
    pub crash: bool,
    /// Whether machines are suspended.
    pub suspend: bool,
    /// Whether suspended workers are left out where they add nothing, see [`Setting::suspends`].
    pub reduced: bool,
    /// Whether leases are handed over and evicted.
    pub moves: bool,
    /// Whether deleted items come back with counter 0, so that counters are counted: up to this many.
    pub count_to: Option<u8>,
    /// Clauses taken out.
    pub without: Vec<Clause>,
    /// Give up beyond so many states.
    pub max_states: usize,
}

impl Setting {
    /// Two workers and one child with every fault.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            workers: 2,
            children: 1,
            child_exists: false,
            hidden: false,
            records: 1,
            d: 2,
            loose: 1,
            lost: true,
            late_registration: true,
            slow: mode == Mode::PerLease,
            joined: true,
            stale: false,
            crash: true,
            suspend: true,
            reduced: true,
            moves: true,
            count_to: None,
            without: Vec::new(),
            max_states: 60_000_000,
        }
    }

    /// The bounds, in the words of the command line: what differs from the mode's full setting.
    #[must_use]
    pub fn bounds(&self) -> String {
        let full = Self::new(self.mode);
        let mut words = Vec::new();
        let mut number = |name: &str, value: usize, usual: usize| {
            if value != usual {
                words.push(format!("{name}={value}"));
            }
        };
        number("workers", self.workers, full.workers);
        number("children", self.children, full.children);
        number("d", self.d.into(), full.d.into());
        number("loose", self.loose, full.loose);
        number("records", self.records.into(), full.records.into());
        for (name, value, usual) in [
            ("exists", self.child_exists, full.child_exists),
            ("hidden", self.hidden, full.hidden),
            ("lost", self.lost, full.lost),
            ("late_registration", self.late_registration, full.late_registration),
            ("slow", self.slow, full.slow),
            ("joined", self.joined, full.joined),
            ("stale", self.stale, full.stale),
            ("crash", self.crash, full.crash),
            ("suspend", self.suspend, full.suspend),
            ("reduced", self.reduced, full.reduced),
            ("moves", self.moves, full.moves),
        ] {
            number(name, value.into(), usual.into());
        }
        words.extend(self.count_to.map(|bound| format!("count={bound}")));
        words.join(" ")
    }

    /// Whether a worker that is suspended is a state of its own.
    ///
    /// In PerWorker without `slow`, a worker that was suspended for a tick wakes up to give itself up, and until then does nothing. One that
    /// gives itself up before the tick and does nothing then is in the same state, and each may do so at any time.
    #[must_use]
    pub fn suspends(&self) -> bool {
        let the_same = self.mode == Mode::PerWorker
            && !self.slow
            && self.has(Clause::SuspendCheck)
            && self.has(Clause::LapseIsFinal);
        self.suspend && !(self.reduced && the_same)
    }

    /// Whether the clause is kept.
    #[must_use]
    pub fn has(&self, clause: Clause) -> bool {
        !self.without.contains(&clause)
    }

    /// Whether the table refuses a write of this kind whose counter is not the present one.
    #[must_use]
    pub fn is_guarded(&self, kind: Kind) -> bool {
        self.has(Clause::GuardCounter) && (kind != Kind::Renew || self.has(Clause::GuardCheckpoint))
    }

    /// The age from which on a write lets nobody act, on any clock.
    #[must_use]
    pub(crate) fn over(&self) -> u8 {
        self.d + 1
    }
}
