//! What an implementation gives to be run through the cases.

use std::sync::Arc;

use async_trait::async_trait;

use crate::contract::LeaseTable;

/// What a bed can be told to do, and what its table does beyond the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaseTableCapabilities {
    /// The bed adds and reads attributes that the library does not know.
    pub unknown_attributes: bool,
    /// The bed puts items that the library does not know.
    pub foreign_items: bool,
    /// A scan shows every write that was acknowledged before it began.
    pub fresh_scans: bool,
}

/// Makes beds.
#[async_trait]
pub trait LeaseTableBeds: Send + Sync {
    /// What every bed of these can do.
    fn capabilities(&self) -> LeaseTableCapabilities;

    /// A bed with an empty table of its own.
    async fn bed(&self) -> Box<dyn LeaseTableBed>;
}

/// One table under test. The methods with a default are called only where the capabilities say so.
#[async_trait]
pub trait LeaseTableBed: Send + Sync {
    /// The table.
    fn table(&self) -> Arc<dyn LeaseTable>;

    /// Adds a text attribute to an item.
    async fn put_attribute(&self, _key: &str, _name: &str, _value: &str) {}

    /// A text attribute of an item.
    async fn attribute(&self, _key: &str, _name: &str) -> Option<String> {
        None
    }

    /// Puts an item that is neither a lease nor one of the library's own.
    async fn put_foreign(&self, _key: &str) {}
}
