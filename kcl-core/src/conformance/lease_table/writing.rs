//! Conditional writes of a lease.

use bytes::Bytes;
use futures::future::join_all;

use super::support::{full, id, millis, number, one_won, owned, owner, plain, refused, step};
use super::{CaseResult, LeaseTableBed};
use crate::model::{
    Change, Checkpoint, LeaseCounter, LeaseGuard, LeaseWrite, NewLease, PendingCheckpoint, StopReason, Tip,
};

fn pending(n: u128, state: Option<&'static [u8]>) -> PendingCheckpoint {
    PendingCheckpoint { at: Checkpoint::Sequence(number(n)), state: state.map(Bytes::from_static) }
}

/// Every constructor, alone and with what may ride on it.
fn writes() -> Vec<LeaseWrite> {
    let at = Some(Checkpoint::Sequence(number(100)));
    let tip = Tip { at: millis(1_750_000_000_007), checkpoint: Checkpoint::Sequence(number(100)) };
    let failed = StopReason::ProcessorFailed { error: "it: broke".to_owned() };
    let mut writes = vec![
        LeaseWrite::renew(),
        LeaseWrite::take(owner("w/2")),
        LeaseWrite::take(owner("w/1")),
        LeaseWrite::release(None),
        LeaseWrite::release(Some(owner("w/3"))),
        LeaseWrite::evict(owner("w/3")),
        LeaseWrite::stop(failed),
        LeaseWrite::stop(StopReason::DataLost { lost: "1..2".to_owned() }),
        LeaseWrite::stop(StopReason::Other { text: "by hand".to_owned() }),
        LeaseWrite::clear_stop(),
        LeaseWrite::finish([id("shardId-b"), id("shardId-c")].into()),
        LeaseWrite::finish([].into()),
        LeaseWrite::renew().with_pending(pending(200, Some(b"state"))),
        LeaseWrite::renew().with_pending(pending(200, None)),
        LeaseWrite { pending: Change::Clear, ..LeaseWrite::default() },
        LeaseWrite { start_at: Change::Set(millis(1_800_000_000_001)), ..LeaseWrite::default() },
        LeaseWrite::renew().with_tip(Some(tip)),
        LeaseWrite { tip: Change::Clear, ..LeaseWrite::default() },
        LeaseWrite { children: Some([].into()), ..LeaseWrite::default() },
        LeaseWrite { evict: true, ..LeaseWrite::take(owner("w/2")) },
        LeaseWrite::clear_stop().accepting_loss(),
        LeaseWrite::rewind(Checkpoint::TrimHorizon, None),
        LeaseWrite::rewind(Checkpoint::Sequence(number(3)), Some(owner("w/1"))),
        LeaseWrite::rewind(Checkpoint::TrimHorizon, Some(owner("w/2"))).accepting_loss(),
        LeaseWrite { owner: Change::Clear, ..LeaseWrite::strip() },
        LeaseWrite::strip().accepting_loss(),
    ];
    let riding: Vec<LeaseWrite> =
        writes.iter().flat_map(|write| [write.clone().with_checkpoint(at), write.clone().without_start_at()]).collect();
    writes.extend(riding);
    writes
}

pub(super) async fn every_write_leaves_exactly_what_it_means(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    for (n, write) in writes().iter().enumerate() {
        let fresh = table.create(&NewLease { owner: None, ..full(&format!("shardId-free-{n}")) }).await?;
        step(&table, &fresh, write).await?;
        let mut lease = table.create(&full(&format!("shardId-full-{n}"))).await?;
        // Something of everything, so that what is to be removed was there.
        lease = step(&table, &lease, &LeaseWrite::take(owner("w/0"))).await?;
        lease = step(&table, &lease, &LeaseWrite::stop(StopReason::Other { text: "x".to_owned() })).await?;
        lease = step(&table, &lease, &LeaseWrite::take(owner("w/1"))).await?;
        lease = step(&table, &lease, &LeaseWrite::evict(owner("w/9"))).await?;
        lease = step(&table, &lease, &LeaseWrite::renew().with_pending(pending(5, Some(b"\0\xff")))).await?;
        step(&table, &lease, write).await?;
    }
    Ok(())
}

pub(super) async fn writes_in_a_row_leave_exactly_what_they_mean(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let mut lease = table.create(&full("shardId-a")).await?;
    for write in writes().iter().chain(writes().iter().rev()) {
        lease = step(&table, &lease, write).await?;
    }
    for checkpoint in [Checkpoint::AtTimestamp, Checkpoint::Latest, Checkpoint::TrimHorizon, Checkpoint::ShardEnd] {
        lease = step(&table, &lease, &LeaseWrite::renew().with_checkpoint(Some(checkpoint))).await?;
    }
    Ok(())
}

pub(super) async fn a_write_on_another_counter_is_refused(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let old = owned(&table, "shardId-a").await?;
    let lease = step(&table, &old, &LeaseWrite::renew()).await?;
    let ahead = LeaseGuard { counter: LeaseCounter(2), ..lease.guard() };
    for guard in [old.guard(), ahead] {
        refused(table.write(&lease.key, &guard, &LeaseWrite::renew()).await, Some(&lease));
    }
    assert_eq!(table.get(&lease.key).await?, Some(lease));
    Ok(())
}

pub(super) async fn a_write_on_another_owner_is_refused(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let lease = owned(&table, "shardId-a").await?;
    let guard = LeaseGuard { owner: Some(owner("w/2")), ..lease.guard() };
    refused(table.write(&lease.key, &guard, &LeaseWrite::renew()).await, Some(&lease));
    assert_eq!(table.get(&lease.key).await?, Some(lease));
    Ok(())
}

pub(super) async fn a_write_that_saw_no_owner_is_refused_by_one(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let lease = owned(&table, "shardId-a").await?;
    let guard = LeaseGuard { owner: None, ..lease.guard() };
    refused(table.write(&lease.key, &guard, &LeaseWrite::take(owner("w/2"))).await, Some(&lease));
    assert_eq!(table.get(&lease.key).await?, Some(lease));
    Ok(())
}

pub(super) async fn a_write_that_saw_an_owner_is_refused_by_none(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let lease = table.create(&plain("shardId-a")).await?;
    let guard = LeaseGuard { owner: Some(owner("w/1")), ..lease.guard() };
    refused(table.write(&lease.key, &guard, &LeaseWrite::renew()).await, Some(&lease));
    assert_eq!(table.get(&lease.key).await?, Some(lease));
    Ok(())
}

pub(super) async fn a_lease_that_does_not_exist_is_not_written(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let lease = plain("shardId-a").created();
    refused(table.write(&lease.key, &lease.guard(), &LeaseWrite::take(owner("w/1"))).await, None);
    assert_eq!(table.get(&lease.key).await?, None);
    Ok(())
}

pub(super) async fn one_of_many_writers_wins(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let mut lease = owned(&table, "shardId-a").await?;
    for round in 0..5 {
        let takes: Vec<LeaseWrite> = (0..8).map(|n| LeaseWrite::take(owner(&format!("w/{round}-{n}")))).collect();
        let guard = lease.guard();
        let winner = one_won(join_all(takes.iter().map(|take| table.write(&lease.key, &guard, take))).await);
        assert_eq!(winner.counter, lease.counter.next());
        assert_eq!(table.get(&lease.key).await?.as_ref(), Some(&winner));
        lease = winner;
    }
    Ok(())
}

pub(super) async fn an_acknowledged_write_is_seen_by_the_next_read(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let mut lease = owned(&table, "shardId-a").await?;
    for n in 0..20 {
        let at = Checkpoint::Sequence(number(n));
        lease = step(&table, &lease, &LeaseWrite::renew().with_checkpoint(Some(at))).await?;
    }
    assert_eq!(lease.counter, LeaseCounter(20));
    Ok(())
}

pub(super) async fn writes_keep_unknown_attributes(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let mut lease = owned(&table, "shardId-a").await?;
    bed.put_attribute(lease.key.as_str(), "notOurs", "kept").await;
    for write in writes() {
        lease = step(&table, &lease, &write).await?;
    }
    assert_eq!(bed.attribute(lease.key.as_str(), "notOurs").await.as_deref(), Some("kept"));
    Ok(())
}
