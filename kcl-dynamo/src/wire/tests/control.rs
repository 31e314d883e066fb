//! The control interface.

use serde_json::{Value, json};

use super::{answered, command, iterator, ordered, parsed, service, shards_of, stream_of, text, with_orders};
use crate::wire::{CONTROL_PATH, Delivery, Request, control};

#[test]
fn every_command_is_described_in_the_document_and_listed_by_the_interface() {
    let document = include_str!("../../../../docs/wire-protocol.md");
    let described: Vec<&str> =
        document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let listed = service().answer(&Request { method: "GET", path: CONTROL_PATH, target: None, body: b"" });
    let listed = parsed(&listed)["commands"].clone();
    for name in control::names() {
        assert!(described.contains(&name), "docs/wire-protocol.md does not describe {name}");
        assert!(listed[name].is_string(), "{name} is not listed");
    }
}

#[test]
fn what_is_no_command_or_no_json_is_told_what_is_wrong() {
    let service = with_orders();
    for (name, body, status, said) in [
        ("frobnicate", json!({}), 404, "there is no command \"frobnicate\""),
        ("split", json!({}), 400, "name a stream"),
        ("split", json!({ "stream": "s", "table": "orders", "shard": "s" }), 400, "name a stream"),
        ("trim", json!({ "table": "orders", "shard": "s", "thruogh": "1" }), 400, "unknown field `thruogh`"),
        ("advance", json!({ "seconds": 1e18 }), 400, "seconds"),
        ("configure", json!({ "roll_every": 1e-9 }), 400, "roll_every"),
        ("split", json!({ "table": "orders" }), 400, "name a shard"),
        ("split", json!({ "table": "absent", "shard": "s" }), 400, "there is no table absent"),
        ("split", json!({ "table": "orders", "shard": "s" }), 400, "there is no shard s"),
        ("split", json!({ "stream": "nonsense", "shard": "s" }), 400, "not the ARN of a DynamoDB stream"),
        ("put", json!({ "table": "orders", "item": { "id": "a" } }), 400, "SerializationException"),
        ("put", json!({ "table": "absent", "item": { "id": { "S": "a" } } }), 400, "there is no table absent"),
        ("delete", json!({ "table": "absent", "key": { "id": { "S": "a" } } }), 400, "there is no table absent"),
        ("put", json!({ "table": "orders", "itme": {} }), 400, "unknown field `itme`"),
        ("throttle", json!({ "operation": "PutItem", "seconds": 1 }), 400, "use a fault"),
        ("throttle", json!({ "operation": "GetRecords", "seconds": 1e300 }), 400, "seconds"),
        ("fault", json!({ "operation": "Nothing", "kind": "silence" }), 400, "there is no operation"),
        ("fault", json!({ "operation": "GetRecords", "kind": "earthquake" }), 400, "unknown variant"),
        ("create-table", json!({ "table": "orders", "keys": ["id"] }), 400, "the table orders exists"),
        ("create-table", json!({ "table": "others", "keys": [] }), 400, "one or two key attributes"),
        ("create-table", json!({ "table": "others", "keys": ["id"], "shards": 0 }), 400, "1 to 100000 shards"),
    ] {
        let answer = command(&service, name, &body);
        let why = text(&parsed(&answer)["error"]).to_owned();
        assert_eq!(answer.status, status, "{name} {body}: {why}");
        assert!(why.contains(said), "{name} {body}: {why}");
    }
    let asked = service.answer(&Request { method: "GET", path: "/_control/split", target: None, body: b"" });
    assert_eq!(asked.status, 405);
    let garbage = service.answer(&Request { method: "POST", path: "/_control/put", target: None, body: b"\xff{" });
    assert_eq!(garbage.status, 400);
}

#[test]
fn a_shards_whole_life_is_driven_by_commands() {
    let service = with_orders();
    let stream = stream_of(&service);
    let first = shards_of(&service, &stream).remove(0);
    let written = ordered(&service, "put", &json!({ "table": "orders", "item": { "id": { "S": "a" } } }));
    assert_eq!(text(&written["recorded"]["shard"]), first);
    let again = ordered(&service, "put", &json!({ "table": "orders", "item": { "id": { "S": "a" } } }));
    assert_eq!(again["recorded"], Value::Null, "nothing changed");
    let update = json!({ "table": "orders", "key": { "id": { "S": "a" } }, "attributes": { "v": { "S": "x" } } });
    ordered(&service, "update", &update);
    ordered(&service, "expire-item", &json!({ "table": "orders", "key": { "id": { "S": "a" } } }));
    let at = iterator(&service, &stream, &first);
    let page = answered(&service, "GetRecords", &json!({ "ShardIterator": at }));
    let events: Vec<&str> = page["Records"].as_array().expect("a list").iter().map(|r| text(&r["eventName"])).collect();
    assert_eq!(events, ["INSERT", "MODIFY", "REMOVE"]);
    assert_eq!(page["Records"][2]["userIdentity"]["PrincipalId"], "dynamodb.amazonaws.com");

    ordered(&service, "delay-visibility", &json!({ "child_after": 10 }));
    let children = ordered(&service, "roll", &json!({ "table": "orders" }));
    assert_eq!(shards_of(&service, &stream), std::slice::from_ref(&first), "the child is not told of yet");
    ordered(&service, "advance", &json!({ "seconds": 10 }));
    let child = text(&children["children"][0]).to_owned();
    assert!(shards_of(&service, &stream).contains(&child));
    ordered(&service, "hide-shard", &json!({ "table": "orders", "shard": child, "seconds": 5 }));
    ordered(&service, "trim", &json!({ "table": "orders", "shard": first }));
    ordered(&service, "remove-shard", &json!({ "table": "orders", "shard": first }));
    ordered(&service, "expire-iterators", &json!({}));
    ordered(&service, "disable-stream", &json!({ "table": "orders" }));
    let listed = ordered(&service, "shards", &json!({ "stream": stream }));
    assert_eq!(listed["status"], "DISABLED");
    let flags: Vec<(bool, bool)> = listed["shards"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|shard| (shard["vanished"] == true, shard["open"] == true))
        .collect();
    assert_eq!(flags, [(true, false), (false, false)]);
    ordered(&service, "advance", &json!({ "seconds": 1 }));
    let renewed = ordered(&service, "enable-stream", &json!({ "table": "orders", "shards": 2 }));
    assert_ne!(text(&renewed["stream"]), stream);
    assert_eq!(renewed["shards"].as_array().expect("a list").len(), 2);
    ordered(&service, "delete-table", &json!({ "table": "orders" }));
    let left = ordered(&service, "streams", &json!({}));
    assert_eq!((left["tables"].clone(), left["streams"].as_array().expect("a list").len()), (json!([]), 2));
    assert!(ordered(&service, "calls", &json!({}))["calls"]["GetRecords"].as_u64() >= Some(1));
}

#[test]
fn faults_spoil_the_answer_in_the_way_that_was_ordered() {
    let service = with_orders();
    let ask = || super::ask(&service, "DescribeTable", &json!({ "TableName": "orders" }));
    let whole = ask();
    let order = |body: Value| {
        let mut body = body;
        body["operation"] = json!("DescribeTable");
        ordered(&service, "fault", &body);
        ask()
    };
    assert_eq!(
        order(json!({ "kind": "late", "seconds": 2 })).delivery,
        Delivery::Late(std::time::Duration::from_secs(2))
    );
    assert_eq!(order(json!({ "kind": "silence" })).delivery, Delivery::Never);
    assert_eq!(order(json!({ "kind": "broken" })).delivery, Delivery::Broken);
    let wrong = order(json!({ "kind": "checksum" }));
    assert!(wrong.body == whole.body && wrong.checksum != whole.checksum);
    let garbage = order(json!({ "kind": "garbage" }));
    assert!(garbage.body.len() < whole.body.len() && garbage.checksum == crc32fast::hash(&garbage.body));
    ordered(&service, "fault", &json!({ "operation": "DescribeTable", "kind": "silence", "times": 1000 }));
    ordered(&service, "clear-faults", &json!({}));
    assert_eq!(ask().delivery, Delivery::Whole);
}

#[test]
fn limits_and_pages_are_configured_and_zero_takes_a_limit_away() {
    let service = with_orders();
    let stream = stream_of(&service);
    let shard = shards_of(&service, &stream).remove(0);
    ordered(&service, "configure", &json!({ "readers_per_shard": 0, "reads_per_second": 0, "page_records": 2 }));
    for n in 0..3 {
        ordered(&service, "put", &json!({ "table": "orders", "item": { "id": { "S": n.to_string() } } }));
    }
    for _reader in 0..30 {
        let at = iterator(&service, &stream, &shard);
        let page = answered(&service, "GetRecords", &json!({ "ShardIterator": at }));
        assert_eq!(page["Records"].as_array().expect("a list").len(), 2);
    }
}

#[test]
fn items_and_keys_of_commands_are_checked_as_the_service_checks_them() {
    let service = with_orders();
    let long = "k".repeat(2049);
    for (name, body) in [
        ("put", json!({ "item": { "id": { "N": "1" } } })),
        ("put", json!({ "item": { "id": { "S": "" } } })),
        ("put", json!({ "item": { "id": { "S": long } } })),
        ("put", json!({ "item": { "id": { "S": "a" }, "n": { "N": "one" } } })),
        ("put", json!({ "item": { "other": { "S": "a" } } })),
        ("update", json!({ "key": { "id": { "N": "1" } }, "attributes": {} })),
        ("update", json!({ "key": { "id": { "S": "a" } }, "attributes": { "id": { "S": "b" } } })),
        ("delete", json!({ "key": { "id": { "S": "a" }, "more": { "S": "b" } } })),
        ("expire-item", json!({ "key": { "id": { "B": "YQ==" } } })),
    ] {
        let mut body = body;
        body["table"] = json!("orders");
        let answer = command(&service, name, &body);
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 400 && said.contains("ValidationException"), "{name} {body}: {said}");
    }
    let written = ordered(&service, "put", &json!({ "table": "orders", "item": { "id": { "S": "a" } } }));
    assert!(written["recorded"]["shard"].is_string(), "and those that are right are written");
}
