//! The lease table on a DynamoDB in this process.

use conformance::dynoxide_server::{DynoxideServer, dynamodb};
use kcl_core::conformance::lease_table::LEASE_TABLE_CASES;
use kcl_dynamo::{DynamoLeaseTable, LeaseTableOptions, OpenError};

use crate::{java_and_back, lease_table};

async fn server() -> DynoxideServer {
    DynoxideServer::start().await.expect("started")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_table_keeps_every_promise() {
    let report = lease_table::lease_table_suite_at(&server().await.endpoint).await;
    assert_eq!((report.passed.len(), report.skipped.len()), (LEASE_TABLE_CASES.len(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lease_of_a_java_fleet_is_adopted() {
    lease_table::adopts_what_java_wrote(&server().await.endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_java_fleet_moves_here_and_back_and_here_again() {
    java_and_back::goes_there_and_back(&server().await.endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_created_found_and_checked() {
    lease_table::opens_as_the_options_say(&server().await.endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_is_named() {
    lease_table::faults_say_what_to_do(&server().await.endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_may_be_asked_again() {
    let endpoint = server().await.endpoint.clone();
    let options = LeaseTableOptions::new("leases".parse().expect("a table name"));
    // The server was dropped, and its port is closed.
    let error = DynamoLeaseTable::open(&dynamodb(&endpoint), options).await.expect_err("nobody listens");
    assert!(matches!(&error, OpenError::Failed { source, .. } if source.is_retryable()), "{error:?}");
}
