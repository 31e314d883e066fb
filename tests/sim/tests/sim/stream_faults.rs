//! The stream throttles, fails, lies for a moment; nothing is lost.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kcl_core::reference::{LastPage, ReferenceStream, Visibility};
use kcl_core::wrap::{FaultySource, SourceFault};
use kcl_core::{
    DescribePage, EventKind, IteratorPosition, RecordsPage, ShardId, ShardIterator, SourceError, SourceErrorKind,
    SourceOp, StreamArn, StreamDescription, StreamSource, StreamSummary, TableName,
};
use rand::Rng as _;
use sim::fleet::{Fleet, Setup};
use sim::world::{Resharding, Workload};
use sim::{Handle, Verdict, seeds};

const SECOND: Duration = Duration::from_secs(1);

/// Two workers, writes and splits for five minutes, then calm.
async fn five_minutes(sim: &Handle, fleet: &Fleet) -> Verdict {
    let _workers = ["a", "b"].map(|name| fleet.join(name));
    let until = sim.now() + 300 * SECOND;
    let writer = Workload { keys: 100, every: SECOND / 5, until }.start(sim, &fleet.service, &fleet.table);
    let resharding = Resharding { every: 30 * SECOND, max_open: 5, until };
    let resharding = resharding.start(sim, &fleet.service, &fleet.stream);
    let (_written, _replaced) = (writer.await.expect("runs"), resharding.await.expect("runs"));
    let verdict = fleet.drained(120 * SECOND).await;
    assert_eq!(fleet.losses.all(), [], "seed {}", sim.seed());
    verdict
}

/// One call in so many fails.
fn failing(sim: &Handle, one_in: u64, kinds: &'static [SourceErrorKind]) -> Setup {
    let rng = Arc::new(Mutex::new(sim.rng("stream faults")));
    let wrap = move |source: Arc<dyn StreamSource>| -> Arc<dyn StreamSource> {
        let rng = rng.clone();
        Arc::new(FaultySource::new(source, move |op| {
            let mut rng = rng.lock().expect("whole");
            let kind = kinds[(rng.next_u64() % kinds.len() as u64) as usize];
            let possible = kind != SourceErrorKind::Expired || op == SourceOp::GetRecords;
            let lost = rng.next_u64().is_multiple_of(2);
            let fault = if lost { SourceFault::ReplyLost(kind) } else { SourceFault::Refused(kind) };
            // The first calls are those of a worker that is being built, whose user would try again.
            (rng.next_u64().is_multiple_of(one_in) && possible && op != SourceOp::DescribeStream).then_some(fault)
        }))
    };
    Setup { source: Arc::new(wrap), ..Setup::new(2) }
}

#[test]
fn calls_that_fail_are_made_again_and_nothing_is_lost_or_repeated() {
    use SourceErrorKind::{Corrupt, Expired, Throttled, Unavailable};
    for seed in seeds(15) {
        sim::run(seed, |sim| async move {
            let fleet = failing(&sim, 4, &[Corrupt, Expired, Throttled, Unavailable]).build(&sim);
            let verdict = five_minutes(&sim, &fleet).await;
            assert_eq!(verdict.retried, 0, "seed {seed}: {verdict}");
        });
    }
}

#[test]
fn a_listed_shard_that_is_said_not_to_exist_is_neither_ended_nor_lost() {
    for seed in seeds(15) {
        sim::run(seed, |sim| async move {
            let fleet = failing(&sim, 5, &[SourceErrorKind::NotFound]).build(&sim);
            five_minutes(&sim, &fleet).await;
        });
    }
}

#[test]
fn a_shard_that_is_said_not_to_exist_for_a_moment_is_read_on_without_a_listing() {
    sim::run(1, |sim| async move {
        let (answers, handle) = (Arc::new(Mutex::new(0_u64)), sim.clone());
        let wrap = move |source: Arc<dyn StreamSource>| -> Arc<dyn StreamSource> {
            let (answers, handle) = (answers.clone(), handle.clone());
            Arc::new(FaultySource::new(source, move |op| {
                if handle.now() < 60 * SECOND {
                    return None;
                }
                // From now on no listing succeeds: whoever needs one waits for ever.
                if op == SourceOp::DescribeStream {
                    return Some(SourceFault::Refused(SourceErrorKind::Unavailable));
                }
                let mut answers = answers.lock().expect("whole");
                *answers += 1;
                answers.is_multiple_of(3).then_some(SourceFault::Refused(SourceErrorKind::NotFound))
            }))
        };
        let fleet = Setup { source: Arc::new(wrap), ..Setup::new(2) }.build(&sim);
        let _worker = fleet.join("a");
        let until = sim.now() + 200 * SECOND;
        let writer = Workload { keys: 100, every: SECOND / 5, until }.start(&sim, &fleet.service, &fleet.table);
        let _written = writer.await.expect("runs");
        let _verdict = fleet.drained(60 * SECOND).await;
        assert_eq!(fleet.losses.all(), []);
    });
}

#[test]
fn who_reads_shards_that_were_replaced_long_ago_needs_no_call_for_the_children_of_each() {
    sim::run(1, |sim| async move {
        let listings = Arc::new(Mutex::new(0));
        let counted = listings.clone();
        let wrap = move |source: Arc<dyn StreamSource>| -> Arc<dyn StreamSource> {
            let counted = counted.clone();
            Arc::new(FaultySource::new(source, move |op| {
                *counted.lock().expect("whole") += usize::from(op == SourceOp::DescribeStream);
                None
            }))
        };
        let fleet = Setup { source: Arc::new(wrap), ..Setup::new(2) }.build(&sim);
        for _ in 0..12 {
            sim.sleep(60 * SECOND).await;
            fleet.service.roll_all(&fleet.stream).expect("enabled");
        }
        sim.sleep(60 * SECOND).await;
        let _worker = fleet.join("a");
        let _verdict = fleet.drained(60 * SECOND).await;
        let open = fleet.service.open_shards(&fleet.stream);
        while !open.iter().all(|shard| fleet.lease(shard).is_some_and(|lease| lease.owner.is_some())) {
            sim.sleep(SECOND).await;
        }
        let listings = *listings.lock().expect("whole");
        assert!(listings <= 12, "{listings} calls for the children of 24 shards");
    });
}

#[test]
fn a_position_that_is_once_said_to_be_trimmed_is_asked_for_again() {
    sim::run(1, |sim| async move {
        let calls = Arc::new(Mutex::new(0));
        let wrap = move |source: Arc<dyn StreamSource>| -> Arc<dyn StreamSource> {
            let calls = calls.clone();
            Arc::new(FaultySource::new(source, move |op| {
                let mut calls = calls.lock().expect("whole");
                *calls += usize::from(op == SourceOp::GetRecords);
                let says_so = op == SourceOp::GetRecords && calls.is_multiple_of(7);
                says_so.then_some(SourceFault::Refused(SourceErrorKind::Trimmed))
            }))
        };
        let fleet = Setup { source: Arc::new(wrap), ..Setup::new(2) }.build(&sim);
        five_minutes(&sim, &fleet).await;
    });
}

#[test]
fn expired_iterators_are_replaced_where_reading_was() {
    for seed in seeds(5) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(3).build(&sim);
            let service = fleet.service.clone();
            let handle = sim.clone();
            let _expiring = sim.spawn("expire", async move {
                loop {
                    handle.sleep(SECOND * 3).await;
                    service.expire_iterators();
                }
            });
            five_minutes(&sim, &fleet).await;
        });
    }
}

#[test]
fn only_the_last_page_ends_a_shard_whatever_pages_come_before() {
    for seed in seeds(10) {
        sim::run(seed, |sim| async move {
            let mut setup = Setup::new(2);
            setup.options.empty_page_every = Some(2 + (seed % 3) as u32);
            setup.options.page_records = 3;
            setup.options.last_page = if seed % 2 == 0 { LastPage::ExtraEmpty } else { LastPage::WithRecords };
            let fleet = setup.build(&sim);
            fleet.write(200, 50);
            five_minutes(&sim, &fleet).await;
        });
    }
}

#[test]
fn new_shards_that_show_late_are_read_after_their_parents() {
    for seed in seeds(15) {
        sim::run(seed, |sim| async move {
            let mut setup = Setup::new(2);
            let late = |n: u64| Duration::from_millis(seed.wrapping_mul(n) % 5000);
            setup.options.visibility =
                Visibility { child_after: late(977), closing_after: late(1511), readable_after: late(2963) };
            setup.options.describe_page = 3;
            setup.options.trailing_empty_page = seed % 2 == 0;
            let fleet = setup.build(&sim);
            five_minutes(&sim, &fleet).await;
        });
    }
}

/// Leaves shards that are younger than five seconds out of a listing now and then.
#[derive(Debug)]
struct Blurred {
    inner: Arc<dyn StreamSource>,
    sim: Handle,
    service: Mutex<Option<ReferenceStream>>,
    draws: Mutex<u64>,
}

#[async_trait]
impl StreamSource for Blurred {
    async fn list_streams(&self, table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        self.inner.list_streams(table).await
    }

    async fn describe_stream(&self, stream: &StreamArn, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        let mut description = self.inner.describe_stream(stream, page).await?;
        let Some(service) = self.service.lock().expect("whole").clone() else { return Ok(description) };
        let now = self.sim.rt().now();
        let views = service.shards(stream);
        description.shards.retain(|shard| {
            let young = views.iter().any(|view| view.shard.id == shard.id && now.since(view.opened) < 5 * SECOND);
            let mut draws = self.draws.lock().expect("whole");
            *draws = draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            !young || (*draws >> 40).is_multiple_of(2)
        });
        Ok(description)
    }

    async fn shard_iterator(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.inner.shard_iterator(stream, shard, position).await
    }

    async fn get_records(&self, iterator: &ShardIterator, limit: usize) -> Result<RecordsPage, SourceError> {
        self.inner.get_records(iterator, limit).await
    }
}

#[test]
fn listings_that_contradict_each_other_about_new_shards_lose_none() {
    for seed in seeds(20) {
        sim::run(seed, |sim| async move {
            let blurred: Arc<Mutex<Option<Arc<Blurred>>>> = Arc::default();
            let (given, handle) = (blurred.clone(), sim.clone());
            let wrap = move |inner: Arc<dyn StreamSource>| -> Arc<dyn StreamSource> {
                let sim = handle.clone();
                let source = Arc::new(Blurred { inner, sim, service: Mutex::default(), draws: Mutex::new(seed) });
                *given.lock().expect("whole") = Some(source.clone());
                source
            };
            let mut setup = Setup { source: Arc::new(wrap), ..Setup::new(2) };
            setup.options.describe_page = 4;
            setup.options.visibility.closing_after = 2 * SECOND;
            let fleet = setup.configure(|config| config.with_discover_every(2 * SECOND)).build(&sim);
            let blurred = blurred.lock().expect("whole").clone().expect("made");
            *blurred.service.lock().expect("whole") = Some(fleet.service.clone());
            five_minutes(&sim, &fleet).await;
        });
    }
}

#[test]
fn a_stream_that_is_disabled_is_drained_and_its_shards_end_without_children() {
    for seed in seeds(5) {
        sim::run(seed, |sim| async move {
            let mut setup = Setup::new(3);
            setup.options.disabling_for = 20 * SECOND;
            let fleet = setup.build(&sim);
            let a = fleet.join("a");
            fleet.write(300, 100);
            sim.sleep(5 * SECOND).await;
            fleet.write(300, 100);
            fleet.service.disable_stream(&fleet.table).expect("enabled");
            sim.sleep(60 * SECOND).await;
            fleet.drained(SECOND).await;
            let leases = fleet.leases.leases();
            assert!(leases.iter().all(|lease| lease.is_finished() && lease.children.is_empty()), "seed {seed}");
            let finished = |event: &EventKind| matches!(event, EventKind::ShardFinished { .. });
            assert_eq!((leases.len(), a.events.count(finished)), (3, 3));
        });
    }
}
