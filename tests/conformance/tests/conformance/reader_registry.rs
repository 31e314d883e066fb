//! The reader registry's suite on whatever speaks DynamoDB: in this process, and DynamoDB Local.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use conformance::dynamodb_local;
use conformance::dynoxide_server::{DynoxideServer, dynamodb};
use kcl_core::conformance::reader_registry::{READER_REGISTRY_CASES, ReaderRegistryBeds, reader_registry_suite};
use kcl_core::{Reader, ReaderRegistry, ReaderSlots, RegistryErrorKind, SlotClaim, StreamArn};
use kcl_dynamo::{Create, DynamoLeaseTable, DynamoReaderRegistry, LeaseTableOptions, OpenError, ReaderRegistryOptions};

struct Beds {
    client: Client,
    next: AtomicU64,
}

fn options(name: &str) -> ReaderRegistryOptions {
    let mut options = ReaderRegistryOptions::new(name.parse().expect("a table name"));
    options.operation_timeout = Duration::from_secs(30);
    options
}

#[async_trait]
impl ReaderRegistryBeds for Beds {
    async fn registry(&self) -> Arc<dyn ReaderRegistry> {
        let name = format!("readers-{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed));
        Arc::new(DynamoReaderRegistry::open(&self.client, options(&name)).await.expect("opened"))
    }
}

async fn suite_at(endpoint: &str) -> usize {
    reader_registry_suite(&Beds { client: dynamodb(endpoint), next: AtomicU64::new(0) }).await.passed.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_registry_keeps_every_promise() {
    let server = DynoxideServer::start().await.expect("started");
    assert_eq!(suite_at(&server.endpoint).await, READER_REGISTRY_CASES.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_registry_keeps_every_promise_on_dynamodb_local() {
    let test = "the_reader_registry_keeps_every_promise_on_dynamodb_local";
    let Some(server) = dynamodb_local::start().or_skip(test) else { return };
    assert_eq!(suite_at(&server.endpoint).await, READER_REGISTRY_CASES.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registrys_table_is_created_found_and_checked() {
    let server = DynoxideServer::start().await.expect("started");
    let client = dynamodb(&server.endpoint);
    let mut never = options("readers");
    never.create = Create::Never;
    let error = DynamoReaderRegistry::open(&client, never.clone()).await.expect_err("there is none");
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    DynamoReaderRegistry::open(&client, options("readers")).await.expect("created");
    DynamoReaderRegistry::open(&client, never).await.expect("found");

    let leases = LeaseTableOptions::new("leases".parse().expect("a table name"));
    DynamoLeaseTable::open(&client, leases).await.expect("created");
    let error = DynamoReaderRegistry::open(&client, options("leases")).await.expect_err("another schema");
    assert!(error.to_string().contains("leases is not a reader registry: its key is leaseKey"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_left_on_an_item_stays_and_a_damaged_slot_is_told() {
    let server = DynoxideServer::start().await.expect("started");
    let client = dynamodb(&server.endpoint);
    let registry = DynamoReaderRegistry::open(&client, options("readers")).await.expect("created");
    let stream: StreamArn = "arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/l".parse().expect("legal");
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = client.put_item().table_name("readers").item("streamArn", text(stream.as_str())).item("note", text("x"));
    put.send().await.expect("put");
    let claim = SlotClaim {
        slot: 1,
        holder: Reader { application: "a".to_owned(), lease_table: "t".to_owned() },
        life: Duration::from_secs(180),
        renewed_at: std::time::SystemTime::UNIX_EPOCH,
    };
    registry.write(&stream, &ReaderSlots::default(), &claim).await.expect("claimed");
    let get = client.get_item().table_name("readers").key("streamArn", text(stream.as_str())).consistent_read(true);
    let item = get.send().await.expect("read").item.expect("there");
    assert_eq!(item.get("note"), Some(&text("x")));

    let damage = client.update_item().table_name("readers").key("streamArn", text(stream.as_str()));
    let damage = damage.update_expression("REMOVE reader1LifeMillis");
    damage.send().await.expect("updated");
    let error = registry.slots(&stream).await.expect_err("damaged");
    let RegistryErrorKind::Invalid { what } = error.kind() else { panic!("{error}") };
    assert!(what.contains("reader1LifeMillis"), "{what}");
}
