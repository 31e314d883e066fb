//! The engine of a DynamoDB Streams consumer.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod reference;
#[cfg(test)]
mod testing;
pub mod wrap;

mod contract;
mod model;
mod record;

pub use contract::*;
pub use model::*;
pub use record::*;
