//! Whether everything has come right, and what an application need not be given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kcl_core::{Record, ShardId, TableItem};

use super::Scenario;
use super::crew::Crew;
use super::plan::{Plan, Start};
use crate::fleet::Fleet;
use crate::invariant::{ShardFact, tombstones};
use crate::{Handle, Truth, epoch};

/// What is not yet as it should be.
pub(super) fn unsettled(application: usize, fleet: &Fleet, crew: &Crew, plan: &Plan) -> Result<Option<String>, String> {
    let (mut live, mut states) = (BTreeMap::new(), BTreeMap::new());
    let mut early = None;
    let empty = crew.each_of(application, |member| {
        if let Some(ended) = member.main.now() {
            early = Some(format!("{:?} has ended by itself: {ended:?}", member.node));
        }
        if let Some(status) = member.handle().map(|handle| handle.status())
            && let Some(worker) = status.worker
        {
            states.extend(status.shards.iter().map(|shard| (shard.shard.clone(), format!("{shard:?}"))));
            let owned: BTreeSet<ShardId> = status.shards.into_iter().map(|shard| shard.shard).collect();
            live.insert(worker.to_string(), owned);
        } else {
            early = early.take().or(Some(String::new()));
        }
    });
    match early {
        Some(what) if !what.is_empty() => return Err(what),
        Some(_) => return Ok(Some("a worker has not begun".to_owned())),
        None if empty > 0 => return Ok(Some(format!("{empty} workers are away at {:?}", fleet.sim.now()))),
        None => {}
    }
    let leases = fleet.leases.leases();
    let mut unfinished = 0;
    for lease in leases.iter().filter(|lease| !lease.is_finished()) {
        unfinished += 1;
        let owner = lease.owner.as_ref().map(ToString::to_string);
        let owned = owner.as_ref().and_then(|owner| live.get(owner));
        if !owned.is_some_and(|owned| owned.contains(&lease.shard)) {
            return Ok(Some(format!("{} is not read, its owner is {owner:?}, its stop {:?}", lease.shard, lease.stop)));
        }
    }
    let views = fleet.shards();
    let closed: BTreeSet<&ShardId> =
        views.iter().filter(|view| view.closed.is_some()).map(|view| &view.shard.id).collect();
    if let Some(lease) = leases.iter().find(|lease| !lease.is_finished() && closed.contains(&lease.shard)) {
        let state = states.get(&lease.shard);
        return Ok(Some(format!("{} is closed and not finished: {state:?}, {lease:?}", lease.shard)));
    }
    let leased: BTreeSet<&ShardId> = leases.iter().map(|lease| &lease.shard).collect();
    if let Some(open) = fleet.service.open_shards(&fleet.newest_stream()).iter().find(|shard| !leased.contains(shard)) {
        return Ok(Some(format!("the open shard {open} has no lease")));
    }
    // A fleet that was away for a day has just finished what is gone, and lists twice before it deletes.
    let now = fleet.sim.now();
    let overdue = views.into_iter().map(ShardFact::from).find(|fact| {
        let lease = leases.iter().find(|lease| lease.shard == fact.shard);
        lease.is_some_and(|lease| tombstones::is_overdue(lease, fact, now, plan.settles_within()))
    });
    if let Some(fact) = overdue {
        return Ok(Some(format!("the tombstone of {}, which is gone, is still there", fact.shard)));
    }
    let items = fleet.leases.snapshot();
    let workers = items.iter().filter_map(|item| match item {
        TableItem::Worker(worker) => Some(worker),
        _ => None,
    });
    if let Some(gone) = workers.clone().find(|worker| !live.contains_key(&worker.id.to_string())) {
        return Ok(Some(format!("the item of {}, which is gone, is still there", gone.id)));
    }
    let loads: Vec<(u64, usize)> =
        workers.map(|worker| (worker.weight.into(), live[&worker.id.to_string()].len())).collect();
    if let Some((a, b)) = uneven(&loads) {
        return Ok(Some(format!("the shares are uneven by weight: {a:?} and {b:?} of {loads:?}")));
    }
    let counts: Vec<usize> = live.values().map(BTreeSet::len).collect();
    let (least, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
    if counts.iter().sum::<usize>() != unfinished {
        return Ok(Some(format!("{unfinished} shards are unfinished, and the workers own {counts:?}")));
    }
    let even = !plan.weights.is_empty() || most <= least + 1;
    Ok((!even).then(|| format!("the shares are uneven: {counts:?}")))
}

/// Two workers, each with its weight and what it owns, of which the first owns so much more for its weight that to move a shard brings
/// them nearer to each other by clearly more than it brings them apart: half as much again.
fn uneven(loads: &[(u64, usize)]) -> Option<((u64, usize), (u64, usize))> {
    let apart = |(a, from): (u64, usize), (b, to): (u64, usize)| (from as u64 * b).saturating_sub(to as u64 * a);
    let is_uneven = |a: (u64, usize), b: (u64, usize)| 2 * (a.0 + b.0) <= 3 * apart(a, b);
    loads.iter().find_map(|a| loads.iter().find(|b| is_uneven(*a, **b)).map(|b| (*a, *b)))
}

/// What had been written, and the shards that were closed.
type Then = (Counts, BTreeSet<ShardId>);

/// How many records each shard had at an instant.
type Counts = BTreeMap<ShardId, usize>;

/// How wrong a worker's clock may be by when it fixes the beginning, in parts of its age, and the longest of a request and a look.
const WRONG: u32 = 40;
const LOOK: Duration = Duration::from_millis(20);

/// What was there when an application that begins with what comes had begun: at the instant that its marker says, by a clock that may be
/// a little wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Beginning {
    found: Arc<Mutex<Option<Then>>>,
}

impl Beginning {
    pub(super) async fn watch(self, sim: Handle, fleet: Fleet, plan: Arc<Plan>) {
        let from = plan.start.workers_from();
        sim.sleep(from).await;
        let mut looks: Vec<(Duration, Then)> = Vec::new();
        loop {
            let views = fleet.shards();
            let closed = views.iter().filter(|view| view.closed.is_some()).map(|view| view.shard.id.clone()).collect();
            let counts = views.iter().map(|view| (view.shard.id.clone(), view.written as usize)).collect();
            let then: Then = (counts, closed);
            if looks.last().is_none_or(|(_, last)| *last != then) {
                looks.push((sim.now(), then));
            }
            let fixed = fleet.leases.snapshot().into_iter().find_map(|item| match item {
                TableItem::Marker(marker) => Some(marker.at),
                _ => None,
            });
            if let Some(fixed) = fixed {
                let fixed = fixed.duration_since(epoch()).unwrap_or_default();
                let latest = fixed + (sim.now() - from) / WRONG + LOOK;
                // The last look by then.
                let after = looks.partition_point(|(at, _)| *at <= latest);
                let found = looks.into_iter().nth(after.saturating_sub(1)).map(|(_, then)| then);
                *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
                return;
            }
            sim.sleep(LOOK).await;
        }
    }
}

/// What was written, and of it what the application need not be given.
pub(super) fn wanted(fleet: &Fleet, plan: &Plan, beginning: &Beginning) -> Truth {
    let mut truth = fleet.truth();
    match plan.start {
        Start::Oldest => {}
        Start::Latest(_) => {
            let found = beginning.found.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((then, closed)) = &*found else { return truth };
            for (shard, before) in then {
                if let Some(now) = truth.shards.get_mut(shard) {
                    now.optional = *before;
                    now.gone = closed.contains(shard);
                }
            }
        }
        Start::At(at, _) => {
            let from: SystemTime = epoch() + at;
            for (shard, records) in fleet.service.written(&fleet.stream) {
                let old = records.iter().take_while(|record| record.created_at() < Some(from)).count();
                let unwanted = |record: &&Record| record.created_at() < Some(from - plan.config.start_slack);
                if let Some(shard) = truth.shards.get_mut(&shard) {
                    (shard.optional, shard.unwanted) = (old, records.iter().take_while(unwanted).count());
                }
            }
        }
    }
    if plan.scenario == Scenario::Outage {
        forget_unknown(fleet, &mut truth);
    }
    truth
}

/// Shards that came and went while nobody looked, and whose children did too: nobody can know of them.
fn forget_unknown(fleet: &Fleet, truth: &mut Truth) {
    let views = fleet.shards();
    let known: BTreeSet<ShardId> = fleet.history.entries().into_iter().map(|entry| entry.shard).collect();
    let here: BTreeSet<&ShardId> = views.iter().filter(|view| !view.vanished).map(|view| &view.shard.id).collect();
    for view in views.iter().filter(|view| view.vanished && !known.contains(&view.shard.id)) {
        // A child that has left the stream too may have been reported as lost; of the shards before it nobody knows.
        let continued = view.children.iter().any(|child| here.contains(child));
        if let Some(shard) = truth.shards.get_mut(&view.shard.id).filter(|_| !continued) {
            (shard.optional, shard.gone) = (shard.written.len(), true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::uneven;

    #[test]
    fn shares_are_uneven_where_one_more_move_brings_them_clearly_nearer_to_the_weights() {
        assert_eq!(uneven(&[(100, 2), (100, 3)]), None);
        assert_eq!(uneven(&[(100, 2), (100, 4)]), Some(((100, 4), (100, 2))));
        assert_eq!(uneven(&[(100, 2), (400, 8)]), None);
        assert_eq!(uneven(&[(100, 5), (400, 5)]), Some(((100, 5), (400, 5))));
        assert_eq!(uneven(&[(50, 0), (400, 3)]), None, "half a shard is its share");
    }
}
