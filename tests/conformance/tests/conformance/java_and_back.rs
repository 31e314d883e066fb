//! A table that a Java fleet left, taken over by this library, given back to Java, and taken over again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use conformance::dynoxide_server::dynamodb;
use conformance::java_schema::{self, Item};
use kcl_core::reference::{ReferenceStream, StreamOptions};
use kcl_core::{
    Admin, KeyForm, LeaseKey, Record, Removed, Rt, SequenceNumber, ShardId, StreamArn, StreamViewType, TableName,
    Worker, WorkerConfig,
};
use kcl_dynamo::{DynamoLeaseTable, LeaseTableOptions};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

/// A stream whose lineage is that of the items which Java wrote: `A` has ended and `B` continues it; `Z` has no relatives.
struct World {
    service: ReferenceStream,
    table: TableName,
    stream: StreamArn,
    written: usize,
    a: ShardId,
    b: ShardId,
    z: ShardId,
}

/// What names one change among those of all shards: two shards may use the same sequence number.
type EventId = String;

type Delivered = Arc<Mutex<Vec<EventId>>>;

fn event_id(record: &Record) -> EventId {
    record.event_id().expect("the reference stream sets it").into_owned()
}

impl World {
    fn new(rt: &Rt) -> Self {
        let service = ReferenceStream::new(rt.clone(), StreamOptions::unthrottled());
        let table: TableName = "orders".parse().expect("a name");
        let stream = service.create_table(&table, &["id"], StreamViewType::NewImage, 2).expect("created");
        let roots = service.open_shards(&stream);
        let mut world =
            Self { a: roots[0].clone(), b: roots[0].clone(), z: roots[1].clone(), service, table, stream, written: 0 };
        world.write(40);
        world.b = world.service.roll(&world.stream, &world.a).expect("open");
        world.write(40);
        world
    }

    fn write(&mut self, count: usize) {
        for _ in 0..count {
            self.written += 1;
            let id = serde_dynamo::AttributeValue::S(format!("k{}", self.written));
            let item = HashMap::from([("id".to_owned(), id)]);
            self.service.put(&self.table, item.into()).expect("written");
        }
    }

    fn records(&self, shard: &ShardId) -> Vec<Record> {
        let mut written: BTreeMap<ShardId, Vec<Record>> = self.service.written(&self.stream).into_iter().collect();
        written.remove(shard).expect("of this stream")
    }

    /// Java's items, of this stream's shards and in this form of keys, `B` and `Z` read up to their fifth record.
    fn java_items(&self, form: KeyForm) -> Vec<Item> {
        let text = include_str!("../../../../kcl-dynamo/tests/data/java-lease-items.json");
        let java: Value = serde_json::from_str(text).expect("legal JSON");
        let group = java["leases"]["after_a_parent_finished_and_graceful_shutdown"].as_array().expect("items");
        let mut items: Vec<Item> = group.iter().map(|json| self.java_item(json, form)).collect();
        for (key, other) in java["coordinator_items"].as_array().expect("items").iter().map(|json| ("key", json)) {
            let mut item = item(other);
            let name = item.remove(key).expect("a key");
            item.insert("leaseKey".to_owned(), name);
            items.push(item);
        }
        items
    }

    fn java_item(&self, json: &Value, form: KeyForm) -> Item {
        let mut text = json.to_string();
        for (java, ours) in [("shardId-A", &self.a), ("shardId-B", &self.b), ("shardId-Z", &self.z)] {
            text = text.replace(java, ours.as_str());
        }
        let mut item = item(&serde_json::from_str(&text).expect("legal JSON"));
        let shard: ShardId = item["leaseKey"].as_s().expect("a text").parse().expect("a shard");
        if item["checkpoint"] != s("SHARD_END") {
            item.insert("checkpoint".to_owned(), s(self.records(&shard)[4].sequence_number().as_str()));
        }
        if form == KeyForm::Qualified {
            item.insert("leaseKey".to_owned(), s(LeaseKey::of(form, &self.stream, &shard).as_str()));
            item.insert("streamName".to_owned(), s(&LeaseKey::stream_identifier(&self.stream)));
            item.insert("shardId".to_owned(), s(shard.as_str()));
        }
        item
    }

    /// Runs a worker until it has delivered what is left of these shards, and stops it.
    async fn run(&self, rt: &Rt, leases: &DynamoLeaseTable, left: &BTreeSet<EventId>) {
        let delivered = Delivered::default();
        let seen = delivered.clone();
        let worker = Worker::builder("app", Arc::new(self.service.clone()), Arc::new(leases.clone()))
            .stream(self.stream.as_str())
            .for_each(move |record: Record| {
                seen.lock().expect("whole").push(event_id(&record));
                std::future::ready(Ok(()))
            })
            .config(
                WorkerConfig::default()
                    .with_lease_duration(2 * SECOND)
                    .with_observe_every(SECOND / 4)
                    .with_checkpoint_every(SECOND / 4),
            )
            .rt(rt.clone())
            .build()
            .await
            .expect("built");
        let enough = async {
            let deadline = tokio::time::Instant::now() + 60 * SECOND;
            while tokio::time::Instant::now() < deadline {
                let got = delivered.lock().expect("whole").iter().cloned().collect::<BTreeSet<_>>();
                if got == *left {
                    // What ends is finished too, and what comes twice would come now.
                    tokio::time::sleep(2 * SECOND).await;
                    return;
                }
                tokio::time::sleep(SECOND / 10).await;
            }
        };
        worker.run_until(enough).await.expect("a report");
        let delivered = delivered.lock().expect("whole").clone();
        let set: BTreeSet<EventId> = delivered.iter().cloned().collect();
        assert_eq!(set, *left, "what was left, and nothing else");
        assert_eq!(delivered.len(), left.len(), "nothing twice");
    }
}

fn item(json: &Value) -> Item {
    conformance::items::to_table(serde_json::from_value(json.clone()).expect("DynamoDB JSON"))
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

async fn put(client: &Client, table: &str, item: Item) {
    client.put_item().table_name(table).set_item(Some(item)).send().await.expect("put");
}

/// All items, by key.
async fn items(client: &Client, table: &str) -> BTreeMap<String, Item> {
    let scan = client.scan().table_name(table).consistent_read(true).send().await.expect("scanned");
    let key = |item: &Item| item["leaseKey"].as_s().expect("a text").clone();
    scan.items.unwrap_or_default().into_iter().map(|item| (key(&item), item)).collect()
}

/// What the Java library writes when it takes a lease and moves its checkpoint.
async fn java_goes_on(client: &Client, table: &str, lease: &Item, to: SequenceNumber) {
    let counter: i64 = lease["leaseCounter"].as_n().expect("a number").parse().expect("a number");
    client
        .update_item()
        .table_name(table)
        .key("leaseKey", lease["leaseKey"].clone())
        .update_expression(
            "SET leaseOwner = :me, leaseCounter = :next, checkpoint = :to, checkpointSubSequenceNumber = :zero, \
             ownerSwitchesSinceCheckpoint = :zero REMOVE checkpointOwner",
        )
        .condition_expression("leaseCounter = :seen")
        .expression_attribute_values(":me", s("java-worker"))
        .expression_attribute_values(":next", n(counter + 2))
        .expression_attribute_values(":seen", n(counter))
        .expression_attribute_values(":to", s(to.as_str()))
        .expression_attribute_values(":zero", n(0))
        .send()
        .await
        .expect("written");
}

/// Java to this library, back, and here again: nothing lost, nothing twice, and every item as Java wants it.
pub(crate) async fn goes_there_and_back(endpoint: &str) {
    for form in [KeyForm::Bare, KeyForm::Qualified] {
        let (client, rt) = (dynamodb(endpoint), Rt::tokio().expect("a runtime"));
        let name = format!("back-{form:?}-{}", std::process::id());
        let mut options = LeaseTableOptions::new(name.parse().expect("a table name"));
        options.active_poll = Duration::from_millis(20);
        let leases = DynamoLeaseTable::open(&client, options).await.expect("opened");
        let mut world = World::new(&rt);
        for item in world.java_items(form) {
            put(&client, &name, item).await;
        }
        let java = items(&client, &name).await;

        // B ends while this library has it.
        let c = world.service.roll(&world.stream, &world.b).expect("open");
        world.write(40);
        let all = |shard: &ShardId| world.records(shard);
        let rest = |shard: &ShardId| all(shard)[5..].to_vec();
        let left = [rest(&world.b), all(&c), rest(&world.z)].concat().iter().map(event_id).collect();
        world.run(&rt, &leases, &left).await;

        let admin = Admin::new(Arc::new(leases.clone()), rt.clone());
        let removed = admin.remove_ours(4 * SECOND).await.expect("removed");
        assert!(removed.meta && removed.markers == 1 && removed.workers == 0, "{removed:?}");
        let back = items(&client, &name).await;
        let stream = world.stream.clone();
        let key = |shard: &ShardId| LeaseKey::of(form, &stream, shard).to_string();
        assert_eq!(back.len(), java.len() + 1, "the lease of C: {:?}", back.keys());
        for other in java.keys().filter(|key| !key.contains("shardId")) {
            assert_eq!(back[other], java[other], "an item that is no lease");
        }
        for shard in [&world.a, &world.b, &world.z, &c] {
            assert_eq!(java_schema::violations(&back[&key(shard)]), [""; 0], "{shard}");
        }
        assert_eq!(back[&key(&world.a)], java[&key(&world.a)], "what was finished was left alone");
        let of = |shard: &ShardId, name: &str| back[&key(shard)].get(name).cloned();
        assert_eq!(of(&world.b, "checkpoint"), Some(s("SHARD_END")));
        assert_eq!(of(&world.b, "childShardIds"), Some(AttributeValue::Ss(vec![c.to_string()])));
        assert_eq!(of(&c, "parentShardId"), Some(AttributeValue::Ss(vec![world.b.to_string()])));
        for shard in [&c, &world.z] {
            let last = all(shard).last().expect("written to").sequence_number();
            assert_eq!(of(shard, "checkpoint"), Some(s(last.as_str())));
            assert_eq!(of(shard, "leaseOwner"), None, "Java takes it at once");
        }
        for kept in ["throughputKBps", "parentShardId", "startingHashKey", "endingHashKey"] {
            assert_eq!(of(&world.b, kept), java[&key(&world.b)].get(kept).cloned(), "{kept}");
        }

        // Java reads half of what comes next, and is stopped; it leaves its name on its leases.
        world.write(60);
        let mut left = BTreeSet::new();
        for shard in [&c, &world.z] {
            let records = world.records(shard);
            let done = records.len() - 10;
            java_goes_on(&client, &name, &back[&key(shard)], records[done - 1].sequence_number()).await;
            left.extend(records[done..].iter().map(event_id));
        }
        world.run(&rt, &leases, &left).await;
        assert_ne!(admin.remove_ours(4 * SECOND).await.expect("removed"), Removed::default());
        for item in items(&client, &name).await.values().filter(|item| item.contains_key("checkpoint")) {
            assert_eq!(java_schema::violations(item), [""; 0]);
        }
    }
}
