//! Time: the one true time of a run, and the clocks of its processes, which run at rates of their own.

use std::time::{Duration, SystemTime};

/// True time: nanoseconds since the run began. No process can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time(pub(crate) u64);

impl Time {
    /// A time that does not come.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(nanos(wait)))
    }

    pub(crate) fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

/// The nanoseconds of `time`, at most 584 years.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The time of day when a run begins: 2026-01-01T00:00:00Z.
#[must_use]
pub fn epoch() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

const MILLION: i128 = 1_000_000;

/// How wrong the clocks of a machine are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Skew {
    /// How much faster than true time the monotonic clock runs, in parts per million.
    pub(crate) ppm: i32,
    /// How far the wall clock is ahead, in nanoseconds.
    pub(crate) wall: i64,
}

/// The clocks of one process, as straight lines from the last time something changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalClock {
    changed: Time,
    /// The reading at `changed`, nanoseconds since the process began.
    reading: u64,
    standing: bool,
    skew: Skew,
}

impl LocalClock {
    /// Clocks of a process that begins `now`.
    pub(crate) fn new(now: Time, skew: Skew) -> Self {
        Self { changed: now, reading: 0, standing: false, skew }
    }

    /// The monotonic clock: nanoseconds since the process began.
    pub(crate) fn read(&self, now: Time) -> u64 {
        let passed = now.0 - self.changed.0;
        match (self.standing, self.skew.ppm) {
            (true, _) => self.reading,
            (false, 0) => self.reading + passed,
            (false, ppm) => {
                let local = i128::from(passed) * (MILLION + i128::from(ppm)) / MILLION;
                self.reading.saturating_add(u64::try_from(local).unwrap_or(u64::MAX))
            }
        }
    }

    /// The first true time at which the monotonic clock reads `at` or more, if nothing changes until then.
    pub(crate) fn when(&self, at: u64) -> Time {
        let local = at.saturating_sub(self.reading);
        match (self.standing, self.skew.ppm) {
            _ if at == u64::MAX => Time::NEVER,
            (true, _) => Time::NEVER,
            (false, 0) => Time(self.changed.0.saturating_add(local)),
            (false, ppm) => {
                let rate = MILLION + i128::from(ppm);
                // Rounded up, so that the clock does read `at` then.
                let passed = (i128::from(local) * MILLION + rate - 1) / rate;
                Time(self.changed.0.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
            }
        }
    }

    /// The time of day. It runs at the true rate, also while the monotonic clock stands.
    pub(crate) fn wall(&self, now: Time) -> SystemTime {
        let ahead = Duration::from_nanos(self.skew.wall.unsigned_abs());
        let right = epoch() + now.since_start();
        if self.skew.wall < 0 { right - ahead } else { right + ahead }
    }

    pub(crate) fn skew(&self) -> Skew {
        self.skew
    }

    /// Whether the monotonic clock is stopped.
    pub(crate) fn is_standing(&self) -> bool {
        self.standing
    }

    /// Changes how wrong the clocks are, from `now` on.
    pub(crate) fn set_skew(&mut self, now: Time, skew: Skew) {
        self.rebase(now);
        self.skew = skew;
    }

    /// Stops the monotonic clock, or lets it go on.
    pub(crate) fn set_standing(&mut self, now: Time, standing: bool) {
        self.rebase(now);
        self.standing = standing;
    }

    fn rebase(&mut self, now: Time) {
        self.reading = self.read(now);
        self.changed = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_the_first_instant_at_which_the_clock_reads_it() {
        for ppm in [-20_000, -200, -1, 0, 1, 200, 20_000] {
            let clock = LocalClock::new(Time(17), Skew { ppm, wall: 0 });
            for at in [1, 2, 3, 999_999, 1_000_000, 1_000_001, 3_600_000_000_000, 86_400_000_000_001] {
                let due = clock.when(at);
                assert!(clock.read(due) >= at, "{ppm} ppm, {at}");
                assert!(clock.read(Time(due.0 - 1)) < at, "{ppm} ppm, {at}");
            }
        }
    }

    #[test]
    fn a_change_of_rate_bends_the_line_and_does_not_break_it() {
        let mut clock = LocalClock::new(Time(0), Skew { ppm: 1_000, wall: 0 });
        clock.set_skew(Time(1_000_000), Skew { ppm: -1_000, wall: 0 });
        assert_eq!(clock.read(Time(1_000_000)), 1_001_000);
        assert_eq!(clock.read(Time(2_000_000)), 2_000_000);
        clock.set_standing(Time(2_000_000), true);
        assert_eq!(clock.read(Time(9_000_000)), 2_000_000);
        assert_eq!(clock.when(2_000_001), Time::NEVER);
    }

    #[test]
    fn the_wall_clock_can_be_wrong_in_both_directions() {
        let hour = 3_600_000_000_000;
        let clock = |wall| LocalClock::new(Time(0), Skew { ppm: 0, wall });
        assert_eq!(clock(hour).wall(Time(0)), epoch() + Duration::from_secs(3_600));
        assert_eq!(clock(-hour).wall(Time(0)), epoch() - Duration::from_secs(3_600));
    }
}
