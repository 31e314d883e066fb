//! Looks at the lease table before anything is done with it: what it is, and whether this worker can work with it.

use super::subscription::owned_by;
use super::take::{Scan, TRIES, TableAccess};
use crate::contract::{LeaseError, LeaseErrorKind, Liveness, SCHEMA_VERSION, TableMeta};
use crate::model::{KeyForm, StreamArn};
use crate::policy::round::Streams;
use crate::policy::succession::Begun;

/// What the configuration says of the table, where it says something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Configured {
    pub(crate) key_form: Option<KeyForm>,
    pub(crate) liveness: Option<Liveness>,
}

/// What a table was found to be. Nothing is written to it yet.
#[derive(Debug)]
pub(crate) struct Surveyed {
    wanted: TableMeta,
    configured: Configured,
    /// Streams that the application has begun on before.
    pub(crate) begun: Begun,
}

/// Reads the table. `older` are streams that the tables of `streams` had before.
pub(crate) async fn survey(
    access: &TableAccess,
    streams: &[StreamArn],
    older: &[StreamArn],
    configured: Configured,
) -> Result<Surveyed, LeaseError> {
    let scan = access.scan().await?;
    let key_form = configured.key_form.unwrap_or_else(|| form_of(&scan));
    let liveness = configured.liveness.unwrap_or(Liveness::PerLease);
    let wanted = TableMeta { schema: SCHEMA_VERSION, liveness, key_form };
    match scan.metas.first() {
        Some(meta) => check_meta(meta, configured)?,
        // Their owners do not show that they live by an item of their own.
        None if liveness == Liveness::PerWorker && !scan.leases.is_empty() => {
            return Err(invalid(
                "the lease table holds leases of another library, whose workers live lease by lease, and liveness says PerWorker: leave liveness out, or stop all workers and call Admin::change_liveness",
            ));
        }
        None => {}
    }
    check_form(key_form, streams)?;
    Ok(Surveyed { wanted, configured, begun: begun(&scan, &[streams, older].concat(), key_form) })
}

/// Fixes what the table is, if that is not fixed yet, and returns what it is.
pub(crate) async fn fix(
    access: &TableAccess,
    streams: &[StreamArn],
    surveyed: &Surveyed,
) -> Result<TableMeta, LeaseError> {
    let meta = access.tried(TRIES, || access.table.fix_meta(&surveyed.wanted)).await?;
    check_meta(&meta, surveyed.configured)?;
    check_form(meta.key_form, streams)?;
    Ok(meta)
}

/// Whether the table is still what the worker took it for. Asked once its item stands, which keeps the mode from being changed.
pub(crate) async fn recheck(access: &TableAccess, taken_for: &TableMeta) -> Result<(), LeaseError> {
    let meta = access.tried(TRIES, || access.table.fix_meta(taken_for)).await?;
    check_meta(&meta, Configured { key_form: Some(taken_for.key_form), liveness: Some(taken_for.liveness) })
}

/// The form that is fixed, or that of the leases that are there; qualified in an empty table.
fn form_of(scan: &Scan) -> KeyForm {
    if let Some(meta) = scan.metas.first() {
        return meta.key_form;
    }
    let bare = scan.leases.iter().any(|lease| !lease.key.is_qualified());
    if bare { KeyForm::Bare } else { KeyForm::Qualified }
}

fn check_form(form: KeyForm, streams: &[StreamArn]) -> Result<(), LeaseError> {
    if form == KeyForm::Bare && streams.len() > 1 {
        return Err(invalid(
            "the lease table has bare shard ids as keys, which can hold one stream only: read one stream, or use another table",
        ));
    }
    Ok(())
}

fn check_meta(meta: &TableMeta, configured: Configured) -> Result<(), LeaseError> {
    if meta.schema > SCHEMA_VERSION {
        return Err(invalid(&format!(
            "the lease table has schema {}, this version knows up to {SCHEMA_VERSION}: update the library",
            meta.schema
        )));
    }
    if configured.liveness.is_some_and(|liveness| liveness != meta.liveness) {
        return Err(invalid(&format!(
            "the lease table is run in {:?} liveness, and liveness says otherwise: leave liveness out, or stop all workers and call Admin::change_liveness",
            meta.liveness
        )));
    }
    if configured.key_form.is_some_and(|form| form != meta.key_form) {
        return Err(invalid(&format!(
            "the lease table's keys are {:?}, and key_form says otherwise: leave key_form out, or use another table",
            meta.key_form
        )));
    }
    Ok(())
}

fn begun(scan: &Scan, streams: &[StreamArn], form: KeyForm) -> Begun {
    let streams = Streams { arns: streams, form };
    Begun::of(owned_by(&scan.leases, &streams), scan.markers.iter().map(|marker| &marker.stream))
}

fn invalid(what: &str) -> LeaseError {
    LeaseError::new(LeaseErrorKind::Invalid { what: what.to_owned() }, "opening")
}
