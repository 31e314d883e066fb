//! The beginning of an application on a stream: fixes where it starts, once, and creates the first leases.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures::future;
use futures::stream::{self, StreamExt};

use super::directory::Directory;
use super::fleet::BEGIN_AGAIN;
use super::take::TableAccess;
use crate::contract::{
    BootstrapMarker, LeaseError, LeaseErrorKind, Mono, ShardIterator, SourceError, SourceErrorKind, StreamSource,
};
use crate::model::{
    IteratorPosition, KeyForm, Lease, LeaseKey, NewLease, ShardId, StartPosition, StreamArn, StreamStatus,
};
use crate::policy::lineage::{self, ABSENT_FOR, Absences};
use crate::policy::listing::Listing;

/// What a stream's beginning needs.
#[derive(Debug, Clone)]
pub(crate) struct Bootstrap {
    pub(crate) access: TableAccess,
    pub(crate) source: Arc<dyn StreamSource>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) stream: StreamArn,
    pub(crate) start: StartPosition,
    pub(crate) form: KeyForm,
}

/// A stream whose first leases exist.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) marker: BootstrapMarker,
    /// Iterators taken before the beginning was fixed: their shards need not be read from their start.
    pub(crate) latest: BTreeMap<LeaseKey, ShardIterator>,
}

/// A failure of a beginning; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    #[error(transparent)]
    Table(#[from] LeaseError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the stream lists no shards yet, or its listings still change")]
    NotReady,
}

impl BootstrapError {
    /// Whether the stream refuses for a reason that does not pass by itself: a permission is missing, or there is no such stream.
    pub(super) fn waits_for_an_operator(&self) -> bool {
        match self {
            Self::Source(error) => matches!(error.kind(), SourceErrorKind::Denied { .. } | SourceErrorKind::NotFound),
            Self::Table(_) | Self::NotReady => false,
        }
    }
}

/// With more open shards than this, iterators for all of them would take longer than reading the shards' pasts in parallel.
const MOST_LATEST_ITERATORS: usize = 64;

/// Tries of one creation before the whole beginning is tried again.
const CREATE_TRIES: u32 = 6;

/// Creations under way at once.
const CREATIONS: usize = 64;

/// Listings that are made until one is whole.
const LISTINGS: usize = 5;

impl Bootstrap {
    /// Fixes the beginning if it is not fixed yet, and sees to it that all first leases exist. `leases` and `known` are what a
    /// scan showed of the stream; `fixed_since` is since when this worker has seen that it is fixed, now where it has not.
    ///
    /// Several workers may do this at once: the first fixes the marker and creates the leases; the others wait for it, and step in
    /// when it has not come to an end within a lease duration.
    pub(crate) async fn run(
        &self,
        leases: &[Arc<Lease>],
        known: Option<&BootstrapMarker>,
        fixed_since: Mono,
    ) -> Result<Option<Begun>, BootstrapError> {
        if let Some(marker) = known.filter(|marker| marker.complete) {
            return Ok(Some(Begun { marker: marker.clone(), latest: BTreeMap::new() }));
        }
        let waits = self.access.rt.now().since(fixed_since) < self.access.timing.duration();
        if known.is_some() && waits {
            return Ok(None);
        }
        let mine = tokio::select! {
            biased;
            mine = self.my_beginning(leases) => mine?,
            () = self.another_has_begun(known) => return Ok(None),
        };
        let marker = self.access.bounded(self.access.table.fix_marker(&mine.marker)).await?;
        if marker.complete {
            return Ok(Some(Begun { marker, latest: BTreeMap::new() }));
        }
        let won = marker.at == mine.marker.at && marker.start == mine.marker.start;
        if !won && waits {
            return Ok(None);
        }
        let (new, latest) = match (won, mine.listing) {
            (true, Some(listing)) => (lineage::frontier(&listing, self.form, &marker, &mine.closed), mine.latest),
            _ => (self.what_is_missing(leases, &marker).await?, BTreeMap::new()),
        };
        // Side by side: one after the other, ten thousand would take longer than the others wait before they step in.
        // One that fails ends none of the others: what is missing then is made by whoever tries next.
        let creations = stream::iter(new).map(|lease| self.create(lease)).buffer_unordered(CREATIONS);
        creations.fold(Ok(()), |all, one| future::ready(all.and(one))).await?;
        self.access.bounded(self.access.table.complete_marker(&self.stream)).await?;
        Ok(Some(Begun { marker: BootstrapMarker { complete: true, ..marker }, latest }))
    }

    /// To list a stream takes long where many share the calls for it: who is done first has done it for all. Ends when the marker shows
    /// more than it did.
    async fn another_has_begun(&self, known: Option<&BootstrapMarker>) {
        let rt = &self.access.rt;
        loop {
            rt.sleep(rt.jitter(BEGIN_AGAIN)).await;
            // A look that fails shows nothing new; the next is a second later.
            let Ok(scan) = self.access.scan().await else { continue };
            let marker = scan.markers.iter().find(|marker| marker.stream == self.stream);
            if marker.is_some_and(|marker| marker.complete || known.is_none()) {
                return;
            }
        }
    }

    /// The beginning that this worker would fix. A table that has leases of the stream already (a Java fleet's) has begun long ago.
    async fn my_beginning(&self, leases: &[Arc<Lease>]) -> Result<Beginning, BootstrapError> {
        let begun_long_ago = !leases.is_empty();
        let mut beginning = Beginning {
            marker: BootstrapMarker {
                stream: self.stream.clone(),
                at: UNIX_EPOCH,
                // What such a fleet has not read yet was wanted long before now.
                start: if begun_long_ago { StartPosition::TrimHorizon } else { self.start },
                complete: begun_long_ago,
            },
            listing: None,
            closed: BTreeSet::new(),
            latest: BTreeMap::new(),
        };
        if !begun_long_ago {
            let listing = self.whole_listing().await?;
            if self.start == StartPosition::Latest {
                beginning.closed = listing.shards().keys().filter(|id| listing.is_closed(id)).cloned().collect();
                beginning.latest = self.latest_iterators(&listing).await?;
            }
            beginning.listing = Some(listing);
        }
        // Read last: what is known from before T0 must have been seen before it.
        beginning.marker.at = whole_millis(self.access.rt.wall());
        Ok(beginning)
    }

    /// A listing whose roots are roots: a parent that one listing merely misses would be taken for trimmed, and never be read.
    async fn whole_listing(&self) -> Result<Arc<Listing>, BootstrapError> {
        let mut absences = Absences::default();
        for _ in 0..LISTINGS {
            let (listing, made) = self.listing().await?;
            if listing.status() == StreamStatus::Enabling || listing.shards().is_empty() {
                return Err(BootstrapError::NotReady);
            }
            absences.observe(&listing, &BTreeMap::new(), &made);
            let mut parents = listing.shards().values().filter_map(|shard| shard.parent.as_ref());
            if parents.all(|parent| listing.contains(parent) || absences.gone(parent)) {
                return Ok(listing);
            }
            self.access.rt.sleep(ABSENT_FOR).await;
        }
        Err(BootstrapError::NotReady)
    }

    /// A complete listing, and from when to when it was made.
    async fn listing(&self) -> Result<(Arc<Listing>, Range<Mono>), SourceError> {
        let asked = self.access.rt.now();
        let listing = self.directory.listing(asked).await?;
        Ok((listing, asked..self.access.rt.now()))
    }

    async fn latest_iterators(&self, listing: &Listing) -> Result<BTreeMap<LeaseKey, ShardIterator>, SourceError> {
        let open: Vec<&ShardId> = listing.shards().keys().filter(|id| !listing.is_closed(id)).collect();
        let mut iterators = BTreeMap::new();
        if open.len() > MOST_LATEST_ITERATORS {
            return Ok(iterators);
        }
        for shard in open {
            match self.source.shard_iterator(&self.stream, shard, IteratorPosition::Latest).await {
                Ok(iterator) => drop(iterators.insert(LeaseKey::of(self.form, &self.stream, shard), iterator)),
                // It is read from its beginning once it can be. The others need not wait for that.
                Err(error) if matches!(error.kind(), SourceErrorKind::NotFound | SourceErrorKind::Trimmed) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(iterators)
    }

    async fn what_is_missing(
        &self,
        leases: &[Arc<Lease>],
        marker: &BootstrapMarker,
    ) -> Result<Vec<NewLease>, BootstrapError> {
        let (listing, made) = self.listing().await?;
        let by_shard: BTreeMap<ShardId, Lease> =
            leases.iter().map(|lease| (lease.shard.clone(), Lease::clone(lease))).collect();
        let mut absences = Absences::default();
        absences.observe(&listing, &by_shard, &made);
        self.access.rt.sleep(ABSENT_FOR).await;
        let (listing, made) = self.listing().await?;
        absences.observe(&listing, &by_shard, &made);
        let missing = lineage::missing(&listing, &by_shard, &absences, self.form, marker, self.access.beginning());
        Ok(missing.into_iter().map(|missing| missing.lease).collect())
    }

    async fn create(&self, lease: NewLease) -> Result<(), LeaseError> {
        match self.access.tried(CREATE_TRIES, || self.access.table.create(&lease)).await {
            // Another worker was faster.
            Err(error) if !matches!(error.kind(), LeaseErrorKind::Conflict { .. }) => Err(error),
            _ => Ok(()),
        }
    }
}

struct Beginning {
    marker: BootstrapMarker,
    /// Made before T0 was read.
    listing: Option<Arc<Listing>>,
    /// Shards that were closed before T0.
    closed: BTreeSet<ShardId>,
    latest: BTreeMap<LeaseKey, ShardIterator>,
}

/// The table keeps milliseconds.
fn whole_millis(at: std::time::SystemTime) -> std::time::SystemTime {
    let millis = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}
