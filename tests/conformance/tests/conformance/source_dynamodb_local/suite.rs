//! The suite of the contract, with what DynamoDB Local can be told to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::StreamViewType as SdkViewType;
use conformance::dynamodb_local::LocalServer;
use kcl_core::conformance::source::{BedError, BedSpec, SourceBed, SourceBeds, SourceCapabilities, source_suite};
use kcl_dynamo::{DynamoStreamSource, StreamArn, StreamSource, TableName};
use serde_dynamo::Item;

use super::{create_table, found, set_stream, started, stream_of};

/// Beds are tables of one server. The cases run one after the other: while one is running no other table is written to, which
/// DynamoDB Local would take amiss.
struct LocalBeds {
    server: LocalServer,
    source: DynamoStreamSource,
    built: AtomicUsize,
}

struct LocalBed {
    db: aws_sdk_dynamodb::Client,
    source: DynamoStreamSource,
    table: TableName,
    stream: StreamArn,
}

#[async_trait]
impl SourceBeds for LocalBeds {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities {
            can_disable: true,
            child_filter: true,
            expires_iterators: true,
            ..SourceCapabilities::FEWEST
        }
    }

    async fn build(&self, spec: BedSpec) -> Result<Box<dyn SourceBed>, BedError> {
        let db = self.server.dynamodb();
        let table = format!("table-{}", self.built.fetch_add(1, Ordering::Relaxed));
        create_table(&db, &table, Some(stream_of(SdkViewType::from(spec.view_type.as_str())))).await;
        let stream = found(&self.source, &table).await;
        Ok(Box::new(LocalBed { db, source: self.source.clone(), table: table.parse()?, stream }))
    }
}

#[async_trait]
impl SourceBed for LocalBed {
    fn source(&self) -> Arc<dyn StreamSource> {
        Arc::new(self.source.clone())
    }

    fn table(&self) -> TableName {
        self.table.clone()
    }

    fn stream(&self) -> StreamArn {
        self.stream.clone()
    }

    async fn put(&self, item: Item) -> Result<(), BedError> {
        self.db
            .put_item()
            .table_name(self.table.as_str())
            .set_item(Some(conformance::items::to_table(item)))
            .send()
            .await?;
        Ok(())
    }

    async fn delete(&self, keys: Item) -> Result<(), BedError> {
        self.db
            .delete_item()
            .table_name(self.table.as_str())
            .set_key(Some(conformance::items::to_table(keys)))
            .send()
            .await?;
        Ok(())
    }

    /// It has no rates to keep to.
    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    async fn disable(&self) -> Result<(), BedError> {
        set_stream(&self.db, self.table.as_str(), false).await;
        Ok(())
    }
}

#[tokio::test]
async fn the_source_keeps_its_contract() {
    let Some((server, source)) = started("the_source_keeps_its_contract") else { return };
    let beds = LocalBeds { server, source, built: AtomicUsize::new(0) };
    let kcl_core::conformance::SuiteReport { passed, skipped } = source_suite(&beds).await;
    // What is skipped is what needs splits, trims, throttles, a clock that can be moved, or many shards.
    assert!(passed.len() > 2 * skipped.len(), "passed {passed:?}, skipped {skipped:?}");
}
