//! Which leases are read by themselves because their owners are about to hand them over: a scan would show them late.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::LeaseKey;

/// The leases that are meant for this worker and still have an owner.
///
/// Each is watched once, for a bounded time, as long as the plan keeps giving it to this worker: an owner whose running call takes
/// longer is left to the scans.
#[derive(Debug, Default)]
pub(crate) struct Expecting {
    /// What is expected and has been watched or is.
    known: BTreeSet<LeaseKey>,
    watched: BTreeSet<LeaseKey>,
}

impl Expecting {
    /// Leases that are watched at once. Each costs a read every [`Expecting::LOOK_EVERY`] or so.
    const MOST: usize = 100;
    /// The longest pause between two reads of one lease.
    pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(80);

    /// Takes in what the plan of this round expects, and says which of it to watch from now on.
    pub(crate) fn begin(&mut self, expected: Vec<LeaseKey>) -> Vec<LeaseKey> {
        let wanted: BTreeSet<LeaseKey> = expected.iter().cloned().collect();
        self.known.retain(|key| wanted.contains(key));
        let new = expected.into_iter().filter(|key| !self.known.contains(key) && !self.watched.contains(key));
        let new: Vec<LeaseKey> = new.take(Self::MOST.saturating_sub(self.watched.len())).collect();
        for key in &new {
            self.known.insert(key.clone());
            self.watched.insert(key.clone());
        }
        new
    }

    /// The watch over a lease has ended.
    pub(crate) fn end(&mut self, key: &LeaseKey) {
        self.watched.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(range: std::ops::Range<usize>) -> Vec<LeaseKey> {
        range.map(|n| format!("k{n:03}").parse().expect("legal")).collect()
    }

    #[test]
    fn what_is_expected_for_long_is_watched_once() {
        let mut expecting = Expecting::default();
        assert_eq!(expecting.begin(keys(0..2)), keys(0..2));
        assert_eq!(expecting.begin(keys(0..3)), keys(2..3));
        keys(0..3).iter().for_each(|key| expecting.end(key));
        assert_eq!(expecting.begin(keys(0..3)), []);
        assert_eq!(expecting.begin(keys(1..3)), []);
        assert_eq!(expecting.begin(keys(0..3)), keys(0..1), "it was not expected for a while");
    }

    #[test]
    fn no_more_than_so_many_are_watched_at_once() {
        let mut expecting = Expecting::default();
        assert_eq!(expecting.begin(keys(0..150)), keys(0..100));
        expecting.end(&keys(7..8)[0]);
        assert_eq!(expecting.begin(keys(0..150)), keys(100..101));
    }
}
