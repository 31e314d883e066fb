//! What an operator does to a fleet that runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kcl_core::{
    Admin, Checkpoint, EventKind, KeyForm, Lease, LeaseCounter, LeaseKey, LeaseLost, Removed, Resume, RewindTo,
    SequenceNumber, ShardId, StopReason, TableItem, WorkerId,
};
use sim::fleet::{Fleet, Member, Setup};
use sim::world::Workload;
use sim::{Entry, Event, Handle, seeds};

const SECOND: Duration = Duration::from_secs(1);

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

#[test]
fn a_rewound_shard_is_read_again_from_there_and_its_owner_stops_first() {
    for seed in seeds(20) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(2).build(&sim);
            let workers = ["a", "b"].map(|name| fleet.join(name));
            fleet.write(400, 100);
            fleet.drained(60 * SECOND).await;
            sim.sleep(SECOND * (10 + seed as u32 % 7)).await;
            let [shard, other] = [0, 1].map(|index| lines(&fleet)[index][0].clone());
            let (all, before) = (written(&fleet, &shard), fleet.lease(&shard).expect("there"));
            let cut = fleet.history.entries().len();
            let rewound = admin(&fleet).rewind(&key(&fleet, &shard), RewindTo::After(all[9])).await.expect("rewound");
            assert_eq!((rewound.len(), rewound[0].from), (1, before.checkpoint));
            assert_eq!(rewound[0].owner, before.owner);
            let at = sim.now();
            sim.sleep(30 * SECOND).await;

            let entries = &fleet.history.entries()[cut..];
            assert_eq!(delivered(entries, &shard), all[10..], "seed {seed}");
            assert_eq!(delivered(entries, &other), [], "seed {seed}");
            let config = &fleet.setup.config;
            let again = entries.iter().find(|entry| entry.event == Event::Opened).expect("opened again").at;
            let bound = config.lease_duration + config.observe_every + SECOND / 10;
            assert!(again - at <= bound && again - at >= config.lease_duration, "seed {seed}: {:?}", again - at);
            assert_eq!(workers.iter().map(evicted).sum::<usize>(), 1, "seed {seed}");
            let after = fleet.lease(&shard).expect("there");
            assert_eq!(after.checkpoint, before.checkpoint, "seed {seed}");
            // The rewind, the take, and the renewals of the new owner.
            assert!(after.counter.0 > before.counter.0 + 2 && !after.evicted, "seed {seed}");
        });
    }
}

#[test]
fn a_rewound_parent_is_read_to_its_end_before_what_continues_it_begins_again() {
    for seed in seeds(30) {
        sim::run(seed, |sim| async move {
            // Half of the fleets read slowly and item by item: a scan may show a child as the step left it, and its parent as before.
            let mut setup = Setup { scan_lag: seed as usize % 4 * 3, ..Setup::new(3) };
            if seed % 2 == 0 {
                (setup.scan_page, setup.table_latency) = (1, SECOND / 50..=SECOND / 20);
            }
            let fleet = setup.build(&sim);
            let _workers =
                ["a", "b", "c"][..1 + seed as usize % 3].iter().map(|name| fleet.join(name)).collect::<Vec<_>>();
            for _ in 0..3 {
                fleet.write(150, 50);
                sim.sleep(5 * SECOND).await;
                fleet.service.roll_all(&fleet.stream).expect("there");
            }
            keep_writing(&sim, &fleet, 60 * SECOND);
            sim.sleep(SECOND * (20 + seed as u32 % 11)).await;
            let line = &lines(&fleet)[0];
            let from = &line[seed as usize % 3..];
            let cut = fleet.history.entries().len();
            let rewound = admin(&fleet).rewind(&key(&fleet, &from[0]), RewindTo::TrimHorizon).await.expect("rewound");
            let reset: BTreeSet<_> = rewound.iter().map(|one| one.shard.clone()).collect();
            assert_eq!(reset, from.iter().cloned().collect(), "seed {seed}");
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
                assert_eq!(early, None, "seed {seed}: {} was not finished", pair[0]);
            }
            for shard in from {
                assert_eq!(delivered(replay, shard), written(&fleet, shard), "seed {seed}: {shard}");
            }
            let untouched = lines(&fleet)[1..].concat();
            for shard in untouched {
                let again = delivered(&fleet.history.entries(), &shard);
                assert_eq!(again, written(&fleet, &shard), "seed {seed}: {shard} was delivered once");
            }
            assert_eq!(fleet.losses.all(), [], "seed {seed}");
        });
    }
}

#[test]
fn a_whole_stream_is_read_again_as_far_as_it_goes() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(2).build(&sim);
            let first = fleet.join("a");
            for _ in 0..3 {
                fleet.write(100, 50);
                sim.sleep(5 * SECOND).await;
                fleet.service.roll_all(&fleet.stream).expect("there");
            }
            fleet.write(100, 50);
            fleet.drained(60 * SECOND).await;
            first.stop().await;
            // The oldest are gone, and of one line the next is trimmed in part.
            let lines = lines(&fleet);
            let trimmed = written(&fleet, &lines[1][1]);
            fleet.service.trim(&fleet.stream, &lines[1][1], trimmed[6]).expect("there");
            for line in &lines {
                fleet.service.remove_shard(&fleet.stream, &line[0]).expect("closed");
            }

            let cut = fleet.history.entries().len();
            let rewound = admin(&fleet).rewind_stream(&fleet.stream).await.expect("rewound");
            assert_eq!(rewound.len(), 8, "seed {seed}");
            let b = fleet.join("b");
            sim.sleep(120 * SECOND).await;
            let entries = &fleet.history.entries()[cut..];
            for shard in lines.iter().flatten() {
                let left = match shard {
                    shard if *shard == lines[0][0] || *shard == lines[1][0] => Vec::new(),
                    shard if *shard == lines[1][1] => trimmed[7..].to_vec(),
                    shard => written(&fleet, shard),
                };
                assert_eq!(delivered(entries, shard), left, "seed {seed}: {shard}");
            }
            assert_eq!(fleet.losses.all(), [], "the operator has accepted what is gone");
            let told = b.events.count(|event| matches!(event, EventKind::DataLost { .. }));
            assert_eq!(told, 1, "seed {seed}: it is told all the same");
        });
    }
}

#[test]
fn a_loss_that_an_operator_skips_is_not_asked_about_again_and_the_next_one_is() {
    for vanishes in [false, true] {
        for seed in seeds(10) {
            sim::run(seed, |sim| async move {
                let fleet = Setup::new(1).build(&sim);
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
                let _b = fleet.join("b");
                sim.sleep(60 * SECOND).await;
                let stopped = |fleet: &Fleet| fleet.lease(&shard).expect("there").stop;
                assert!(matches!(stopped(&fleet), Some(StopReason::DataLost { .. })), "seed {seed}");
                assert_eq!(fleet.losses.all().len(), 1, "seed {seed}");

                let admin = admin(&fleet);
                admin.clear_stop(&key(&fleet, &shard), Resume::Retry).await.expect("cleared");
                sim.sleep(60 * SECOND).await;
                assert!(stopped(&fleet).is_some(), "the same loss stops it again");
                assert_eq!(fleet.losses.all().len(), 2, "seed {seed}");
                // More of it is gone by the time that reading goes on.
                if !vanishes {
                    fleet.service.trim(&fleet.stream, &shard, all[70]).expect("there");
                }
                let cut = fleet.history.entries().len();
                admin.clear_stop(&key(&fleet, &shard), Resume::SkipLost).await.expect("cleared");
                sim.sleep(60 * SECOND).await;
                assert_eq!(fleet.losses.all().len(), 2, "seed {seed}: nobody was asked");
                let entries = fleet.history.entries();
                let left = if vanishes { &[][..] } else { &all[71..] };
                assert_eq!(delivered(&entries[cut..], &shard), left, "seed {seed}");
                // The lease of a shard that vanished is deleted once it is finished.
                let done = fleet.lease(&shard).is_none_or(|lease| lease.is_finished() && !lease.loss_accepted);
                assert!(done, "seed {seed}");
                let child = lines(&fleet).into_iter().flatten().find(|id| *id != shard);
                let child = child.unwrap_or_else(|| fleet.service.open_shards(&fleet.stream)[0].clone());
                assert_eq!(delivered(&entries, &child), written(&fleet, &child), "seed {seed}");
            });
        }
    }
}

#[test]
fn a_released_shard_moves_to_the_worker_that_is_named_and_is_read_on() {
    for seed in seeds(20) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(3).build(&sim);
            let mut workers = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(60 * SECOND).await;
            keep_writing(&sim, &fleet, 60 * SECOND);
            workers.sort_by_key(|worker| worker.owned().len());
            let [b, a] = workers;
            let shard = a.owned()[0].clone();
            let to = b.handle().and_then(|handle| handle.status().worker).expect("joined");
            let owner = admin(&fleet).release(&key(&fleet, &shard), Some(&to)).await.expect("released");
            assert!(owner.as_str().parse::<WorkerId>().is_ok_and(|owner| owner != to), "{owner}");
            sim.sleep(13 * SECOND).await;
            assert!(b.owned().contains(&shard), "seed {seed}");
            assert_eq!((evicted(&a), evicted(&b)), (1, 0), "seed {seed}");
            let verdict = fleet.drained(90 * SECOND).await;
            // What was not recorded when it let go.
            assert!(verdict.repeated <= 20 * 5, "seed {seed}: {verdict}");
        });
    }
}

#[test]
fn a_worker_that_an_operator_evicts_gives_its_shards_away_and_comes_back() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(4).build(&sim);
            let [a, b] = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(60 * SECOND).await;
            keep_writing(&sim, &fleet, 120 * SECOND);
            let id = a.handle().and_then(|handle| handle.status().worker).expect("joined");
            admin(&fleet).evict_worker(&id).await.expect("evicted");
            sim.sleep(90 * SECOND).await;
            let now = a.handle().and_then(|handle| handle.status().worker).expect("joined again");
            assert!(now != id && now.name() == "a", "seed {seed}");
            assert_eq!((a.owned().len(), b.owned().len()), (2, 2), "seed {seed}");
            fleet.drained(120 * SECOND).await;
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
