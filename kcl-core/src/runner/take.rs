//! Single requests to the lease table that the fleet runner makes beside its loop.

use std::sync::Arc;
use std::time::Duration;

use super::holding::Holding;
use super::keeper::timed_out;
use super::told::Denials;
use crate::contract::{
    BootstrapMarker, LeaseError, LeaseErrorKind, LeaseTable, Rt, Stamp, TableItem, TableMeta, WorkerItem,
};
use crate::model::{Lease, LeaseCounter, LeaseKey, LeaseWrite, Owner, WorkerId};
use crate::policy::backoff::Backoff;
use crate::policy::tenure::LeaseTiming;

/// The lease table, with the time-outs and retries of single requests.
#[derive(Debug, Clone)]
pub(crate) struct TableAccess {
    pub(crate) table: Arc<dyn LeaseTable>,
    pub(crate) rt: Rt,
    pub(crate) timing: LeaseTiming,
    /// Where it is told which calls are denied; nowhere for callers that are given the error.
    pub(crate) denials: Option<Denials>,
}

/// A whole scan.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) leases: Vec<Arc<Lease>>,
    pub(crate) workers: Vec<WorkerItem>,
    pub(crate) markers: Vec<BootstrapMarker>,
    pub(crate) metas: Vec<TableMeta>,
    /// Key and reason.
    pub(crate) foreign: Vec<(String, String)>,
}

/// How a take went.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "short-lived, and most are takes")]
pub(crate) enum Taking {
    /// Acknowledged: what it left, and when it was sent.
    Taken(Lease, Stamp),
    /// Not, as far as is known; the lease that refused it, where the table told.
    NotTaken(Option<Box<Lease>>),
}

/// Tries of one request before the next round of observation decides anew.
pub(super) const TRIES: u32 = 4;

impl TableAccess {
    /// Where the counters of leases begin that are created now.
    pub(crate) fn beginning(&self) -> LeaseCounter {
        LeaseCounter::beginning(self.rt.stamp().wall)
    }

    /// All items of the table.
    pub(crate) async fn scan(&self) -> Result<Scan, LeaseError> {
        let mut scan = Scan::default();
        let mut from = None;
        loop {
            let page = self.tried(TRIES, || self.table.scan(from.clone())).await?;
            for item in page.items {
                match item {
                    TableItem::Lease(lease) => scan.leases.push(lease),
                    TableItem::Worker(worker) => scan.workers.push(worker),
                    TableItem::Foreign { key, why } => scan.foreign.push((key, why)),
                    TableItem::Marker(marker) => scan.markers.push(marker),
                    TableItem::Meta(meta) => scan.metas.push(meta),
                }
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(scan),
            }
        }
    }

    /// Takes a lease that nobody is valid on. `parents` are leases that must be finished or absent.
    pub(crate) async fn take(&self, me: &WorkerId, mut lease: Lease, parents: &[LeaseKey]) -> Taking {
        if self.is_waiting_for(parents).await {
            return Taking::NotTaken(None);
        }
        let owner = me.owner();
        let mut backoff = Self::backoff();
        for _ in 0..TRIES {
            let sent = self.rt.stamp();
            let write = LeaseWrite::take(owner.clone());
            let guard = lease.guard();
            match self.bounded(self.table.write(&lease.key, &guard, &write)).await {
                Ok(taken) => return Taking::Taken(taken, sent),
                Err(error) => match error.kind() {
                    // An earlier try of ours was applied and its answer lost. Only an acknowledged write gives validity.
                    LeaseErrorKind::Conflict { current: Some(current) } if is_ours(current, &owner) => {
                        lease = (**current).clone();
                    }
                    LeaseErrorKind::Throttled | LeaseErrorKind::Unavailable { .. } => self.pause(&mut backoff).await,
                    LeaseErrorKind::Conflict { .. }
                    | LeaseErrorKind::Denied { .. }
                    | LeaseErrorKind::Invalid { .. } => {
                        tracing::debug!(%error, key = %lease.key, "not taken");
                        return Taking::NotTaken(error.into_current());
                    }
                },
            }
        }
        Taking::NotTaken(None)
    }

    async fn is_waiting_for(&self, parents: &[LeaseKey]) -> bool {
        for parent in parents {
            match self.bounded(self.table.get(parent)).await {
                Ok(None) => {}
                Ok(Some(parent)) if parent.is_finished() => {}
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }

    /// Gives a lease away that nobody works on, to whom it is meant for, with what is acknowledged and not recorded where it was worked
    /// on before. Where that fails it expires, or is given away again.
    pub(crate) async fn give_back(&self, lease: &Lease, worked_on: Option<&Holding>) -> Option<Lease> {
        let write = LeaseWrite::release(lease.intended_for.clone());
        let write = match worked_on {
            Some(holding) => holding.with_progress(write, lease),
            None => write,
        };
        match self.bounded(self.table.write(&lease.key, &lease.guard(), &write)).await {
            Ok(free) => Some(free),
            Err(error) => {
                tracing::debug!(%error, key = %lease.key, "not given back");
                error.into_current().map(|current| *current)
            }
        }
    }

    /// Asks the owner of a lease to let go of it.
    pub(crate) async fn evict(&self, lease: &Lease, intended_for: Owner) -> Option<Lease> {
        let guard = lease.guard();
        let write = LeaseWrite::evict(intended_for);
        match self.bounded(self.table.write(&lease.key, &guard, &write)).await {
            Ok(evicted) => Some(evicted),
            Err(error) => {
                tracing::debug!(%error, key = %lease.key, "not evicted");
                None
            }
        }
    }

    /// Tells the other workers to look, within one request time-out: in a large fleet they look rarely unless they are told, and to be
    /// told twice costs them one look.
    pub(crate) async fn ring(&self) {
        let ringing = self.tried(TRIES, || self.table.ring());
        match self.rt.timeout(self.timing.request_timeout(), ringing).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "the fleet was not told to look"),
            None => tracing::debug!("the fleet was not told to look in time"),
        }
    }

    /// One request within the request time-out.
    pub(crate) async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, LeaseError>> + Send,
    ) -> Result<T, LeaseError> {
        let answer = self.rt.timeout(self.timing.request_timeout(), call).await.unwrap_or_else(|| Err(timed_out()));
        if let (Err(error), Some(denials)) = (&answer, &self.denials) {
            denials.heed(error);
        }
        answer
    }

    /// One request, made up to `tries` times where that may help: for reads and for writes that may be repeated.
    pub(crate) async fn tried<T, F>(&self, tries: u32, call: impl Fn() -> F) -> Result<T, LeaseError>
    where
        F: Future<Output = Result<T, LeaseError>> + Send,
    {
        let mut backoff = Self::backoff();
        for _ in 1..tries {
            match self.bounded(call()).await {
                Err(error) if error.is_retryable() => self.pause(&mut backoff).await,
                settled => return settled,
            }
        }
        self.bounded(call()).await
    }

    /// Between tries of one request.
    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(50), Duration::from_secs(3))
    }

    async fn pause(&self, backoff: &mut Backoff) {
        self.rt.sleep(self.rt.jitter(backoff.next_pause())).await;
    }
}

fn is_ours(lease: &Lease, me: &Owner) -> bool {
    lease.owner.as_ref() == Some(me) && !lease.evicted
}
