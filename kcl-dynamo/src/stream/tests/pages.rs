//! What is kept of an answer to GetRecords.

use kcl_core::{MAX_RECORDS, RecordsPage, ShardIterator, SourceError, SourceErrorKind, StreamSource};

use super::script::{Answer, Script, source};
use crate::stream::{DynamoStreamSource, StreamOptions};

const PAGE: &str = r#"{"Records":[{"eventID":"e1","eventName":"INSERT","eventVersion":"1.1","eventSource":"aws:dynamodb",
    "awsRegion":"eu-west-1","dynamodb":{"ApproximateCreationDateTime":1.7E9,"Keys":{"id":{"S":"a"}},
    "NewImage":{"id":{"S":"a"},"n":{"N":"1"}},"SequenceNumber":"000000000000000000007","SizeBytes":9,
    "StreamViewType":"NEW_IMAGE"}}],"NextShardIterator":"next"}"#;

async fn get(script: &Script) -> Result<RecordsPage, SourceError> {
    source(script).get_records(&ShardIterator::new("token"), MAX_RECORDS).await
}

async fn refused(answer: Answer) -> SourceErrorKind {
    get(&Script::new([answer])).await.expect_err("a damaged answer").kind()
}

#[tokio::test]
async fn a_page_is_kept_and_decoded() {
    let script = Script::new([Answer::ok(PAGE)]);
    let page = get(&script).await.expect("a good page");
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.records[0].sequence_number().as_str(), "000000000000000000007");
    assert_eq!(page.next, Some(ShardIterator::new("next")));
    let asked = &script.asked()[0];
    assert_eq!(asked.target, "DynamoDBStreams_20120810.GetRecords");
    assert_eq!((&asked.body["ShardIterator"], &asked.body["Limit"]), (&"token".into(), &MAX_RECORDS.into()));
}

#[tokio::test]
async fn a_page_in_pieces_is_put_together() {
    let (first, second) = PAGE.split_at(100);
    let page = get(&Script::new([Answer::of_frames(vec![Ok(first), Ok(""), Ok(second)])])).await.expect("a good page");
    assert_eq!(page.records.len(), 1);
}

#[tokio::test]
async fn only_an_absent_next_iterator_ends_a_shard() {
    let open = get(&Script::new([Answer::ok(r#"{"Records":[],"NextShardIterator":"next"}"#)])).await.expect("a page");
    assert!(open.records.is_empty() && open.next.is_some());
    let last =
        get(&Script::new([Answer::ok(&PAGE.replace(r#","NextShardIterator":"next""#, ""))])).await.expect("a page");
    assert_eq!((last.records.len(), last.next), (1, None));
    let empty = get(&Script::new([Answer::ok(r#"{"Records":[]}"#)])).await.expect("a page");
    assert_eq!((empty.records.len(), empty.next), (0, None));
}

#[tokio::test]
async fn a_checksum_is_verified_where_it_is_sent() {
    let sum = crc32fast::hash(PAGE.as_bytes());
    let good = Answer::ok(PAGE).with_header("x-amz-crc32", &sum);
    assert!(get(&Script::new([good])).await.is_ok());
    let changed = Answer::ok(&PAGE.replace("INSERT", "REMOVE")).with_header("x-amz-crc32", &sum);
    assert_eq!(refused(changed).await, SourceErrorKind::Corrupt);
    assert_eq!(refused(Answer::ok(PAGE).with_header("x-amz-crc32", &"none")).await, SourceErrorKind::Corrupt);
}

#[tokio::test]
async fn a_body_that_is_no_page_is_damaged_and_never_the_end_of_a_shard() {
    for body in ["", "<html>", "[]", &PAGE[..PAGE.len() - 1], &PAGE.replace("0007", "x"), r#"{"Records":[{}]}"#] {
        let error = get(&Script::new([Answer::ok(body)])).await.expect_err(body);
        assert_eq!(error.kind(), SourceErrorKind::Corrupt, "{body}");
        let fault = std::error::Error::source(&error).expect("a reason");
        assert!(fault.source().is_some(), "the codec says where the page is wrong: {fault}");
    }
}

#[tokio::test]
async fn a_page_beyond_the_limit_is_refused_whether_or_not_its_length_was_told() {
    for answer in [
        Answer::ok(PAGE),
        Answer::ok(PAGE).with_header("content-length", &PAGE.len()),
        Answer::ok(PAGE).with_header("content-length", &usize::MAX),
        Answer::of_frames(vec![Ok(PAGE), Ok(PAGE), Ok(PAGE)]),
    ] {
        let script = Script::new([answer]);
        let options = StreamOptions { max_page_bytes: PAGE.len() - 1, ..StreamOptions::default() };
        let source = DynamoStreamSource::new(&script.config(), &options).expect("complete");
        let error = source.get_records(&ShardIterator::new("token"), MAX_RECORDS).await.expect_err("too long");
        assert_eq!(error.kind(), SourceErrorKind::Corrupt);
        let text = std::error::Error::source(&error).expect("a reason").to_string();
        assert!(text.contains("longer than"), "{text}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_within_the_page_is_unavailable() {
    let broken = Answer::of_frames(vec![Ok(r#"{"Records":["#), Err("connection reset")]);
    assert_eq!(refused(broken).await, SourceErrorKind::Unavailable);
}
