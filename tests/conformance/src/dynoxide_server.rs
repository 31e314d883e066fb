//! DynamoDB in the test's own process: dynoxide behind a socket on the loopback interface.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use dynoxide::Database;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server with an empty database. Ends when dropped.
#[derive(Debug)]
pub struct DynoxideServer {
    /// Where it listens, as the SDK wants it.
    pub endpoint: String,
    task: JoinHandle<()>,
}

impl DynoxideServer {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// No database or no port could be had.
    pub async fn start() -> anyhow::Result<Self> {
        let db = Database::memory().map_err(|error| anyhow::anyhow!("no database: {error:?}"))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let task = tokio::spawn(dynoxide::server::serve_on(listener, db));
        Ok(Self { endpoint, task })
    }
}

impl Drop for DynoxideServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client of a server that takes any credentials.
#[must_use]
pub fn dynamodb(endpoint: &str) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(endpoint);
    Client::from_conf(config.build())
}
