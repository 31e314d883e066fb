//! What an operator writes: several leases at once, and what takes the library's own things away.

use futures::future::join_all;

use super::support::{full, millis, number, one_won, owned, owner, plain, refused, step, stream};
use super::{CaseResult, LeaseTableBed};
use crate::contract::{BootstrapMarker, LeaseErrorKind, Liveness, MAX_WRITES, SCHEMA_VERSION, TableMeta};
use crate::model::{Checkpoint, GuardedWrite, KeyForm, Lease, LeaseGuard, LeaseWrite, StartPosition, StopReason};

fn guarded(lease: &Lease, write: LeaseWrite) -> GuardedWrite {
    GuardedWrite { key: lease.key.clone(), seen: lease.guard(), write }
}

fn rewind() -> LeaseWrite {
    LeaseWrite::rewind(Checkpoint::TrimHorizon, None).accepting_loss()
}

pub(super) async fn writes_together_leave_exactly_what_each_means(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let parent = owned(&table, "shardId-a").await?;
    let parent = step(&table, &parent, &LeaseWrite::finish([].into())).await?;
    let child = table.create(&full("shardId-b")).await?;
    let held = LeaseWrite::rewind(Checkpoint::Sequence(number(5)), child.owner.clone());
    table.write_all(&[guarded(&parent, held.clone()), guarded(&child, rewind())]).await?;
    assert_eq!(table.get(&parent.key).await?, Some(parent.after(&held)));
    assert_eq!(table.get(&child.key).await?, Some(child.after(&rewind())));
    let one = table.create(&plain("shardId-c")).await?;
    table.write_all(&[guarded(&one, LeaseWrite::take(owner("w/2")))]).await?;
    assert_eq!(table.get(&one.key).await?, Some(one.after(&LeaseWrite::take(owner("w/2")))));
    table.write_all(&[]).await
}

pub(super) async fn writes_together_are_refused_together(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let first = owned(&table, "shardId-a").await?;
    let old = owned(&table, "shardId-b").await?;
    let second = step(&table, &old, &LeaseWrite::renew()).await?;
    let absent = plain("shardId-z").created();
    let strange = GuardedWrite {
        seen: LeaseGuard { owner: Some(owner("w/9")), ..second.guard() },
        ..guarded(&second, LeaseWrite::renew())
    };
    for wrong in [guarded(&old, rewind()), guarded(&absent, rewind()), strange] {
        let stands = (wrong.key == second.key).then_some(&second);
        refused(table.write_all(&[guarded(&first, rewind()), wrong.clone()]).await, stands);
        refused(table.write_all(&[wrong, guarded(&first, rewind())]).await, stands);
    }
    assert_eq!(table.get(&first.key).await?, Some(first));
    assert_eq!(table.get(&second.key).await?, Some(second));
    assert_eq!(table.get(&absent.key).await?, None);
    Ok(())
}

pub(super) async fn one_of_many_groups_of_writes_wins(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let leases = [owned(&table, "shardId-a").await?, owned(&table, "shardId-b").await?];
    let groups: Vec<Vec<GuardedWrite>> = (0..4)
        .map(|n| {
            let take = LeaseWrite::take(owner(&format!("taker/{n}")));
            leases.iter().map(|lease| guarded(lease, take.clone())).collect()
        })
        .collect();
    one_won(join_all(groups.iter().map(|group| table.write_all(group))).await);
    let (a, b) = (table.get(&leases[0].key).await?, table.get(&leases[1].key).await?);
    let owners = [a, b].map(|lease| lease.and_then(|lease| lease.owner));
    assert_eq!(owners[0], owners[1], "both writes of one group");
    assert_ne!(owners[0], leases[0].owner);
    Ok(())
}

pub(super) async fn too_many_writes_together_are_refused(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let writes: Vec<GuardedWrite> =
        (0..=MAX_WRITES).map(|n| guarded(&plain(&format!("shardId-{n}")).created(), rewind())).collect();
    match table.write_all(&writes).await {
        Ok(()) => panic!("{} writes are too many", writes.len()),
        Err(error) => assert!(matches!(error.kind(), LeaseErrorKind::Invalid { .. }), "{error}"),
    }
    Ok(())
}

pub(super) async fn an_accepted_loss_ends_with_the_next_checkpoint(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let lease = owned(&table, "shardId-a").await?;
    let lost = LeaseWrite::stop(StopReason::DataLost { lost: "1..2".to_owned() });
    let stopped = step(&table, &lease, &lost).await?;
    let cleared = step(&table, &stopped, &LeaseWrite::clear_stop().accepting_loss()).await?;
    assert!(cleared.loss_accepted && cleared.stop.is_none());
    let taken = step(&table, &cleared, &LeaseWrite::take(owner("w/2"))).await?;
    let renewed = step(&table, &taken, &LeaseWrite::renew()).await?;
    assert!(renewed.loss_accepted, "it outlives a change of owner");
    let at = Some(Checkpoint::Sequence(number(7)));
    let read = step(&table, &renewed, &LeaseWrite::renew().with_checkpoint(at)).await?;
    assert!(!read.loss_accepted);
    Ok(())
}

pub(super) async fn a_stripped_lease_keeps_what_is_not_ours(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let lease = table.create(&full("shardId-a")).await?;
    bed.put_attribute(lease.key.as_str(), "notOurs", "kept").await;
    let lease = step(&table, &lease, &LeaseWrite::evict(owner("w/3"))).await?;
    assert!(lease.has_own_attributes());
    let stripped = step(&table, &lease, &LeaseWrite::strip()).await?;
    assert!(!stripped.has_own_attributes());
    assert_eq!((&stripped.owner, &stripped.parents), (&lease.owner, &lease.parents));
    assert_eq!(bed.attribute(lease.key.as_str(), "notOurs").await.as_deref(), Some("kept"));
    for ours in ["streamArn", "startingSequenceNumber", "intendedFor"] {
        assert_eq!(bed.attribute(lease.key.as_str(), ours).await, None, "{ours}");
    }
    Ok(())
}

pub(super) async fn a_marker_is_deleted_under_its_guard_alone(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let marker = BootstrapMarker {
        stream: stream(),
        at: millis(1_700_000_000_123),
        start: StartPosition::TrimHorizon,
        complete: false,
    };
    table.delete_marker(&marker).await?;
    let stands = table.fix_marker(&marker).await?;
    table.complete_marker(&stream()).await?;
    refused(table.delete_marker(&BootstrapMarker { at: millis(5), ..marker.clone() }).await, None);
    assert!(table.fix_marker(&marker).await?.complete, "it stands");
    table.delete_marker(&stands).await?;
    assert_eq!(table.fix_marker(&marker).await?, marker, "the old one is gone");
    Ok(())
}

pub(super) async fn the_meta_is_deleted_under_its_guard_alone(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let bare = TableMeta { schema: SCHEMA_VERSION, liveness: Liveness::PerLease, key_form: KeyForm::Bare };
    let qualified = TableMeta { key_form: KeyForm::Qualified, ..bare };
    table.delete_meta(&bare).await?;
    table.fix_meta(&bare).await?;
    refused(table.delete_meta(&qualified).await, None);
    assert_eq!(table.fix_meta(&qualified).await?, bare, "it stands");
    table.delete_meta(&bare).await?;
    assert_eq!(table.fix_meta(&qualified).await?, qualified);
    Ok(())
}
