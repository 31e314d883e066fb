//! The reader registry in DynamoDB: one item for each stream, with all of its slots.

mod convert;
mod table;

use std::time::Duration;

use kcl_core::TableName;

use crate::lease::{Billing, Create, LeaseTableOptions};

pub(crate) use convert::STREAM_ARN;
pub use table::DynamoReaderRegistry;

/// The name of the registry's table, unless something else is said. All applications of an account and region must use the same.
pub const READER_REGISTRY: &str = "kcl-stream-readers";

/// What the reader registry's table is called and how it is made. Only `name` matters when it exists.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReaderRegistryOptions {
    /// The table.
    pub name: TableName,
    /// What to do when there is none.
    pub create: Create,
    /// How a new table is paid for.
    pub billing: Billing,
    /// Tags of a new table.
    pub tags: Vec<(String, String)>,
    /// After this a call counts as lost; 3 s by default.
    pub operation_timeout: Duration,
}

impl ReaderRegistryOptions {
    /// The table `name`, created if it is missing, with the defaults.
    #[must_use]
    pub fn new(name: TableName) -> Self {
        let operation_timeout = Duration::from_secs(3);
        Self { name, create: Create::default(), billing: Billing::default(), tags: Vec::new(), operation_timeout }
    }

    /// What opening the table has to know.
    fn of_table(&self) -> LeaseTableOptions {
        let mut options = LeaseTableOptions::new(self.name.clone());
        options.create = self.create;
        options.billing = self.billing;
        options.tags.clone_from(&self.tags);
        options.operation_timeout = self.operation_timeout;
        options
    }
}
