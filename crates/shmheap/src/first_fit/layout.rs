//! Where the first-fit records lie in a segment: pure arithmetic, no memory touched.
//!
//! ```text
//!  start                                                            end
//!  +---------------------+-----------+-----------+---------+----------+
//!  | regions             | summary 1 | summary 2 |  maxima | maxima 1 | ...
//!  | {starts, frees} x R | 1 bit per | 1 bit per | 1 word  | 1 word   |
//!  | R = granules / 64   | region    | word of 1 | per     | per 8    |
//!  +---------------------+-----------+-----------+---------+----------+
//! ```
//!
//! Every array begins on a cache line and is sized for the most that the heap may grow to; storage
//! is reserved only for the part that stands for granules in use ([`Layout::storage`]). The
//! metadata of a byte of object space is 1/64 bit of regions twice, a word of maxima per 64
//! granules, and little above: 2.5 % with 16-byte granules.

use std::ops::{Add, Range, Sub};

use crate::units::{LINE_BYTES, Offset, PAGE_BYTES, WORD_BYTES, WordIndex, round_up};

/// Granules in a region: one bit each in a word.
pub(crate) const REGION_GRANULES: u64 = 64;
/// Children of a node of the maxima: a cache line of words.
pub(crate) const FAN_OUT: u64 = 8;
/// Words of a region's record: its start bits, then its free bits.
pub(crate) const REGION_WORDS: u64 = 2;
/// Levels of summaries over the regions' start words that the largest heap needs.
const SUMMARY_LEVELS_MAX: usize = 7;
/// Levels of maxima that the largest heap needs.
const MAXIMA_LEVELS_MAX: usize = 14;

/// A place in object space, counted in granules from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(pub u64);

impl Position {
    /// The region that the granule lies in.
    #[inline]
    pub(crate) const fn region(self) -> Region {
        Region(self.0 / REGION_GRANULES)
    }

    /// The granule's bit in its region's words.
    #[inline]
    pub(crate) const fn bit(self) -> u64 {
        1 << (self.0 % REGION_GRANULES)
    }
}

impl Add<u64> for Position {
    type Output = Self;

    #[inline]
    fn add(self, granules: u64) -> Self {
        Self(self.0.wrapping_add(granules))
    }
}

impl Sub for Position {
    type Output = u64;

    #[inline]
    fn sub(self, start: Self) -> u64 {
        self.0.wrapping_sub(start.0)
    }
}

/// The number of a run of 64 granules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Region(pub u64);

impl Region {
    /// The region's first granule.
    #[inline]
    pub(crate) const fn start(self) -> Position {
        Position(self.0.wrapping_mul(REGION_GRANULES))
    }
}

/// One array of words, and how many there are for a given number of regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Array {
    base: WordIndex,
    /// Regions that one entry stands for.
    regions_per_entry: u64,
    words_per_entry: u64,
}

impl Array {
    fn words_for(&self, regions: u64) -> u64 {
        regions.div_ceil(self.regions_per_entry) * self.words_per_entry
    }
}

/// The base of every array; see the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(super) regions: WordIndex,
    /// `summaries[0]` has a bit for each region, the last a single word.
    pub(super) summaries: Vec<WordIndex>,
    /// `maxima[0]` has a word for each region, the last a single word.
    pub(super) maxima: Vec<WordIndex>,
    /// The most granules the heap may hold.
    pub(super) granules_max: u64,
    arrays: Vec<Array>,
    end: Offset,
}

impl Layout {
    /// The layout from `start` on for at most `granules_max` granules; `None` if there are none or
    /// more than the levels reach.
    pub(crate) fn new(start: Offset, granules_max: u64) -> Option<Self> {
        let regions = granules_max.div_ceil(REGION_GRANULES);
        if regions == 0 {
            return None;
        }
        let mut arrays = vec![];
        let mut at = round_up(start.0, LINE_BYTES)?;
        let mut append = |regions_per_entry: u64, words_per_entry: u64| {
            let array = Array { base: Offset(at).word(), regions_per_entry, words_per_entry };
            let bytes = array.words_for(regions).checked_mul(WORD_BYTES)?;
            at = round_up(at.checked_add(bytes)?, LINE_BYTES)?;
            arrays.push(array);
            Some(array.base)
        };

        let region_base = append(1, REGION_WORDS)?;
        let mut summaries = vec![];
        let mut regions_per_word = 1;
        while regions > regions_per_word || summaries.is_empty() {
            regions_per_word *= u64::from(u64::BITS);
            summaries.push(append(regions_per_word, 1)?);
        }
        let mut maxima = vec![append(1, 1)?];
        let mut regions_per_node = 1;
        while regions > regions_per_node {
            regions_per_node *= FAN_OUT;
            maxima.push(append(regions_per_node, 1)?);
        }
        if summaries.len() > SUMMARY_LEVELS_MAX || maxima.len() > MAXIMA_LEVELS_MAX {
            return None;
        }
        Some(Self {
            regions: region_base,
            summaries,
            maxima,
            granules_max,
            arrays,
            end: Offset(at),
        })
    }

    /// The first byte behind the records.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// The byte ranges, whole pages, that must have storage before the heap goes from `from`
    /// granules to `to`. Neighbouring ranges are joined: a heap made at full size needs one.
    pub(crate) fn storage(&self, from: u64, to: u64) -> Vec<Range<u64>> {
        let regions = |granules: u64| granules.min(self.granules_max).div_ceil(REGION_GRANULES);
        let mut ranges: Vec<Range<u64>> = vec![];
        for array in &self.arrays {
            let base = array.base.offset().0;
            // The search reads whole nodes of FAN_OUT words, which never leave a line, so a page.
            let first = base + array.words_for(regions(from)) * WORD_BYTES;
            let last = base + array.words_for(regions(to)) * WORD_BYTES;
            let first = first / PAGE_BYTES * PAGE_BYTES;
            let last = last.div_ceil(PAGE_BYTES) * PAGE_BYTES;
            match ranges.last_mut() {
                Some(previous) if previous.end >= first => previous.end = previous.end.max(last),
                _ => ranges.push(first..last),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_follow_each_other_on_lines_and_storage_covers_them() {
        for granules in [1, 63, 64, 65, 4096, 4097, 1 << 20, (1 << 32) + 7] {
            let layout = Layout::new(Offset(8 * PAGE_BYTES), granules).unwrap();
            let mut end = 8 * PAGE_BYTES;
            for array in &layout.arrays {
                let base = array.base.offset().0;
                assert_eq!(base % LINE_BYTES, 0);
                assert!(base >= end, "arrays overlap");
                end = base + array.words_for(granules.div_ceil(64)) * WORD_BYTES;
            }
            assert!(layout.end().0 >= end);
            let storage = layout.storage(0, granules);
            assert_eq!(storage.len(), 1, "a heap of full size needs one range");
            assert!(storage[0].start <= 8 * PAGE_BYTES && storage[0].end >= end);
        }
    }

    #[test]
    fn a_small_part_of_a_large_heap_needs_little_storage() {
        let layout = Layout::new(Offset(0), 1 << 36).unwrap();
        let bytes: u64 =
            layout.storage(0, 1 << 10).iter().map(|range| range.end - range.start).sum();
        assert!(bytes <= 32 * PAGE_BYTES, "{bytes}");
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert_eq!(Layout::new(Offset(0), 0), None);
        assert_eq!(Layout::new(Offset(0), u64::MAX), None);
        assert_eq!(Layout::new(Offset(u64::MAX - 3), 64), None);
    }
}
