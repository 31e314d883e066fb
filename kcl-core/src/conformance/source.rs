//! The promises of [`StreamSource`](crate::StreamSource), as cases that any implementation is run through.
//!
//! An implementation gives a [`SourceBeds`], which builds a fresh table with a stream for each case, and says by its
//! [`SourceCapabilities`] what its beds can be told to do. Cases that need more are skipped, and named.
//! [`source_suite`] runs all of them; [`source_suite_tests!`](crate::source_suite_tests) makes each a test of its own.

mod bed;
mod ends;
mod listing;
mod positions;
mod reading;
mod support;
mod views;

use futures::future::BoxFuture;

pub use bed::{BedError, BedSpec, SourceBed, SourceBeds, SourceCapabilities};
pub use ends::*;
pub use listing::*;
pub use positions::*;
pub use reading::*;
pub use views::*;

use super::{SuiteReport, Tally, caught};

/// A broken bed, or a call that failed where it must not. A broken promise is a panic with its reason.
pub type CaseResult = Result<(), BedError>;

/// One promise.
#[derive(Debug, Clone, Copy)]
pub struct SourceCase {
    /// The promise.
    pub name: &'static str,
    needs: fn(&SourceCapabilities) -> bool,
    run: for<'a> fn(&'a dyn SourceBeds) -> BoxFuture<'a, CaseResult>,
}

macro_rules! cases {
    ($($name:ident if $needs:expr;)*) => {
        /// Every case.
        pub const SOURCE_CASES: &[SourceCase] =
            &[$(SourceCase { name: stringify!($name), needs: $needs, run: |beds| Box::pin($name(beds)) },)*];
    };
}

cases! {
    records_come_in_the_order_of_their_numbers if |_| true;
    pages_continue_where_the_one_before_ended if |_| true;
    a_page_holds_no_more_than_the_limit if |_| true;
    an_iterator_asked_again_gives_the_same_records if |_| true;
    an_empty_page_is_no_end if |_| true;
    two_readers_do_not_disturb_each_other if |_| true;
    a_page_is_no_larger_than_the_service_allows if |can| can.max_page_bytes.is_some();
    a_limit_out_of_range_is_invalid if |_| true;
    a_garbled_iterator_is_invalid if |_| true;
    a_throttled_call_is_told_so if |can| can.can_throttle && can.can_advance;
    trim_horizon_is_the_oldest_record if |_| true;
    at_begins_with_the_record_named if |_| true;
    after_begins_behind_the_record_named if |_| true;
    at_the_starting_number_is_the_whole_shard if |_| true;
    latest_sees_later_writes_alone if |_| true;
    a_number_below_the_shard_is_refused if |_| true;
    an_unknown_shard_is_not_found if |_| true;
    an_unknown_stream_is_not_found if |_| true;
    iterators_expire_after_fifteen_minutes if |can| can.expires_iterators && can.can_advance;
    a_trimmed_position_is_refused if |can| can.can_trim;
    records_are_gone_after_the_retention if |can| can.can_trim && can.can_advance;
    a_closed_shard_ends_behind_its_last_record if |can| can.can_disable;
    an_empty_closed_shard_ends if |can| can.can_disable;
    a_rolled_shard_ends_and_its_child_goes_on if |can| can.can_split;
    an_items_order_survives_a_split if |can| can.can_split;
    a_stream_is_listed_by_its_table if |_| true;
    a_description_tells_status_view_and_shards if |_| true;
    pages_of_a_description_list_each_shard_once if |can| can.max_shards > 200;
    children_are_listed_with_their_parent if |can| can.can_split;
    the_child_filter_lists_the_children_alone if |can| can.can_split && can.child_filter;
    a_disabled_stream_has_closed_shards_without_children if |can| can.can_disable;
    keys_only_records_have_no_image if |_| true;
    new_image_records_show_the_item_after if |_| true;
    old_image_records_show_the_item_before if |_| true;
    records_with_both_images_show_both if |_| true;
    a_write_that_changes_nothing_has_no_record if |_| true;
}

/// Runs every case that the beds are capable of, and tells which were skipped.
///
/// # Panics
/// A case failed. All others are run first; the panic names those that failed and why.
pub async fn source_suite(beds: &dyn SourceBeds) -> SuiteReport {
    let mut tally = Tally::default();
    for case in SOURCE_CASES {
        tally.note(case.name, outcome(case, beds).await);
    }
    tally.report()
}

/// Runs one case. False if the beds are not capable of it.
///
/// # Panics
/// The case failed, or there is none of that name.
pub async fn source_case(beds: &dyn SourceBeds, name: &str) -> bool {
    let case = SOURCE_CASES.iter().find(|case| case.name == name);
    let Some(case) = case else { panic!("there is no case {name}") };
    match outcome(case, beds).await {
        Ok(ran) => ran,
        Err(why) => panic!("{name}: {why}"),
    }
}

async fn outcome(case: &SourceCase, beds: &dyn SourceBeds) -> Result<bool, String> {
    if !(case.needs)(&beds.capabilities()) {
        return Ok(false);
    }
    caught((case.run)(beds)).await?;
    Ok(true)
}

/// Makes every case of the suite a `#[test]`: `source_suite_tests!(run, beds)`, where `run` is a function that drives a
/// future to its end and `beds` an expression that gives a [`SourceBeds`](crate::conformance::source::SourceBeds).
/// Skipped cases say so on the standard error.
#[macro_export]
macro_rules! source_suite_tests {
    ($run:ident, $beds:expr) => {
        $crate::source_suite_tests! { @ $run, $beds;
            records_come_in_the_order_of_their_numbers
            pages_continue_where_the_one_before_ended
            a_page_holds_no_more_than_the_limit
            an_iterator_asked_again_gives_the_same_records
            an_empty_page_is_no_end
            two_readers_do_not_disturb_each_other
            a_page_is_no_larger_than_the_service_allows
            a_limit_out_of_range_is_invalid
            a_garbled_iterator_is_invalid
            a_throttled_call_is_told_so
            trim_horizon_is_the_oldest_record
            at_begins_with_the_record_named
            after_begins_behind_the_record_named
            at_the_starting_number_is_the_whole_shard
            latest_sees_later_writes_alone
            a_number_below_the_shard_is_refused
            an_unknown_shard_is_not_found
            an_unknown_stream_is_not_found
            iterators_expire_after_fifteen_minutes
            a_trimmed_position_is_refused
            records_are_gone_after_the_retention
            a_closed_shard_ends_behind_its_last_record
            an_empty_closed_shard_ends
            a_rolled_shard_ends_and_its_child_goes_on
            an_items_order_survives_a_split
            a_stream_is_listed_by_its_table
            a_description_tells_status_view_and_shards
            pages_of_a_description_list_each_shard_once
            children_are_listed_with_their_parent
            the_child_filter_lists_the_children_alone
            a_disabled_stream_has_closed_shards_without_children
            keys_only_records_have_no_image
            new_image_records_show_the_item_after
            old_image_records_show_the_item_before
            records_with_both_images_show_both
            a_write_that_changes_nothing_has_no_record
        }
    };
    (@ $run:ident, $beds:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $run(async {
                    if !$crate::conformance::source::source_case(&$beds, stringify!($case)).await {
                        eprintln!("skipped: {}", stringify!($case));
                    }
                });
            }
        )*
        #[test]
        fn no_case_of_the_suite_is_left_out() {
            let all: Vec<&str> = $crate::conformance::source::SOURCE_CASES.iter().map(|case| case.name).collect();
            assert_eq!(all, [$(stringify!($case)),*]);
        }
    };
}
