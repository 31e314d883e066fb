//! Describing a worker, and finding out early what cannot work.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::for_each::ForEach;
use super::handle::WorkerHandle;
use super::run::{Parts, Worker};
use crate::contract::{
    LeaseError, LeaseTable, ProcessError, RecordProcessorFactory, Rt, ShardInfo, StreamSource, TaskClass,
};
use crate::model::{ArnError, StartPosition, StreamArn, StreamStatus};
use crate::policy::tenure::LeaseTiming;
use crate::record::Record;
use crate::runner::{Configured, Factory, ResolveError, ResolvedStream, StreamSpec, TableAccess, fix, resolve, survey};
use crate::surface::config::{ConfigError, WorkerConfig};
use crate::surface::event::Events;
use crate::surface::status::Board;

/// Describes a worker. Made by [`Worker::builder`].
#[must_use]
pub struct WorkerBuilder {
    application: String,
    source: Arc<dyn StreamSource>,
    leases: Arc<dyn LeaseTable>,
    streams: Vec<String>,
    region: Option<String>,
    start: StartPosition,
    factory: Option<Factory>,
    config: WorkerConfig,
    rt: Option<Rt>,
}

/// A worker whose settings can work and whose streams exist. Made by [`WorkerBuilder::check`].
#[must_use]
#[derive(Debug)]
pub struct CheckedWorker {
    builder: WorkerBuilder,
    factory: Factory,
    resolved: Vec<ResolvedStream>,
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
    /// The runtime could not be started: `build` must be called inside a tokio runtime.
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
            config: WorkerConfig::default(),
            rt: None,
        }
    }

    /// Reads the newest stream of this table, given by name or ARN. May be called several times.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.streams.push(name.into());
        self
    }

    /// Reads this stream. May be called several times.
    pub fn stream(mut self, arn: impl Into<String>) -> Self {
        self.streams.push(arn.into());
        self
    }

    /// The region of the client behind the source: ARNs of another one are refused.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Where the application begins on a stream that it has never read. Default: TRIM_HORIZON.
    pub fn start(mut self, start: StartPosition) -> Self {
        self.start = start;
        self
    }

    /// Makes the processors: a factory, or a closure from [`ShardInfo`] to a processor.
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
    /// may be one that is created only then: a mistake in a name leaves nothing behind.
    ///
    /// # Errors
    /// See [`BuildError`].
    ///
    /// # Cancel safety
    /// It reads only.
    pub async fn check(mut self) -> Result<CheckedWorker, BuildError> {
        let factory = self.check_settings()?;
        let rt = match self.rt.take() {
            Some(rt) => rt,
            None => default_rt()?,
        };
        self.rt = Some(rt.clone());
        let specs = self.streams.iter().map(|text| text.parse()).collect::<Result<Vec<StreamSpec>, _>>()?;
        let mut resolved = Vec::new();
        for spec in &specs {
            // An answer that never comes must not leave a program that neither starts nor fails.
            let asked = resolve(self.source.as_ref(), spec, self.region.as_deref());
            let answered = rt.timeout(self.config.source_timeout, asked).await;
            resolved.push(answered.unwrap_or_else(|| Err(ResolveError::unanswered(spec)))?);
        }
        Ok(CheckedWorker { builder: self, factory, resolved })
    }

    fn check_settings(&self) -> Result<Factory, ConfigError> {
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
        match &self.factory {
            Some(factory) if wrong.is_empty() => return Ok(factory.clone()),
            Some(_) => {}
            None => wrong.push("say how records are processed with .processor(…) or .for_each(…)".to_owned()),
        }
        Err(ConfigError::new(wrong))
    }
}

impl CheckedWorker {
    /// Refuses streams that are switched off. For an application whose lease table does not exist: it has nothing to drain.
    ///
    /// # Errors
    /// [`ResolveError::Disabled`].
    pub fn require_enabled(&self) -> Result<(), BuildError> {
        refuse_disabled(&self.resolved, &BTreeSet::new())?;
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
        let Self { builder, factory, resolved } = self;
        let rt = match builder.rt {
            Some(rt) => rt,
            None => default_rt()?,
        };
        let timing = LeaseTiming::new(builder.config.lease_duration);
        let access = TableAccess { table: builder.leases.clone(), rt: rt.clone(), timing };
        let arns: Vec<StreamArn> = resolved.iter().map(|stream| stream.arn.clone()).collect();
        let configured = Configured { key_form: builder.config.key_form, liveness: builder.config.liveness };
        let (looking, looked_for) = (access.clone(), arns.clone());
        // Where leases are kept: connections that are made there are driven there, whatever user code does to its own threads.
        let survey = async move { survey(&looking, &looked_for, configured).await };
        let surveyed =
            rt.spawn("reading the lease table", TaskClass::Lease, survey).await.map_err(io::Error::other)??;
        refuse_disabled(&resolved, &surveyed.begun)?;
        let fixed_for = arns.clone();
        let fix = async move { fix(&access, &fixed_for, &surveyed).await };
        let meta = rt.spawn("opening the lease table", TaskClass::Lease, fix).await.map_err(io::Error::other)??;
        for older in resolved.iter().flat_map(|stream| &stream.older) {
            tracing::warn!(stream = %older, "the table had an older stream, which is not read: name it with .stream(…) beside the table to drain it");
        }
        tracing::info!(application = builder.application, streams = ?arns, "the worker is ready to run");
        let (board, shutdown, events) = (Board::default(), CancellationToken::new(), Events::new(rt.clone()));
        let handle = WorkerHandle::new(board.clone(), events.source(), shutdown.clone());
        let parts = Parts {
            rt,
            table: builder.leases,
            source: builder.source,
            streams: arns,
            start: builder.start,
            factory,
            config: Arc::new(builder.config),
            meta,
            events,
            board,
        };
        Ok(Worker { parts, handle, shutdown })
    }
}

/// A stream that is switched off is worth reading only if the application has begun on it before.
fn refuse_disabled(resolved: &[ResolvedStream], begun: &BTreeSet<StreamArn>) -> Result<(), ResolveError> {
    for stream in resolved {
        let over = matches!(stream.status, StreamStatus::Disabled | StreamStatus::Disabling);
        if over && !begun.contains(&stream.arn) {
            stream.clone().require_enabled()?;
        }
    }
    Ok(())
}

#[cfg(feature = "tokio-rt")]
fn default_rt() -> io::Result<Rt> {
    Rt::tokio()
}

#[cfg(not(feature = "tokio-rt"))]
fn default_rt() -> io::Result<Rt> {
    Err(io::Error::other("no runtime was given"))
}
