//! The source against modelled answers: what is asked, what is made of an answer, what is kept of a page.

mod errors;
mod pages;
mod script;

use kcl_core::{SourceErrorKind, StreamStatus, StreamViewType};

use self::script::{Answer, Script, arn, shard, source};
use super::*;

#[tokio::test]
async fn a_listing_is_followed_through_its_pages_and_sorted_by_age() {
    let stream = |table: &str, label: &str| {
        format!(r#"{{"StreamArn":"arn:aws:dynamodb:eu-west-1:123456789012:table/{table}/stream/{label}"}}"#)
    };
    let script = Script::new([
        Answer::ok(&format!(
            r#"{{"Streams":[{},{}],"LastEvaluatedStreamArn":"a"}}"#,
            stream("orders", "2026-03"),
            stream("other", "2026-02")
        )),
        Answer::ok(&format!(r#"{{"Streams":[{}]}}"#, stream("orders", "2026-01"))),
    ]);
    let listed = source(&script).list_streams(&"orders".parse().expect("legal")).await.expect("listed");
    let labels: Vec<&str> = listed.iter().map(|s| s.arn.label()).collect();
    assert_eq!(labels, ["2026-01", "2026-03"]);
    let asked = script.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].target, "DynamoDBStreams_20120810.ListStreams");
    assert_eq!(asked[0].body["TableName"], "orders");
    assert_eq!(asked[1].body["ExclusiveStartStreamArn"], "a");
}

#[tokio::test]
async fn a_listing_that_does_not_end_is_given_up() {
    let circling = Script::new((0..100).map(|_| Answer::ok(r#"{"Streams":[],"LastEvaluatedStreamArn":"a"}"#)));
    let growing =
        Script::new((0..100).map(|n| Answer::ok(&format!(r#"{{"Streams":[],"LastEvaluatedStreamArn":"{n}"}}"#))));
    for (script, calls) in [(circling, 2), (growing, MAX_LIST_PAGES)] {
        let error = source(&script).list_streams(&"orders".parse().expect("legal")).await.expect_err("endless");
        assert_eq!(error.kind(), SourceErrorKind::Corrupt);
        assert_eq!(script.asked().len(), calls);
    }
}

#[tokio::test]
async fn a_description_is_one_page_with_its_shards() {
    let script = Script::new([Answer::ok(
        r#"{"StreamDescription":{"StreamStatus":"DISABLING","StreamViewType":"NEW_KIND","LastEvaluatedShardId":"s2","Shards":[
            {"ShardId":"s1","ParentShardId":"s0","SequenceNumberRange":{"StartingSequenceNumber":"1","EndingSequenceNumber":"9"}},
            {"ShardId":"s2","SequenceNumberRange":{"StartingSequenceNumber":"10"}}]}}"#,
    )]);
    let page = DescribePage { after: Some(shard("s-1")), children_of: None };
    let described = source(&script).describe_stream(&arn(), &page).await.expect("described");
    assert_eq!(described.status, StreamStatus::Disabling);
    assert_eq!(described.view_type, Some(StreamViewType::Unknown("NEW_KIND".to_owned())));
    assert_eq!(described.last_evaluated, Some(shard("s2")));
    let closed: Vec<bool> = described.shards.iter().map(kcl_core::Shard::is_closed).collect();
    assert_eq!(closed, [true, false]);
    assert_eq!(described.shards[0].parent, Some(shard("s0")));
    let asked = &script.asked()[0].body;
    assert_eq!(asked["ExclusiveStartShardId"], "s-1");
    assert!(asked.get("ShardFilter").is_none());
}

#[tokio::test]
async fn children_are_asked_for_by_the_service_s_filter() {
    let script = Script::new([Answer::ok(r#"{"StreamDescription":{"StreamStatus":"ENABLED"}}"#)]);
    let page = DescribePage { after: None, children_of: Some(shard("s1")) };
    let described = source(&script).describe_stream(&arn(), &page).await.expect("described");
    assert!(described.shards.is_empty() && described.last_evaluated.is_none());
    let filter = &script.asked()[0].body["ShardFilter"];
    assert_eq!((&filter["Type"], &filter["ShardId"]), (&"CHILD_SHARDS".into(), &"s1".into()));
}

#[tokio::test]
async fn a_description_that_makes_no_sense_is_damaged() {
    for body in [
        "{}",
        r#"{"StreamDescription":{}}"#,
        r#"{"StreamDescription":{"StreamStatus":"MELTING"}}"#,
        r#"{"StreamDescription":{"StreamStatus":"ENABLED","Shards":[{}]}}"#,
        r#"{"StreamDescription":{"StreamStatus":"ENABLED","Shards":[{"ShardId":"s","SequenceNumberRange":{"StartingSequenceNumber":"x"}}]}}"#,
        "<html>",
    ] {
        let script = Script::new([Answer::ok(body)]);
        let error = source(&script).describe_stream(&arn(), &DescribePage::default()).await.expect_err(body);
        assert_eq!(error.kind(), SourceErrorKind::Corrupt, "{body}");
    }
}

#[tokio::test]
async fn an_iterator_is_asked_for_with_the_text_that_the_service_gave() {
    let number = "000000000000000000007".parse().expect("legal");
    for (position, kind, text) in [
        (IteratorPosition::TrimHorizon, "TRIM_HORIZON", None),
        (IteratorPosition::Latest, "LATEST", None),
        (IteratorPosition::At(number), "AT_SEQUENCE_NUMBER", Some("000000000000000000007")),
        (IteratorPosition::After(number), "AFTER_SEQUENCE_NUMBER", Some("000000000000000000007")),
    ] {
        let script = Script::new([Answer::ok(r#"{"ShardIterator":"token"}"#)]);
        let iterator = source(&script).shard_iterator(&arn(), &shard("s1"), position).await.expect(kind);
        assert_eq!(iterator.as_str(), "token");
        let asked = &script.asked()[0].body;
        assert_eq!(asked["ShardIteratorType"], kind);
        assert_eq!(asked.get("SequenceNumber").and_then(|n| n.as_str()), text);
    }
    let script = Script::new([Answer::ok("{}")]);
    let error = source(&script).shard_iterator(&arn(), &shard("s1"), IteratorPosition::Latest).await;
    assert_eq!(error.expect_err("no iterator").kind(), SourceErrorKind::Corrupt);
}

#[test]
fn a_configuration_without_region_or_credentials_is_refused_with_the_remedy() {
    let options = StreamOptions::default();
    let whole = Script::new([]).config();
    assert!(DynamoStreamSource::new(&whole, &options).is_ok());
    let no_region = whole.to_builder().region(None).build();
    let error = DynamoStreamSource::new(&no_region, &options).expect_err("no region");
    assert_eq!(error, ClientConfigError::NoRegion);
    assert!(error.to_string().contains("AWS_REGION"));
    let no_credentials = SdkConfig::builder().region(whole.region().cloned()).build();
    let error = DynamoStreamSource::new(&no_credentials, &options).expect_err("no credentials");
    assert_eq!(error, ClientConfigError::NoCredentials);
}

#[test]
fn a_configuration_without_behaviour_version_or_http_client_will_do() {
    let whole = Script::new([]).config();
    let bare = SdkConfig::builder()
        .region(whole.region().cloned())
        .credentials_provider(whole.credentials_provider().expect("set"))
        .build();
    assert!(DynamoStreamSource::new(&bare, &StreamOptions::default()).is_ok());
}

#[tokio::test]
async fn arns_are_held_to_the_region_unless_the_endpoint_is_the_user_s_own() {
    let script = Script::new([]);
    let aws = source(&script);
    assert_eq!(aws.home_region(), Some("eu-west-1"));
    let elsewhere = "arn:aws:dynamodb:us-east-1:123456789012:table/orders".parse().expect("legal");
    let error = aws.resolve(&elsewhere).await.expect_err("another region");
    assert!(matches!(error, ResolveError::WrongRegion { .. }), "{error}");
    assert!(script.asked().is_empty(), "refused before any call");

    let own = script.config().to_builder().endpoint_url("http://localhost:1").build();
    let own = DynamoStreamSource::new(&own, &StreamOptions::default()).expect("complete");
    assert_eq!(own.home_region(), None);
}

#[tokio::test]
async fn a_source_made_from_a_client_keeps_its_place_and_drops_its_retries() {
    let script = Script::new([Answer::error(500, "InternalServerError"), Answer::ok(r#"{"Streams":[]}"#)]);
    let eager =
        script.config().to_builder().retry_config(aws_sdk_dynamodbstreams::config::retry::RetryConfig::standard());
    let client = Client::new(&eager.build());
    let source = DynamoStreamSource::from_client(&client, &StreamOptions::default()).expect("complete");
    assert_eq!(source.home_region(), Some("eu-west-1"));
    let error = source.list_streams(&"orders".parse().expect("legal")).await.expect_err("one request, one answer");
    assert_eq!(error.kind(), SourceErrorKind::Unavailable);
    assert_eq!(script.asked().len(), 1);
}
