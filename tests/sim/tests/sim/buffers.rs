//! Processors that buffer: what becomes of them when a flush between batches fails, and of what they have in hand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kcl_core::{
    Checkpoints, EventKind, FailurePolicy, ProcessError, RecordBatch, RecordProcessor, SequenceNumber, ShardContext,
    ShardInfo, Start, StartPosition, StopReason,
};
use sim::Event;
use sim::fleet::{Fleet, Member, Setup};
use sim::world::{Conduct, RecordingProcessor};

const SECOND: Duration = Duration::from_secs(1);

type Flush = Arc<dyn Fn(&mut Vec<SequenceNumber>, &RecordingProcessor) -> Result<(), ProcessError> + Send + Sync>;

type Says = Arc<dyn Fn(&RecordBatch) -> Result<(), ProcessError> + Send + Sync>;

/// Keeps what it is given, and does something with it between batches.
struct Buffering {
    recorder: RecordingProcessor,
    in_hand: Vec<SequenceNumber>,
    start: Start,
    flush: Flush,
    /// What is said of a batch once it is in hand.
    says: Says,
}

#[async_trait]
impl RecordProcessor for Buffering {
    async fn initialize(&mut self, shard: &ShardContext) -> Result<Start, ProcessError> {
        self.recorder.initialize(shard).await?;
        Ok(self.start)
    }

    async fn process_records(&mut self, batch: &RecordBatch, shard: &ShardContext) -> Result<(), ProcessError> {
        self.recorder.process_records(batch, shard).await?;
        self.in_hand.extend(batch.iter().map(kcl_core::Record::sequence_number));
        (self.says)(batch)
    }

    async fn tick(&mut self, shard: &ShardContext) -> Result<(), ProcessError> {
        let last = self.in_hand.last().copied();
        (self.flush)(&mut self.in_hand, &self.recorder)?;
        if let (true, Some(last)) = (self.in_hand.is_empty(), last) {
            self.recorder.record(Event::Acknowledged(last));
            shard.checkpointer().ack(last)?;
        }
        Ok(())
    }
}

fn buffering(
    fleet: &Fleet,
    start: impl Fn() -> Start + Send + Sync + 'static,
    flush: Flush,
    says: impl Fn(&RecordBatch) -> Result<(), ProcessError> + Send + Sync + 'static,
) -> Member {
    let (fleet, says): (_, Says) = (fleet.clone(), Arc::new(says));
    fleet.clone().join_with("a", move |rt| {
        let (fleet, rt) = (fleet.clone(), rt.clone());
        move |info: &ShardInfo| Buffering {
            recorder: fleet.recorder(&rt, &info.shard),
            in_hand: Vec::new(),
            start: start(),
            flush: flush.clone(),
            says: says.clone(),
        }
    })
}

fn manual() -> Setup {
    let conduct = Conduct { checkpoints: Checkpoints::Manual, ..Conduct::default() };
    Setup { conduct, ..Setup::new(1) }
}

fn three_attempts(setup: Setup) -> Setup {
    setup.configure(|config| config.with_failures(FailurePolicy::stop_after(3).with_backoff(SECOND / 10, SECOND)))
}

fn written(fleet: &Fleet) -> Vec<SequenceNumber> {
    fleet.truth().shards.values().flat_map(|shard| shard.written.clone()).collect()
}

fn given(fleet: &Fleet) -> Vec<SequenceNumber> {
    let entries = fleet.history.entries().into_iter();
    entries.filter_map(|entry| if let Event::Delivered(at) = entry.event { Some(at) } else { None }).collect()
}

#[test]
fn a_flush_that_always_fails_comes_before_the_failure_policy_however_well_batches_are_taken() {
    sim::run(1, |sim| async move {
        let fleet = three_attempts(manual()).build(&sim);
        let fails: Flush = Arc::new(|in_hand, _| match in_hand.is_empty() {
            true => Ok(()),
            false => Err(ProcessError::msg("the store is full")),
        });
        let worker = buffering(&fleet, || Start::Checkpoint, fails, |_| Ok(()));
        for _ in 0..30 {
            fleet.write(5, 5);
            sim.sleep(2 * SECOND).await;
        }
        let failed = worker.events.count(|event| matches!(event, EventKind::ProcessorFailed { .. }));
        let lease = fleet.leases.leases().remove(0);
        assert!(matches!(lease.stop, Some(StopReason::ProcessorFailed { .. })), "{failed} failures: {lease:?}");
        assert_eq!((failed, lease.checkpoint.sequence()), (3, None));
    });
}

#[test]
fn flushes_that_fail_now_and_then_stop_no_shard() {
    for conduct in [Checkpoints::Automatic, Checkpoints::Manual] {
        sim::run(2, |sim| async move {
            let fleet =
                three_attempts(Setup { conduct: Conduct { checkpoints: conduct, ..Conduct::default() }, ..manual() });
            let fleet = fleet.build(&sim);
            fleet.write(10, 10);
            let ticks = AtomicUsize::new(0);
            let fails: Flush = Arc::new(move |in_hand, _| {
                if ticks.fetch_add(1, Ordering::Relaxed) % 20 == 19 {
                    return Err(ProcessError::msg("the store is away"));
                }
                in_hand.clear();
                Ok(())
            });
            let worker = buffering(&fleet, || Start::Checkpoint, fails, |_| Ok(()));
            sim.sleep(300 * SECOND).await;
            assert!(worker.events.count(|event| matches!(event, EventKind::ProcessorFailed { .. })) > 10);
            assert_eq!(fleet.leases.leases()[0].stop, None, "{conduct:?}: each was over with the next flush");
        });
    }
}

#[test]
fn an_error_that_names_a_record_of_a_batch_before_brings_that_record_again() {
    sim::run(3, |sim| async move {
        let fleet = manual().build(&sim);
        let (first, failed) = (Arc::new(Mutex::new(None)), AtomicUsize::new(0));
        let says = move |batch: &RecordBatch| {
            let mut first = first.lock().expect("whole");
            match &*first {
                Some(record) if failed.fetch_add(1, Ordering::Relaxed) == 0 => {
                    Err(ProcessError::msg("this one").at(record))
                }
                _ => {
                    first.get_or_insert_with(|| batch[3].clone());
                    Ok(())
                }
            }
        };
        let _worker = buffering(&fleet, || Start::Checkpoint, Arc::new(|_, _| Ok(())), says);
        fleet.write(10, 10);
        sim.sleep(5 * SECOND).await;
        fleet.write(10, 10);
        sim.sleep(5 * SECOND).await;
        let (given, named) = (given(&fleet), written(&fleet)[3]);
        assert_eq!(given.iter().filter(|at| **at == named).count(), 2, "{given:?}");
    });
}

#[test]
fn a_position_of_ones_own_is_not_filtered_by_where_the_application_began() {
    for start in [StartPosition::Latest, StartPosition::TrimHorizon] {
        sim::run(4, |sim| async move {
            let fleet = Setup { start, ..Setup::new(1) }.build(&sim);
            sim.sleep(SECOND).await;
            fleet.write(20, 20);
            sim.sleep(3600 * SECOND).await;
            let after = written(&fleet)[4];
            let own_store = move || Start::After(after);
            let worker = buffering(&fleet, own_store, Arc::new(|_, _| Ok(())), |_| Ok(()));
            sim.sleep(10 * SECOND).await;
            fleet.write(10, 10);
            sim.sleep(10 * SECOND).await;
            assert_eq!(given(&fleet), written(&fleet)[5..], "{start:?}");
            worker.stop().await;
            let lease = fleet.leases.leases().remove(0);
            assert_eq!((lease.start_at, lease.checkpoint.sequence()), (None, written(&fleet).last().copied()));
        });
    }
}

#[test]
fn a_stop_is_recorded_however_long_the_error_is_that_led_to_it() {
    sim::run(5, |sim| async move {
        let fleet = Setup::new(1).build(&sim);
        fleet.write(10, 10);
        let long = "é".repeat(1 << 20);
        let worker = buffering(
            &fleet,
            || Start::Checkpoint,
            Arc::new(|_, _| Ok(())),
            move |_| Err(ProcessError::msg(format!("begins so {long}")).permanent()),
        );
        sim.sleep(10 * SECOND).await;
        let stop = fleet.leases.leases().remove(0).stop.expect("stopped").to_string();
        // An item of the service takes 400 KB, and every scan of every worker brings it.
        assert!(stop.len() < 4096 && stop.starts_with("processor-failed: begins so é"), "{} bytes", stop.len());
        let short = |event: &EventKind| matches!(event, EventKind::ProcessorFailed { error, .. } if error.len() < 4096);
        assert_eq!(worker.events.count(short), 1);
    });
}

#[test]
fn a_prepared_state_that_fits_into_no_lease_is_refused_with_what_to_do() {
    sim::run(6, |sim| async move {
        let fleet = manual().build(&sim);
        fleet.write(10, 10);
        let told = Arc::new(Mutex::new(None));
        let seen = told.clone();
        let script = Arc::new(move |call: sim::world::Call| -> futures::future::BoxFuture<'static, _> {
            let seen = seen.clone();
            Box::pin(async move {
                let last = call.batch.last().expect("not empty").sequence_number();
                let state = bytes::Bytes::from(vec![0; 400 << 10]);
                *seen.lock().expect("whole") = call.shard.checkpointer().prepare(last, state).await.err();
                Ok(())
            })
        });
        let _worker = fleet.join_scripted("a", script);
        sim.sleep(5 * SECOND).await;
        let error = told.lock().expect("whole").clone().expect("refused").to_string();
        assert!(error.contains("409600 bytes") && error.contains("keep it elsewhere"), "{error}");
        assert_eq!(fleet.leases.leases()[0].pending, None);
    });
}
