//! The hash of a key: a fixed function of its bytes, the same in every process and every version.
//!
//! Where an entry of a [`ShmMap`](super::ShmMap) lies follows from it, so it is part of the format:
//!
//! ```text
//!   h = SEED
//!   for each word w of the key:  h = fold(h ^ w, STEP)         the last one filled up with zeros
//!   h = fold(h ^ size in bytes, LAST)
//!
//!   fold(a, b) = high half ^ low half of the 128-bit product a * b
//! ```
//!
//! A bit of the key changes half of the bits of the hash. It is no secret: who chooses the keys can
//! choose ones that meet in one bucket, and make operations on that slow.

use crate::object::{Shareable, value};

/// Odd, half of their bits set: the first digits of pi, of e, and of the golden ratio.
const SEED: u64 = 0x243f_6a88_85a3_08d3;
const STEP: u64 = 0xb7e1_5162_8aed_2a6b;
const LAST: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a key.
#[inline]
pub(super) fn of<K: Shareable + Copy>(key: &K) -> u64 {
    let words = (0..value::words_of::<K>()).map(|number| value::word(key, number));
    let hash = words.fold(SEED, |hash, word| fold(hash ^ word, STEP));
    fold(hash ^ size_of::<K>() as u64, LAST)
}

#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Maps of yesterday must be found by programs of tomorrow.
    #[test]
    fn hashes_stay_as_they_are() {
        let hashes = [of(&()), of(&1_u8), of(&1_u64), of(&[1_u64, 2]), of(b"123456789")];
        assert_eq!(hashes, VECTORS, "{hashes:#x?}");
    }

    /// Computed by another program.
    const VECTORS: [u64; 5] = [
        0xe184_8576_4ba0_3644,
        0x45d7_fa99_d6a6_e134,
        0xf15c_4e6a_4bad_059e,
        0x056c_f027_34ba_8987,
        0xdc8a_75eb_fe90_b2a7,
    ];

    #[test]
    fn near_keys_lie_far_apart_in_shards_and_in_buckets() {
        for step in [1_u64, 8, 1 << 32, 1 << 56] {
            let hashes: Vec<_> = (0..256_u64).map(|n| of(&n.wrapping_mul(step))).collect();
            let shards: HashSet<_> = hashes.iter().map(|hash| hash >> 60).collect();
            let buckets: HashSet<_> = hashes.iter().map(|hash| hash & 0xff).collect();
            assert_eq!(shards.len(), 16, "step {step:#x}");
            // 256 balls in 256 urns leave about 94 of them empty.
            assert!(buckets.len() > 130, "step {step:#x}: {}", buckets.len());
        }
        let hashes: HashSet<_> = (0..100_000_u64).map(|n| of(&n)).collect();
        assert_eq!(hashes.len(), 100_000);
    }

    #[test]
    fn every_bit_counts() {
        let key = [0x0123_4567_89ab_cdef_u64, 0xfedc_ba98_7654_3210];
        for bit in 0..128 {
            let mut other = key;
            other[bit / 64] ^= 1 << (bit % 64);
            let differing = (of(&key) ^ of(&other)).count_ones();
            assert!((12..52).contains(&differing), "bit {bit}: {differing}");
        }
    }
}
