//! A stream's shards: which take writes, how they follow each other, when they vanish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::error::{ServiceError, ServiceErrorCode};
use super::options::StreamOptions;
use super::sequence::{Number, Random};
use super::shard::Shard;
use super::state::{Moment, epoch_millis};
use crate::contract::Mono;
use crate::model::{ShardId, StreamArn, StreamStatus, StreamViewType};

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) arn: StreamArn,
    pub(super) view: StreamViewType,
    pub(super) key_names: Arc<[String]>,
    pub(super) created_at: SystemTime,
    pub(super) shards: BTreeMap<ShardId, Shard>,
    enabled_from: Mono,
    pub(super) disabled: Option<Mono>,
    /// The open shards by the first hash that they take.
    open: BTreeMap<u64, ShardId>,
    /// The open shards by age.
    opened: BTreeSet<(Mono, ShardId)>,
    /// The closed shards by the time since.
    closed: BTreeSet<(Mono, ShardId)>,
}

impl Stream {
    /// A stream with `shards` shards (at least one) that share all keys.
    pub(super) fn new(
        arn: StreamArn,
        view: StreamViewType,
        key_names: Arc<[String]>,
        shards: usize,
        options: &StreamOptions,
        moment: Moment,
        random: &mut Random,
    ) -> Self {
        let enabled_from = moment.now + options.enabling_for;
        let mut stream = Self {
            arn,
            view,
            key_names,
            created_at: moment.wall,
            shards: BTreeMap::new(),
            enabled_from,
            disabled: None,
            open: BTreeMap::new(),
            opened: BTreeSet::new(),
            closed: BTreeSet::new(),
        };
        let count = shards.max(1) as u64;
        let width = u64::MAX / count;
        for n in 0..count {
            let last = if n + 1 == count { u64::MAX } else { (n + 1) * width - 1 };
            let start = Number::first(stream.shards.len(), random);
            stream.add(Shard::new(None, (n * width, last), start, enabled_from), moment, random);
        }
        stream
    }

    pub(super) fn status(&self, now: Mono, options: &StreamOptions) -> StreamStatus {
        match self.disabled {
            Some(since) if now < since + options.disabling_for => StreamStatus::Disabling,
            Some(_) => StreamStatus::Disabled,
            None if now < self.enabled_from => StreamStatus::Enabling,
            None => StreamStatus::Enabled,
        }
    }

    /// Whether changes are captured.
    pub(super) fn captures(&self, now: Mono) -> bool {
        self.disabled.is_none() && self.enabled_from <= now
    }

    /// Whether it is still there: a stream that was switched off leaves when its last record does.
    pub(super) fn exists(&self, now: Mono, retention: Duration) -> bool {
        self.disabled.is_none_or(|since| now < since + retention)
    }

    pub(super) fn shard_mut(&mut self, id: &ShardId) -> Result<&mut Shard, ServiceError> {
        self.shards.get_mut(id).ok_or_else(no_shard)
    }

    /// The open shard that takes keys with this hash. Absent only once the stream is switched off.
    pub(super) fn route(&self, hash: u64) -> Option<&ShardId> {
        self.open.range(..=hash).next_back().map(|(_, id)| id)
    }

    /// The open shards, in the order of the keys that they take.
    pub(super) fn open_shards(&self) -> impl Iterator<Item = &ShardId> {
        self.open.values()
    }

    /// Does what has become due since the last look: shards roll, and closed ones vanish.
    pub(super) fn catch_up(&mut self, moment: Moment, options: &StreamOptions, random: &mut Random) {
        if let Some(every) = options.roll_every.filter(|every| !every.is_zero()) {
            while let Some((opened, id)) = self.opened.first().cloned().filter(|(at, _)| *at + every <= moment.now) {
                // Not before its newest record, also where rolling was switched on later.
                let newest = self.shards.get(&id).and_then(Shard::last_write).unwrap_or_default();
                self.replace(&id, 1, moment.at(newest.max(opened + every)), random);
            }
        }
        while let Some((at, id)) = self.closed.first().cloned().filter(|(at, _)| *at + options.retention <= moment.now)
        {
            self.closed.remove(&(at, id.clone()));
            self.vanish(&id, options.keep_history);
        }
    }

    /// Closes the open shard `id` and puts `children` (1 or 2) in its place. A shard of one single hash cannot be
    /// split, and rolls.
    pub(super) fn replace(&mut self, id: &ShardId, children: u8, moment: Moment, random: &mut Random) -> Vec<ShardId> {
        let Some((last, (from, to))) = self.close(id, moment.now, random) else { return Vec::new() };
        let middle = from + (to - from) / 2;
        let ranges = match children {
            2.. if from < to => vec![(from, middle), (middle + 1, to)],
            _ => vec![(from, to)],
        };
        let mut made: Vec<ShardId> = ranges
            .into_iter()
            .map(|keys| {
                let start = last.child(random);
                self.add(Shard::new(Some(id.clone()), keys, start, moment.now), moment, random)
            })
            .collect();
        made.sort_unstable();
        if let Some(parent) = self.shards.get_mut(id) {
            parent.children.clone_from(&made);
        }
        made
    }

    /// Closes all shards for good.
    pub(super) fn disable(&mut self, moment: Moment, random: &mut Random) {
        for id in self.open.values().cloned().collect::<Vec<_>>() {
            self.close(&id, moment.now, random);
        }
        self.disabled = Some(moment.now);
    }

    /// Takes the shard out of every listing, with all its records. It must be closed.
    pub(super) fn vanish(&mut self, id: &ShardId, keep: bool) {
        let Some(shard) = self.shards.get_mut(id) else { return };
        shard.trim(None, keep);
        shard.vanished = true;
        if let Some(closed) = shard.closed {
            self.closed.remove(&(closed.at, id.clone()));
        }
        if !keep {
            self.shards.remove(id);
        }
    }

    fn close(&mut self, id: &ShardId, at: Mono, random: &mut Random) -> Option<(Number, (u64, u64))> {
        let shard = self.shards.get_mut(id).filter(|shard| shard.closed.is_none())?;
        let last = shard.close(at, random);
        self.open.remove(&shard.keys.0);
        self.opened.remove(&(shard.opened, id.clone()));
        self.closed.insert((at, id.clone()));
        Some((last, shard.keys))
    }

    fn add(&mut self, shard: Shard, moment: Moment, random: &mut Random) -> ShardId {
        let id = self.new_id(moment, random);
        self.open.insert(shard.keys.0, id.clone());
        self.opened.insert((shard.opened, id.clone()));
        self.shards.insert(id.clone(), shard);
        id
    }

    /// A name of the service's shape: the time of day in milliseconds and eight hexadecimal digits.
    fn new_id(&self, moment: Moment, random: &mut Random) -> ShardId {
        let millis = epoch_millis(moment.wall);
        loop {
            let text = format!("shardId-{millis:020}-{:08x}", random.next() >> 32);
            if let Ok(id) = text.parse::<ShardId>()
                && !self.shards.contains_key(&id)
            {
                return id;
            }
        }
    }
}

pub(super) fn no_shard() -> ServiceError {
    ServiceError::new(ServiceErrorCode::ResourceNotFound, "Requested resource not found: Shard does not exist")
}
