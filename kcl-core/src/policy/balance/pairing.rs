//! Who gets which of the leases that move at once.
//!
//! Leases of one cost may be swapped between their receivers without changing any load. They are dealt out such that a plan that is half
//! carried out, in whatever order, still says the same of the other half: givers look at different times, and a receiver that expects
//! one lease while it is given another finds that late. Each lease and each receiver like each other as much as a hash of both says, and the
//! pairs that like each other most come first: a pair that is done takes nothing from the others.

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

/// More pairs than these are left as they are: it costs the receivers a look.
const MOST_PAIRS: usize = 100_000;

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
fn paired_in_class(moving: &[Moving], members: &[usize], receivers: &[u64]) -> Option<Vec<(usize, usize)>> {
    let mut room: BTreeMap<usize, usize> = BTreeMap::new();
    for lease in members {
        *room.entry(moving[*lease].to).or_default() += 1;
    }
    if room.len() < 2 || members.len().saturating_mul(room.len()) > MOST_PAIRS {
        return None;
    }
    let liking = |lease: usize, to: usize| mixed(moving[lease].lease ^ receivers[to].rotate_left(32));
    let pairs = members.iter().flat_map(|lease| room.keys().map(|to| (liking(*lease, *to), *lease, *to)));
    let mut pairs: Vec<(u64, usize, usize)> = pairs.filter(|(_, lease, to)| moving[*lease].from != *to).collect();
    pairs.sort_unstable_by_key(|(liking, lease, to)| (*liking, moving[*lease].lease, *to));
    let mut free: Vec<bool> = vec![true; moving.len()];
    let mut made = Vec::with_capacity(members.len());
    for (_, lease, to) in pairs {
        let Some(left) = room.get_mut(&to).filter(|left| **left > 0) else { continue };
        if std::mem::take(&mut free[lease]) {
            *left -= 1;
            made.push((lease, to));
        }
    }
    (made.len() == members.len()).then_some(made)
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

    #[test]
    fn nobody_is_given_what_is_its_own() {
        let moving = [lease(1, 0, 1), lease(2, 1, 0), lease(3, 2, 0)];
        for paired in [paired(&moving, &workers(3)), paired(&moving[..2], &workers(3))] {
            assert!(paired.iter().zip(&moving).all(|(to, lease)| *to != lease.from), "{paired:?}");
        }
    }
}
