//! Where the first-fit records lie in a segment: pure arithmetic, no memory touched.
//!
//! ```text
//!  area 0                                                                     area 1 ...
//!  +------+---------------------+-----------+-----------+---------+----------+
//!  | head | regions             | summary 1 | summary 2 |  maxima | maxima 1 | ...
//!  | one  | {starts, frees} x R | 1 bit per | 1 bit per | 1 word  | 1 word   |
//!  | page | R = granules / 64   | region    | word of 1 | per     | per 8    |
//!  +------+---------------------+-----------+-----------+---------+----------+
//!
//!  head, word 0   the journal, a line
//!             8   live objects, live granules, length in bytes
//!            12   for each area, the last session that was stolen there and completed
//!            16   a bit per entry of the ledger
//! ```
//!
//! Every array begins on a cache line and is sized for the most that the heap may grow to; storage
//! is reserved only for the part that stands for granules in use ([`Layout::storage`]). The
//! metadata of a byte of object space is 1/64 bit of regions twice, a word of maxima per 64
//! granules, and little above: 2.5 % with 16-byte granules.
//!
//! All of it is there [`AREAS`] times, since the records may be copied from one area to another
//! (`theft`); but for one area that is address space alone, until somebody is stopped with the
//! lock. All positions here are those of area 0; the others' lie a whole number of
//! [strides](Layout::displacement) behind.

use std::ops::{Add, Range, Sub};

use crate::peers::{ENTRIES, THREADS};
use crate::units::{LINE_BYTES, Offset, PAGE_BYTES, WORD_BYTES, WordIndex, round_up};

/// Granules in a region: one bit each in a word.
pub(crate) const REGION_GRANULES: u64 = 64;
/// Children of a node of the maxima: a cache line of words.
pub(crate) const FAN_OUT: u64 = 8;
/// Words of a region's record: its start bits, then its free bits.
pub(crate) const REGION_WORDS: u64 = 2;
/// Areas: one holds the truth, the others are for thieves to copy it to.
pub(crate) const AREAS: u64 = 4;
/// Where the words of a head lie in it.
pub(crate) const JOURNAL: u64 = 0;
pub(crate) const COUNTERS: u64 = 8;
pub(crate) const LENGTH: u64 = 10;
pub(crate) const HELPED: u64 = 12;
pub(crate) const DONE: u64 = 16;
/// Words of a head: as many as tell of each entry of the ledger, and those before.
pub(crate) const HEAD_WORDS: u64 =
    DONE + (THREADS as u64 * ENTRIES as u64).div_ceil(u64::BITS as u64);
const _: () = assert!(HEAD_WORDS * WORD_BYTES <= PAGE_BYTES && HELPED + AREAS <= DONE);
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

/// The number of an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Area(pub u8);

impl Area {
    /// The only one that heaps of the other policy have.
    pub(crate) const FIRST: Self = Self(0);

    /// All that there are.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..AREAS as u8).map(Self)
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
    pub(super) head: WordIndex,
    pub(super) regions: WordIndex,
    /// `summaries[0]` has a bit for each region, the last a single word.
    pub(super) summaries: Vec<WordIndex>,
    /// `maxima[0]` has a word for each region, the last a single word.
    pub(super) maxima: Vec<WordIndex>,
    /// The most granules the heap may hold.
    pub(super) granules_max: u64,
    arrays: Vec<Array>,
    stride_bytes: u64,
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
        let head = round_up(start.0, PAGE_BYTES)?;
        let mut at = head.checked_add(PAGE_BYTES)?;
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
        let stride_bytes = round_up(at - head, PAGE_BYTES)?;
        let end = head.checked_add(stride_bytes.checked_mul(AREAS)?)?;
        Some(Self {
            head: Offset(head).word(),
            regions: region_base,
            summaries,
            maxima,
            granules_max,
            arrays,
            stride_bytes,
            end: Offset(end),
        })
    }

    /// How many words an area lies behind area 0.
    #[inline]
    pub(super) fn displacement(&self, area: Area) -> u64 {
        u64::from(area.0) * (self.stride_bytes / WORD_BYTES)
    }

    /// The words of area 0 that have storage in a heap of `granules` granules, but for the head.
    pub(super) fn in_use(&self, granules: u64) -> impl Iterator<Item = Range<WordIndex>> {
        let regions = self.regions_with_storage(granules);
        self.arrays.iter().map(move |array| array.base..array.base + array.words_for(regions))
    }

    /// The words of area 0's head that go along to another area: all but journal and length.
    pub(super) fn copied_of_head(&self) -> [Range<WordIndex>; 2] {
        [self.head + COUNTERS..self.head + LENGTH, self.head + (LENGTH + 1)..self.head + HEAD_WORDS]
    }

    /// One more than there are, for that is where growth stores before it raises the length.
    fn regions_with_storage(&self, granules: u64) -> u64 {
        let regions = |granules: u64| granules.div_ceil(REGION_GRANULES);
        match granules.min(self.granules_max) {
            0 => 0,
            granules => (regions(granules) + 1).min(regions(self.granules_max)),
        }
    }

    /// The first byte behind the records.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// The byte ranges, whole pages, that must have storage in an area before the heap goes from
    /// `from` granules to `to`. Neighbouring ranges are joined: a heap made at full size needs one.
    pub(crate) fn storage(&self, area: Area, from: u64, to: u64) -> Vec<Range<u64>> {
        let displacement = u64::from(area.0) * self.stride_bytes;
        let head = self.head.offset().0 + displacement;
        let mut ranges: Vec<Range<u64>> = vec![];
        if from == 0 {
            ranges.push(head..head + PAGE_BYTES);
        }
        let (from, to) = (self.regions_with_storage(from), self.regions_with_storage(to));
        for array in &self.arrays {
            let base = array.base.offset().0 + displacement;
            // The search reads whole nodes of FAN_OUT words, which never leave a line, so a page.
            let first = base + array.words_for(from) * WORD_BYTES;
            let last = base + array.words_for(to) * WORD_BYTES;
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
            assert_eq!(layout.head.offset().0, 8 * PAGE_BYTES);
            let mut end = 9 * PAGE_BYTES;
            for array in &layout.arrays {
                let base = array.base.offset().0;
                assert_eq!(base % LINE_BYTES, 0);
                assert!(base >= end, "arrays overlap");
                end = base + array.words_for(granules.div_ceil(64)) * WORD_BYTES;
            }
            let mut start = 8 * PAGE_BYTES;
            for area in Area::all() {
                let storage = layout.storage(area, 0, granules);
                assert_eq!(storage.len(), 1, "a heap of full size needs one range");
                let displacement = layout.displacement(area) * WORD_BYTES;
                assert!(storage[0].start == 8 * PAGE_BYTES + displacement);
                assert!(storage[0].start >= start && storage[0].end >= end + displacement);
                start = storage[0].end;
            }
            assert!(layout.end().0 >= start, "{granules}: the last area reaches beyond the end");
        }
    }

    #[test]
    fn a_small_part_of_a_large_heap_needs_little_storage() {
        let layout = Layout::new(Offset(0), 1 << 36).unwrap();
        let bytes: u64 =
            layout.storage(Area(3), 0, 1 << 10).iter().map(|range| range.end - range.start).sum();
        assert!(bytes <= 33 * PAGE_BYTES, "{bytes}");
    }

    #[test]
    fn storage_of_two_steps_is_that_of_one() {
        let layout = Layout::new(Offset(0), 1 << 24).unwrap();
        let pages = |from, to| {
            let ranges = layout.storage(Area(1), from, to).into_iter();
            ranges.flat_map(|range| range.step_by(PAGE_BYTES as usize))
        };
        for (first, second) in [(1, 2), (64, 65), (4095, 70_000), (1 << 20, 1 << 24)] {
            let mut steps: Vec<u64> = pages(0, first).chain(pages(first, second)).collect();
            steps.sort_unstable();
            steps.dedup();
            let mut whole: Vec<u64> = pages(0, second).collect();
            whole.sort_unstable();
            assert_eq!(steps, whole, "to {first}, then to {second}");
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert_eq!(Layout::new(Offset(0), 0), None);
        assert_eq!(Layout::new(Offset(0), u64::MAX), None);
        assert_eq!(Layout::new(Offset(u64::MAX - 3), 64), None);
    }
}
