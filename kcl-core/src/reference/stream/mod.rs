//! A model of DynamoDB tables and their streams.
//!
//! `tables` turns item writes into records, `shard` and `lineage` hold them, `service` answers readers through
//! [`StreamSource`](crate::StreamSource), `control` is what a test says ("split this shard now"), and `inspect` is
//! what it asks afterwards.

mod control;
mod error;
mod inspect;
mod item;
mod iterator;
mod limits;
mod lineage;
mod options;
mod sequence;
mod service;
mod shard;
mod state;
mod tables;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

pub use error::{ServiceError, ServiceErrorCode, TableError};
pub use inspect::{CallCounts, ShardView, TableDescription, TableView};
pub use item::item_size;
pub use options::{LastPage, StreamOptions, Visibility};
pub use service::StreamList;
use state::{Moment, State};
pub use tables::Written;

use crate::contract::Rt;

/// DynamoDB tables with streams, in this process.
///
/// It behaves as the service is documented and observed to: shards roll, split and vanish, records live 24 hours,
/// iterators 15 minutes, listings come in pages of 100 and lag behind, pages may be empty, readers are throttled.
/// Time comes from the [`Rt`] alone, so a day passes in milliseconds on a virtual clock. Nothing runs in the
/// background: what time brings about (trimming, rolling) is done when a call looks at the stream.
///
/// Clones share the same tables. A consumer reads it as a [`StreamSource`](crate::StreamSource); a test writes items
/// ([`put`](Self::put), [`delete`](Self::delete)), commands ([`split`](Self::split), [`trim`](Self::trim),
/// [`throttle`](Self::throttle)) and looks at what was written ([`written`](Self::written)).
///
/// ```
/// # fn example(rt: kcl_core::Rt) -> Result<(), Box<dyn std::error::Error>> {
/// use kcl_core::StreamViewType;
/// use kcl_core::reference::{ReferenceStream, StreamOptions};
///
/// let service = ReferenceStream::new(rt, StreamOptions::default());
/// let table = "orders".parse()?;
/// let stream = service.create_table(&table, &["id"], StreamViewType::NewAndOldImages, 2)?;
/// let first = service.open_shards(&stream).remove(0);
/// let children = service.split(&stream, &first)?;
/// assert_eq!(children.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ReferenceStream {
    inner: Arc<Inner>,
}

struct Inner {
    rt: Rt,
    state: Mutex<State>,
}

impl ReferenceStream {
    /// A service without tables.
    ///
    /// One random number is drawn from `rt`; shard names and sequence numbers follow from it.
    #[must_use]
    pub fn new(rt: Rt, options: StreamOptions) -> Self {
        let state = Mutex::new(State::new(options, rt.next_u64()));
        Self { inner: Arc::new(Inner { rt, state }) }
    }

    /// Runs `work` on the state as of now. `work` must not wait, and it cannot: it is no future.
    fn with<T>(&self, work: impl FnOnce(&mut State, Moment) -> T) -> T {
        // The clock is read under the lock, so that the state never sees time go back.
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        let moment = Moment { now: self.inner.rt.now(), wall: self.inner.rt.wall() };
        work(&mut state, moment)
    }
}

impl fmt::Debug for ReferenceStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferenceStream").field("rt", &self.inner.rt).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
