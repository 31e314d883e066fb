//! Workers, bootstrap markers and the meta item.

use futures::future::{join_all, try_join_all};

use super::support::{id, millis, one_won, refused, stream, worker};
use super::{CaseResult, LeaseTableBed};
use crate::contract::{BootstrapMarker, LeaseErrorKind, Liveness, SCHEMA_VERSION, TableMeta, WorkerItem, WorkerState};
use crate::model::{KeyForm, LeaseCounter, StartPosition};

pub(super) async fn a_worker_lives_and_leaves(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let id = worker(1);
    assert_eq!(table.worker(&id).await?, None);
    let mut item = table.register_worker(&id, 250).await?;
    let registered = WorkerItem { id: id.clone(), counter: LeaseCounter(0), state: WorkerState::Live, weight: 250 };
    assert_eq!(item, registered);
    for state in [WorkerState::Live, WorkerState::Live, WorkerState::Leaving, WorkerState::Leaving] {
        let next = table.write_worker(&item, state).await?;
        assert_eq!(next, WorkerItem { counter: item.counter.next(), state, ..item });
        assert_eq!(table.worker(&id).await?.as_ref(), Some(&next));
        item = next;
    }
    table.delete_worker(&item).await?;
    assert_eq!(table.worker(&id).await?, None);
    table.delete_worker(&item).await
}

pub(super) async fn a_worker_is_registered_once(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let first = table.register_worker(&worker(1), 100).await?;
    refused(table.register_worker(&worker(1), 7).await, None);
    assert_eq!(table.worker(&worker(1)).await?, Some(first));
    // Another run of the same name is another worker.
    table.register_worker(&worker(2), 100).await?;
    Ok(())
}

pub(super) async fn a_workers_write_on_another_version_is_refused(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let old = table.register_worker(&worker(1), 100).await?;
    let now = table.write_worker(&old, WorkerState::Live).await?;
    let strange = WorkerItem { state: WorkerState::Evicted, ..now.clone() };
    let absent = WorkerItem { id: worker(2), ..now.clone() };
    for seen in [&old, &strange, &absent] {
        refused(table.write_worker(seen, WorkerState::Fenced).await, None);
    }
    for seen in [&old, &strange] {
        refused(table.delete_worker(seen).await, None);
    }
    assert_eq!(table.worker(&worker(1)).await?, Some(now));
    assert_eq!(table.worker(&worker(2)).await?, None);
    Ok(())
}

pub(super) async fn an_evicted_worker_cannot_show_that_it_lives(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let live = table.register_worker(&worker(1), 100).await?;
    let evicted = table.write_worker(&live, WorkerState::Evicted).await?;
    refused(table.write_worker(&live, WorkerState::Live).await, None);
    // Nor by naming the counter that it did not see with the state that it did.
    let guessed = WorkerItem { counter: evicted.counter, ..live };
    refused(table.write_worker(&guessed, WorkerState::Live).await, None);
    let fenced = table.write_worker(&evicted, WorkerState::Fenced).await?;
    assert_eq!((fenced.counter, fenced.state), (LeaseCounter(2), WorkerState::Fenced));
    table.delete_worker(&fenced).await
}

pub(super) async fn one_of_many_heartbeats_wins(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let item = table.register_worker(&worker(1), 100).await?;
    let states = [WorkerState::Live, WorkerState::Evicted, WorkerState::Fenced, WorkerState::Live];
    let winner = one_won(join_all(states.iter().map(|state| table.write_worker(&item, *state))).await);
    assert_eq!(table.worker(&worker(1)).await?, Some(winner));
    Ok(())
}

fn marker(start: StartPosition) -> BootstrapMarker {
    BootstrapMarker { stream: stream(), at: millis(1_700_000_000_123), start, complete: false }
}

pub(super) async fn the_first_marker_stands(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let wanted: Vec<BootstrapMarker> =
        (0..6).map(|n| BootstrapMarker { at: millis(1_000 + n), ..marker(StartPosition::Latest) }).collect();
    let fixed = try_join_all(wanted.iter().map(|marker| table.fix_marker(marker))).await?;
    assert!(wanted.contains(&fixed[0]));
    assert!(fixed.iter().all(|marker| *marker == fixed[0]), "all agree: {fixed:?}");
    assert_eq!(table.fix_marker(&marker(StartPosition::TrimHorizon)).await?, fixed[0]);
    Ok(())
}

pub(super) async fn markers_keep_every_start_position(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let starts = [StartPosition::TrimHorizon, StartPosition::Latest, StartPosition::AtTimestamp(millis(42))];
    for (n, start) in starts.into_iter().enumerate() {
        let stream = id(&format!("arn:aws:dynamodb:ddblocal:000000000000:table/T{n}/stream/l"));
        let marker = BootstrapMarker { stream, ..marker(start) };
        assert_eq!(table.fix_marker(&marker).await?, marker);
        assert_eq!(table.fix_marker(&marker).await?, marker);
    }
    Ok(())
}

pub(super) async fn a_marker_is_completed_and_stays_so(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    refused(table.complete_marker(&stream()).await, None);
    let marker = table.fix_marker(&marker(StartPosition::TrimHorizon)).await?;
    table.complete_marker(&stream()).await?;
    table.complete_marker(&stream()).await?;
    assert_eq!(table.fix_marker(&marker).await?, BootstrapMarker { complete: true, ..marker });
    Ok(())
}

pub(super) async fn the_first_meta_stands(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let metas = [
        TableMeta { schema: SCHEMA_VERSION, liveness: Liveness::PerLease, key_form: KeyForm::Bare },
        TableMeta { schema: SCHEMA_VERSION, liveness: Liveness::PerWorker, key_form: KeyForm::Qualified },
    ];
    let fixed = try_join_all(metas.iter().cycle().take(6).map(|meta| table.fix_meta(meta))).await?;
    assert!(metas.contains(&fixed[0]));
    assert!(fixed.iter().all(|meta| *meta == fixed[0]), "all agree: {fixed:?}");
    Ok(())
}

pub(super) async fn a_newer_meta_is_refused(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let ours = TableMeta { schema: SCHEMA_VERSION, liveness: Liveness::PerWorker, key_form: KeyForm::Qualified };
    table.fix_meta(&TableMeta { schema: SCHEMA_VERSION + 1, ..ours }).await?;
    match table.fix_meta(&ours).await {
        Ok(meta) => panic!("{meta:?} is newer than this version"),
        Err(error) => assert!(matches!(error.kind(), LeaseErrorKind::Invalid { .. }), "{error}"),
    }
    Ok(())
}

pub(super) async fn the_fleet_is_told_by_a_number_that_only_rises(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    assert_eq!(table.rings().await?, 0);
    refused(table.ring().await, None);
    let meta = TableMeta { schema: SCHEMA_VERSION, liveness: Liveness::PerLease, key_form: KeyForm::Qualified };
    table.fix_meta(&meta).await?;
    assert_eq!(table.rings().await?, 0);
    try_join_all((0..4).map(|_| table.ring())).await?;
    assert_eq!(table.rings().await?, 4);
    assert_eq!(table.fix_meta(&meta).await?, meta, "it is as it was");
    table.delete_meta(&meta).await?;
    Ok(())
}
