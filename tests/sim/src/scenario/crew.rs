//! The workers of a run, by place, and what faults do to them.

mod heal;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use kcl_core::reference::MemoryReaderRegistry;
use kcl_core::{READER_SLOTS, Report, RunError, StreamViewType, TaskEnd};

use super::fault::{Fault, FaultEvent, Mood, Step, StreamWeather, When};
use super::operator::rewind;
use super::plan::Plan;
use super::player::{Players, Temper};
use super::registry::{Distant, holders, seen_reading};
use super::wire::{Latency, Steps, Wire};
use crate::fleet::{Fleet, Member, Network, Place, Weather};
use crate::rng::below;
use crate::{Handle, Node};

/// How long an orchestrator waits for a worker that it asked to stop, beyond the worker's own limit.
const PATIENCE: Duration = Duration::from_secs(15);

/// The workers. Clones share them.
#[derive(Clone)]
pub(crate) struct Crew {
    inner: Arc<Inner>,
}

struct Inner {
    sim: Handle,
    /// By application; places belong to them in turn.
    fleets: Vec<Fleet>,
    /// Where there are several.
    registry: Option<MemoryReaderRegistry>,
    plan: Arc<Plan>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    places: Vec<Seat>,
    /// Workers beside those of the places: they stood while another took their place.
    twins: Vec<Berth>,
    /// Machines whose workers were told to stop and have not ended yet.
    stopping: Vec<String>,
    /// Faults that wait for a step.
    waiting: Vec<FaultEvent>,
    /// Everybody is away.
    away: bool,
    /// An application that has stopped for good.
    gone: Option<usize>,
}

impl State {
    /// The workers that are there.
    fn berths(&self) -> impl Iterator<Item = &Berth> {
        self.places.iter().filter_map(|seat| seat.berth.as_ref()).chain(&self.twins)
    }
}

#[derive(Default)]
struct Seat {
    name: String,
    /// How many workers were here.
    joined: usize,
    names: usize,
    berth: Option<Berth>,
}

impl Seat {
    /// The name of the worker that comes, and the how manieth it is.
    fn next(&mut self) -> (String, usize) {
        self.joined += 1;
        let name = if self.names == 0 { self.name.clone() } else { format!("{}r{}", self.name, self.names) };
        (name, self.joined)
    }
}

/// A worker that runs.
pub(crate) struct Berth {
    pub(crate) member: Member,
    wire: Wire,
    temper: Temper,
    place: usize,
}

/// Told of the steps of one worker.
struct Lookout {
    crew: Weak<Inner>,
    place: usize,
}

impl Inner {
    /// The application that a place belongs to.
    fn application(&self, place: usize) -> usize {
        place % self.fleets.len()
    }

    /// The first application's fleet: what there is of the stream is the same for all.
    fn fleet(&self) -> &Fleet {
        &self.fleets[0]
    }
}

impl Steps for Lookout {
    fn reached(&self, step: Step) -> bool {
        let Some(inner) = self.crew.upgrade() else { return false };
        let crew = Crew { inner };
        let Some(event) = crew.due(self.place, step) else { return false };
        crew.happen(event.fault.of(self.place));
        true
    }
}

impl Crew {
    pub(crate) fn new(sim: &Handle, fleets: &[Fleet], plan: &Arc<Plan>) -> Self {
        let seat = |place| Seat { name: format!("w{place}"), ..Seat::default() };
        let places = (0..plan.workers).map(seat).collect();
        let waiting = plan.faults.iter().filter(|event| matches!(event.when, When::On(..))).cloned().collect();
        let state = State { places, waiting, ..State::default() };
        let registry = (fleets.len() > 1).then(MemoryReaderRegistry::new);
        let (sim, fleets, plan) = (sim.clone(), fleets.to_vec(), plan.clone());
        Self { inner: Arc::new(Inner { sim, fleets, registry, plan, state: Mutex::new(state) }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self, place: usize, step: Step) -> Option<FaultEvent> {
        let mut state = self.lock();
        if state.waiting.is_empty() {
            return None;
        }
        let now = self.inner.sim.now();
        let due = |event: &FaultEvent| {
            let at = matches!(event.when, When::On(at, from) if at == step && from <= now);
            at && event.fault.worker() == Some(place)
        };
        let found = state.waiting.iter().position(due)?;
        Some(state.waiting.swap_remove(found))
    }

    /// Puts a worker into an empty place.
    pub(crate) fn fill(&self, place: usize) {
        let (name, node, nth) = {
            let application = self.inner.application(place);
            let State { places, twins, away, stopping, gone, .. } = &mut *self.lock();
            let closed = *away || *gone == Some(application);
            let Some(seat) = places.get_mut(place).filter(|seat| seat.berth.is_none() && !closed) else { return };
            let (name, nth) = seat.next();
            // A machine on which an older worker of the name still lives is not to be had.
            let taken = twins.iter().any(|berth| berth.member.node.name() == name) || stopping.contains(&name);
            (name.clone(), if taken { format!("{name}n{nth}") } else { name }, nth)
        };
        let berth = self.berth(place, &name, &self.inner.sim.node(&node), nth);
        self.lock().places[place].berth = Some(berth);
    }

    fn berth(&self, place: usize, name: &str, node: &Node, nth: usize) -> Berth {
        let Inner { sim, plan, registry, fleets, .. } = &*self.inner;
        let (at, fleet) = (place, &fleets[self.inner.application(place)]);
        let lookout = Arc::new(Lookout { crew: Arc::downgrade(&self.inner), place });
        let label = format!("{place}.{nth}");
        if let Some(ppm) = plan.rates.get(place).filter(|_| nth == 1) {
            node.set_rate(*ppm);
        }
        // Who comes after faults have ended finds good ways.
        let latency = if sim.now() < plan.busy { plan.latency } else { Latency::QUICK };
        let wire = Wire::new(sim, &label, latency, lookout);
        let temper = Temper::new(plan, &label, wire.clone());
        let (table, source) = fleet.services();
        let source = match registry.clone() {
            Some(registry) => Arc::new(seen_reading(source, fleet, registry)),
            None => source,
        };
        let registry = registry.as_ref().map(|registry| Distant::reached(registry, &wire, &fleet.watch));
        let told = plan.faults.iter().any(|event| matches!(event.when, When::On(..)));
        let (table, source) = (wire.table(table, told), wire.source(source, fleet, plan.service.blurred));
        let weight = plan.weights.get(place).copied().unwrap_or(plan.config.weight);
        let mut fleet = fleet.clone();
        fleet.setup.config = fleet.setup.config.with_weight(weight);
        let (given, its) = (fleet.clone(), temper.clone());
        let place = Place { node: node.clone(), name, table, source, registry };
        let member = fleet.join_at(place, Network::new(sim, &label), move |rt| Players {
            fleet: given,
            rt: rt.clone(),
            temper: its,
        });
        Berth { member, wire, temper, place: at }
    }

    /// Does something with the worker of a place, if there is one.
    fn with(&self, place: usize, act: impl FnOnce(&Berth)) {
        let state = self.lock();
        if let Some(berth) = state.places.get(place).and_then(|seat| seat.berth.as_ref()) {
            act(berth);
        }
    }

    fn leave(&self, place: usize) -> Option<Berth> {
        self.lock().places.get_mut(place)?.berth.take()
    }

    /// Does `then` after `time`.
    fn after(&self, time: Duration, then: impl FnOnce(&Self) + Send + 'static) {
        let crew = self.clone();
        let _ends = self.inner.sim.spawn("after a fault", async move {
            crew.inner.sim.sleep(time).await;
            then(&crew);
        });
    }

    /// The next worker of the place, after `down`.
    fn replace(&self, place: usize, down: Duration, renamed: bool) {
        self.after(down, move |crew| {
            if renamed && let Some(seat) = crew.lock().places.get_mut(place) {
                seat.names += 1;
            }
            crew.fill(place);
        });
    }

    /// Lets a fault happen, now.
    pub(crate) fn happen(&self, fault: Fault) {
        match fault {
            Fault::Crash { worker, down, renamed } => {
                if let Some(berth) = self.leave(worker) {
                    berth.member.crash();
                    self.replace(worker, down, renamed);
                }
            }
            Fault::Restart { worker, down, renamed } => self.restart(worker, Some((down, renamed)), false),
            Fault::StopNow { worker, down, renamed } => self.restart(worker, Some((down, renamed)), true),
            Fault::Replace { worker, renamed } => {
                self.restart(worker, None, false);
                self.replace(worker, Duration::ZERO, renamed);
            }
            Fault::Twin { worker, frozen } => self.twin(worker, frozen),
            Fault::Freeze { worker, time } => self.with(worker, |berth| berth.member.node.freeze(time)),
            Fault::Suspend { worker, time } => self.with(worker, |berth| berth.member.node.suspend(time)),
            Fault::Block { worker, time } => self.with(worker, |berth| berth.member.node.block_processing(time)),
            Fault::Table { worker, weather, time } => {
                self.for_a_while(
                    worker,
                    time,
                    move |b| b.wire.set_table(weather),
                    |wire, _| {
                        wire.set_table(Weather::default());
                    },
                );
            }
            Fault::Stream { worker, weather, time } => {
                self.for_a_while(
                    worker,
                    time,
                    move |b| b.wire.set_stream(weather),
                    |wire, _| {
                        wire.set_stream(StreamWeather::default());
                    },
                );
            }
            Fault::Mood { worker, mood, time } => {
                self.for_a_while(worker, time, move |b| b.temper.set(mood), |_, temper| temper.set(Mood::Calm));
            }
            Fault::Rate { worker, ppm } => self.with(worker, |berth| berth.member.node.set_rate(ppm)),
            Fault::Wall { worker, ahead } => self.with(worker, |berth| {
                let offset = Duration::from_secs(ahead.unsigned_abs());
                if ahead < 0 {
                    berth.member.node.set_wall_behind(offset)
                } else {
                    berth.member.node.set_wall_ahead(offset)
                }
            }),
            Fault::Outage { time } => self.outage(time),
            Fault::Throttle { op, time } => self.inner.fleet().service.throttle(op, time),
            Fault::Split(which) => self.reshard(which, true),
            Fault::Roll(which) => self.reshard(which, false),
            Fault::RollAll => drop(self.inner.fleet().service.roll_all(&self.inner.fleet().newest_stream())),
            Fault::ExpireIterators => self.inner.fleet().service.expire_iterators(),
            Fault::Unknown { which, time } => self.hide(which, time),
            Fault::Disable => drop(self.inner.fleet().service.disable_stream(&self.inner.fleet().table)),
            Fault::Enable(shards) => {
                let Fleet { service, table, .. } = self.inner.fleet();
                drop(service.enable_stream(table, StreamViewType::NewAndOldImages, shards));
            }
            Fault::Rewind { which, to } => {
                let (sim, fleet) = (self.inner.sim.clone(), self.inner.fleet().clone());
                let _ends = self.inner.sim.spawn("rewind", rewind(sim, fleet, which, to));
            }
        }
    }

    fn for_a_while(
        &self,
        worker: usize,
        time: Duration,
        begin: impl FnOnce(&Berth),
        end: impl FnOnce(&Wire, &Temper) + Send + 'static,
    ) {
        let mut of = None;
        self.with(worker, |berth| {
            begin(berth);
            of = Some((berth.wire.clone(), berth.temper.clone()));
        });
        if let Some((wire, temper)) = of {
            self.after(time, move |_| end(&wire, &temper));
        }
    }

    /// Stops the worker of a place gracefully; then another may come.
    fn restart(&self, place: usize, then: Option<(Duration, bool)>, at_once: bool) {
        let Some(berth) = self.leave(place) else { return };
        let (crew, machine) = (self.clone(), berth.member.node.name().to_owned());
        self.lock().stopping.push(machine.clone());
        let _ends = self.inner.sim.spawn("restart", async move {
            crew.stop(berth, at_once).await;
            crew.lock().stopping.retain(|stopping| *stopping != machine);
            if let Some((down, renamed)) = then {
                crew.replace(place, down, renamed);
            }
        });
    }

    /// Stops a worker and kills it if it does not.
    async fn stop(&self, berth: Berth, at_once: bool) {
        let sim = &self.inner.sim;
        let Some(handle) = berth.member.handle() else { return berth.member.crash() };
        if at_once {
            handle.shutdown_now()
        } else {
            handle.shutdown()
        }
        let (node, main) = (berth.member.node, berth.member.main);
        let boot = node.boots();
        let limit = self.inner.plan.config.shutdown_timeout + self.inner.plan.config.lease_duration + PATIENCE;
        match sim.rt().timeout(limit, main).await {
            Some(ended) => self.ended(&node, boot, ended).await,
            None if node.boots() == boot => node.kill(),
            // Another has its place by now.
            None => {}
        }
    }

    /// A worker has ended in peace, or says why not; it must have left no task behind.
    async fn ended(&self, node: &Node, boot: u32, ended: Result<Result<Report, RunError>, TaskEnd>) {
        let sim = &self.inner.sim;
        if let Ok(Err(error)) = &ended {
            sim.fail(format!("{} ended with {error:?}", node.name()));
        }
        // What the end has woken may run first.
        for _ in 0..3 {
            sim.settle().await;
        }
        // A call that blocks its thread cannot be dropped, and its task not either.
        let left = if node.boots() == boot { node.tasks() } else { Vec::new() };
        if let (Ok(_), Some(task)) = (ended, left.iter().find(|task| !task.held)) {
            sim.fail(format!("a worker has ended and left a task behind: {task}"));
        }
    }

    fn twin(&self, place: usize, frozen: Duration) {
        let Some(berth) = self.leave(place) else { return };
        let (name, nth) = {
            let mut state = self.lock();
            state.places[place].next()
        };
        berth.member.node.freeze(frozen);
        let node = self.inner.sim.node(&format!("{name}t{nth}"));
        let other = self.berth(place, &name, &node, nth);
        let mut state = self.lock();
        state.places[place].berth = Some(other);
        state.twins.push(berth);
    }

    fn outage(&self, time: Duration) {
        let seats = {
            let mut state = self.lock();
            state.away = true;
            state.places.len()
        };
        for place in 0..seats {
            if below(crate::rng::mix(self.inner.plan.seed ^ place as u64), 2) == 0 {
                self.restart(place, None, false);
            } else if let Some(berth) = self.leave(place) {
                berth.member.crash();
            }
        }
        self.after(time, move |crew| {
            crew.lock().away = false;
            (0..seats).for_each(|place| crew.fill(place));
        });
    }

    fn reshard(&self, which: u64, split: bool) {
        let (service, stream) = (&self.inner.fleet().service, &self.inner.fleet().newest_stream());
        let open = service.open_shards(stream);
        let Some(shard) = open.get(below(which, open.len())) else { return };
        let few = open.len() < self.inner.plan.shards * 2 + 2;
        let replaced =
            if split && few { service.split(stream, shard) } else { service.roll(stream, shard).map(|c| vec![c]) };
        if let Err(error) = replaced {
            self.inner.sim.fail(format!("an open shard was not replaced: {error}"));
        }
    }

    fn hide(&self, which: u64, time: Duration) {
        let (service, stream) = (&self.inner.fleet().service, &self.inner.fleet().newest_stream());
        let views = service.shards(stream);
        let listed: Vec<_> = views.iter().filter(|view| !view.vanished).collect();
        if let Some(view) = listed.get(below(which, listed.len())) {
            // One that has just left the stream needs no hiding.
            let _gone = service.make_unknown(stream, &view.shard.id, time).is_err();
        }
    }

    /// Looks at every worker of an application that is there, in order; a place may be empty for now.
    pub(crate) fn each_of(&self, application: usize, mut look: impl FnMut(&mut Member)) -> usize {
        let mut state = self.lock();
        let State { places, twins, .. } = &mut *state;
        let mut empty = 0;
        let of = |place: usize| self.inner.application(place) == application;
        for (_, seat) in places.iter_mut().enumerate().filter(|(place, _)| of(*place)) {
            match &mut seat.berth {
                Some(berth) => look(&mut berth.member),
                None => empty += 1,
            }
        }
        twins.iter_mut().filter(|berth| of(berth.place)).for_each(|berth| look(&mut berth.member));
        empty
    }

    /// The applications that may read now: all, or those that hold the slots.
    ///
    /// # Errors
    /// Some slot is not held by an application that is there.
    pub(crate) fn readers(&self) -> Result<Vec<usize>, String> {
        let Inner { registry, fleets, .. } = &*self.inner;
        let Some(registry) = registry else { return Ok((0..fleets.len()).collect()) };
        let (holders, gone) = (holders(registry, &self.inner.fleet().stream), self.lock().gone);
        let named = |name: &String| fleets.iter().position(|fleet| fleet.setup.application == *name);
        let readers: Vec<usize> = holders.iter().filter_map(named).filter(|reader| Some(*reader) != gone).collect();
        match readers.len() == fleets.len().min(READER_SLOTS) {
            true => Ok(readers),
            false => Err(format!("the slots are those of {holders:?}")),
        }
    }

    /// Stops an application for good.
    pub(crate) async fn stop_application(&self, application: usize) {
        let berths: Vec<Berth> = {
            let mut state = self.lock();
            state.gone = Some(application);
            let State { places, twins, .. } = &mut *state;
            let here = places.iter_mut().filter_map(|seat| {
                let its = seat.berth.as_ref().is_some_and(|berth| self.inner.application(berth.place) == application);
                if its { seat.berth.take() } else { None }
            });
            let mut here: Vec<Berth> = here.collect();
            let (its, others) = std::mem::take(twins)
                .into_iter()
                .partition::<Vec<Berth>, _>(|berth| self.inner.application(berth.place) == application);
            *twins = others;
            here.extend(its);
            here
        };
        futures::future::join_all(berths.into_iter().map(|berth| self.stop(berth, false))).await;
    }

    /// Stops everybody gracefully.
    pub(crate) async fn stop_all(&self) {
        let berths: Vec<Berth> = {
            let mut state = self.lock();
            state.away = true;
            let State { places, twins, .. } = &mut *state;
            places.iter_mut().filter_map(|seat| seat.berth.take()).chain(std::mem::take(twins)).collect()
        };
        futures::future::join_all(berths.into_iter().map(|berth| self.stop(berth, false))).await;
    }
}
