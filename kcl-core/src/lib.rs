//! The engine of a DynamoDB Streams consumer.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod reference;
#[cfg(test)]
mod testing;
pub mod wrap;

mod contract;
mod model;
mod policy;
mod record;
mod surface;

pub use contract::*;
pub use model::*;
pub use record::*;
pub use surface::config::{Checkpoints, ConfigError, WorkerConfig};
pub use surface::event::{Event, EventKind, EventStream};
pub use surface::metrics;
pub use surface::status::{ShardState, ShardStatus, WorkerStatus};
