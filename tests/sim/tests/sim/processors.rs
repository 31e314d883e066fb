//! What happens when user code fails, hangs, panics, or acknowledges in its own way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use kcl_core::{
    CheckpointFailure, Checkpoints, EventKind, FailurePolicy, FailureSink, LeaseTable as _, LeaseWrite, ProcessError,
    RecordBatch, SequenceNumber, ShardId, ShardInfo, StartReason,
};
use sim::fleet::{Fleet, Setup};
use sim::world::{Call, Conduct, Script};
use sim::{Event, Session, in_both_modes, seeds};

const SECOND: Duration = Duration::from_secs(1);

fn script<F>(each: impl Fn(Call, usize) -> F + Send + Sync + 'static) -> Script
where
    F: Future<Output = Result<(), ProcessError>> + Send + 'static,
{
    let calls = AtomicUsize::new(0);
    Arc::new(move |call| -> BoxFuture<'static, _> { Box::pin(each(call, calls.fetch_add(1, Ordering::Relaxed))) })
}

fn manual(shards: usize) -> Setup {
    Setup { conduct: Conduct { checkpoints: Checkpoints::Manual, ..Conduct::default() }, ..Setup::new(shards) }
}

fn first_shard(fleet: &Fleet) -> ShardId {
    fleet.service.open_shards(&fleet.stream)[0].clone()
}

/// The numbers that were delivered of a shard, in order.
fn given(fleet: &Fleet, shard: &ShardId) -> Vec<SequenceNumber> {
    let entries = fleet.history.entries().into_iter().filter(|entry| entry.shard == *shard);
    entries.filter_map(|entry| if let Event::Delivered(at) = entry.event { Some(at) } else { None }).collect()
}

fn written(fleet: &Fleet, shard: &ShardId) -> Vec<SequenceNumber> {
    fleet.truth().shards[shard].written.clone()
}

#[test]
fn an_error_redelivers_the_batch_until_it_succeeds() {
    sim::run(1, |sim| async move {
        let fleet = Setup::new(1).build(&sim);
        fleet.write(10, 10);
        let fails = script(|_, n| async move { if n < 3 { Err(ProcessError::msg("not yet")) } else { Ok(()) } });
        let worker = fleet.join_scripted("a", fails);
        let verdict = fleet.drained(20 * SECOND).await;
        sim.sleep(5 * SECOND).await;
        assert_eq!(given(&fleet, &first_shard(&fleet)).len(), 40, "{verdict}");
        assert_eq!(worker.events.count(|event| matches!(event, EventKind::ProcessorFailed { .. })), 3);
    });
}

#[test]
fn an_error_that_names_a_record_redelivers_from_that_record() {
    sim::run(2, |sim| async move {
        let fleet = Setup::new(1).build(&sim);
        fleet.write(10, 10);
        let _worker = fleet.join_scripted(
            "a",
            script(|call, n| async move {
                match n {
                    0 => Err(ProcessError::msg("this one").at(call.batch.get(6).expect("ten records"))),
                    _ => Ok(()),
                }
            }),
        );
        sim.sleep(5 * SECOND).await;
        let shard = first_shard(&fleet);
        let numbers = written(&fleet, &shard);
        assert_eq!(given(&fleet, &shard), [&numbers[..], &numbers[6..]].concat());
        assert!(fleet.drained(SECOND).await.is_complete());
    });
}

#[test]
fn a_permanent_error_stops_the_shard_and_its_descendants_until_the_stop_is_cleared() {
    sim::run(3, |sim| async move {
        let fleet = Setup::new(2).build(&sim);
        let shard = first_shard(&fleet);
        let broken = Arc::new(Mutex::new(true));
        let (is_broken, bad) = (broken.clone(), shard.clone());
        let stops = script(move |call, _| {
            let fails = *is_broken.lock().expect("whole") && *call.shard.shard() == bad;
            async move { if fails { Err(ProcessError::msg("poison").permanent()) } else { Ok(()) } }
        });
        let a = fleet.join_scripted("a", stops.clone());
        sim.sleep(5 * SECOND).await;
        fleet.write(100, 100);
        sim.sleep(5 * SECOND).await;
        let lease = fleet.lease(&shard).expect("there");
        assert!(lease.stop.is_some() && lease.owner.is_none(), "{lease:?}");
        fleet.service.split(&fleet.stream, &shard).expect("open");
        fleet.write(100, 100);
        // It survives every change of owner.
        a.crash();
        let b = fleet.join_scripted("b", stops.clone());
        sim.sleep(120 * SECOND).await;
        let stopped = given(&fleet, &shard).len();
        assert_eq!(b.owned().len(), 1);
        assert_eq!(fleet.leases.leases().len(), 2, "a child has no lease");
        assert!(!fleet.verdict().is_complete());

        *broken.lock().expect("whole") = false;
        let lease = fleet.lease(&shard).expect("there");
        fleet.leases.write(&lease.key, &lease.guard(), &LeaseWrite::clear_stop()).await.expect("unchanged");
        let verdict = fleet.drained(20 * SECOND).await;
        assert!(given(&fleet, &shard).len() > stopped, "{verdict}");
    });
}

#[test]
fn a_panic_discards_the_instance_and_another_starts_at_the_checkpoint() {
    sim::run(4, |sim| async move {
        sim.allow_panics("provoked");
        let fleet = Setup::new(1).build(&sim);
        fleet.write(10, 10);
        let worker = fleet.join_scripted(
            "a",
            script(|_, n| async move {
                assert!(n != 1, "provoked");
                Ok(())
            }),
        );
        sim.sleep(3 * SECOND).await;
        fleet.write(10, 10);
        sim.sleep(5 * SECOND).await;
        let shard = first_shard(&fleet);
        let numbers = written(&fleet, &shard);
        assert_eq!(given(&fleet, &shard), [&numbers[..], &numbers[10..]].concat());
        let entries = fleet.history.entries();
        assert_eq!(entries.iter().filter(|entry| entry.event == Event::Opened).count(), 2);
        assert!(fleet.verdict().is_complete());
        assert_eq!(worker.events.count(|event| matches!(event, EventKind::LeaseLost { .. })), 0);
        assert_eq!(
            worker.events.count(|event| matches!(event, EventKind::LeaseAcquired { reason: StartReason::New, .. })),
            1
        );
    });
}

#[test]
fn a_call_that_outlasts_process_timeout_is_dropped_and_the_instance_replaced() {
    sim::run(5, |sim| async move {
        let fleet = Setup::new(1).configure(|config| config.with_process_timeout(Some(2 * SECOND))).build(&sim);
        fleet.write(10, 10);
        let hangs = script(|call: Call, n| async move {
            if n == 0 {
                call.rt.sleep(1000 * SECOND).await;
            }
            Ok(())
        });
        let _worker = fleet.join_scripted("a", hangs);
        sim.sleep(10 * SECOND).await;
        assert_eq!(given(&fleet, &first_shard(&fleet)).len(), 20);
        assert!(fleet.verdict().is_complete());
    });
}

#[test]
fn a_processor_that_hangs_for_ever_holds_up_its_own_shard_only_and_loses_nothing() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(3).build(&sim);
            let shard = first_shard(&fleet);
            let hung = shard.clone();
            let hangs = script(move |call: Call, _| {
                let hangs = *call.shard.shard() == hung;
                async move {
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                    Ok(())
                }
            });
            let a = fleet.join_scripted("a", hangs);
            sim.sleep(5 * SECOND).await;
            fleet.write(300, 100);
            sim.sleep(10 * SECOND).await;
            let verdict = fleet.verdict();
            // The hung call was given its records; they are not acknowledged.
            assert!(verdict.is_complete(), "{verdict}");
            assert!(fleet.lease(&shard).expect("there").checkpoint.sequence().is_none());
            assert_eq!(a.owned().len(), 3);
            let report = a.stop().await;
            assert_eq!((report.released, report.abandoned), (2, 1));
            assert!(fleet.leases.leases().iter().all(|lease| lease.owner.is_none()));
            let _b = fleet.join("b");
            sim.sleep(10 * SECOND).await;
            let numbers = written(&fleet, &shard);
            assert_eq!(given(&fleet, &shard).len(), 2 * numbers.len());
            assert_eq!(fleet.lease(&shard).expect("there").checkpoint.sequence(), numbers.last().copied());
            fleet.drained(SECOND).await;
        });
    }
}

#[test]
fn a_processor_that_hangs_gives_its_shard_to_a_worker_that_wants_it() {
    for (mode, seed) in in_both_modes(3) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(2).under(mode).build(&sim);
            let _a = fleet.join_scripted("a", script(|_, _| std::future::pending()));
            sim.sleep(5 * SECOND).await;
            fleet.write(100, 100);
            sim.sleep(5 * SECOND).await;
            let b = fleet.join("b");
            sim.sleep(300 * SECOND).await;
            assert_eq!(b.owned().len(), 1, "{mode:?}, seed {seed}");
            let verdict = fleet.verdict();
            assert!(verdict.is_complete() && verdict.repeated > 0, "{verdict}");
        });
    }
}

#[test]
fn user_code_that_blocks_its_threads_costs_no_lease() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(4).build(&sim);
            let [a, b] = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(100 * SECOND).await;
            let before = [a.owned(), b.owned()];
            a.node.block_processing(90 * SECOND);
            fleet.write(200, 100);
            sim.sleep(80 * SECOND).await;
            assert_eq!([a.owned(), b.owned()], before, "seed {seed}");
            sim.sleep(11 * SECOND).await;
            let verdict = fleet.drained(5 * SECOND).await;
            assert_eq!((verdict.delivered, verdict.repeated), (200, 0), "seed {seed}");
        });
    }
}

#[test]
fn a_shutdown_while_user_code_blocks_lets_the_leases_expire_and_loses_nothing() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(3).build(&sim);
            let a = fleet.join("a");
            sim.sleep(5 * SECOND).await;
            fleet.write(100, 100);
            a.node.block_processing(300 * SECOND);
            let b = fleet.join("b");
            let report = a.stop().await;
            assert_eq!((report.released, report.abandoned), (0, 3), "seed {seed}");
            // A call that blocks its thread cannot be ended, so nobody may begin beside it before its validity is over.
            sim.sleep(15 * SECOND).await;
            assert_eq!(b.owned().len(), 3, "seed {seed}");
            fleet.write(100, 100);
            sim.sleep(300 * SECOND).await;
            fleet.drained(SECOND).await;
        });
    }
}

#[test]
fn a_spawned_task_may_acknowledge_late_and_what_it_did_not_is_delivered_again() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = manual(1).build(&sim);
            let history = fleet.history.clone();
            let world = sim.clone();
            let later = script(move |call: Call, n| {
                let (history, world) = (history.clone(), world.clone());
                async move {
                    let last = call.batch.last().expect("not empty").sequence_number();
                    let (shard, rt) = (call.shard.clone(), call.rt.clone());
                    let acknowledge = async move {
                        rt.sleep(5 * SECOND).await;
                        history.record(world.now(), Session::WORLD, shard.shard(), Event::Acknowledged(last));
                        match n % 2 {
                            0 => shard.checkpointer().checkpoint(last).await,
                            _ => shard.checkpointer().ack(last),
                        }
                    };
                    call.rt.spawn("acknowledge", kcl_core::TaskClass::Processing, acknowledge).detach();
                    Ok(())
                }
            });
            let a = fleet.join_scripted("a", later.clone());
            for _ in 0..20 {
                fleet.write(5, 5);
                sim.sleep(SECOND).await;
            }
            a.crash();
            let shard = first_shard(&fleet);
            let numbers = written(&fleet, &shard);
            let recorded = fleet.lease(&shard).expect("there").checkpoint.sequence();
            assert!(recorded.is_some() && recorded < numbers.last().copied());
            let b = fleet.join_scripted("b", later);
            sim.sleep(30 * SECOND).await;
            let verdict = fleet.drained(SECOND).await;
            let again = numbers.iter().filter(|number| Some(**number) > recorded).count() as u64;
            assert_eq!(verdict.repeated, again, "seed {seed}: {verdict}");
            b.stop().await;
            assert_eq!(fleet.lease(&shard).expect("there").checkpoint.sequence(), numbers.last().copied());
        });
    }
}

#[test]
fn a_checkpoint_beyond_what_was_delivered_is_refused() {
    sim::run(7, |sim| async move {
        let fleet = manual(1).build(&sim);
        fleet.write(10, 10);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = seen.clone();
        let numbers = written(&fleet, &first_shard(&fleet));
        let beyond = SequenceNumber::from_u128(u128::MAX);
        let _worker = fleet.join_scripted(
            "a",
            script(move |call: Call, _| {
                let told = told.clone();
                async move {
                    let checkpointer = call.shard.checkpointer();
                    let all = [
                        checkpointer.checkpoint(beyond).await,
                        checkpointer.ack(beyond),
                        checkpointer.prepare(beyond, None).await,
                    ];
                    told.lock().expect("whole").extend(all);
                    Ok(())
                }
            }),
        );
        sim.sleep(5 * SECOND).await;
        let refused = Err(CheckpointFailure::BeyondDelivered { at: beyond, delivered: numbers.last().copied() });
        assert_eq!(*seen.lock().expect("whole"), [refused.clone(), refused.clone(), refused]);
        assert!(fleet.lease(&first_shard(&fleet)).expect("there").checkpoint.sequence().is_none());
    });
}

#[derive(Debug)]
struct Sink {
    fleet: Fleet,
    taken: Mutex<Vec<SequenceNumber>>,
    fails: AtomicUsize,
}

#[async_trait]
impl FailureSink for Sink {
    async fn set_aside(&self, shard: &ShardInfo, records: &RecordBatch, _: &ProcessError) -> Result<(), ProcessError> {
        if self.fails.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(ProcessError::msg("the sink is not ready"));
        }
        let numbers = records.iter().map(kcl_core::Record::sequence_number);
        self.taken.lock().expect("whole").extend(numbers);
        let last = records.last().expect("not empty").sequence_number();
        self.fleet.history.record(self.fleet.sim.now(), Session::WORLD, &shard.shard, Event::Acknowledged(last));
        Ok(())
    }
}

#[test]
fn records_that_fail_for_good_go_to_the_sink_and_nothing_else_is_skipped() {
    sim::run(8, |sim| async move {
        let mut fleet = Setup::new(1).build(&sim);
        fleet.write(50, 50);
        let shard = first_shard(&fleet);
        let poison: Vec<SequenceNumber> = [10, 11, 30].iter().map(|n| written(&fleet, &shard)[*n]).collect();
        let sink = Arc::new(Sink { fleet: fleet.clone(), taken: Mutex::default(), fails: AtomicUsize::new(0) });
        let policy = FailurePolicy::set_aside_after(3, sink.clone()).with_backoff(SECOND / 10, SECOND);
        fleet.setup.config = fleet.setup.config.with_failures(policy);
        let bad = poison.clone();
        let fails = script(move |call: Call, _| {
            let bad = bad.clone();
            async move {
                match call.batch.iter().find(|record| bad.contains(&record.sequence_number())) {
                    Some(record) => Err(ProcessError::msg("poison").at(record)),
                    None => Ok(()),
                }
            }
        });
        let worker = fleet.join_scripted("a", fails);
        sim.sleep(20 * SECOND).await;
        assert_eq!(*sink.taken.lock().expect("whole"), poison);
        fleet.drained(SECOND).await;
        assert_eq!(fleet.lease(&shard).expect("there").checkpoint.sequence(), written(&fleet, &shard).last().copied());
        assert_eq!(worker.events.count(|event| matches!(event, EventKind::RecordsSetAside { count: 1, .. })), 3);
    });
}

#[test]
fn a_successor_sees_what_was_prepared_and_not_made() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let fleet = manual(1).build(&sim);
            let (history, world) = (fleet.history.clone(), sim.clone());
            let a = fleet.join_scripted(
                "a",
                script(move |call: Call, n| {
                    let (history, world) = (history.clone(), world.clone());
                    async move {
                        let numbers: Vec<_> = call.batch.iter().map(kcl_core::Record::sequence_number).collect();
                        if n == 0 {
                            let (last, shard) = (numbers[numbers.len() - 1], call.shard.clone());
                            shard.checkpointer().prepare(last, bytes(b"half done")).await?;
                            // What lies before it may be recorded in between.
                            history.record(world.now(), Session::WORLD, shard.shard(), Event::Acknowledged(numbers[2]));
                            shard.checkpointer().checkpoint(numbers[2]).await?;
                        }
                        Ok(())
                    }
                }),
            );
            fleet.write(10, 10);
            sim.sleep(15 * SECOND).await;
            let numbers = written(&fleet, &first_shard(&fleet));
            assert_eq!(fleet.lease(&first_shard(&fleet)).expect("there").checkpoint.sequence(), Some(numbers[2]));
            a.crash();
            let seen = Arc::new(Mutex::new(None));
            let told = seen.clone();
            let _b = fleet.join_scripted(
                "b",
                script(move |call: Call, _| {
                    *told.lock().expect("whole") = call.shard.prepared().cloned();
                    async { Ok(()) }
                }),
            );
            sim.sleep(20 * SECOND).await;
            let prepared = seen.lock().expect("whole").clone().expect("prepared");
            assert_eq!(prepared.at.sequence(), numbers.last().copied(), "seed {seed}");
            assert_eq!(prepared.state.as_deref(), Some(&b"half done"[..]));
        });
    }
}

/// A processor whose own store is behind the checkpoint.
struct OwnStore {
    recorder: sim::world::RecordingProcessor,
    after: SequenceNumber,
}

#[async_trait]
impl kcl_core::RecordProcessor for OwnStore {
    async fn initialize(&mut self, shard: &kcl_core::ShardContext) -> Result<kcl_core::Start, ProcessError> {
        self.recorder.initialize(shard).await?;
        Ok(kcl_core::Start::After(self.after))
    }

    async fn process_records(
        &mut self,
        batch: &RecordBatch,
        shard: &kcl_core::ShardContext,
    ) -> Result<(), ProcessError> {
        self.recorder.process_records(batch, shard).await
    }
}

#[test]
fn a_processor_starts_where_its_own_store_says_also_before_the_checkpoint() {
    sim::run(9, |sim| async move {
        let fleet = Setup::new(1).build(&sim);
        fleet.write(20, 20);
        let a = fleet.join("a");
        sim.sleep(10 * SECOND).await;
        a.stop().await;
        let shard = first_shard(&fleet);
        let numbers = written(&fleet, &shard);
        let (made, after) = (fleet.clone(), numbers[4]);
        let _b = fleet.join_with("b", move |rt| {
            let (fleet, rt) = (made.clone(), rt.clone());
            move |info: &ShardInfo| OwnStore { recorder: fleet.recorder(&rt, &info.shard), after }
        });
        sim.sleep(10 * SECOND).await;
        assert_eq!(given(&fleet, &shard), [&numbers[..], &numbers[5..]].concat());
        assert_eq!(fleet.lease(&shard).expect("there").checkpoint.sequence(), numbers.last().copied());
        fleet.drained(SECOND).await;
    });
}

fn bytes(text: &'static [u8]) -> Option<bytes::Bytes> {
    Some(bytes::Bytes::from_static(text))
}
