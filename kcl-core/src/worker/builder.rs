//! Describing a worker, and finding out early what cannot work.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use super::for_each::ForEach;
use super::handle::{Stop, WorkerHandle};
use super::run::{Parts, Worker};
use super::stream::Stream;
use crate::contract::{
    LeaseError, LeaseTable, ProcessError, Reader, ReaderLimit, ReaderRegistry, RecordProcessorFactory, RegistryError,
    Rt, ShardInfo, StreamSource, TaskClass,
};
use crate::model::{ArnError, StartPosition, StreamArn, StreamStatus};
use crate::policy::succession::Begun;
use crate::policy::tenure::LeaseTiming;
use crate::record::Record;
use crate::runner::{
    Configured, Factory, NotAdmitted, Readers, ResolveError, ResolvedStream, Subscription, TableAccess, fix,
    resolve_patiently, survey,
};
use crate::surface::config::{ConfigError, ReaderPolicy, WorkerConfig};
use crate::surface::event::Events;
use crate::surface::status::Board;

/// Describes a worker. Made by [`Worker::builder`].
#[must_use]
pub struct WorkerBuilder {
    application: String,
    source: Arc<dyn StreamSource>,
    leases: Arc<dyn LeaseTable>,
    streams: Vec<Stream>,
    region: Option<String>,
    start: StartPosition,
    factory: Option<Factory>,
    registry: Option<(Arc<dyn ReaderRegistry>, String)>,
    config: WorkerConfig,
    rt: Option<Rt>,
}

/// A worker whose settings can work and whose streams exist. Made by [`WorkerBuilder::check`].
#[must_use]
#[derive(Debug)]
pub struct CheckedWorker {
    builder: WorkerBuilder,
    rt: Rt,
    resolved: Vec<(ResolvedStream, Subscription)>,
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("application", &self.application)
            .field("streams", &self.streams)
            .field("start", &self.start)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Why a worker cannot be made. Nothing of a stream was read, and no lease was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The settings cannot work together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A name is neither a stream's ARN nor a table's name or ARN.
    #[error(transparent)]
    Name(#[from] ArnError),
    /// There is nothing to read.
    #[error(transparent)]
    Stream(#[from] ResolveError),
    /// The lease table cannot be used.
    #[error("the lease table cannot be used")]
    Table(#[from] LeaseError),
    /// Other applications read the stream already.
    #[error(transparent)]
    ReaderLimit(#[from] ReaderLimit),
    /// The reader registry cannot be asked. Without it nobody knows how many applications read the stream.
    #[error(
        "the reader registry cannot be asked; mend that, or do without reader slots: \
         .configure(|c| c.with_readers(ReaderPolicy::Off))"
    )]
    Registry(#[from] RegistryError),
    /// The runtime could not be started: `check` and `build` must be called inside a tokio runtime.
    #[error("the runtime cannot be started")]
    Runtime(#[from] io::Error),
}

impl WorkerBuilder {
    pub(super) fn new(application: String, source: Arc<dyn StreamSource>, leases: Arc<dyn LeaseTable>) -> Self {
        Self {
            application,
            source,
            leases,
            streams: Vec::new(),
            region: None,
            start: StartPosition::TrimHorizon,
            factory: None,
            registry: None,
            config: WorkerConfig::default(),
            rt: None,
        }
    }

    /// Reads the stream of this table, given by name or ARN. May be called several times. See [`Stream::table`].
    pub fn table(self, name: impl Into<String>) -> Self {
        self.consume(Stream::table(name))
    }

    /// Reads this stream. May be called several times.
    pub fn stream(self, arn: impl Into<String>) -> Self {
        self.consume(Stream::arn(arn))
    }

    /// Reads this stream, with its own start position and processors where it has them. May be called several times.
    pub fn consume(mut self, stream: Stream) -> Self {
        self.streams.push(stream);
        self
    }

    /// Keeps to the reader slots in this registry, which all applications of the account and region share. `lease_table` tells this
    /// application from others of its name; all of its workers give the same. Without a registry any stream is read.
    pub fn reader_registry(mut self, registry: Arc<dyn ReaderRegistry>, lease_table: impl Into<String>) -> Self {
        self.registry = Some((registry, lease_table.into()));
        self
    }

    /// Whether the settings so far ask for reader slots.
    #[must_use]
    pub fn wants_reader_slots(&self) -> bool {
        self.config.readers != ReaderPolicy::Off
    }

    /// The region of the client behind the source: ARNs of another one are refused.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Where the application begins on a stream that it has never read, unless the stream says otherwise. Default: TRIM_HORIZON.
    pub fn start(mut self, start: StartPosition) -> Self {
        self.start = start;
        self
    }

    /// Makes the processors of all streams that do not say otherwise: a factory, or a closure from [`ShardInfo`] to a processor.
    pub fn processor(mut self, factory: impl RecordProcessorFactory) -> Self {
        self.factory = Some(Factory(Arc::new(factory)));
        self
    }

    /// Calls `each` for every record, one after the other within a shard.
    pub fn for_each<F, Fut>(self, each: F) -> Self
    where
        F: Fn(Record) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ProcessError>> + Send + 'static,
    {
        self.processor(move |_: &ShardInfo| ForEach::new(each.clone()))
    }

    /// Replaces all settings.
    pub fn config(mut self, config: WorkerConfig) -> Self {
        self.config = config;
        self
    }

    /// Changes the settings.
    pub fn configure(mut self, change: impl FnOnce(WorkerConfig) -> WorkerConfig) -> Self {
        self.config = change(self.config);
        self
    }

    /// Runs on this runtime instead of the calling task's.
    pub fn rt(mut self, rt: Rt) -> Self {
        self.rt = Some(rt);
        self
    }

    /// Checks the settings, finds the streams and looks at the lease table.
    ///
    /// # Errors
    /// See [`BuildError`].
    ///
    /// # Cancel safety
    /// At most the table's own description has been written.
    pub async fn build(self) -> Result<Worker, BuildError> {
        self.check().await?.build().await
    }

    /// The first half of [`WorkerBuilder::build`]: checks the settings and finds the streams. The lease table is not asked, so it
    /// may be one that is created only then: a mistake in a name leaves nothing behind. A stream that cannot be reached, or that
    /// throttles, is asked again until [`WorkerConfig::source_timeout`] has passed four times.
    ///
    /// # Errors
    /// See [`BuildError`].
    ///
    /// # Cancel safety
    /// It reads only.
    pub async fn check(self) -> Result<CheckedWorker, BuildError> {
        let subscriptions = self.check_settings()?;
        let rt = match &self.rt {
            Some(rt) => rt.clone(),
            None => default_rt()?,
        };
        let (source, region, timeout) = (self.source.as_ref(), self.region.as_deref(), self.config.source_timeout);
        let mut resolved = Vec::new();
        for subscription in subscriptions {
            let found = resolve_patiently(&rt, timeout, source, &subscription.spec, region).await?;
            resolved.push((found, subscription));
        }
        self.refuse_twice(&resolved)?;
        Ok(CheckedWorker { builder: self, rt, resolved })
    }

    /// Of two ways to process one stream, one would be left out.
    fn refuse_twice(&self, resolved: &[(ResolvedStream, Subscription)]) -> Result<(), ConfigError> {
        let mut wrong = Vec::new();
        let named: Vec<_> = self.streams.iter().zip(resolved.iter().map(|(stream, _)| &stream.arn)).collect();
        for (index, (stream, arn)) in named.iter().enumerate() {
            if let Some((first, _)) = named[..index].iter().find(|(_, other)| other == arn) {
                wrong.push(format!(
                    "{} and {} are the same stream, {arn}: name it once, with one way to process it",
                    first.name(),
                    stream.name()
                ));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(ConfigError::new(wrong)) }
    }

    fn check_settings(&self) -> Result<Vec<Subscription>, BuildError> {
        let mut wrong = match self.config.validate() {
            Ok(()) => Vec::new(),
            Err(error) => error.violations().to_vec(),
        };
        if self.application.is_empty() {
            wrong.push("the application must have a name".to_owned());
        }
        if self.streams.is_empty() {
            wrong.push("name what to read with .table(…) or .stream(…)".to_owned());
        }
        if self.rt.is_none() && cfg!(not(feature = "tokio-rt")) {
            wrong.push("without the feature tokio-rt a runtime must be given with .rt(…)".to_owned());
        }
        let mut factories = Vec::new();
        for stream in &self.streams {
            match stream.factory_or(self.factory.as_ref()) {
                Some(factory) => factories.push(factory),
                None => wrong.push(format!(
                    "say how records of {} are processed with .processor(…) or .for_each(…)",
                    stream.name()
                )),
            }
        }
        if !wrong.is_empty() {
            return Err(ConfigError::new(wrong).into());
        }
        let subscriptions = self.streams.iter().zip(factories).map(|(stream, factory)| {
            Ok(Subscription { spec: stream.spec()?, start: stream.start_or(self.start), factory })
        });
        subscriptions.collect()
    }
}

impl CheckedWorker {
    /// Refuses streams that are switched off. For an application whose lease table does not exist: it has nothing to drain.
    ///
    /// # Errors
    /// [`ResolveError::Disabled`].
    pub fn require_enabled(&self) -> Result<(), BuildError> {
        refuse_disabled(&self.resolved, &Begun::default(), &BTreeSet::new())?;
        Ok(())
    }

    /// The second half of [`WorkerBuilder::build`]: looks at the lease table, which must exist by now.
    ///
    /// # Errors
    /// See [`BuildError`].
    ///
    /// # Cancel safety
    /// At most the table's own description has been written.
    pub async fn build(self) -> Result<Worker, BuildError> {
        let Self { builder, rt, resolved } = self;
        let timing = LeaseTiming::new(builder.config.lease_duration);
        let access = TableAccess { table: builder.leases.clone(), rt: rt.clone(), timing, denials: None };
        let arns: Vec<StreamArn> = resolved.iter().map(|(stream, _)| stream.arn.clone()).collect();
        let older: Vec<StreamArn> = resolved.iter().flat_map(|(stream, _)| stream.older.clone()).collect();
        let configured = Configured { key_form: builder.config.key_form, liveness: builder.config.liveness };
        let (looking, looked_for) = (access.clone(), arns.clone());
        // Where leases are kept: connections that are made there are driven there, whatever user code does to its own threads.
        let survey = async move { survey(&looking, &looked_for, &older, configured).await };
        let surveyed =
            rt.spawn("reading the lease table", TaskClass::Lease, survey).await.map_err(io::Error::other)??;
        let named = named_by_arn(&resolved);
        refuse_disabled(&resolved, &surveyed.begun, &named)?;
        let begun = surveyed.begun.clone();
        let fix = async move { fix(&access, &arns, &surveyed).await };
        let meta = rt.spawn("opening the lease table", TaskClass::Lease, fix).await.map_err(io::Error::other)??;
        let streams = first_streams(resolved, &begun.without(&named), &named);
        let reader = |lease_table| Reader { application: builder.application.clone(), lease_table };
        let registry = builder.registry.map(|(registry, lease_table)| (registry, reader(lease_table)));
        let readers = Readers::new(registry, builder.config.readers, builder.config.reader_slots, rt.clone());
        let (admitted, admitting): (Vec<StreamArn>, _) =
            (streams.iter().map(|(stream, _)| stream.clone()).collect(), readers.clone());
        let admit = async move { admitting.admit(&admitted).await };
        rt.spawn("claiming reader slots", TaskClass::Lease, admit).await.map_err(io::Error::other)??;
        let arns: Vec<&StreamArn> = streams.iter().map(|(stream, _)| stream).collect();
        tracing::info!(application = builder.application, streams = ?arns, "the worker is ready to run");
        let board = Board::new(rt.clone(), builder.config.lease_duration);
        let (stop, events) = (Stop::default(), Events::new(rt.clone()));
        let handle = WorkerHandle::new(board.clone(), events.source(), stop.clone());
        let parts = Parts {
            rt,
            table: builder.leases,
            source: builder.source,
            streams,
            readers,
            config: Arc::new(builder.config),
            meta,
            events,
            board,
        };
        Ok(Worker { parts, handle, stop })
    }
}

/// A stream that is switched off is worth reading only if the application has begun on it before.
fn refuse_disabled(
    resolved: &[(ResolvedStream, Subscription)],
    begun: &Begun,
    named: &BTreeSet<StreamArn>,
) -> Result<(), ResolveError> {
    let of_tables = begun.clone().without(named);
    for (stream, subscription) in resolved {
        let over = matches!(stream.status, StreamStatus::Disabled | StreamStatus::Disabling);
        // Of a table, an older stream may be what is left to drain.
        let first = if subscription.follows() { of_tables.first_to_read(&stream.arn) } else { stream.arn.clone() };
        if over && !begun.contains(&first) {
            stream.clone().require_enabled()?;
        }
    }
    Ok(())
}

/// Streams that were named by their ARNs.
fn named_by_arn(resolved: &[(ResolvedStream, Subscription)]) -> BTreeSet<StreamArn> {
    let by_arn = resolved.iter().filter(|(_, subscription)| !subscription.follows());
    by_arn.map(|(stream, _)| stream.arn.clone()).collect()
}

/// The stream to begin with for each that was named: of a table, an older one where that is not finished.
fn first_streams(
    resolved: Vec<(ResolvedStream, Subscription)>,
    begun: &Begun,
    named: &BTreeSet<StreamArn>,
) -> Vec<(StreamArn, Arc<Subscription>)> {
    let first = |(stream, subscription): (ResolvedStream, Subscription)| {
        if !subscription.follows() {
            return (stream.arn, Arc::new(subscription));
        }
        let first = begun.first_to_read(&stream.arn);
        for older in stream.older.iter().filter(|older| **older < first && !named.contains(older)) {
            tracing::warn!(stream = %older, "the table had an older stream, on which this application never began: it is not read");
        }
        (first, Arc::new(subscription))
    };
    resolved.into_iter().map(first).collect()
}

impl From<NotAdmitted> for BuildError {
    fn from(refused: NotAdmitted) -> Self {
        match refused {
            NotAdmitted::Limit(limit) => Self::ReaderLimit(limit),
            NotAdmitted::Registry(error) => Self::Registry(error),
        }
    }
}

#[cfg(feature = "tokio-rt")]
fn default_rt() -> io::Result<Rt> {
    Rt::tokio()
}

#[cfg(not(feature = "tokio-rt"))]
fn default_rt() -> io::Result<Rt> {
    Err(io::Error::other("no runtime was given"))
}
