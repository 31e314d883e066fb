//! The rules of the slots, on plain values.

use super::*;
use crate::model::LeaseCounter;

fn at(seconds: u64) -> Stamp {
    Stamp {
        mono: Mono::new(Duration::from_secs(seconds)),
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds),
    }
}

fn reader(name: &str) -> Reader {
    Reader { application: name.to_owned(), lease_table: name.to_owned() }
}

fn slot(name: &str, counter: i64) -> Option<ReaderSlot> {
    let (holder, counter) = (reader(name), LeaseCounter(counter));
    Some(ReaderSlot { holder, counter, life: SLOT_LIFE, renewed_at: at(0).wall })
}

fn slots(first: Option<ReaderSlot>, second: Option<ReaderSlot>) -> ReaderSlots {
    ReaderSlots([first, second])
}

/// What `me` knows after it saw these slots at these seconds.
fn watch(limit: usize, seen: impl IntoIterator<Item = (u64, ReaderSlots)>) -> SlotWatch {
    let mut watch = SlotWatch::new(reader("me"), limit, at(0).mono);
    for (second, slots) in seen {
        watch.read(at(second), at(second).mono, slots);
    }
    watch
}

fn written(step: &SlotStep) -> Option<usize> {
    match step {
        SlotStep::Write(claim) => Some(claim.slot),
        SlotStep::Keep | SlotStep::Full(_) => None,
    }
}

fn reads(watch: &SlotWatch, second: u64) -> bool {
    watch.validity().is_some_and(|validity| validity.holds(&at(second), slot_timing()))
}

#[test]
fn an_empty_slot_is_claimed_and_the_third_application_is_told_who_reads() {
    assert_eq!(written(&watch(2, [(1, slots(None, None))]).decide(&at(1))), Some(0));
    assert_eq!(written(&watch(2, [(1, slots(slot("a", 5), None))]).decide(&at(1))), Some(1));
    let SlotStep::Full(holders) = watch(2, [(1, slots(slot("a", 5), slot("b", 7)))]).decide(&at(1)) else {
        panic!("there is no slot left")
    };
    let names: Vec<_> = holders.into_iter().map(|slot| slot.holder.application).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn where_one_may_read_the_second_slot_stays_empty() {
    assert_eq!(written(&watch(1, [(1, slots(None, None))]).decide(&at(1))), Some(0));
    assert!(matches!(watch(1, [(1, slots(None, slot("a", 5)))]).decide(&at(1)), SlotStep::Full(_)));
}

#[test]
fn a_slot_passes_on_after_its_counter_stood_still_for_its_whole_life() {
    let still = |second| (second, slots(slot("a", 5), slot("b", second as i64)));
    let watch = watch(2, [still(10), still(100), still(189)]);
    assert!(matches!(watch.decide(&at(189)), SlotStep::Full(_)));
    assert_eq!(written(&watch.decide(&at(190))), Some(0));
}

#[test]
fn a_slot_that_moves_does_not_pass_on() {
    let watch = watch(2, (0..10).map(|n| (n * 60, slots(slot("a", n as i64), slot("b", n as i64)))));
    assert!(matches!(watch.decide(&at(10 * 60)), SlotStep::Full(_)));
}

#[test]
fn a_write_lets_its_application_read_for_less_than_the_life_of_the_slot() {
    let mut watch = watch(2, [(10, slots(None, None))]);
    assert!(!reads(&watch, 10));
    watch.wrote(at(10), at(15).mono, slots(slot("me", 0), None));
    assert!(reads(&watch, 10 + 170) && !reads(&watch, 10 + 171));
}

#[test]
fn a_slot_that_another_worker_renewed_counts_from_the_last_look_before() {
    let own = |second, counter| (second, slots(slot("me", counter), None));
    let first = watch(2, [own(10, 3)]);
    assert!(!reads(&first, 11), "one look shows nothing: the slot may be about to pass on");
    let watch = watch(2, [own(10, 3), own(20, 3), own(50, 4)]);
    assert!(reads(&watch, 20 + 170) && !reads(&watch, 20 + 171));
}

#[test]
fn nobody_reads_once_another_may_have_claimed_the_slot() {
    // The last renewal was applied right after we looked; the watcher saw it at once, and claims after a life.
    let watch = watch(2, [(10, slots(slot("me", 3), None)), (40, slots(slot("me", 4), None))]);
    let applied_at_the_earliest = 10;
    assert!(!reads(&watch, applied_at_the_earliest + SLOT_LIFE.as_secs()));
}

#[test]
fn a_slot_is_renewed_only_when_it_was_not_moved_for_a_while() {
    let mut watch = watch(2, [(0, slots(None, None))]);
    watch.wrote(at(0), at(0).mono, slots(slot("me", 0), None));
    assert_eq!(watch.decide(&at(59)), SlotStep::Keep);
    assert_eq!(written(&watch.decide(&at(60))), Some(0));
    watch.read(at(60), at(60).mono, slots(slot("me", 1), None));
    assert_eq!(watch.decide(&at(119)), SlotStep::Keep, "another worker has renewed it");
}

#[test]
fn a_lapsed_slot_that_nobody_took_is_claimed_again_and_one_that_passed_on_is_not() {
    let mut watch = watch(2, [(0, slots(slot("a", 0), None))]);
    watch.wrote(at(0), at(0).mono, slots(slot("a", 0), slot("me", 0)));
    watch.read(at(500), at(500).mono, slots(slot("a", 9), slot("me", 0)));
    assert!(!reads(&watch, 500));
    assert_eq!(written(&watch.decide(&at(500))), Some(1));
    watch.read(at(501), at(501).mono, slots(slot("a", 9), slot("b", 1)));
    assert!(matches!(watch.decide(&at(501)), SlotStep::Full(_)));
}

#[test]
fn the_slot_of_an_application_that_is_gone_is_taken_before_an_empty_one() {
    let watch = watch(2, [(0, slots(None, slot("a", 0)))]);
    assert_eq!(written(&watch.decide(&at(10))), Some(0));
    assert_eq!(written(&watch.decide(&at(180))), Some(1));
}

#[test]
fn a_suspended_machine_does_not_read() {
    let mut watch = watch(2, [(0, slots(None, None))]);
    watch.wrote(at(0), at(0).mono, slots(slot("me", 0), None));
    let woken = Stamp { mono: at(10).mono, wall: at(20).wall };
    assert!(!watch.validity().is_some_and(|validity| validity.holds(&woken, slot_timing())));
}

#[test]
fn slots_that_look_abandoned_are_worth_waiting_for() {
    let both = [slot("a", 0), slot("b", 0)].map(|slot| slot.expect("held"));
    assert!(all_fresh(&both, at(179).wall) && !all_fresh(&both, at(180).wall));
    assert!(all_fresh(&both, SystemTime::UNIX_EPOCH + Duration::from_secs(999_821)), "clocks differ a little");
    assert!(!all_fresh(&both, SystemTime::UNIX_EPOCH), "a clock that is far behind, or theirs ahead, tells nothing");
}

#[test]
fn the_next_look_is_never_after_the_right_to_read_ends() {
    let mut watch = watch(2, [(0, slots(None, None))]);
    assert_eq!(watch.next_look(&at(0), |pause| pause), at(0).mono + LOOK_SOON);
    watch.wrote(at(0), at(0).mono, slots(slot("me", 0), None));
    assert_eq!(watch.next_look(&at(0), |pause| pause), at(0).mono + LOOK_EVERY);
    assert_eq!(watch.next_look(&at(168), |pause| pause), at(171).mono);
}
