//! Which leases are read by themselves because their owners are about to hand them over: a scan would show them late.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::contract::Mono;
use crate::model::LeaseKey;

/// The leases that are meant for this worker and still have an owner.
///
/// Each is watched once, for as long as the plan keeps giving it to this worker and a little longer: others may have decided on an
/// older plan.
#[derive(Debug, Default)]
pub(crate) struct Expecting {
    /// What is expected and has been watched or is.
    known: BTreeMap<LeaseKey, Expected>,
    watched: usize,
}

#[derive(Debug)]
struct Expected {
    /// When the plan gave it to this worker last.
    wanted: Mono,
    /// Ends the watch.
    unwanted: CancellationToken,
}

impl Expecting {
    /// Leases that are watched at once. Each costs a read every [`Expecting::LOOK_EVERY`] or so.
    const MOST: usize = 100;
    /// The longest pause between two reads of one lease.
    pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(80);

    /// Takes in what the plan of this round expects, and says which of it to watch from now on, each until its token is cancelled: when
    /// it was not expected for `linger`.
    pub(crate) fn begin(
        &mut self,
        expected: Vec<LeaseKey>,
        now: Mono,
        linger: Duration,
    ) -> Vec<(LeaseKey, CancellationToken)> {
        let mut new = Vec::new();
        for key in expected {
            if let Some(known) = self.known.get_mut(&key) {
                known.wanted = now;
            } else if self.watched < Self::MOST {
                let unwanted = CancellationToken::new();
                self.known.insert(key.clone(), Expected { wanted: now, unwanted: unwanted.clone() });
                self.watched += 1;
                new.push((key, unwanted));
            }
        }
        self.known.retain(|_, known| {
            let keep = now.since(known.wanted) < linger;
            if !keep {
                known.unwanted.cancel();
            }
            keep
        });
        new
    }

    /// A watch has ended.
    pub(crate) fn end(&mut self) {
        self.watched = self.watched.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(3);

    fn keys(range: std::ops::Range<usize>) -> Vec<LeaseKey> {
        range.map(|n| format!("k{n:03}").parse().expect("legal")).collect()
    }

    fn begin(expecting: &mut Expecting, range: std::ops::Range<usize>, at: u64) -> Vec<LeaseKey> {
        let new = expecting.begin(keys(range), Mono::new(Duration::from_secs(at)), LINGER);
        new.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn what_is_expected_for_long_is_watched_once() {
        let mut expecting = Expecting::default();
        assert_eq!(begin(&mut expecting, 0..2, 0), keys(0..2));
        assert_eq!(begin(&mut expecting, 0..3, 1), keys(2..3));
        (0..3).for_each(|_| expecting.end());
        assert_eq!(begin(&mut expecting, 0..3, 2), []);
        assert_eq!(begin(&mut expecting, 1..3, 4), []);
        assert_eq!(begin(&mut expecting, 0..3, 4), [], "a plan that changes its mind for a moment");
        assert_eq!(begin(&mut expecting, 1..3, 7), []);
        assert_eq!(begin(&mut expecting, 0..3, 7), keys(0..1), "it was not expected for a while");
    }

    #[test]
    fn what_is_not_expected_any_more_is_watched_a_little_longer() {
        let mut expecting = Expecting::default();
        let watched = expecting.begin(keys(0..2), Mono::default(), LINGER);
        for (at, over) in [(1, false), (2, false), (3, true)] {
            assert_eq!(begin(&mut expecting, 1..2, at), []);
            assert_eq!((watched[0].1.is_cancelled(), watched[1].1.is_cancelled()), (over, false));
        }
    }

    #[test]
    fn no_more_than_so_many_are_watched_at_once() {
        let mut expecting = Expecting::default();
        assert_eq!(begin(&mut expecting, 0..150, 0), keys(0..100));
        expecting.end();
        assert_eq!(begin(&mut expecting, 0..150, 1), keys(100..101));
    }
}
