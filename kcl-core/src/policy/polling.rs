//! When a shard is polled next.

use std::time::Duration;

use super::budget::Budget;
use crate::Mono;

/// How a shard is polled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PollingConfig {
    /// From one poll to the next while records come but pages are not full.
    pub(crate) interval: Duration,
    /// The longest pause of a shard that is idle.
    pub(crate) idle_max: Duration,
    /// Calls a second, at most. The service documents no number; two readers share what there is.
    pub(crate) calls_per_second: f64,
    /// The shortest pause after a refusal for too many calls.
    pub(crate) throttle_pause: Duration,
    /// The longest pause after failures in a row.
    pub(crate) failure_max: Duration,
    /// Records older than this when they are read mean that the shard is behind. Not below the service's time stamps, which
    /// are coarse.
    pub(crate) behind: Duration,
}

impl Default for PollingConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(250),
            idle_max: Duration::from_secs(1),
            calls_per_second: 5.0,
            throttle_pause: Duration::from_millis(500),
            failure_max: Duration::from_secs(10),
            behind: Duration::from_secs(90),
        }
    }
}

/// Empty pages in a row after which a shard counts as read to its tip.
pub(crate) const EMPTY_AT_THE_TIP: u32 = 3;

/// Empty pages in a row after which that is noted on the lease. More, because a loss that is not reported may follow from it.
pub(crate) const EMPTY_FOR_SURE: u32 = 30;

/// What a poll brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poll {
    /// As many records, or as many bytes, as a page can hold: there is more.
    Full,
    /// Some records.
    Partial,
    /// None.
    Empty,
    /// A refusal: too many calls, by this reader or another.
    Throttled,
    /// Another failure that passes.
    Failed,
}

/// The rhythm of one shard's polls.
#[derive(Debug, Clone)]
pub(crate) struct Polling {
    config: PollingConfig,
    calls: Budget,
    due: Mono,
    recovered: Mono,
    empty: u32,
    failed: u32,
}

impl Polling {
    /// How long it takes from no calls at all back to the full rate.
    const RECOVERY: Duration = Duration::from_secs(30);
    /// However often it is refused, a shard is asked this often, as a part of its full rate.
    const SLOWEST: f64 = 1.0 / 16.0;

    /// A shard that is polled now for the first time.
    pub(crate) fn new(config: PollingConfig, now: Mono) -> Self {
        let mut calls = Budget::new(config.calls_per_second, config.calls_per_second, now);
        let due = calls.reserve(now);
        Self { config, calls, due, recovered: now, empty: 0, failed: 0 }
    }

    /// When to poll again, after a poll that was answered at `now` with `outcome`. `lag` is the age of what was read last, or any
    /// long time where the shard is known to hold more (a closed one); `None` where nothing is known.
    ///
    /// Call once for each poll, with instants that do not go back.
    pub(crate) fn next_poll(&mut self, now: Mono, outcome: Poll, lag: Option<Duration>) -> Mono {
        self.recover(now);
        let behind = lag.is_some_and(|lag| lag > self.config.behind);
        self.empty = if outcome == Poll::Empty { self.empty.saturating_add(1) } else { 0 };
        self.failed = if outcome == Poll::Failed { self.failed.saturating_add(1) } else { 0 };
        let wanted = match outcome {
            Poll::Full => now,
            Poll::Partial | Poll::Empty if behind => now,
            // Counted from when the last poll was due, so that the time a call takes does not stretch the rhythm.
            Poll::Partial => self.due + self.config.interval,
            Poll::Empty => self.due + doubled(self.config.interval, self.empty, self.config.idle_max),
            Poll::Failed => now + doubled(self.config.interval, self.failed, self.config.failure_max),
            Poll::Throttled => self.throttled(now),
        };
        self.due = self.calls.reserve(wanted.max(now));
        self.due
    }

    fn throttled(&mut self, now: Mono) -> Mono {
        let full = self.config.calls_per_second;
        let rate = (self.calls.rate() / 2.0).max(full * Self::SLOWEST);
        self.calls.set_rate(rate, now);
        let pause = self.config.throttle_pause.max(Duration::from_secs_f64(1.0 / rate));
        self.calls.drain(now + pause);
        now + pause
    }

    fn recover(&mut self, now: Mono) {
        let full = self.config.calls_per_second;
        let step = full * now.since(self.recovered).as_secs_f64() / Self::RECOVERY.as_secs_f64();
        self.recovered = self.recovered.max(now);
        if self.calls.rate() < full {
            self.calls.set_rate((self.calls.rate() + step).min(full), now);
        }
    }
}

/// The first pause, doubled with each further time in a row.
fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    let factor = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::new(Duration::from_millis(millis))
    }

    const ROUND_TRIP: Duration = Duration::from_millis(20);

    /// The instants at which a shard is polled for a minute.
    fn minute_of_polls(mut outcome: impl FnMut(Mono) -> (Poll, Option<Duration>)) -> Vec<Mono> {
        let mut polling = Polling::new(PollingConfig::default(), at(0));
        let (mut now, mut polls) = (at(0), Vec::new());
        while now < at(60_000) {
            polls.push(now);
            let (outcome, lag) = outcome(now);
            now = polling.next_poll(now + ROUND_TRIP, outcome, lag);
        }
        polls
    }

    #[test]
    fn twenty_records_a_second_cost_at_most_four_calls_a_second() {
        let polls = minute_of_polls(|_| (Poll::Partial, Some(Duration::from_millis(120))));
        assert!((236..=241).contains(&polls.len()), "{}", polls.len());
    }

    #[test]
    fn a_shard_that_is_behind_is_polled_at_the_whole_rate() {
        let check = |outcome, lag: Option<u64>| {
            let polls = minute_of_polls(|_| (outcome, lag.map(Duration::from_secs)));
            assert!((300..=306).contains(&polls.len()), "{outcome:?}: {}", polls.len());
            assert_eq!(polls[1], polls[0] + ROUND_TRIP, "the next poll follows at once");
        };
        check(Poll::Full, None);
        check(Poll::Full, Some(3600));
        check(Poll::Partial, Some(3600));
        check(Poll::Empty, Some(3600));
    }

    #[test]
    fn an_idle_shard_is_asked_more_and_more_rarely_and_a_record_ends_that() {
        let mut polling = Polling::new(PollingConfig::default(), at(0));
        let mut now = at(0);
        let mut pauses = Vec::new();
        for outcome in [Poll::Empty, Poll::Empty, Poll::Empty, Poll::Empty, Poll::Partial, Poll::Empty] {
            let next = polling.next_poll(now + ROUND_TRIP, outcome, None);
            pauses.push(next.since(now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [250, 500, 1000, 1000, 250, 250]);
    }

    #[test]
    fn a_throttle_halves_the_rate_which_comes_back_slowly() {
        let mut polling = Polling::new(PollingConfig::default(), at(0));
        let mut rates = vec![polling.calls.rate()];
        let mut now = at(0);
        for _ in 0..2 {
            let next = polling.next_poll(now, Poll::Throttled, None);
            assert!(next.since(now) >= Duration::from_millis(500), "a refused shard is left alone for a while");
            rates.push(polling.calls.rate());
            now = next;
        }
        assert_eq!(rates[1], 2.5);
        assert!(rates[2] < 1.5, "{rates:?}");
        let _soon = polling.next_poll(now + Duration::from_secs(5), Poll::Full, None);
        assert!(polling.calls.rate() < 3.0, "five seconds do not bring the rate back: {}", polling.calls.rate());
        let _later = polling.next_poll(now + Duration::from_secs(40), Poll::Full, None);
        assert_eq!(polling.calls.rate(), 5.0);
    }

    #[test]
    fn a_shard_under_another_readers_load_settles_below_the_full_rate() {
        // The service lets three calls a second pass.
        let mut passed: Vec<Mono> = Vec::new();
        let polls = minute_of_polls(|now| {
            passed.retain(|call| now.since(*call) < Duration::from_secs(1));
            if passed.len() >= 3 {
                return (Poll::Throttled, None);
            }
            passed.push(now);
            (Poll::Full, None)
        });
        assert!((60..=220).contains(&polls.len()), "{}", polls.len());
    }

    fn outcome() -> impl Strategy<Value = Poll> {
        prop::sample::select(vec![Poll::Full, Poll::Partial, Poll::Empty, Poll::Throttled, Poll::Failed])
    }

    proptest! {
        #[test]
        fn a_poll_is_never_due_before_its_time_nor_postponed_without_end(
            steps in prop::collection::vec((outcome(), 0_u64..3000, prop::option::of(0_u64..20)), 1..300),
        ) {
            let config = PollingConfig::default();
            let mut polling = Polling::new(config, at(0));
            let mut calls = vec![at(0)];
            let mut due = at(0);
            for (outcome, late, lag) in steps {
                let now = due + Duration::from_millis(late);
                due = polling.next_poll(now, outcome, lag.map(Duration::from_secs));
                prop_assert!(due >= now);
                prop_assert!(due <= now + config.failure_max.max(Duration::from_secs(4)));
                calls.push(due);
            }
            for (n, from) in calls.iter().enumerate() {
                let within = calls[n..].iter().take_while(|to| to.since(*from) < Duration::from_secs(10)).count();
                prop_assert!(within <= 55, "{within} calls in ten seconds");
            }
        }
    }
}
