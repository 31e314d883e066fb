//! Everything the service knows, behind one lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_dynamo::Item;

use super::error::{ServiceError, ServiceErrorCode, TableError};
use super::inspect::CallCounts;
use super::item::Key;
use super::limits::Rate;
use super::lineage::Stream;
use super::options::StreamOptions;
use super::sequence::Random;
use crate::contract::{Mono, SourceOp};
use crate::model::{StreamArn, StreamViewType, TableName};

/// Both clocks, read together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Mono,
    pub(super) wall: SystemTime,
}

impl Moment {
    /// The moment `now` of the past.
    pub(super) fn at(self, now: Mono) -> Self {
        let wall = self.wall.checked_sub(self.now.since(now)).unwrap_or(UNIX_EPOCH);
        Self { now, wall }
    }
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) key_names: Arc<[String]>,
    pub(super) created_at: SystemTime,
    pub(super) items: BTreeMap<Key, Item>,
    /// The stream that is enabled.
    pub(super) stream: Option<StreamArn>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) options: StreamOptions,
    pub(super) random: Random,
    pub(super) tables: BTreeMap<TableName, Table>,
    pub(super) streams: BTreeMap<StreamArn, Stream>,
    pub(super) counts: CallCounts,
    pub(super) describes: Rate,
    pub(super) lists: Rate,
    /// Operations that are throttled on command, and until when.
    pub(super) throttled: BTreeMap<SourceOp, Mono>,
    /// How often all iterators were expired on command.
    pub(super) generation: u64,
    /// How many chains of iterators were begun.
    pub(super) readers: u64,
    /// The label of each table's newest stream, in milliseconds.
    labels: BTreeMap<TableName, u64>,
}

/// A stream, the options and the source of its numbers.
pub(super) type Found<'a> = (&'a mut Stream, &'a StreamOptions, &'a mut Random);

impl State {
    pub(super) fn new(options: StreamOptions, seed: u64) -> Self {
        Self {
            options,
            random: Random::new(seed),
            tables: BTreeMap::new(),
            streams: BTreeMap::new(),
            counts: CallCounts::default(),
            describes: Rate::default(),
            lists: Rate::default(),
            throttled: BTreeMap::new(),
            generation: 0,
            readers: 0,
            labels: BTreeMap::new(),
        }
    }

    /// Counts a call, and refuses it where a command or a limit says so.
    pub(super) fn admit(&mut self, op: SourceOp, now: Mono) -> Result<(), ServiceError> {
        self.counts.add(op);
        if self.throttled.get(&op).is_some_and(|until| now < *until) {
            return Err(ServiceError::new(ServiceErrorCode::Throttling, "Rate exceeded"));
        }
        match op {
            SourceOp::ListStreams => self.lists.admit(now, self.options.lists_per_second),
            SourceOp::DescribeStream => self.describes.admit(now, self.options.describes_per_second),
            // Counted by shard, once the shard is known.
            SourceOp::GetRecords | SourceOp::GetShardIterator => Ok(()),
        }
    }

    /// The stream `arn` as of now, and what working on it takes.
    pub(super) fn stream(&mut self, arn: &StreamArn, moment: Moment) -> Result<Found<'_>, TableError> {
        let Self { streams, options, random, .. } = self;
        let missing = || TableError::NoStream(arn.clone());
        let stream = streams.get_mut(arn).ok_or_else(missing)?;
        stream.catch_up(moment, options, random);
        if stream.exists(moment.now, options.retention) { Ok((stream, options, random)) } else { Err(missing()) }
    }

    /// Enables a stream of `table`, which has none.
    pub(super) fn enable(
        &mut self,
        table: &TableName,
        key_names: Arc<[String]>,
        view: StreamViewType,
        shards: usize,
        moment: Moment,
    ) -> Result<StreamArn, TableError> {
        // Labels rise even if the clock is set back, because they tell a table's streams in order.
        let after_last = self.labels.get(table).map_or(0, |last| last + 1);
        let millis = epoch_millis(moment.wall).max(after_last);
        let StreamOptions { region, account, .. } = &self.options;
        let arn: StreamArn =
            format!("arn:aws:dynamodb:{region}:{account}:table/{table}/stream/{}", label(millis)).parse()?;
        self.labels.insert(table.clone(), millis);
        let StreamOptions { keep_history, retention, .. } = self.options;
        self.streams.retain(|_, stream| keep_history || stream.exists(moment.now, retention));
        let stream = Stream::new(arn.clone(), view, key_names, shards, &self.options, moment, &mut self.random);
        self.streams.insert(arn.clone(), stream);
        Ok(arn)
    }
}

pub(super) fn epoch_millis(wall: SystemTime) -> u64 {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An instant as stream labels spell it: `2015-05-11T21:21:33.291`.
fn label(epoch_millis: u64) -> String {
    let (days, in_day) = (epoch_millis / 86_400_000, epoch_millis % 86_400_000);
    let (year, month, day) = date_of(days);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, millis) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}")
}

/// Year, month and day of the Gregorian calendar, from the days since 1970-01-01.
fn date_of(days: u64) -> (u64, u64, u64) {
    // Counted in years that begin in March, so that a leap day is the last day of its year, and in eras of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn labels_are_instants() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000"),
            (951_782_400_000, "2000-02-29T00:00:00.000"),
            (1_431_379_293_291, "2015-05-11T21:21:33.291"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999"),
        ] {
            assert_eq!(label(millis), text);
        }
    }
}
