//! What a call writes, decided from what was seen. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{AdminError, Resume, RewindTo};
use crate::contract::MAX_WRITES;
use crate::model::{Change, Checkpoint, GuardedWrite, Lease, LeaseKey, LeaseWrite, Owner, StopReason};

/// Named as the holder of leases that nobody held: they must not be taken before a whole lease duration has passed, by which time
/// every read shows all of the step. It has the form of a worker's id, and there is no such worker.
const OPERATOR: &str = "operator/0000000000000000";

type Leases = BTreeMap<LeaseKey, Lease>;

/// A lease and all that continue it, directly or not, parents first.
pub(super) fn lineage_of(leases: &Leases, key: &LeaseKey) -> Result<Vec<LeaseKey>, AdminError> {
    let first = leases.get(key).ok_or_else(|| AdminError::NoLease { key: key.clone() })?;
    let (mut lineage, mut seen) = (vec![key.clone()], BTreeSet::from([key]));
    let mut parents = vec![first];
    while !parents.is_empty() {
        let is_child = |lease: &&Lease| parents.iter().any(|parent| continues(lease, parent));
        let children: Vec<&Lease> = leases.values().filter(is_child).filter(|lease| seen.insert(&lease.key)).collect();
        lineage.extend(children.iter().map(|lease| lease.key.clone()));
        parents = children;
    }
    Ok(lineage)
}

/// A lease, all that continue it, and the children that they name and no scan has shown yet: a scan takes a while, and a parent may
/// have been finished in the midst of it.
pub(super) fn named_lineage_of(leases: &Leases, key: &LeaseKey) -> Result<Vec<LeaseKey>, AdminError> {
    let mut lineage = lineage_of(leases, key)?;
    let parents = lineage.iter().filter_map(|key| leases.get(key));
    let named = parents.flat_map(|parent| {
        let keys = parent.children.iter().map(|child| format!("{}{child}", parent.key_prefix()));
        keys.filter_map(|key| key.parse::<LeaseKey>().ok()).filter(|key| !leases.contains_key(key))
    });
    let named: BTreeSet<LeaseKey> = named.collect();
    lineage.extend(named);
    Ok(lineage)
}

pub(super) fn continues(child: &Lease, parent: &Lease) -> bool {
    child.parents.contains(&parent.shard) && child.key_prefix() == parent.key_prefix()
}

/// The leases of which no parent has one.
pub(super) fn roots(leases: &Leases, of_stream: impl Fn(&Lease) -> bool) -> Vec<LeaseKey> {
    let all: Vec<&Lease> = leases.values().filter(|lease| of_stream(lease)).collect();
    let shards: BTreeSet<_> = all.iter().map(|lease| &lease.shard).collect();
    let is_root = |lease: &&&Lease| !lease.parents.iter().any(|parent| shards.contains(parent));
    all.iter().filter(is_root).map(|lease| lease.key.clone()).collect()
}

/// The writes that take a lease back and let everything that continues it begin again, the lease itself first. None, if nothing of
/// it has been read.
///
/// Nobody may read the lease while a worker may still read what continues it. So it is held by one of those workers: what expires
/// for an observer after this step was written together with theirs, so by then they all have stopped.
pub(super) fn rewind(leases: &Leases, key: &LeaseKey, to: RewindTo) -> Result<Vec<GuardedWrite>, AdminError> {
    let lineage: Vec<&Lease> = lineage_of(leases, key)?.iter().filter_map(|key| leases.get(key)).collect();
    let Some((target, descendants)) = lineage.split_first() else { return Ok(Vec::new()) };
    let begun = || descendants.iter().copied().filter(|lease| has_begun(lease));
    let wanted = to.checkpoint();
    if wanted > target.checkpoint && to != RewindTo::TrimHorizon {
        return Err(AdminError::NotBack { key: key.clone(), at: target.checkpoint, to: wanted });
    }
    // Whoever reads the shard may be beyond its checkpoint, and is to let go all the same.
    let is_there = wanted == target.checkpoint && reader(target).is_none() && target.pending.is_none();
    if begun().next().is_none() && (is_there || !has_begun(target)) {
        return Ok(Vec::new());
    }
    if lineage.len() > MAX_WRITES {
        return Err(AdminError::TooManyDescendants { key: key.clone(), count: lineage.len(), limit: MAX_WRITES });
    }
    let held_by = reader(target).or_else(|| begun().find_map(reader));
    let accepting = |write: LeaseWrite| match to {
        RewindTo::TrimHorizon => write.accepting_loss(),
        RewindTo::After(_) => write,
    };
    let mut writes = vec![super::guarded(target, accepting(LeaseWrite::rewind(wanted, held_by.cloned())))];
    let operator: Option<Owner> = OPERATOR.parse().ok();
    // Those too that nobody has begun with: a take that found the parent finished may be under way.
    for lease in descendants {
        let held_by = reader(lease).cloned().or_else(|| operator.clone());
        writes.push(super::guarded(lease, accepting(LeaseWrite::rewind(Checkpoint::TrimHorizon, held_by))));
    }
    Ok(writes)
}

/// Whether anything may have been read under the lease.
fn has_begun(lease: &Lease) -> bool {
    lease.owner.is_some() || lease.is_finished() || lease.checkpoint.sequence().is_some() || lease.pending.is_some()
}

/// Who may read the shard. The Java library leaves the owner of a finished lease named.
fn reader(lease: &Lease) -> Option<&Owner> {
    lease.owner.as_ref().filter(|_| !lease.is_finished())
}

/// Who holds the first of the leases.
pub(super) fn holder(writes: &[GuardedWrite]) -> Option<&Owner> {
    match &writes.first()?.write.owner {
        Change::Set(owner) => Some(owner),
        Change::Keep | Change::Clear => None,
    }
}

/// The write that lets a stopped shard be read again.
pub(super) fn clear_stop(lease: &Lease, resume: Resume) -> Result<LeaseWrite, AdminError> {
    let key = || lease.key.clone();
    match (&lease.stop, resume) {
        (None, _) => Err(AdminError::NotStopped { key: key() }),
        (Some(_), Resume::Retry) => Ok(LeaseWrite::clear_stop()),
        (Some(StopReason::DataLost { .. }), Resume::SkipLost) => Ok(LeaseWrite::clear_stop().accepting_loss()),
        (Some(reason), Resume::SkipLost) => Err(AdminError::NotALoss { key: key(), reason: reason.clone() }),
    }
}
