//! The engine of a DynamoDB Streams consumer.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod reference;
#[cfg(test)]
mod testing;
pub mod wrap;

mod contract;
mod model;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
mod policy;
mod record;
mod runner;
mod surface;
mod worker;

pub use contract::*;
pub use model::*;
pub use record::*;
pub use runner::{ResolveError, ResolvedStream, StreamSpec, resolve};
pub use surface::config::{Checkpoints, ConfigError, WorkerConfig};
pub use surface::event::{Event, EventKind, EventStream};
pub use surface::metrics;
pub use surface::status::{ShardState, ShardStatus, WorkerStatus};
pub use worker::{
    BuildError, CheckedWorker, ForEach, JsonLinesSink, Report, RunError, Worker, WorkerBuilder, WorkerHandle,
};
