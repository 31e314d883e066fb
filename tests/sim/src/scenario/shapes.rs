//! What each scenario draws.

use std::time::Duration;

use kcl_core::reference::{LastPage, Visibility};
use kcl_core::{Checkpoints, Liveness, LossDecision, SourceOp, WorkerConfig};

use super::Scenario;
use super::draw::Draw;
use super::fault::{Fault, FaultEvent, Step, StreamWeather, When};
use super::plan::{Plan, Service, Start, Writes};
use super::weather::{mood, stream_weather, weather};
use super::wire::Latency;
use crate::fleet::Weather;
use crate::ready::Sched;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Kinds of faults. Each seed has some and not others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Crashes,
    Restarts,
    Twins,
    Freezes,
    Suspends,
    Blocks,
    Table,
    Stream,
    Moods,
    Clocks,
    Throttles,
    Shards,
    Service,
    /// Any fault of a worker, at a step of the protocol.
    Steps,
    /// Workers that start before others stop, and some that do not wait for their calls.
    Deploys,
    /// An operator takes shards back.
    Rewinds,
    /// Parts of the lease table break down.
    Parts,
}

impl Class {
    const ALL: [Self; 14] = [
        Self::Crashes,
        Self::Restarts,
        Self::Twins,
        Self::Freezes,
        Self::Suspends,
        Self::Blocks,
        Self::Table,
        Self::Stream,
        Self::Moods,
        Self::Clocks,
        Self::Throttles,
        Self::Shards,
        Self::Service,
        Self::Steps,
    ];
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64, scenario: Scenario) -> Self {
        let mut draw = Draw::new(seed, "plan");
        let mut plan = common(seed, scenario, &mut draw);
        let mut classes = Vec::new();
        shape(&mut plan, &mut classes, &mut draw);
        if scenario != Scenario::Large {
            extras::draw(&mut plan, &mut classes);
        }
        plan.writes.every = plan.writes.every.max(slowest_record(&plan) * 4);
        plan.stagger = draw.pick(&[Duration::ZERO, SECOND, 10 * SECOND]);
        faults(&mut plan, &classes);
        plan.faults.sort_by_key(|event| match event.when {
            When::At(at) | When::On(_, at) => at,
        });
        for (id, event) in (0..).zip(&mut plan.faults) {
            event.id = id;
        }
        plan
    }
}

mod extras;
mod settings;
mod wide;

use settings::{WRONG, config, latency, rates, service, writes};

/// How long one record takes at most where all go to one shard: a fleet that is written to faster than it can read never catches up.
fn slowest_record(plan: &Plan) -> Duration {
    let per_call = u32::try_from(plan.config.batch_size.min(plan.service.page_records)).unwrap_or(u32::MAX);
    let per_page = u32::try_from(plan.service.page_records).unwrap_or(u32::MAX);
    let call = plan.per_batch + Latency::QUICK.quick * 2;
    let read = (SECOND / plan.config.calls_per_second).max(Latency::QUICK.quick * 2);
    (call / per_call).max(read / per_page)
}

fn common(seed: u64, scenario: Scenario, draw: &mut Draw) -> Plan {
    let workers = draw.pick(&[1, 2, 2, 2, 3, 3, 3, 4, 5]);
    let shards = draw.pick(&[1, 2, 3, 4, 4, 5, 6, 8]);
    let liveness = draw.pick(&[Liveness::PerLease, Liveness::PerWorker]);
    Plan {
        seed,
        scenario,
        sched: draw.pick(&[Sched::Random, Sched::Random, Sched::Fifo, Sched::Pct(1), Sched::Pct(3)]),
        workers,
        shards,
        busy: draw.time(2 * MINUTE..=20 * MINUTE),
        stagger: Duration::ZERO,
        liveness,
        config: config(&mut Draw::new(seed, "config")).with_liveness(Some(liveness)),
        start: Start::Oldest,
        losses: LossDecision::StopShard,
        service: service(&mut Draw::new(seed, "service")),
        latency: latency(&mut Draw::new(seed, "latency")),
        writes: writes(&mut Draw::new(seed, "writes")),
        per_batch: draw.pick(&[Duration::ZERO, Duration::from_millis(5), Duration::from_millis(200), SECOND / 2]),
        fails_one_in: draw.pick(&[0, 0, 0, 20]),
        fails_elsewhere_one_in: 0,
        prepares: false,
        rates: rates(workers, &mut Draw::new(seed, "rates")),
        past: 0,
        weights: Vec::new(),
        checkpoints: Checkpoints::Automatic,
        operator: None,
        poison_one_in: 0,
        set_aside_after: 0,
        applications: 1,
        faults: Vec::new(),
        no_repeats: false,
    }
}

/// What makes the scenario itself.
fn shape(plan: &mut Plan, classes: &mut Vec<Class>, draw: &mut Draw) {
    let later = |plan: &Plan, share: u32| plan.busy / 10 * share;
    match plan.scenario {
        Scenario::Steady => calm(plan, classes),
        Scenario::Rolling => {
            calm(plan, classes);
            rolling(plan, draw);
        }
        Scenario::FleetRestart => {
            classes.push(Class::Shards);
            for share in [3, 7] {
                let at = later(plan, share);
                let (down, renamed) = (draw.pick(&[Duration::ZERO, SECOND, 20 * SECOND]), draw.one_in(2));
                let crash = draw.one_in(2);
                for worker in 0..plan.workers {
                    let fault = if crash {
                        Fault::Crash { worker, down, renamed }
                    } else {
                        Fault::Restart { worker, down, renamed }
                    };
                    plan.add(When::At(at + draw.even(Duration::ZERO..=SECOND)), fault);
                }
            }
        }
        Scenario::Partition => {
            *classes = vec![Class::Table, Class::Shards, Class::Steps];
            plan.per_batch = draw.pick(&[Duration::ZERO, SECOND / 2, 3 * SECOND]);
            partitions(plan, draw);
        }
        Scenario::Throttling => {
            *classes = vec![Class::Throttles, Class::Stream];
            plan.service.limits = true;
        }
        Scenario::SplitStorm => {
            *classes = vec![Class::Crashes, Class::Restarts, Class::Steps];
            let mut at = 10 * SECOND;
            while at < plan.busy {
                let which = draw.number();
                plan.add(When::At(at), if draw.one_in(3) { Fault::Roll(which) } else { Fault::Split(which) });
                at += draw.time(SECOND..=30 * SECOND);
            }
            plan.service.visibility = late_shards(draw);
        }
        Scenario::Outage => outage(plan, draw),
        Scenario::Processors => {
            *classes = vec![Class::Moods, Class::Blocks, Class::Shards, Class::Restarts];
            plan.config =
                plan.config.clone().with_process_timeout(draw.pick(&[None, Some(10 * SECOND), Some(30 * SECOND)]));
        }
        Scenario::Starts => {
            *classes = vec![Class::Shards, Class::Crashes, Class::Steps];
            let from = draw.time(20 * SECOND..=3 * MINUTE);
            plan.start = if draw.one_in(2) {
                Start::Latest(from)
            } else {
                Start::At(from / 10 * draw.count(0..=9) as u32, from)
            };
            plan.busy += from;
            if draw.one_in(2) {
                plan.service.visibility = late_shards(draw);
            }
        }
        Scenario::Listings => {
            *classes = vec![Class::Shards, Class::Service, Class::Crashes];
            plan.service.visibility = late_shards(draw);
            plan.service.blurred = draw.pick(&[0, 2, 2, 5]);
        }
        Scenario::StaleScans => {
            *classes = vec![Class::Crashes, Class::Restarts, Class::Freezes, Class::Steps, Class::Shards];
            plan.service.scan_page = draw.pick(&[1, 3, 1000]);
            plan.service.scan_lag = draw.pick(&[2, 5, 10]);
        }
        Scenario::Disabled => {
            *classes = vec![Class::Crashes, Class::Restarts, Class::Shards];
            plan.add(When::At(later(plan, 8)), Fault::Disable);
        }
        Scenario::Clocks => {
            *classes = vec![
                Class::Clocks,
                Class::Freezes,
                Class::Suspends,
                Class::Suspends,
                Class::Twins,
                Class::Steps,
                Class::Table,
            ];
            plan.rates = (0..plan.workers).map(|n| if n % 2 == 0 { -WRONG } else { WRONG }).collect();
        }
        Scenario::Chaos => {
            classes.extend(Class::ALL.into_iter().filter(|_| draw.one_in(2)));
            if draw.one_in(3) {
                plan.service.visibility = late_shards(draw);
            }
            plan.service.limits = draw.one_in(4);
        }
        Scenario::Readers => wide::readers(plan, classes, draw),
        Scenario::Reenabled => wide::reenabled(plan, classes, draw),
        Scenario::Large => large(plan),
    }
}

/// Nothing in it is a reason to deliver a record twice.
fn calm(plan: &mut Plan, classes: &mut Vec<Class>) {
    *classes = vec![Class::Shards];
    plan.latency = Latency { slow_one_in: 0, stuck_one_in: 0, ..plan.latency };
    plan.fails_one_in = 0;
    plan.per_batch = plan.per_batch.min(SECOND / 2);
    plan.service.scan_lag = 0;
    plan.no_repeats = true;
}

fn rolling(plan: &mut Plan, draw: &mut Draw) {
    let pause = draw.time(10 * SECOND..=2 * MINUTE);
    let (down, renamed) = (draw.pick(&[Duration::ZERO, SECOND, 10 * SECOND]), draw.one_in(2));
    let mut at = draw.time(10 * SECOND..=MINUTE);
    let mut worker = 0;
    let before = Draw::new(plan.seed, "rolling").one_in(2);
    while at < plan.busy {
        let fault = if before { Fault::Replace { worker, renamed } } else { Fault::Restart { worker, down, renamed } };
        plan.add(When::At(at), fault);
        worker = (worker + 1) % plan.workers;
        at += pause;
    }
}

fn partitions(plan: &mut Plan, draw: &mut Draw) {
    let d = plan.config.lease_duration;
    let mut at = draw.time(10 * SECOND..=MINUTE);
    while at < plan.busy {
        let (worker, time) = (draw.below(plan.workers), draw.time(d / 4..=d * 4));
        let table = Fault::Table { worker, weather: Weather { cut: true, ..Weather::default() }, time };
        let stream = Fault::Stream { worker, weather: StreamWeather { cut: true, ..StreamWeather::default() }, time };
        let kind = draw.below(4);
        if kind != 0 {
            plan.add(When::At(at), table);
        }
        if kind == 0 || kind == 1 {
            plan.add(When::At(at), stream);
        }
        at += draw.time(d..=d * 6);
    }
}

fn outage(plan: &mut Plan, draw: &mut Draw) {
    plan.losses = LossDecision::Continue;
    plan.service.roll_every = Some(draw.pick(&[2, 2, 4]) as u32 * HOUR);
    plan.workers = plan.workers.min(3);
    plan.shards = plan.shards.min(4);
    let before = draw.time(3 * MINUTE..=30 * MINUTE);
    let away = draw.pick(&[20, 26, 30, 50]) as u32 * HOUR;
    plan.add(When::At(before), Fault::Outage { time: away });
    plan.busy = before + away + draw.time(3 * MINUTE..=30 * MINUTE);
    plan.writes.every = draw.time(20 * SECOND..=2 * MINUTE);
    plan.config =
        plan.config.clone().with_poll_every(2 * SECOND).with_poll_idle(20 * SECOND).with_tick_every(30 * SECOND);
}

fn large(plan: &mut Plan) {
    (plan.workers, plan.shards, plan.busy) = (100, 10_000, 3 * MINUTE);
    plan.rates = vec![0; plan.workers];
    plan.sched = Sched::Random;
    plan.latency = Latency::QUICK;
    plan.per_batch = Duration::ZERO;
    plan.fails_one_in = 0;
    plan.service = Service { scan_page: 1000, scan_lag: 0, describe_page: 100, ..plan.service };
    plan.service.roll_every = None;
    plan.writes = Writes { keys: 100_000, every: SECOND / 100, before: 0, quiet: Vec::new() };
    plan.config = WorkerConfig::default()
        .with_lease_duration(MINUTE)
        .with_observe_every(20 * SECOND)
        .with_discover_every(10 * SECOND)
        .with_poll_every(5 * SECOND)
        .with_poll_idle(MINUTE)
        .with_tick_every(MINUTE)
        .with_checkpoint_every(20 * SECOND)
        .with_liveness(Some(plan.liveness));
    for worker in 0..5 {
        let at = MINUTE + 10 * SECOND * worker as u32;
        plan.add(When::At(at), Fault::Crash { worker, down: 5 * SECOND, renamed: true });
    }
}

fn late_shards(draw: &mut Draw) -> Visibility {
    let mut late = || if draw.one_in(3) { Duration::ZERO } else { draw.time(SECOND / 10..=5 * SECOND) };
    Visibility { child_after: late(), closing_after: late(), readable_after: late() }
}

/// Draws the faults of each class from a stream of its own.
fn faults(plan: &mut Plan, classes: &[Class]) {
    // A wall clock that is set back hides a suspend that happens within the same lease duration: two faults at once, against which
    // only a clock that counts suspends helps. Each run has one of the two.
    let walls = classes.contains(&Class::Clocks) && Draw::new(plan.seed, "walls").one_in(2);
    for class in classes {
        let mut draw = Draw::new(plan.seed, &format!("faults/{class:?}"));
        let pause = draw.time(8 * SECOND..=4 * MINUTE);
        let from = plan.start.workers_from();
        let mut at = from + draw.even(Duration::ZERO..=pause);
        while at < plan.busy {
            let (when, fault) = one(plan, *class, at, &mut draw);
            let fault = match fault {
                Fault::Suspend { worker, time } if walls => Fault::Freeze { worker, time },
                Fault::Wall { worker, ahead } if !walls => Fault::Rate { worker, ppm: ahead as i32 * 10 },
                fault => fault,
            };
            plan.add(when, fault);
            at += draw.even(pause / 2..=pause * 3 / 2);
        }
    }
}

fn one(plan: &Plan, class: Class, at: Duration, draw: &mut Draw) -> (When, Fault) {
    let worker = draw.below(plan.workers);
    let d = plan.config.lease_duration;
    let fault = match class {
        Class::Steps => {
            let step = draw.pick(&Step::ALL);
            return (When::On(step, at), of_worker(plan, worker, draw));
        }
        Class::Crashes => Fault::Crash { worker, down: draw.time(SECOND / 10..=d * 3), renamed: draw.one_in(2) },
        Class::Restarts => {
            let down = draw.pick(&[Duration::ZERO, SECOND, d, d * 3]);
            Fault::Restart { worker, down, renamed: draw.one_in(2) }
        }
        Class::Deploys if draw.one_in(2) => Fault::Replace { worker, renamed: draw.one_in(2) },
        Class::Deploys => {
            Fault::StopNow { worker, down: draw.pick(&[Duration::ZERO, SECOND, d]), renamed: draw.one_in(2) }
        }
        Class::Twins => Fault::Twin { worker, frozen: draw.time(SECOND..=d * 3) },
        Class::Freezes | Class::Suspends if draw.one_in(2) => {
            let (time, step) = (draw.time(d / 3..=d * 4), draw.pick(&Step::UNDER_WAY));
            let freezes = class == Class::Freezes;
            let fault = if freezes { Fault::Freeze { worker, time } } else { Fault::Suspend { worker, time } };
            return (When::On(step, at), fault);
        }
        Class::Freezes => Fault::Freeze { worker, time: draw.time(SECOND / 10..=d * 4) },
        Class::Suspends => Fault::Suspend { worker, time: draw.time(SECOND / 10..=d * 4) },
        Class::Blocks => Fault::Block { worker, time: draw.time(SECOND..=MINUTE) },
        Class::Table => Fault::Table { worker, weather: weather(d, draw), time: draw.time(d / 2..=d * 8) },
        Class::Stream => Fault::Stream { worker, weather: stream_weather(draw), time: draw.time(SECOND..=2 * MINUTE) },
        Class::Moods => Fault::Mood { worker, mood: mood(draw), time: draw.time(SECOND..=2 * MINUTE) },
        Class::Clocks if draw.one_in(2) => {
            Fault::Rate { worker, ppm: draw.below(2 * WRONG as usize + 1) as i32 - WRONG }
        }
        // Where a start is counted in time of day, no clock may be wrong by more than the slack.
        Class::Clocks if plan.start == Start::Oldest => Fault::Wall { worker, ahead: draw.below(1201) as i64 - 600 },
        Class::Clocks => Fault::Wall { worker, ahead: draw.below(41) as i64 - 20 },
        Class::Throttles => Fault::Throttle { op: draw.pick(&SourceOp::ALL), time: draw.time(SECOND..=MINUTE) },
        Class::Shards => match draw.below(8) {
            0 => Fault::RollAll,
            1..=3 => Fault::Roll(draw.number()),
            _ => Fault::Split(draw.number()),
        },
        Class::Service if draw.one_in(2) => Fault::ExpireIterators,
        Class::Parts => {
            let weather = Weather { parts: draw.number() | 1, ..Weather::default() };
            Fault::Table { worker, weather, time: draw.time(d..=d * 4) }
        }
        Class::Rewinds => Fault::Rewind { which: draw.number(), to: draw.pick(&[0, 0, 300, 700]) },
        Class::Service => Fault::Unknown { which: draw.number(), time: draw.time(SECOND / 10..=4 * SECOND) },
    };
    (When::At(at), fault)
}

/// What may happen to a worker at a step.
fn of_worker(plan: &Plan, worker: usize, draw: &mut Draw) -> Fault {
    let d = plan.config.lease_duration;
    match draw.below(12) {
        0 | 1 => Fault::Crash { worker, down: draw.time(SECOND / 10..=d * 3), renamed: draw.one_in(2) },
        2..=4 => Fault::Freeze { worker, time: draw.time(d / 10..=d * 4) },
        5 | 6 => Fault::Suspend { worker, time: draw.time(d / 10..=d * 4) },
        7 => Fault::Restart { worker, down: SECOND, renamed: draw.one_in(2) },
        8..=10 => Fault::Table {
            worker,
            weather: match draw.below(4) {
                0 => Weather { cut: true, ..Weather::default() },
                1 => Weather { cut: true, late: 2, ..Weather::default() },
                _ => Weather { deaf: true, ..Weather::default() },
            },
            time: draw.time(d / 10..=d * 3),
        },
        _ => Fault::Twin { worker, frozen: draw.time(SECOND..=d * 3) },
    }
}

impl Plan {
    fn add(&mut self, when: When, fault: Fault) {
        self.faults.push(FaultEvent { id: 0, when, fault });
    }
}

/// A fleet with the default settings in which nothing fails, and which has little to do: one write in ten seconds.
#[must_use]
pub fn steady(seed: u64, workers: usize, shards: usize, hours: f64) -> Plan {
    let mut draw = Draw::new(seed, "plan");
    let plan = common(seed, Scenario::Steady, &mut draw);
    Plan {
        sched: Sched::Random,
        workers,
        shards,
        busy: HOUR.mul_f64(hours),
        config: WorkerConfig::default(),
        service: Service {
            visibility: Visibility::default(),
            describe_page: 100,
            trailing_empty_page: false,
            page_records: 1000,
            empty_page_every: None,
            last_page: LastPage::WithRecords,
            roll_every: Some(4 * HOUR),
            scan_page: 1000,
            scan_lag: 0,
            ..plan.service
        },
        latency: Latency::QUICK,
        writes: Writes { keys: 20, every: 10 * SECOND, before: 0, quiet: Vec::new() },
        per_batch: Duration::ZERO,
        fails_one_in: 0,
        rates: vec![0; workers],
        no_repeats: true,
        ..plan
    }
}
