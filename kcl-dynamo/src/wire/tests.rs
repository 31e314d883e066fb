//! The protocol, without a transport.

mod captured;
mod control;
mod refusals;
mod server;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use futures::future::BoxFuture;
use kcl_core::reference::{MovableClock, ReferenceStream, StreamOptions};
use kcl_core::{Entropy, Rt, Spawn, TaskClass};
use serde_json::{Value, json};

use super::{Answer, Request, WireService};

struct Counter(AtomicU64);

impl Entropy for Counter {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

struct NoTasks;

impl Spawn for NoTasks {
    fn spawn(&self, name: Cow<'static, str>, _class: TaskClass, _task: BoxFuture<'static, ()>) {
        panic!("nothing here starts tasks, and {name} neither");
    }
}

/// A service whose clock stands at 2026-01-01T00:00:00Z, and which answers the same in every run.
fn service() -> WireService {
    let clock = MovableClock::standing(UNIX_EPOCH + Duration::from_secs(1_767_225_600));
    let rt = Rt::new(Arc::new(clock.clone()), Arc::new(NoTasks), Arc::new(Counter(AtomicU64::new(1))));
    WireService::new(ReferenceStream::new(rt.clone(), StreamOptions::default()), &rt).with_clock(clock)
}

/// As [`service`], with the table `orders`, whose stream has one shard.
fn with_orders() -> WireService {
    let service = service();
    ordered(&service, "create-table", &json!({ "table": "orders", "keys": ["id"] }));
    service
}

fn ask_text(service: &WireService, target: &str, body: &[u8]) -> Answer {
    service.answer(&Request { method: "POST", path: "/", target: Some(target), body })
}

fn target(operation: &str) -> String {
    let table = ["DescribeTable", "PutItem", "DeleteItem", "BatchWriteItem"].contains(&operation);
    format!("{}_20120810.{operation}", if table { "DynamoDB" } else { "DynamoDBStreams" })
}

fn parsed(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("every body is JSON")
}

fn ask(service: &WireService, operation: &str, body: &Value) -> Answer {
    ask_text(service, &target(operation), body.to_string().as_bytes())
}

/// The body of an answer that must be a success.
fn answered(service: &WireService, operation: &str, body: &Value) -> Value {
    let answer = ask(service, operation, body);
    assert_eq!(answer.status, 200, "{operation} {body}: {:?}", answer.body);
    parsed(&answer)
}

fn command(service: &WireService, name: &str, body: &Value) -> Answer {
    let body = body.to_string();
    service.answer(&Request { method: "POST", path: &format!("/_control/{name}"), target: None, body: body.as_bytes() })
}

/// The body of a command that must be carried out.
fn ordered(service: &WireService, name: &str, body: &Value) -> Value {
    let answer = command(service, name, body);
    assert_eq!(answer.status, 200, "{name} {body}: {:?}", answer.body);
    parsed(&answer)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn stream_of(service: &WireService) -> String {
    text(&answered(service, "DescribeTable", &json!({ "TableName": "orders" }))["Table"]["LatestStreamArn"]).to_owned()
}

fn shards_of(service: &WireService, stream: &str) -> Vec<String> {
    let described = answered(service, "DescribeStream", &json!({ "StreamArn": stream }));
    let shards = described["StreamDescription"]["Shards"].as_array().expect("a list");
    shards.iter().map(|shard| text(&shard["ShardId"]).to_owned()).collect()
}

fn iterator(service: &WireService, stream: &str, shard: &str) -> String {
    let asked = json!({ "StreamArn": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON" });
    text(&answered(service, "GetShardIterator", &asked)["ShardIterator"]).to_owned()
}

fn order(id: &str) -> Value {
    json!({ "id": { "S": id }, "total": { "N": "7" } })
}

#[test]
fn a_consumer_reads_through_a_split_by_the_protocol_alone() {
    let service = with_orders();
    let stream = stream_of(&service);
    let parent = shards_of(&service, &stream).remove(0);
    let put =
        |n: u32| drop(answered(&service, "PutItem", &json!({ "TableName": "orders", "Item": order(&n.to_string()) })));
    (0..20).for_each(put);
    let children = ordered(&service, "split", &json!({ "table": "orders", "shard": parent }));
    (20..60).for_each(put);

    let mut seen = 0;
    let mut shards = vec![parent.clone()];
    shards.extend(children["children"].as_array().expect("a list").iter().map(|id| text(id).to_owned()));
    for shard in shards {
        let mut next = Some(iterator(&service, &stream, &shard));
        while let Some(at) = next.take() {
            let page = answered(&service, "GetRecords", &json!({ "ShardIterator": at, "Limit": 7 }));
            let records = page["Records"].as_array().expect("a list").len();
            seen += records;
            next = page["NextShardIterator"].as_str().map(str::to_owned).filter(|_| records > 0);
            assert_eq!(page.get("NextShardIterator").is_none(), shard == parent && seen == 20, "only the parent ends");
            ordered(&service, "advance", &json!({ "seconds": 1 }));
        }
    }
    assert_eq!(seen, 60);
}

#[test]
fn a_put_that_asks_for_the_old_item_is_given_it_and_so_is_a_delete() {
    let service = with_orders();
    let put = |total: &str| {
        let item = json!({ "id": { "S": "a" }, "total": { "N": total } });
        answered(&service, "PutItem", &json!({ "TableName": "orders", "Item": item, "ReturnValues": "ALL_OLD" }))
    };
    assert_eq!(put("1"), json!({}));
    assert_eq!(put("2")["Attributes"]["total"]["N"], "1");
    let key = json!({ "TableName": "orders", "Key": { "id": { "S": "a" } }, "ReturnValues": "ALL_OLD" });
    assert_eq!(answered(&service, "DeleteItem", &key)["Attributes"]["total"]["N"], "2");
    assert_eq!(answered(&service, "DeleteItem", &key), json!({}));
}

#[test]
fn a_listing_of_all_tables_comes_in_pages_and_names_each_stream_once() {
    let service = service();
    for n in 0..7 {
        ordered(&service, "create-table", &json!({ "table": format!("table-{n}"), "keys": ["id"] }));
    }
    let mut seen = Vec::new();
    let mut after = Value::Null;
    loop {
        ordered(&service, "advance", &json!({ "seconds": 1 }));
        let page = answered(&service, "ListStreams", &json!({ "Limit": 3, "ExclusiveStartStreamArn": after }));
        seen.extend(page["Streams"].as_array().expect("a list").iter().map(|s| text(&s["TableName"]).to_owned()));
        match page.get("LastEvaluatedStreamArn") {
            Some(last) => after = last.clone(),
            None => break,
        }
    }
    assert_eq!(seen, (0..7).map(|n| format!("table-{n}")).collect::<Vec<_>>());
}

#[test]
fn every_answer_has_a_request_id_and_the_checksum_of_its_body() {
    let service = with_orders();
    let mut ids = std::collections::BTreeSet::new();
    for answer in [
        ask(&service, "ListStreams", &json!({})),
        ask(&service, "GetRecords", &json!({})),
        ask_text(&service, "nonsense", b"nonsense"),
        command(&service, "streams", &json!({})),
    ] {
        assert_eq!(answer.checksum, crc32fast::hash(&answer.body));
        assert_eq!(answer.request_id.len(), 52, "{}", answer.request_id);
        assert!(ids.insert(answer.request_id), "an id is given once");
    }
}
