//! Synthetic histories, each with one thing wrong.

use std::time::Duration;

use super::*;
use crate::history::Session;

fn n(number: u128) -> SequenceNumber {
    SequenceNumber::from_u128(number)
}

fn id(name: &str) -> ShardId {
    name.parse().expect("legal")
}

/// A parent with records 1 to 4, and its child with 5 and 6.
fn truth() -> Truth {
    let parent = ShardTruth { written: (1..=4).map(n).collect(), ..ShardTruth::default() };
    let child = ShardTruth { parent: Some(id("parent")), written: vec![n(5), n(6)], ..ShardTruth::default() };
    Truth { shards: BTreeMap::from([(id("parent"), parent), (id("child"), child)]) }
}

struct Story(Vec<Entry>);

impl Story {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn then(mut self, session: u64, shard: &str, events: impl IntoIterator<Item = Event>) -> Self {
        for event in events {
            let at = Duration::from_secs(self.0.len() as u64);
            self.0.push(Entry { at, session: Session(session), shard: id(shard), event });
        }
        self
    }

    fn judge(&self) -> Verdict {
        judge(&truth(), &self.0)
    }

    /// The only fault.
    fn fault(&self) -> Fault {
        let verdict = self.judge();
        assert_eq!(verdict.violations.len(), 1, "{verdict}");
        verdict.violations[0].fault.clone()
    }
}

fn given(numbers: impl IntoIterator<Item = u128>) -> Vec<Event> {
    numbers.into_iter().map(|number| Event::Delivered(n(number))).collect()
}

fn whole() -> Story {
    let parent = [vec![Event::Opened], given(1..=4), vec![Event::Ended]].concat();
    Story::new().then(1, "parent", parent).then(2, "child", [vec![Event::Opened], given(5..=6)].concat())
}

#[test]
fn a_record_that_is_older_than_the_start_is_found_where_it_is_delivered() {
    let mut truth = truth();
    if let Some(parent) = truth.shards.get_mut(&id("parent")) {
        (parent.optional, parent.unwanted) = (3, 2);
    }
    let from = |first| [vec![Event::Opened], given(first..=4), vec![Event::Ended]].concat();
    let faults = |first| judge(&truth, &Story::new().then(1, "parent", from(first)).0).violations;
    assert_eq!(faults(3), []);
    let found = faults(2);
    assert!(found.iter().any(|found| found.fault == Fault::Unwanted(n(2))), "{found:?}");
}

#[test]
fn a_history_with_everything_once_and_in_order_is_complete() {
    let verdict = whole().judge();
    assert!(verdict.is_complete(), "{verdict}");
    assert_eq!((verdict.delivered, verdict.retried, verdict.repeated), (6, 0, 0));
}

#[test]
fn what_was_never_delivered_is_missing() {
    let verdict = Story::new().then(1, "parent", [Event::Opened]).then(1, "parent", given([1, 2])).judge();
    assert_eq!(verdict.violations, []);
    let missing: Vec<_> = verdict.missing.iter().map(|(_, number)| *number).collect();
    assert_eq!(missing, [n(5), n(6), n(3), n(4)], "by shard, in order");
}

#[test]
fn a_record_before_its_predecessor_is_reordered() {
    let fault = Story::new().then(1, "parent", [Event::Opened]).then(1, "parent", given([1, 3, 2, 3])).fault();
    assert_eq!(fault, Fault::Reordered { expected: n(2), got: n(3) });
}

#[test]
fn a_record_that_was_never_written_is_a_phantom() {
    let fault = Story::new().then(1, "parent", [Event::Opened]).then(1, "parent", given([1, 9])).fault();
    assert_eq!(fault, Fault::Phantom(n(9)));
    assert_eq!(Story::new().then(1, "other", given([1])).fault(), Fault::Phantom(n(1)));
}

#[test]
fn repeats_are_told_apart_by_who_was_given_the_record_before() {
    let verdict = Story::new()
        .then(1, "parent", [Event::Opened])
        .then(1, "parent", given([1, 2, 2, 3]))
        .then(1, "parent", [Event::Acknowledged(n(1))])
        .then(2, "parent", [Event::Opened])
        .then(2, "parent", given([2, 3, 4]))
        .judge();
    assert_eq!(verdict.violations, []);
    assert_eq!((verdict.delivered, verdict.retried, verdict.repeated), (4, 1, 2));
}

#[test]
fn a_successor_that_skips_what_its_predecessor_had_is_found() {
    let fault = Story::new()
        .then(1, "parent", [Event::Opened])
        .then(1, "parent", given(1..=4))
        .then(1, "parent", [Event::Acknowledged(n(1))])
        .then(2, "parent", [Event::Opened])
        .then(2, "parent", given([2, 4]))
        .fault();
    assert_eq!(fault, Fault::Skipped { from: n(2), to: n(4) });
}

#[test]
fn an_instance_that_begins_after_what_nobody_acknowledged_is_found() {
    let first = Story::new().then(1, "parent", [Event::Opened]).then(1, "parent", given(1..=2));
    let second = |story: Story| story.then(2, "parent", [Event::Opened]).then(2, "parent", given([3]));
    assert_eq!(second(first).fault(), Fault::Unprocessed(n(1)));
    let first = Story::new().then(1, "parent", [Event::Opened]).then(1, "parent", given(1..=2));
    assert_eq!(second(first.then(1, "parent", [Event::Acknowledged(n(2))])).judge().violations, []);
}

#[test]
fn a_child_that_is_opened_before_its_parent_ended_is_found() {
    let early = Story::new().then(2, "child", [Event::Opened]);
    assert_eq!(early.fault(), Fault::ChildBeforeParent(id("parent")));
    let mut gone = truth();
    gone.shards.get_mut(&id("parent")).expect("there").gone = true;
    assert_eq!(judge(&gone, &early.0).violations, []);
}

#[test]
fn a_call_after_another_was_opened_on_the_shard_is_an_overlap() {
    let fault = Story::new()
        .then(1, "parent", [Event::Opened])
        .then(2, "parent", [Event::Opened])
        .then(1, "parent", given([1]))
        .fault();
    assert_eq!(fault, Fault::Overlap(Session(2)));
}

#[test]
fn a_call_after_the_close_is_found() {
    let fault = Story::new().then(1, "parent", [Event::Opened, Event::Closed]).then(1, "parent", given([1])).fault();
    assert_eq!(fault, Fault::CallAfterClose);
}

#[test]
fn a_shard_that_ends_with_records_left_is_found() {
    let story = Story::new().then(1, "parent", [Event::Opened]).then(1, "parent", given(1..=3));
    assert_eq!(story.then(1, "parent", [Event::Ended]).fault(), Fault::EndedEarly(n(4)));
}

#[test]
fn a_loss_that_was_reported_is_neither_missing_nor_a_skip() {
    let verdict = Story::new()
        .then(1, "parent", [Event::Opened])
        .then(1, "parent", given([1]))
        .then(1, "parent", [Event::Lost(Some(n(1)), Some(n(3)))])
        .then(1, "parent", given([3]))
        .then(1, "parent", [Event::Lost(Some(n(3)), None)])
        .then(2, "child", [vec![Event::Opened], given(5..=6)].concat())
        .judge();
    assert!(verdict.is_complete(), "{verdict}");
}

#[test]
fn what_is_older_than_the_start_may_be_delivered_or_not() {
    let mut late = truth();
    late.shards.get_mut(&id("parent")).expect("there").optional = 2;
    let events = |first| [vec![Event::Opened], given(first..=4), vec![Event::Ended]].concat();
    for first in 1..=3 {
        let story = Story::new().then(1, "parent", events(first));
        let verdict = judge(&late, &story.0);
        assert_eq!(verdict.violations, [], "from {first}");
        assert_eq!(verdict.missing.len(), 2, "those of the child");
    }
    let story = Story::new().then(1, "parent", [Event::Opened]).then(1, "parent", given([4]));
    assert_eq!(judge(&late, &story.0).violations.len(), 1);
}

#[test]
fn a_verdict_names_the_line_in_which_a_fault_shows() {
    let verdict = Story::new().then(1, "parent", [Event::Opened]).then(1, "parent", given([2])).judge();
    assert_eq!(verdict.violations[0].index, 1);
    let text = verdict.to_string();
    assert!(text.contains("at 1s, line 1: session 1 on parent"), "{text}");
}

#[test]
fn a_checkpoint_that_passes_what_was_acknowledged_is_found_out() {
    let at = |number| Event::Recorded(Checkpoint::Sequence(n(number)));
    let story = [vec![Event::Opened], given(1..=2), vec![Event::Returned, Event::Acknowledged(n(2)), at(2)]].concat();
    assert_eq!(Story::new().then(1, "parent", story.clone()).judge().violations, []);
    let beyond = Story::new().then(1, "parent", [story.clone(), vec![at(3)]].concat());
    assert_eq!(beyond.fault(), Fault::BeyondAcknowledged(Some(n(2))));
    let back = Story::new().then(1, "parent", [story, vec![at(1)]].concat());
    assert_eq!(back.fault(), Fault::MovedBack(Checkpoint::Sequence(n(2))));
}

#[test]
fn a_child_that_begins_before_its_parents_end_is_recorded_is_found_out() {
    let parent = [vec![Event::Opened], given(1..=4), vec![Event::Ended]].concat();
    let end = vec![Event::Recorded(Checkpoint::ShardEnd)];
    let early = Story::new().then(1, "parent", parent.clone()).then(2, "child", [Event::Opened]);
    assert_eq!(early.then(0, "parent", end.clone()).fault(), Fault::ChildBeforeParent(id("parent")));
    let right = Story::new().then(1, "parent", parent).then(0, "parent", end).then(2, "child", [Event::Opened]);
    assert_eq!(right.judge().violations, []);
}

#[test]
fn a_call_that_returns_after_another_processor_was_opened_is_found_out() {
    let story = Story::new().then(1, "parent", [vec![Event::Opened], given(1..=2)].concat());
    let story = story.then(2, "parent", [Event::Opened]).then(1, "parent", [Event::Returned]);
    assert_eq!(story.fault(), Fault::Overlap(Session(2)));
}

#[test]
fn what_an_operator_took_back_is_to_be_delivered_again_and_its_owner_may_not_know_yet() {
    let back = |story: Story| story.then(0, "parent", [Event::Rewound(Checkpoint::Sequence(n(2)))]);
    let done = || whole().then(1, "parent", [Event::Acknowledged(n(4))]);
    let missing = back(done()).then(1, "parent", given([4])).judge();
    assert_eq!((missing.violations.len(), missing.missing.len()), (0, 2), "{missing}");
    let again = [vec![Event::Opened], given(3..=4), vec![Event::Ended]].concat();
    let again = back(done()).then(0, "parent", [Event::Resumed]).then(3, "parent", again);
    assert!(again.judge().is_complete(), "{}", again.judge());
    let skips = back(done()).then(0, "parent", [Event::Resumed]);
    let skips = skips.then(3, "parent", [vec![Event::Opened], given([4])].concat());
    assert!(matches!(skips.fault(), Fault::Reordered { .. }));
}

#[test]
fn a_child_may_be_opened_by_an_owner_who_does_not_know_yet_that_it_was_taken_back_with_its_parent() {
    let back = || {
        let parent = [vec![Event::Opened], given(1..=4), vec![Event::Ended]].concat();
        let both = Story::new().then(1, "parent", parent).then(0, "parent", [Event::Rewound(Checkpoint::TrimHorizon)]);
        both.then(0, "child", [Event::Rewound(Checkpoint::TrimHorizon)])
    };
    assert_eq!(back().then(2, "child", [Event::Opened]).judge().violations, []);
    let resumed = back().then(0, "child", [Event::Resumed]).then(2, "child", [Event::Opened]);
    assert_eq!(resumed.fault(), Fault::ChildBeforeParent(id("parent")));
}

#[test]
fn what_the_sink_has_taken_may_be_recorded() {
    let story = |aside: Vec<Event>| {
        let begun = Story::new().then(1, "parent", [vec![Event::Opened], given(1..=2)].concat());
        begun.then(0, "parent", aside).then(0, "parent", [Event::Recorded(Checkpoint::Sequence(n(2)))])
    };
    assert_eq!(story(vec![Event::SetAside(n(2))]).judge().violations, []);
    assert!(matches!(story(Vec::new()).fault(), Fault::BeyondAcknowledged(None)));
}
