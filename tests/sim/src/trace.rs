//! The trace: one number that two runs share only if they polled the same tasks at the same times.

use crate::clock::Time;
use crate::rng::mix;

/// A rolling hash of every poll.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    hash: u64,
    polls: u64,
}

impl Trace {
    /// Folds one poll in.
    pub(crate) fn poll(&mut self, task: u64, now: Time) {
        self.hash = mix(self.hash ^ task.rotate_left(32) ^ now.0);
        self.polls += 1;
    }

    /// Folds an event of the test's own in.
    pub(crate) fn note(&mut self, event: u64) {
        self.hash = mix(self.hash ^ event);
    }

    pub(crate) fn hash(self) -> u64 {
        self.hash
    }

    pub(crate) fn polls(self) -> u64 {
        self.polls
    }
}
