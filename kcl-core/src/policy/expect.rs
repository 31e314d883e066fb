//! Which leases are read by themselves because their owners are about to hand them over: a scan would show them late.
//!
//! A worker may be about to get thousands, and each that is watched costs a read every so often. So of each giver's a few are watched, the
//! first in the order in which it gives them. When one of them comes, its giver is at work, and the next takes its place at once.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::time::Duration;

use crate::contract::Mono;
use crate::model::{LeaseKey, WorkerId};

/// The leases that are meant for this worker and still have an owner.
///
/// Each is watched once, for as long as the plan keeps giving it to this worker and a little longer: others may have decided on an
/// older plan.
#[derive(Debug, Default)]
pub(crate) struct Expecting {
    /// What is watched, and what was and is still expected.
    known: BTreeMap<LeaseKey, Expected>,
    /// What else is expected, in the order in which each gives it.
    waiting: BTreeMap<WorkerId, VecDeque<LeaseKey>>,
}

#[derive(Debug)]
struct Expected {
    /// Who gives it.
    from: WorkerId,
    /// When the plan gave it to this worker last.
    wanted: Mono,
    /// The watch has not ended.
    watched: bool,
}

/// What changes about the leases that are watched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Watches {
    /// These are watched from now on.
    pub(crate) begin: Vec<LeaseKey>,
    /// These are no longer.
    pub(crate) end: Vec<LeaseKey>,
}

impl Expecting {
    /// Leases that are watched at once. Each costs a read every [`Expecting::LOOK_EVERY`] or so.
    const MOST: usize = 100;
    /// The longest pause between two reads of one lease.
    pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(80);

    /// Takes in what the plan of this round expects of whom, in the order in which it is given. What was not expected for `linger` is no
    /// longer watched.
    pub(crate) fn plan(&mut self, expected: BTreeMap<WorkerId, Vec<LeaseKey>>, now: Mono, linger: Duration) -> Watches {
        let mut waiting = BTreeMap::new();
        for (from, keys) in expected {
            let mut queue: VecDeque<LeaseKey> = keys.into();
            queue.retain(|key| match self.known.get_mut(key) {
                Some(known) => {
                    known.wanted = now;
                    known.watched
                }
                None => true,
            });
            waiting.insert(from, queue);
        }
        let first = first_of_each(&mut waiting, Self::MOST);
        let mut room = Self::MOST - first.len();
        let mut watches = Watches::default();
        self.known.retain(|key, known| {
            let keep = match now.since(known.wanted) < linger {
                _ if known.watched && first.contains_key(key) => true,
                // Others may have decided on an older plan, in which it is this worker's.
                true if known.watched && known.wanted < now && room > 0 => {
                    room -= 1;
                    true
                }
                lingers => lingers && !known.watched,
            };
            if known.watched && !keep {
                watches.end.push(key.clone());
            }
            keep
        });
        for (key, from) in first {
            if let Entry::Vacant(new) = self.known.entry(key) {
                watches.begin.push(new.key().clone());
                new.insert(Expected { from, wanted: now, watched: true });
            }
        }
        self.waiting = waiting;
        watches
    }

    /// A lease that was watched has come. The next of its giver takes its place, and is to be read at once: it may have come as well.
    pub(crate) fn came(&mut self, key: &LeaseKey) -> Option<LeaseKey> {
        let known = self.known.get_mut(key).filter(|known| known.watched)?;
        known.watched = false;
        let (from, wanted) = (known.from.clone(), known.wanted);
        let next = self.waiting.get_mut(&from)?.pop_front()?;
        self.known.insert(next.clone(), Expected { from, wanted, watched: true });
        Some(next)
    }

    /// A watch has ended without an answer; what was watched is found by a scan.
    pub(crate) fn gave_up(&mut self, key: &LeaseKey) {
        if let Some(known) = self.known.get_mut(key) {
            known.watched = false;
        }
    }
}

/// Takes the first of each queue, then the second of each, until there are so many.
fn first_of_each(queues: &mut BTreeMap<WorkerId, VecDeque<LeaseKey>>, most: usize) -> BTreeMap<LeaseKey, WorkerId> {
    let mut first = BTreeMap::new();
    loop {
        let before = first.len();
        for (from, queue) in queues.iter_mut() {
            if first.len() == most {
                return first;
            }
            if let Some(key) = queue.pop_front() {
                first.insert(key, from.clone());
            }
        }
        if first.len() == before {
            return first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(3);

    fn giver(n: u64) -> WorkerId {
        WorkerId::new("w", n).expect("legal")
    }

    fn keys(range: std::ops::Range<usize>) -> Vec<LeaseKey> {
        range.map(|n| format!("k{n:04}").parse().expect("legal")).collect()
    }

    /// What one giver gives.
    fn plan(expecting: &mut Expecting, range: std::ops::Range<usize>, at: u64) -> Watches {
        plan_of(expecting, [range], at)
    }

    /// What so many givers give.
    fn plan_of<const N: usize>(expecting: &mut Expecting, ranges: [std::ops::Range<usize>; N], at: u64) -> Watches {
        let expected = (0..).map(giver).zip(ranges.map(keys)).collect();
        expecting.plan(expected, Mono::new(Duration::from_secs(at)), LINGER)
    }

    fn begins(range: std::ops::Range<usize>) -> Watches {
        Watches { begin: keys(range), end: vec![] }
    }

    #[test]
    fn what_is_expected_for_long_is_watched_once() {
        let mut expecting = Expecting::default();
        assert_eq!(plan(&mut expecting, 0..2, 0), begins(0..2));
        assert_eq!(plan(&mut expecting, 0..3, 1), begins(2..3));
        for key in keys(0..3) {
            assert_eq!(expecting.came(&key), None);
        }
        assert_eq!(plan(&mut expecting, 0..3, 2), Watches::default());
        assert_eq!(plan(&mut expecting, 1..3, 4), Watches::default());
        assert_eq!(plan(&mut expecting, 0..3, 4), Watches::default(), "a plan that changes its mind for a moment");
        assert_eq!(plan(&mut expecting, 1..3, 7), Watches::default());
        assert_eq!(plan(&mut expecting, 0..3, 7), begins(0..1), "it was not expected for a while");
    }

    #[test]
    fn what_is_not_expected_any_more_is_watched_a_little_longer() {
        let mut expecting = Expecting::default();
        assert_eq!(plan(&mut expecting, 0..2, 0), begins(0..2));
        for at in [1, 2] {
            assert_eq!(plan(&mut expecting, 1..2, at), Watches::default());
        }
        assert_eq!(plan(&mut expecting, 1..2, 3), Watches { begin: vec![], end: keys(0..1) });
    }

    #[test]
    fn no_more_than_so_many_are_watched_at_once() {
        let mut expecting = Expecting::default();
        assert_eq!(plan(&mut expecting, 0..150, 0), begins(0..100));
        assert_eq!(plan(&mut expecting, 200..350, 1), Watches { begin: keys(200..300), end: keys(0..100) });
        assert_eq!(plan(&mut expecting, 200..210, 2), Watches::default());
        let swapped = Watches { begin: keys(0..50), end: keys(250..300) };
        assert_eq!(plan(&mut expecting, 0..50, 3), swapped, "as many as there is room for linger");
    }

    #[test]
    fn some_of_each_givers_are_watched_the_first_that_it_gives() {
        let mut expecting = Expecting::default();
        let mut begin = plan_of(&mut expecting, [0..1000, 1000..1010, 2000..3000], 0).begin;
        begin.sort();
        assert_eq!(begin, [keys(0..45), keys(1000..1010), keys(2000..2045)].concat());
    }

    #[test]
    fn where_one_has_come_the_next_of_the_same_giver_is_watched() {
        let mut expecting = Expecting::default();
        let _begun = plan_of(&mut expecting, [0..60, 1000..1060], 0);
        let [ten, eleven] = [&keys(50..52)[0], &keys(50..52)[1]].map(Clone::clone);
        assert_eq!(expecting.came(&keys(7..8)[0]), Some(ten.clone()));
        assert_eq!(expecting.came(&keys(7..8)[0]), None, "it comes once");
        assert_eq!(expecting.came(&ten), Some(eleven));
        for (n, key) in keys(1000..1050).iter().enumerate() {
            assert_eq!(expecting.came(key), keys(1050..1060).get(n).cloned());
        }
    }

    #[test]
    fn a_watch_without_an_answer_is_not_begun_anew_and_nothing_takes_its_place_before_the_next_round() {
        let mut expecting = Expecting::default();
        let _begun = plan(&mut expecting, 0..150, 0);
        expecting.gave_up(&keys(0..1)[0]);
        assert_eq!(expecting.came(&keys(0..1)[0]), None);
        assert_eq!(plan(&mut expecting, 0..150, 1), begins(100..101));
    }
}
