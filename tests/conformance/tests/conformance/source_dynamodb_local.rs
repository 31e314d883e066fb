//! The SDK's stream source against DynamoDB Local: one shard, which disabling closes; no splits, no throttles.

mod suite;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType,
};
use conformance::dynamodb_local::{self, LocalServer};
use kcl_dynamo::{
    DescribePage, DynamoStreamSource, EventName, IteratorPosition, MAX_RECORDS, Record, ResolveError, ShardIterator,
    SourceErrorKind, StreamArn, StreamOptions, StreamSource, StreamSpec, StreamStatus,
};

fn started(test: &str) -> Option<(LocalServer, DynamoStreamSource)> {
    let server = dynamodb_local::start().or_skip(test)?;
    let source = DynamoStreamSource::new(&server.config(), &StreamOptions::default()).expect("a whole configuration");
    Some((server, source))
}

fn stream_of(view_type: StreamViewType) -> StreamSpecification {
    StreamSpecification::builder().stream_enabled(true).stream_view_type(view_type).build().expect("whole")
}

fn stream_of_both_images() -> StreamSpecification {
    stream_of(StreamViewType::NewAndOldImages)
}

async fn create_table(db: &Client, name: &str, stream: Option<StreamSpecification>) {
    let id = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash);
    db.create_table()
        .table_name(name)
        .attribute_definitions(id.build().expect("whole"))
        .key_schema(key.build().expect("whole"))
        .billing_mode(BillingMode::PayPerRequest)
        .set_stream_specification(stream)
        .send()
        .await
        .expect("created");
}

async fn put(db: &Client, table: &str, id: &str, n: u32) {
    db.put_item()
        .table_name(table)
        .item("id", AttributeValue::S(id.to_owned()))
        .item("n", AttributeValue::N(n.to_string()))
        .send()
        .await
        .expect("put");
}

async fn set_stream(db: &Client, table: &str, enabled: bool) {
    let off = || StreamSpecification::builder().stream_enabled(false).build().expect("whole");
    let spec = if enabled { stream_of_both_images() } else { off() };
    db.update_table().table_name(table).stream_specification(spec).send().await.expect("updated");
}

async fn found(source: &DynamoStreamSource, table: &str) -> StreamArn {
    source.resolve(&table.parse().expect("legal")).await.expect("the table has a stream").arn
}

async fn iterator(source: &DynamoStreamSource, stream: &StreamArn, position: IteratorPosition) -> ShardIterator {
    let described = source.describe_stream(stream, &DescribePage::default()).await.expect("described");
    let shard = described.shards.first().expect("one shard");
    source.shard_iterator(stream, &shard.id, position).await.expect("an iterator")
}

/// Reads on until a page is empty, or the shard ends.
async fn drain(source: &DynamoStreamSource, from: ShardIterator, limit: usize) -> (Vec<Record>, Option<ShardIterator>) {
    let (mut records, mut next) = (Vec::new(), Some(from));
    while let Some(at) = next {
        let page = source.get_records(&at, limit).await.expect("a page");
        records.extend(page.records.iter().cloned());
        next = page.next;
        if page.records.is_empty() {
            break;
        }
    }
    (records, next)
}

#[tokio::test]
async fn changes_arrive_in_order_with_their_images_and_any_position_finds_its_place() {
    let Some((server, source)) = started("changes_arrive_in_order") else { return };
    let db = server.dynamodb();
    create_table(&db, "orders", Some(stream_of_both_images())).await;
    for n in 0..5 {
        put(&db, "orders", "a", n).await;
    }
    let stream = found(&source, "orders").await;
    assert_eq!((stream.region(), stream.table_name()), ("ddblocal", "orders"));

    let from = iterator(&source, &stream, IteratorPosition::TrimHorizon).await;
    let (records, next) = drain(&source, from.clone(), 2).await;
    assert_eq!(records.len(), 5);
    assert!(next.is_some(), "the shard is open");
    assert!(records.is_sorted_by_key(Record::sequence_number));
    assert_eq!(records[0].event_name(), EventName::Insert);
    assert_eq!(records[4].event_name(), EventName::Modify);
    let image = records[4].new_image().expect("decodes").expect("is there");
    assert_eq!(image.into_inner()["n"], serde_dynamo::AttributeValue::N("4".to_owned()));

    let again = source.get_records(&from, MAX_RECORDS).await.expect("a page");
    assert_eq!(again.records.len(), 5, "an iterator can be asked again");
    let third = records[2].sequence_number();
    for (position, left) in [(IteratorPosition::At(third), 3), (IteratorPosition::After(third), 2)] {
        let from = iterator(&source, &stream, position).await;
        assert_eq!(drain(&source, from, MAX_RECORDS).await.0.len(), left);
    }
    let from = iterator(&source, &stream, IteratorPosition::Latest).await;
    put(&db, "orders", "b", 0).await;
    assert_eq!(drain(&source, from, MAX_RECORDS).await.0.len(), 1);
}

#[tokio::test]
async fn disabling_ends_the_shard_after_its_last_record_and_enabling_again_makes_another_stream() {
    let Some((server, source)) = started("disabling_ends_the_shard") else { return };
    let db = server.dynamodb();
    create_table(&db, "orders", Some(stream_of_both_images())).await;
    put(&db, "orders", "a", 1).await;
    let old = found(&source, "orders").await;
    let from = iterator(&source, &old, IteratorPosition::TrimHorizon).await;
    set_stream(&db, "orders", false).await;

    let (records, next) = drain(&source, from, MAX_RECORDS).await;
    assert_eq!((records.len(), next), (1, None));
    let described = source.describe_stream(&old, &DescribePage::default()).await.expect("still there");
    assert_eq!(described.status, StreamStatus::Disabled);
    assert!(described.shards[0].is_closed());
    let children = DescribePage { after: None, children_of: Some(described.shards[0].id.clone()) };
    assert!(source.describe_stream(&old, &children).await.expect("described").shards.is_empty());
    let disabled = source.resolve(&"orders".parse().expect("legal")).await.expect("still readable");
    assert!(matches!(disabled.require_enabled(), Err(ResolveError::Disabled { .. })));

    // Labels are instants to the millisecond, and this test wants to see two.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    set_stream(&db, "orders", true).await;
    let spec: StreamSpec = "arn:aws:dynamodb:ddblocal:000000000000:table/orders".parse().expect("legal");
    let now = source.resolve(&spec).await.expect("the new stream");
    assert_eq!((now.status, now.older), (StreamStatus::Enabled, vec![old.clone()]));
    assert!(now.arn.label() > old.label());
}

#[tokio::test]
async fn bad_input_ends_in_an_error_that_names_what_to_change() {
    let Some((server, source)) = started("bad_input") else { return };
    let db = server.dynamodb();
    create_table(&db, "silent", None).await;
    for table in ["silent", "absent"] {
        let error = source.resolve(&table.parse().expect("legal")).await.expect_err("no stream");
        assert!(matches!(error, ResolveError::NoStream { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("table {table} has no stream")), "{error}");
    }
    let unknown: StreamSpec =
        "arn:aws:dynamodb:ddblocal:000000000000:table/absent/stream/2026-01-01T00:00:00.000".parse().expect("legal");
    let error = source.resolve(&unknown).await.expect_err("no such stream");
    assert!(matches!(error, ResolveError::NoSuchStream { .. }), "{error:?}");

    let nobody = dynamodb_local::config("http://127.0.0.1:9");
    let nobody = DynamoStreamSource::new(&nobody, &StreamOptions::default()).expect("a whole configuration");
    let error = nobody.resolve(&unknown).await.expect_err("nobody is there");
    let ResolveError::Call { source: call, .. } = error else { panic!("{error:?}") };
    assert_eq!(call.kind(), SourceErrorKind::Unavailable);
    let why = std::error::Error::source(&call).expect("a reason").to_string();
    assert!(why.contains("http://127.0.0.1:9"), "{why}");
}

#[tokio::test]
async fn requests_that_the_service_refuses_are_invalid_or_not_found() {
    let Some((server, source)) = started("requests_that_the_service_refuses") else { return };
    let db = server.dynamodb();
    create_table(&db, "orders", Some(stream_of_both_images())).await;
    let stream = found(&source, "orders").await;
    let from = iterator(&source, &stream, IteratorPosition::TrimHorizon).await;
    for limit in [0, MAX_RECORDS + 1, usize::MAX] {
        let error = source.get_records(&from, limit).await.expect_err("beyond the range");
        assert_eq!(error.kind(), SourceErrorKind::Invalid, "{limit}: {error:?}");
    }
    let error = source.get_records(&ShardIterator::new("garbage"), 1).await.expect_err("no iterator");
    assert_eq!(error.kind(), SourceErrorKind::Invalid, "{error:?}");
    let shard = "shardId-00000000000000000000-00000000".parse().expect("legal");
    let error = source.shard_iterator(&stream, &shard, IteratorPosition::TrimHorizon).await.expect_err("no shard");
    assert_eq!(error.kind(), SourceErrorKind::NotFound, "{error:?}");
}
