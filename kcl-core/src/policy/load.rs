//! How much a shard counts in the plan: what is read of it, on a scale so coarse that noise moves nothing.

use std::time::Duration;

use crate::Mono;

/// The first step of the scale, in KB a second. Each further one is twice as much.
const FIRST_STEP: u32 = 64;
/// What was read so long ago counts a third.
const MEMORY: Duration = Duration::from_secs(60);

/// What a shard of this load counts: 1 while it is idle.
pub(crate) fn cost(load: Option<u32>) -> u32 {
    1 + step(load.unwrap_or(0)) / FIRST_STEP
}

/// The step of the scale that was reached.
fn step(load: u32) -> u32 {
    match load {
        0..FIRST_STEP => 0,
        // A shard gives a few MB a second at most; what says more is damaged.
        load => 1 << load.min(1 << 16).ilog2(),
    }
}

/// Measures what is read of one shard.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Bytes since the last measurement.
    bytes: usize,
    since: Mono,
    rate: f64,
}

impl Meter {
    /// Goes on from what the lease says.
    pub(crate) fn new(recorded: Option<u32>, now: Mono) -> Self {
        Self { bytes: 0, since: now, rate: f64::from(recorded.unwrap_or(0)) }
    }

    /// So many bytes were processed.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// What to record instead of `recorded`, if the load is clearly another one.
    pub(crate) fn news(&mut self, recorded: Option<u32>, now: Mono) -> Option<u32> {
        let time = now.since(self.since);
        if !time.is_zero() {
            let latest = std::mem::take(&mut self.bytes) as f64 / 1024.0 / time.as_secs_f64();
            let kept = (-time.as_secs_f64() / MEMORY.as_secs_f64()).exp();
            self.rate = self.rate * kept + latest * (1.0 - kept);
            self.since = now;
        }
        let known = step(recorded.unwrap_or(0));
        let (lowest, highest) = (f64::from(known) * 0.75, f64::from((2 * known).max(FIRST_STEP)) * 1.25);
        let reached = step(self.rate as u32);
        ((self.rate < lowest || self.rate > highest) && reached != known).then_some(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::new(Duration::from_secs(seconds))
    }

    #[test]
    fn an_idle_shard_counts_one_and_a_busy_one_more() {
        let costs = [None, Some(0), Some(63), Some(64), Some(127), Some(128), Some(1024), Some(u32::MAX)].map(cost);
        assert_eq!(costs, [1, 1, 1, 2, 2, 3, 17, 1025]);
    }

    #[test]
    fn a_load_is_recorded_once_it_lasts_and_is_forgotten_once_it_is_over() {
        let (mut meter, mut recorded, mut news) = (Meter::new(None, at(0)), None, Vec::new());
        for second in 1..600 {
            meter.add(if second < 300 { 1_000 << 10 } else { 0 });
            if let Some(load) = meter.news(recorded, at(second)) {
                recorded = Some(load);
                news.push(load);
            }
        }
        assert_eq!(news.first(), Some(&64));
        assert_eq!(news.iter().max(), Some(&512), "1000 is less than a quarter above 512 × 2");
        assert_eq!(news.last(), Some(&0));
        assert!(news.len() < 12, "{news:?}");
    }

    #[test]
    fn noise_around_a_step_is_no_news() {
        let (mut meter, mut recorded, mut news) = (Meter::new(Some(128), at(0)), Some(128), 0);
        for second in 1..600_u64 {
            meter.add(if second % 3 == 0 { 300 << 10 } else { 40 << 10 });
            if let Some(load) = meter.news(recorded, at(second)) {
                recorded = Some(load);
                news += 1;
            }
        }
        assert_eq!(news, 0, "{recorded:?}");
    }
}
