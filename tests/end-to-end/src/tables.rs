//! Tables with streams, and items that say which version of their key they are.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PutRequest, ScalarAttributeType,
    StreamSpecification, StreamViewType, WriteRequest,
};
use kcl_dynamo::Record;
use serde::Deserialize;

/// The most items of a `BatchWriteItem`.
const BATCH: usize = 25;

/// Makes an item about 1 KB long.
const PADDING: usize = 960;

/// How often items that a server did not take are sent again.
const SENT_AGAIN: usize = 20;

/// What a consumer reads of an item.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// The key.
    pub pk: String,
    /// Its version: 1 for the first write of the key, then one more each time.
    pub version: u64,
}

impl Version {
    /// What a record brings.
    ///
    /// # Errors
    /// The record has no new image, or one that is not ours.
    pub fn of(record: &Record) -> anyhow::Result<Self> {
        record.new_image_as::<Self>()?.context("there is no new image")
    }

    /// The write number `write` of a table with `keys` keys, from zero.
    #[must_use]
    pub fn nth(write: usize, keys: usize) -> Self {
        Self { pk: format!("key-{:04}", write % keys), version: (write / keys + 1) as u64 }
    }

    /// Its item.
    #[must_use]
    pub fn item(&self) -> HashMap<String, AttributeValue> {
        HashMap::from([
            ("pk".to_owned(), AttributeValue::S(self.pk.clone())),
            ("version".to_owned(), AttributeValue::N(self.version.to_string())),
            ("padding".to_owned(), AttributeValue::S("x".repeat(PADDING))),
        ])
    }
}

/// Creates a table with the key `pk`, whose stream has new images.
///
/// # Errors
/// The server refuses.
pub async fn create(db: &Client, table: &str) -> anyhow::Result<()> {
    let pk = AttributeDefinition::builder().attribute_name("pk").attribute_type(ScalarAttributeType::S).build()?;
    let stream =
        StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewImage).build()?;
    db.create_table()
        .table_name(table)
        .attribute_definitions(pk)
        .key_schema(KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build()?)
        .billing_mode(BillingMode::PayPerRequest)
        .stream_specification(stream)
        .send()
        .await?;
    Ok(())
}

/// Writes one version.
///
/// # Errors
/// The server refuses.
pub async fn put(db: &Client, table: &str, version: &Version) -> anyhow::Result<()> {
    db.put_item().table_name(table).set_item(Some(version.item())).send().await?;
    Ok(())
}

/// Writes `items` versions of `keys` keys, the versions of a key in order, at most `per_second` in a second.
///
/// # Errors
/// The server refuses, or does not take everything for too long.
pub async fn write(db: &Client, table: &str, items: usize, keys: usize, per_second: usize) -> anyhow::Result<()> {
    anyhow::ensure!(keys >= BATCH && per_second > 0, "a batch would name a key twice, or nothing is to be written");
    let mut pace = tokio::time::interval(Duration::from_secs_f64(BATCH as f64 / per_second as f64));
    for first in (0..items).step_by(BATCH) {
        pace.tick().await;
        let puts = (first..items.min(first + BATCH)).map(|write| {
            let put = PutRequest::builder().set_item(Some(Version::nth(write, keys).item())).build()?;
            Ok(WriteRequest::builder().put_request(put).build())
        });
        send(db, table, puts.collect::<anyhow::Result<_>>()?).await?;
    }
    Ok(())
}

async fn send(db: &Client, table: &str, mut batch: Vec<WriteRequest>) -> anyhow::Result<()> {
    for _attempt in 0..SENT_AGAIN {
        let sent = db.batch_write_item().request_items(table, batch).send().await?;
        match sent.unprocessed_items.and_then(|mut left| left.remove(table)) {
            Some(left) if !left.is_empty() => batch = left,
            _ => return Ok(()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("{table} does not take {} items", batch.len())
}
