//! A clock that a test moves.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::contract::{Clock, Entropy, Mono, Rt, Spawn, TaskClass};

/// A clock that can be moved ahead, so that iterators expire, records age and throttles end while a test waits for nothing.
///
/// Give it to a [`ReferenceStream`](super::ReferenceStream) by [`rt`](Self::rt), and give the worker under test a
/// runtime of its own: a worker whose clock jumps by a day has lost its leases. Clones move together.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use kcl_core::reference::MovableClock;
///
/// let clock = MovableClock::standing(SystemTime::UNIX_EPOCH);
/// clock.advance(Duration::from_secs(16 * 60)); // every iterator that was given before has expired now
/// assert_eq!(clock.ahead(), Duration::from_secs(960));
/// ```
#[derive(Clone)]
pub struct MovableClock {
    base: Base,
    ahead: Arc<watch::Sender<Duration>>,
}

#[derive(Clone)]
enum Base {
    Running(Rt),
    Standing(SystemTime),
}

impl MovableClock {
    /// A clock that runs as that of `rt` does, beside being moved.
    #[must_use]
    pub fn running(rt: &Rt) -> Self {
        Self { base: Base::Running(rt.clone()), ahead: Arc::new(watch::Sender::new(Duration::ZERO)) }
    }

    /// A clock that only moves when it is told to, and tells the time of day `wall` until then.
    #[must_use]
    pub fn standing(wall: SystemTime) -> Self {
        Self { base: Base::Standing(wall), ahead: Arc::new(watch::Sender::new(Duration::ZERO)) }
    }

    /// Moves it ahead by `time`, and with it the time of day.
    pub fn advance(&self, time: Duration) {
        self.ahead.send_modify(|ahead| *ahead = ahead.saturating_add(time));
    }

    /// How far it has been moved in all.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        *self.ahead.borrow()
    }

    /// A runtime that has this clock, and tasks and randomness of `rt`.
    #[must_use]
    pub fn rt(&self, rt: &Rt) -> Rt {
        let rest = Arc::new(Rest(rt.clone()));
        Rt::new(Arc::new(self.clone()), rest.clone(), rest)
    }
}

impl Clock for MovableClock {
    fn now(&self) -> Mono {
        match &self.base {
            Base::Running(rt) => rt.now() + self.ahead(),
            Base::Standing(_) => Mono::new(self.ahead()),
        }
    }

    fn wall(&self) -> SystemTime {
        let base = match &self.base {
            Base::Running(rt) => rt.wall(),
            Base::Standing(wall) => *wall,
        };
        // Beyond what a time of day can tell, it stands.
        base.checked_add(self.ahead()).unwrap_or(base)
    }

    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        async move {
            let mut moved = clock.ahead.subscribe();
            while clock.now() < at {
                let left = at.since(clock.now());
                // Moved, or the time is over: the clock says which. It cannot be gone, for it is held here.
                let _moved_or_over = match &clock.base {
                    Base::Running(rt) => rt.timeout(left, moved.changed()).await,
                    Base::Standing(_) => Some(moved.changed().await),
                };
            }
        }
        .boxed()
    }
}

impl fmt::Debug for MovableClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MovableClock").field("now", &self.now()).field("ahead", &self.ahead()).finish()
    }
}

/// What of a runtime is not its clock.
struct Rest(Rt);

impl Spawn for Rest {
    fn spawn(&self, name: Cow<'static, str>, class: TaskClass, task: BoxFuture<'static, ()>) {
        self.0.spawn(name, class, task).detach();
    }
}

impl Entropy for Rest {
    fn next_u64(&self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{run, virtual_rt};

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_running_clock_runs_and_can_be_moved_ahead() {
        run(async {
            let rt = virtual_rt();
            let clock = MovableClock::running(&rt);
            let (before, wall) = (clock.now(), clock.wall());
            clock.advance(HOUR);
            rt.sleep(HOUR).await;
            assert_eq!(clock.now().since(before), 2 * HOUR);
            assert_eq!(clock.wall(), wall + 2 * HOUR);
        });
    }

    #[test]
    fn a_standing_clock_moves_only_on_command() {
        run(async {
            let rt = virtual_rt();
            let clock = MovableClock::standing(SystemTime::UNIX_EPOCH);
            rt.sleep(HOUR).await;
            assert_eq!((clock.now(), clock.wall()), (Mono::default(), SystemTime::UNIX_EPOCH));
            clock.advance(HOUR);
            assert_eq!(clock.rt(&rt).stamp().wall, SystemTime::UNIX_EPOCH + HOUR);
        });
    }

    #[test]
    fn a_sleeper_wakes_when_its_clock_is_moved_past_its_time_and_not_before() {
        run(async {
            let rt = virtual_rt();
            for clock in [MovableClock::running(&rt), MovableClock::standing(SystemTime::UNIX_EPOCH)] {
                let mut sleeper = clock.sleep_until(clock.now() + 3 * HOUR);
                clock.advance(HOUR);
                assert!(rt.timeout(HOUR, &mut sleeper).await.is_none(), "too early");
                clock.advance(2 * HOUR);
                assert!(rt.timeout(Duration::from_secs(1), sleeper).await.is_some(), "too late");
            }
        });
    }

    #[test]
    fn tasks_run_on_the_runtime_beside_the_clock() {
        run(async {
            let rt = MovableClock::standing(SystemTime::UNIX_EPOCH).rt(&virtual_rt());
            assert_eq!(rt.spawn("seven", TaskClass::Lease, async { 7 }).await, Ok(7));
        });
    }
}
