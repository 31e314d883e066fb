//! Faults as data: what happens, when, to whom.

use std::fmt;
use std::time::Duration;

use kcl_core::SourceOp;

use crate::fleet::Weather;

/// One fault of a plan. Removing one does not shift the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultEvent {
    /// Its number in the plan.
    pub id: u32,
    /// When it happens.
    pub when: When,
    /// What happens.
    pub fault: Fault,
}

/// When a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this time since the run began.
    At(Duration),
    /// Once its worker takes this step, no earlier than this time.
    On(Step, Duration),
}

/// A step of the protocol that the wrappers of the contracts can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A request to the lease table is sent, and not there yet.
    Sent(Request),
    /// It was carried out (or refused), and not answered yet.
    Applied(Request),
    /// Its answer has just arrived.
    Answered(Request),
    /// A processor was initialised: a lease was acquired, and nothing delivered.
    Opened,
    /// A batch has just been given to a processor.
    Delivering,
    /// `shard_ended` is about to return: the finishing transaction comes next.
    Ending,
    /// A processor was asked to shut down.
    Parting,
    /// A page is on its way to the worker.
    Page,
    /// A listing is on its way to the worker.
    Listing,
}

impl Step {
    /// All that faults are drawn for.
    pub const ALL: [Self; 27] = [
        Self::Sent(Request::Take),
        Self::Applied(Request::Take),
        Self::Answered(Request::Take),
        Self::Sent(Request::Renew),
        Self::Applied(Request::Renew),
        Self::Answered(Request::Renew),
        Self::Sent(Request::Checkpoint),
        Self::Applied(Request::Checkpoint),
        Self::Sent(Request::Release),
        Self::Applied(Request::Release),
        Self::Sent(Request::HandOver),
        Self::Applied(Request::HandOver),
        Self::Answered(Request::HandOver),
        Self::Applied(Request::Evict),
        Self::Sent(Request::Finish),
        Self::Applied(Request::Finish),
        Self::Answered(Request::Finish),
        Self::Applied(Request::Create),
        Self::Applied(Request::Register),
        Self::Sent(Request::Heartbeat),
        Self::Applied(Request::Heartbeat),
        Self::Opened,
        Self::Delivering,
        Self::Ending,
        Self::Parting,
        Self::Page,
        Self::Listing,
    ];
}

impl Step {
    /// Those at which a machine that stands still is most likely to wake with a wrong idea of its leases: an answer is under way, or
    /// nothing was done yet with what was acquired.
    pub const UNDER_WAY: [Self; 8] = [
        Self::Applied(Request::Renew),
        Self::Applied(Request::Heartbeat),
        Self::Applied(Request::Checkpoint),
        Self::Applied(Request::Take),
        Self::Applied(Request::Finish),
        Self::Opened,
        Self::Delivering,
        Self::Page,
    ];
}

/// What a request to the lease table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is named after its purpose")]
pub enum Request {
    Renew,
    Checkpoint,
    Take,
    Release,
    HandOver,
    Evict,
    Finish,
    Create,
    Register,
    Heartbeat,
    /// Reads, and what is rare.
    Other,
}

/// How bad the way to the stream is: each is one call in so many; zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamWeather {
    /// The stream says that it is throttled.
    pub throttled: usize,
    /// It fails, half of the time after it has answered.
    pub failing: usize,
    /// It says of what it has just listed that it does not exist.
    pub unknown: usize,
    /// It says that an iterator has expired.
    pub expired: usize,
    /// Its answer is damaged.
    pub corrupt: usize,
    /// Nothing gets through.
    pub cut: bool,
}

/// What processors of a worker do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// As always.
    #[default]
    Calm,
    /// Each takes this long.
    Slow(Duration),
    /// One in so many fails.
    Fails(usize),
    /// One in so many panics.
    Panics(usize),
    /// None returns before this has passed, or it is dropped.
    Hangs(Duration),
}

/// What happens. Workers are numbered by place: a place is taken again when its worker is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The machine ends without a word; after a while a worker is there again, under its old or a new name.
    Crash {
        /// Whose.
        worker: usize,
        /// For how long the place is empty.
        down: Duration,
        /// Whether the next one has another name.
        renamed: bool,
    },
    /// The worker is stopped gracefully, and killed if it has not stopped in time; then as above.
    Restart {
        /// Which.
        worker: usize,
        /// For how long the place is empty.
        down: Duration,
        /// Whether the next one has another name.
        renamed: bool,
    },
    /// Another worker starts, and this one is stopped gracefully while that one begins.
    Replace {
        /// Which.
        worker: usize,
        /// Whether the next one has another name.
        renamed: bool,
    },
    /// The worker is told to stop without waiting for running calls; then as after a crash.
    StopNow {
        /// Which.
        worker: usize,
        /// For how long the place is empty.
        down: Duration,
        /// Whether the next one has another name.
        renamed: bool,
    },
    /// The machine stands, and another worker of its name starts; then both run.
    Twin {
        /// Which.
        worker: usize,
        /// For how long it stands.
        frozen: Duration,
    },
    /// Nothing of the worker runs; its clocks go on.
    Freeze {
        /// Which.
        worker: usize,
        /// For how long.
        time: Duration,
    },
    /// Nothing of the worker runs, and its monotonic clock stands.
    Suspend {
        /// Which.
        worker: usize,
        /// For how long.
        time: Duration,
    },
    /// Its processors block their threads.
    Block {
        /// Which.
        worker: usize,
        /// For how long.
        time: Duration,
    },
    /// Its way to the lease table is like this.
    Table {
        /// Whose.
        worker: usize,
        /// How.
        weather: Weather,
        /// For how long.
        time: Duration,
    },
    /// Its way to the stream is like this.
    Stream {
        /// Whose.
        worker: usize,
        /// How.
        weather: StreamWeather,
        /// For how long.
        time: Duration,
    },
    /// Its processors behave like this.
    Mood {
        /// Whose.
        worker: usize,
        /// How.
        mood: Mood,
        /// For how long.
        time: Duration,
    },
    /// Its monotonic clock runs faster by so many parts per million.
    Rate {
        /// Whose.
        worker: usize,
        /// How much.
        ppm: i32,
    },
    /// Its wall clock is so many seconds ahead.
    Wall {
        /// Whose.
        worker: usize,
        /// How far.
        ahead: i64,
    },
    /// The stream throttles everybody.
    Throttle {
        /// Which calls.
        op: SourceOp,
        /// For how long.
        time: Duration,
    },
    /// All workers are away.
    Outage {
        /// For how long.
        time: Duration,
    },
    /// An open shard, chosen by the number, is replaced by two.
    Split(u64),
    /// An open shard, chosen by the number, is replaced by one.
    Roll(u64),
    /// Every open shard is replaced by one.
    RollAll,
    /// Every iterator is expired.
    ExpireIterators,
    /// A listed shard, chosen by the number, answers that it does not exist.
    Unknown {
        /// Which.
        which: u64,
        /// For how long.
        time: Duration,
    },
    /// The stream is switched off.
    Disable,
    /// Another stream is switched on where there is none, with so many shards.
    Enable(usize),
    /// An operator takes a shard, chosen by the number, back: to its beginning, or to a record that was written to it.
    Rewind {
        /// Which.
        which: u64,
        /// How far the record is from the beginning, in parts of a thousand; zero is the beginning.
        to: u64,
    },
}

impl Fault {
    /// The worker that it happens to.
    #[must_use]
    pub fn worker(mut self) -> Option<usize> {
        self.place().copied()
    }

    /// The same with another worker.
    pub(crate) fn of(mut self, place: usize) -> Self {
        if let Some(worker) = self.place() {
            *worker = place;
        }
        self
    }

    fn place(&mut self) -> Option<&mut usize> {
        match self {
            Self::Crash { worker, .. }
            | Self::Restart { worker, .. }
            | Self::Replace { worker, .. }
            | Self::StopNow { worker, .. }
            | Self::Twin { worker, .. }
            | Self::Freeze { worker, .. }
            | Self::Suspend { worker, .. }
            | Self::Block { worker, .. }
            | Self::Table { worker, .. }
            | Self::Stream { worker, .. }
            | Self::Mood { worker, .. }
            | Self::Rate { worker, .. }
            | Self::Wall { worker, .. } => Some(worker),
            Self::Throttle { .. }
            | Self::Outage { .. }
            | Self::Split(_)
            | Self::Roll(_)
            | Self::RollAll
            | Self::ExpireIterators
            | Self::Unknown { .. }
            | Self::Disable
            | Self::Enable(_)
            | Self::Rewind { .. } => None,
        }
    }
}

impl fmt::Display for FaultEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}  ", self.id)?;
        match self.when {
            When::At(at) => write!(f, "at {:>10.3} s  ", at.as_secs_f64())?,
            When::On(step, from) => write!(f, "from {:>8.3} s on {step:?}  ", from.as_secs_f64())?,
        }
        write!(f, "{:?}", self.fault)
    }
}
