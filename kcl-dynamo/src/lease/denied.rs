//! Every call of the lease table and of the reader registry, made without a permission.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use kcl_core::{
    BootstrapMarker, GuardedWrite, KeyForm, LeaseCounter, LeaseError, LeaseErrorKind, LeaseGuard, LeaseKey, LeaseTable,
    LeaseWrite, Liveness, NewLease, Reader, ReaderRegistry, ReaderSlots, RegistryError, RegistryErrorKind,
    SCHEMA_VERSION, SlotClaim, StartPosition, StreamArn, TableMeta, WorkerId, WorkerItem, WorkerState,
};

use super::{DynamoLeaseTable, Place};
use crate::{DynamoReaderRegistry, ReaderRegistryOptions};

/// A service that refuses every request, and notes which it was.
#[derive(Debug, Clone, Default)]
struct Denying(Arc<Mutex<Vec<String>>>);

impl HttpConnector for Denying {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        self.0.lock().expect("whole").push(operation);
        let body = r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"not authorized"}"#;
        HttpConnectorFuture::ready(Ok(HttpResponse::new(400.try_into().expect("a status"), SdkBody::from(body))))
    }
}

impl Denying {
    fn client(&self) -> Client {
        let connector = SharedHttpConnector::new(self.clone());
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .http_client(http_client_fn(move |_settings, _components| connector.clone()));
        Client::from_conf(config.build())
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("whole"))
    }
}

fn stream() -> StreamArn {
    "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01".parse().expect("legal")
}

fn new_lease(shard: &str) -> NewLease {
    let shard: kcl_core::ShardId = shard.parse().expect("legal");
    NewLease {
        key: LeaseKey::of(KeyForm::Qualified, &stream(), &shard),
        stream: stream(),
        shard,
        counter: LeaseCounter(0),
        owner: None,
        parent: None,
        starting_sequence: None,
        start_at: None,
        root: true,
    }
}

/// Which call was denied, which action is to be granted, and what the service was asked.
fn told<T>(answer: Result<T, LeaseError>, service: &Denying) -> (&'static str, &'static str, String) {
    let Err(error) = answer else { panic!("it was refused") };
    let LeaseErrorKind::Denied { action } = *error.kind() else { panic!("{error:?}") };
    assert!(!error.is_retryable() && !error.is_unknown());
    (error.operation(), action, service.asked().join(" "))
}

#[tokio::test]
async fn a_call_without_a_permission_names_itself_and_the_action_to_grant() {
    let service = Denying::default();
    let place = Place { table: "leases".to_owned(), region: "eu-west-1".to_owned() };
    let table = DynamoLeaseTable { client: service.client(), place, page_size: None };
    let (lease, child) = (new_lease("shardId-1"), new_lease("shardId-2"));
    let seen = LeaseGuard { counter: LeaseCounter(1), owner: None };
    let key = &lease.key;
    let id = WorkerId::new("w", 1).expect("legal");
    let worker = WorkerItem { id: id.clone(), counter: LeaseCounter(1), state: WorkerState::Live, weight: 100 };
    let marker = BootstrapMarker {
        stream: stream(),
        at: SystemTime::UNIX_EPOCH,
        start: StartPosition::TrimHorizon,
        complete: false,
    };
    let meta = TableMeta { schema: SCHEMA_VERSION, liveness: Liveness::PerLease, key_form: KeyForm::Qualified };
    let write = |key: &LeaseKey| GuardedWrite { key: key.clone(), seen: seen.clone(), write: LeaseWrite::renew() };
    let two = [write(key), write(&child.key)];
    let of_transactions = "UpdateItem, dynamodb:PutItem and dynamodb:ConditionCheckItem";
    let answers = [
        (told(table.scan(None).await, &service), ("scan", "Scan", "Scan")),
        (told(table.get(key).await, &service), ("get", "GetItem", "GetItem")),
        (told(table.create(&lease).await, &service), ("create", "PutItem", "PutItem")),
        (told(table.write(key, &seen, &LeaseWrite::renew()).await, &service), ("write", "UpdateItem", "UpdateItem")),
        (
            told(table.finish(key, &seen, std::slice::from_ref(&child)).await, &service),
            ("finish", of_transactions, "TransactWriteItems"),
        ),
        (told(table.write_all(&two).await, &service), ("write_all", "UpdateItem", "TransactWriteItems")),
        (told(table.delete(key, &seen).await, &service), ("delete", "DeleteItem", "DeleteItem")),
        (told(table.register_worker(&id, 100).await, &service), ("register_worker", "PutItem", "PutItem")),
        (told(table.worker(&id).await, &service), ("worker", "GetItem", "GetItem")),
        (
            told(table.write_worker(&worker, WorkerState::Live).await, &service),
            ("write_worker", "UpdateItem", "UpdateItem"),
        ),
        (told(table.delete_worker(&worker).await, &service), ("delete_worker", "DeleteItem", "DeleteItem")),
        (told(table.fix_marker(&marker).await, &service), ("fix_marker", "PutItem", "PutItem")),
        (told(table.complete_marker(&stream()).await, &service), ("complete_marker", "UpdateItem", "UpdateItem")),
        (told(table.delete_marker(&marker).await, &service), ("delete_marker", "DeleteItem", "DeleteItem")),
        (told(table.fix_meta(&meta).await, &service), ("fix_meta", "PutItem", "PutItem")),
        (told(table.delete_meta(&meta).await, &service), ("delete_meta", "DeleteItem", "DeleteItem")),
        (told(table.ring().await, &service), ("ring", "UpdateItem", "UpdateItem")),
        (told(table.rings().await, &service), ("rings", "GetItem", "GetItem")),
    ];
    for ((call, action, asked), (expected, granted, operation)) in answers {
        assert_eq!((call, action, asked.as_str()), (expected, granted, operation));
    }
}

#[tokio::test]
async fn the_registry_names_its_call_and_the_action_too() {
    let service = Denying::default();
    let options = ReaderRegistryOptions::new("readers".parse().expect("legal"));
    let registry = DynamoReaderRegistry::unopened(&service.client(), &options);
    let holder = Reader { application: "a".to_owned(), lease_table: "t".to_owned() };
    let claim = SlotClaim { slot: 0, holder, life: Duration::from_secs(180), renewed_at: SystemTime::UNIX_EPOCH };
    let denied = |answer: Result<ReaderSlots, RegistryError>| {
        let error = answer.expect_err("it was refused");
        let RegistryErrorKind::Denied { action } = *error.kind() else { panic!("{error:?}") };
        (error.operation(), action)
    };
    assert_eq!(denied(registry.slots(&stream()).await), ("slots", "GetItem"));
    assert_eq!(denied(registry.write(&stream(), &ReaderSlots::default(), &claim).await), ("write", "UpdateItem"));
    assert_eq!(service.asked(), ["GetItem", "UpdateItem"]);
}
