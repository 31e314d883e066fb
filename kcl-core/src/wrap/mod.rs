//! Wrappers around the contracts that count, delay and fail, so that tests and the simulator can.

// Around the lease table.
mod lease_call;
mod lease_counting;
mod lease_faulty;
mod lease_latency;
mod lease_observed;
// Around the stream.
#[macro_use]
mod source_call;
mod source_counting;
mod source_faulty;
mod source_latency;
mod source_throttled;

pub use lease_call::{LeaseCall, LeaseOperation, LeasePurpose};
pub use lease_counting::{CountingLeaseTable, LeaseCounts};
pub use lease_faulty::{FaultyLeaseTable, LeaseFault};
pub use lease_latency::LatencyLeaseTable;
pub use lease_observed::ObservedLeaseTable;
pub use source_counting::CountingSource;
pub use source_faulty::{FaultySource, SourceFault};
pub use source_latency::LatencySource;
pub use source_throttled::ThrottledSource;

#[cfg(test)]
mod source_tests;
