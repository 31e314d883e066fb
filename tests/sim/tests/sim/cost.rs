//! What a fleet costs in requests to the lease table: the formulas of docs/operations.md, held against counted calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kcl_core::wrap::{FaultySource, LeaseOperation, SourceFault};
use kcl_core::{Liveness, SourceErrorKind, SourceOp, StreamSource};
use sim::fleet::{Member, Setup};

const DAY: f64 = 86_400.0;

/// A fleet whose shards are idle.
#[derive(Debug, Clone, Copy)]
struct Idle {
    mode: Liveness,
    workers: usize,
    leases: usize,
    /// `lease_duration`, in seconds.
    d: f64,
    /// `observe_every`, in seconds.
    o: f64,
    /// `discover_every`, in seconds.
    discover: f64,
}

impl Idle {
    fn new(mode: Liveness, workers: usize, leases: usize) -> Self {
        Self { mode, workers, leases, d: 10.0, o: 1.0, discover: 30.0 }
    }

    /// Writes a day.
    fn writes(self) -> f64 {
        let renewed = match self.mode {
            Liveness::PerLease => self.leases + self.workers,
            _ => self.workers,
        };
        renewed as f64 * DAY / (self.d / 3.0)
    }

    /// Scans an interval of observation, by the whole fleet.
    fn scans_an_interval(self) -> f64 {
        let common = (self.workers as f64 / 4.0).max(1.0);
        match self.mode {
            Liveness::PerLease => {
                let ranks = 0..i32::try_from(self.workers).expect("small");
                ranks.map(|rank| 1.0 / 2_f64.powi((rank - 1).max(0)).min(common)).sum()
            }
            _ => self.workers as f64 / common,
        }
    }

    /// Scans a day: the pauses are drawn between half an interval and a whole one, and each listing of the shards takes one more.
    fn scans(self) -> f64 {
        self.scans_an_interval() * DAY / (0.75 * self.o) + DAY / (0.75 * self.discover)
    }

    /// Point reads a day.
    fn point_reads(self) -> f64 {
        let reads = match self.mode {
            _ if self.workers <= 4 => 0.0,
            Liveness::PerLease => 1.0,
            _ => 3.0,
        };
        // In PerLease the first two scan at every interval, and need not be told.
        let readers = if self.mode == Liveness::PerLease { self.workers.saturating_sub(2) } else { self.workers };
        reads * readers as f64 * DAY / (0.75 * self.o)
    }

    /// Counts for half an hour: writes, scans and point reads a day.
    fn counted(self) -> [f64; 3] {
        let hours = 0.5;
        sim::run(1, move |sim| async move {
            let fleet = Setup::new(self.leases).under(self.mode).configure(|config| {
                let config = config.with_lease_duration(Duration::from_secs_f64(self.d));
                let config = config.with_observe_every(Duration::from_secs_f64(self.o));
                config
                    .with_discover_every(Duration::from_secs_f64(self.discover))
                    .with_poll_every(Duration::from_secs(60))
                    .with_poll_idle(Duration::from_secs(60))
                    .with_tick_every(Duration::from_secs(60))
            });
            let fleet = fleet.build(&sim);
            let _workers: Vec<Member> = (0..self.workers).map(|n| fleet.join(&format!("w{n}"))).collect();
            // Until the shards are shared evenly.
            sim.sleep(Duration::from_secs(600)).await;
            let _before = fleet.counted.take_counts();
            sim.sleep(Duration::from_secs_f64(hours * 3600.0)).await;
            let counts = fleet.counted.take_counts();
            let a_day = |calls: u64| calls as f64 * 24.0 / hours;
            let points = [LeaseOperation::Get, LeaseOperation::Worker, LeaseOperation::Rings];
            let points = points.into_iter().map(|operation| counts.of(operation)).sum();
            [a_day(counts.writes()), a_day(counts.of(LeaseOperation::Scan)), a_day(points)]
        })
    }
}

#[test]
fn the_documented_formulas_are_what_is_counted() {
    for mode in [Liveness::PerLease, Liveness::PerWorker] {
        let usual = [(1, 8), (3, 24), (10, 60), (40, 80)].map(|(workers, leases)| Idle::new(mode, workers, leases));
        let rarer = Idle { d: 30.0, o: 4.0, discover: 90.0, ..Idle::new(mode, 10, 60) };
        for fleet in usual.into_iter().chain([rarer]) {
            let formulas = [fleet.writes(), fleet.scans(), fleet.point_reads()];
            let counted = fleet.counted();
            println!("{fleet:?}: counted {counted:.0?}, formula {formulas:.0?}");
            for (counted, formula) in counted.into_iter().zip(formulas) {
                assert!((counted - formula).abs() <= 0.05 * formula + 100.0, "{fleet:?}: {counted} for {formula}");
            }
        }
    }
}

#[test]
fn a_thousand_idle_leases_cost_what_is_promised() {
    let writes = |mode| Idle::new(mode, 10, 1000).writes();
    assert!(writes(Liveness::PerLease) <= 26.2e6 && writes(Liveness::PerWorker) <= 0.3e6);
}

#[test]
fn the_cost_of_looking_does_not_grow_with_the_fleet() {
    for mode in [Liveness::PerLease, Liveness::PerWorker] {
        let scans = [10, 100, 1000].map(|workers| Idle::new(mode, workers, 1000).scans());
        assert!(scans.iter().all(|scans| *scans <= 8.0 * DAY / 0.75 + 4_000.0), "{mode:?}: {scans:?}");
    }
}

#[test]
fn a_stream_that_may_not_be_read_is_looked_after_rarely() {
    sim::run(1, |sim| async move {
        let denied = |source: Arc<dyn StreamSource>| -> Arc<dyn StreamSource> {
            let calls = AtomicUsize::new(0);
            Arc::new(FaultySource::new(source, move |op| {
                // The first call finds the stream.
                let later = op == SourceOp::DescribeStream && calls.fetch_add(1, Ordering::Relaxed) > 0;
                later.then_some(SourceFault::Refused(SourceErrorKind::Denied { action: "DescribeStream" }))
            }))
        };
        let setup = Setup { source: Arc::new(denied), ..Setup::new(2) };
        let fleet = setup.build(&sim);
        let _a = fleet.join("a");
        sim.sleep(Duration::from_secs(120)).await;
        let _so_far = fleet.counted.take_counts();
        sim.sleep(Duration::from_secs(3600)).await;
        let scans = fleet.counted.take_counts().of(LeaseOperation::Scan) as f64;
        let usual = 3600.0 / 0.75;
        assert!(scans < 1.1 * usual, "{scans} scans in an hour, {usual} of them to look at the fleet");
    });
}

/// Writes of a minute beyond the heartbeats of those who stay.
async fn news(sim: &sim::Handle, fleet: &sim::fleet::Fleet, staying: usize) -> i64 {
    sim.sleep(Duration::from_secs(60)).await;
    let counts = fleet.counted.take_counts();
    i64::try_from(counts.writes()).expect("small") - i64::try_from(staying).expect("small") * 18
}

#[test]
fn who_comes_leaves_or_dies_costs_what_is_documented() {
    for workers in [3, 20] {
        sim::run(1, move |sim| async move {
            // Nothing to move: what is counted is the membership alone.
            let fleet = Setup::new(1).under(Liveness::PerWorker).build(&sim);
            let mut all: Vec<Member> = (0..workers).map(|n| fleet.join(&format!("w{n:02}"))).collect();
            sim.sleep(Duration::from_secs(300)).await;
            let _so_far = fleet.counted.take_counts();
            let free = all.iter().position(|worker| worker.owned().is_empty()).expect("one has nothing");
            let usual = news(&sim, &fleet, workers).await;
            let joined = fleet.join("x");
            let join = news(&sim, &fleet, workers + 1).await;
            let _report = joined.stop().await;
            let leave = news(&sim, &fleet, workers).await;
            all.remove(free).crash();
            let death = news(&sim, &fleet, workers - 1).await;
            println!("{workers} workers: usual {usual}, join {join}, leave {leave}, death {death}");
            // A heartbeat more or less falls into a minute.
            let most = i64::try_from(workers).expect("small") + 4;
            assert!(usual.abs() <= 2 && join <= 6 && leave <= 8 && death <= most, "{usual} {join} {leave} {death}");
        });
    }
}
