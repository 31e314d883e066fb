//! Who gets which of the leases that move at once.
//!
//! Leases of one cost may be swapped between their receivers without changing any load. They are dealt out such that a plan that is half
//! carried out, in whatever order, still says the same of the other half: givers look at different times, and a receiver that expects
//! one lease while it is given another finds that late. Each lease and each receiver like each other as much as a hash of both says, and the
//! pairs that like each other most come first: a pair that is done takes nothing from the others.

use std::collections::{BTreeMap, BinaryHeap};

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
/// The pairs are found without looking at all of them: each lease asks the receivers in the order in which it likes them, and a receiver
/// that is full lets go of the one that it likes least. What comes out is the same.
fn paired_in_class(moving: &[Moving], members: &[usize], receivers: &[u64]) -> Option<Vec<(usize, usize)>> {
    let mut rooms: BTreeMap<usize, Room> = BTreeMap::new();
    for lease in members {
        rooms.entry(moving[*lease].to).or_default().size += 1;
    }
    if rooms.len() < 2 {
        return None;
    }
    let receivers: Vec<(usize, u64)> = rooms.keys().map(|to| (*to, receivers[*to].rotate_left(32))).collect();
    let mut rooms: Vec<Room> = rooms.into_values().collect();
    // The room that a lease likes best of those that it likes less than the last it was in.
    let next = |lease: usize, last: Option<(u64, usize)>| {
        let moving = &moving[lease];
        let others = receivers.iter().enumerate().filter(|(_, (to, _))| *to != moving.from);
        let liked = others.map(|(n, (_, receiver))| (mixed(moving.lease ^ receiver), n));
        liked.filter(|liking| last.is_none_or(|last| *liking > last)).min()
    };
    for lease in members {
        let mut asking = (*lease, None);
        loop {
            let (lease, last) = asking;
            let (liking, room) = next(lease, last)?;
            let full = &mut rooms[room];
            full.taken.push((liking, moving[lease].lease, lease));
            if full.taken.len() <= full.size {
                break;
            }
            let Some((liking, _, left_over)) = full.taken.pop() else { break };
            asking = (left_over, Some((liking, room)));
        }
    }
    let taken = |(room, (to, _)): (Room, &(usize, u64))| {
        let to = *to;
        room.taken.into_iter().map(move |(_, _, lease)| (lease, to))
    };
    Some(rooms.into_iter().zip(&receivers).flat_map(taken).collect())
}

/// What one receiver gets.
#[derive(Default)]
struct Room {
    size: usize,
    /// How much it and the lease like each other (the lower, the more), the lease, and its place; the one that it likes least first.
    taken: BinaryHeap<(u64, u64, usize)>,
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

    /// The pairs that like each other most come first: what is promised, pair by pair.
    fn pair_by_pair(moving: &[Moving], receivers: &[u64]) -> Vec<usize> {
        let mut room: BTreeMap<usize, usize> = BTreeMap::new();
        moving.iter().for_each(|lease| *room.entry(lease.to).or_default() += 1);
        let liking = |lease: &Moving, to: usize| mixed(lease.lease ^ receivers[to].rotate_left(32));
        let pairs = moving.iter().enumerate().flat_map(|(n, lease)| room.keys().map(move |to| (n, lease, *to)));
        let pairs = pairs.filter(|(_, lease, to)| lease.from != *to);
        let mut pairs: Vec<_> = pairs.map(|(n, lease, to)| (liking(lease, to), n, to)).collect();
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
    fn the_pairs_that_like_each_other_most_come_first() {
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
