//! In-process implementations of the contracts: complete, without a network, in the time that [`Rt`](crate::Rt) tells.
//!
//! They are the embedded default, the demonstration and the test double: what a processor is tested against before it
//! meets the service.

mod clock;
mod lease_table;
mod reader_registry;
mod stream;

pub use clock::MovableClock;
pub use lease_table::MemoryLeaseTable;
pub use reader_registry::MemoryReaderRegistry;
pub use stream::{
    CallCounts, LastPage, ReferenceStream, ServiceError, ServiceErrorCode, ShardView, StreamList, StreamOptions,
    TableDescription, TableError, TableView, Visibility, Written, item_size,
};
