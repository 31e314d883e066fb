//! The suite of the stream's contract on the reference stream, in several settings and behind each wrapper.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_dynamo::Item;

use super::{LastPage, ReferenceStream, StreamOptions, Visibility};
use crate::conformance::SuiteReport;
use crate::conformance::source::{BedError, BedSpec, SourceBed, SourceBeds, SourceCapabilities, source_suite};
use crate::contract::{DescribePage, RecordsPage, Rt, ShardIterator, SourceError, SourceOp, StreamSource};
use crate::model::{IteratorPosition, SequenceNumber, ShardId, StreamArn, StreamDescription, StreamSummary, TableName};
use crate::record::RecordBatch;
use crate::testing::{run, virtual_rt};
use crate::wrap::{CountingSource, FaultySource, LatencySource, ThrottledSource};

type Wrap = fn(Arc<dyn StreamSource>, Rt) -> Arc<dyn StreamSource>;

/// Beds of reference streams with these options, read through a wrapper.
struct Beds {
    options: StreamOptions,
    wrap: Wrap,
}

struct Bed {
    rt: Rt,
    service: ReferenceStream,
    source: Arc<dyn StreamSource>,
    table: TableName,
    stream: StreamArn,
}

fn plain() -> Beds {
    Beds { options: StreamOptions::default(), wrap: |source, _| source }
}

#[async_trait]
impl SourceBeds for Beds {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::ALL
    }

    async fn build(&self, spec: BedSpec) -> Result<Box<dyn SourceBed>, BedError> {
        let rt = virtual_rt();
        let service = ReferenceStream::new(rt.clone(), self.options.clone());
        let table: TableName = "orders".parse()?;
        let stream = service.create_table(&table, &["id"], spec.view_type, spec.shards)?;
        let source = (self.wrap)(Arc::new(service.clone()), rt.clone());
        Ok(Box::new(Bed { rt, service, source, table, stream }))
    }
}

#[async_trait]
impl SourceBed for Bed {
    fn source(&self) -> Arc<dyn StreamSource> {
        self.source.clone()
    }

    fn table(&self) -> TableName {
        self.table.clone()
    }

    fn stream(&self) -> StreamArn {
        self.stream.clone()
    }

    async fn put(&self, item: Item) -> Result<(), BedError> {
        self.service.put(&self.table, item)?;
        Ok(())
    }

    async fn delete(&self, keys: Item) -> Result<(), BedError> {
        self.service.delete(&self.table, &keys)?;
        Ok(())
    }

    async fn pause(&self) {
        self.rt.sleep(Duration::from_millis(250)).await;
    }

    async fn disable(&self) -> Result<(), BedError> {
        Ok(self.service.disable_stream(&self.table)?)
    }

    async fn split(&self, shard: &ShardId, children: usize) -> Result<(), BedError> {
        match children {
            1 => drop(self.service.roll(&self.stream, shard)?),
            _ => drop(self.service.split(&self.stream, shard)?),
        }
        Ok(())
    }

    async fn trim(&self, shard: &ShardId, through: SequenceNumber) -> Result<(), BedError> {
        Ok(self.service.trim(&self.stream, shard, through)?)
    }

    async fn advance(&self, time: Duration) -> Result<(), BedError> {
        self.rt.sleep(time).await;
        Ok(())
    }

    async fn throttle(&self, op: SourceOp, time: Duration) -> Result<(), BedError> {
        self.service.throttle(op, time);
        Ok(())
    }
}

impl fmt::Debug for Bed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bed").field("stream", &self.stream).finish_non_exhaustive()
    }
}

fn suite_of(beds: &Beds) {
    let SuiteReport { skipped, .. } = run(source_suite(beds));
    assert!(skipped.is_empty(), "the reference stream can do all: {skipped:?}");
}

/// Answers pages that `lie` has changed.
struct LyingSource {
    inner: Arc<dyn StreamSource>,
    lie: fn(&mut RecordsPage),
}

impl fmt::Debug for LyingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LyingSource")
    }
}

#[async_trait]
impl StreamSource for LyingSource {
    async fn list_streams(&self, table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        self.inner.list_streams(table).await
    }

    async fn describe_stream(&self, stream: &StreamArn, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        self.inner.describe_stream(stream, page).await
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
        let mut page = self.inner.get_records(iterator, limit).await?;
        (self.lie)(&mut page);
        Ok(page)
    }
}

mod each_case {
    use super::{plain, run};

    crate::source_suite_tests!(run, plain());
}

#[test]
fn the_suite_holds_with_empty_pages_and_an_extra_last_one() {
    let options = StreamOptions {
        empty_page_every: Some(2),
        last_page: LastPage::ExtraEmpty,
        page_records: 3,
        trailing_empty_page: true,
        describe_page: 67,
        ..StreamOptions::default()
    };
    suite_of(&Beds { options, ..plain() });
}

#[test]
fn the_suite_holds_while_listings_lag() {
    let lag = |child, closing, readable| Visibility {
        child_after: Duration::from_secs(child),
        closing_after: Duration::from_secs(closing),
        readable_after: Duration::from_secs(readable),
    };
    for visibility in [lag(5, 0, 0), lag(0, 5, 0), lag(3, 1, 2)] {
        let options = StreamOptions { visibility, ..StreamOptions::default() };
        suite_of(&Beds { options, ..plain() });
    }
}

#[test]
fn the_suite_holds_behind_each_wrapper() {
    let wraps: [Wrap; 5] = [
        |source, _| Arc::new(CountingSource::new(source)),
        |source, rt| Arc::new(LatencySource::fixed(source, rt, Duration::from_millis(20))),
        |source, rt| Arc::new(LatencySource::jittered(source, rt, Duration::from_millis(40))),
        |source, _| Arc::new(FaultySource::new(source, |_| None)),
        |source, rt| Arc::new(ThrottledSource::new(source, rt).limit(SourceOp::GetRecords, 8)),
    ];
    for wrap in wraps {
        suite_of(&Beds { wrap, ..plain() });
    }
}

/// What the suite says of a reference stream whose pages are changed so.
fn verdict_on(wrap: Wrap) -> String {
    let beds = Beds { wrap, ..plain() };
    let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| suite_of(&beds)));
    crate::contract::rt::panic_text(&*verdict.expect_err("the suite believes everything"))
}

#[test]
fn the_suite_finds_out_who_drops_the_last_page() {
    let verdict = verdict_on(|inner, _| {
        let lie = |page: &mut RecordsPage| {
            if page.next.is_none() {
                page.records = RecordBatch::new(Vec::new());
            }
        };
        Arc::new(LyingSource { inner, lie })
    });
    assert!(verdict.contains("a_closed_shard_ends_behind_its_last_record"), "{verdict}");
}

#[test]
fn the_suite_finds_out_who_ends_a_shard_at_an_empty_page() {
    let verdict = verdict_on(|inner, _| {
        let lie = |page: &mut RecordsPage| {
            if page.records.is_empty() {
                page.next = None;
            }
        };
        Arc::new(LyingSource { inner, lie })
    });
    assert!(verdict.contains("an_empty_page_is_no_end"), "{verdict}");
}

#[test]
fn the_suite_finds_out_who_loses_a_record_between_pages() {
    let verdict = verdict_on(|inner, _| {
        let lie = |page: &mut RecordsPage| {
            let kept = page.records.len().saturating_sub(usize::from(page.records.len() > 2));
            page.records = RecordBatch::new(page.records.iter().take(kept).cloned().collect());
        };
        Arc::new(LyingSource { inner, lie })
    });
    for case in ["records_come_in_the_order_of_their_numbers", "pages_continue_where_the_one_before_ended"] {
        assert!(verdict.contains(case), "{verdict}");
    }
}
