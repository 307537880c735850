//! Random numbers that can be had again: of every choice the seed is known.

/// splitmix64 (Steele, Lea, Flood 2014): any seed is good.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Numbers for one of many purposes, which have nothing to do with those for another.
    pub(crate) fn of(seed: u64, purpose: &str, number: u64) -> Self {
        let mut random = Self(seed);
        for byte in purpose.bytes() {
            random.0 = random.next() ^ u64::from(byte);
        }
        random.0 = random.next() ^ number;
        Self(random.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True once in `count` times.
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// 1 to `most`, each power of two as likely as any other.
    pub(crate) fn log_uniform(&mut self, most: u64) -> u64 {
        let bits = self.below(u64::from(most.ilog2()) + 1);
        ((1 << bits) + self.below(1 << bits)).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again_and_other_ones_for_another_purpose() {
        let first = |purpose, number| Random::of(7, purpose, number).next();
        assert_eq!(first("step", 3), first("step", 3));
        assert_ne!(first("step", 3), first("step", 4));
        assert_ne!(first("step", 3), first("kill", 3));
    }

    #[test]
    fn numbers_stay_below_their_limits() {
        let mut random = Random::new(1);
        for limit in 1..500 {
            assert!(random.below(limit) < limit);
            assert!((1..=limit).contains(&random.log_uniform(limit)));
        }
    }
}
