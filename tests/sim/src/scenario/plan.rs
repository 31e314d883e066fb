//! A run as data: everything that the seed decides, but for the order of tasks and the length of calls.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use kcl_core::reference::{LastPage, Visibility};
use kcl_core::{Checkpoints, Liveness, LossDecision, WorkerConfig};

use super::Scenario;
use super::fault::{Fault, FaultEvent};
use super::wire::Latency;
use crate::ready::Sched;

/// How long a reader slot must stand still before it passes on.
const SLOT_LIFE: Duration = Duration::from_secs(180);

/// Everything about a run that is decided before it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The shape.
    pub scenario: Scenario,
    /// Which of the runnable tasks is next.
    pub sched: Sched,
    /// Workers at the beginning, and at the end.
    pub workers: usize,
    /// Shards at the beginning.
    pub shards: usize,
    /// How long the table is written to and faults begin.
    pub busy: Duration,
    /// When workers start, each at another time up to this.
    pub stagger: Duration,
    /// How the death of a worker is seen.
    pub liveness: Liveness,
    /// The settings of the workers.
    pub config: WorkerConfig,
    /// How often a shard was replaced before the application began.
    pub past: usize,
    /// Where the application begins.
    pub start: Start,
    /// What is decided about losses.
    pub losses: LossDecision,
    /// How the service behaves.
    pub service: Service,
    /// How long calls take.
    pub latency: Latency,
    /// What is written.
    pub writes: Writes,
    /// How long a batch takes.
    pub per_batch: Duration,
    /// One batch in so many fails, always. Zero: none.
    pub fails_one_in: usize,
    /// One call in so many fails that gives no records: at a beginning, a tick or an end. Zero: none.
    pub fails_elsewhere_one_in: usize,
    /// Where processors acknowledge, whether some checkpoints have two phases.
    pub prepares: bool,
    /// The clocks of the workers are wrong by so many parts per million.
    pub rates: Vec<i32>,
    /// How much each place takes, beside the others; none: all the same.
    pub weights: Vec<u32>,
    /// Who acknowledges.
    pub checkpoints: Checkpoints,
    /// Shards stop at records that fail, and an operator clears the stops, looking so often.
    pub operator: Option<Duration>,
    /// What no processor can process: one record in so many; zero: none. The failure sink takes it.
    pub poison_one_in: usize,
    /// Records that fail so many times go to the failure sink; zero: there is none.
    pub set_aside_after: u32,
    /// Applications that read the stream, each with its workers: the places are dealt out to them in turn.
    pub applications: usize,
    /// What happens.
    pub faults: Vec<FaultEvent>,
    /// Whether no record may be delivered to two processors: nothing in the plan is a reason for it.
    pub no_repeats: bool,
}

/// Where the application begins, and when its workers start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record.
    Oldest,
    /// With what comes, after so much time in which the table was written to.
    Latest(Duration),
    /// At a time, so long after the first write; the workers start after the second.
    At(Duration, Duration),
}

impl Start {
    /// When the workers start.
    #[must_use]
    pub fn workers_from(self) -> Duration {
        match self {
            Self::Oldest => Duration::ZERO,
            Self::Latest(from) | Self::At(_, from) => from,
        }
    }
}

/// How the service and the lease table behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Whether it throttles at the documented rates.
    pub limits: bool,
    /// How late shards show.
    pub visibility: Visibility,
    /// One listing in so many misses a young shard. Zero: none.
    pub blurred: usize,
    /// Shards in a page of a listing.
    pub describe_page: usize,
    /// Whether the last page of a listing names a next one.
    pub trailing_empty_page: bool,
    /// Records in a page.
    pub page_records: usize,
    /// Every so manieth page is empty.
    pub empty_page_every: Option<u32>,
    /// How a closed shard ends.
    pub last_page: LastPage,
    /// Every shard is rolled at this age.
    pub roll_every: Option<Duration>,
    /// Items in a page of a scan of the lease table.
    pub scan_page: usize,
    /// Writes that scans lag behind.
    pub scan_lag: usize,
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writes {
    /// Different items.
    pub keys: usize,
    /// The mean pause between two writes.
    pub every: Duration,
    /// Records written at once before anything else.
    pub before: usize,
    /// When nothing is written: from, to.
    pub quiet: Vec<(Duration, Duration)>,
}

/// What is left of a plan to make a failure smaller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reduction {
    /// The faults that are kept; all of them if absent.
    pub keep: Option<BTreeSet<u32>>,
    /// How often the workers were halved.
    pub workers: u32,
    /// How often the shards were halved.
    pub shards: u32,
    /// How often the time was halved.
    pub time: u32,
}

impl Plan {
    /// The plan as it is left.
    #[must_use]
    pub fn reduced(mut self, by: &Reduction) -> Self {
        self.workers = (self.workers >> by.workers).max(1);
        self.shards = (self.shards >> by.shards).max(1);
        let rest = self.busy.saturating_sub(self.start.workers_from());
        self.busy = self.start.workers_from() + (rest / 2_u32.pow(by.time.min(16))).max(Duration::from_secs(20));
        if let Some(keep) = &by.keep {
            self.faults.retain(|event| keep.contains(&event.id));
        }
        if by.workers > 0 {
            // Fewer workers may not be able to own everything under it.
            self.config.max_leases = usize::MAX;
        }
        self.applications = self.applications.min(self.workers);
        let workers = self.workers;
        for event in &mut self.faults {
            if let Some(worker) = event.fault.worker() {
                event.fault = event.fault.of(worker % workers);
            }
        }
        self
    }

    /// The longest time that a healthy fleet needs until everything is as it should be.
    #[must_use]
    pub fn settles_within(&self) -> Duration {
        let workers = u32::try_from(self.workers).unwrap_or(u32::MAX);
        let config = &self.config;
        Duration::from_secs(300)
            + config.lease_duration * 12
            + config.min_hold * 4
            + config.discover_every.saturating_mul(workers) * 4
            + config.checkpoint_every * 2
            + self.per_batch * 200
            + self.backlog()
            + if self.applications > 1 { SLOT_LIFE * 3 } else { Duration::ZERO }
            + if self.is_rewound() { self.busy } else { Duration::ZERO }
    }

    /// The time for what may wait for a fleet that was away, or died too often to read: one shard after the other may have it all.
    fn backlog(&self) -> Duration {
        let records = self.busy.as_nanos() / self.writes.every.as_nanos().max(1);
        let times = |count: u128| u32::try_from(count).unwrap_or(u32::MAX);
        let together = u128::try_from(self.config.batch_size.min(self.service.page_records)).unwrap_or(u128::MAX);
        let batches = times(records / together.max(1));
        // Each of them is tried three times, and what comes after it by itself.
        let poison = times(records.checked_div(self.poison_one_in as u128).unwrap_or(0));
        // Up to half of the pages are empty.
        let calls = Duration::from_secs(2) * batches / self.config.calls_per_second.max(1);
        calls
            + self.per_batch * batches
            + (self.per_batch + Duration::from_millis(200)) * poison.saturating_mul(4)
            + self.stopped(batches)
    }

    /// The time that so many batches wait for the operator who clears the stops at those that fail as often as is tried.
    fn stopped(&self, batches: u32) -> Duration {
        let Some(every) = self.operator.filter(|_| self.fails_one_in > 0) else { return Duration::ZERO };
        let in_a_row =
            u32::try_from(self.fails_one_in).unwrap_or(u32::MAX).saturating_pow(self.config.failures.attempts);
        (every + self.config.observe_every * 2) * (batches / in_a_row)
    }

    /// Whether an operator takes shards back: then they are read again.
    fn is_rewound(&self) -> bool {
        self.faults.iter().any(|event| matches!(event.fault, Fault::Rewind { .. }))
    }
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(keep) = &self.keep {
            let ids: Vec<String> = keep.iter().map(u32::to_string).collect();
            write!(f, " --keep {}", if ids.is_empty() { "none".to_owned() } else { ids.join(",") })?;
        }
        for (option, times) in
            [("--halve-workers", self.workers), ("--halve-shards", self.shards), ("--halve-time", self.time)]
        {
            if times > 0 {
                write!(f, " {option} {times}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, scenario, sched, workers, shards, busy, stagger, liveness, start, losses, .. } = self;
        writeln!(f, "seed {seed}, scenario {scenario}, {sched:?}, {liveness:?}")?;
        writeln!(f, "{workers} workers, {shards} shards, busy for {busy:?}, starts within {stagger:?}")?;
        writeln!(
            f,
            "{start:?}, {} shards replaced before, losses {losses:?}, no repeats {}",
            self.past, self.no_repeats
        )?;
        writeln!(f, "{:?}", self.service)?;
        writeln!(f, "{:?}", self.latency)?;
        writeln!(f, "{:?}, batches of {:?}, one in {} fails", self.writes, self.per_batch, self.fails_one_in)?;
        writeln!(f, "of other calls one in {} fails, prepares {}", self.fails_elsewhere_one_in, self.prepares)?;
        writeln!(f, "{:?}", self.config)?;
        writeln!(f, "weights {:?}, checkpoints {:?}, operator {:?}", self.weights, self.checkpoints, self.operator)?;
        writeln!(f, "{} applications, one record in {} is poison", self.applications, self.poison_one_in)?;
        writeln!(f, "clocks wrong by {:?} ppm, {} faults:", self.rates, self.faults.len())?;
        self.faults.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}
