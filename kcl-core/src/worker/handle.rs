//! A handle on a running worker.

use tokio_util::sync::CancellationToken;

use crate::surface::event::{EventSource, EventStream};
use crate::surface::status::{Board, WorkerStatus};

/// Watches and stops a worker. Cheap to clone, usable from any task.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    board: Board,
    events: EventSource,
    stop: Stop,
}

/// Both ways of asking a worker to stop.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    /// Gracefully.
    pub(super) gracefully: CancellationToken,
    /// Running calls are not waited for.
    pub(super) now: CancellationToken,
}

impl WorkerHandle {
    pub(super) fn new(board: Board, events: EventSource, stop: Stop) -> Self {
        Self { board, events, stop }
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

    /// Begins a graceful stop: the fleet is told, running calls end, what is acknowledged is recorded, and every lease is handed to the
    /// worker that is to have it. `run` returns when that is done, or `shutdown_timeout` has passed.
    pub fn shutdown(&self) {
        self.stop.gracefully.cancel();
    }

    /// Stops without waiting for running calls: they are dropped, what is acknowledged is recorded, and the leases are given away. What the
    /// calls were given is delivered again, by a successor; nothing is lost. For a second signal.
    pub fn shutdown_now(&self) {
        self.stop.gracefully.cancel();
        self.stop.now.cancel();
    }
}
