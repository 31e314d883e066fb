use std::sync::Arc;
use std::time::Duration;

use super::{CountingSource, FaultySource, LatencySource, SourceFault, ThrottledSource};
use crate::contract::{Rt, SourceErrorKind, SourceOp, StreamSource};
use crate::model::{StreamViewType, TableName};
use crate::reference::{ReferenceStream, StreamOptions};
use crate::testing::{run, virtual_rt};

/// A stream, its table, and the runtime that both live in.
fn stream() -> (Rt, Arc<dyn StreamSource>, TableName) {
    let rt = virtual_rt();
    let service = ReferenceStream::new(rt.clone(), StreamOptions::unthrottled());
    let table: TableName = "orders".parse().expect("legal");
    service.create_table(&table, &["id"], StreamViewType::KeysOnly, 1).expect("new");
    (rt, Arc::new(service), table)
}

#[test]
fn calls_are_counted_by_operation() {
    run(async {
        let (_, inner, table) = stream();
        let counting = CountingSource::new(inner);
        let shared = counting.clone();
        for _call in 0..3 {
            shared.list_streams(&table).await.expect("a table");
        }
        assert_eq!((counting.count(SourceOp::ListStreams), counting.total()), (3, 3));
        assert_eq!(counting.count(SourceOp::GetRecords), 0);
    });
}

#[test]
fn a_call_takes_its_round_trip() {
    run(async {
        let (rt, inner, table) = stream();
        let begun = rt.now();
        let fixed = LatencySource::fixed(inner.clone(), rt.clone(), Duration::from_millis(30));
        fixed.list_streams(&table).await.expect("a table");
        assert_eq!(rt.now().since(begun), Duration::from_millis(30));
        let begun = rt.now();
        let jittered = LatencySource::jittered(inner, rt.clone(), Duration::from_millis(100));
        jittered.list_streams(&table).await.expect("a table");
        let took = rt.now().since(begun);
        assert!((Duration::from_millis(49)..=Duration::from_millis(102)).contains(&took), "{took:?}");
    });
}

#[test]
fn a_refused_call_is_not_made_and_a_lost_reply_is_of_a_call_that_was() {
    run(async {
        let (_, inner, table) = stream();
        let counting = Arc::new(CountingSource::new(inner));
        let kind = SourceErrorKind::Unavailable;
        for (fault, made) in [(SourceFault::Refused(kind), 0), (SourceFault::ReplyLost(kind), 1)] {
            let faulty = FaultySource::new(counting.clone(), move |_| Some(fault));
            let error = faulty.list_streams(&table).await.expect_err("a fault");
            assert_eq!(error.kind(), kind);
            assert_eq!(counting.total(), made);
        }
    });
}

#[test]
fn calls_above_the_rate_are_refused_until_the_second_is_over() {
    run(async {
        let (rt, inner, table) = stream();
        let throttled = ThrottledSource::new(inner, rt.clone()).limit(SourceOp::ListStreams, 2);
        for _second in 0..2 {
            for _call in 0..2 {
                throttled.list_streams(&table).await.expect("within the rate");
            }
            let error = throttled.list_streams(&table).await.expect_err("above the rate");
            assert_eq!(error.kind(), SourceErrorKind::Throttled);
            rt.sleep(Duration::from_secs(1)).await;
        }
    });
}
