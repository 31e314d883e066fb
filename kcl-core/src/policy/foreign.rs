//! Whether others read a stream beside those that the registry knows: refusals that our own calls do not explain.

use std::collections::VecDeque;
use std::time::Duration;

use crate::contract::Mono;

/// Calls on one shard in a second that the service must grant a reader: two triggers poll four times a second each.
const GRANTED: usize = 5;

/// So many unexplained refusals within [`WINDOW`] are no accident.
const ENOUGH: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);

/// Told this often at most.
const TELL_EVERY: Duration = Duration::from_secs(600);

/// Our own calls on one shard in the last second.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnCalls {
    at: VecDeque<Mono>,
}

impl OwnCalls {
    /// A call was made.
    pub(crate) fn made(&mut self, now: Mono) {
        while self.at.front().is_some_and(|at| now.since(*at) >= Duration::from_secs(1)) {
            self.at.pop_front();
        }
        self.at.push_back(now);
    }

    /// Whether they explain a refusal of the last of them.
    pub(crate) fn explain_refusal(&self) -> bool {
        self.at.len() > GRANTED
    }
}

/// The unexplained refusals of one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct ForeignReaders {
    refused: VecDeque<Mono>,
    told: Option<Mono>,
}

impl ForeignReaders {
    /// A call was refused that our own calls do not explain. Returns how many were in the last minute when it is time to tell.
    pub(crate) fn refused(&mut self, now: Mono) -> Option<usize> {
        while self.refused.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            self.refused.pop_front();
        }
        // More than anybody wants to know of are not kept.
        if self.refused.len() < 1000 {
            self.refused.push_back(now);
        }
        let quiet = self.told.is_some_and(|told| now.since(told) < TELL_EVERY);
        if quiet || self.refused.len() < ENOUGH {
            return None;
        }
        self.told = Some(now);
        Some(self.refused.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::new(Duration::from_millis(millis))
    }

    #[test]
    fn a_refusal_is_explained_by_more_calls_than_every_reader_is_granted() {
        let mut calls = OwnCalls::default();
        for n in 0..5 {
            calls.made(at(n * 100));
            assert!(!calls.explain_refusal());
        }
        calls.made(at(900));
        assert!(calls.explain_refusal());
        calls.made(at(5000));
        assert!(!calls.explain_refusal(), "the earlier ones are long past");
    }

    #[test]
    fn foreign_readers_are_told_of_when_refusals_pile_up_and_not_again_for_a_while() {
        let mut foreign = ForeignReaders::default();
        let told: Vec<_> =
            [0, 70_000, 80_000, 90_000, 91_000, 689_000, 690_000, 690_001].map(|t| foreign.refused(at(t))).into();
        assert_eq!(told, [None, None, None, Some(3), None, None, None, Some(3)]);
    }
}
