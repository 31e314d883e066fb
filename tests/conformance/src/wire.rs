//! The wire service, in this process and on a port, for tests that meet it through an SDK.

use std::time::{Duration, SystemTime};

use aws_types::SdkConfig;
use kcl_dynamo::reference::{MovableClock, ReferenceStream, StreamOptions};
use kcl_dynamo::wire::{ServerOptions, WireServer, WireService};
use kcl_dynamo::{Rt, StreamArn, StreamViewType, TableName};

/// How an SDK reaches the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// As its HTTP client.
    Connector,
    /// Over a loopback port.
    Server,
}

/// A service of this test's own, whose clock moves only when the test says so.
#[derive(Debug)]
pub struct WireFixture {
    /// The service.
    pub service: WireService,
    /// Its clock.
    pub clock: MovableClock,
    /// A configuration that leads there.
    pub config: SdkConfig,
    /// The server, where there is one.
    pub server: Option<WireServer>,
}

impl WireFixture {
    /// Starts one. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// There is no thread for the runtime, or no free port.
    pub async fn start(over: Over, options: StreamOptions) -> anyhow::Result<Self> {
        let rt = Rt::tokio()?;
        let clock = MovableClock::standing(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600));
        let service = WireService::new(ReferenceStream::new(clock.rt(&rt), options), &rt).with_clock(clock.clone());
        let server = match over {
            Over::Connector => None,
            Over::Server => Some(WireServer::start(service.clone(), ServerOptions::default()).await?),
        };
        let config = server.as_ref().map_or_else(|| service.sdk_config(), WireServer::sdk_config);
        Ok(Self { service, clock, config, server })
    }

    /// A table with the text key `id`, and its stream.
    ///
    /// # Errors
    /// The name is none of a table, or taken.
    pub fn table(&self, name: &str, view: StreamViewType, shards: usize) -> anyhow::Result<(TableName, StreamArn)> {
        let table: TableName = name.parse()?;
        let stream = self.service.stream().create_table(&table, &["id"], view, shards)?;
        Ok((table, stream))
    }
}
