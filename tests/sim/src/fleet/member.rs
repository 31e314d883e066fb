//! A worker of a fleet, where it runs, and what it told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kcl_core::{EventKind, LeaseTable, ReaderRegistry, Report, RunError, ShardId, StreamSource, WorkerHandle};

use super::Network;
use crate::invariant::{Seen, Watch};
use crate::{Main, Node};

/// What a worker told, with the true time.
#[derive(Debug, Clone)]
pub struct Events {
    told: Arc<Mutex<Vec<(Duration, EventKind)>>>,
    watch: Watch,
}

impl Events {
    pub(super) fn of(watch: &Watch) -> Self {
        Self { told: Arc::default(), watch: watch.clone() }
    }

    pub(super) fn push(&self, at: Duration, kind: EventKind) {
        self.watch.see(&Seen::Told(&kind));
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push((at, kind));
    }

    /// All so far.
    #[must_use]
    pub fn all(&self) -> Vec<(Duration, EventKind)> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many of those so far are such.
    #[must_use]
    pub fn count(&self, such: impl Fn(&EventKind) -> bool) -> usize {
        self.all().iter().filter(|(_, kind)| such(kind)).count()
    }
}

/// Where a worker runs, and what it reaches from there.
#[derive(Debug)]
pub struct Place<'a> {
    /// The machine.
    pub node: Node,
    /// The worker's name; machines of one worker's former and present life may differ.
    pub name: &'a str,
    /// The lease table.
    pub table: Arc<dyn LeaseTable>,
    /// The stream.
    pub source: Arc<dyn StreamSource>,
    /// The reader registry, where applications share streams.
    pub registry: Option<Arc<dyn ReaderRegistry>>,
}

/// A worker that runs on a node.
#[derive(Debug)]
pub struct Member {
    /// The machine.
    pub node: Node,
    /// Its way to the lease table.
    pub network: Network,
    /// What it told.
    pub events: Events,
    pub(super) handle: Arc<Mutex<Option<WorkerHandle>>>,
    /// Its end.
    pub main: Main<Result<Report, RunError>>,
}

impl Member {
    /// Watches and stops the worker; absent while it is being built.
    #[must_use]
    pub fn handle(&self) -> Option<WorkerHandle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The shards it owns.
    #[must_use]
    pub fn owned(&self) -> Vec<ShardId> {
        let status = self.handle().map(|handle| handle.status());
        status.into_iter().flat_map(|status| status.shards).map(|shard| shard.shard).collect()
    }

    /// Stops the worker gracefully and waits for its end.
    ///
    /// # Panics
    /// It was not built yet, is dead, or ends with an error.
    pub async fn stop(self) -> Report {
        self.handle().expect("built").shutdown();
        self.main.await.expect("alive").expect("a report")
    }

    /// Ends the machine without a word.
    pub fn crash(self) {
        self.node.kill();
    }
}
