//! Choices that look random and cost next to nothing.

/// Numbers by xorshift (Marsaglia 2003): three shifts.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Another course for each worker.
    pub(super) fn of_worker(number: usize) -> Self {
        Self(88_172_645_463_325_252 ^ ((number as u64) << 32))
    }

    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`: the upper half of a product, cheaper than a remainder. It takes the
    /// upper half of the random bits; [`Sizes::pick`] takes lower ones.
    #[inline]
    pub(super) fn below(bits: u64, bound: usize) -> usize {
        (((bits >> 32) * bound as u64) >> 32) as usize
    }
}

/// Sizes whose logarithms are evenly distributed: as many from 16 to 32 as from 32 to 64.
///
/// They are computed in advance and picked from a table small enough for a first-level cache. The
/// table has no element of chance, so all peers get the same.
#[derive(Debug)]
pub(super) struct Sizes(Box<[u32; Self::COUNT]>);

impl Sizes {
    const COUNT: usize = 1024;

    pub(super) fn log_uniform(least_bytes: u32, most_bytes: u32) -> Self {
        let (least, most) = (f64::from(least_bytes), f64::from(most_bytes));
        let size = |at: usize| {
            let share = (at as f64 + 0.5) / Self::COUNT as f64;
            (least * (most / least).powf(share)).round() as u32
        };
        Self(Box::new(std::array::from_fn(size)))
    }

    #[inline]
    pub(super) fn pick(&self, bits: u64) -> usize {
        self.0[bits as usize % Self::COUNT] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_log_uniform() {
        let sizes = Sizes::log_uniform(16, 512);
        assert!(sizes.0.iter().all(|size| (16..=512).contains(size)));
        for power in 4..9 {
            let range = 1 << power..2 << power;
            let count = sizes.0.iter().filter(|size| range.contains(*size)).count();
            assert!((190..=220).contains(&count), "{count} from {}", 1 << power);
        }
    }

    #[test]
    fn choices_reach_everything() {
        let mut random = Random::of_worker(1);
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[Random::below(random.next(), 10)] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }
}
