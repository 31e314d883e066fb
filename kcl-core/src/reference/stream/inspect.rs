//! What a test asks afterwards: what was written, how the shards follow each other, how often the service was called.

use std::time::SystemTime;

use super::ReferenceStream;
use super::error::TableError;
use super::lineage::Stream;
use crate::contract::{Mono, SourceOp};
use crate::model::{SequenceNumber, Shard, ShardId, StreamArn, StreamStatus, StreamViewType, TableName};
use crate::record::Record;

/// How often each operation was called, throttled and failed calls with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallCounts {
    counts: [u64; SourceOp::ALL.len()],
}

impl CallCounts {
    /// How often `op` was called.
    #[must_use]
    pub fn of(&self, op: SourceOp) -> u64 {
        self.counts[op as usize]
    }

    /// How often any was called.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn add(&mut self, op: SourceOp) {
        self.counts[op as usize] += 1;
    }
}

/// A shard as it is, whatever listings tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardView {
    /// Name, parent and range.
    pub shard: Shard,
    /// The shards that continue it.
    pub children: Vec<ShardId>,
    /// When it was made.
    pub opened: Mono,
    /// When it was closed.
    pub closed: Option<Mono>,
    /// The oldest record that is not trimmed.
    pub oldest: Option<SequenceNumber>,
    /// How many records were ever written to it.
    pub written: u64,
    /// Whether it has left the stream, with all its records.
    pub vanished: bool,
}

/// What the service tells of a table with a stream, beside the shards.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableDescription {
    /// The table.
    pub table: TableName,
    /// The names of the partition key and, where there is one, the sort key.
    pub keys: Vec<String>,
    /// When the stream was enabled.
    pub created_at: SystemTime,
    /// What its records carry.
    pub view_type: StreamViewType,
    /// Whether it takes changes.
    pub status: StreamStatus,
}

/// What the service tells of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableView {
    /// The names of the partition key and, where there is one, the sort key.
    pub keys: Vec<String>,
    /// When it was made.
    pub created_at: SystemTime,
    /// How many items it has.
    pub items: usize,
    /// The stream that takes its changes.
    pub stream: Option<StreamArn>,
    /// The newest stream there is, enabled or not.
    pub latest_stream: Option<StreamArn>,
}

impl ReferenceStream {
    /// Every record written to `stream`, by shard and in order: what a consumer must have been given. Trimmed ones
    /// are in it as long as [`keep_history`](super::StreamOptions::keep_history) is on. Empty for an unknown stream.
    #[must_use]
    pub fn written(&self, stream: &StreamArn) -> Vec<(ShardId, Vec<Record>)> {
        self.with(|state, _| {
            let shards = state.streams.get(stream).into_iter().flat_map(|stream| &stream.shards);
            shards.map(|(id, shard)| (id.clone(), shard.written())).collect()
        })
    }

    /// All shards of `stream`, in the order of their names, those that vanished too while
    /// [`keep_history`](super::StreamOptions::keep_history) is on. Empty for an unknown stream.
    #[must_use]
    pub fn shards(&self, stream: &StreamArn) -> Vec<ShardView> {
        self.with(|state, moment| {
            // A stream that is gone still has its history.
            let _gone = state.stream(stream, moment).is_err();
            let shards = state.streams.get(stream).into_iter().flat_map(|stream| &stream.shards);
            shards.map(|(id, shard)| view(id, shard)).collect()
        })
    }

    /// One shard of `stream`, as [`ReferenceStream::shards`] shows it.
    #[must_use]
    pub fn shard(&self, stream: &StreamArn, shard: &ShardId) -> Option<ShardView> {
        self.with(|state, moment| {
            // A stream that is gone still has its history.
            let _gone = state.stream(stream, moment).is_err();
            state.streams.get(stream)?.shards.get(shard).map(|found| view(shard, found))
        })
    }

    /// The shards of `stream` that take writes, in the order of the keys that they take.
    #[must_use]
    pub fn open_shards(&self, stream: &StreamArn) -> Vec<ShardId> {
        self.with(|state, moment| {
            state.stream(stream, moment).map(|found| found.0.open_shards().cloned().collect()).unwrap_or_default()
        })
    }

    /// How often the service was called.
    #[must_use]
    pub fn calls(&self) -> CallCounts {
        self.with(|state, _| state.counts)
    }

    /// The table and the state of `stream`.
    ///
    /// # Errors
    /// There is no such stream.
    pub fn table_of(&self, stream: &StreamArn) -> Result<TableDescription, TableError> {
        self.with(|state, moment| {
            let (found, options, _) = state.stream(stream, moment)?;
            Ok(TableDescription {
                table: found.arn.table_name().parse()?,
                keys: found.key_names.to_vec(),
                created_at: found.created_at,
                view_type: found.view.clone(),
                status: found.status(moment.now, options),
            })
        })
    }

    /// What there is to tell of `table`.
    ///
    /// # Errors
    /// There is no such table.
    pub fn table(&self, table: &TableName) -> Result<TableView, TableError> {
        self.with(|state, moment| {
            let found = state.tables.get(table).ok_or_else(|| TableError::NoTable(table.clone()))?;
            let retention = state.options.retention;
            // The ARNs of one table differ in their labels alone, which sort by age.
            let of_table =
                |stream: &&Stream| stream.arn.table_name() == table.as_str() && stream.exists(moment.now, retention);
            Ok(TableView {
                keys: found.key_names.to_vec(),
                created_at: found.created_at,
                items: found.items.len(),
                stream: found.stream.clone(),
                latest_stream: state.streams.values().rev().find(of_table).map(|stream| stream.arn.clone()),
            })
        })
    }

    /// All tables, in the order of their names.
    #[must_use]
    pub fn tables(&self) -> Vec<TableName> {
        self.with(|state, _| state.tables.keys().cloned().collect())
    }

    /// All streams that there are, of all tables, oldest of each table first.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamArn> {
        self.with(|state, moment| {
            let retention = state.options.retention;
            let there = state.streams.values().filter(|stream| stream.exists(moment.now, retention));
            there.map(|stream| stream.arn.clone()).collect()
        })
    }
}

fn view(id: &ShardId, shard: &super::shard::Shard) -> ShardView {
    ShardView {
        shard: Shard {
            id: id.clone(),
            parent: shard.parent.clone(),
            starting: Some(shard.starting),
            ending: shard.closed.map(|closed| closed.ending),
        },
        children: shard.children.clone(),
        opened: shard.opened,
        closed: shard.closed.map(|closed| closed.at),
        oldest: shard.oldest(),
        written: shard.total(),
        vanished: shard.vanished,
    }
}
