//! What the virtual-time executor promises, and what the worker does on it.

mod adoption;
mod day;
mod determinism;
mod executor;
mod failures;
mod faults;
mod memory;
mod nodes;
mod ownership;
mod processors;
mod scenarios;
mod starts;
mod stream_faults;
mod worker;
mod world;
