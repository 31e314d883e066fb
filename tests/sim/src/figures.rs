//! What it costs a fleet when workers come, go and die: how many shards move, how long each is read by nobody, and how many records
//! are delivered twice. In virtual time, so the figures are exact for their seed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kcl_core::{ShardId, WorkerConfig};

use crate::Handle;
use crate::fleet::{Fleet, Member, Setup};
use crate::world::Workload;

const SECOND: Duration = Duration::from_secs(1);

/// A fleet to measure.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Workers at the beginning.
    pub workers: usize,
    /// Shards of the stream.
    pub shards: usize,
    /// Writes in a second, over all shards.
    pub writes: u32,
    /// The settings of every worker.
    pub config: WorkerConfig,
    /// What is measured.
    pub changes: Changes,
}

/// Which changes of a fleet are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// What one worker does, and what a third of the fleet does at once.
    All,
    /// What one worker does.
    OfOne,
    /// A crash.
    Crash,
}

/// What one change of the fleet cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The change.
    pub change: &'static str,
    /// Workers before it.
    pub workers: usize,
    /// Shards of the stream.
    pub shards: usize,
    /// How often a shard changed its owner.
    pub moves: usize,
    /// How long a shard that moved had no owner; after a crash, since the crash. The median.
    pub median: Duration,
    /// The longest of them.
    pub worst: Duration,
    /// From the change until the last shard had moved.
    pub whole: Duration,
    /// Records that were delivered to two workers.
    pub repeated: u64,
}

/// The head of the table that figures make, one line each.
pub const HEAD: &str = "| change | workers | shards | moves | unowned, median | worst | until all is done | delivered twice |\n\
                        |---|---|---|---|---|---|---|---|";

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { change, workers, shards, moves, median, worst, whole, repeated } = self;
        let (median, worst, whole) = (median.as_secs_f64(), worst.as_secs_f64(), whole.as_secs_f64());
        write!(
            f,
            "| {change} | {workers} | {shards} | {moves} | {median:.3} s | {worst:.3} s | {whole:.1} s | {repeated} |"
        )
    }
}

impl Measure {
    /// A fleet with the default settings, and a hundred writes in a second.
    #[must_use]
    pub fn new(workers: usize, shards: usize) -> Self {
        Self { workers, shards, writes: 100, config: WorkerConfig::default(), changes: Changes::All }
    }

    /// Runs the fleet through one change after the other.
    ///
    /// # Panics
    /// The fleet does not come to rest, or something that must never happen has happened.
    #[must_use]
    pub fn run(self, seed: u64) -> Vec<Figure> {
        self.tell(seed, |_| {})
    }

    /// As [`Measure::run`], and tells each figure as soon as it is known.
    ///
    /// # Panics
    /// As [`Measure::run`].
    pub fn tell(self, seed: u64, tell: impl Fn(&Figure) + Send + Sync) -> Vec<Figure> {
        crate::run(seed, |sim| async move { Run::start(sim, self).await.changes(tell).await })
    }
}

/// A fleet under measurement.
struct Run {
    sim: Handle,
    fleet: Fleet,
    measure: Measure,
    members: Vec<Member>,
    named: usize,
    repeated: u64,
}

impl Run {
    async fn start(sim: Handle, measure: Measure) -> Self {
        let config = measure.config.clone();
        let fleet = Setup::new(measure.shards).configure(|_| config).build(&sim);
        let workload =
            Workload { keys: 4 * measure.shards, every: SECOND / measure.writes.max(1), until: Duration::MAX };
        if measure.writes > 0 {
            let _writer = workload.start(&sim, &fleet.service, &fleet.table);
        }
        let mut run = Self { sim, fleet, members: Vec::new(), named: 0, repeated: 0, measure };
        run.join(run.measure.workers);
        run.rest().await;
        // What its start cost is no change's.
        run.repeated = run.fleet.verdict().repeated;
        run
    }

    fn join(&mut self, count: usize) {
        for _ in 0..count {
            self.members.push(self.fleet.join(&format!("w{:03}", self.named)));
            self.named += 1;
        }
    }

    /// Waits until all is owned and nothing has moved for so long that nothing will.
    async fn rest(&self) {
        let config = &self.measure.config;
        let quiet = config.min_hold + config.settle + config.lease_duration + config.observe_every * 5;
        let limit = self.sim.now() + 30 * quiet;
        loop {
            self.sim.sleep(quiet / 8).await;
            let now = self.sim.now();
            let quiet_since = self.fleet.owners.since(now.saturating_sub(quiet)).is_empty();
            let counts = self.fleet.owners.counts();
            if quiet_since
                && now > quiet
                && !counts.contains_key(&None)
                && counts.len() == self.members.len().min(self.measure.shards)
            {
                return;
            }
            assert!(now < limit, "the fleet does not come to rest: {counts:?}");
        }
    }

    async fn changes(mut self, tell: impl Fn(&Figure) + Send + Sync) -> Vec<Figure> {
        let third = (self.measure.workers / 3).max(1);
        let mut figures = Vec::new();
        let mut note = |figure: Figure| {
            tell(&figure);
            figures.push(figure);
        };
        let changes = self.measure.changes;
        if changes != Changes::Crash {
            note(self.change("one joins", |run| run.join(1)).await);
            note(self.stop("one stops", 1).await);
        }
        if changes == Changes::All && third > 1 {
            note(self.change("a third more join", move |run| run.join(third)).await);
            note(self.stop("as many stop", third).await);
        }
        note(self.change("one crashes", |run| run.members.remove(0).crash()).await);
        figures
    }

    async fn stop(&mut self, change: &'static str, count: usize) -> Figure {
        let mut stopping: Vec<Member> = self.members.drain(..count).collect();
        for member in &stopping {
            member.handle().expect("it runs").shutdown();
        }
        let figure = self.change(change, |_| {}).await;
        for member in stopping.drain(..) {
            let report = member.main.await.expect("alive").expect("a report");
            assert_eq!(report.abandoned, 0, "{change}");
        }
        figure
    }

    /// Makes a change, waits until the fleet is at rest, and reads off what that cost.
    async fn change(&mut self, change: &'static str, make: impl FnOnce(&mut Self)) -> Figure {
        let workers = self.fleet.owners.counts().len();
        let (began, crash) = (self.sim.now(), change == "one crashes");
        make(self);
        self.rest().await;
        let changes = self.fleet.owners.since(began);
        let mut free: BTreeMap<&ShardId, Duration> = BTreeMap::new();
        let mut unowned = Vec::new();
        let mut whole = Duration::ZERO;
        for owned in &changes {
            let since = free.remove(&owned.shard);
            match (&owned.owner, since) {
                (None, _) => drop(free.insert(&owned.shard, owned.at)),
                (Some(_), Some(since)) => unowned.push(owned.at - since),
                (Some(_), None) if crash => unowned.push(owned.at - began),
                (Some(_), None) => {}
            }
            whole = owned.at - began;
        }
        unowned.sort_unstable();
        let verdict = self.fleet.verdict();
        assert!(verdict.violations.is_empty(), "{verdict}");
        let repeated = verdict.repeated - std::mem::replace(&mut self.repeated, verdict.repeated);
        Figure {
            change,
            workers,
            shards: self.measure.shards,
            moves: unowned.len(),
            median: unowned.get(unowned.len() / 2).copied().unwrap_or_default(),
            worst: unowned.last().copied().unwrap_or_default(),
            whole,
            repeated,
        }
    }
}
