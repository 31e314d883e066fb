//! A request and its answer for each operation, as they go over the wire.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{ask, iterator, order, ordered, parsed, shards_of, stream_of, target, with_orders};
use crate::wire::WireService;

/// The exchange, with both bodies made readable.
fn exchange(service: &WireService, operation: &str, body: &Value) -> String {
    let answer = ask(service, operation, body);
    let headers: Vec<String> = answer.headers().iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let pretty = |value: &Value| serde_json::to_string_pretty(value).expect("JSON");
    format!(
        "POST /\nX-Amz-Target: {}\n{}\n\n{} {}\n{}",
        target(operation),
        pretty(body),
        answer.status,
        headers.join("\n"),
        pretty(&parsed(&answer))
    )
}

fn check(service: &WireService, operation: &str, body: &Value, expected: &Expect) {
    expected.assert_eq(&exchange(service, operation, body));
}

#[test]
fn list_streams_names_arn_table_and_label() {
    check(
        &with_orders(),
        "ListStreams",
        &json!({ "TableName": "orders" }),
        &expect![[r#"
        POST /
        X-Amz-Target: DynamoDBStreams_20120810.ListStreams
        {
          "TableName": "orders"
        }

        200 content-type: application/x-amz-json-1.0
        x-amzn-requestid: DM0VM2XY69ZJ2T89LP226HMYB9ZVG6455B3GKORHBN7845JZ9VZV
        x-amz-crc32: 2184591825
        {
          "Streams": [
            {
              "StreamArn": "arn:aws:dynamodb:local-1:000000000000:table/orders/stream/2026-01-01T00:00:00.000",
              "StreamLabel": "2026-01-01T00:00:00.000",
              "TableName": "orders"
            }
          ]
        }"#]],
    );
}

#[test]
fn describe_stream_shows_the_lineage() {
    let service = with_orders();
    let stream = stream_of(&service);
    let shard = shards_of(&service, &stream).remove(0);
    ordered(&service, "put", &json!({ "table": "orders", "item": order("a") }));
    ordered(&service, "roll", &json!({ "stream": stream, "shard": shard }));
    check(
        &service,
        "DescribeStream",
        &json!({ "StreamArn": stream, "Limit": 2 }),
        &expect![[r#"
        POST /
        X-Amz-Target: DynamoDBStreams_20120810.DescribeStream
        {
          "Limit": 2,
          "StreamArn": "arn:aws:dynamodb:local-1:000000000000:table/orders/stream/2026-01-01T00:00:00.000"
        }

        200 content-type: application/x-amz-json-1.0
        x-amzn-requestid: XEZAPSSWW1JY6TQWJ9UZVV0GV1YAJWZ3V3MV4GQWDD26UX3DDWHI
        x-amz-crc32: 1554776992
        {
          "StreamDescription": {
            "CreationRequestDateTime": 1767225600.0,
            "KeySchema": [
              {
                "AttributeName": "id",
                "KeyType": "HASH"
              }
            ],
            "Shards": [
              {
                "SequenceNumberRange": {
                  "EndingSequenceNumber": "999999999999999999202",
                  "StartingSequenceNumber": "999999999999999999200"
                },
                "ShardId": "shardId-00000001767225600000-06c45d18"
              },
              {
                "ParentShardId": "shardId-00000001767225600000-06c45d18",
                "SequenceNumberRange": {
                  "StartingSequenceNumber": "9999999999999999997960"
                },
                "ShardId": "shardId-00000001767225600000-657eecdd"
              }
            ],
            "StreamArn": "arn:aws:dynamodb:local-1:000000000000:table/orders/stream/2026-01-01T00:00:00.000",
            "StreamLabel": "2026-01-01T00:00:00.000",
            "StreamStatus": "ENABLED",
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            "TableName": "orders"
          }
        }"#]],
    );
    let filter = json!({ "Type": "CHILD_SHARDS", "ShardId": shard });
    let children = exchange(&service, "DescribeStream", &json!({ "StreamArn": stream, "ShardFilter": filter }));
    assert_eq!(children.matches("\"SequenceNumberRange\"").count(), 1, "{children}");
}

#[test]
fn get_shard_iterator_gives_an_opaque_text() {
    let service = with_orders();
    let stream = stream_of(&service);
    let shard = shards_of(&service, &stream).remove(0);
    let asked = json!({ "StreamArn": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON" });
    check(
        &service,
        "GetShardIterator",
        &asked,
        &expect![[r#"
            POST /
            X-Amz-Target: DynamoDBStreams_20120810.GetShardIterator
            {
              "ShardId": "shardId-00000001767225600000-06c45d18",
              "ShardIteratorType": "TRIM_HORIZON",
              "StreamArn": "arn:aws:dynamodb:local-1:000000000000:table/orders/stream/2026-01-01T00:00:00.000"
            }

            200 content-type: application/x-amz-json-1.0
            x-amzn-requestid: N0H3NFVX1598WF9OIWX00ZQRLNH3HJ2407C6U28OC047Z1TOJAH3
            x-amz-crc32: 2971604258
            {
              "ShardIterator": "0|0|0|0|0|0|shardId-00000001767225600000-06c45d18|arn:aws:dynamodb:local-1:000000000000:table/orders/stream/2026-01-01T00:00:00.000"
            }"#]],
    );
}

#[test]
fn get_records_gives_records_and_the_next_iterator() {
    let service = with_orders();
    let stream = stream_of(&service);
    let at = iterator(&service, &stream, &shards_of(&service, &stream).remove(0));
    ordered(&service, "put", &json!({ "table": "orders", "item": order("a") }));
    check(
        &service,
        "GetRecords",
        &json!({ "ShardIterator": at, "Limit": 10 }),
        &expect![[r#"
            POST /
            X-Amz-Target: DynamoDBStreams_20120810.GetRecords
            {
              "Limit": 10,
              "ShardIterator": "0|0|0|0|0|0|shardId-00000001767225600000-06c45d18|arn:aws:dynamodb:local-1:000000000000:table/orders/stream/2026-01-01T00:00:00.000"
            }

            200 content-type: application/x-amz-json-1.0
            x-amzn-requestid: XEZAPSSWW1JY6TQWJ9UZVV0GV1YAJWZ3V3MV4GQWDD26UX3DDWHI
            x-amz-crc32: 2568685005
            {
              "NextShardIterator": "1|1|0|0|0|0|shardId-00000001767225600000-06c45d18|arn:aws:dynamodb:local-1:000000000000:table/orders/stream/2026-01-01T00:00:00.000",
              "Records": [
                {
                  "awsRegion": "local-1",
                  "dynamodb": {
                    "ApproximateCreationDateTime": 1767225600,
                    "Keys": {
                      "id": {
                        "S": "a"
                      }
                    },
                    "NewImage": {
                      "id": {
                        "S": "a"
                      },
                      "total": {
                        "N": "7"
                      }
                    },
                    "SequenceNumber": "999999999999999999200",
                    "SizeBytes": 13,
                    "StreamViewType": "NEW_AND_OLD_IMAGES"
                  },
                  "eventID": "1b39896a51a8749b53cb9f0c747ea2ea",
                  "eventName": "INSERT",
                  "eventSource": "aws:dynamodb",
                  "eventVersion": "1.1"
                }
              ]
            }"#]],
    );
}

#[test]
fn describe_table_names_keys_and_stream() {
    check(
        &with_orders(),
        "DescribeTable",
        &json!({ "TableName": "orders" }),
        &expect![[r#"
        POST /
        X-Amz-Target: DynamoDB_20120810.DescribeTable
        {
          "TableName": "orders"
        }

        200 content-type: application/x-amz-json-1.0
        x-amzn-requestid: DM0VM2XY69ZJ2T89LP226HMYB9ZVG6455B3GKORHBN7845JZ9VZV
        x-amz-crc32: 2320160185
        {
          "Table": {
            "AttributeDefinitions": [
              {
                "AttributeName": "id",
                "AttributeType": "S"
              }
            ],
            "BillingModeSummary": {
              "BillingMode": "PAY_PER_REQUEST"
            },
            "CreationDateTime": 1767225600.0,
            "ItemCount": 0,
            "KeySchema": [
              {
                "AttributeName": "id",
                "KeyType": "HASH"
              }
            ],
            "LatestStreamArn": "arn:aws:dynamodb:local-1:000000000000:table/orders/stream/2026-01-01T00:00:00.000",
            "LatestStreamLabel": "2026-01-01T00:00:00.000",
            "ProvisionedThroughput": {
              "NumberOfDecreasesToday": 0,
              "ReadCapacityUnits": 0,
              "WriteCapacityUnits": 0
            },
            "StreamSpecification": {
              "StreamEnabled": true,
              "StreamViewType": "NEW_AND_OLD_IMAGES"
            },
            "TableArn": "arn:aws:dynamodb:local-1:000000000000:table/orders",
            "TableName": "orders",
            "TableSizeBytes": 0,
            "TableStatus": "ACTIVE"
          }
        }"#]],
    );
}

#[test]
fn put_item_answers_nothing_that_was_not_asked_for() {
    check(
        &with_orders(),
        "PutItem",
        &json!({ "TableName": "orders", "Item": order("a") }),
        &expect![[r#"
        POST /
        X-Amz-Target: DynamoDB_20120810.PutItem
        {
          "Item": {
            "id": {
              "S": "a"
            },
            "total": {
              "N": "7"
            }
          },
          "TableName": "orders"
        }

        200 content-type: application/x-amz-json-1.0
        x-amzn-requestid: DM0VM2XY69ZJ2T89LP226HMYB9ZVG6455B3GKORHBN7845JZ9VZV
        x-amz-crc32: 2745614147
        {}"#]],
    );
}

#[test]
fn delete_item_gives_the_old_item_when_asked() {
    let service = with_orders();
    ordered(&service, "put", &json!({ "table": "orders", "item": order("a") }));
    let asked = json!({ "TableName": "orders", "Key": { "id": { "S": "a" } }, "ReturnValues": "ALL_OLD" });
    check(
        &service,
        "DeleteItem",
        &asked,
        &expect![[r#"
        POST /
        X-Amz-Target: DynamoDB_20120810.DeleteItem
        {
          "Key": {
            "id": {
              "S": "a"
            }
          },
          "ReturnValues": "ALL_OLD",
          "TableName": "orders"
        }

        200 content-type: application/x-amz-json-1.0
        x-amzn-requestid: IBRH5QEG47MWRQI3Z7GJ313EGYQHZULN39PTPDI3TBOQ236BELQH
        x-amz-crc32: 1649504209
        {
          "Attributes": {
            "id": {
              "S": "a"
            },
            "total": {
              "N": "7"
            }
          }
        }"#]],
    );
}

#[test]
fn batch_write_item_leaves_nothing_unprocessed() {
    let entries =
        json!([{ "PutRequest": { "Item": order("a") } }, { "DeleteRequest": { "Key": { "id": { "S": "b" } } } }]);
    check(
        &with_orders(),
        "BatchWriteItem",
        &json!({ "RequestItems": { "orders": entries } }),
        &expect![[r#"
        POST /
        X-Amz-Target: DynamoDB_20120810.BatchWriteItem
        {
          "RequestItems": {
            "orders": [
              {
                "PutRequest": {
                  "Item": {
                    "id": {
                      "S": "a"
                    },
                    "total": {
                      "N": "7"
                    }
                  }
                }
              },
              {
                "DeleteRequest": {
                  "Key": {
                    "id": {
                      "S": "b"
                    }
                  }
                }
              }
            ]
          }
        }

        200 content-type: application/x-amz-json-1.0
        x-amzn-requestid: DM0VM2XY69ZJ2T89LP226HMYB9ZVG6455B3GKORHBN7845JZ9VZV
        x-amz-crc32: 4185382651
        {
          "UnprocessedItems": {}
        }"#]],
    );
}

#[test]
fn a_refusal_has_a_type_and_a_message() {
    check(
        &with_orders(),
        "GetRecords",
        &json!({ "ShardIterator": "x", "Limit": 1001 }),
        &expect![[r#"
        POST /
        X-Amz-Target: DynamoDBStreams_20120810.GetRecords
        {
          "Limit": 1001,
          "ShardIterator": "x"
        }

        400 content-type: application/x-amz-json-1.0
        x-amzn-requestid: DM0VM2XY69ZJ2T89LP226HMYB9ZVG6455B3GKORHBN7845JZ9VZV
        x-amz-crc32: 3923356385
        {
          "__type": "com.amazon.coral.validate#ValidationException",
          "message": "1 validation error detected: Value '1001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000"
        }"#]],
    );
    check(
        &with_orders(),
        "ListStreams",
        &json!({ "TableName": "absent" }),
        &expect![[r#"
        POST /
        X-Amz-Target: DynamoDBStreams_20120810.ListStreams
        {
          "TableName": "absent"
        }

        400 content-type: application/x-amz-json-1.0
        x-amzn-requestid: DM0VM2XY69ZJ2T89LP226HMYB9ZVG6455B3GKORHBN7845JZ9VZV
        x-amz-crc32: 3060097271
        {
          "__type": "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",
          "message": "Requested resource not found: Table not found"
        }"#]],
    );
    check(
        &with_orders(),
        "ListStreams",
        &json!({ "TableName": 5 }),
        &expect![[r#"
        POST /
        X-Amz-Target: DynamoDBStreams_20120810.ListStreams
        {
          "TableName": 5
        }

        400 content-type: application/x-amz-json-1.0
        x-amzn-requestid: DM0VM2XY69ZJ2T89LP226HMYB9ZVG6455B3GKORHBN7845JZ9VZV
        x-amz-crc32: 965762360
        {
          "Message": "NUMBER_VALUE cannot be converted to String",
          "__type": "com.amazon.coral.service#SerializationException"
        }"#]],
    );
}
