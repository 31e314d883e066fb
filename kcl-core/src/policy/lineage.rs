//! Which shards get a lease, and when: parents first, only the frontier, nothing twice.
//!
//! A shard is *covered* when it has a lease, or when some descendant of it has one: then it was finished, or was skipped on
//! purpose, and a new lease for it would only read again what is done.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::listing::Listing;
use crate::contract::{BootstrapMarker, Mono};
use crate::model::{
    KeyForm, Lease, LeaseCounter, LeaseGuard, LeaseKey, NewLease, Owner, Shard, ShardId, StartPosition, StreamArn,
};
use crate::planted::{self, Bug};

/// A lease that has to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MissingLease {
    /// The lease, unowned.
    pub(crate) lease: NewLease,
    /// The shard's parent, where it vanished without ever having had a lease: its records were lost unread. To be
    /// reported, and decided on by the loss policy, before the lease is created.
    pub(crate) lost_parent: Option<ShardId>,
}

/// The leases of a bootstrap, oldest first: the shards of a complete listing that have no parent left.
///
/// `closed_before_t0` are shards that some listing showed closed before the marker's instant was fixed. From
/// [`StartPosition::Latest`] nothing in them is wanted, so their listed children take their place; with other start positions
/// it is not looked at. To resume a bootstrap of which leases may exist, use [`missing`].
pub(crate) fn frontier(
    listing: &Listing,
    form: KeyForm,
    marker: &BootstrapMarker,
    closed_before_t0: &BTreeSet<ShardId>,
) -> Vec<NewLease> {
    let skips = |shard: &Shard| marker.start == StartPosition::Latest && closed_before_t0.contains(&shard.id);
    let is_root = |shard: &Shard| shard.parent.as_ref().is_none_or(|parent| !listing.contains(parent));
    let mut walk: Vec<&Shard> = listing.shards().values().filter(|shard| is_root(shard)).collect();
    let mut leases = Vec::new();
    while let Some(shard) = walk.pop() {
        let mut children = listing.children_of(&shard.id).peekable();
        // One without visible children must be held until they show, or they would be taken for lost.
        if skips(shard) && children.peek().is_some() {
            walk.extend(children);
        } else {
            if planted::is(Bug::WaitingChildrenFillCap) {
                walk.extend(children);
            }
            let begins = LeaseCounter::beginning(marker.at);
            leases.push(new_lease(shard, begins, &marker.stream, form, start_at(marker), is_root(shard)));
        }
    }
    oldest_first(&mut leases, |lease| lease);
    leases
}

/// The leases that a stream lacks, oldest first. All are unowned. Creating them in any order, or only some, is safe; so is
/// doing it on several workers at once.
///
/// `leases` are all leases of the stream that `marker` is of. `absences` has observed `listing`, and a listing before it: a
/// parent counts as gone only when two listings in a row did not show it, because one may show a child before its parent.
///
/// A listed shard that is not covered gets a lease
/// * if it has no parent, or its parent is finished;
/// * if its parent is covered through another descendant (the shard showed up late, after its sibling);
/// * if its parent is gone and never had a lease. After the bootstrap that is a loss.
///
/// It waits while its parent has an unfinished lease or is itself about to get one.
pub(crate) fn missing(
    listing: &Listing,
    leases: &BTreeMap<ShardId, Lease>,
    absences: &Absences,
    form: KeyForm,
    marker: &BootstrapMarker,
    begins: LeaseCounter,
) -> Vec<MissingLease> {
    let covered = covered(listing, leases);
    let mut missing: Vec<MissingLease> = listing
        .shards()
        .values()
        .filter(|shard| !covered.contains(&shard.id))
        .filter_map(|shard| {
            let create = |start_at, root, lost_parent| {
                let lease = new_lease(shard, begins, &marker.stream, form, start_at, root);
                Some(MissingLease { lease, lost_parent })
            };
            let Some(parent) = &shard.parent else {
                return create(start_at(marker), !marker.complete, None);
            };
            match leases.get(parent) {
                Some(finished) if finished.is_finished() => create(finished.start_at, false, None),
                Some(_unfinished) => None,
                None if covered.contains(parent) => create(start_at(marker), false, None),
                None if listing.contains(parent) || !absences.gone(parent) => None,
                None => create(start_at(marker), !marker.complete, marker.complete.then(|| parent.clone())),
            }
        })
        .collect();
    oldest_first(&mut missing, |missing| &missing.lease);
    missing
}

/// The children to create in the transaction that finishes `parent`, owned by `owner`: those of `shards` that continue it.
/// They go on filtering by the start position where the parent still does.
pub(crate) fn finish_children<'a>(
    shards: impl IntoIterator<Item = &'a Shard>,
    parent: &Lease,
    stream: &StreamArn,
    owner: Option<&Owner>,
    form: KeyForm,
    begins: LeaseCounter,
) -> Vec<NewLease> {
    let mut children: Vec<NewLease> = shards
        .into_iter()
        .filter(|shard| shard.parent.as_ref() == Some(&parent.shard))
        .map(|shard| NewLease {
            owner: owner.cloned(),
            ..new_lease(shard, begins, stream, form, parent.start_at, false)
        })
        .collect();
    oldest_first(&mut children, |lease| lease);
    children
}

/// How long a shard must have been absent from the listings to be gone: they are eventually consistent, and one that misses what is
/// new may be followed by another within seconds.
pub(crate) const ABSENT_FOR: Duration = Duration::from_secs(5);

/// What was not listed, and how often in a row. One memory per stream.
///
/// A listing may miss a shard for a moment, so that nothing is concluded from one alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Absences {
    in_a_row: BTreeMap<ShardId, u8>,
    /// When the last listing was received that counts.
    counted: Option<Mono>,
}

impl Absences {
    /// A shard is gone when so many complete listings in a row do not show it.
    const GONE: u8 = 2;

    /// Takes in the next complete listing, and from when to when it was made. What it shows, counts; what it does not show, only if it
    /// was begun [`ABSENT_FOR`] after the last that counts: what is missing from one by the service's eventual consistency must have
    /// had the time to appear in the next.
    pub(crate) fn observe(&mut self, listing: &Listing, leases: &BTreeMap<ShardId, Lease>, made: &Range<Mono>) {
        if self.counted.is_some_and(|last| made.start.since(last) < ABSENT_FOR) {
            self.in_a_row.retain(|shard, _| !listing.contains(shard));
            return;
        }
        self.counted = Some(made.end);
        let parents = listing.shards().values().filter_map(|shard| shard.parent.as_ref());
        let absent: BTreeSet<&ShardId> =
            leases.keys().chain(parents).filter(|shard| !listing.contains(shard)).collect();
        self.in_a_row = absent
            .into_iter()
            .map(|shard| {
                let before = self.in_a_row.get(shard).copied().unwrap_or(0);
                (shard.clone(), before.saturating_add(1).min(Self::GONE))
            })
            .collect();
    }

    /// Whether no listing has shown `shard` for [`ABSENT_FOR`], which had a lease or was named as a parent.
    pub(crate) fn gone(&self, shard: &ShardId) -> bool {
        self.in_a_row.get(shard).is_some_and(|times| *times >= Self::GONE)
    }

    /// Finished leases that nothing needs any more: the shard is gone, its children are covered, and so long as a
    /// parent of it is listed or has a lease it stays, because it is what shows that the parent is done.
    pub(crate) fn tombstones(
        &self,
        listing: &Listing,
        leases: &BTreeMap<ShardId, Lease>,
    ) -> Vec<(LeaseKey, LeaseGuard)> {
        let covered = covered(listing, leases);
        leases
            .values()
            .filter(|lease| lease.is_finished() && (self.gone(&lease.shard) || planted::is(Bug::TombstonesEarly)))
            .filter(|lease| {
                let kept = |parent| listing.contains(parent) || leases.contains_key(parent);
                !lease.parents.iter().any(kept) || planted::is(Bug::TombstonesEarly)
            })
            .filter(|lease| listing.children_of(&lease.shard).all(|child| covered.contains(&child.id)))
            .map(|lease| (lease.key.clone(), lease.guard()))
            .collect()
    }
}

/// Whether every listed shard has a lease, or a descendant that has one.
pub(crate) fn all_covered(listing: &Listing, leases: &BTreeMap<ShardId, Lease>) -> bool {
    let covered = covered(listing, leases);
    listing.shards().keys().all(|shard| covered.contains(shard))
}

/// All shards that have a lease, and their ancestors as far as listing and leases name them.
fn covered<'a>(listing: &'a Listing, leases: &'a BTreeMap<ShardId, Lease>) -> BTreeSet<&'a ShardId> {
    let mut covered = BTreeSet::new();
    let mut walk: Vec<&ShardId> = leases.keys().collect();
    while let Some(shard) = walk.pop() {
        if covered.insert(shard) {
            walk.extend(leases.get(shard).into_iter().flat_map(|lease| &lease.parents));
            walk.extend(listing.get(shard).and_then(|listed| listed.parent.as_ref()));
        }
    }
    covered
}

/// Before which instant records are not wanted.
fn start_at(marker: &BootstrapMarker) -> Option<SystemTime> {
    match marker.start {
        StartPosition::TrimHorizon => None,
        StartPosition::Latest => Some(marker.at),
        StartPosition::AtTimestamp(instant) => Some(instant),
    }
}

fn new_lease(
    shard: &Shard,
    counter: LeaseCounter,
    stream: &StreamArn,
    form: KeyForm,
    start_at: Option<SystemTime>,
    root: bool,
) -> NewLease {
    NewLease {
        key: LeaseKey::of(form, stream, &shard.id),
        counter,
        stream: stream.clone(),
        shard: shard.id.clone(),
        owner: None,
        parent: shard.parent.clone(),
        starting_sequence: shard.starting,
        start_at,
        root,
    }
}

fn oldest_first<T>(items: &mut [T], lease: impl Fn(&T) -> &NewLease) {
    items.sort_by(|a, b| {
        let (a, b) = (lease(a), lease(b));
        (a.starting_sequence, &a.shard).cmp(&(b.starting_sequence, &b.shard))
    });
}

#[cfg(test)]
mod tests;
