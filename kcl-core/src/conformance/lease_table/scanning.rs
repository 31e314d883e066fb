//! Scans.

use std::sync::Arc;

use super::support::{full, millis, plain, stream, worker};
use super::{CaseResult, LeaseTableBed};
use crate::contract::{
    BootstrapMarker, LeaseError, LeaseErrorKind, LeaseTable, Liveness, SCHEMA_VERSION, TableItem, TableMeta,
};
use crate::model::{KeyForm, NewLease, StartPosition};

/// More pages than this for so few items is a scan that does not end.
const MAX_PAGES: usize = 500;

async fn scan_all(table: &dyn LeaseTable) -> Result<Vec<TableItem>, LeaseError> {
    let (mut items, mut from) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let page = table.scan(from).await?;
        items.extend(page.items);
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(items),
        }
    }
    panic!("the scan does not end");
}

pub(super) async fn a_scan_sees_every_item_once_over_its_pages(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    assert_eq!(scan_all(&*table).await?, []);
    let mut expected = Vec::new();
    for n in 0..40 {
        let new = NewLease { root: n % 2 == 0, ..full(&format!("shardId-{n:08}")) };
        expected.push(TableItem::Lease(Arc::new(table.create(&new).await?)));
    }
    expected.push(TableItem::Worker(table.register_worker(&worker(7), 100).await?));
    let marker = BootstrapMarker { stream: stream(), at: millis(5), start: StartPosition::Latest, complete: false };
    expected.push(TableItem::Marker(table.fix_marker(&marker).await?));
    let meta = TableMeta { schema: SCHEMA_VERSION, liveness: Liveness::PerWorker, key_form: KeyForm::Qualified };
    expected.push(TableItem::Meta(table.fix_meta(&meta).await?));
    let seen = scan_all(&*table).await?;
    assert_eq!(seen.len(), expected.len());
    for item in expected {
        assert!(seen.contains(&item), "{item:?} is missing");
    }
    Ok(())
}

pub(super) async fn a_foreign_item_is_reported_and_is_no_lease(bed: &dyn LeaseTableBed) -> CaseResult {
    let table = bed.table();
    let key = plain("shardId-a").key;
    bed.put_foreign(key.as_str()).await;
    let seen = scan_all(&*table).await?;
    assert!(
        matches!(&seen[..], [TableItem::Foreign { key: seen, why }] if seen == key.as_str() && !why.is_empty()),
        "{seen:?}"
    );
    match table.get(&key).await {
        Ok(lease) => panic!("{lease:?} is no lease"),
        Err(error) => assert!(matches!(error.kind(), LeaseErrorKind::Invalid { .. }), "{error}"),
    }
    Ok(())
}
