//! Random streams by label, so that taking one source of randomness away does not shift the others.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

/// The stream of `label` in a run with `seed`, in the boot `boot`. The same three give the same stream, always, on
/// every machine: neither the hash nor the generator belongs to the standard library.
pub(crate) fn stream(seed: u64, label: &str, boot: u32) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(mix(mix(mix(seed) ^ fnv1a(label)) ^ u64::from(boot)))
}

/// One of `0..len`, by the high bits of the product: portable, and even enough for any `len` that fits memory.
pub(crate) fn below(number: u64, len: usize) -> usize {
    let scaled = (u128::from(number) * len as u128) >> 64;
    usize::try_from(scaled).unwrap_or(0)
}

/// The finaliser of SplitMix64: every bit of the input reaches every bit of the output.
pub(crate) const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a with 64 bits.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    #[test]
    fn a_stream_depends_on_seed_label_and_boot_and_on_nothing_else() {
        let first = |seed, label, boot| stream(seed, label, boot).next_u64();
        assert_eq!(first(1, "net", 0), first(1, "net", 0));
        let all = [first(1, "net", 0), first(2, "net", 0), first(1, "faults", 0), first(1, "net", 1)];
        let distinct: std::collections::BTreeSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn a_choice_covers_its_range_and_stays_in_it() {
        assert_eq!(below(0, 3), 0);
        assert_eq!(below(u64::MAX, 3), 2);
        assert_eq!(below(u64::MAX / 2, 2), 0);
    }
}
