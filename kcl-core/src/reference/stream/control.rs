//! Commands: what a test says to make the service do, now, what it would do some day.

use std::time::Duration;

use super::ReferenceStream;
use super::error::TableError;
use super::lineage::Stream;
use super::options::{StreamOptions, Visibility};
use super::state::Moment;
use crate::contract::SourceOp;
use crate::model::{SequenceNumber, ShardId, StreamArn};

impl ReferenceStream {
    /// Closes an open shard and opens one child, which takes the same keys. The child is returned.
    ///
    /// # Errors
    /// There is no such stream or shard, or the shard is closed.
    pub fn roll(&self, stream: &StreamArn, shard: &ShardId) -> Result<ShardId, TableError> {
        let mut children = self.replace(stream, shard, 1)?;
        children.pop().ok_or_else(|| TableError::Closed(shard.clone()))
    }

    /// Closes an open shard and opens two children, which share its keys. The children are returned.
    ///
    /// # Errors
    /// There is no such stream or shard, or the shard is closed.
    pub fn split(&self, stream: &StreamArn, shard: &ShardId) -> Result<Vec<ShardId>, TableError> {
        self.replace(stream, shard, 2)
    }

    /// Rolls every open shard, as the service does every few hours. The children are returned.
    ///
    /// # Errors
    /// There is no such stream.
    pub fn roll_all(&self, stream: &StreamArn) -> Result<Vec<ShardId>, TableError> {
        self.with(|state, moment| {
            let (found, _, random) = state.stream(stream, moment)?;
            let open: Vec<ShardId> = found.open_shards().cloned().collect();
            Ok(open.iter().flat_map(|shard| found.replace(shard, 1, moment, random)).collect())
        })
    }

    /// Trims the records of `shard` up to and with `through`. The service trims nothing younger than a day, so an application that has
    /// noted on a lease within the day that the shard was read to its tip reports no loss.
    ///
    /// # Errors
    /// There is no such stream or shard.
    pub fn trim(&self, stream: &StreamArn, shard: &ShardId, through: SequenceNumber) -> Result<(), TableError> {
        self.change_shard(stream, shard, |stream, shard, options, _| {
            if let Some(shard) = stream.shards.get_mut(shard) {
                shard.trim(Some(through), options.keep_history);
            }
            Ok(())
        })
    }

    /// Trims all records of `shard`. The shard itself stays.
    ///
    /// # Errors
    /// There is no such stream or shard.
    pub fn trim_all(&self, stream: &StreamArn, shard: &ShardId) -> Result<(), TableError> {
        self.change_shard(stream, shard, |stream, shard, options, _| {
            if let Some(shard) = stream.shards.get_mut(shard) {
                shard.trim(None, options.keep_history);
            }
            Ok(())
        })
    }

    /// Takes a closed shard out of the stream, with whatever records it has left.
    ///
    /// # Errors
    /// There is no such stream or shard, or the shard is open.
    pub fn remove_shard(&self, stream: &StreamArn, shard: &ShardId) -> Result<(), TableError> {
        self.change_shard(stream, shard, |stream, shard, options, _| {
            if stream.shards.get(shard).is_some_and(|shard| shard.closed.is_none()) {
                return Err(TableError::Open(shard.clone()));
            }
            stream.vanish(shard, options.keep_history);
            Ok(())
        })
    }

    /// Lets `shard`, which is still listed, answer `NotFound` for `time`, as a replica does that lags behind.
    ///
    /// # Errors
    /// There is no such stream or shard.
    pub fn make_unknown(&self, stream: &StreamArn, shard: &ShardId, time: Duration) -> Result<(), TableError> {
        self.change_shard(stream, shard, |stream, shard, _, moment| {
            if let Some(shard) = stream.shards.get_mut(shard) {
                shard.unknown_until = Some(moment.now + time);
            }
            Ok(())
        })
    }

    /// Throttles every call of `op` for `time`.
    pub fn throttle(&self, op: SourceOp, time: Duration) {
        self.with(|state, moment| {
            state.throttled.insert(op, moment.now + time);
        });
    }

    /// Lets every iterator that was given so far be expired.
    pub fn expire_iterators(&self) {
        self.with(|state, _| state.generation += 1);
    }

    /// Sets how late listings tell of shards, of those made already too.
    pub fn delay_visibility(&self, visibility: Visibility) {
        self.with(|state, _| state.options.visibility = visibility);
    }

    /// The options as they are now.
    #[must_use]
    pub fn options(&self) -> StreamOptions {
        self.with(|state, _| state.options.clone())
    }

    /// Changes the options from now on.
    pub fn reconfigure(&self, change: impl FnOnce(&mut StreamOptions)) {
        self.with(|state, _| change(&mut state.options));
    }

    fn replace(&self, stream: &StreamArn, shard: &ShardId, children: u8) -> Result<Vec<ShardId>, TableError> {
        self.with(|state, moment| {
            let (found, _, random) = state.stream(stream, moment)?;
            let existing = found.shards.get(shard).filter(|shard| !shard.vanished);
            if existing.ok_or_else(|| TableError::NoShard(shard.clone()))?.closed.is_some() {
                return Err(TableError::Closed(shard.clone()));
            }
            Ok(found.replace(shard, children, moment, random))
        })
    }

    fn change_shard(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        change: impl FnOnce(&mut Stream, &ShardId, &StreamOptions, Moment) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        self.with(|state, moment| {
            let (found, options, _) = state.stream(stream, moment)?;
            if found.shards.get(shard).is_none_or(|shard| shard.vanished) {
                return Err(TableError::NoShard(shard.clone()));
            }
            change(found, shard, options, moment)
        })
    }
}
