//! A rate of calls that is not exceeded.

use std::time::Duration;

use crate::Mono;

/// Below this the bucket would wait for longer than any caller lives.
const SLOWEST: f64 = 1.0 / 3600.0;

/// A token bucket: calls pass at `rate` a second, and after a quiet time up to `burst` of them at once.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    rate: f64,
    burst: f64,
    tokens: f64,
    at: Mono,
}

impl Budget {
    /// A full bucket of `burst` calls (at least one), filled again at `rate` calls a second.
    pub(crate) fn new(rate: f64, burst: f64, now: Mono) -> Self {
        let burst = burst.max(1.0);
        Self { rate: rate.max(SLOWEST), burst, tokens: burst, at: now }
    }

    /// One worker's part of a rate that `workers` live workers share. The burst is the part of one second, at least one call.
    #[cfg(test)]
    fn share(rate: f64, workers: usize, now: Mono) -> Self {
        let rate = Self::part(rate, workers);
        Self::new(rate, rate, now)
    }

    /// The fleet has changed: from now on this bucket is the part of one of `workers`. What is in it stays, up to the new burst.
    pub(crate) fn reshare(&mut self, rate: f64, workers: usize, now: Mono) {
        self.set_rate(Self::part(rate, workers), now);
        self.burst = self.rate.max(1.0);
        self.tokens = self.tokens.min(self.burst);
    }

    /// Calls pass at `rate` a second from now on.
    pub(crate) fn set_rate(&mut self, rate: f64, now: Mono) {
        self.fill(now);
        self.rate = rate.max(SLOWEST);
    }

    /// Calls a second.
    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    /// Spends one call, or says from when on one may be spent.
    ///
    /// # Errors
    /// The instant to ask again.
    pub(crate) fn take(&mut self, now: Mono) -> Result<(), Mono> {
        self.fill(now);
        let at = self.ready_at(now);
        if at > now {
            return Err(at);
        }
        self.tokens = (self.tokens - 1.0).max(0.0);
        Ok(())
    }

    /// Spends one call that will be made at the returned instant: now, or as soon as the rate allows. Calls reserved
    /// ahead of each other queue up.
    pub(crate) fn reserve(&mut self, now: Mono) -> Mono {
        let at = self.ready_at(now);
        self.fill(at);
        self.tokens = (self.tokens - 1.0).max(0.0);
        at
    }

    /// Empties the bucket: nothing passes before `until`, and only at the rate then.
    pub(crate) fn drain(&mut self, until: Mono) {
        self.fill(until);
        self.tokens = self.tokens.min(1.0);
    }

    /// When a call may be spent, if none is before.
    fn ready_at(&self, now: Mono) -> Mono {
        let now = now.max(self.at);
        let missing = 1.0 - self.tokens - now.since(self.at).as_secs_f64() * self.rate;
        // Instants are whole nanoseconds; less than one of them is not waited for.
        if missing <= 1e-9 * self.rate { now } else { now + Duration::from_secs_f64(missing / self.rate) }
    }

    fn fill(&mut self, now: Mono) {
        self.tokens = (self.tokens + now.since(self.at).as_secs_f64() * self.rate).min(self.burst);
        self.at = self.at.max(now);
    }

    fn part(rate: f64, workers: usize) -> f64 {
        // More workers than 2^32 do not exist.
        rate / f64::from(u32::try_from(workers.max(1)).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::new(Duration::from_millis(millis))
    }

    fn calls_in(budget: &mut Budget, from: Mono, time: Duration) -> u32 {
        let (mut now, mut calls) = (from, 0);
        while now.since(from) < time {
            match budget.take(now) {
                Ok(()) => calls += 1,
                Err(later) => {
                    assert!(later > now, "a refused caller is told a later instant");
                    now = later;
                }
            }
        }
        calls
    }

    #[test]
    fn the_fleet_together_keeps_to_the_rate() {
        for workers in [1, 3, 10, 100] {
            let each = calls_in(&mut Budget::share(10.0, workers, at(0)), at(0), Duration::from_secs(100));
            let all = u64::from(each) * workers as u64;
            assert!((1000 - workers as u64..=1010 + workers as u64).contains(&all), "{workers}: {all}");
        }
    }

    #[test]
    fn a_changed_fleet_changes_the_share_at_once() {
        let mut budget = Budget::share(10.0, 1, at(0));
        budget.reshare(10.0, 10, at(0));
        let calls = calls_in(&mut budget, at(0), Duration::from_secs(10));
        assert!((10..=11).contains(&calls), "{calls}");
    }

    proptest! {
        #[test]
        fn no_window_has_more_calls_than_burst_and_rate_allow(
            rate in 0.1_f64..50.0, burst in 1.0_f64..20.0, gaps in prop::collection::vec(0_u64..2000, 1..200),
        ) {
            let mut budget = Budget::new(rate, burst, at(0));
            let (mut now, mut calls) = (at(0), Vec::new());
            for gap in gaps {
                now = now + Duration::from_millis(gap);
                calls.push(budget.reserve(now));
            }
            prop_assert!(calls.is_sorted());
            for (i, from) in calls.iter().enumerate() {
                for (n, to) in calls[i..].iter().enumerate() {
                    let allowed = burst + to.since(*from).as_secs_f64() * rate + 1e-3;
                    prop_assert!((n + 1) as f64 <= allowed, "{} calls where {allowed} are allowed", n + 1);
                }
            }
        }
    }
}
