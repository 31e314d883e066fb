//! The worker on AWS: from an `SdkConfig` to a running member of a fleet.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use aws_sdk_dynamodb::config::BehaviorVersion;
use aws_types::SdkConfig;
use kcl_core::{
    ArnError, BuildError as CoreBuildError, ProcessError, Record, RecordProcessorFactory, Report, Rt, RunError,
    StartPosition, Stream, TaskClass, WorkerConfig, WorkerHandle,
};

use crate::lease::{Create, DynamoLeaseTable, LeaseTableOptions, OpenError};
use crate::readers::{DynamoReaderRegistry, READER_REGISTRY, ReaderRegistryOptions};
use crate::stream::{ClientConfigError, DynamoStreamSource, StreamOptions, https_client};

/// A member of a fleet that consumes DynamoDB Streams on AWS.
#[derive(Debug)]
pub struct Worker(kcl_core::Worker);

impl Worker {
    /// Describes a worker of `application`, whose region, credentials and endpoint are those of `aws`.
    ///
    /// The application's name is also the name of its lease table, unless [`WorkerBuilder::lease_table`] says otherwise.
    pub fn builder(application: impl Into<String>, aws: &SdkConfig) -> WorkerBuilder {
        let application = application.into();
        WorkerBuilder {
            lease_table: None,
            leases: None,
            readers: None,
            application,
            stream_config: aws.clone(),
            lease_config: aws.clone(),
            stream_client: None,
            lease_client: None,
            source: StreamOptions::default(),
            rt: None,
            steps: Vec::new(),
        }
    }

    /// A handle to watch and stop the worker.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        self.0.handle()
    }

    /// Works until [`WorkerHandle::shutdown`] is called.
    ///
    /// # Errors
    /// See [`RunError`]. Whatever may pass by itself is retried and told as an event.
    ///
    /// # Cancel safety
    /// Dropping the future stops the worker as a crash would: nothing is lost, its leases expire.
    pub async fn run(self) -> Result<Report, RunError> {
        self.0.run().await
    }

    /// Works until `stop` is ready or [`WorkerHandle::shutdown`] is called, then stops gracefully.
    ///
    /// # Errors
    /// See [`Worker::run`].
    ///
    /// # Cancel safety
    /// See [`Worker::run`].
    pub async fn run_until<F>(self, stop: F) -> Result<Report, RunError>
    where
        F: Future + Send,
    {
        self.0.run_until(stop).await
    }
}

type Step = Box<dyn FnOnce(kcl_core::WorkerBuilder) -> kcl_core::WorkerBuilder + Send>;

/// Describes a worker. Made by [`Worker::builder`].
#[must_use]
pub struct WorkerBuilder {
    application: String,
    stream_config: SdkConfig,
    lease_config: SdkConfig,
    stream_client: Option<aws_sdk_dynamodbstreams::Client>,
    lease_client: Option<aws_sdk_dynamodb::Client>,
    lease_table: Option<String>,
    leases: Option<LeaseTableOptions>,
    readers: Option<ReaderRegistryOptions>,
    source: StreamOptions,
    rt: Option<Rt>,
    /// What is told to the engine's own builder once source and table exist.
    steps: Vec<Step>,
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("application", &self.application)
            .field("lease_table", &self.lease_table)
            .field("leases", &self.leases)
            .finish_non_exhaustive()
    }
}

/// Why a worker cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The AWS configuration lacks something.
    #[error(transparent)]
    Aws(#[from] ClientConfigError),
    /// The application's name, or the one given for it, cannot be that of a lease table.
    #[error("the lease table needs another name; give one with .lease_table(…)")]
    TableName(#[from] ArnError),
    /// The lease table cannot be opened or created.
    #[error(transparent)]
    LeaseTable(#[from] OpenError),
    /// The table of the reader registry cannot be opened or created. Create it beforehand or grant what is missing, or do without
    /// reader slots.
    #[error(
        "the reader registry cannot be opened; see docs/operations.md for its table, or do without reader slots: \
         .configure(|c| c.with_readers(ReaderPolicy::Off))"
    )]
    ReaderRegistry(#[source] OpenError),
    /// The settings, the streams or the table's content do not fit.
    #[error(transparent)]
    Worker(#[from] CoreBuildError),
    /// The runtime could not be started: `build` must be called inside a tokio runtime.
    #[error("the runtime cannot be started")]
    Runtime(#[from] io::Error),
}

impl WorkerBuilder {
    fn step(mut self, step: impl FnOnce(kcl_core::WorkerBuilder) -> kcl_core::WorkerBuilder + Send + 'static) -> Self {
        self.steps.push(Box::new(step));
        self
    }

    /// Reads the stream of this table, given by name or ARN. May be called several times. See [`Stream::table`].
    pub fn table(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.step(|worker| worker.table(name))
    }

    /// Reads this stream. May be called several times.
    pub fn stream(self, arn: impl Into<String>) -> Self {
        let arn = arn.into();
        self.step(|worker| worker.stream(arn))
    }

    /// Reads this stream, with its own start position and processors where it has them. May be called several times.
    pub fn consume(self, stream: Stream) -> Self {
        self.step(|worker| worker.consume(stream))
    }

    /// Where the application begins on a stream that it has never read, unless the stream says otherwise. Default: TRIM_HORIZON.
    pub fn start(self, start: StartPosition) -> Self {
        self.step(move |worker| worker.start(start))
    }

    /// Makes the processors of all streams that do not say otherwise: a factory, or a closure from [`kcl_core::ShardInfo`] to a processor.
    pub fn processor(self, factory: impl RecordProcessorFactory) -> Self {
        self.step(|worker| worker.processor(factory))
    }

    /// Calls `each` for every record, one after the other within a shard.
    pub fn for_each<F, Fut>(self, each: F) -> Self
    where
        F: Fn(Record) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ProcessError>> + Send + 'static,
    {
        self.step(|worker| worker.for_each(each))
    }

    /// Replaces all settings.
    pub fn config(self, config: WorkerConfig) -> Self {
        self.step(|worker| worker.config(config))
    }

    /// Changes the settings.
    pub fn configure(self, change: impl FnOnce(WorkerConfig) -> WorkerConfig + Send + 'static) -> Self {
        self.step(|worker| worker.configure(change))
    }

    /// The lease table's name, also over that of [`WorkerBuilder::lease_options`]. Default: the application's.
    pub fn lease_table(mut self, name: impl Into<String>) -> Self {
        self.lease_table = Some(name.into());
        self
    }

    /// How the lease table is opened and created, its name included.
    pub fn lease_options(mut self, options: LeaseTableOptions) -> Self {
        self.leases = Some(options);
        self
    }

    /// How the table of the reader registry is opened and created, its name included. Default: [`READER_REGISTRY`], beside the lease
    /// table, created if it is missing. All applications that read a stream must use the same.
    pub fn reader_options(mut self, options: ReaderRegistryOptions) -> Self {
        self.readers = Some(options);
        self
    }

    /// Reads the streams with this configuration: another account or region than that of the lease table.
    pub fn stream_config(mut self, aws: &SdkConfig) -> Self {
        self.stream_config = aws.clone();
        self
    }

    /// Keeps the lease table with this configuration: another account, region or endpoint than that of the streams.
    pub fn lease_config(mut self, aws: &SdkConfig) -> Self {
        self.lease_config = aws.clone();
        self
    }

    /// Reads the streams as this client does: its configuration is taken over, its retries and time-outs are not.
    pub fn stream_client(mut self, client: &aws_sdk_dynamodbstreams::Client) -> Self {
        self.stream_client = Some(client.clone());
        self
    }

    /// Keeps the lease table as this client does: its configuration is taken over, its retries and time-outs are not. It should
    /// share its HTTP client with nobody: a lease's small writes must not wait behind other answers.
    pub fn lease_client(mut self, client: &aws_sdk_dynamodb::Client) -> Self {
        self.lease_client = Some(client.clone());
        self
    }

    /// How the stream is asked.
    pub fn stream_options(mut self, options: StreamOptions) -> Self {
        self.source = options;
        self
    }

    /// Runs on this runtime instead of the calling task's.
    pub fn rt(mut self, rt: Rt) -> Self {
        self.rt = Some(rt);
        self
    }

    /// Checks the settings, finds the streams, and opens the lease table, or creates it once all the rest is in order.
    ///
    /// # Errors
    /// See [`BuildError`].
    ///
    /// # Cancel safety
    /// At most the lease table has been created and described; no lease was written.
    pub async fn build(self) -> Result<Worker, BuildError> {
        let source = match &self.stream_client {
            Some(client) => DynamoStreamSource::from_client(client, &self.source)?,
            None => DynamoStreamSource::new(&self.stream_config, &self.source)?,
        };
        let rt = match self.rt {
            Some(rt) => rt,
            None => Rt::tokio()?,
        };
        let options = match (self.leases, self.lease_table) {
            (Some(options), None) => options,
            (Some(options), Some(name)) => LeaseTableOptions { name: name.parse()?, ..options },
            (None, name) => LeaseTableOptions::new(name.as_ref().unwrap_or(&self.application).parse()?),
        };
        let client = match self.lease_client {
            Some(client) => client,
            None => lease_client(&self.lease_config)?,
        };
        let leases = DynamoLeaseTable::unopened(&client, &options);
        let leases_name = leases.place.to_string();
        let region = source.home_region().map(str::to_owned);
        let mut worker = kcl_core::Worker::builder(self.application, Arc::new(source), Arc::new(leases)).rt(rt.clone());
        if let Some(region) = region {
            worker = worker.region(region);
        }
        for step in self.steps {
            worker = step(worker);
        }
        let readers = match (worker.wants_reader_slots(), self.readers) {
            (false, _) => None,
            (true, Some(options)) => Some(options),
            (true, None) => Some(ReaderRegistryOptions::new(READER_REGISTRY.parse()?)),
        };
        if let Some(options) = &readers {
            let registry = DynamoReaderRegistry::unopened(&client, options);
            worker = worker.reader_registry(Arc::new(registry), leases_name);
        }
        let checked = worker.check().await?;
        // Where leases are kept: connections that are made there are driven there, whatever user code does to its own threads.
        let open = |options| {
            let client = client.clone();
            let open = async move { DynamoLeaseTable::open(&client, options).await };
            rt.spawn("opening the lease table", TaskClass::Lease, open)
        };
        let found = open(LeaseTableOptions { create: Create::Never, ..options.clone() }).await;
        match found.map_err(io::Error::other)? {
            Ok(_opened) => {}
            Err(OpenError::Missing { .. }) if options.create == Create::IfMissing => {
                checked.require_enabled()?;
                open(options).await.map_err(io::Error::other)??;
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(options) = readers {
            let client = client.clone();
            let open = async move { DynamoReaderRegistry::open(&client, options).await };
            let opened = rt.spawn("opening the reader registry", TaskClass::Lease, open).await;
            opened.map_err(io::Error::other)?.map_err(BuildError::ReaderRegistry)?;
        }
        Ok(Worker(checked.build().await?))
    }
}

/// A client for the lease table alone. Its connections are shared with nobody, unless the configuration brings an HTTP client:
/// a stream's large answers must not hold up a lease's small writes.
fn lease_client(aws: &SdkConfig) -> Result<aws_sdk_dynamodb::Client, ClientConfigError> {
    if aws.credentials_provider().is_none() {
        return Err(ClientConfigError::NoCredentials);
    }
    if aws.region().is_none() {
        return Err(ClientConfigError::NoRegion);
    }
    let mut config = aws_sdk_dynamodb::Config::new(aws).to_builder().behavior_version(BehaviorVersion::latest());
    if aws.http_client().is_none() {
        config = config.http_client(https_client());
    }
    Ok(aws_sdk_dynamodb::Client::from_conf(config.build()))
}
