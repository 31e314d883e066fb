//! Consume DynamoDB Streams on AWS at fleet scale.
//!
//! This crate implements the contracts of [`kcl_core`] on the AWS SDK and re-exports all of it, so a program depends on
//! this crate alone. What it promises, and to whom, is written where the contracts are: [`StreamSource`] here, for
//! instance, is implemented by [`DynamoStreamSource`].
//!
//! The library owns its AWS clients. They are made from the program's `SdkConfig` (region, credentials, endpoint,
//! HTTP client), with the SDK's own retries switched off: the engine retries, because only it knows what may be asked
//! again and how often.

mod lease;
mod readers;
mod stream;
#[cfg(feature = "wire")]
pub mod wire;
mod worker;

pub use kcl_core;
pub use kcl_core::*;

pub use lease::{Billing, Create, DynamoLeaseTable, LeaseTableOptions, OpenError};
pub use readers::{DynamoReaderRegistry, READER_REGISTRY, ReaderRegistryOptions};
pub use stream::{ClientConfigError, DynamoStreamSource, ServiceFault, StreamOptions};
pub use worker::{BuildError, Worker, WorkerBuilder};
