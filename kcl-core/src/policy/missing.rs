//! When a stream that the service does not know counts as gone.

use std::time::Duration;

use crate::contract::Mono;

/// How long the service must have said so.
const GONE_AFTER: Duration = Duration::from_secs(600);

/// How often at least.
const ANSWERS: u32 = 5;

/// Answers of the service that it knows no such stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    since: Option<Mono>,
    answers: u32,
}

impl Missing {
    /// The service does not know the stream.
    pub(crate) fn not_found(&mut self, now: Mono) {
        self.since.get_or_insert(now);
        self.answers = self.answers.saturating_add(1);
    }

    /// The service knows the stream.
    pub(crate) fn found(&mut self) {
        *self = Self::default();
    }

    /// Whether every answer for long was that there is no such stream. One replica that lags behind says so for seconds, a wrong
    /// configuration until somebody has looked at it.
    pub(crate) fn for_long(&self, now: Mono) -> bool {
        self.answers >= ANSWERS && self.since.is_some_and(|since| now.since(since) >= GONE_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_gone_only_when_every_answer_for_long_says_so() {
        let at = |seconds| Mono::new(Duration::from_secs(seconds));
        let mut missing = Missing::default();
        for n in 0..4 {
            missing.not_found(at(n * 300));
        }
        assert!(!missing.for_long(at(900)), "four answers are few");
        missing.not_found(at(901));
        assert!(missing.for_long(at(901)));
        missing.found();
        assert!(!missing.for_long(at(2000)));
        for n in 0..100 {
            missing.not_found(at(2000 + n));
        }
        assert!(!missing.for_long(at(2599)) && missing.for_long(at(2600)));
    }
}
