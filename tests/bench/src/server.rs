//! DynamoDB Local, started for the measurement, and the table that is read.

use std::env;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PutRequest, ScalarAttributeType,
    StreamSpecification, StreamViewType, WriteRequest,
};
use aws_types::SdkConfig;

/// What `BatchWriteItem` takes at once.
const ITEMS_A_WRITE: usize = 25;

/// A server, stopped when this is dropped.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    java: Child,
}

impl Server {
    /// Starts the one in `$DYNAMODB_LOCAL_DIR`, else in `target/dynamodb-local` of the workspace.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dynamodb-local");
        let dir = env::var_os("DYNAMODB_LOCAL_DIR").map_or_else(workspace, PathBuf::from);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let java = Command::new("java")
            .args(["-Xmx1g", "-Djava.library.path=DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar"])
            .args(["-inMemory", "-sharedDb", "-disableTelemetry", "-port", &port.to_string()])
            .current_dir(&dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("there is no DynamoDB Local in {}, or no java", dir.display()))?;
        let server = Self { endpoint: format!("http://127.0.0.1:{port}"), java };
        for _ in 0..600 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(server);
            }
            sleep(Duration::from_millis(100));
        }
        bail!("DynamoDB Local does not answer")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; nobody is left to be told.
        let _ended = self.java.kill();
        let _reaped = self.java.wait();
    }
}

/// A configuration that leads to `endpoint`.
pub(crate) fn config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("bench", "bench", None, None, "bench");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .build()
}

/// Makes a table with a stream and writes `items` of 1 KB with four attributes; returns the stream.
pub(crate) async fn fill(endpoint: &str, table: &str, items: usize) -> anyhow::Result<String> {
    let client = Client::new(&config(endpoint));
    let created = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(
            AttributeDefinition::builder().attribute_name("pk").attribute_type(ScalarAttributeType::S).build()?,
        )
        .key_schema(KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build()?)
        .stream_specification(
            StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewImage).build()?,
        )
        .send()
        .await?;
    let stream = created.table_description.and_then(|table| table.latest_stream_arn).context("there is no stream")?;
    for first in (0..items).step_by(ITEMS_A_WRITE) {
        let puts: Vec<WriteRequest> =
            (first..items.min(first + ITEMS_A_WRITE)).map(put).collect::<anyhow::Result<_>>()?;
        let written = client.batch_write_item().request_items(table, puts).send().await?;
        if written.unprocessed_items.is_some_and(|left| !left.is_empty()) {
            bail!("not every item was written");
        }
    }
    Ok(stream)
}

fn put(index: usize) -> anyhow::Result<WriteRequest> {
    let item = PutRequest::builder()
        .item("pk", AttributeValue::S(format!("order-{index:010}")))
        .item("customer", AttributeValue::S(format!("customer-{:06}", index % 1000)))
        .item("total", AttributeValue::N((index * 7).to_string()))
        .item("note", AttributeValue::S("n".repeat(930)));
    Ok(WriteRequest::builder().put_request(item.build()?).build())
}
