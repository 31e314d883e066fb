use async_trait::async_trait;

use super::*;
use crate::contract::{RecordsPage, ShardIterator};
use crate::model::{IteratorPosition, ShardId, StreamSummary};

const OLD: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000";
const NEW: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-02T00:00:00.000";

/// Answers as it is told: which streams are listed, and how each call fails.
#[derive(Debug, Default)]
struct Answers {
    streams: Vec<StreamArn>,
    list_fails: Option<SourceErrorKind>,
    describe_fails: Option<SourceErrorKind>,
    disabled: bool,
}

#[async_trait]
impl StreamSource for Answers {
    async fn list_streams(&self, _table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        match self.list_fails {
            Some(kind) => Err(SourceError::new(kind, "ListStreams")),
            None => Ok(self.streams.iter().map(|arn| StreamSummary { arn: arn.clone() }).collect()),
        }
    }

    async fn describe_stream(
        &self,
        stream: &StreamArn,
        _page: &DescribePage,
    ) -> Result<StreamDescription, SourceError> {
        if let Some(kind) = self.describe_fails {
            return Err(SourceError::new(kind, "DescribeStream"));
        }
        if !self.streams.contains(stream) {
            return Err(SourceError::new(SourceErrorKind::NotFound, "DescribeStream"));
        }
        let status = if self.disabled { StreamStatus::Disabled } else { StreamStatus::Enabled };
        let view_type = Some(StreamViewType::NewImage);
        Ok(StreamDescription { status, view_type, shards: Vec::new(), last_evaluated: None })
    }

    async fn shard_iterator(
        &self,
        _stream: &StreamArn,
        _shard: &ShardId,
        _position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError> {
        unreachable!("resolving reads no shard")
    }

    async fn get_records(&self, _iterator: &ShardIterator, _limit: usize) -> Result<RecordsPage, SourceError> {
        unreachable!("resolving reads no shard")
    }
}

fn arn(text: &str) -> StreamArn {
    text.parse().expect(text)
}

fn spec(text: &str) -> StreamSpec {
    text.parse().expect(text)
}

fn two_streams() -> Answers {
    Answers { streams: vec![arn(OLD), arn(NEW)], ..Answers::default() }
}

async fn refused(source: &Answers, named: &str, region: Option<&str>) -> ResolveError {
    resolve(source, &spec(named), region).await.expect_err(named)
}

#[test]
fn a_spec_is_a_stream_arn_a_table_arn_or_a_name() {
    assert_eq!(spec(NEW), StreamSpec::Stream(arn(NEW)));
    assert_eq!(spec("orders"), StreamSpec::from("orders".parse::<TableName>().expect("legal")));
    let by_arn = spec("arn:aws:dynamodb:eu-west-1:123456789012:table/orders");
    assert_eq!((by_arn.table_name(), by_arn.region()), ("orders", Some("eu-west-1")));
    for text in ["", "a b c", "arn:aws:sqs:eu-west-1:123456789012:q", "arn:aws:dynamodb:r:1:table/orders/stream/l"] {
        assert!(text.parse::<StreamSpec>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_table_means_its_newest_stream_and_names_the_older_ones() {
    for named in ["orders", "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"] {
        let found = resolve(&two_streams(), &spec(named), Some("eu-west-1")).await.expect(named);
        assert_eq!((found.arn, found.older), (arn(NEW), vec![arn(OLD)]));
        assert_eq!((found.status, found.view_type), (StreamStatus::Enabled, Some(StreamViewType::NewImage)));
    }
}

#[tokio::test]
async fn a_stream_named_by_its_arn_needs_no_listing() {
    let source = Answers { list_fails: Some(SourceErrorKind::Denied { action: "ListStreams" }), ..two_streams() };
    let found = resolve(&source, &spec(OLD), Some("eu-west-1")).await.expect("described");
    assert_eq!((found.arn, found.older), (arn(OLD), Vec::new()));
}

#[tokio::test]
async fn an_arn_of_another_region_is_refused_before_any_call() {
    let source = Answers { list_fails: Some(SourceErrorKind::Unavailable), ..Answers::default() };
    for named in [NEW, "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"] {
        let error = refused(&source, named, Some("us-east-1")).await;
        assert!(matches!(error, ResolveError::WrongRegion { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("eu-west-1") && text.contains("us-east-1"), "{text}");
    }
}

#[tokio::test]
async fn arns_of_dynamodb_local_pass_in_every_region_and_all_arns_behind_an_own_endpoint() {
    let local = NEW.replace("eu-west-1", "ddblocal");
    let source = Answers { streams: vec![arn(NEW), arn(&local)], ..Answers::default() };
    assert!(resolve(&source, &spec(&local), Some("us-east-1")).await.is_ok());
    assert!(resolve(&source, &spec(NEW), None).await.is_ok());
}

#[tokio::test]
async fn a_table_that_is_unknown_or_has_no_stream_is_told_with_the_remedy() {
    let unknown = Answers { list_fails: Some(SourceErrorKind::NotFound), ..Answers::default() };
    for source in [unknown, Answers::default()] {
        let error = refused(&source, "orders", Some("eu-west-1")).await;
        assert!(matches!(error, ResolveError::NoStream { .. }), "{error}");
        assert!(!error.is_retryable());
        let text = error.to_string();
        assert!(text.contains("table orders has no stream in eu-west-1") && text.contains("UpdateTable"), "{text}");
    }
}

#[tokio::test]
async fn an_unknown_stream_is_told_with_the_remedy() {
    let error = refused(&Answers::default(), NEW, None).await;
    assert!(matches!(error, ResolveError::NoSuchStream { .. }), "{error}");
    assert!(error.to_string().contains("name the table instead"), "{error}");
}

#[tokio::test]
async fn a_disabled_stream_is_found_and_refused_only_where_changes_are_required() {
    let source = Answers { disabled: true, ..two_streams() };
    let found = resolve(&source, &spec("orders"), None).await.expect("still readable");
    assert_eq!(found.status, StreamStatus::Disabled);
    let error = found.require_enabled().expect_err("disabled");
    assert!(error.to_string().contains("enable a stream on table orders"), "{error}");
    let enabled = resolve(&two_streams(), &spec("orders"), None).await.expect("found");
    assert!(enabled.require_enabled().is_ok());
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let list = Answers { list_fails: Some(SourceErrorKind::Denied { action: "ListStreams" }), ..two_streams() };
    let describe =
        Answers { describe_fails: Some(SourceErrorKind::Denied { action: "DescribeStream" }), ..two_streams() };
    for (source, action) in [(list, "dynamodb:ListStreams"), (describe, "dynamodb:DescribeStream")] {
        let text = refused(&source, "orders", None).await.to_string();
        assert!(text.contains(action) && text.contains("table/orders/stream/*"), "{text}");
    }
}

#[tokio::test]
async fn a_failed_call_is_passed_on_with_its_retryability() {
    for (kind, retryable) in
        [(SourceErrorKind::Throttled, true), (SourceErrorKind::Unavailable, true), (SourceErrorKind::Invalid, false)]
    {
        let listing = Answers { list_fails: Some(kind), ..two_streams() };
        assert_eq!(refused(&listing, "orders", None).await.is_retryable(), retryable);
        let describing = Answers { describe_fails: Some(kind), ..two_streams() };
        assert_eq!(refused(&describing, NEW, None).await.is_retryable(), retryable);
    }
}

/// Throttles so many calls before it answers.
#[derive(Debug)]
struct Busy {
    inner: Answers,
    refusals: std::sync::atomic::AtomicU32,
}

#[async_trait]
impl StreamSource for Busy {
    async fn list_streams(&self, table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        self.inner.list_streams(table).await
    }

    async fn describe_stream(&self, stream: &StreamArn, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        use std::sync::atomic::Ordering::Relaxed;
        match self.refusals.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(SourceError::new(SourceErrorKind::Throttled, "DescribeStream")),
            Err(_) => self.inner.describe_stream(stream, page).await,
        }
    }

    async fn shard_iterator(
        &self,
        _stream: &StreamArn,
        _shard: &ShardId,
        _position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError> {
        unreachable!("resolving reads no shard")
    }

    async fn get_records(&self, _iterator: &ShardIterator, _limit: usize) -> Result<RecordsPage, SourceError> {
        unreachable!("resolving reads no shard")
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_start_outlasts_throttling() {
    let rt = Rt::tokio().expect("in a runtime");
    let busy = Busy { inner: two_streams(), refusals: 8.into() };
    let found = resolve_patiently(&rt, TIMEOUT, &busy, &spec("orders"), None).await.expect("at last");
    assert_eq!(found.arn, arn(NEW));
}

#[tokio::test(start_paused = true)]
async fn a_start_gives_up_within_some_call_timeouts_and_at_once_where_asking_again_does_not_help() {
    let rt = Rt::tokio().expect("in a runtime");
    let busy = Busy { inner: two_streams(), refusals: u32::MAX.into() };
    let begun = rt.now();
    let error = resolve_patiently(&rt, TIMEOUT, &busy, &spec(NEW), None).await.expect_err("throttled for ever");
    assert!(error.is_retryable(), "{error}");
    let took = rt.now().since(begun);
    assert!((TIMEOUT * 3..=TIMEOUT * 4).contains(&took), "{took:?}");
    let begun = rt.now();
    let error = resolve_patiently(&rt, TIMEOUT, &Answers::default(), &spec(NEW), None).await.expect_err("unknown");
    assert!(matches!(error, ResolveError::NoSuchStream { .. }), "{error}");
    assert!(rt.now().since(begun) < Duration::from_millis(200), "it was asked again");
}
