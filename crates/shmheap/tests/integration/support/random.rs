//! Random numbers that can be had again.

use std::time::{SystemTime, UNIX_EPOCH};

/// splitmix64 (Steele, Lea, Flood 2014): any seed is good.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
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

/// The seed of this run: `SHMHEAP_SEED`, or else a new one; printed in either case.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("SHMHEAP_SEED").ok();
    let seed = match given {
        Some(text) => text.parse().expect("SHMHEAP_SEED is a decimal number"),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            Random::new(now.as_nanos() as u64).next()
        }
    };
    println!("SHMHEAP_SEED={seed}");
    seed
}

/// The number in an environment variable, or a default.
pub(crate) fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a decimal number"))
}
