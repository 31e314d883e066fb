//! Which of a table's streams is read: one that was disabled first, to its end, then the one that was enabled after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lineage;
use super::listing::Listing;
use crate::model::{Lease, ShardId, StreamArn, StreamStatus};

/// The streams that an application has begun on, and those of them that it has not finished.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Begun {
    begun: BTreeSet<StreamArn>,
    unfinished: BTreeSet<StreamArn>,
}

impl Begun {
    /// What the leases and markers of a lease table show. Leases that are not known to be of any stream are left out.
    pub(crate) fn of<'a>(
        leases: impl Iterator<Item = (&'a StreamArn, &'a Lease)>,
        markers: impl Iterator<Item = &'a StreamArn>,
    ) -> Self {
        let mut this = Self { begun: markers.cloned().collect(), unfinished: BTreeSet::new() };
        for (stream, lease) in leases {
            this.begun.insert(stream.clone());
            if !lease.is_finished() {
                this.unfinished.insert(stream.clone());
            }
        }
        this
    }

    /// Whether the application has begun on the stream.
    pub(crate) fn contains(&self, stream: &StreamArn) -> bool {
        self.begun.contains(stream)
    }

    /// The same without streams that are read for their own sake: their table is not to begin with them.
    pub(crate) fn without(mut self, named: &BTreeSet<StreamArn>) -> Self {
        self.begun.retain(|stream| !named.contains(stream));
        self.unfinished.retain(|stream| !named.contains(stream));
        self
    }

    /// The stream to begin with, of the table whose newest is `newest`: the oldest that is not finished; else the last that was begun,
    /// whose successor is found once it is seen to be finished; else the newest.
    pub(crate) fn first_to_read(&self, newest: &StreamArn) -> StreamArn {
        let of_table = |streams: &'_ BTreeSet<StreamArn>| {
            // The streams of a table sort by age.
            streams.iter().filter(|stream| stream.is_of_same_table(newest)).cloned().collect::<Vec<_>>()
        };
        let oldest_unfinished = of_table(&self.unfinished).into_iter().next();
        oldest_unfinished.or_else(|| of_table(&self.begun).pop()).unwrap_or_else(|| newest.clone())
    }
}

/// The stream that follows `old`, of those that its table is said to have.
pub(crate) fn successor<'a>(old: &StreamArn, streams: impl Iterator<Item = &'a StreamArn>) -> Option<&'a StreamArn> {
    streams.filter(|stream| stream.is_of_same_table(old) && *stream > old).min()
}

/// The streams of the same table that come before `current` and have leases to be read: a stream is left once all of its leases are
/// finished, so an operator has rewound them since. Those that are stopped wait for the operator.
pub(crate) fn taken_back(current: &StreamArn, leases: &[Arc<Lease>]) -> BTreeSet<StreamArn> {
    let streams = leases.iter().filter(|lease| is_unread(lease)).filter_map(|lease| lease.stream.as_ref());
    streams.filter(|stream| stream.is_of_same_table(current) && *stream < current).cloned().collect()
}

/// Whether a stream, though another was begun with that follows it, has leases to be read.
pub(crate) fn is_to_read<'a>(stream: &StreamArn, mut leases: impl Iterator<Item = &'a Lease>) -> bool {
    leases.any(|lease| lease.stream.as_ref() == Some(stream) && is_unread(lease))
}

fn is_unread(lease: &Lease) -> bool {
    !lease.is_finished() && lease.stop.is_none()
}

/// Whether nothing of a stream is left to read: it is switched off, and every shard is finished. `leases` are all leases of the
/// stream. One that is stopped holds up what follows.
pub(crate) fn is_drained(listing: &Listing, leases: &BTreeMap<ShardId, Lease>) -> bool {
    listing.status() == StreamStatus::Disabled
        && leases.values().all(Lease::is_finished)
        && lineage::all_covered(listing, leases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyForm, LeaseCounter, LeaseKey, LeaseWrite, NewLease, Shard, StopReason};

    fn arn(table: &str, day: u8) -> StreamArn {
        format!("arn:aws:dynamodb:r:123456789012:table/{table}/stream/2026-01-{day:02}").parse().expect("legal")
    }

    fn shard(name: &str, parent: Option<&str>) -> Shard {
        let id = |name: &str| name.parse().expect("legal");
        Shard { id: id(name), parent: parent.map(id), starting: None, ending: None }
    }

    fn lease(stream: &StreamArn, name: &str, finished: bool) -> Lease {
        let shard: ShardId = name.parse().expect("legal");
        let key = LeaseKey::of(KeyForm::Qualified, stream, &shard);
        let stream = stream.clone();
        let new = NewLease {
            counter: LeaseCounter(0),
            key,
            stream,
            shard,
            owner: None,
            parent: None,
            starting_sequence: None,
            start_at: None,
            root: true,
        };
        if finished { new.created().after(&LeaseWrite::finish(BTreeSet::new())) } else { new.created() }
    }

    fn begun(leases: &[(u8, bool)], markers: &[u8]) -> Begun {
        let leases: Vec<_> =
            leases.iter().map(|(day, done)| (arn("t", *day), lease(&arn("t", *day), "s", *done))).collect();
        let markers: Vec<_> = markers.iter().map(|day| arn("t", *day)).collect();
        Begun::of(leases.iter().map(|(arn, lease)| (arn, lease)), markers.iter())
    }

    #[test]
    fn the_oldest_unfinished_stream_comes_first() {
        for (leases, markers, first) in [
            (&[][..], &[][..], 9),
            (&[(3, false)], &[3], 3),
            (&[(3, true), (5, false)], &[3, 5], 5),
            (&[(3, false), (5, false)], &[3, 5], 3),
            (&[(3, true)], &[3], 3),
            (&[(3, true), (5, true)], &[3, 5], 5),
            (&[], &[4], 4),
        ] {
            assert_eq!(begun(leases, markers).first_to_read(&arn("t", 9)), arn("t", first), "{leases:?} {markers:?}");
        }
        assert_eq!(begun(&[(3, false)], &[3]).first_to_read(&arn("other", 9)), arn("other", 9));
    }

    #[test]
    fn the_next_newer_stream_of_the_same_table_follows() {
        let listed = [arn("t", 1), arn("t", 7), arn("t", 5), arn("u", 4)];
        assert_eq!(successor(&arn("t", 3), listed.iter()), Some(&arn("t", 5)));
        assert_eq!(successor(&arn("t", 7), listed.iter()), None);
    }

    #[test]
    fn a_stream_that_was_left_is_taken_back_by_leases_that_are_to_be_read_again() {
        let mut stopped = lease(&arn("t", 2), "s", false);
        stopped.stop = Some(StopReason::Other { text: "why".to_owned() });
        let leases = [
            lease(&arn("t", 1), "s", false),
            lease(&arn("t", 2), "r", true),
            stopped,
            lease(&arn("t", 5), "s", false),
            lease(&arn("t", 7), "s", false),
            lease(&arn("u", 1), "s", false),
        ]
        .map(Arc::new);
        assert_eq!(taken_back(&arn("t", 5), &leases), BTreeSet::from([arn("t", 1)]));
    }

    #[test]
    fn a_stream_is_drained_when_it_is_off_and_every_shard_is_finished() {
        let stream = arn("t", 1);
        let leases = |all: &[(&str, bool)]| -> BTreeMap<ShardId, Lease> {
            let leases = all.iter().map(|(name, finished)| lease(&stream, name, *finished));
            leases.map(|lease| (lease.shard.clone(), lease)).collect()
        };
        let off = Listing::of(StreamStatus::Disabled, [shard("a", None), shard("b", Some("a"))]);
        let on = Listing::of(StreamStatus::Enabled, [shard("a", None), shard("b", Some("a"))]);
        let done = leases(&[("a", true), ("b", true)]);
        assert!(is_drained(&off, &done) && !is_drained(&on, &done));
        assert!(!is_drained(&off, &leases(&[("a", true)])), "the child has no lease yet");
        assert!(!is_drained(&off, &leases(&[("a", true), ("b", false)])));
        let mut stopped = leases(&[("a", true), ("b", false)]);
        for lease in stopped.values_mut().filter(|lease| !lease.is_finished()) {
            lease.stop = Some(StopReason::ProcessorFailed { error: "it".to_owned() });
        }
        assert!(!is_drained(&off, &stopped), "it waits for an operator");
        assert!(is_drained(&off, &leases(&[("b", true)])), "the lease of the parent was deleted");
        assert!(is_drained(&Listing::of(StreamStatus::Disabled, []), &leases(&[])));
    }
}
