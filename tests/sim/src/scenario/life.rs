//! A run from its beginning to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kcl_core::reference::StreamOptions;
use kcl_core::{Admin, AdminError, Resume, ShardId, StartPosition, TableItem};
use rand::Rng as _;
use serde_dynamo::{AttributeValue, Item};

use super::Scenario;
use super::crew::Crew;
use super::fault::When;
use super::plan::{Plan, Start};
use super::player::PANIC;
use crate::fleet::{Fleet, Setup};
use crate::invariant::{Expect, Sometimes, Watch};
use crate::rng::below;
use crate::world::Conduct;
use crate::{Config, Failure, Handle, Sim, Truth, Verdict, epoch};

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
    watch: Option<Watch>,
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
    let limit = plan.busy * 2 + plan.settles_within() * 3;
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
    let sometimes = told.watch.map(|watch| watch.sometimes()).unwrap_or_default();
    Run { lasted, polls, trace, verdict: told.verdict, sometimes, broken }
}

async fn life(sim: Handle, plan: Arc<Plan>, told: Arc<Mutex<Told>>, aloud: bool) -> Result<(), String> {
    let fleet = setup(&plan).build(&sim);
    if aloud {
        fleet.watch.talk();
    }
    told.lock().unwrap_or_else(PoisonError::into_inner).watch = Some(fleet.watch.clone());
    fleet.write(plan.writes.before, plan.writes.keys);
    let crew = Crew::new(&sim, &fleet, &plan);
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
    let judge = |fleet: &Fleet| fleet.history.judge(&wanted(fleet, &plan, &beginning));
    let until = sim.now() + plan.settles_within();
    let mut steady_since = None;
    let mut seen = 0;
    loop {
        let wrong = unsettled(&sim, &fleet, &crew, &plan)?;
        let wrong = wrong.or_else(|| {
            let verdict = judge(&fleet);
            let complete = verdict.is_complete();
            let text = verdict.to_string();
            told.lock().unwrap_or_else(PoisonError::into_inner).verdict = verdict;
            (!complete).then_some(text)
        });
        match wrong {
            None => {
                let since = *steady_since.get_or_insert(sim.now());
                if sim.now() - since >= plan.config.lease_duration * 2 {
                    break;
                }
            }
            Some(what) if sim.now() > until => {
                return Err(format!("{:?} after the last fault: {what}", sim.now() - plan.busy));
            }
            Some(_) => steady_since = None,
        }
        seen += 1;
        sim.sleep(if seen < 20 { SECOND } else { 5 * SECOND }).await;
    }
    let mut ending = fleet.ending([]);
    ending.truth = wanted(&fleet, &plan, &beginning);
    ending.verdict = fleet.history.judge(&ending.truth);
    crew.each(|member| ending.owned.push((member.node.name().to_owned(), member.owned().len())));
    let expect = Expect {
        tombstones_gone_after: Some(plan.settles_within()),
        even: plan.weights.is_empty(),
        repeats: plan.no_repeats.then_some(0),
        unowned: longest_gap(&plan),
    };
    if let Err(violations) = fleet.watch.check_end(&ending, &expect) {
        let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
        return Err(lines.join("\n"));
    }
    crew.stop_all().await;
    let verdict = judge(&fleet);
    let text = verdict.to_string();
    let (complete, repeated) = (verdict.is_complete(), verdict.repeated);
    told.lock().unwrap_or_else(PoisonError::into_inner).verdict = verdict;
    if !complete {
        return Err(text);
    }
    if plan.no_repeats && repeated > 0 {
        return Err(format!("records were delivered twice, and nothing has failed: {text}"));
    }
    if let Some(lease) = fleet.leases.leases().into_iter().find(|lease| lease.owner.is_some()) {
        return Err(format!("all workers have stopped, and {} still has an owner", lease.shard));
    }
    let losses = fleet.losses.all();
    match losses.first() {
        Some(loss) if plan.scenario != Scenario::Outage => {
            Err(format!("nothing was trimmed, and a loss was reported: {loss}"))
        }
        _ => Ok(()),
    }
}

/// How long a shard may be without a reader where nothing fails and somebody is always there to take it: a lease that was given to a
/// worker that then left is free for all after D.
fn longest_gap(plan: &Plan) -> Option<Duration> {
    let capped = plan.config.max_leases != usize::MAX;
    let bounded = plan.no_repeats && plan.workers >= 3 && !capped;
    bounded.then(|| plan.config.lease_duration + plan.config.observe_every * 2 + SECOND * 5)
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

/// Clears every stop that it sees: of shards that stopped at a record, not at a loss.
async fn operate(sim: Handle, fleet: Fleet, every: Duration) {
    let admin = Admin::new(fleet.services().0, sim.rt());
    loop {
        sim.sleep(every).await;
        for lease in fleet.leases.leases().into_iter().filter(|lease| lease.stop.is_some()) {
            match admin.clear_stop(&lease.key, Resume::Retry).await {
                Ok(_) | Err(AdminError::NotStopped { .. } | AdminError::Contended { .. }) => {}
                Err(error) => sim.fail(format!("the stop of {} was not cleared: {error}", lease.shard)),
            }
        }
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

/// What is not yet as it should be.
fn unsettled(sim: &Handle, fleet: &Fleet, crew: &Crew, plan: &Plan) -> Result<Option<String>, String> {
    let (mut live, mut states) = (BTreeMap::new(), BTreeMap::new());
    let mut early = None;
    let empty = crew.each(|member| {
        if let Some(ended) = member.main.now() {
            early = Some(format!("{:?} has ended by itself: {ended:?}", member.node));
        }
        if let Some(status) = member.handle().map(|handle| handle.status())
            && let Some(worker) = status.worker
        {
            states.extend(status.shards.iter().map(|shard| (shard.shard.clone(), format!("{shard:?}"))));
            let owned: BTreeSet<ShardId> = status.shards.into_iter().map(|shard| shard.shard).collect();
            live.insert(worker.to_string(), owned);
        } else {
            early = early.take().or(Some(String::new()));
        }
    });
    match early {
        Some(what) if !what.is_empty() => return Err(what),
        Some(_) => return Ok(Some("a worker has not begun".to_owned())),
        None if empty > 0 => return Ok(Some(format!("{empty} workers are away at {:?}", sim.now()))),
        None => {}
    }
    let leases = fleet.leases.leases();
    let mut unfinished = 0;
    for lease in leases.iter().filter(|lease| !lease.is_finished()) {
        unfinished += 1;
        let owner = lease.owner.as_ref().map(ToString::to_string);
        let owned = owner.as_ref().and_then(|owner| live.get(owner));
        if !owned.is_some_and(|owned| owned.contains(&lease.shard)) {
            return Ok(Some(format!("{} is not read, its owner is {owner:?}, its stop {:?}", lease.shard, lease.stop)));
        }
    }
    let views = fleet.service.shards(&fleet.stream);
    let closed: BTreeSet<&ShardId> =
        views.iter().filter(|view| view.closed.is_some()).map(|view| &view.shard.id).collect();
    if let Some(lease) = leases.iter().find(|lease| !lease.is_finished() && closed.contains(&lease.shard)) {
        let state = states.get(&lease.shard);
        return Ok(Some(format!("{} is closed and not finished: {state:?}, {lease:?}", lease.shard)));
    }
    let leased: BTreeSet<&ShardId> = leases.iter().map(|lease| &lease.shard).collect();
    if let Some(open) = fleet.service.open_shards(&fleet.stream).iter().find(|shard| !leased.contains(shard)) {
        return Ok(Some(format!("the open shard {open} has no lease")));
    }
    let counts: Vec<usize> = live.values().map(BTreeSet::len).collect();
    let (least, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
    if counts.iter().sum::<usize>() != unfinished {
        return Ok(Some(format!("{unfinished} shards are unfinished, and the workers own {counts:?}")));
    }
    let even = !plan.weights.is_empty() || most <= least + 1;
    Ok((!even).then(|| format!("the shares are uneven: {counts:?}")))
}

/// What had been written, and the shards that were closed.
type Then = (Truth, BTreeSet<ShardId>);

/// What was there when an application that begins with what comes had begun.
#[derive(Debug, Clone, Default)]
struct Beginning {
    found: Arc<Mutex<Option<Then>>>,
}

impl Beginning {
    async fn watch(self, sim: Handle, fleet: Fleet, plan: Arc<Plan>) {
        sim.sleep(plan.start.workers_from()).await;
        loop {
            let views = fleet.service.shards(&fleet.stream);
            let closed = views.into_iter().filter(|view| view.closed.is_some()).map(|view| view.shard.id).collect();
            let now = (fleet.truth(), closed);
            if fleet.leases.snapshot().iter().any(|item| matches!(item, TableItem::Marker(_))) {
                *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                return;
            }
            sim.sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What was written, and of it what the application need not be given.
fn wanted(fleet: &Fleet, plan: &Plan, beginning: &Beginning) -> Truth {
    let mut truth = fleet.truth();
    match plan.start {
        Start::Oldest => {}
        Start::Latest(_) => {
            let found = beginning.found.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((then, closed)) = &*found else { return truth };
            for (shard, before) in &then.shards {
                if let Some(now) = truth.shards.get_mut(shard) {
                    now.optional = before.written.len();
                    now.gone = closed.contains(shard);
                }
            }
        }
        Start::At(at, _) => {
            let from: SystemTime = epoch() + at;
            for (shard, records) in fleet.service.written(&fleet.stream) {
                let old = records.iter().take_while(|record| record.created_at() < Some(from)).count();
                if let Some(shard) = truth.shards.get_mut(&shard) {
                    shard.optional = old;
                }
            }
        }
    }
    if plan.scenario == Scenario::Outage {
        forget_unknown(fleet, &mut truth);
    }
    truth
}

/// Shards that came and went while nobody looked, and whose children did too: nobody can know of them.
fn forget_unknown(fleet: &Fleet, truth: &mut Truth) {
    let views = fleet.service.shards(&fleet.stream);
    let known: BTreeSet<ShardId> = fleet.history.entries().into_iter().map(|entry| entry.shard).collect();
    let here: BTreeSet<&ShardId> = views.iter().filter(|view| !view.vanished).map(|view| &view.shard.id).collect();
    for view in views.iter().filter(|view| view.vanished && !known.contains(&view.shard.id)) {
        // A child that has left the stream too may have been reported as lost; of the shards before it nobody knows.
        let continued = view.children.iter().any(|child| here.contains(child));
        if let Some(shard) = truth.shards.get_mut(&view.shard.id).filter(|_| !continued) {
            (shard.optional, shard.gone) = (shard.written.len(), true);
        }
    }
}
