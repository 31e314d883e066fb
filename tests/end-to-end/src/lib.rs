//! Whole fleets: consumers and writers in processes of their own, against real servers.

pub mod calls;
pub mod changes;
pub mod delivery;
pub mod fleet;
pub mod job;
pub mod rolling;
pub mod tables;
