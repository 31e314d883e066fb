//! The engine of a DynamoDB Streams consumer.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod reference;
#[cfg(test)]
mod testing;
pub mod wrap;

mod admin;
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

pub use admin::{
    Admin, AdminError, ForeignEntry, LeaseEntry, LeaseState, MarkerEntry, MetaEntry, Removed, Resume, RewindTo,
    Rewound, TableView, WorkerEntry,
};
pub use contract::*;
pub use model::*;
pub use record::*;
pub use runner::{ResolveError, ResolvedStream, StreamSpec, resolve};
pub use surface::config::{Checkpoints, ConfigError, ReaderPolicy, WorkerConfig};
pub use surface::event::{Event, EventKind, EventStream, Resource};
pub use surface::health::{Health, HealthReason};
pub use surface::metrics;
pub use surface::status::{
    BlockedShard, LastError, Phase, ReaderSlotStatus, ShardState, ShardStatus, StoppedShard, WorkerStatus,
};
pub use worker::{
    BuildError, CheckedWorker, ForEach, JsonLinesSink, Report, RunError, Stream, Worker, WorkerBuilder, WorkerHandle,
};
