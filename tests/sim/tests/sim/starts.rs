//! Where an application begins, and what it still gets when it comes back late.

use std::time::Duration;

use kcl_core::reference::Visibility;
use kcl_core::{LeaseTable as _, LeaseWrite, LossCause, LossDecision, LostUntil, StartPosition, TableItem};
use sim::fleet::{Fleet, Setup};
use sim::world::{Resharding, Workload};
use sim::{Event, Handle, Truth, seeds};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn activity(sim: &Handle, fleet: &Fleet, until: Duration) {
    let _writer = Workload { keys: 100, every: SECOND / 10, until }.start(sim, &fleet.service, &fleet.table);
    let resharding = Resharding { every: 4 * SECOND, max_open: 6, until };
    let _resharding = resharding.start(sim, &fleet.service, &fleet.stream);
}

/// What was written, of which nothing is wanted that had been written at `then`.
fn wanted_since(fleet: &Fleet, then: &Truth, closed: &[kcl_core::ShardId]) -> Truth {
    let mut truth = fleet.truth();
    for (shard, before) in &then.shards {
        let now = truth.shards.get_mut(shard).expect("still known");
        now.optional = before.written.len();
        now.gone = closed.contains(shard);
    }
    truth
}

fn has_begun(fleet: &Fleet) -> bool {
    fleet.leases.snapshot().iter().any(|item| matches!(item, TableItem::Marker(_)))
}

fn closed(fleet: &Fleet) -> Vec<kcl_core::ShardId> {
    let views = fleet.service.shards(&fleet.stream);
    views.into_iter().filter(|view| view.closed.is_some()).map(|view| view.shard.id).collect()
}

#[test]
fn from_latest_nothing_written_after_the_beginning_is_lost_while_shards_roll() {
    for seed in seeds(40) {
        sim::run(seed, |sim| async move {
            let late = |n: u64| Duration::from_millis(seed.wrapping_mul(n) % 4000);
            let mut setup = Setup { start: StartPosition::Latest, ..Setup::new(2) };
            setup.options.visibility =
                Visibility { child_after: late(977), closing_after: late(1511), readable_after: late(2963) };
            let fleet = setup.build(&sim);
            activity(&sim, &fleet, 300 * SECOND);
            sim.sleep(200 * SECOND).await;
            let a = fleet.join("a");
            let _b = fleet.join("b");
            while !has_begun(&fleet) {
                sim.sleep(SECOND / 100).await;
            }
            let (then, closed_then, t0) = (fleet.truth(), closed(&fleet), sim.now());
            // One that fixed or found the beginning dies at some time, one comes later; all agree.
            sim.sleep(late(3001)).await;
            a.crash();
            sim.sleep(10 * SECOND).await;
            let _c = fleet.join("c");
            sim.sleep(100 * SECOND).await;
            let truth = wanted_since(&fleet, &then, &closed_then);
            let verdict = fleet.history.judge(&truth);
            assert!(verdict.is_complete(), "seed {seed}, T0 {t0:?}: {verdict}");
            assert_eq!(fleet.losses.all(), [], "seed {seed}");
            // Some written shortly before may come; not those of the first two minutes.
            let old = old_deliveries(&fleet, t0 - 65 * SECOND);
            assert_eq!(old, 0, "seed {seed}: delivered from long before T0");
        });
    }
}

#[test]
fn a_beginning_that_was_cut_short_is_completed_by_another_from_the_same_instant() {
    for seed in seeds(40) {
        sim::run(seed, |sim| async move {
            let start = if seed % 2 == 0 { StartPosition::Latest } else { StartPosition::TrimHorizon };
            let table_latency = SECOND / 20..=SECOND / 4;
            let mut setup = Setup { start, table_latency, ..Setup::new(3) };
            setup.options.visibility.child_after = Duration::from_millis(seed * 97 % 3000);
            let fleet = setup.build(&sim);
            activity(&sim, &fleet, 150 * SECOND);
            sim.sleep(100 * SECOND).await;
            let a = fleet.join("a");
            let dies = sim.now() + Duration::from_millis(300 + seed * 151 % 2500);
            while !has_begun(&fleet) && sim.now() < dies {
                sim.sleep(SECOND / 100).await;
            }
            let (mut then, mut closed_then) = (fleet.truth(), closed(&fleet));
            let begun = has_begun(&fleet);
            sim.sleep(dies.saturating_sub(sim.now())).await;
            a.crash();
            sim.sleep(3 * SECOND).await;
            let _b = fleet.join("b");
            while !begun && !has_begun(&fleet) {
                sim.sleep(SECOND / 100).await;
                (then, closed_then) = (fleet.truth(), closed(&fleet));
            }
            sim.sleep(120 * SECOND).await;
            let truth = match start {
                StartPosition::Latest => wanted_since(&fleet, &then, &closed_then),
                _ => fleet.truth(),
            };
            let verdict = fleet.history.judge(&truth);
            assert!(verdict.is_complete(), "seed {seed}: {verdict}");
            assert_eq!(fleet.losses.all(), [], "seed {seed}");
        });
    }
}

/// How many deliveries were of records stamped before `at`.
fn old_deliveries(fleet: &Fleet, at: Duration) -> usize {
    let limit = sim::epoch() + at;
    let written = fleet.service.written(&fleet.stream);
    let of_shard = |(shard, records): &(kcl_core::ShardId, Vec<kcl_core::Record>)| {
        let old = records.iter().filter(|record| record.created_at() < Some(limit));
        old.map(|record| (shard.clone(), record.sequence_number())).collect::<Vec<_>>()
    };
    let old: std::collections::BTreeSet<_> = written.iter().flat_map(of_shard).collect();
    let is_old =
        |entry: &&sim::Entry| matches!(entry.event, Event::Delivered(n) if old.contains(&(entry.shard.clone(), n)));
    fleet.history.entries().iter().filter(is_old).count()
}

#[test]
fn from_a_timestamp_nothing_stamped_at_or_after_it_is_lost() {
    for seed in seeds(20) {
        sim::run(seed, |sim| async move {
            let at = 150 * SECOND;
            let setup = Setup { start: StartPosition::AtTimestamp(sim::epoch() + at), ..Setup::new(2) };
            let fleet = setup.build(&sim);
            activity(&sim, &fleet, 300 * SECOND);
            sim.sleep(at).await;
            let (then, closed_then) = (fleet.truth(), closed(&fleet));
            sim.sleep(60 * SECOND).await;
            let _workers = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(120 * SECOND).await;
            let truth = wanted_since(&fleet, &then, &closed_then);
            let verdict = fleet.history.judge(&truth);
            assert!(verdict.is_complete(), "seed {seed}: {verdict}");
            assert_eq!(old_deliveries(&fleet, at - 65 * SECOND), 0, "seed {seed}");
        });
    }
}

#[test]
fn from_latest_a_processor_that_fails_on_the_first_record_is_not_given_the_past() {
    sim::run(1, |sim| async move {
        sim.allow_panics("provoked");
        let fleet = Setup { start: StartPosition::Latest, ..Setup::new(1) }.build(&sim);
        fleet.write(50, 50);
        sim.sleep(300 * SECOND).await;
        let first = std::sync::atomic::AtomicBool::new(true);
        let panics = std::sync::Arc::new(move |_| -> futures::future::BoxFuture<'static, _> {
            let first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
            Box::pin(async move {
                assert!(!first, "provoked");
                Ok(())
            })
        });
        let _a = fleet.join_scripted("a", panics);
        sim.sleep(10 * SECOND).await;
        fleet.write(5, 50);
        sim.sleep(10 * SECOND).await;
        assert_eq!(old_deliveries(&fleet, 200 * SECOND), 0);
        let delivered = fleet.history.entries().iter().filter(|e| matches!(e.event, Event::Delivered(_))).count();
        assert_eq!(delivered, 10);
    });
}

#[test]
fn from_latest_an_iterator_that_expires_before_the_first_record_does_not_bring_the_past() {
    sim::run(2, |sim| async move {
        let fleet = Setup { start: StartPosition::Latest, ..Setup::new(1) }.build(&sim);
        fleet.write(50, 50);
        sim.sleep(300 * SECOND).await;
        let _a = fleet.join("a");
        sim.sleep(10 * SECOND).await;
        fleet.service.expire_iterators();
        sim.sleep(10 * SECOND).await;
        fleet.write(5, 50);
        sim.sleep(10 * SECOND).await;
        assert_eq!(old_deliveries(&fleet, 200 * SECOND), 0);
        let delivered = fleet.history.entries().iter().filter(|e| matches!(e.event, Event::Delivered(_))).count();
        assert_eq!(delivered, 5);
    });
}

/// A fleet that read for a while, then was down for 26 hours while the table was written to and its shards rolled.
async fn back_after_26_hours(sim: &Handle, losses: LossDecision) -> Fleet {
    let mut setup = Setup { losses, ..Setup::new(2) };
    setup.options.roll_every = Some(4 * HOUR);
    let fleet = setup.build(sim);
    let a = fleet.join("a");
    let until = 30 * HOUR;
    let _writer = Workload { keys: 100, every: 20 * SECOND, until }.start(sim, &fleet.service, &fleet.table);
    sim.sleep(2 * HOUR).await;
    a.crash();
    sim.sleep(26 * HOUR).await;
    fleet
}

#[test]
fn after_26_hours_what_was_lost_is_reported_and_the_rest_is_delivered_in_order() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = back_after_26_hours(&sim, LossDecision::Continue).await;
            let checkpoints = fleet.leases.leases();
            assert_eq!(checkpoints.len(), 2);
            let views = fleet.service.shards(&fleet.stream);
            let _workers = ["b", "c"].map(|name| fleet.join(name));
            sim.sleep(3 * HOUR).await;
            let losses = fleet.losses.all();
            // Of each half-read shard everything after its checkpoint.
            for lease in &checkpoints {
                let loss = losses.iter().find(|loss| loss.shard.shard == lease.shard).expect("reported");
                assert_eq!(loss.after, lease.checkpoint.sequence(), "seed {seed}: {loss}");
                let vanished = views.iter().any(|view| view.shard.id == lease.shard && view.vanished);
                if vanished {
                    assert_eq!((loss.until, loss.cause), (LostUntil::ShardEnd, LossCause::ShardVanished));
                }
            }
            // Shards that nobody can know of any more: they and their children left the stream meanwhile.
            let mut truth = fleet.truth();
            for view in &views {
                let reported = losses.iter().any(|loss| loss.shard.shard == view.shard.id);
                let leased = checkpoints.iter().any(|lease| lease.shard == view.shard.id);
                if view.vanished && !reported && !leased {
                    let children = &view.children;
                    let known = |child| views.iter().any(|view| view.shard.id == child && !view.vanished);
                    assert!(!children.iter().cloned().any(known), "seed {seed}: {} was not reported", view.shard.id);
                    let shard = truth.shards.get_mut(&view.shard.id).expect("known");
                    (shard.optional, shard.gone) = (shard.written.len(), true);
                }
            }
            let verdict = fleet.history.judge(&truth);
            assert!(verdict.is_complete(), "seed {seed}: {verdict}\n{losses:#?}");
        });
    }
}

#[test]
fn a_shard_that_lost_records_is_stopped_with_its_descendants_until_the_stop_is_cleared() {
    for seed in seeds(5) {
        sim::run(seed, |sim| async move {
            let mut fleet = back_after_26_hours(&sim, LossDecision::StopShard).await;
            let (before, back) = (fleet.history.entries().len(), sim.now());
            let b = fleet.join("b");
            sim.sleep(HOUR).await;
            let delivered = fleet.history.entries()[before..].iter().any(|e| matches!(e.event, Event::Delivered(_)));
            assert!(!delivered, "seed {seed}: delivered after {back:?}");
            let leases = fleet.leases.leases();
            assert!(leases.iter().all(|lease| lease.stop.is_some() && lease.owner.is_none()), "seed {seed}");
            b.stop().await;
            for lease in leases {
                fleet.leases.write(&lease.key, &lease.guard(), &LeaseWrite::clear_stop()).await.expect("unchanged");
            }
            fleet = fleet.deciding(LossDecision::Continue);
            let _c = fleet.join("c");
            sim.sleep(2 * HOUR).await;
            let open = fleet.service.open_shards(&fleet.stream);
            let last = fleet.truth().shards[&open[0]].written.last().copied();
            assert_eq!(fleet.lease(&open[0]).expect("leased").checkpoint.sequence(), last, "seed {seed}");
        });
    }
}

#[test]
fn an_open_shard_that_was_trimmed_empty_reports_what_is_lost_by_now_and_goes_on() {
    sim::run(3, |sim| async move {
        let fleet = Setup { losses: LossDecision::Continue, ..Setup::new(1) }.build(&sim);
        let a = fleet.join("a");
        fleet.write(50, 50);
        sim.sleep(10 * SECOND).await;
        a.stop().await;
        fleet.write(50, 50);
        let shard = fleet.service.open_shards(&fleet.stream)[0].clone();
        fleet.service.trim_all(&fleet.stream, &shard).expect("there");
        let _b = fleet.join("b");
        sim.sleep(20 * SECOND).await;
        fleet.write(50, 50);
        let verdict = fleet.drained(10 * SECOND).await;
        assert_eq!((verdict.delivered, verdict.repeated), (100, 0));
        let losses = fleet.losses.all();
        let after = fleet.truth().shards[&shard].written[49];
        assert_eq!(losses.len(), 1);
        assert_eq!(
            (losses[0].after, losses[0].until, losses[0].cause),
            (Some(after), LostUntil::Now, LossCause::Trimmed)
        );
    });
}

#[test]
fn records_trimmed_under_a_slow_reader_are_reported_exactly() {
    for seed in seeds(20) {
        sim::run(seed, |sim| async move {
            let conduct = sim::world::Conduct { per_batch: 3 * SECOND, ..Default::default() };
            let mut setup = Setup { losses: LossDecision::Continue, conduct, ..Setup::new(1) };
            setup.options.page_records = 10;
            let fleet = setup.build(&sim);
            fleet.write(200, 200);
            let _a = fleet.join("a");
            sim.sleep(10 * SECOND + SECOND * (seed as u32 % 20)).await;
            let shard = fleet.service.open_shards(&fleet.stream)[0].clone();
            let numbers = fleet.truth().shards[&shard].written.clone();
            let through = numbers[(150 + seed % 50) as usize];
            fleet.service.trim(&fleet.stream, &shard, through).expect("there");
            fleet.write(20, 20);
            let verdict = fleet.drained(100 * SECOND).await;
            assert_eq!(verdict.repeated, 0, "seed {seed}: {verdict}");
            let losses = fleet.losses.all();
            assert_eq!(losses.len(), 1, "seed {seed}");
            let at = numbers.iter().position(|number| Some(*number) == losses[0].after).expect("fetched");
            let lost = (150 + seed % 50) - at as u64;
            assert_eq!(verdict.delivered + lost, 220, "seed {seed}: {verdict}");
        });
    }
}

#[test]
fn from_latest_one_shard_that_the_service_does_not_find_keeps_nobody_from_the_others() {
    sim::run(5, |sim| async move {
        let fleet = Setup { start: StartPosition::Latest, ..Setup::new(3) }.build(&sim);
        let hidden = fleet.service.open_shards(&fleet.stream)[0].clone();
        fleet.service.make_unknown(&fleet.stream, &hidden, HOUR).expect("there");
        let worker = fleet.join("a");
        sim.sleep(20 * SECOND).await;
        fleet.write(100, 100);
        sim.sleep(20 * SECOND).await;
        let given = |shard: &kcl_core::ShardId| {
            let entries = fleet.history.entries().into_iter().filter(|entry| entry.shard == *shard);
            entries.filter(|entry| matches!(entry.event, Event::Delivered(_))).count()
        };
        for (shard, records) in fleet.truth().shards {
            let expected = if shard == hidden { 0 } else { records.written.len() };
            assert_eq!(given(&shard), expected, "{shard}");
        }
        sim.sleep(HOUR).await;
        fleet.drained(60 * SECOND).await;
        worker.stop().await;
    });
}
