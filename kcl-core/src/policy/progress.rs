//! How far a shard is delivered, acknowledged and recorded.

use std::collections::VecDeque;

use crate::model::{Checkpoint, SequenceNumber};

/// `recorded <= acknowledged <= delivered`, each moving forward only.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    recorded: Checkpoint,
    acknowledged: Option<SequenceNumber>,
    delivered: Option<SequenceNumber>,
    /// Ranges that the failure policy set aside: once everything up to `after` is acknowledged, so is everything up to `last`.
    aside: VecDeque<Aside>,
    /// The first record that passed the filter of the start position, while the lease still has the filter.
    passed: Option<SequenceNumber>,
}

#[derive(Debug, Clone, Copy)]
struct Aside {
    after: Option<SequenceNumber>,
    last: SequenceNumber,
}

/// An acknowledgement beyond what was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BeyondDelivered {
    pub(crate) delivered: Option<SequenceNumber>,
}

impl Progress {
    /// Progress on a lease that says `recorded`.
    pub(crate) fn new(recorded: Checkpoint) -> Self {
        let at = recorded.sequence();
        Self { recorded, acknowledged: at, delivered: at, aside: VecDeque::new(), passed: None }
    }

    /// The user's own store says that everything up to and with `at` is done.
    pub(crate) fn start_after(&mut self, at: SequenceNumber) {
        self.delivered = self.delivered.max(Some(at));
        self.acknowledged = self.acknowledged.max(Some(at));
    }

    /// Everything up to and with `last` is about to be handed to the processor.
    pub(crate) fn deliver(&mut self, last: SequenceNumber) {
        self.delivered = self.delivered.max(Some(last));
    }

    /// Everything up to and with `at` is done. Returns whether that is news.
    pub(crate) fn acknowledge(&mut self, at: SequenceNumber) -> Result<bool, BeyondDelivered> {
        if Some(at) > self.delivered {
            return Err(BeyondDelivered { delivered: self.delivered });
        }
        let news = Some(at) > self.acknowledged;
        self.acknowledged = self.acknowledged.max(Some(at));
        self.absorb_aside();
        Ok(news)
    }

    /// The records after `after` up to and with `last` were set aside.
    pub(crate) fn set_aside(&mut self, after: Option<SequenceNumber>, last: SequenceNumber) {
        self.deliver(last);
        self.aside.push_back(Aside { after, last });
        self.absorb_aside();
    }

    fn absorb_aside(&mut self) {
        while let Some(aside) = self.aside.front().filter(|a| a.after <= self.acknowledged) {
            self.acknowledged = self.acknowledged.max(Some(aside.last));
            self.aside.pop_front();
        }
    }

    /// `Ok` from `shard_ended`: everything that was delivered is done.
    pub(crate) fn acknowledge_all(&mut self) {
        self.aside.clear();
        self.acknowledged = self.delivered;
    }

    /// The first record that passed the start filter.
    pub(crate) fn pass_filter(&mut self, at: SequenceNumber) {
        self.passed.get_or_insert(at);
    }

    pub(crate) fn acknowledged(&self) -> Option<SequenceNumber> {
        self.acknowledged
    }

    pub(crate) fn delivered(&self) -> Option<SequenceNumber> {
        self.delivered
    }

    pub(crate) fn recorded(&self) -> Checkpoint {
        self.recorded
    }

    /// What a write should record now, if anything.
    pub(crate) fn unrecorded(&self) -> Option<Checkpoint> {
        self.acknowledged.map(Checkpoint::Sequence).filter(|at| *at > self.recorded)
    }

    /// Whether a write that records `checkpoint` also ends the lease's start filter.
    pub(crate) fn ends_filter(&self, checkpoint: Option<Checkpoint>) -> bool {
        self.passed.is_some_and(|passed| checkpoint >= Some(Checkpoint::Sequence(passed)))
    }

    /// A write that records `checkpoint` is durable.
    pub(crate) fn record(&mut self, checkpoint: Checkpoint) {
        self.recorded = self.recorded.max(checkpoint);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn n(number: u128) -> SequenceNumber {
        SequenceNumber::from_u128(number)
    }

    #[test]
    fn an_acknowledgement_beyond_what_was_delivered_is_refused() {
        let mut progress = Progress::new(Checkpoint::TrimHorizon);
        assert_eq!(progress.acknowledge(n(1)), Err(BeyondDelivered { delivered: None }));
        progress.deliver(n(5));
        assert_eq!(progress.acknowledge(n(6)), Err(BeyondDelivered { delivered: Some(n(5)) }));
        assert_eq!(progress.unrecorded(), None);
        assert_eq!(progress.acknowledge(n(5)), Ok(true));
        assert_eq!(progress.unrecorded(), Some(Checkpoint::Sequence(n(5))));
    }

    #[test]
    fn a_lower_acknowledgement_is_fine_and_changes_nothing() {
        let mut progress = Progress::new(Checkpoint::Sequence(n(10)));
        assert_eq!(progress.acknowledge(n(3)), Ok(false));
        assert_eq!(progress.acknowledged(), Some(n(10)));
        assert_eq!(progress.unrecorded(), None);
    }

    #[test]
    fn records_set_aside_count_once_those_before_them_are_acknowledged() {
        let mut progress = Progress::new(Checkpoint::TrimHorizon);
        progress.deliver(n(10));
        progress.set_aside(Some(n(10)), n(20));
        assert_eq!(progress.acknowledged(), None);
        progress.acknowledge(n(9)).expect("delivered");
        assert_eq!(progress.acknowledged(), Some(n(9)));
        progress.acknowledge(n(10)).expect("delivered");
        assert_eq!(progress.acknowledged(), Some(n(20)));
    }

    #[test]
    fn the_filter_ends_with_the_record_that_passed_it() {
        let mut progress = Progress::new(Checkpoint::TrimHorizon);
        progress.deliver(n(5));
        progress.acknowledge(n(5)).expect("delivered");
        progress.pass_filter(n(6));
        assert!(!progress.ends_filter(progress.unrecorded()));
        progress.deliver(n(6));
        progress.acknowledge(n(6)).expect("delivered");
        assert!(progress.ends_filter(progress.unrecorded()));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Deliver(u8),
        Acknowledge(u8),
        Record,
    }

    proptest! {
        #[test]
        fn what_is_recorded_never_passes_what_was_acknowledged_and_never_moves_back(
            steps in proptest::collection::vec(
                prop_oneof![
                    any::<u8>().prop_map(Step::Deliver),
                    any::<u8>().prop_map(Step::Acknowledge),
                    Just(Step::Record)
                ],
                0..60,
            )
        ) {
            let mut progress = Progress::new(Checkpoint::TrimHorizon);
            let mut acknowledged = None;
            for step in steps {
                let before = progress.recorded();
                match step {
                    Step::Deliver(at) => progress.deliver(n(at.into())),
                    Step::Acknowledge(at) => {
                        if progress.acknowledge(n(at.into())).is_ok() {
                            acknowledged = acknowledged.max(Some(n(at.into())));
                        }
                    }
                    Step::Record => {
                        if let Some(at) = progress.unrecorded() {
                            progress.record(at);
                        }
                    }
                }
                prop_assert!(progress.recorded() >= before);
                prop_assert!(progress.recorded().sequence() <= acknowledged);
                prop_assert!(progress.acknowledged() <= progress.delivered());
            }
        }
    }
}
