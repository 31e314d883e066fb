//! Who gets which of the leases that move at once.
//!
//! Leases of one cost may be swapped between their receivers without changing any load. They are dealt out such that a plan that is half
//! carried out, in whatever order, still says the same of the other half: givers look at different times, and a receiver that expects
//! one lease while it is given another finds that late. So each lease and each receiver has a place on a circle, which a hash says, and the
//! nearest pair comes first, then the nearest of those that are left, where a lease looks ahead and a receiver back: a pair that is done takes
//! nothing from the others.

use std::collections::BTreeMap;

/// A lease that moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moving {
    /// A hash of its key.
    pub(super) lease: u64,
    /// Leases of one class may be swapped.
    pub(super) class: (bool, u64),
    /// Who gives it.
    pub(super) from: usize,
    /// Who was to get it.
    pub(super) to: usize,
}

/// The receivers of these leases, in their order. `receivers` has a hash of each worker's id.
pub(super) fn paired(moving: &[Moving], receivers: &[u64]) -> Vec<usize> {
    let mut classes: BTreeMap<(bool, u64), Vec<usize>> = BTreeMap::new();
    for (n, lease) in moving.iter().enumerate() {
        classes.entry(lease.class).or_default().push(n);
    }
    let mut paired: Vec<usize> = moving.iter().map(|lease| lease.to).collect();
    for members in classes.values() {
        if let Some(pairs) = paired_in_class(moving, members, receivers) {
            for (lease, to) in pairs {
                paired[lease] = to;
            }
        }
    }
    paired
}

/// Nothing where one would be left over.
///
/// Going round the circle, each receiver gets the last leases that were passed and that nobody has yet: those are the nearest. Twice, since
/// what is passed last is also behind those that came first.
fn paired_in_class(moving: &[Moving], members: &[usize], receivers: &[u64]) -> Option<Vec<(usize, usize)>> {
    let mut room: BTreeMap<usize, usize> = BTreeMap::new();
    for lease in members {
        *room.entry(moving[*lease].to).or_default() += 1;
    }
    if room.len() < 2 {
        return None;
    }
    let leases = members.iter().map(|lease| (mixed(moving[*lease].lease), OnCircle::Lease(*lease)));
    let mut circle: Vec<(u64, OnCircle)> = leases.collect();
    circle.extend(room.keys().map(|to| (mixed(receivers[*to]), OnCircle::Receiver(*to))));
    circle.sort_unstable();
    let mut passed: Vec<usize> = Vec::new();
    let mut made = Vec::with_capacity(members.len());
    for round in [1, 2] {
        for (_, point) in &circle {
            match point {
                OnCircle::Lease(lease) if round == 1 => passed.push(*lease),
                OnCircle::Lease(_) => {}
                OnCircle::Receiver(to) => {
                    let left = room.get_mut(to)?;
                    let is_for_it = |lease: &usize| moving[*lease].from != *to;
                    while *left > 0
                        && let Some(nearest) = passed.iter().rposition(is_for_it)
                    {
                        *left -= 1;
                        made.push((passed.remove(nearest), *to));
                    }
                }
            }
        }
    }
    passed.is_empty().then_some(made)
}

/// What has a place on the circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OnCircle {
    Lease(usize),
    Receiver(usize),
}

/// The same in every build, so that workers of different versions agree (FNV-1a).
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads what differs in few bits over all (the finaliser of SplitMix64).
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(n: usize, from: usize, to: usize) -> Moving {
        Moving { lease: hash(&format!("lease {n}")), class: (false, 1), from, to }
    }

    fn workers(count: usize) -> Vec<u64> {
        (0..count).map(|n| hash(&format!("w/{n:016x}"))).collect()
    }

    #[test]
    fn everybody_gets_as_many_as_before() {
        let moving: Vec<Moving> = (0..20).map(|n| lease(n, n % 4, 4 + n % 3)).collect();
        let paired = paired(&moving, &workers(7));
        let count = |to: usize| paired.iter().filter(|paired| **paired == to).count();
        assert_eq!([4, 5, 6].map(count), [7, 7, 6]);
    }

    #[test]
    fn what_is_done_in_whatever_order_leaves_the_rest_as_it_was() {
        let workers = workers(7);
        let moving: Vec<Moving> = (0..20).map(|n| lease(n, n % 4, 4 + n % 3)).collect();
        let first = paired(&moving, &workers);
        for done in 0_u64..500 {
            let left = |n: &usize| mixed(done * 20 + *n as u64).is_multiple_of(2);
            let left: Vec<usize> = (0..20).filter(left).collect();
            // The rest may be dealt out in any way that gives everybody as many as are still to come.
            let mut tos: Vec<usize> = left.iter().map(|n| first[*n]).collect();
            tos.sort_unstable();
            let rest: Vec<Moving> = left.iter().zip(tos).map(|(n, to)| Moving { to, ..moving[*n] }).collect();
            let expected: Vec<usize> = left.iter().map(|n| first[*n]).collect();
            assert_eq!(paired(&rest, &workers), expected, "{left:?}");
        }
    }

    /// The nearest pair, then the nearest of those that are left: what is promised, pair by pair.
    fn pair_by_pair(moving: &[Moving], receivers: &[u64]) -> Vec<usize> {
        let mut room: BTreeMap<usize, usize> = BTreeMap::new();
        moving.iter().for_each(|lease| *room.entry(lease.to).or_default() += 1);
        let way = |lease: &Moving, to: usize| mixed(receivers[to]).wrapping_sub(mixed(lease.lease));
        let pairs = moving.iter().enumerate().flat_map(|(n, lease)| room.keys().map(move |to| (n, lease, *to)));
        let pairs = pairs.filter(|(_, lease, to)| lease.from != *to);
        let mut pairs: Vec<_> = pairs.map(|(n, lease, to)| (way(lease, to), n, to)).collect();
        pairs.sort_unstable();
        let mut made = vec![None; moving.len()];
        for (_, n, to) in pairs {
            let left = room.get_mut(&to).expect("a receiver");
            if made[n].is_none() && *left > 0 {
                *left -= 1;
                made[n] = Some(to);
            }
        }
        let made: Option<Vec<usize>> = made.into_iter().collect();
        made.unwrap_or_else(|| moving.iter().map(|lease| lease.to).collect())
    }

    #[test]
    fn the_nearest_pairs_come_first() {
        let workers = workers(12);
        for seed in 0..300_usize {
            // Some give and get.
            let (givers, leases) = (2 + seed % 7, 1 + seed % 90);
            let moving = |n: usize| {
                let drawn = usize::from(mixed((seed * 1000 + n) as u64) as u16);
                let from = drawn % givers;
                let to = 4 + drawn / givers % 8;
                lease(seed * 1000 + n, from, if to == from { 11 } else { to })
            };
            let moving: Vec<Moving> = (0..leases).map(moving).collect();
            assert_eq!(paired(&moving, &workers), pair_by_pair(&moving, &workers), "{seed}");
        }
    }

    #[test]
    fn nobody_is_given_what_is_its_own() {
        let moving = [lease(1, 0, 1), lease(2, 1, 0), lease(3, 2, 0)];
        for paired in [paired(&moving, &workers(3)), paired(&moving[..2], &workers(3))] {
            assert!(paired.iter().zip(&moving).all(|(to, lease)| *to != lease.from), "{paired:?}");
        }
    }
}
