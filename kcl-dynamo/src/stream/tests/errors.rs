//! Which error a failed call ends in.

use std::error::Error as _;
use std::time::Duration;

use kcl_core::{
    DescribePage, IteratorPosition, MAX_RECORDS, ShardIterator, SourceError, SourceErrorKind, StreamSource,
};

use super::script::{Answer, Script, arn, shard, source};
use crate::stream::{DynamoStreamSource, ServiceFault, StreamOptions};

const OPERATIONS: [&str; 4] = ["ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"];

async fn call(source: &DynamoStreamSource, operation: &str) -> Result<(), SourceError> {
    match operation {
        "ListStreams" => source.list_streams(&"orders".parse().expect("legal")).await.map(drop),
        "DescribeStream" => source.describe_stream(&arn(), &DescribePage::default()).await.map(drop),
        "GetShardIterator" => source.shard_iterator(&arn(), &shard("s"), IteratorPosition::Latest).await.map(drop),
        _ => source.get_records(&ShardIterator::new("token"), MAX_RECORDS).await.map(drop),
    }
}

async fn failure(operation: &str, answer: Answer) -> SourceError {
    let script = Script::new([answer]);
    let error = call(&source(&script), operation).await.expect_err(operation);
    assert_eq!(script.asked().len(), 1, "one call is one request");
    error
}

fn fault(error: &SourceError) -> &ServiceFault {
    error.source().and_then(|cause| cause.downcast_ref()).expect("every failed call says what was answered")
}

#[tokio::test]
async fn every_code_has_its_class_in_every_operation() {
    for operation in OPERATIONS {
        for (code, kind) in [
            ("ExpiredIteratorException", SourceErrorKind::Expired),
            ("TrimmedDataAccessException", SourceErrorKind::Trimmed),
            ("ResourceNotFoundException", SourceErrorKind::NotFound),
            ("LimitExceededException", SourceErrorKind::Throttled),
            ("ThrottlingException", SourceErrorKind::Throttled),
            ("ProvisionedThroughputExceededException", SourceErrorKind::Throttled),
            ("RequestLimitExceeded", SourceErrorKind::Throttled),
            ("TooManyRequestsException", SourceErrorKind::Throttled),
            ("ValidationException", SourceErrorKind::Invalid),
            ("SerializationException", SourceErrorKind::Invalid),
            ("UnknownOperationException", SourceErrorKind::Invalid),
            ("InternalServerError", SourceErrorKind::Unavailable),
            ("InternalFailure", SourceErrorKind::Unavailable),
            ("SomethingNewException", SourceErrorKind::Invalid),
        ] {
            let error = failure(operation, Answer::error(400, code)).await;
            assert_eq!(error.kind(), kind, "{operation} {code}");
            assert_eq!(fault(&error).code(), Some(code));
            assert!(error.to_string().starts_with(operation), "{error}");
        }
    }
}

#[tokio::test]
async fn a_missing_permission_names_the_action_and_bad_credentials_the_remedy() {
    for action in OPERATIONS {
        let error = failure(action, Answer::error(400, "AccessDeniedException")).await;
        assert_eq!(error.kind(), SourceErrorKind::Denied { action });
        assert!(error.to_string().contains(&format!("dynamodb:{action}")), "{error}");
        for code in ["UnrecognizedClientException", "ExpiredTokenException", "InvalidSignatureException"] {
            let error = failure(action, Answer::error(400, code)).await;
            assert!(matches!(error.kind(), SourceErrorKind::Denied { .. }), "{code}");
            assert!(fault(&error).to_string().contains("credentials are wrong or have expired"), "{code}");
        }
    }
}

#[tokio::test]
async fn an_answer_without_a_known_code_is_classed_by_its_status() {
    for operation in OPERATIONS {
        for (status, kind) in [
            (500, SourceErrorKind::Unavailable),
            (502, SourceErrorKind::Unavailable),
            (503, SourceErrorKind::Unavailable),
            (429, SourceErrorKind::Throttled),
            (404, SourceErrorKind::Invalid),
        ] {
            for body in ["", "{}", "<html>", r#"{"__type":"x#Unheard"}"#] {
                let error = failure(operation, Answer::status(status, body)).await;
                assert_eq!(error.kind(), kind, "{operation} {status} {body}");
            }
        }
    }
}

#[tokio::test]
async fn a_message_never_decides() {
    let misleading = r#"{"__type":"x#ValidationException","message":"ThrottlingException ExpiredIteratorException"}"#;
    let error = failure("GetRecords", Answer::status(400, misleading)).await;
    assert_eq!(error.kind(), SourceErrorKind::Invalid);
}

#[tokio::test]
async fn a_fault_tells_code_reason_request_and_whom_was_asked() {
    let answer = Answer::error(400, "ResourceNotFoundException").with_header("x-amzn-requestid", &"R1");
    let error = failure("DescribeStream", answer).await;
    let fault = fault(&error);
    assert_eq!((fault.status(), fault.request_id()), (Some(400), Some("R1")));
    assert_eq!(
        fault.to_string(),
        "ResourceNotFoundException: because (asked DynamoDB Streams in eu-west-1, request R1); \
         check table, stream, account, region and endpoint"
    );
}

#[tokio::test]
async fn no_connection_and_no_answer_are_unavailable_and_name_the_endpoint() {
    for operation in OPERATIONS {
        for answer in [Answer::Refused, Answer::Never] {
            let script = Script::new([answer]);
            let config = script.config().to_builder().endpoint_url("http://localhost:1").build();
            let options = StreamOptions { request_timeout: Duration::from_millis(20), ..StreamOptions::default() };
            let source = DynamoStreamSource::new(&config, &options).expect("complete");
            let error = call(&source, operation).await.expect_err(operation);
            assert_eq!(error.kind(), SourceErrorKind::Unavailable);
            let text = fault(&error).to_string();
            assert!(text.contains("http://localhost:1") && text.contains("check the network"), "{text}");
            assert!(fault(&error).source().is_some(), "the cause says more");
        }
    }
}
