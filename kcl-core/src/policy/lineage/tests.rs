use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::model::{Checkpoint, SequenceNumber, StreamStatus};

mod exhaustive;

fn id(name: &str) -> ShardId {
    name.parse().expect(name)
}

fn stream() -> StreamArn {
    "arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/2024-02-12T18:57:26.492".parse().expect("legal")
}

fn marker(start: StartPosition, complete: bool) -> BootstrapMarker {
    BootstrapMarker { stream: stream(), at: UNIX_EPOCH + Duration::from_secs(1000), start, complete }
}

/// `"a b<a c<a"`: the shards a, and b and c, which continue a. The order is that of the starting sequence numbers.
fn listing(text: &str) -> Listing {
    let shards = text.split_whitespace().enumerate().map(|(n, shard)| {
        let (name, parent) = shard.split_once('<').map_or((shard, None), |(name, parent)| (name, Some(id(parent))));
        Shard { id: id(name), parent, starting: Some(SequenceNumber::from_u128(n as u128)), ending: None }
    });
    Listing::of(StreamStatus::Enabled, shards)
}

/// `"a! b<a"`: the lease of a is finished, that of b is not.
fn leases(text: &str) -> BTreeMap<ShardId, Lease> {
    let leases = text.split_whitespace().map(|lease| {
        let (name, finished) = lease.strip_suffix('!').map_or((lease, false), |name| (name, true));
        let (name, parent) = name.split_once('<').map_or((name, None), |(name, parent)| (name, Some(id(parent))));
        let shard = Shard { id: id(name), parent, starting: None, ending: None };
        let mut lease = new_lease(&shard, LeaseCounter(0), &stream(), KeyForm::Bare, None, false).created();
        if finished {
            lease.checkpoint = Checkpoint::ShardEnd;
        }
        (shard.id, lease)
    });
    leases.collect()
}

/// A listing begun at this second, and received a second later.
fn made(second: u64) -> Range<Mono> {
    let at = |second| Mono::new(Duration::from_secs(second));
    at(second)..at(second + 1)
}

fn absences(listing: &Listing, leases: &BTreeMap<ShardId, Lease>, times: usize) -> Absences {
    let mut absences = Absences::default();
    (0..times).for_each(|n| absences.observe(listing, leases, &made(n as u64 * 10)));
    absences
}

fn names<'a>(leases: impl IntoIterator<Item = &'a NewLease>) -> String {
    leases.into_iter().map(|lease| lease.shard.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_frontier_is_the_oldest_shards_of_the_listing() {
    let check = |shards, start, closed: &str, expected| {
        let closed = closed.split_whitespace().map(id).collect();
        let leases = frontier(&listing(shards), KeyForm::Bare, &marker(start, false), &closed);
        assert_eq!(names(&leases), expected, "{shards} {start:?} {closed:?}");
    };
    check("", StartPosition::TrimHorizon, "", "");
    check("b<a c<b d", StartPosition::TrimHorizon, "b", "b d");
    check("b<a c<b d", StartPosition::Latest, "", "b d");
    check("b<a c<b d", StartPosition::Latest, "b", "c d");
    check("b<a c<b d<b e<c f<d", StartPosition::Latest, "b c", "d e");
    // A closed shard whose children are not visible yet is held, so that they are found.
    check("a", StartPosition::Latest, "a", "a");
    check("b<a c<b", StartPosition::AtTimestamp(UNIX_EPOCH), "b", "b");
}

#[test]
fn a_bootstrap_lease_says_where_wanted_records_begin_and_that_it_is_a_root() {
    let check = |start, start_at| {
        let leases = frontier(&listing("b<a c<b"), KeyForm::Qualified, &marker(start, false), &[id("b")].into());
        for lease in leases {
            assert_eq!(lease.start_at, start_at);
            assert_eq!(lease.root, lease.shard == id("b"), "only b has no parent left");
            assert!(lease.owner.is_none() && lease.starting_sequence.is_some() && lease.key.is_qualified());
        }
    };
    check(StartPosition::TrimHorizon, None);
    check(StartPosition::Latest, Some(UNIX_EPOCH + Duration::from_secs(1000)));
    check(StartPosition::AtTimestamp(UNIX_EPOCH), Some(UNIX_EPOCH));
}

#[test]
fn a_shard_gets_a_lease_when_its_parent_is_done_and_not_before() {
    let check = |shards, held, complete, expected: &str| {
        let (listing, leases) = (listing(shards), leases(held));
        let seen = |times| {
            let absences = absences(&listing, &leases, times);
            missing(
                &listing,
                &leases,
                &absences,
                KeyForm::Bare,
                &marker(StartPosition::TrimHorizon, complete),
                LeaseCounter(0),
            )
        };
        let text = |missing: Vec<MissingLease>| {
            let text = |missing: MissingLease| match missing.lost_parent {
                Some(lost) => format!("{}(lost {lost})", missing.lease.shard),
                None => missing.lease.shard.to_string(),
            };
            missing.into_iter().map(text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text(seen(2)), expected, "{shards} with {held}");
        if expected.contains("lost") {
            assert_eq!(text(seen(1)), "", "one listing does not prove that a parent is gone");
        }
    };
    check("a b<a", "a", true, "");
    check("a b<a", "a!", true, "b");
    check("a b<a c<a", "a! b<a", true, "c");
    check("b<a c<a", "a! b<a", true, "c");
    // The tombstone is gone too: the sibling shows that the parent was done.
    check("b<a c<a", "b<a", true, "c");
    // What was skipped or cleaned up is not read again.
    check("a b<a c<b", "c<b", true, "");
    check("a b<a c<b", "c<b!", true, "");
    check("a b<a c<a d<b", "d<b", true, "c");
    // A shard waits for a parent that gets its lease first.
    check("a b<a c<b", "", true, "a");
    check("b<a c<b", "", true, "b(lost a)");
    check("b<a c<b", "", false, "b");
    check("c<b", "a", true, "c(lost b)");
    check("c<b d<b", "a", true, "c(lost b) d(lost b)");
}

#[test]
fn a_shard_whose_parent_vanished_after_the_bootstrap_is_no_root() {
    let (listing, none) = (listing("b<a"), BTreeMap::new());
    for complete in [false, true] {
        let marker = marker(StartPosition::TrimHorizon, complete);
        let missing = missing(&listing, &none, &absences(&listing, &none, 2), KeyForm::Bare, &marker, LeaseCounter(0));
        assert_eq!(missing.iter().map(|m| m.lease.root).collect::<Vec<_>>(), [!complete]);
    }
}

#[test]
fn children_go_on_filtering_only_where_their_parent_still_does() {
    let listing = listing("a b<a c<b");
    let latest = marker(StartPosition::Latest, true);
    for start_at in [None, Some(UNIX_EPOCH)] {
        let mut held = leases("a!");
        held.values_mut().for_each(|lease| lease.start_at = start_at);
        let missing = missing(&listing, &held, &Absences::default(), KeyForm::Bare, &latest, LeaseCounter(0));
        assert_eq!(missing.iter().map(|m| m.lease.start_at).collect::<Vec<_>>(), [start_at]);
        let owner: Owner = "w".parse().expect("legal");
        let parent = &held[&id("a")];
        let children =
            finish_children(listing.shards().values(), parent, &stream(), Some(&owner), KeyForm::Bare, LeaseCounter(0));
        assert_eq!(names(&children), "b", "only by the parent field");
        assert_eq!((children[0].start_at, children[0].owner.as_ref()), (start_at, Some(&owner)));
    }
}

#[test]
fn a_tombstone_stays_until_nothing_needs_it() {
    let check = |shards, held, times, expected: &str| {
        let (listing, leases) = (listing(shards), leases(held));
        let tombstones = absences(&listing, &leases, times).tombstones(&listing, &leases);
        let keys: Vec<_> = tombstones.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys.join(" "), expected, "{shards} with {held}, seen {times} times");
    };
    check("b<a", "a! b<a", 2, "a");
    check("b<a", "a! b<a", 1, "");
    check("a b<a", "a! b<a", 2, "");
    check("b<a", "a!", 2, "");
    check("b<a c<a", "a! b<a", 2, "");
    check("c<b", "a b<a! c<b", 2, "");
    check("c<b", "a! b<a! c<b", 2, "a");
    check("a c<b", "b<a! c<b", 2, "");
    check("c<b", "b<a! c<b", 2, "b");
    check("", "a!", 2, "a");
}

#[test]
fn a_shard_that_shows_up_again_was_not_gone() {
    let (with, without, held) = (listing("a"), listing(""), leases("a"));
    let mut absences = Absences::default();
    for (listing, second) in [(&without, 0), (&with, 10), (&without, 20)] {
        absences.observe(listing, &held, &made(second));
        assert!(!absences.gone(&id("a")));
    }
    absences.observe(&without, &held, &made(30));
    assert!(absences.gone(&id("a")));
    absences.observe(&with, &held, &made(32));
    assert!(!absences.gone(&id("a")), "what shows, counts at once");
}

#[test]
fn listings_that_follow_each_other_closely_do_not_make_a_shard_gone() {
    let (without, held) = (listing(""), leases("a"));
    let mut absences = Absences::default();
    for second in [0, 2, 4, 5] {
        absences.observe(&without, &held, &made(second));
        assert!(!absences.gone(&id("a")), "{second} s: the first was received at 1 s");
    }
    absences.observe(&without, &held, &made(6));
    assert!(absences.gone(&id("a")));
}
