//! The world of a fleet, read by a consumer that knows everything: it needs no leases.

use std::time::Duration;

use futures::future::join_all;
use kcl_core::reference::{ReferenceStream, StreamOptions};
use kcl_core::{IteratorPosition, Rt, ShardId, StreamArn, StreamSource as _, StreamViewType};
use sim::world::{Conduct, RecordingProcessor, Resharding, Workload, truth};
use sim::{Event, Fault, Handle, History, Verdict};

const SECOND: Duration = Duration::from_secs(1);

/// Which order of shards a reader keeps to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lineage {
    ParentsFirst,
    AllAtOnce,
}

struct Reader {
    sim: Handle,
    rt: Rt,
    service: ReferenceStream,
    stream: StreamArn,
    history: History,
}

impl Reader {
    /// Reads a shard to its end.
    async fn shard(&self, shard: &ShardId, conduct: Conduct) {
        let mut processor = RecordingProcessor::new(&self.sim, &self.rt, &self.history, shard, conduct);
        processor.record(Event::Opened);
        let first = self.service.shard_iterator(&self.stream, shard, IteratorPosition::TrimHorizon);
        let mut next = Some(first.await.expect("listed"));
        while let Some(iterator) = next {
            let page = self.service.get_records(&iterator, 100).await.expect("readable");
            let mut batch = page.records.clone();
            while !batch.is_empty() {
                let Err(error) = processor.take(&batch).await else { break };
                let failed = error.failed_at().expect("named");
                let from = batch.iter().position(|record| record.sequence_number() == failed).expect("in the batch");
                batch = batch.slice(from..batch.len());
            }
            next = page.next;
            self.rt.sleep(self.rt.jitter(SECOND)).await;
        }
        processor.record(Event::Ended);
    }

    /// Reads all shards there are, once all of them are closed.
    async fn all(&self, lineage: Lineage, conduct: Conduct) {
        let mut left = self.service.shards(&self.stream);
        while !left.is_empty() {
            let waits = |parent: &Option<ShardId>| left.iter().any(|other| Some(&other.shard.id) == parent.as_ref());
            let (now, later): (Vec<_>, Vec<_>) =
                left.iter().cloned().partition(|view| lineage == Lineage::AllAtOnce || !waits(&view.shard.parent));
            join_all(now.iter().map(|view| self.shard(&view.shard.id, conduct))).await;
            left = later;
        }
    }
}

/// Ten minutes of writes and splits, and then a reader.
fn day(seed: u64, lineage: Lineage, conduct: Conduct) -> (u64, Verdict, u64) {
    sim::run(seed, |sim| async move {
        let service = ReferenceStream::new(sim.rt(), StreamOptions::unthrottled());
        let table = "orders".parse().expect("legal");
        let stream = service.create_table(&table, &["id"], StreamViewType::NewImage, 2).expect("new");
        let until = 600 * SECOND;
        let written = Workload { keys: 50, every: SECOND / 5, until }.start(&sim, &service, &table);
        let resharded = Resharding { every: 60 * SECOND, max_open: 4, until }.start(&sim, &service, &stream);
        let (written, resharded) = (written.await.expect("runs"), resharded.await.expect("runs"));
        assert!(resharded > 5, "{resharded}");
        service.disable_stream(&table).expect("enabled");

        let (rt, history) = (sim.node("reader").rt(), History::default());
        let reader = Reader { sim: sim.clone(), rt, service, stream, history };
        reader.all(lineage, conduct).await;
        let verdict = reader.history.judge(&truth(&reader.service, std::slice::from_ref(&reader.stream)));
        (written, verdict, sim.trace_hash())
    })
}

#[test]
fn a_reader_that_goes_parents_first_delivers_everything_once() {
    let (written, verdict, trace) = day(1, Lineage::ParentsFirst, Conduct::default());
    assert!(verdict.is_complete(), "{verdict}");
    assert_eq!((verdict.delivered, verdict.retried, verdict.repeated), (written, 0, 0));
    assert!(written > 2_000, "{written}");
    assert_eq!(day(1, Lineage::ParentsFirst, Conduct::default()).2, trace);
}

#[test]
fn a_processor_that_fails_is_given_records_again_and_none_is_skipped() {
    let conduct = Conduct { per_batch: SECOND / 10, fails_one_in: 3, ..Conduct::default() };
    let (written, verdict, _) = day(2, Lineage::ParentsFirst, conduct);
    assert!(verdict.is_complete(), "{verdict}");
    assert_eq!(verdict.delivered, written);
    assert!(verdict.retried > 0);
}

#[test]
fn a_reader_that_does_not_wait_for_parents_is_found_out() {
    let (_, verdict, _) = day(3, Lineage::AllAtOnce, Conduct::default());
    let early = |fault: &Fault| matches!(fault, Fault::ChildBeforeParent(_));
    assert!(verdict.violations.iter().any(|violation| early(&violation.fault)), "{verdict}");
}
