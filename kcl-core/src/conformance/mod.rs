//! One test suite per contract, for implementations of the contracts.

pub mod lease_table;
pub mod reader_registry;
pub mod source;

/// What became of a suite's cases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SuiteReport {
    /// Those that hold.
    pub passed: Vec<&'static str>,
    /// Those that need what the beds cannot do.
    pub skipped: Vec<&'static str>,
}
