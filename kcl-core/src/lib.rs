//! The engine of a DynamoDB Streams consumer.


mod contract;
mod model;
mod record;

pub use contract::*;
pub use model::*;
pub use record::*;
