//! Draws from a labelled stream of the seed.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::Xoshiro256PlusPlus;

use crate::rng::{below, stream};

/// Draws.
#[derive(Debug, Clone)]
pub(crate) struct Draw(Xoshiro256PlusPlus);

impl Draw {
    /// From the stream `label` of the seed.
    pub(crate) fn new(seed: u64, label: &str) -> Self {
        Self(stream(seed, label, 0))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// One of `0..len`.
    pub(crate) fn below(&mut self, len: usize) -> usize {
        below(self.number(), len)
    }

    /// One of so many is true; of zero, none.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        n > 0 && self.below(n) == 0
    }

    pub(crate) fn count(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A time in the range, every order of magnitude as likely as the other.
    pub(crate) fn time(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let (low, high) = (range.start().as_secs_f64().max(1e-6), range.end().as_secs_f64().max(1e-6));
        // 2^20 steps: the power of a ratio is the same on every machine only as far as its rounding goes.
        let share = self.below(1 << 20) as f64 / f64::from(1 << 20);
        let millis = (low * (high / low).powf(share) * 1e3).round();
        Duration::from_millis(millis as u64)
    }

    /// A time in the range, each as likely as the other.
    pub(crate) fn even(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let span = range.end().saturating_sub(*range.start());
        let nanos = usize::try_from(span.as_nanos()).unwrap_or(usize::MAX);
        *range.start() + Duration::from_nanos(self.below(nanos.saturating_add(1)) as u64)
    }
}
