//! One round of a worker's look at its fleet: what it sees becomes the view that the plan decides on.

use std::collections::BTreeSet;

use super::balance::{LeaseHold, LeaseView, Limits, View, WorkerView};
use super::load;
use super::observe::{Observations, Seen};
use super::tenure::LeaseTiming;
use crate::contract::{Mono, WorkerItem, WorkerState};
use crate::model::{KeyForm, Lease, LeaseKey, Owner, StreamArn, WorkerId};

/// What a worker knows of itself.
#[derive(Debug)]
pub(crate) struct Own<'a> {
    pub(crate) id: &'a WorkerId,
    pub(crate) weight: u32,
    /// It gives everything away.
    pub(crate) leaving: bool,
    /// Leases it holds.
    pub(crate) held: &'a BTreeSet<LeaseKey>,
    /// Leases that a request is under way for.
    pub(crate) pending: &'a BTreeSet<LeaseKey>,
}

/// The workers that are seen to live, the own one first of all. One that lets a lease expire is not among them: its own item may stand
/// still for a shorter time, and what it held would wait for it.
pub(crate) fn live_workers(seen: &Observations, own: &Own<'_>, timing: LeaseTiming, now: Mono) -> Vec<WorkerView> {
    let expired =
        seen.leases().values().filter(|lease| watched(lease, own) && lease.stood_still(timing.duration(), now));
    let negligent: BTreeSet<Owner> = expired.filter_map(|lease| lease.item.owner.clone()).collect();
    let others = seen
        .workers()
        .values()
        .filter(|worker| worker.item.id != *own.id && worker.item.state.lives())
        .filter(|worker| !worker.stood_still(timing.duration(), now) && !negligent.contains(&worker.item.id.owner()))
        .map(|worker| WorkerView {
            id: worker.item.id.clone(),
            weight: worker.item.weight,
            leaving: worker.item.state == WorkerState::Leaving,
        });
    let mut workers: Vec<WorkerView> = others.collect();
    workers.push(WorkerView { id: own.id.clone(), weight: own.weight, leaving: own.leaving });
    workers.sort_by(|a, b| a.id.cmp(&b.id));
    workers
}

/// How many other workers live and stay.
pub(crate) fn successors(seen: &Observations, me: &WorkerId, timing: LeaseTiming, now: Mono) -> usize {
    let stays = |worker: &&Seen<WorkerItem>| worker.item.id != *me && worker.item.state == WorkerState::Live;
    seen.workers().values().filter(stays).filter(|worker| !worker.stood_still(timing.duration(), now)).count()
}

/// Whether another owner must renew the lease.
fn watched(lease: &Seen<Lease>, own: &Own<'_>) -> bool {
    wants_an_owner(&lease.item) && !lease.item.evicted && !own.held.contains(&lease.item.key)
}

/// When the next lease of another owner expires unless it is seen to be renewed before.
pub(crate) fn next_expiry(seen: &Observations, timing: LeaseTiming, now: Mono) -> Option<Mono> {
    let owned = seen.leases().values().filter(|lease| wants_an_owner(&lease.item) && lease.item.owner.is_some());
    owned.map(|lease| lease.since + timing.duration()).filter(|at| *at > now).min()
}

/// The view for the plan: every lease that somebody should own. Finished and stopped ones are left out, those that wait for a parent,
/// and those that a request of this worker is under way for keep the owner they had.
pub(crate) fn view(
    seen: &Observations,
    own: &Own<'_>,
    streams: &Streams<'_>,
    limits: Limits,
    timing: LeaseTiming,
    now: Mono,
) -> View {
    let leases = seen
        .leases()
        .values()
        .filter(|lease| wants_an_owner(&lease.item) && streams.stream_of(&lease.item).is_some())
        .filter(|lease| own.held.contains(&lease.item.key) || parents_done(seen, &lease.item, streams))
        .map(|lease| LeaseView {
            key: lease.item.key.clone(),
            hold: hold(lease, own, timing, now),
            cost: load::cost(lease.item.load),
        })
        .collect();
    View { me: own.id.clone(), workers: live_workers(seen, own, timing, now), leases, now, limits }
}

fn hold(lease: &Seen<Lease>, own: &Own<'_>, timing: LeaseTiming, now: Mono) -> LeaseHold {
    let me = own.id.owner();
    if own.held.contains(&lease.item.key) || own.pending.contains(&lease.item.key) {
        return LeaseHold::Held { by: me, since: lease.owner_since };
    }
    let intended_for = lease.item.intended_for.clone();
    match &lease.item.owner {
        None => LeaseHold::Free { intended_for, since: lease.since },
        Some(_) if lease.stood_still(timing.duration(), now) => LeaseHold::Expired { intended_for, since: lease.since },
        Some(_) if lease.item.evicted => LeaseHold::Evicted { intended_for },
        Some(owner) => LeaseHold::Held { by: owner.clone(), since: lease.owner_since },
    }
}

/// Whether somebody should own the lease.
pub(crate) fn wants_an_owner(lease: &Lease) -> bool {
    !lease.is_finished() && lease.stop.is_none()
}

/// Leases that name this very incarnation as their owner although it does not hold them: a take or a finish whose answer was lost, or
/// a validity that lapsed. They are taken by a write before anything is delivered. An evicted one is not ours to take.
///
/// The children of a shard that is still held are left alone: their finish may be under way, and its answer begins them.
pub(crate) fn unclaimed<'a>(seen: &'a Observations, own: &Own<'_>, streams: &Streams<'_>) -> Vec<&'a Lease> {
    let me: Owner = own.id.owner();
    seen.leases()
        .values()
        .map(|lease| &lease.item)
        .filter(|lease| lease.owner.as_ref() == Some(&me) && !lease.evicted && wants_an_owner(lease))
        .filter(|lease| !own.held.contains(&lease.key) && !own.pending.contains(&lease.key))
        .filter(|lease| !parent_keys(lease, streams).iter().any(|parent| own.held.contains(parent)))
        .collect()
}

/// The streams that this worker consumes.
#[derive(Debug)]
pub(crate) struct Streams<'a> {
    pub(crate) arns: &'a [StreamArn],
    pub(crate) form: KeyForm,
}

impl Streams<'_> {
    /// The stream of a lease. A bare lease that does not say is of the only stream.
    pub(crate) fn stream_of(&self, lease: &Lease) -> Option<&StreamArn> {
        match &lease.stream {
            Some(stream) => self.arns.iter().find(|arn| *arn == stream),
            None => match self.form {
                KeyForm::Bare => self.arns.first(),
                KeyForm::Qualified => {
                    self.arns.iter().find(|arn| LeaseKey::of(KeyForm::Qualified, arn, &lease.shard) == lease.key)
                }
            },
        }
    }
}

/// Whether no parent of the lease, as far as the scan showed, is unfinished.
fn parents_done(seen: &Observations, lease: &Lease, streams: &Streams<'_>) -> bool {
    parent_keys(lease, streams).iter().all(|key| seen.leases().get(key).is_none_or(|parent| parent.item.is_finished()))
}

/// Parents that the scan did not show, of a lease that nobody has read yet: a scan may miss an item, so they are read one by one
/// before the lease is taken.
pub(crate) fn unseen_parents(seen: &Observations, lease: &Lease, streams: &Streams<'_>) -> Vec<LeaseKey> {
    if lease.checkpoint.sequence().is_some() {
        return Vec::new();
    }
    parent_keys(lease, streams).into_iter().filter(|key| !seen.leases().contains_key(key)).collect()
}

fn parent_keys(lease: &Lease, streams: &Streams<'_>) -> Vec<LeaseKey> {
    let Some(stream) = streams.stream_of(lease) else { return Vec::new() };
    lease.parents.iter().map(|parent| LeaseKey::of(streams.form, stream, parent)).collect()
}

/// Workers that have not shown a sign of life for so long that their items can go: fence those that are live, delete the fenced ones
/// that no lease names.
pub(crate) fn departed<'a>(
    seen: &'a Observations,
    own: &Own<'_>,
    timing: LeaseTiming,
    now: Mono,
) -> Vec<(&'a WorkerItem, Farewell)> {
    let long_gone = timing.duration() * 6;
    seen.workers()
        .values()
        .filter(|worker| worker.item.id != *own.id)
        .filter_map(|worker| match worker.item.state {
            WorkerState::Live | WorkerState::Leaving | WorkerState::Evicted => {
                worker.stood_still(long_gone, now).then_some((&worker.item, Farewell::Fence))
            }
            WorkerState::Fenced => {
                let owner = worker.item.id.owner();
                let named = seen.leases().values().any(|lease| lease.item.owner.as_ref() == Some(&owner));
                (!named).then_some((&worker.item, Farewell::Delete))
            }
        })
        .collect()
}

/// What is done about a worker that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Its next sign of life is refused.
    Fence,
    /// Its item goes.
    Delete,
}
