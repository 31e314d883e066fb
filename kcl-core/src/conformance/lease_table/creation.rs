//! Creation, deletion and reading of leases.

use futures::future::join_all;

use super::support::{full, id, millis, one_won, owned, owner, plain, refused};
use super::{CaseResult, LeaseTableBed};
use crate::model::{LeaseCounter, LeaseGuard, LeaseWrite, NewLease};

pub(super) async fn a_created_lease_reads_back_as_it_was_given(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    for new in
        [plain("shardId-plain"), full("shardId-full"), NewLease { key: id("shardId-bare"), ..full("shardId-bare") }]
    {
        assert_eq!(table.create(&new).await?, new.created());
        assert_eq!(table.get(&new.key).await?, Some(new.created()));
    }
    Ok(())
}

pub(super) async fn creation_never_overwrites_a_lease(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let lease = owned(&table, "shardId-a").await?;
    refused(table.create(&plain("shardId-a")).await, Some(&lease));
    assert_eq!(table.get(&lease.key).await?, Some(lease));
    Ok(())
}

pub(super) async fn creation_never_overwrites_a_foreign_item(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let new = plain("shardId-a");
    bed.put_foreign(new.key.as_str()).await;
    refused(table.create(&new).await, None);
    Ok(())
}

pub(super) async fn one_of_many_creators_wins(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let new: Vec<NewLease> =
        (0..8).map(|n| NewLease { owner: Some(owner(&format!("w/{n}"))), ..plain("shardId-a") }).collect();
    let winner = one_won(join_all(new.iter().map(|new| table.create(new))).await);
    assert_eq!(table.get(&winner.key).await?, Some(winner));
    Ok(())
}

pub(super) async fn a_lease_that_does_not_exist_reads_as_none(bed: &dyn LeaseTableBed) -> CaseResult {
    assert_eq!(bed.table().get(&plain("shardId-a").key).await?, None);
    Ok(())
}

pub(super) async fn the_longest_keys_are_kept(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let shard = format!("shardId-{}", "x".repeat(800));
    let lease = owned(&table, &shard).await?;
    let taken = table.write(&lease.key, &lease.guard(), &LeaseWrite::take(owner(&"w".repeat(1000)))).await?;
    assert_eq!(table.get(&lease.key).await?, Some(taken));
    Ok(())
}

pub(super) async fn a_lease_is_deleted_under_its_guard_alone(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let lease = owned(&table, "shardId-a").await?;
    let older = LeaseGuard { counter: LeaseCounter(-1), ..lease.guard() };
    let ownerless = LeaseGuard { owner: None, ..lease.guard() };
    let strange = LeaseGuard { owner: Some(owner("w/2")), ..lease.guard() };
    for guard in [older, ownerless, strange] {
        refused(table.delete(&lease.key, &guard).await, Some(&lease));
    }
    assert_eq!(table.get(&lease.key).await?.as_ref(), Some(&lease));
    table.delete(&lease.key, &lease.guard()).await?;
    assert_eq!(table.get(&lease.key).await?, None);
    Ok(())
}

pub(super) async fn a_write_from_before_a_lease_was_deleted_does_not_fit_the_one_created_after(
    bed: &dyn LeaseTableBed,
) -> CaseResult {
    let table = bed.table();
    let life = |began: u64| NewLease {
        counter: LeaseCounter::beginning(millis(began)),
        owner: Some(owner("w/1")),
        ..plain("shardId-a")
    };
    let (first, second) = (life(1_700_000_000_000), life(1_700_000_000_001));
    let before = table.create(&first).await?;
    table.delete(&before.key, &before.guard()).await?;
    let after = table.create(&second).await?;
    assert_eq!(after.counter, second.counter);
    refused(table.write(&before.key, &before.guard(), &LeaseWrite::release(None)).await, Some(&after));
    refused(table.delete(&before.key, &before.guard()).await, Some(&after));
    refused(table.finish(&before.key, &before.guard(), &[]).await, Some(&after));
    assert_eq!(table.get(&after.key).await?, Some(after));
    Ok(())
}

pub(super) async fn deleting_what_does_not_exist_is_ok(bed: &dyn LeaseTableBed) -> CaseResult {
    let lease = plain("shardId-a").created();
    bed.table().delete(&lease.key, &lease.guard()).await
}
