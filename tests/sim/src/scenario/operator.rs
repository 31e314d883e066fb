//! What an operator does to a fleet.

use std::time::Duration;

use kcl_core::{Admin, AdminError, Lease, Record, Resume, RewindTo};

use crate::Handle;
use crate::fleet::Fleet;
use crate::rng::below;

/// Clears every stop that it sees: of shards that stopped at a record, not at a loss.
pub(super) async fn operate(sim: Handle, fleet: Fleet, every: Duration) {
    let admin = Admin::new(fleet.services().0, sim.rt());
    loop {
        sim.sleep(every).await;
        for lease in fleet.leases.leases().into_iter().filter(|lease| lease.stop.is_some()) {
            match admin.clear_stop(&lease.key, Resume::Retry).await {
                Ok(_) | Err(AdminError::NotStopped { .. } | AdminError::Contended { .. }) => {}
                Err(error) => sim.fail(format!("the stop of {} was not cleared: {error}", lease.shard)),
            }
        }
    }
}

/// Takes a shard back whose lease is chosen by the number: to its beginning, or so many parts of a thousand into what was written to it.
pub(super) async fn rewind(sim: Handle, fleet: Fleet, which: u64, to: u64) {
    let leases: Vec<Lease> = fleet.leases.leases().into_iter().filter(|lease| lease.start_at.is_none()).collect();
    let Some(lease) = leases.get(below(which, leases.len())) else { return };
    let written = fleet.service.written(&fleet.stream).into_iter().find(|(shard, _)| *shard == lease.shard);
    let written = written.map(|(_, records)| records).unwrap_or_default();
    let at = written.get(written.len() * usize::try_from(to).unwrap_or(0) / 1000).map(Record::sequence_number);
    let to = at.filter(|_| to > 0).map_or(RewindTo::TrimHorizon, RewindTo::After);
    match Admin::new(fleet.operators_table(), sim.rt()).rewind(&lease.key, to).await {
        // It may have gone on, or not have come so far.
        Ok(_) | Err(AdminError::NotBack { .. } | AdminError::NoLease { .. } | AdminError::Contended { .. }) => {}
        Err(AdminError::TooManyDescendants { .. }) => {}
        Err(error) => sim.fail(format!("{} was not taken back: {error}", lease.shard)),
    }
}
