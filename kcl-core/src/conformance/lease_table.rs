//! The promises of [`LeaseTable`](crate::LeaseTable), as cases that any implementation is run through.
//!
//! An implementation gives a [`LeaseTableBeds`], which makes an empty table for each case, and says by its
//! [`LeaseTableCapabilities`] what can be done behind the contract's back. Cases that need more are skipped, and named.
//! Times in the cases are whole milliseconds: an implementation need not store finer ones.

mod administration;
mod bed;
mod creation;
mod finishing;
mod items;
mod scanning;
mod support;
mod writing;

use futures::future::BoxFuture;

use administration::*;
pub use bed::{LeaseTableBed, LeaseTableBeds, LeaseTableCapabilities};
use creation::*;
use finishing::*;
use items::*;
use scanning::*;
use writing::*;

use super::{SuiteReport, Tally, caught};
use crate::contract::LeaseError;

/// A call that failed where it must not. A broken promise is a panic with its reason.
pub type CaseResult = Result<(), LeaseError>;

/// One promise.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTableCase {
    /// The promise.
    pub name: &'static str,
    needs: fn(&LeaseTableCapabilities) -> bool,
    run: for<'a> fn(&'a dyn LeaseTableBed) -> BoxFuture<'a, CaseResult>,
}

macro_rules! cases {
    ($($name:ident if $needs:expr;)*) => {
        /// Every case.
        pub const LEASE_TABLE_CASES: &[LeaseTableCase] =
            &[$(LeaseTableCase { name: stringify!($name), needs: $needs, run: |bed| Box::pin($name(bed)) },)*];
    };
}

cases! {
    a_created_lease_reads_back_as_it_was_given if |_| true;
    creation_never_overwrites_a_lease if |_| true;
    creation_never_overwrites_a_foreign_item if |can| can.foreign_items;
    one_of_many_creators_wins if |_| true;
    a_lease_that_does_not_exist_reads_as_none if |_| true;
    the_longest_keys_are_kept if |_| true;
    every_write_leaves_exactly_what_it_means if |_| true;
    writes_in_a_row_leave_exactly_what_they_mean if |_| true;
    a_write_on_another_counter_is_refused if |_| true;
    a_write_on_another_owner_is_refused if |_| true;
    a_write_that_saw_no_owner_is_refused_by_one if |_| true;
    a_write_that_saw_an_owner_is_refused_by_none if |_| true;
    a_lease_that_does_not_exist_is_not_written if |_| true;
    one_of_many_writers_wins if |_| true;
    an_acknowledged_write_is_seen_by_the_next_read if |_| true;
    writes_keep_unknown_attributes if |can| can.unknown_attributes;
    finishing_ends_the_parent_and_creates_the_children if |_| true;
    a_refused_finish_creates_nothing if |_| true;
    finishing_leaves_an_existing_child_alone if |_| true;
    finishing_without_children_ends_the_parent if |_| true;
    one_of_many_finishers_wins if |_| true;
    finishing_keeps_unknown_attributes if |can| can.unknown_attributes;
    a_lease_is_deleted_under_its_guard_alone if |_| true;
    deleting_what_does_not_exist_is_ok if |_| true;
    a_write_from_before_a_lease_was_deleted_does_not_fit_the_one_created_after if |_| true;
    a_worker_lives_and_leaves if |_| true;
    a_worker_is_registered_once if |_| true;
    a_workers_write_on_another_version_is_refused if |_| true;
    an_evicted_worker_cannot_show_that_it_lives if |_| true;
    one_of_many_heartbeats_wins if |_| true;
    the_first_marker_stands if |_| true;
    markers_keep_every_start_position if |_| true;
    a_marker_is_completed_and_stays_so if |_| true;
    the_first_meta_stands if |_| true;
    a_newer_meta_is_refused if |_| true;
    the_fleet_is_told_by_a_number_that_only_rises if |_| true;
    writes_together_leave_exactly_what_each_means if |_| true;
    writes_together_are_refused_together if |_| true;
    one_of_many_groups_of_writes_wins if |_| true;
    too_many_writes_together_are_refused if |_| true;
    an_accepted_loss_ends_with_the_next_checkpoint if |_| true;
    a_stripped_lease_keeps_what_is_not_ours if |can| can.unknown_attributes;
    a_marker_is_deleted_under_its_guard_alone if |_| true;
    the_meta_is_deleted_under_its_guard_alone if |_| true;
    a_scan_sees_every_item_once_over_its_pages if |can| can.fresh_scans;
    a_foreign_item_is_reported_and_is_no_lease if |can| can.foreign_items;
}

/// Runs every case that the beds are capable of, and tells which were skipped.
///
/// # Panics
/// A case failed. All others are run first; the panic names those that failed and why.
pub async fn lease_table_suite(beds: &dyn LeaseTableBeds) -> SuiteReport {
    let mut tally = Tally::default();
    for case in LEASE_TABLE_CASES {
        tally.note(case.name, outcome(case, beds).await);
    }
    tally.report()
}

async fn outcome(case: &LeaseTableCase, beds: &dyn LeaseTableBeds) -> Result<bool, String> {
    if !(case.needs)(&beds.capabilities()) {
        return Ok(false);
    }
    let bed = beds.bed().await;
    caught((case.run)(&*bed)).await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
