//! What is in a lease table, for people and their tools. The names of the fields are stable.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::access::Table;
use super::plan;
use crate::contract::{BootstrapMarker, Liveness, TableMeta, WorkerItem, WorkerState};
use crate::model::{
    Checkpoint, KeyForm, Lease, LeaseKey, Owner, ShardId, StartPosition, StopReason, StreamArn, WorkerId,
};

/// Everything that is in a lease table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TableView {
    /// The leases, in the order of their keys.
    pub leases: Vec<LeaseEntry>,
    /// The workers, also those that are gone and not yet removed.
    pub workers: Vec<WorkerEntry>,
    /// Where the application began, by stream.
    pub markers: Vec<MarkerEntry>,
    /// What the table is; absent in one that only the Java library has used.
    pub meta: Option<MetaEntry>,
    /// Items that are not this library's, or are damaged.
    pub foreign: Vec<ForeignEntry>,
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeaseEntry {
    /// Its key.
    pub key: LeaseKey,
    /// The stream, where the item says it.
    pub stream: Option<StreamArn>,
    /// The shard.
    pub shard: ShardId,
    /// What it waits for, if for anything.
    pub state: LeaseState,
    /// Who owns it, dead or alive.
    pub owner: Option<Owner>,
    /// Who it is put aside for.
    pub intended_for: Option<Owner>,
    /// How far the shard is done.
    pub checkpoint: Checkpoint,
    /// The part of a two-phase checkpoint that was prepared and not yet made.
    pub prepared: Option<Checkpoint>,
    /// Why nobody may read it.
    pub stop: Option<StopReason>,
    /// Whether an operator has accepted what is lost at its checkpoint.
    pub loss_accepted: bool,
    /// The shards that it continues.
    pub parents: BTreeSet<ShardId>,
    /// The shards that continue it, as far as leases tell.
    pub children: BTreeSet<ShardId>,
    /// Its version.
    pub counter: i64,
    /// Records stamped before are not wanted, in milliseconds since the epoch.
    pub start_at_ms: Option<u64>,
}

/// What a lease waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeaseState {
    /// For nothing: the shard is done.
    Finished,
    /// For an operator.
    Stopped,
    /// For its parent to be finished.
    WaitingForParent,
    /// For its owner to let go.
    Evicted,
    /// For nothing: it has an owner, dead or alive.
    Owned,
    /// For an owner.
    Free,
}

/// One run of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkerEntry {
    /// Its id.
    pub id: WorkerId,
    /// `live`, `evicted` or `fenced`.
    pub state: &'static str,
    /// Its version: it stands still when the worker is dead.
    pub counter: i64,
    /// Its share, relative to the others' weights.
    pub weight: u32,
    /// The leases that name it as their owner.
    pub leases: usize,
}

/// Where an application began on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MarkerEntry {
    /// The stream.
    pub stream: StreamArn,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// `TRIM_HORIZON`, `LATEST` or `AT_TIMESTAMP`.
    pub start: &'static str,
    /// Whether all leases of the beginning exist.
    pub complete: bool,
}

/// What a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MetaEntry {
    /// The version of this library's items and attributes.
    pub schema: u32,
    /// `per_lease` or `per_worker`.
    pub liveness: &'static str,
    /// `qualified` or `bare`.
    pub key_form: &'static str,
}

/// An item that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ForeignEntry {
    /// Its key.
    pub key: String,
    /// What is wrong with it, as far as leases are concerned.
    pub why: String,
}

impl TableView {
    pub(super) fn of(table: &Table) -> Self {
        Self {
            leases: table.leases.values().map(|lease| lease_entry(table, lease)).collect(),
            workers: table.workers.iter().map(|worker| worker_entry(table, worker)).collect(),
            markers: table.markers.iter().map(marker_entry).collect(),
            meta: table.meta.map(meta_entry),
            foreign: table
                .foreign
                .iter()
                .map(|(key, why)| ForeignEntry { key: key.clone(), why: why.clone() })
                .collect(),
        }
    }

    /// The leases that a text means: the one with this key, or those of this shard.
    #[must_use]
    pub fn find(&self, text: &str) -> Vec<&LeaseEntry> {
        self.leases.iter().filter(|lease| lease.key.as_str() == text || lease.shard.as_str() == text).collect()
    }
}

fn lease_entry(table: &Table, lease: &Lease) -> LeaseEntry {
    let is_child = |other: &&Lease| plan::continues(other, lease);
    let named = table.leases.values().filter(is_child).map(|child| child.shard.clone());
    LeaseEntry {
        key: lease.key.clone(),
        stream: lease.stream.clone(),
        shard: lease.shard.clone(),
        state: state(table, lease),
        owner: lease.owner.clone(),
        intended_for: lease.intended_for.clone(),
        checkpoint: lease.checkpoint,
        prepared: lease.pending.as_ref().map(|pending| pending.at),
        stop: lease.stop.clone(),
        loss_accepted: lease.loss_accepted,
        parents: lease.parents.clone(),
        children: lease.children.iter().cloned().chain(named).collect(),
        counter: lease.counter.0,
        start_at_ms: lease.start_at.map(millis),
    }
}

fn state(table: &Table, lease: &Lease) -> LeaseState {
    let waits = || table.leases.values().any(|other| plan::continues(lease, other) && !other.is_finished());
    match lease {
        lease if lease.is_finished() => LeaseState::Finished,
        lease if lease.stop.is_some() => LeaseState::Stopped,
        _ if waits() => LeaseState::WaitingForParent,
        lease if lease.evicted => LeaseState::Evicted,
        lease if lease.owner.is_some() => LeaseState::Owned,
        _ => LeaseState::Free,
    }
}

fn worker_entry(table: &Table, worker: &WorkerItem) -> WorkerEntry {
    let owner = worker.id.owner();
    WorkerEntry {
        id: worker.id.clone(),
        state: match worker.state {
            WorkerState::Live => "live",
            WorkerState::Leaving => "leaving",
            WorkerState::Evicted => "evicted",
            WorkerState::Fenced => "fenced",
        },
        counter: worker.counter.0,
        weight: worker.weight,
        leases: table.leases.values().filter(|lease| lease.owner.as_ref() == Some(&owner)).count(),
    }
}

fn marker_entry(marker: &BootstrapMarker) -> MarkerEntry {
    MarkerEntry {
        stream: marker.stream.clone(),
        at_ms: millis(marker.at),
        start: match marker.start {
            StartPosition::TrimHorizon => "TRIM_HORIZON",
            StartPosition::Latest => "LATEST",
            StartPosition::AtTimestamp(_) => "AT_TIMESTAMP",
        },
        complete: marker.complete,
    }
}

fn meta_entry(meta: TableMeta) -> MetaEntry {
    MetaEntry {
        schema: meta.schema,
        liveness: match meta.liveness {
            Liveness::PerLease => "per_lease",
            Liveness::PerWorker => "per_worker",
        },
        key_form: match meta.key_form {
            KeyForm::Qualified => "qualified",
            KeyForm::Bare => "bare",
        },
    }
}

fn millis(at: SystemTime) -> u64 {
    let since: Duration = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
