//! Complete listings of a stream's shards, put together from pages.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::DescribePage;
use crate::model::{Shard, ShardId, StreamDescription, StreamStatus};

/// A million shards, at the service's hundred a page.
const MAX_PAGES: usize = 10_000;

/// All shards of a stream, as one walk over every page of DescribeStream showed them. Complete by construction: it is only
/// made of a walk that reached its end. The service's pages are not a snapshot, and what was created a moment ago may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    status: StreamStatus,
    shards: BTreeMap<ShardId, Shard>,
    children: BTreeMap<ShardId, BTreeSet<ShardId>>,
}

impl Listing {
    /// A listing of exactly these shards, which the caller knows to be all.
    pub(crate) fn of(status: StreamStatus, shards: impl IntoIterator<Item = Shard>) -> Self {
        let shards: BTreeMap<_, _> = shards.into_iter().map(|shard| (shard.id.clone(), shard)).collect();
        let mut children: BTreeMap<ShardId, BTreeSet<ShardId>> = BTreeMap::new();
        for shard in shards.values() {
            if let Some(parent) = &shard.parent {
                children.entry(parent.clone()).or_default().insert(shard.id.clone());
            }
        }
        Self { status, shards, children }
    }

    /// The stream's status: the least advanced that any page told.
    pub(crate) fn status(&self) -> StreamStatus {
        self.status
    }

    /// The shards, by id.
    pub(crate) fn shards(&self) -> &BTreeMap<ShardId, Shard> {
        &self.shards
    }

    /// One shard.
    pub(crate) fn get(&self, shard: &ShardId) -> Option<&Shard> {
        self.shards.get(shard)
    }

    /// Whether the shard is listed.
    pub(crate) fn contains(&self, shard: &ShardId) -> bool {
        self.shards.contains_key(shard)
    }

    /// Whether a listed shard takes no more writes. One that looks open beside a child of its own is closed: its page was
    /// read before it rolled and the child's page after.
    pub(crate) fn is_closed(&self, shard: &ShardId) -> bool {
        self.get(shard).is_some_and(Shard::is_closed) || self.contains(shard) && self.children.contains_key(shard)
    }

    /// The listed shards that continue `shard`, which itself need not be listed any more.
    pub(crate) fn children_of(&self, shard: &ShardId) -> impl Iterator<Item = &Shard> {
        self.children.get(shard).into_iter().flatten().filter_map(|child| self.shards.get(child))
    }

    /// Whether `shard`, which was read to its end, has no children and will have none: the stream is switched off and
    /// lists none. On a stream that is not switched off, a closed shard without children only has none visible yet.
    pub(crate) fn is_settled(&self, shard: &ShardId) -> bool {
        self.status == StreamStatus::Disabled && self.children_of(shard).next().is_none()
    }
}

/// What comes after a page of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PageStep<T> {
    /// Ask for this page.
    Next(DescribePage),
    /// That was the last one.
    Complete(T),
    /// The pages go in circles or do not end. Nothing may be concluded; begin again later.
    Stuck,
}

/// Walks over the pages of a stream's whole listing.
#[derive(Debug, Default)]
pub(crate) struct ListingPages {
    pages: Pages,
}

impl ListingPages {
    /// The page to begin with.
    pub(crate) fn first() -> DescribePage {
        DescribePage::default()
    }

    /// Takes in the page that was asked for last.
    pub(crate) fn push(&mut self, page: StreamDescription) -> PageStep<Listing> {
        match self.pages.push(page) {
            PagesStep::More(after) => PageStep::Next(DescribePage { after: Some(after), children_of: None }),
            PagesStep::Done(status, shards) => PageStep::Complete(Listing::of(status, shards.into_values())),
            PagesStep::Stuck => PageStep::Stuck,
        }
    }
}

/// Walks over the pages of the children of one shard. Cheaper than a whole listing, and no substitute for one where it
/// shows none: see [`Listing::is_settled`].
#[derive(Debug)]
pub(crate) struct ChildPages {
    parent: ShardId,
    pages: Pages,
}

/// The children of one shard, as far as they are visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Children {
    /// The least advanced status that any page told.
    pub(crate) status: StreamStatus,
    /// The children, by id.
    pub(crate) shards: Vec<Shard>,
}

impl ChildPages {
    /// A walk over the children of `parent`.
    pub(crate) fn of(parent: ShardId) -> Self {
        Self { parent, pages: Pages::default() }
    }

    /// The page to begin with.
    pub(crate) fn first(&self) -> DescribePage {
        DescribePage { after: None, children_of: Some(self.parent.clone()) }
    }

    /// Takes in the page that was asked for last. Shards with another parent, from a source that knows no filter, are left out.
    pub(crate) fn push(&mut self, page: StreamDescription) -> PageStep<Children> {
        match self.pages.push(page) {
            PagesStep::More(after) => {
                PageStep::Next(DescribePage { after: Some(after), children_of: Some(self.parent.clone()) })
            }
            PagesStep::Done(status, shards) => {
                let shards = shards.into_values().filter(|shard| shard.parent.as_ref() == Some(&self.parent)).collect();
                PageStep::Complete(Children { status, shards })
            }
            PagesStep::Stuck => PageStep::Stuck,
        }
    }
}

#[derive(Debug, Default)]
struct Pages {
    status: Option<StreamStatus>,
    shards: BTreeMap<ShardId, Shard>,
    asked: BTreeSet<ShardId>,
}

enum PagesStep {
    More(ShardId),
    Done(StreamStatus, BTreeMap<ShardId, Shard>),
    Stuck,
}

impl Pages {
    fn push(&mut self, page: StreamDescription) -> PagesStep {
        let status = match self.status {
            Some(seen) if progress(seen) <= progress(page.status) => seen,
            _ => page.status,
        };
        self.status = Some(status);
        for shard in page.shards {
            match self.shards.get_mut(&shard.id) {
                // Of two sightings of one shard the one that saw it closed is the later.
                Some(seen) => seen.ending = seen.ending.or(shard.ending),
                None => {
                    self.shards.insert(shard.id.clone(), shard);
                }
            }
        }
        match page.last_evaluated {
            None => PagesStep::Done(status, std::mem::take(&mut self.shards)),
            Some(after) if self.asked.len() < MAX_PAGES && self.asked.insert(after.clone()) => PagesStep::More(after),
            Some(_) => PagesStep::Stuck,
        }
    }
}

fn progress(status: StreamStatus) -> u8 {
    match status {
        StreamStatus::Enabling => 0,
        StreamStatus::Enabled => 1,
        StreamStatus::Disabling => 2,
        StreamStatus::Disabled => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SequenceNumber;

    fn id(text: &str) -> ShardId {
        text.parse().expect(text)
    }

    fn shard(name: &str, parent: Option<&str>, closed: bool) -> Shard {
        let ending = closed.then(|| SequenceNumber::from_u128(9));
        Shard { id: id(name), parent: parent.map(id), starting: None, ending }
    }

    fn page(status: StreamStatus, shards: Vec<Shard>, last: Option<&str>) -> StreamDescription {
        StreamDescription { status, view_type: None, shards, last_evaluated: last.map(id) }
    }

    #[test]
    fn a_listing_is_complete_only_after_its_last_page() {
        let mut pages = ListingPages::default();
        let step = pages.push(page(StreamStatus::Enabled, vec![shard("a", None, false)], Some("a")));
        assert_eq!(step, PageStep::Next(DescribePage { after: Some(id("a")), children_of: None }));
        let step = pages.push(page(StreamStatus::Enabled, vec![], Some("b")));
        assert!(matches!(step, PageStep::Next(_)), "an empty page may name a next one");
        let PageStep::Complete(listing) =
            pages.push(page(StreamStatus::Enabled, vec![shard("c", Some("a"), false)], None))
        else {
            panic!("the last page completes")
        };
        assert_eq!(listing.shards().keys().map(ShardId::as_str).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(listing.children_of(&id("a")).map(|s| s.id.as_str()).collect::<Vec<_>>(), ["c"]);
        assert!(listing.is_closed(&id("a")), "a parent that looks open beside its child is closed");
        assert!(!listing.is_closed(&id("c")) && !listing.is_closed(&id("x")));
    }

    #[test]
    fn pages_that_go_in_circles_or_do_not_end_are_given_up() {
        let mut pages = ListingPages::default();
        let mut push = |last: &str| pages.push(page(StreamStatus::Enabled, vec![], Some(last)));
        assert!(matches!(push("a"), PageStep::Next(_)));
        assert!(matches!(push("b"), PageStep::Next(_)));
        assert_eq!(push("a"), PageStep::Stuck);
        let mut pages = ListingPages::default();
        let stuck = (0..=MAX_PAGES)
            .map(|n| pages.push(page(StreamStatus::Enabled, vec![], Some(&n.to_string()))))
            .position(|step| step == PageStep::Stuck);
        assert_eq!(stuck, Some(MAX_PAGES));
    }

    #[test]
    fn a_closed_shard_without_children_is_settled_only_when_every_page_saw_the_stream_switched_off() {
        let check = |first, second, settled| {
            let mut pages = ListingPages::default();
            let _next = pages.push(page(first, vec![shard("a", None, true)], Some("a")));
            let PageStep::Complete(listing) = pages.push(page(second, vec![shard("c", Some("b"), true)], None)) else {
                panic!("the last page completes")
            };
            assert_eq!(listing.is_settled(&id("a")), settled, "{first} {second}");
            assert!(!listing.is_settled(&id("b")), "b has a child");
        };
        check(StreamStatus::Disabled, StreamStatus::Disabled, true);
        check(StreamStatus::Enabled, StreamStatus::Disabled, false);
        check(StreamStatus::Disabled, StreamStatus::Enabled, false);
        check(StreamStatus::Disabling, StreamStatus::Disabled, false);
    }

    #[test]
    fn only_children_by_the_parent_field_are_children() {
        let mut pages = ChildPages::of(id("a"));
        assert_eq!(pages.first(), DescribePage { after: None, children_of: Some(id("a")) });
        let shards = vec![shard("a", None, true), shard("b", Some("a"), false), shard("c", Some("b"), false)];
        let PageStep::Complete(children) = pages.push(page(StreamStatus::Enabled, shards, None)) else {
            panic!("the only page completes")
        };
        assert_eq!(children.shards.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_shard_seen_closed_on_any_page_is_closed() {
        for closed_first in [true, false] {
            let mut pages = ListingPages::default();
            let _next = pages.push(page(StreamStatus::Enabled, vec![shard("a", None, closed_first)], Some("a")));
            let PageStep::Complete(listing) =
                pages.push(page(StreamStatus::Enabled, vec![shard("a", None, !closed_first)], None))
            else {
                panic!("the last page completes")
            };
            assert!(listing.is_closed(&id("a")));
        }
    }
}
