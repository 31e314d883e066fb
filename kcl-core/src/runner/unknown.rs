//! A shard that the service says it does not know: that proves nothing, and finding out must not keep anybody from reading it.

use std::sync::Arc;
use std::time::Duration;

use super::directory::Directory;
use crate::contract::{Mono, Rt, TaskClass, TaskHandle};
use crate::model::{Shard, ShardId};
use crate::policy::lineage::ABSENT_FOR;

/// While listings are made, the shard is asked for again this often.
const ASKED_AGAIN: Duration = Duration::from_secs(5);

/// What was said of one shard since it was last read.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    since: Option<Mono>,
    /// Listings that show whether the shard is gone. In a fleet whose calls are many workers' they may take minutes.
    search: Option<TaskHandle<Option<Vec<Shard>>>>,
}

/// What to make of one more answer that there is no such shard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing: it is too early, or the shard is listed.
    Retry,
    /// Read on by now; what the listings say is still to come.
    Searching,
    /// The shard is gone. The shards that name it as their parent.
    Gone(Vec<Shard>),
}

impl Unknown {
    /// The service said once more that it does not know the shard. A replica that lags behind says so for seconds: only after
    /// [`ABSENT_FOR`] of it are listings asked for.
    ///
    /// # Cancel safety
    /// Reads only; the search goes on as long as `self` lives.
    pub(super) async fn said(&mut self, shard: &ShardId, directory: &Arc<Directory>, rt: &Rt) -> Told {
        let now = rt.now();
        if now.since(*self.since.get_or_insert(now)) < ABSENT_FOR {
            return Told::Retry;
        }
        let search = self.search.get_or_insert_with(|| {
            let (directory, shard) = (directory.clone(), shard.clone());
            rt.spawn("looking for a shard", TaskClass::Lease, async move { directory.gone(&shard).await })
        });
        let Some(found) = rt.timeout(rt.jitter(ASKED_AGAIN), search).await else { return Told::Searching };
        *self = Self::default();
        match found {
            Ok(Some(children)) => Told::Gone(children),
            Ok(None) | Err(_) => Told::Retry,
        }
    }
}
