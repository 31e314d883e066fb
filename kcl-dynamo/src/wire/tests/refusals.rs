//! What is answered to requests that cannot be granted: never a panic, always a code.

use serde_json::{Value, json};

use super::{answered, ask, ask_text, command, iterator, ordered, parsed, shards_of, stream_of, target, with_orders};
use crate::wire::{Answer, Request, WireService};

/// The error's code, without its namespace.
fn code(answer: &Answer) -> String {
    let body = parsed(answer);
    let full = body["__type"].as_str().expect("an error has a type").to_owned();
    full.split_once('#').expect("with a namespace").1.to_owned()
}

fn message(answer: &Answer) -> String {
    let body = parsed(answer);
    [&body["message"], &body["Message"]].iter().find_map(|text| text.as_str()).unwrap_or_default().to_owned()
}

const OPERATIONS: [&str; 8] = [
    "ListStreams",
    "DescribeStream",
    "GetShardIterator",
    "GetRecords",
    "DescribeTable",
    "PutItem",
    "DeleteItem",
    "BatchWriteItem",
];

#[test]
fn garbage_is_a_serialization_exception_in_every_operation() {
    let service = with_orders();
    let deep = "[".repeat(100_000);
    for operation in OPERATIONS {
        for garbage in [
            &b""[..],
            b"{",
            b"nonsense",
            b"[]",
            b"\"text\"",
            b"5",
            b"{\"TableName\":}",
            b"{} {}",
            b"\xff\xfe{}",
            deep.as_bytes(),
        ] {
            let answer = ask_text(&service, &target(operation), garbage);
            let shown = String::from_utf8_lossy(&garbage[..garbage.len().min(60)]);
            assert_eq!((answer.status, code(&answer).as_str()), (400, "SerializationException"), "{operation} {shown}");
        }
    }
}

#[test]
fn half_a_character_is_no_text() {
    let answer = ask_text(&with_orders(), &target("ListStreams"), br#"{"TableName": "\ud800"}"#);
    assert_eq!((answer.status, code(&answer).as_str()), (400, "SerializationException"));
}

#[test]
fn members_of_a_wrong_type_are_named_as_the_service_names_them() {
    let service = with_orders();
    for (operation, body, said) in [
        ("ListStreams", json!({ "TableName": 5 }), "NUMBER_VALUE cannot be converted to String"),
        ("ListStreams", json!({ "TableName": true }), "TRUE_VALUE cannot be converted to String"),
        ("ListStreams", json!({ "TableName": [] }), "Unrecognized collection type class java.lang.String"),
        ("ListStreams", json!({ "TableName": {} }), "Start of structure or map found where not expected"),
        ("ListStreams", json!({ "Limit": "5" }), "STRING_VALUE cannot be converted to Integer"),
        ("DescribeStream", json!({ "ShardFilter": "x" }), "Unexpected field type"),
        ("BatchWriteItem", json!({ "RequestItems": { "orders": "x" } }), "Unexpected field type"),
        (
            "BatchWriteItem",
            json!({ "RequestItems": { "orders": {} } }),
            "Start of structure or map found where not expected",
        ),
    ] {
        let answer = ask(&service, operation, &body);
        assert_eq!((code(&answer).as_str(), message(&answer).as_str()), ("SerializationException", said), "{body}");
    }
}

#[test]
fn what_is_no_operation_is_unknown() {
    let service = with_orders();
    for target in [
        None,
        Some(""),
        Some("DynamoDB_20120810.Frobnicate"),
        Some("DynamoDB_20120810.ListStreams"),
        Some("DynamoDBStreams_20120810.PutItem"),
        Some("DynamoDBStreams_20120810"),
        Some("Kinesis_20131202.GetRecords"),
    ] {
        let answer = service.answer(&Request { method: "POST", path: "/", target, body: b"{}" });
        assert_eq!((answer.status, code(&answer).as_str()), (400, "UnknownOperationException"), "{target:?}");
    }
    for (method, path) in [("PUT", "/"), ("POST", "/other"), ("GET", "/_controls"), ("DELETE", "/_control/x/y")] {
        let answer = service.answer(&Request { method, path, target: None, body: b"" });
        assert_eq!(answer.status, 404, "{method} {path}");
    }
    for method in ["GET", "HEAD"] {
        let healthy = service.answer(&Request { method, path: "/", target: None, body: b"" });
        assert_eq!(healthy.status, 200, "{method}");
    }
}

/// Every constraint, one by one: the operation, a member and its bad value, and what is said.
#[test]
fn constraints_are_refused_in_the_words_of_the_service() {
    let service = with_orders();
    let stream = stream_of(&service);
    let shard = shards_of(&service, &stream).remove(0);
    let whole = |operation: &str| match operation {
        "ListStreams" => json!({}),
        "DescribeStream" => json!({ "StreamArn": stream }),
        "GetShardIterator" => json!({ "StreamArn": stream, "ShardId": shard, "ShardIteratorType": "LATEST" }),
        _ => json!({ "ShardIterator": "x" }),
    };
    let long = "x".repeat(2049);
    for (operation, member, value, said) in [
        (
            "ListStreams",
            "Limit",
            json!(0),
            "Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            "ListStreams",
            "Limit",
            json!(101),
            "Value '101' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 100",
        ),
        (
            "ListStreams",
            "TableName",
            json!("a"),
            "at 'tableName' failed to satisfy constraint: Member must have length greater than or equal to 3",
        ),
        ("ListStreams", "TableName", json!("a b c"), "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"),
        ("ListStreams", "ExclusiveStartStreamArn", json!("x"), "at 'exclusiveStartStreamArn' failed"),
        (
            "DescribeStream",
            "StreamArn",
            Value::Null,
            "1 validation error detected: Value null at 'streamArn' failed to satisfy constraint: Member must not be null",
        ),
        ("DescribeStream", "StreamArn", json!("x"), "Member must have length greater than or equal to 37"),
        ("DescribeStream", "StreamArn", json!("a".repeat(50)), "Invalid StreamArn"),
        ("DescribeStream", "Limit", json!(-1), "at 'limit' failed"),
        (
            "DescribeStream",
            "ExclusiveStartShardId",
            json!("short"),
            "Member must have length greater than or equal to 28",
        ),
        (
            "DescribeStream",
            "ShardFilter",
            json!({ "Type": "PARENTS" }),
            "Member must satisfy enum value set: [CHILD_SHARDS]",
        ),
        (
            "GetShardIterator",
            "ShardIteratorType",
            json!("AT_TIMESTAMP"),
            "Member must satisfy enum value set: [AT_SEQUENCE_NUMBER, TRIM_HORIZON, LATEST, AFTER_SEQUENCE_NUMBER]",
        ),
        (
            "GetShardIterator",
            "ShardIteratorType",
            json!("AT_SEQUENCE_NUMBER"),
            "SequenceNumber is required for AT_SEQUENCE_NUMBER",
        ),
        (
            "GetShardIterator",
            "SequenceNumber",
            json!("000000000000000000001"),
            "SequenceNumber must not be provided for LATEST",
        ),
        ("GetShardIterator", "SequenceNumber", json!("1"), "Member must have length greater than or equal to 21"),
        ("GetShardIterator", "SequenceNumber", json!("x".repeat(21)), "Invalid SequenceNumber"),
        ("GetShardIterator", "ShardId", Value::Null, "Value null at 'shardId'"),
        ("GetRecords", "ShardIterator", Value::Null, "Value null at 'shardIterator'"),
        ("GetRecords", "ShardIterator", json!(""), "Member must have length greater than or equal to 1"),
        ("GetRecords", "ShardIterator", json!(long), "Member must have length less than or equal to 2048"),
        ("GetRecords", "ShardIterator", json!("garbled"), "Invalid ShardIterator"),
        ("GetRecords", "Limit", json!(1001), "Member must have value less than or equal to 1000"),
        ("GetRecords", "Limit", json!(1e300), "Member must have value less than or equal to 1000"),
    ] {
        let mut body = whole(operation);
        body[member] = value;
        let answer = ask(&service, operation, &body);
        assert_eq!((answer.status, code(&answer).as_str()), (400, "ValidationException"), "{operation} {member}");
        assert!(message(&answer).contains(said), "{operation} {member}: {}", message(&answer));
    }
    let both = ask(&service, "GetShardIterator", &json!({ "StreamArn": stream }));
    assert!(message(&both).starts_with("2 validation errors detected: "), "{}", message(&both));
}

#[test]
fn what_does_not_exist_is_not_found() {
    let service = with_orders();
    let stream = stream_of(&service);
    let shard = shards_of(&service, &stream).remove(0);
    let gone = stream.replace("/stream/2026", "/stream/2001");
    let absent = "shardId-00000000000000000001-00000000";
    for (operation, body) in [
        ("ListStreams", json!({ "TableName": "absent" })),
        ("DescribeStream", json!({ "StreamArn": gone })),
        ("GetShardIterator", json!({ "StreamArn": gone, "ShardId": shard, "ShardIteratorType": "LATEST" })),
        ("GetShardIterator", json!({ "StreamArn": stream, "ShardId": absent, "ShardIteratorType": "LATEST" })),
        ("DescribeTable", json!({ "TableName": "absent" })),
        ("PutItem", json!({ "TableName": "absent", "Item": { "id": { "S": "a" } } })),
        ("DeleteItem", json!({ "TableName": "absent", "Key": { "id": { "S": "a" } } })),
        ("BatchWriteItem", json!({ "RequestItems": { "absent": [] } })),
    ] {
        let answer = ask(&service, operation, &body);
        assert_eq!((answer.status, code(&answer).as_str()), (400, "ResourceNotFoundException"), "{operation}");
    }
}

#[test]
fn items_that_the_service_would_not_store_are_refused() {
    let service = with_orders();
    ordered(&service, "create-table", &json!({ "table": "numbered", "keys": [{ "name": "n", "type": "N" }] }));
    let put = |table: &str, item: Value| ask(&service, "PutItem", &json!({ "TableName": table, "Item": item }));
    for (table, item, said) in [
        ("orders", json!({ "v": { "S": "x" } }), "Missing the key id in the item"),
        ("orders", json!({ "id": { "N": "1" } }), "Type mismatch for key id expected: S actual: N"),
        ("numbered", json!({ "n": { "S": "1" } }), "Type mismatch for key n expected: N actual: S"),
        ("numbered", json!({ "n": { "N": "one" } }), "cannot be converted to a numeric value"),
        ("orders", json!({ "id": { "S": "" } }), "cannot contain an empty string value. Key: id"),
        ("orders", json!({ "id": {} }), "must contain exactly one of the supported datatypes"),
        ("orders", json!({ "id": { "S": "a", "N": "1" } }), "must contain exactly one of the supported datatypes"),
        ("orders", json!({ "id": { "X": "a" } }), "must contain exactly one of the supported datatypes"),
        ("orders", json!({ "id": { "S": "a" }, "s": { "SS": [] } }), "An string set  may not be empty"),
        ("orders", json!({ "id": { "S": "a" }, "s": { "NS": ["1", "1"] } }), "contains duplicates"),
        ("orders", json!({ "id": { "S": "a" }, "s": { "NULL": false } }), "must have the value of true"),
        (
            "orders",
            json!({ "id": { "S": "a" }, "s": { "S": "x".repeat(410_000) } }),
            "exceeded the maximum allowed size",
        ),
    ] {
        let answer = put(table, item);
        assert_eq!((answer.status, code(&answer).as_str()), (400, "ValidationException"), "{said}");
        assert!(message(&answer).contains(said), "{}", message(&answer));
    }
    for wrong in [json!({ "id": { "S": 5 } }), json!({ "id": { "B": "§" } }), json!({ "id": "a" }), json!([])] {
        assert_eq!(code(&put("orders", wrong.clone())), "SerializationException", "{wrong}");
    }
    let conditional = json!({ "TableName": "orders", "Item": { "id": { "S": "a" } }, "ConditionExpression": "x = y" });
    assert!(message(&ask(&service, "PutItem", &conditional)).contains("ConditionExpression"));
    let key = json!({ "TableName": "orders", "Key": { "id": { "S": "a" }, "more": { "S": "b" } } });
    assert!(message(&ask(&service, "DeleteItem", &key)).contains("does not match the schema"));
    assert_eq!(service.stream.calls().total(), 0, "nothing of it reached a stream");
    assert_eq!(
        service
            .stream
            .written(&stream_of(&service).parse().expect("legal"))
            .iter()
            .map(|(_, r)| r.len())
            .sum::<usize>(),
        0
    );
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let service = with_orders();
    let put = |id: &str| json!({ "PutRequest": { "Item": { "id": { "S": id } } } });
    let batch =
        |entries: Vec<Value>| ask(&service, "BatchWriteItem", &json!({ "RequestItems": { "orders": entries } }));
    let many = (0..26).map(|n| put(&n.to_string())).collect();
    for (entries, said) in [
        (vec![], "Member must have length greater than or equal to 1"),
        (vec![put("a"), put("a")], "contains duplicates"),
        (vec![put("a"), json!({})], "exactly one"),
        (vec![put("a"), json!({ "DeleteRequest": { "Key": { "x": { "S": "a" } } } })], "does not match the schema"),
        (many, "Too many items"),
    ] {
        let answer = batch(entries);
        assert_eq!(code(&answer), "ValidationException");
        assert!(message(&answer).contains(said), "{}", message(&answer));
    }
    let stream = stream_of(&service);
    let records = || {
        let shard = shards_of(&service, &stream).remove(0);
        let at = iterator(&service, &stream, &shard);
        answered(&service, "GetRecords", &json!({ "ShardIterator": at }))["Records"].as_array().expect("a list").len()
    };
    assert_eq!(records(), 0);
    let delete = json!({ "DeleteRequest": { "Key": { "id": { "S": "z" } } } });
    assert_eq!(parsed(&batch(vec![put("a"), put("b"), delete])), json!({ "UnprocessedItems": {} }));
    ordered(&service, "advance", &json!({ "seconds": 2 }));
    assert_eq!(records(), 2);
}

/// An answer of `operation`, which must be one of these.
fn refused(service: &WireService, operation: &str, body: &Value, wanted: &str) {
    let answer = ask(service, operation, body);
    assert_eq!(code(&answer), wanted, "{operation}: {}", message(&answer));
}

#[test]
fn expired_trimmed_and_throttled_have_their_own_codes() {
    let service = with_orders();
    let stream = stream_of(&service);
    let shard = shards_of(&service, &stream).remove(0);
    answered(&service, "PutItem", &json!({ "TableName": "orders", "Item": { "id": { "S": "a" } } }));
    let early = json!({ "ShardIterator": iterator(&service, &stream, &shard) });
    ordered(&service, "trim", &json!({ "stream": stream, "shard": shard }));
    refused(&service, "GetRecords", &early, "TrimmedDataAccessException");
    let late = json!({ "ShardIterator": iterator(&service, &stream, &shard) });
    ordered(&service, "advance", &json!({ "seconds": 901 }));
    refused(&service, "GetRecords", &late, "ExpiredIteratorException");
    let readers: Vec<Value> = (0..3).map(|_| json!({ "ShardIterator": iterator(&service, &stream, &shard) })).collect();
    for reader in &readers[..2] {
        answered(&service, "GetRecords", reader);
    }
    refused(&service, "GetRecords", &readers[2], "LimitExceededException");
    ordered(&service, "throttle", &json!({ "operation": "DescribeStream", "seconds": 5 }));
    refused(&service, "DescribeStream", &json!({ "StreamArn": stream }), "ThrottlingException");
    ordered(
        &service,
        "fault",
        &json!({ "operation": "DescribeTable", "kind": "error", "code": "InternalServerError" }),
    );
    let broken = ask(&service, "DescribeTable", &json!({ "TableName": "orders" }));
    assert_eq!((broken.status, code(&broken).as_str()), (500, "InternalServerError"));
    assert_eq!(
        ask(&service, "DescribeTable", &json!({ "TableName": "orders" })).status,
        200,
        "an order is carried out once"
    );
    assert_eq!(command(&service, "advance", &json!({ "seconds": -1 })).status, 400);
}
