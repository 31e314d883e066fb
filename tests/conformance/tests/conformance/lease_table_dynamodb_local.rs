//! The lease table on DynamoDB Local.

use conformance::dynamodb_local;
use kcl_core::conformance::lease_table::LEASE_TABLE_CASES;

use crate::{java_and_back, lease_table};

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_table_keeps_every_promise_on_dynamodb_local() {
    let test = "the_lease_table_keeps_every_promise_on_dynamodb_local";
    let Some(server) = dynamodb_local::start().or_skip(test) else { return };
    let report = lease_table::lease_table_suite_at(&server.endpoint).await;
    assert_eq!((report.passed.len(), report.skipped.len()), (LEASE_TABLE_CASES.len(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lease_of_a_java_fleet_is_adopted_on_dynamodb_local() {
    let test = "every_lease_of_a_java_fleet_is_adopted_on_dynamodb_local";
    let Some(server) = dynamodb_local::start().or_skip(test) else { return };
    lease_table::adopts_what_java_wrote(&server.endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_java_fleet_moves_here_and_back_and_here_again_on_dynamodb_local() {
    let test = "a_java_fleet_moves_here_and_back_and_here_again_on_dynamodb_local";
    let Some(server) = dynamodb_local::start().or_skip(test) else { return };
    java_and_back::goes_there_and_back(&server.endpoint).await;
}
