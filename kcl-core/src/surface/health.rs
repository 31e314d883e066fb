//! Whether a worker is well, derived from its status.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::status::{Phase, WorkerStatus};

/// So many lease durations without a sign are too many: the engine's loop turns, and looks at the table, several times in one.
const PATIENCE: u32 = 3;

/// Whether a worker is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether the process does its work. If not, nothing but a new process helps.
    pub live: bool,
    /// Whether it takes part in its fleet. If not, it may yet, or again, by itself: a restart does not help.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<HealthReason>,
}

/// Why a worker is not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealthReason {
    /// `run` was not called yet.
    NotStarted,
    /// It is not a member of its fleet yet, or not again.
    NotJoined,
    /// It gives its shards away.
    Stopping,
    /// `run` has returned, or was dropped.
    Ended,
    /// The engine's loop does not turn: the process is starved, or there is a fault in this library.
    Stalled {
        /// For how long.
        turned_ago: Duration,
    },
    /// The lease table was not read yet.
    TableNotSeen,
    /// The lease table could not be read for long.
    TableOutOfSight {
        /// For how long.
        seen_ago: Duration,
    },
}

impl HealthReason {
    /// Whether only a new process helps.
    fn is_fatal(self) -> bool {
        match self {
            Self::Ended | Self::Stalled { .. } => true,
            Self::NotStarted | Self::NotJoined | Self::Stopping | Self::TableNotSeen | Self::TableOutOfSight { .. } => {
                false
            }
        }
    }
}

impl fmt::Display for HealthReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("run was not called yet"),
            Self::NotJoined => f.write_str("not a member of the fleet yet"),
            Self::Stopping => f.write_str("stopping"),
            Self::Ended => f.write_str("ended"),
            Self::Stalled { turned_ago } => write!(f, "the engine has stood still for {} s", turned_ago.as_secs()),
            Self::TableNotSeen => f.write_str("the lease table was not read yet"),
            Self::TableOutOfSight { seen_ago } => {
                write!(f, "the lease table could not be read for {} s", seen_ago.as_secs())
            }
        }
    }
}

impl Serialize for HealthReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl WorkerStatus {
    /// Whether the worker is well, as far as this snapshot shows. Stopped shards, lag and errors of processors are no part of it: they
    /// are for alarms, since no restart mends them.
    #[must_use]
    pub fn health(&self) -> Health {
        let limit = self.lease_duration * PATIENCE;
        let mut reasons = Vec::new();
        match self.phase {
            Phase::Built => reasons.push(HealthReason::NotStarted),
            Phase::Joining => reasons.push(HealthReason::NotJoined),
            Phase::Running => {}
            Phase::Stopping => reasons.push(HealthReason::Stopping),
            Phase::Ended => reasons.push(HealthReason::Ended),
        }
        let turns = matches!(self.phase, Phase::Joining | Phase::Running);
        if turns && self.turned_ago >= limit {
            reasons.push(HealthReason::Stalled { turned_ago: self.turned_ago });
        }
        if self.phase == Phase::Running {
            match self.table_seen_ago {
                None => reasons.push(HealthReason::TableNotSeen),
                Some(seen_ago) if seen_ago >= limit => reasons.push(HealthReason::TableOutOfSight { seen_ago }),
                Some(_) => {}
            }
        }
        let live = !reasons.iter().any(|reason| reason.is_fatal());
        Health { live, ready: reasons.is_empty(), reasons }
    }
}
