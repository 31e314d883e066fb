//! The worker: what a user builds and runs.

mod builder;
mod for_each;
mod handle;
mod run;
mod sink;
mod stream;

pub use builder::{BuildError, CheckedWorker, WorkerBuilder};
pub use for_each::ForEach;
pub use handle::WorkerHandle;
pub use run::{Report, RunError, Worker};
pub use sink::JsonLinesSink;
pub use stream::Stream;
