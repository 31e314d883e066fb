//! A run from its beginning to its end.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kcl_core::reference::StreamOptions;
use kcl_core::{StartPosition, TableItem};
use rand::Rng as _;
use serde_dynamo::{AttributeValue, Item};

use super::Scenario;
use super::crew::Crew;
use super::fault::{Fault, When};
use super::operator::operate;
use super::plan::{Plan, Start};
use super::player::PANIC;
use super::settled::{Beginning, unsettled, wanted};
use crate::fleet::{Fleet, Setup};
use crate::invariant::{Expect, Sometimes, Watch};
use crate::rng::below;
use crate::world::Conduct;
use crate::{Config, Failure, Handle, Sim, Verdict, epoch};

const SECOND: Duration = Duration::from_secs(1);

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The virtual time that it lasted.
    pub lasted: Duration,
    /// Polls of tasks.
    pub polls: u64,
    /// Two runs with the same hash did the same.
    pub trace: u64,
    /// What was delivered, as far as it got.
    pub verdict: Verdict,
    /// What happened how often.
    pub sometimes: Sometimes,
    /// What was wrong.
    pub broken: Option<Broken>,
}

/// What a run tells from inside.
#[derive(Debug, Default)]
struct Told {
    verdict: Verdict,
    watches: Vec<Watch>,
}

/// What was wrong.
#[derive(Debug, Clone)]
pub enum Broken {
    /// The run failed at some step.
    Failed(Failure),
    /// Something was not as it should be at the end.
    Ended(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::Ended(what) => f.write_str(what),
        }
    }
}

/// Carries a plan out.
#[must_use]
pub fn run(plan: &Plan) -> Run {
    carry_out(plan, false)
}

/// [`run`], which prints what happens to leases and what workers tell.
#[must_use]
pub fn run_aloud(plan: &Plan) -> Run {
    carry_out(plan, true)
}

fn carry_out(plan: &Plan, aloud: bool) -> Run {
    let limit = plan.busy * 2 + plan.settles_within() * 4;
    let mut sim = Sim::with(Config { sched: plan.sched, limit, ..Config::new(plan.seed) });
    sim.allow_panics(PANIC);
    let (handle, plan) = (sim.handle(), Arc::new(plan.clone()));
    let told: Arc<Mutex<Told>> = Arc::default();
    let ended = sim.block_on(life(handle, plan, told.clone(), aloud));
    let (lasted, polls, trace) = (sim.now(), sim.polls(), sim.trace_hash());
    let broken = match (ended, sim.close()) {
        (Err(failure), _) | (Ok(Ok(())), Err(failure)) => Some(Broken::Failed(failure)),
        (Ok(Err(what)), _) => Some(Broken::Ended(what)),
        (Ok(Ok(())), Ok(())) => None,
    };
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    let mut sometimes = Sometimes::default();
    told.watches.iter().for_each(|watch| sometimes.add(&watch.sometimes()));
    Run { lasted, polls, trace, verdict: told.verdict, sometimes, broken }
}

async fn life(sim: Handle, plan: Arc<Plan>, told: Arc<Mutex<Told>>, aloud: bool) -> Result<(), String> {
    let fleets = fleets(&sim, &plan);
    for fleet in fleets.iter().filter(|_| aloud) {
        fleet.watch.talk();
    }
    told.lock().unwrap_or_else(PoisonError::into_inner).watches =
        fleets.iter().map(|fleet| fleet.watch.clone()).collect();
    let (crew, fleet) = (Crew::new(&sim, &fleets, &plan), fleets[0].clone());
    fleet.write(plan.writes.before, plan.writes.keys);
    for nth in 0..plan.past {
        crew.happen(Fault::Split(crate::rng::mix(plan.seed ^ nth as u64)));
        fleet.write(plan.writes.keys.min(5), plan.writes.keys);
    }
    let beginning = Beginning::default();
    let _writer = sim.spawn("writer", write(sim.clone(), fleet.clone(), plan.clone()));
    let _workers = sim.spawn("arrivals", arrive(sim.clone(), crew.clone(), plan.clone()));
    let _faults = sim.spawn("faults", happen(sim.clone(), crew.clone(), plan.clone()));
    if let Some(every) = plan.operator {
        let _operator = sim.spawn("operator", operate(sim.clone(), fleet.clone(), every));
    }
    if matches!(plan.start, Start::Latest(_)) {
        let _watch = sim.spawn("beginning", beginning.clone().watch(sim.clone(), fleet.clone(), plan.clone()));
    }
    sim.sleep(plan.busy).await;
    crew.heal();
    crew.thaw().await;
    let end = End { sim: sim.clone(), fleets, crew: crew.clone(), plan: plan.clone(), beginning, told };
    let readers = end.settle().await?;
    end.judge(&readers)?;
    if let (Some(first), true) = (readers.first(), plan.applications > 1) {
        // Its slot frees itself, and the one that has waited gets it.
        crew.stop_application(*first).await;
        let readers = end.settle().await?;
        end.judge(&readers)?;
    }
    crew.stop_all().await;
    end.left_behind(&readers)
}

/// What is looked at once faults have ended.
struct End {
    sim: Handle,
    fleets: Vec<Fleet>,
    crew: Crew,
    plan: Arc<Plan>,
    beginning: Beginning,
    told: Arc<Mutex<Told>>,
}

impl End {
    /// What the history of an application shows by now.
    fn verdict(&self, application: usize) -> Verdict {
        let fleet = &self.fleets[application];
        let verdict = fleet.history.judge(&wanted(fleet, &self.plan, &self.beginning));
        if application == 0 {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).verdict = verdict.clone();
        }
        verdict
    }

    /// What is not as it should be, with the applications that read.
    fn wrong(&self) -> Result<Result<Vec<usize>, String>, String> {
        for application in 0..self.fleets.len() {
            // Also of one that does not read, or did not to the end, what it did must be right.
            let verdict = self.verdict(application);
            if !verdict.violations.is_empty() {
                return Err(verdict.to_string());
            }
        }
        let readers = match self.crew.readers() {
            Ok(readers) => readers,
            Err(what) => return Ok(Err(what)),
        };
        for &reader in &readers {
            let (fleet, plan) = (&self.fleets[reader], &self.plan);
            if let Some(what) = unsettled(reader, fleet, &self.crew, plan)? {
                return Ok(Err(what));
            }
            let verdict = self.verdict(reader);
            if !verdict.is_complete() {
                return Ok(Err(verdict.to_string()));
            }
        }
        Ok(Ok(readers))
    }

    /// Waits until everything has come right and stayed so for a while; returns the applications that read.
    async fn settle(&self) -> Result<Vec<usize>, String> {
        let (sim, plan) = (&self.sim, &self.plan);
        let begun = sim.now();
        let until = begun + plan.settles_within();
        let (mut steady_since, mut seen) = (None, 0);
        loop {
            match self.wrong()? {
                Ok(readers) => {
                    let since = *steady_since.get_or_insert(sim.now());
                    if sim.now() - since >= plan.config.lease_duration * 2 {
                        return Ok(readers);
                    }
                }
                Err(what) if sim.now() > until => {
                    return Err(format!("{:?} after the last fault: {what}", sim.now() - begun));
                }
                Err(_) => steady_since = None,
            }
            seen += 1;
            sim.sleep(if seen < 20 { SECOND } else { 5 * SECOND }).await;
        }
    }

    /// What must hold of the applications that read, now that nothing fails any more.
    fn judge(&self, readers: &[usize]) -> Result<(), String> {
        let plan = &self.plan;
        for &reader in readers {
            let fleet = &self.fleets[reader];
            let mut ending = fleet.ending([]);
            ending.truth = wanted(fleet, plan, &self.beginning);
            ending.verdict = fleet.history.judge(&ending.truth);
            self.crew.each_of(reader, |member| {
                ending.owned.push((member.node.name().to_owned(), member.owned().len()));
            });
            let expect = Expect {
                tombstones_gone_after: Some(plan.settles_within()),
                even: plan.weights.is_empty(),
                repeats: plan.no_repeats.then_some(0),
                recorded_within: plan.no_repeats.then_some(plan.config.checkpoint_every * 103 / 100 + SECOND),
                unowned: longest_gap(plan),
            };
            if let Err(violations) = fleet.watch.check_end(&ending, &expect) {
                let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
                return Err(lines.join("\n"));
            }
        }
        Ok(())
    }

    /// What all that have stopped must have left behind.
    fn left_behind(&self, readers: &[usize]) -> Result<(), String> {
        for (application, fleet) in self.fleets.iter().enumerate() {
            let verdict = self.verdict(application);
            if !verdict.violations.is_empty() || (readers.contains(&application) && !verdict.is_complete()) {
                return Err(verdict.to_string());
            }
            if self.plan.no_repeats && verdict.repeated > 0 {
                return Err(format!("records were delivered twice, and nothing has failed: {verdict}"));
            }
            if let Some(lease) = fleet.leases.leases().into_iter().find(|lease| lease.owner.is_some()) {
                return Err(format!("all workers have stopped, and {} still has an owner", lease.shard));
            }
            // A registration that arrived late has nobody behind it who could leave: whoever comes next removes it.
            let left = |item: &TableItem| matches!(item, TableItem::Worker(worker) if worker.counter.0 != 0);
            if let Some(item) = fleet.leases.snapshot().into_iter().find(left) {
                return Err(format!("all workers have stopped, and this is left: {item:?}"));
            }
            if let Some(loss) = fleet.losses.all().first().filter(|_| self.plan.scenario != Scenario::Outage) {
                return Err(format!("nothing was trimmed, and a loss was reported: {loss}"));
            }
        }
        Ok(())
    }
}

/// How long a shard may be without a reader where nothing fails and somebody is always there to take it: a lease that was given to a
/// worker that then left is free for all after D.
fn longest_gap(plan: &Plan) -> Option<Duration> {
    let capped = plan.config.max_leases != usize::MAX;
    let bounded = plan.no_repeats && plan.workers >= 3 && !capped;
    bounded.then(|| plan.config.lease_duration + plan.config.observe_every * 2 + SECOND * 5)
}

/// The fleets of all applications, on one stream.
fn fleets(sim: &Handle, plan: &Plan) -> Vec<Fleet> {
    let first = setup(plan).build(sim);
    let more = (1..plan.applications).map(|nth| {
        let setup = Setup { application: format!("sim{nth}"), ..setup(plan) };
        setup.build_on(sim, &first.service, &first.table, &first.stream)
    });
    let more: Vec<Fleet> = more.collect();
    std::iter::once(first).chain(more).collect()
}

fn setup(plan: &Plan) -> Setup {
    let mut options = if plan.service.limits { StreamOptions::default() } else { StreamOptions::unthrottled() };
    let service = plan.service;
    options.visibility = service.visibility;
    options.describe_page = service.describe_page;
    options.trailing_empty_page = service.trailing_empty_page;
    options.page_records = service.page_records;
    options.empty_page_every = service.empty_page_every;
    options.last_page = service.last_page;
    options.roll_every = service.roll_every;
    options.disabling_for = 20 * SECOND;
    let start = match plan.start {
        Start::Oldest => StartPosition::TrimHorizon,
        Start::Latest(_) => StartPosition::Latest,
        Start::At(at, _) => StartPosition::AtTimestamp(epoch() + at),
    };
    let setup = Setup::new(plan.shards);
    Setup {
        options,
        start,
        config: plan.config.clone(),
        conduct: Conduct { checkpoints: plan.checkpoints, ..Conduct::default() },
        losses: plan.losses,
        scan_page: service.scan_page,
        scan_lag: service.scan_lag,
        set_aside_after: plan.set_aside_after,
        follows_table: plan.scenario == Scenario::Reenabled,
        ..setup
    }
}

async fn write(sim: Handle, fleet: Fleet, plan: Arc<Plan>) {
    let mut rng = sim.rng("workload");
    let writes = &plan.writes;
    let mut number: u64 = 0;
    while sim.now() < plan.busy {
        let quiet = writes.quiet.iter().find(|(from, to)| (*from..*to).contains(&sim.now()));
        if let Some((_, to)) = quiet {
            sim.sleep(*to - sim.now()).await;
            continue;
        }
        number += 1;
        let mut item = Item::default();
        item.insert("id".to_owned(), AttributeValue::S(format!("k{}", below(rng.next_u64(), writes.keys))));
        item.insert("n".to_owned(), AttributeValue::N(number.to_string()));
        if let Err(error) = fleet.service.put(&fleet.table, item) {
            sim.fail(format!("a write was refused: {error}"));
        }
        sim.sleep(crate::world::pause(writes.every, rng.next_u64())).await;
    }
}

async fn arrive(sim: Handle, crew: Crew, plan: Arc<Plan>) {
    sim.sleep(plan.start.workers_from()).await;
    let pause = plan.stagger / u32::try_from(plan.workers).unwrap_or(1);
    for place in 0..plan.workers {
        crew.fill(place);
        sim.sleep(pause).await;
    }
}

async fn happen(sim: Handle, crew: Crew, plan: Arc<Plan>) {
    for event in &plan.faults {
        let When::At(at) = event.when else { continue };
        sim.sleep(at.saturating_sub(sim.now())).await;
        if sim.now() < plan.busy {
            crew.happen(event.fault);
        }
    }
}
