//! Finishing a shard: one step over several items.

use futures::future::join_all;

use super::support::{full, one_won, owned, owner, plain, refused};
use super::{CaseResult, LeaseTableBed};
use crate::model::{Lease, LeaseCounter, LeaseGuard, LeaseWrite, NewLease};

fn children(of: &Lease, by: &str) -> [NewLease; 2] {
    ["shardId-b", "shardId-c"].map(|shard| NewLease {
        parent: Some(of.shard.clone()),
        owner: Some(owner(by)),
        root: false,
        ..full(shard)
    })
}

fn ended(parent: &Lease, children: &[NewLease]) -> Lease {
    parent.after(&LeaseWrite::finish(children.iter().map(|child| child.shard.clone()).collect()))
}

pub(super) async fn finishing_ends_the_parent_and_creates_the_children(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let parent = owned(&table, "shardId-a").await?;
    let children = children(&parent, "w/1");
    let created = table.finish(&parent.key, &parent.guard(), &children).await?;
    assert_eq!(created, children.each_ref().map(NewLease::created));
    for child in &children {
        assert_eq!(table.get(&child.key).await?, Some(child.created()));
    }
    let parent_now = table.get(&parent.key).await?;
    assert_eq!(parent_now, Some(ended(&parent, &children)));
    assert!(parent_now.is_some_and(|lease| lease.is_finished() && lease.owner.is_none()));
    Ok(())
}

pub(super) async fn a_refused_finish_creates_nothing(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let parent = owned(&table, "shardId-a").await?;
    let children = children(&parent, "w/1");
    let older = LeaseGuard { counter: LeaseCounter(-1), ..parent.guard() };
    let strange = LeaseGuard { owner: Some(owner("w/2")), ..parent.guard() };
    let ownerless = LeaseGuard { owner: None, ..parent.guard() };
    for guard in [older, strange, ownerless] {
        refused(table.finish(&parent.key, &guard, &children).await, Some(&parent));
    }
    let absent = plain("shardId-z").created();
    refused(table.finish(&absent.key, &absent.guard(), &children).await, None);
    // Also when a child exists, so that both conditions fail at once.
    let existing = table.create(&children[0]).await?;
    refused(table.finish(&absent.key, &absent.guard(), &children).await, None);
    assert_eq!(table.get(&parent.key).await?, Some(parent));
    assert_eq!(table.get(&children[0].key).await?, Some(existing));
    assert_eq!(table.get(&children[1].key).await?, None);
    Ok(())
}

pub(super) async fn finishing_leaves_an_existing_child_alone(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let parent = owned(&table, "shardId-a").await?;
    let children = children(&parent, "w/1");
    let first = table.create(&NewLease { owner: Some(owner("w/2")), ..children[0].clone() }).await?;
    let first = table.write(&first.key, &first.guard(), &LeaseWrite::renew()).await?;
    let created = table.finish(&parent.key, &parent.guard(), &children).await?;
    assert_eq!(created, [children[1].created()]);
    assert_eq!(table.get(&first.key).await?, Some(first));
    assert_eq!(table.get(&parent.key).await?, Some(ended(&parent, &children)));

    let other = owned(&table, "shardId-d").await?;
    assert_eq!(table.finish(&other.key, &other.guard(), &children).await?, []);
    assert_eq!(table.get(&other.key).await?, Some(ended(&other, &children)));
    Ok(())
}

pub(super) async fn finishing_without_children_ends_the_parent(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let parent = owned(&table, "shardId-a").await?;
    assert_eq!(table.finish(&parent.key, &parent.guard(), &[]).await?, []);
    assert_eq!(table.get(&parent.key).await?, Some(ended(&parent, &[])));
    Ok(())
}

pub(super) async fn one_of_many_finishers_wins(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let parent = owned(&table, "shardId-a").await?;
    let guard = parent.guard();
    let plans: Vec<_> = (0..4).map(|n| children(&parent, &format!("w/{n}"))).collect();
    let created = one_won(join_all(plans.iter().map(|plan| table.finish(&parent.key, &guard, plan))).await);
    assert_eq!(created.len(), 2);
    for child in created {
        assert_eq!(table.get(&child.key).await?, Some(child));
    }
    Ok(())
}

pub(super) async fn finishing_keeps_unknown_attributes(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let parent = owned(&table, "shardId-a").await?;
    bed.put_attribute(parent.key.as_str(), "notOurs", "kept").await;
    table.finish(&parent.key, &parent.guard(), &children(&parent, "w/1")).await?;
    assert_eq!(bed.attribute(parent.key.as_str(), "notOurs").await.as_deref(), Some("kept"));
    Ok(())
}
