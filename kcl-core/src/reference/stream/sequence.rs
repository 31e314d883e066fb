//! Sequence numbers of 21 to 40 digits, and the small generator that varies them.

use crate::model::SequenceNumber;

/// Splits a number of up to 40 digits in two that a machine word holds.
const LOW: u128 = 10u128.pow(38);
const MAX_DIGITS: u32 = 40;

/// A number of up to 40 digits: `high · 10^38 + low`. A `u128` alone ends within 39 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number {
    high: u128,
    low: u128,
}

impl Number {
    /// Where the `n`-th first shard of a stream begins: a little below a power of ten, so that numbers of the shard
    /// soon have one digit more and comparing their texts is wrong.
    pub(super) fn first(n: usize, random: &mut Random) -> Self {
        let lengths = [21, 24, 22, 28, 25];
        Self::below_power(lengths[n % lengths.len()], random)
    }

    /// Where the child of a shard that ended at `self` begins: above it, and mostly one digit longer.
    pub(super) fn child(self, random: &mut Random) -> Self {
        let longer = Self::below_power(self.digits().saturating_add(1).min(MAX_DIGITS), random);
        let close = self.plus(1 + random.below(1000));
        if longer > self && random.below(4) > 0 { longer } else { close }
    }

    pub(super) fn plus(self, step: u64) -> Self {
        let low = self.low + u128::from(step);
        Self { high: self.high + low / LOW, low: low % LOW }
    }

    pub(super) fn to_sequence(self) -> SequenceNumber {
        let Self { high, low } = self;
        match high {
            0 => SequenceNumber::from_u128(low),
            // At most 40 digits, which always parse.
            _ => format!("{high}{low:038}").parse().unwrap_or(SequenceNumber::from_u128(u128::MAX)),
        }
    }

    /// A number of `digits` digits that some hundred records later has one more, but for the longest.
    fn below_power(digits: u32, random: &mut Random) -> Self {
        let margin = 100 + u128::from(random.below(5000));
        match digits {
            // The longest numbers must not run out, so they begin at the lower end.
            MAX_DIGITS.. => Self { high: 10, low: margin },
            39 => Self { high: 9, low: LOW - margin },
            _ => Self { high: 0, low: 10u128.pow(digits) - margin },
        }
    }

    fn digits(self) -> u32 {
        match self.high {
            0 => self.low.checked_ilog10().unwrap_or(0) + 1,
            high => high.checked_ilog10().unwrap_or(0) + 39,
        }
    }
}

/// Splitmix64: small, and the same on every machine. It varies names and numbers; no secret depends on it.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Spreads the bits of `n`.
pub(super) fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lineage_climbs_through_all_lengths_and_never_falls_back() {
        let mut random = Random::new(7);
        let mut at = Number::first(0, &mut random);
        let mut lengths = std::collections::BTreeSet::new();
        for _generation in 0..100 {
            for _record in 0..200 {
                let next = at.plus(1 + random.below(97));
                assert!(next.to_sequence() > at.to_sequence());
                lengths.insert(next.to_sequence().as_str().len());
                at = next;
            }
            let child = at.child(&mut random);
            assert!(child.to_sequence() > at.to_sequence());
            at = child;
        }
        assert_eq!(lengths, (21..=40).collect());
    }
}
