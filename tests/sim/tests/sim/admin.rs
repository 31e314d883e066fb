//! What an operator does to a fleet that runs, was stopped or has died, in both ways to show life.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kcl_core::{
    Admin, AdminError, Checkpoint, EventKind, KeyForm, Lease, LeaseCounter, LeaseKey, LeaseLost, LeaseState, Liveness,
    Removed, Resume, RewindTo, SequenceNumber, ShardId, StopReason, TableItem, WorkerId,
};
use sim::fleet::{Fleet, Member, Setup};
use sim::world::Workload;
use sim::{Entry, Event, Handle, seeds};

const SECOND: Duration = Duration::from_secs(1);

/// What the fleet does while the operator works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Runs,
    Stopped,
    Crashed,
}

const ANY: [State; 3] = [State::Runs, State::Stopped, State::Crashed];

/// A fleet that an operator finds.
#[derive(Debug, Clone, Copy)]
struct Case {
    mode: Liveness,
    state: State,
    seed: u64,
}

/// So many seeds for each mode and state.
fn cases(states: &[State], count: u64) -> impl Iterator<Item = Case> {
    let modes = [Liveness::PerLease, Liveness::PerWorker].into_iter();
    let both = modes.flat_map(|mode| states.iter().map(move |state| (mode, *state)));
    both.flat_map(move |(mode, state)| seeds(count).map(move |seed| Case { mode, state, seed }))
}

impl Case {
    fn setup(self, shards: usize) -> Setup {
        Setup::new(shards).under(self.mode)
    }

    fn per_worker(self) -> bool {
        self.mode == Liveness::PerWorker
    }

    /// Brings these into the state. Returns those that run on.
    async fn bring(self, workers: impl IntoIterator<Item = Member>) -> Vec<Member> {
        let mut running = Vec::new();
        for worker in workers {
            match self.state {
                State::Runs => running.push(worker),
                State::Stopped => drop(worker.stop().await),
                State::Crashed => worker.crash(),
            }
        }
        running
    }

    /// Where nobody runs, starts a worker.
    fn go_on(self, fleet: &Fleet, running: Vec<Member>) -> Vec<Member> {
        if self.state == State::Runs { running } else { vec![fleet.join("later")] }
    }
}

fn id(worker: &Member) -> WorkerId {
    worker.handle().and_then(|handle| handle.status().worker).expect("joined")
}

fn admin(fleet: &Fleet) -> Admin {
    Admin::new(Arc::new(fleet.leases.clone()), fleet.sim.rt())
}

fn key(fleet: &Fleet, shard: &ShardId) -> LeaseKey {
    LeaseKey::of(KeyForm::Qualified, &fleet.stream, shard)
}

fn written(fleet: &Fleet, shard: &ShardId) -> Vec<SequenceNumber> {
    fleet.truth().shards[shard].written.clone()
}

/// What was delivered of a shard, in order.
fn delivered(entries: &[Entry], shard: &ShardId) -> Vec<SequenceNumber> {
    let of_shard = entries.iter().filter(|entry| entry.shard == *shard);
    let number = |entry: &Entry| if let Event::Delivered(number) = entry.event { Some(number) } else { None };
    of_shard.filter_map(number).collect()
}

/// The shards of a stream, each root with its descendants in a line: no shard of these tests splits.
fn lines(fleet: &Fleet) -> Vec<Vec<ShardId>> {
    let views = fleet.service.shards(&fleet.stream);
    let roots = views.iter().filter(|view| view.shard.parent.is_none()).map(|view| view.shard.id.clone());
    roots
        .map(|root| {
            let mut line = vec![root];
            while let Some(child) = views.iter().find(|view| view.shard.parent.as_ref() == line.last()) {
                line.push(child.shard.id.clone());
            }
            line
        })
        .collect()
}

fn keep_writing(sim: &Handle, fleet: &Fleet, time: Duration) {
    let workload = Workload { keys: 100, every: SECOND / 20, until: sim.now() + time };
    let _writer = workload.start(sim, &fleet.service, &fleet.table);
}

fn evicted(worker: &Member) -> usize {
    worker.events.count(|event| matches!(event, EventKind::LeaseLost { why: LeaseLost::Evicted, .. }))
}

fn rejoined(worker: &Member) -> usize {
    worker.events.count(|event| matches!(event, EventKind::Rejoining { .. }))
}

#[test]
fn a_rewound_shard_is_read_again_from_there_and_its_owner_stops_first() {
    for case in cases(&ANY, 5) {
        sim::run(case.seed, |sim| async move {
            let fleet = case.setup(2).build(&sim);
            let workers = ["a", "b"].map(|name| fleet.join(name));
            fleet.write(400, 100);
            fleet.drained(60 * SECOND).await;
            sim.sleep(SECOND * (10 + case.seed as u32 % 7)).await;
            let workers = case.bring(workers).await;
            let [shard, other] = [0, 1].map(|index| lines(&fleet)[index][0].clone());
            let (all, before) = (written(&fleet, &shard), fleet.lease(&shard).expect("there"));
            let cut = fleet.history.entries().len();
            let rewound = admin(&fleet).rewind(&key(&fleet, &shard), RewindTo::After(all[9])).await.expect("rewound");
            assert_eq!((rewound.len(), rewound[0].from), (1, before.checkpoint));
            assert_eq!((&rewound[0].owner, before.owner.is_some()), (&before.owner, case.state != State::Stopped));
            let at = sim.now();
            let workers = case.go_on(&fleet, workers);
            sim.sleep(40 * SECOND).await;

            let entries = &fleet.history.entries()[cut..];
            assert_eq!(delivered(entries, &shard), all[10..], "{case:?}");
            assert_eq!(delivered(entries, &other), [], "{case:?}");
            let after = fleet.lease(&shard).expect("there");
            assert_eq!(after.checkpoint, before.checkpoint, "{case:?}");
            // The rewind, and the take.
            assert!(after.counter.0 >= before.counter.0 + 2 && !after.evicted, "{case:?}");
            if case.state == State::Runs {
                let config = &fleet.setup.config;
                let again = entries.iter().find(|e| e.shard == shard && e.event == Event::Opened).expect("again").at;
                let bound = config.lease_duration + config.observe_every + SECOND / 10;
                assert!(again - at <= bound, "{case:?}: {:?}", again - at);
                assert!(case.per_worker() || again - at >= config.lease_duration, "{case:?}: {:?}", again - at);
                assert_eq!(workers.iter().map(rejoined).sum::<usize>(), usize::from(case.per_worker()), "{case:?}");
                assert!(case.per_worker() || workers.iter().map(evicted).sum::<usize>() == 1, "{case:?}");
            }
        });
    }
}

#[test]
fn a_rewound_parent_is_read_to_its_end_before_what_continues_it_begins_again() {
    for case in cases(&ANY, 8) {
        sim::run(case.seed, |sim| async move {
            let seed = case.seed;
            // Half of the fleets read slowly and item by item: a scan may show a child as the step left it, and its parent as before.
            let mut setup = Setup { scan_lag: seed as usize % 4 * 3, ..case.setup(3) };
            if seed % 2 == 0 {
                (setup.scan_page, setup.table_latency) = (1, SECOND / 50..=SECOND / 20);
            }
            let fleet = setup.build(&sim);
            let workers =
                ["a", "b", "c"][..1 + seed as usize % 3].iter().map(|name| fleet.join(name)).collect::<Vec<_>>();
            for _ in 0..3 {
                fleet.write(150, 50);
                sim.sleep(5 * SECOND).await;
                fleet.service.roll_all(&fleet.stream).expect("there");
            }
            keep_writing(&sim, &fleet, 60 * SECOND);
            sim.sleep(SECOND * (20 + seed as u32 % 11)).await;
            let workers = case.bring(workers).await;
            let line = &lines(&fleet)[0];
            let from = &line[seed as usize % 3..];
            let cut = fleet.history.entries().len();
            let rewound = admin(&fleet).rewind(&key(&fleet, &from[0]), RewindTo::TrimHorizon).await.expect("rewound");
            let reset: BTreeSet<_> = rewound.iter().map(|one| one.shard.clone()).collect();
            assert_eq!(reset, from.iter().cloned().collect(), "{case:?}");
            let _workers = case.go_on(&fleet, workers);
            sim.sleep(120 * SECOND).await;

            let entries = &fleet.history.entries()[cut..];
            let first = |shard: &ShardId| entries.iter().position(|e| e.shard == *shard && e.event == Event::Opened);
            // What the last owner of the youngest still had comes before its end, and nothing after that until its turn.
            let begins = first(&from[0]).expect("opened again");
            let replay = &entries[begins..];
            for pair in from.windows(2) {
                let ended =
                    |entry: &Entry| entry.event == Event::Recorded(Checkpoint::ShardEnd) && entry.shard == pair[0];
                let ended = replay.iter().position(ended).expect("finished again");
                let is_read = |entry: &Entry| matches!(entry.event, Event::Delivered(_) | Event::Opened);
                let early = replay[..ended].iter().find(|entry| entry.shard == pair[1] && is_read(entry));
                assert_eq!(early, None, "{case:?}: {} was not finished", pair[0]);
            }
            for shard in from {
                assert_eq!(delivered(replay, shard), written(&fleet, shard), "{case:?}: {shard}");
            }
            // A worker that dies or is evicted may leave records behind that were not recorded.
            let once = case.state == State::Stopped || (case.state == State::Runs && !case.per_worker());
            for shard in lines(&fleet)[1..].concat() {
                let mut again = delivered(&fleet.history.entries(), &shard);
                if !once {
                    again = again.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
                }
                assert_eq!(again, written(&fleet, &shard), "{case:?}: {shard}");
            }
            assert_eq!(fleet.losses.all(), [], "{case:?}");
        });
    }
}

#[test]
fn a_whole_stream_is_read_again_as_far_as_it_goes() {
    for case in cases(&ANY, 4) {
        sim::run(case.seed, |sim| async move {
            let fleet = case.setup(2).build(&sim);
            let first = fleet.join("a");
            for _ in 0..3 {
                fleet.write(100, 50);
                sim.sleep(5 * SECOND).await;
                fleet.service.roll_all(&fleet.stream).expect("there");
            }
            fleet.write(100, 50);
            fleet.drained(60 * SECOND).await;
            sim.sleep(5 * SECOND).await;
            let workers = case.bring([first]).await;
            // The oldest are gone, and of one line the next is trimmed in part.
            let lines = lines(&fleet);
            let trimmed = written(&fleet, &lines[1][1]);
            fleet.service.trim(&fleet.stream, &lines[1][1], trimmed[6]).expect("there");
            for line in &lines {
                fleet.service.remove_shard(&fleet.stream, &line[0]).expect("closed");
            }

            let cut = fleet.history.entries().len();
            let rewound = admin(&fleet).rewind_stream(&fleet.stream).await.expect("rewound");
            assert_eq!(rewound.len(), 8, "{case:?}");
            let workers = case.go_on(&fleet, workers);
            sim.sleep(120 * SECOND).await;
            let entries = &fleet.history.entries()[cut..];
            for shard in lines.iter().flatten() {
                let left = match shard {
                    shard if *shard == lines[0][0] || *shard == lines[1][0] => Vec::new(),
                    shard if *shard == lines[1][1] => trimmed[7..].to_vec(),
                    shard => written(&fleet, shard),
                };
                assert_eq!(delivered(entries, shard), left, "{case:?}: {shard}");
            }
            assert_eq!(fleet.losses.all(), [], "the operator has accepted what is gone");
            let told = workers[0].events.count(|event| matches!(event, EventKind::DataLost { .. }));
            assert_eq!(told, 1, "{case:?}: it is told all the same");
        });
    }
}

#[test]
fn a_loss_that_an_operator_skips_is_not_asked_about_again_and_the_next_one_is() {
    for vanishes in [false, true] {
        for case in cases(&ANY, 3) {
            sim::run(case.seed, |sim| async move {
                let fleet = case.setup(1).build(&sim);
                fleet.write(40, 10);
                let a = fleet.join("a");
                fleet.drained(30 * SECOND).await;
                sim.sleep(10 * SECOND).await;
                a.stop().await;
                let shard = lines(&fleet)[0][0].clone();
                fleet.write(40, 10);
                let all = written(&fleet, &shard);
                fleet.service.roll_all(&fleet.stream).expect("there");
                fleet.write(40, 10);
                if vanishes {
                    fleet.service.remove_shard(&fleet.stream, &shard).expect("closed");
                } else {
                    fleet.service.trim(&fleet.stream, &shard, all[60]).expect("there");
                }
                let b = fleet.join("b");
                sim.sleep(60 * SECOND).await;
                let stopped = |fleet: &Fleet| fleet.lease(&shard).expect("there").stop;
                assert!(matches!(stopped(&fleet), Some(StopReason::DataLost { .. })), "{case:?}");
                assert_eq!(fleet.losses.all().len(), 1, "{case:?}");

                let workers = case.bring([b]).await;
                let admin = admin(&fleet);
                admin.clear_stop(&key(&fleet, &shard), Resume::Retry).await.expect("cleared");
                let workers = case.go_on(&fleet, workers);
                sim.sleep(60 * SECOND).await;
                assert!(stopped(&fleet).is_some(), "the same loss stops it again");
                assert_eq!(fleet.losses.all().len(), 2, "{case:?}");
                // More of it is gone by the time that reading goes on.
                if !vanishes {
                    fleet.service.trim(&fleet.stream, &shard, all[70]).expect("there");
                }
                let workers = case.bring(workers).await;
                let cut = fleet.history.entries().len();
                admin.clear_stop(&key(&fleet, &shard), Resume::SkipLost).await.expect("cleared");
                let _workers = case.go_on(&fleet, workers);
                sim.sleep(60 * SECOND).await;
                assert_eq!(fleet.losses.all().len(), 2, "{case:?}: nobody was asked");
                let entries = fleet.history.entries();
                let left = if vanishes { &[][..] } else { &all[71..] };
                assert_eq!(delivered(&entries[cut..], &shard), left, "{case:?}");
                // The lease of a shard that vanished is deleted once it is finished.
                let done = fleet.lease(&shard).is_none_or(|lease| lease.is_finished() && !lease.loss_accepted);
                assert!(done, "{case:?}");
                let child = lines(&fleet).into_iter().flatten().find(|id| *id != shard);
                let child = child.unwrap_or_else(|| fleet.service.open_shards(&fleet.stream)[0].clone());
                assert_eq!(delivered(&entries, &child), written(&fleet, &child), "{case:?}");
            });
        }
    }
}

#[test]
fn a_released_shard_moves_to_the_worker_that_is_named_and_is_read_on() {
    for case in cases(&ANY, 8) {
        sim::run(case.seed, |sim| async move {
            let fleet = case.setup(3).build(&sim);
            let mut workers = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(60 * SECOND).await;
            keep_writing(&sim, &fleet, 60 * SECOND);
            workers.sort_by_key(|worker| worker.owned().len());
            let [b, a] = workers;
            let (shard, to, from) = (a.owned()[0].clone(), id(&b), id(&a));
            let running = case.bring([a]).await;
            // What was handed over is taken.
            sim.sleep(SECOND * u32::from(case.state == State::Stopped)).await;
            let owner = admin(&fleet).release(&key(&fleet, &shard), Some(&to)).await.expect("released");
            // Who stops has handed it over already.
            let owned_by = if case.state == State::Stopped { &to } else { &from };
            assert_eq!(owner, owned_by.owner(), "{case:?}");
            sim.sleep(13 * SECOND).await;
            assert!(b.owned().contains(&shard), "{case:?}");
            for a in running {
                assert_eq!((rejoined(&a), rejoined(&b)), (usize::from(case.per_worker()), 0), "{case:?}");
                assert!(case.per_worker() || (evicted(&a), evicted(&b)) == (1, 0), "{case:?}");
            }
            let again = admin(&fleet).release(&key(&fleet, &shard), Some(&to)).await.expect("it has it");
            assert_eq!(again, to.owner(), "{case:?}");
            let verdict = fleet.drained(90 * SECOND).await;
            // What was not recorded when it let go.
            assert!(verdict.repeated <= 20 * 5, "{case:?}: {verdict}");
            assert!(case.state != State::Stopped || verdict.repeated == 0, "{case:?}: {verdict}");
        });
    }
}

#[test]
fn a_worker_that_an_operator_evicts_gives_its_shards_away_and_comes_back() {
    for case in cases(&ANY, 4) {
        sim::run(case.seed, |sim| async move {
            let fleet = case.setup(4).build(&sim);
            let [a, b] = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(60 * SECOND).await;
            keep_writing(&sim, &fleet, 120 * SECOND);
            let before = id(&a);
            let running = case.bring([a]).await;
            let evicted = admin(&fleet).evict_worker(&before).await;
            sim.sleep(90 * SECOND).await;
            match case.state {
                State::Runs => {
                    evicted.expect("evicted");
                    let a = &running[0];
                    assert!(id(a) != before && id(a).name() == "a", "{case:?}");
                    assert_eq!((a.owned().len(), b.owned().len()), (2, 2), "{case:?}");
                }
                State::Stopped => assert!(matches!(evicted, Err(AdminError::NoWorker { .. })), "{case:?}: {evicted:?}"),
                State::Crashed => evicted.expect("evicted"),
            }
            assert!(case.state == State::Runs || b.owned().len() == 4, "{case:?}");
            fleet.drained(120 * SECOND).await;
        });
    }
}

#[test]
fn a_list_shows_who_owns_what_whether_the_fleet_runs_or_not() {
    for case in cases(&ANY, 2) {
        sim::run(case.seed, |sim| async move {
            let fleet = case.setup(4).build(&sim);
            let workers = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(60 * SECOND).await;
            let _workers = case.bring(workers).await;
            let view = admin(&fleet).list().await.expect("read");
            let (state, workers) = match case.state {
                State::Stopped => (LeaseState::Free, 0),
                State::Runs | State::Crashed => (LeaseState::Owned, 2),
            };
            assert!(view.leases.iter().all(|lease| lease.state == state), "{case:?}: {:?}", view.leases);
            assert_eq!((view.leases.len(), view.workers.len()), (4, workers), "{case:?}");
            assert!(view.workers.iter().all(|worker| worker.state == "live" && worker.leases == 2), "{case:?}");
        });
    }
}

#[test]
fn a_table_that_was_cleared_of_what_is_ours_is_read_on_where_it_was_left() {
    for case in cases(&ANY, 4) {
        sim::run(case.seed, |sim| async move {
            let fleet = case.setup(4).build(&sim);
            let workers = ["a", "b"].map(|name| fleet.join(name));
            fleet.write(200, 100);
            sim.sleep(60 * SECOND).await;
            let workers = case.bring(workers).await;
            let removed = admin(&fleet).remove_ours(10 * SECOND).await;
            if case.state == State::Runs {
                assert!(matches!(removed, Err(AdminError::FleetLives { .. })), "{case:?}: {removed:?}");
                fleet.write(200, 100);
                assert_eq!(fleet.drained(20 * SECOND).await.repeated, 0, "{case:?}");
                return drop(workers);
            }
            let removed = removed.expect("removed");
            assert_eq!((removed.markers, removed.meta), (1, true), "{case:?}");
            let leases = fleet.leases.leases();
            assert!(
                leases.len() == 4 && leases.iter().all(|l| !l.has_own_attributes() && l.owner.is_none()),
                "{case:?}"
            );
            assert_eq!(fleet.leases.snapshot().len(), 4, "{case:?}: nothing but the leases");
            fleet.write(200, 100);
            // The table is marked anew, as what another library might have left.
            let mut fleet = fleet.clone();
            fleet.setup = fleet.setup.clone().under(Liveness::PerLease);
            let _c = fleet.join("c");
            assert_eq!(fleet.drained(40 * SECOND).await.repeated, 0, "{case:?}");
        });
    }
}

#[test]
fn a_java_table_comes_back_from_this_library_as_java_would_have_left_it() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(2).build(&sim);
            fleet.write(200, 100);
            let roots: Vec<ShardId> = lines(&fleet).concat();
            for (n, shard) in roots.iter().enumerate() {
                let at = written(&fleet, shard)[10 * n + 5];
                let key: LeaseKey = shard.as_str().parse().expect("a bare key");
                let mut lease = Lease::new(key, shard.clone(), LeaseCounter(300), Checkpoint::Sequence(at));
                lease.owner = Some("java-worker".parse().expect("an owner"));
                fleet.leases.put_lease(lease);
                fleet.leases.put_attribute(shard.as_str(), "throughputKBps", "0.0");
            }
            fleet.leases.put_foreign("Leader", "it is of the entity type LEADER");
            let [a, b] = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(30 * SECOND).await;
            fleet.service.roll_all(&fleet.stream).expect("there");
            fleet.write(200, 100);
            sim.sleep(20 * SECOND).await;
            let admin = admin(&fleet);
            admin.remove_ours(10 * SECOND).await.expect_err("the fleet lives");
            a.stop().await;
            if seed % 2 == 0 {
                b.stop().await;
            } else {
                b.crash();
            }
            let removed = admin.remove_ours(10 * SECOND).await.expect("removed");
            assert_eq!((removed.markers, removed.meta), (1, true), "seed {seed}");
            let (mut others, mut leases) = (0, 0);
            for item in fleet.leases.snapshot() {
                let TableItem::Lease(lease) = item else {
                    others += 1;
                    continue;
                };
                leases += 1;
                assert!(!lease.has_own_attributes() && lease.owner.is_none() && !lease.key.is_qualified());
                let root = roots.contains(&lease.shard);
                assert_eq!((lease.is_finished(), lease.children.len()), (root, usize::from(root)), "seed {seed}");
                assert_eq!(lease.parents.len(), usize::from(!root));
                let kept = fleet.leases.attributes(lease.key.as_str());
                assert_eq!(kept.contains_key("throughputKBps"), root, "what Java added stays");
            }
            assert_eq!((leases, others), (4, 1), "seed {seed}");
            assert_eq!(admin.remove_ours(SECOND).await.expect("nothing to do"), Removed::default());
            // And there again.
            let c = fleet.join("c");
            sim.sleep(30 * SECOND).await;
            let children = fleet.service.open_shards(&fleet.stream);
            for shard in &children {
                let times = delivered(&fleet.history.entries(), shard);
                let all = written(&fleet, shard);
                assert_eq!(times.iter().collect::<BTreeSet<_>>().len(), all.len(), "seed {seed}");
                assert!(seed % 2 == 1 || times.len() == all.len(), "seed {seed}: nothing twice");
            }
            assert_eq!(c.owned().len(), 2);
        });
    }
}
