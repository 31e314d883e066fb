//! The lease table in DynamoDB, in the Java library's schema.

mod convert;
mod create;
mod error;
mod schema;
mod table;
mod update;

pub(crate) use create::{Layout, once, open_table};
pub(crate) use error::{Call, Place, is_denied};

pub use create::{Billing, Create, LeaseTableOptions, OpenError};
pub use table::DynamoLeaseTable;

#[cfg(test)]
mod denied;
