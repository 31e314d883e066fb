use std::sync::Arc;

use kcl_core::LeaseWrite;
use serde_json::Value;

use super::*;

const JAVA: &str = include_str!("../../../tests/data/java-lease-items.json");

/// One item in DynamoDB JSON.
fn item(json: &Value) -> Item {
    let attributes = json.as_object().expect("an item");
    attributes.iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

fn attribute(json: &Value) -> AttributeValue {
    let (kind, value) = json.as_object().and_then(|o| o.iter().next()).expect("a typed value");
    let list = || value.as_array().expect("a list").iter();
    match kind.as_str() {
        "S" => s(value.as_str().expect("a text")),
        "N" => AttributeValue::N(value.as_str().expect("a number").to_owned()),
        "SS" => AttributeValue::Ss(list().map(|v| v.as_str().expect("a text").to_owned()).collect()),
        "L" => AttributeValue::L(list().map(attribute).collect()),
        "M" => AttributeValue::M(item(value)),
        other => panic!("{other}"),
    }
}

fn java() -> Value {
    serde_json::from_str(JAVA).expect("legal JSON")
}

fn java_leases() -> Vec<Item> {
    let java = java();
    let groups = java["leases"].as_object().expect("groups");
    groups.values().flat_map(|group| group.as_array().expect("items").iter().map(item)).collect()
}

#[test]
fn every_lease_that_java_wrote_is_read() {
    let leases = java_leases();
    assert_eq!(leases.len(), 8);
    for item in leases {
        let lease = lease_of(&item).expect("a lease");
        assert_eq!(table_item(&item), TableItem::Lease(Arc::new(lease.clone())));
        assert_eq!(lease.shard.as_str(), lease.key.as_str());
        assert_eq!(s(&lease.checkpoint.to_string()), item[CHECKPOINT]);
        assert_eq!(n(lease.counter.0), item[LEASE_COUNTER]);
        assert_eq!(lease.owner.as_ref().map(|owner| s(owner.as_str())).as_ref(), item.get(LEASE_OWNER));
        assert_eq!(ss(&lease.parents).as_ref(), item.get(PARENTS));
        assert_eq!(ss(&lease.children).as_ref(), item.get(CHILDREN));
        assert_eq!((lease.stream, lease.start_at, lease.evicted), (None, None, false));
    }
}

#[test]
fn a_finished_lease_of_java_is_finished_although_it_names_an_owner() {
    let finished = java_leases().iter().map(|item| lease_of(item).expect("a lease")).find(Lease::is_finished);
    assert!(finished.expect("one is finished").owner.is_some());
}

#[test]
fn both_of_javas_unread_checkpoints_are_read() {
    let mut unread = java_leases().into_iter().find(|item| item[CHECKPOINT] == s("LATEST")).expect("one is LATEST");
    assert_eq!(lease_of(&unread).expect("a lease").checkpoint, Checkpoint::Latest);
    unread.insert(CHECKPOINT.to_owned(), s("AT_TIMESTAMP"));
    assert_eq!(lease_of(&unread).expect("a lease").checkpoint, Checkpoint::AtTimestamp);
}

#[test]
fn javas_other_items_are_foreign() {
    let java = java();
    for (group, key) in [("coordinator_items", "key"), ("worker_metrics_items", "wid")] {
        for other in java[group].as_array().expect("items") {
            let mut other = item(other);
            let name = other.remove(key).expect("a key");
            other.insert(LEASE_KEY.to_owned(), name.clone());
            for entity in [None, Some("LEADER")] {
                other.extend(entity.map(|entity| (ENTITY_TYPE.to_owned(), s(entity))));
                let TableItem::Foreign { key, .. } = table_item(&other) else { panic!("{other:?} is foreign") };
                assert_eq!(s(&key), name);
            }
        }
    }
}

#[test]
fn a_new_lease_has_everything_that_java_requires() {
    let stream: kcl_core::StreamArn =
        "arn:aws:dynamodb:us-east-1:123456789012:table/T/stream/2024-02-12T18:57:26.492".parse().expect("legal");
    let shard: ShardId = "shardId-A".parse().expect("legal");
    for form in [KeyForm::Qualified, KeyForm::Bare] {
        let new = NewLease {
            counter: LeaseCounter(3 << 10),
            key: LeaseKey::of(form, &stream, &shard),
            stream: stream.clone(),
            shard: shard.clone(),
            owner: None,
            parent: None,
            starting_sequence: None,
            start_at: None,
            root: true,
        };
        let item = item_of(&new);
        assert_eq!(lease_of(&item), Ok(new.created()));
        for (name, value) in [
            (LEASE_COUNTER, n(3 << 10)),
            (OWNER_SWITCHES, n(0)),
            (SUB_SEQUENCE, n(0)),
            (CHECKPOINT, s("TRIM_HORIZON")),
            (STARTING_HASH_KEY, s("0")),
            (ENDING_HASH_KEY, s("1")),
            (ENTITY_TYPE, s("LEASE")),
        ] {
            assert_eq!(item.get(name), Some(&value), "{name}");
        }
        assert!(!item.contains_key(PARENTS));
        let qualified = form == KeyForm::Qualified;
        let name = s("123456789012:us-east-1$123456789012$T$2024-02-12T18_57_26.492:1");
        assert_eq!(item.get(STREAM_NAME), qualified.then_some(&name));
        assert_eq!(item.get(SHARD_ID), qualified.then_some(&s("shardId-A")));
    }
}

#[test]
fn the_shard_of_a_qualified_key_is_its_last_field() {
    let mut item = java_leases().remove(0);
    item.insert(LEASE_KEY.to_owned(), s("123456789012:r$123456789012$T$l:1:shardId-A"));
    assert_eq!(lease_of(&item).expect("a lease").shard.as_str(), "shardId-A");
    item.insert(SHARD_ID.to_owned(), s("shardId-B"));
    assert_eq!(lease_of(&item).expect("a lease").shard.as_str(), "shardId-B");
}

#[test]
fn a_damaged_lease_is_foreign_and_says_why() {
    for (name, value) in [(LEASE_COUNTER, s("1")), (CHECKPOINT, s("?")), (LEASE_OWNER, n(1)), (CHILDREN, s("x"))] {
        let mut item = java_leases().remove(0);
        item.insert(name.to_owned(), value);
        let TableItem::Foreign { why, .. } = table_item(&item) else { panic!("{name}") };
        assert!(why.contains(name), "{why}");
    }
}

#[test]
fn times_are_rounded_down_to_the_millisecond() {
    let at = |nanos: i64| {
        let distance = Duration::from_nanos(nanos.unsigned_abs());
        if nanos < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
    };
    for (nanos, millis) in [(0, 0), (1_999_999, 1), (2_000_000, 2), (-1, -1), (-1_000_000, -1), (-1_000_001, -2)] {
        assert_eq!(to_millis(at(nanos)), millis, "{nanos}");
    }
    assert_eq!(to_millis(from_millis(-5)), -5);
}

#[test]
fn a_write_touches_only_the_attributes_it_is_about() {
    let lease = lease_of(&java_leases()[0]).expect("a lease");
    let renew = super::super::update::Expressions::write(&lease.guard(), &LeaseWrite::renew());
    assert_eq!(renew.update, "SET #leaseCounter = :leaseCounter");
    assert_eq!(renew.condition, "#leaseCounter = :seenCounter AND #leaseOwner = :seenOwner");
}
