//! One round of a worker's look at its fleet: what it sees becomes the view that the plan decides on.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::balance::{LeaseHold, LeaseView, Limits, View, WorkerView};
use super::load;
use super::observe::{Observations, Seen};
use super::recall;
use super::tenure::LeaseTiming;
use crate::contract::{Liveness, Mono, WorkerItem, WorkerState};
use crate::model::{KeyForm, Lease, LeaseCounter, LeaseKey, Owner, StreamArn, WorkerId};
use crate::planted::{self, Bug};

/// What a worker knows of itself.
#[derive(Debug)]
pub(crate) struct Own<'a> {
    pub(crate) id: &'a WorkerId,
    pub(crate) weight: u32,
    /// How the death of a worker is seen.
    pub(crate) liveness: Liveness,
    /// It gives everything away.
    pub(crate) leaving: bool,
    /// Leases it holds.
    pub(crate) held: &'a BTreeSet<LeaseKey>,
    /// Leases that a request is under way for.
    pub(crate) pending: &'a BTreeSet<LeaseKey>,
}

/// The workers that are seen to live, the own one first of all. One that lets a lease expire is not among them: its own item may stand
/// still for a shorter time, and what it held would wait for it. Nor is one that has not shown a sign of life since it registered: a
/// registration may be applied long after its worker gave it up.
fn live_workers(
    seen: &Observations,
    own: &Own<'_>,
    negligent: &BTreeSet<Owner>,
    timing: LeaseTiming,
    now: Mono,
) -> Vec<WorkerView> {
    let others = seen
        .workers()
        .values()
        .filter(|worker| worker.item.id != *own.id && worker.item.state.lives())
        .filter(|worker| is_counted_on(worker, timing, now) && !negligent.contains(&worker.item.id.owner()))
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

/// Who else lets a lease expire.
fn negligent(seen: &Observations, own: &Own<'_>, timing: LeaseTiming, now: Mono) -> BTreeSet<Owner> {
    if own.liveness == Liveness::PerWorker {
        return BTreeSet::new();
    }
    let stood_still = seen.leases().values().filter(|lease| lease.stood_still(timing.duration(), now));
    let others = stood_still.filter(|lease| watched(lease, own)).filter_map(|lease| lease.item.owner.clone());
    others.filter(|owner| *owner != own.id.owner()).collect()
}

fn is_counted_on(worker: &Seen<WorkerItem>, timing: LeaseTiming, now: Mono) -> bool {
    worker.item.counter != LeaseCounter(0) && !is_silent(worker, timing, now)
}

fn is_silent(worker: &Seen<WorkerItem>, timing: LeaseTiming, now: Mono) -> bool {
    worker.seen_to_stand_still(timing.duration(), timing.renew_every(), now)
}

/// Whether nobody is late with anything: each other worker lives, and each lease that somebody should own has moved lately, where
/// leases must.
pub(crate) fn all_show_life(
    seen: &Observations,
    me: &WorkerId,
    liveness: Liveness,
    timing: LeaseTiming,
    now: Mono,
) -> bool {
    let lives = |worker: &Seen<WorkerItem>| {
        let counts = worker.item.state == WorkerState::Live && worker.item.counter != LeaseCounter(0);
        counts && !worker.stood_still(timing.duration(), now)
    };
    let mut leases = seen.leases().values().filter(|lease| wants_an_owner(&lease.item));
    seen.workers().values().all(|worker| worker.item.id == *me || lives(worker))
        && (liveness == Liveness::PerWorker || leases.all(|lease| !lease.stood_still(timing.duration(), now)))
}

/// How many other workers live and stay.
pub(crate) fn successors(seen: &Observations, me: &WorkerId, timing: LeaseTiming, now: Mono) -> usize {
    let stays = |worker: &&Seen<WorkerItem>| worker.item.id != *me && worker.item.state == WorkerState::Live;
    seen.workers().values().filter(stays).filter(|worker| is_counted_on(worker, timing, now)).count()
}

/// Whether another owner must renew the lease.
fn watched(lease: &Seen<Arc<Lease>>, own: &Own<'_>) -> bool {
    wants_an_owner(&lease.item) && !lease.item.evicted && !own.held.contains(&lease.item.key)
}

/// When the next lease of another owner, or the next other worker, expires unless it is seen to live before.
pub(crate) fn next_expiry(seen: &Observations, own: &Own<'_>, timing: LeaseTiming, now: Mono) -> Option<Mono> {
    match own.liveness {
        Liveness::PerLease => {
            let owned =
                seen.leases().values().filter(|lease| wants_an_owner(&lease.item) && lease.item.owner.is_some());
            owned.map(|lease| lease.since + timing.duration()).filter(|at| *at > now).min()
        }
        Liveness::PerWorker => {
            let watched = others(seen, own).filter(|worker| worker.item.state != WorkerState::Fenced);
            let ends = watched.map(|worker| (worker.since + timing.duration(), worker.checked));
            ends.filter(|(at, checked)| *at > now && at.since(*checked) <= timing.renew_every()).map(|(at, _)| at).min()
        }
    }
}

fn others<'a>(seen: &'a Observations, own: &Own<'_>) -> impl Iterator<Item = &'a Seen<WorkerItem>> {
    let me = own.id.clone();
    seen.workers().values().filter(move |worker| worker.item.id != me)
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
    let awaited = recall::awaited(seen, own, streams);
    let negligent = negligent(seen, own, timing, now);
    let leases = seen
        .leases()
        .values()
        .filter(|lease| wants_an_owner(&lease.item) && streams.stream_of(&lease.item).is_some())
        .filter(|lease| {
            let waiting = !planted::is(Bug::WaitingChildrenFillCap) && !parents_done(seen, &lease.item, streams);
            own.held.contains(&lease.item.key) || !waiting
        })
        .map(|lease| LeaseView {
            key: lease.item.key.clone(),
            hold: match hold(seen, lease, own, timing, now) {
                LeaseHold::Held { by, .. } if negligent.contains(&by) => LeaseHold::Expiring,
                hold => hold,
            },
            cost: load::cost(lease.item.load),
        })
        .filter(|lease| matches!(lease.hold, LeaseHold::Held { .. }) || !awaited.contains(&lease.key))
        .collect();
    let workers = live_workers(seen, own, &negligent, timing, now);
    // One that has not shown a sign of life since it registered is not counted on by anybody.
    let alive = others(seen, own).filter(|worker| worker.item.state.lives() && worker.item.counter != LeaseCounter(0));
    let doubtful = alive.count() + 1 > workers.len();
    View { me: own.id.clone(), workers, doubtful, leases, now, limits }
}

fn hold(seen: &Observations, lease: &Seen<Arc<Lease>>, own: &Own<'_>, timing: LeaseTiming, now: Mono) -> LeaseHold {
    let me = own.id.owner();
    if own.held.contains(&lease.item.key) || own.pending.contains(&lease.item.key) {
        return LeaseHold::Held { by: me, since: lease.owner_since };
    }
    let intended_for = lease.item.intended_for.clone();
    if let Some(by) = intended_for.clone().filter(|by| *by != me && planted::is(Bug::HandOverToDead)) {
        return LeaseHold::Held { by, since: lease.owner_since };
    }
    let Some(owner) = &lease.item.owner else { return LeaseHold::Free { intended_for, since: lease.since } };
    let has_item = own.liveness == Liveness::PerWorker && WorkerId::is_written_as(owner);
    let expired = match has_item {
        true if planted::is(Bug::StaleAbsence) => {
            let absent = worker_of(owner).is_some_and(|worker| !seen.workers().contains_key(&worker));
            absent.then_some(lease.since).or(seen.owner_gone_since(lease))
        }
        true if planted::is(Bug::NeitherFenceNorDropAll) => {
            let worker = worker_of(owner).and_then(|worker| seen.workers().get(&worker));
            let silent = worker.filter(|worker| is_silent(worker, timing, now));
            silent.map(|worker| worker.since).or(seen.owner_gone_since(lease))
        }
        true => seen.owner_gone_since(lease),
        // A worker of another library has no item: its leases are its only signs of life.
        false if lease.stood_still(timing.duration(), now) => {
            if intended_for.is_none() {
                return LeaseHold::Lapsed;
            }
            // Whom it is meant for could not claim it before it had expired.
            Some(lease.since + timing.duration())
        }
        false => None,
    };
    match (expired, own.liveness) {
        (Some(since), _) => LeaseHold::Expired { intended_for, since },
        (None, Liveness::PerLease) if lease.item.evicted => LeaseHold::Evicted { intended_for },
        (None, _) => LeaseHold::Held { by: owner.clone(), since: lease.owner_since },
    }
}

/// The worker that an owner names, if it is one of this library's.
pub(crate) fn worker_of(owner: &Owner) -> Option<WorkerId> {
    owner.as_str().parse().ok()
}

/// Owners that the table does not show to live, although leases name them: whether they are gone is asked for one by one. Only in
/// PerWorker, where that decides whether their leases may be taken.
pub(crate) fn doubted(seen: &Observations, own: &Own<'_>) -> BTreeSet<WorkerId> {
    if own.liveness == Liveness::PerLease {
        return BTreeSet::new();
    }
    let leases = seen.leases().values().filter(|lease| wants_an_owner(&lease.item));
    let owned = leases.filter(|lease| seen.owner_gone_since(lease).is_none());
    // Few own many: entered one by one, since a set that is collected sorts them all.
    let mut owners: BTreeSet<&Owner> = BTreeSet::new();
    owners.extend(owned.filter_map(|lease| lease.item.owner.as_ref()));
    owners
        .into_iter()
        .filter_map(worker_of)
        .filter(|id| id != own.id)
        .filter(|id| seen.workers().get(id).is_none_or(|worker| worker.item.state == WorkerState::Fenced))
        .collect()
}

/// What a worker that is gone held: all that may be taken at once.
pub(crate) fn estate<'a>(
    seen: &'a Observations,
    own: &Own<'_>,
    streams: &Streams<'_>,
    of: &WorkerId,
) -> Vec<&'a Lease> {
    let (owner, awaited) = (of.owner(), recall::awaited(seen, own, streams));
    seen.leases()
        .values()
        .filter(|lease| lease.item.owner.as_ref() == Some(&owner) && seen.owner_gone_since(lease).is_some())
        .map(|lease| &*lease.item)
        .filter(|lease| wants_an_owner(lease) && streams.stream_of(lease).is_some())
        .filter(|lease| !own.held.contains(&lease.key) && !own.pending.contains(&lease.key))
        .filter(|lease| parents_done(seen, lease, streams) && !awaited.contains(&lease.key))
        .collect()
}

/// Whether somebody should own the lease.
pub(crate) fn wants_an_owner(lease: &Lease) -> bool {
    !lease.is_finished() && (lease.stop.is_none() || planted::is(Bug::StoppedIsTaken))
}

/// Leases that name this very incarnation as their owner although it does not hold them: a take or a finish whose answer was lost, or
/// a validity that lapsed. They are taken by a write before anything is delivered. An evicted one is not ours to take.
///
/// The children of a shard that is still held are left alone: their finish may be under way, and its answer begins them.
pub(crate) fn unclaimed<'a>(seen: &'a Observations, own: &Own<'_>, streams: &Streams<'_>) -> Vec<&'a Lease> {
    let me: Owner = own.id.owner();
    seen.leases()
        .values()
        .map(|lease| &*lease.item)
        .filter(|lease| lease.owner.as_ref() == Some(&me) && wants_an_owner(lease))
        .filter(|lease| !lease.evicted || planted::is(Bug::EvictedTakesBack))
        .filter(|_| !planted::is(Bug::OwnNeverTakenUp))
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

/// The parents of a lease that nobody has read yet. They are read one by one before the lease is taken: a scan may miss an item, or
/// show it as it was before a rewind.
pub(crate) fn parents_to_read(lease: &Lease, streams: &Streams<'_>) -> Vec<LeaseKey> {
    if lease.checkpoint.sequence().is_some() {
        return Vec::new();
    }
    parent_keys(lease, streams)
}

/// The leases of the shards that this one continues.
pub(crate) fn parent_keys(lease: &Lease, streams: &Streams<'_>) -> Vec<LeaseKey> {
    let Some(stream) = streams.stream_of(lease) else { return Vec::new() };
    lease.parents.iter().map(|parent| LeaseKey::of(streams.form, stream, parent)).collect()
}

/// What is to be done about workers that show no sign of life: fence those that are live or evicted, delete the fenced ones that no
/// lease names. In PerWorker their leases hang on it. In PerLease their leases are taken one by one, and then the table is to say that they
/// are gone: workers that look rarely learn it from there. One that has leases and renews them may stay silent for long.
pub(crate) fn departed<'a>(
    seen: &'a Observations,
    own: &Own<'_>,
    timing: LeaseTiming,
    now: Mono,
) -> Vec<(&'a WorkerItem, Farewell)> {
    let is_named = |owner: &Owner| seen.leases().values().any(|lease| lease.item.owner.as_ref() == Some(owner));
    let gone = |worker: &Seen<WorkerItem>| match own.liveness {
        Liveness::PerLease => {
            worker.stood_still(timing.duration() * 6, now)
                || is_silent(worker, timing, now) && !is_named(&worker.item.id.owner())
        }
        Liveness::PerWorker => is_silent(worker, timing, now),
    };
    others(seen, own)
        .filter_map(|worker| match worker.item.state {
            WorkerState::Live | WorkerState::Leaving | WorkerState::Evicted => {
                gone(worker).then_some((&worker.item, Farewell::Fence))
            }
            WorkerState::Fenced => (!is_named(&worker.item.id.owner())).then_some((&worker.item, Farewell::Delete)),
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

#[cfg(test)]
mod tests;
