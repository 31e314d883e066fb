//! Why an operator's call was not carried out, and what to change.

use crate::contract::LeaseError;
use crate::model::{Checkpoint, LeaseKey, StopReason, StreamArn, WorkerId};

/// Why a call was not carried out. Unless it says otherwise, nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// No such lease.
    #[error("there is no lease {key}: list the leases, and name one of those")]
    NoLease {
        /// The key.
        key: LeaseKey,
    },
    /// No lease of such a stream.
    #[error("no lease is of the stream {stream}: list the leases, and name the ARN that they are of")]
    NoStream {
        /// The stream.
        stream: StreamArn,
    },
    /// The table is of a later version of this library.
    #[error(
        "the lease table has schema {schema}, and this version knows up to {known}: use the version that the fleet runs"
    )]
    TooNew {
        /// That of the table.
        schema: u32,
        /// The latest that is known here.
        known: u32,
    },
    /// No such worker.
    #[error("there is no worker {worker}: list the workers, and name one of those with its number")]
    NoWorker {
        /// The worker.
        worker: WorkerId,
    },
    /// A rewind that would go forward, and skip what lies between.
    #[error("the lease {key} is at {at}, and {to} is not before that: name an earlier record")]
    NotBack {
        /// The lease.
        key: LeaseKey,
        /// Its checkpoint.
        at: Checkpoint,
        /// The one that was asked for.
        to: Checkpoint,
    },
    /// More leases than one step can hold.
    #[error(
        "{count} leases continue {key}, and one step writes {limit} at most: rewind a younger shard, or stop the fleet and begin with \
         a new lease table"
    )]
    TooManyDescendants {
        /// The lease.
        key: LeaseKey,
        /// How many leases would be written.
        count: usize,
        /// How many can.
        limit: usize,
    },
    /// Nobody owns the lease.
    #[error("nobody owns the lease {key}, so there is nobody to let go of it")]
    NotOwned {
        /// The lease.
        key: LeaseKey,
    },
    /// The lease is not stopped.
    #[error("the lease {key} is not stopped")]
    NotStopped {
        /// The lease.
        key: LeaseKey,
    },
    /// Records can only be skipped that are gone.
    #[error(
        "the lease {key} was not stopped by a loss ({reason}), so there is nothing to skip: mend the cause, and retry"
    )]
    NotALoss {
        /// The lease.
        key: LeaseKey,
        /// Why it was stopped.
        reason: StopReason,
    },
    /// Workers or owners live that must not.
    #[error("the fleet is not stopped ({}): stop every worker, and call again", .signs.join(", "))]
    FleetLives {
        /// What was seen to move, as text.
        signs: Vec<String>,
    },
    /// Stopped shards, which another library would read on.
    #[error("{} stopped, which nobody else would know: clear the stops first", list(.keys))]
    Stopped {
        /// Their leases.
        keys: Vec<LeaseKey>,
    },
    /// The lease was written by others again and again.
    #[error("the lease {key} moved each time it was written: try again")]
    Contended {
        /// The lease.
        key: LeaseKey,
    },
    /// A write whose answer was lost, and which cannot be told from what came after it.
    #[error("the lease {key} may or may not have been written, or may be yet: list it, and call again if it was not")]
    Unknown {
        /// The lease.
        key: LeaseKey,
    },
    /// The lease table.
    #[error(transparent)]
    Table(#[from] LeaseError),
}

fn list(keys: &[LeaseKey]) -> String {
    let names: Vec<&str> = keys.iter().map(LeaseKey::as_str).collect();
    format!("{} {}", names.join(", "), if keys.len() == 1 { "is" } else { "are" })
}
