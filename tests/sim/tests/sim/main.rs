//! What the virtual-time executor promises, and what the worker does on it.

mod admin;
mod adoption;
mod cost;
mod day;
mod deploy;
mod determinism;
mod executor;
mod failover;
mod failures;
mod faults;
mod figures;
mod handover;
mod memory;
mod nodes;
mod ownership;
mod perworker;
mod processors;
mod starts;
mod stream_faults;
mod worker;
mod world;
