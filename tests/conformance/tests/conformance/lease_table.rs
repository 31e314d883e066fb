//! The lease table's suite on whatever speaks DynamoDB at an endpoint, and what Java left in a table.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType};
use conformance::dynoxide_server::dynamodb;
use kcl_core::conformance::lease_table::{LeaseTableBed, LeaseTableBeds, LeaseTableCapabilities, lease_table_suite};
use kcl_core::{Checkpoint, LeaseErrorKind, LeaseTable, LeaseWrite, SequenceNumber};
use kcl_dynamo::{Create, DynamoLeaseTable, LeaseTableOptions, OpenError};
use serde_json::Value;

struct Beds {
    client: Client,
    next: AtomicU64,
}

struct Bed {
    client: Client,
    name: String,
    table: Arc<DynamoLeaseTable>,
}

fn options(name: &str) -> LeaseTableOptions {
    let mut options = LeaseTableOptions::new(name.parse().expect("a table name"));
    options.active_poll = Duration::from_millis(20);
    options.operation_timeout = Duration::from_secs(30);
    options.scan_page_size = Some(7);
    options
}

#[async_trait]
impl LeaseTableBeds for Beds {
    fn capabilities(&self) -> LeaseTableCapabilities {
        LeaseTableCapabilities { unknown_attributes: true, foreign_items: true, fresh_scans: true }
    }

    async fn bed(&self) -> Box<dyn LeaseTableBed> {
        let name = format!("leases-{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed));
        let table = DynamoLeaseTable::open(&self.client, options(&name)).await.expect("opened");
        Box::new(Bed { client: self.client.clone(), name, table: Arc::new(table) })
    }
}

#[async_trait]
impl LeaseTableBed for Bed {
    fn table(&self) -> Arc<dyn LeaseTable> {
        self.table.clone()
    }

    async fn put_attribute(&self, key: &str, name: &str, value: &str) {
        self.client
            .update_item()
            .table_name(&self.name)
            .key("leaseKey", s(key))
            .update_expression("SET #name = :value")
            .expression_attribute_names("#name", name)
            .expression_attribute_values(":value", s(value))
            .send()
            .await
            .expect("updated");
    }

    async fn attribute(&self, key: &str, name: &str) -> Option<String> {
        let get = self.client.get_item().table_name(&self.name).key("leaseKey", s(key)).consistent_read(true);
        let item = get.send().await.expect("read").item?;
        item.get(name).and_then(|value| value.as_s().ok()).cloned()
    }

    async fn put_foreign(&self, key: &str) {
        let put = self.client.put_item().table_name(&self.name).item("leaseKey", s(key));
        put.item("entityType", s("LEADER")).send().await.expect("put");
    }
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// An item as it is stored.
async fn raw(client: &Client, table: &str, key: &AttributeValue) -> HashMap<String, AttributeValue> {
    let get = client.get_item().table_name(table).key("leaseKey", key.clone()).consistent_read(true);
    get.send().await.expect("read").item.expect("there")
}

/// Runs the suite on the server at `endpoint`.
pub(crate) async fn lease_table_suite_at(endpoint: &str) -> kcl_core::conformance::SuiteReport {
    lease_table_suite(&Beds { client: dynamodb(endpoint), next: AtomicU64::new(0) }).await
}

/// Adopts every lease that Java wrote: takes it, moves its checkpoint, gives it away; all else on the item stays.
pub(crate) async fn adopts_what_java_wrote(endpoint: &str) {
    let client = dynamodb(endpoint);
    let name = format!("java-{}", std::process::id());
    let table = DynamoLeaseTable::open(&client, options(&name)).await.expect("opened");
    let text = include_str!("../../../../kcl-dynamo/tests/data/java-lease-items.json");
    let java: Value = serde_json::from_str(text).expect("legal JSON");
    for json in java["leases"].as_object().expect("groups").values().flat_map(|group| group.as_array().expect("items"))
    {
        let before: serde_dynamo::Item = serde_json::from_value(json.clone()).expect("DynamoDB JSON");
        let before: HashMap<String, AttributeValue> = conformance::items::to_table(before);
        let put = client.put_item().table_name(&name).set_item(Some(before.clone()));
        put.send().await.expect("put");
        // The service writes numbers in its own way.
        let before = raw(&client, &name, &before["leaseKey"]).await;
        let key = before["leaseKey"].as_s().expect("a text").parse().expect("a key");

        let lease = table.get(&key).await.expect("read").expect("there");
        let take = LeaseWrite::take("w/1".parse().expect("an owner"));
        let taken = table.write(&key, &lease.guard(), &take).await.expect("taken");
        assert_eq!(taken, lease.after(&take));
        let at = Checkpoint::Sequence(SequenceNumber::from_u128(u128::MAX));
        let given = LeaseWrite::release(None).with_checkpoint(Some(at));
        let released = table.write(&key, &taken.guard(), &given).await.expect("released");
        assert_eq!(released, taken.after(&given));

        let mut after = raw(&client, &name, &before["leaseKey"]).await;
        let ours = ["leaseOwner", "leaseCounter", "checkpoint"];
        let mut expected = before.clone();
        for name in ours {
            expected.remove(name);
            after.remove(name);
        }
        assert_eq!(after, expected);
    }
}

/// Opening: creates once, finds again, and writes nothing to a table of another schema.
pub(crate) async fn opens_as_the_options_say(endpoint: &str) {
    let client = dynamodb(endpoint);
    let name = format!("open-{}", std::process::id());
    let mut never = options(&name);
    never.create = Create::Never;
    let error = DynamoLeaseTable::open(&client, never.clone()).await.expect_err("there is none");
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    let both = futures::join!(
        DynamoLeaseTable::open(&client, options(&name)),
        DynamoLeaseTable::open(&client, options(&name))
    );
    both.0.expect("opened");
    both.1.expect("opened");
    DynamoLeaseTable::open(&client, never).await.expect("found");
    let described = client.describe_table().table_name(&name).send().await.expect("described");
    let table = described.table.expect("a table");
    assert_eq!(table.global_secondary_indexes()[0].index_name(), Some("LeaseOwnerToLeaseKeyIndex"));

    let other = format!("other-{}", std::process::id());
    client
        .create_table()
        .table_name(&other)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(
            AttributeDefinition::builder().attribute_name("id").attribute_type("S".into()).build().expect("built"),
        )
        .key_schema(KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().expect("built"))
        .send()
        .await
        .expect("created");
    let error = DynamoLeaseTable::open(&client, options(&other)).await.expect_err("another schema");
    assert!(matches!(&error, OpenError::OtherSchema { found, .. } if found == "id (S, HASH)"), "{error}");
}

/// A table that is not there is named.
pub(crate) async fn faults_say_what_to_do(endpoint: &str) {
    let client = dynamodb(endpoint);
    let name = format!("gone-{}", std::process::id());
    let table = DynamoLeaseTable::open(&client, options(&name)).await.expect("opened");
    client.delete_table().table_name(&name).send().await.expect("deleted");
    let error = table.scan(None).await.expect_err("the table is gone");
    assert!(matches!(error.kind(), LeaseErrorKind::Invalid { what } if what.contains(&name)), "{error}");
}
