//! What the virtual-time executor promises, and what the worker does on it.

mod admin;
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
mod readers;
mod replaced;
mod rolls;
mod starts;
mod stream_faults;
mod streams;
mod worker;
mod world;
