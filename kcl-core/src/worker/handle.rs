//! A handle on a running worker.

use tokio_util::sync::CancellationToken;

use crate::surface::event::{EventSource, EventStream};
use crate::surface::status::{Board, WorkerStatus};

/// Watches and stops a worker. Cheap to clone, usable from any task.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    board: Board,
    events: EventSource,
    shutdown: CancellationToken,
}

impl WorkerHandle {
    pub(crate) fn new(board: Board, events: EventSource, shutdown: CancellationToken) -> Self {
        Self { board, events, shutdown }
    }

    /// What the worker is doing now.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        self.board.snapshot()
    }

    /// The worker's events from now on.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.events.listen()
    }

    /// Begins a graceful stop: running calls end, what is acknowledged is recorded, every lease is given away. `run` returns when
    /// that is done.
    pub fn shutdown(&self) {
        self.shutdown.cancel();
    }
}
