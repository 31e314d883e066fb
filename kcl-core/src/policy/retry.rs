//! When a failed delivery is tried again, and when the failure policy has its say.

use std::time::Duration;

use crate::contract::FailurePolicy;
use crate::model::SequenceNumber;

/// Counts deliveries that made no progress.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts {
    failed: u32,
    /// How far the shard was acknowledged at the last failure.
    acknowledged: Option<SequenceNumber>,
    /// The last record of the batch that failed.
    reached: Option<SequenceNumber>,
    /// What failed was no batch, but what is done with batches later: that they are taken is no progress then.
    outside: bool,
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// Deliver again after this pause.
    Retry(Duration),
    /// The policy's action.
    GiveUp,
}

impl Attempts {
    /// A delivery up to `reached` failed while the shard was acknowledged up to `acknowledged`.
    pub(crate) fn failed(
        &mut self,
        policy: &FailurePolicy,
        acknowledged: Option<SequenceNumber>,
        reached: Option<SequenceNumber>,
        permanent: bool,
    ) -> AfterFailure {
        if acknowledged > self.acknowledged {
            self.settled();
        }
        self.reached = self.reached.max(reached);
        self.acknowledged = self.acknowledged.max(acknowledged);
        self.failed = self.failed.saturating_add(1);
        if permanent || self.failed >= policy.attempts {
            return AfterFailure::GiveUp;
        }
        let doublings = (self.failed - 1).min(31);
        let pause = policy.backoff.saturating_mul(1 << doublings).min(policy.max_backoff);
        AfterFailure::Retry(pause)
    }

    /// A call that is no delivery failed, a flush between batches for instance, while the shard was acknowledged up to `acknowledged`.
    pub(crate) fn failed_outside(
        &mut self,
        policy: &FailurePolicy,
        acknowledged: Option<SequenceNumber>,
        permanent: bool,
    ) -> AfterFailure {
        let next = self.failed(policy, acknowledged, None, permanent);
        self.outside = true;
        next
    }

    /// A delivery up to `reached` succeeded, or its records were set aside. It is progress only beyond what failed: with manual
    /// checkpoints, a new instance is given what came before the failure once more.
    pub(crate) fn succeeded(&mut self, reached: Option<SequenceNumber>) {
        if !self.outside && reached >= self.reached {
            self.settled();
        }
    }

    /// Something more was acknowledged, or nothing is left that is not.
    pub(crate) fn settled(&mut self) {
        self.failed = 0;
        self.reached = None;
        self.outside = false;
    }

    /// Deliveries without progress so far.
    pub(crate) fn count(&self) -> u32 {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> FailurePolicy {
        FailurePolicy::stop_after(4).with_backoff(Duration::from_secs(1), Duration::from_secs(3))
    }

    fn n(number: u128) -> Option<SequenceNumber> {
        Some(SequenceNumber::from_u128(number))
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_then_the_policy_decides() {
        let mut attempts = Attempts::default();
        let seen: Vec<_> = (0..4).map(|_| attempts.failed(&policy(), None, None, false)).collect();
        let retry = |seconds| AfterFailure::Retry(Duration::from_secs(seconds));
        assert_eq!(seen, [retry(1), retry(2), retry(3), AfterFailure::GiveUp]);
    }

    #[test]
    fn progress_starts_the_count_again() {
        let mut attempts = Attempts::default();
        for acknowledged in 1..20 {
            let next = attempts.failed(&policy(), n(acknowledged), None, false);
            assert_eq!(next, AfterFailure::Retry(Duration::from_secs(1)));
        }
    }

    #[test]
    fn a_permanent_failure_is_not_tried_again() {
        assert_eq!(Attempts::default().failed(&policy(), None, None, true), AfterFailure::GiveUp);
    }

    #[test]
    fn that_batches_are_taken_is_no_progress_of_a_flush_that_fails() {
        let mut attempts = Attempts::default();
        for failed in 1..4 {
            assert_ne!(attempts.failed_outside(&policy(), None, false), AfterFailure::GiveUp);
            assert_eq!(attempts.count(), failed);
            attempts.succeeded(n(10 * u128::from(failed)));
        }
        assert_eq!(attempts.failed_outside(&policy(), None, false), AfterFailure::GiveUp);
        assert_ne!(
            attempts.failed_outside(&policy(), n(10), false),
            AfterFailure::GiveUp,
            "something was acknowledged"
        );
    }

    #[test]
    fn what_came_before_the_failure_is_no_progress() {
        let mut attempts = Attempts::default();
        for failed in 1..4 {
            attempts.succeeded(n(10));
            let next = attempts.failed(&policy(), None, n(20), false);
            assert_eq!((next == AfterFailure::GiveUp, attempts.count()), (false, failed));
        }
        attempts.succeeded(n(10));
        assert_eq!(attempts.failed(&policy(), None, n(20), false), AfterFailure::GiveUp);
        attempts.succeeded(n(20));
        assert_eq!(attempts.count(), 0);
    }
}
