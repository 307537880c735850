//! Block boundaries: one bit per granule, "a block starts here", and one, "that block is free".
//!
//! ```text
//!  granule    0 1 2 3 4 5 6 7 8 9 ...          a block reaches to the next start
//!  starts     1 0 0 1 1 0 0 0 0 1              blocks: [0,3) [3,4) [4,9) [9, ..)
//!  frees      1 0 0 0 1 0 0 0 0 0              free:   [0,3)       [4,9)
//!
//!  summary 1  bit r: region r (64 granules) has a start
//!  summary 2  bit w: word w of summary 1 is not 0           ... up to a single word
//! ```
//!
//! A block of any length is one bit, so taking and joining blocks costs the same for 16 bytes and
//! 16 GiB. The next start is found in the same word nearly always, else in one step up and down per
//! summary level.
//!
//! Invariants: granule 0 is a start; a free bit stands only at a start; a bit of a summary is set
//! exactly if the word below is not 0. All reads are bounded whatever the bits say: `next` only
//! moves up and `previous` only down, so every walk ends.

use super::layout::{Layout, Position, REGION_WORDS, Region};
use crate::segment::words::Words;
use crate::units::WordIndex;

const BITS: u64 = u64::BITS as u64;

/// The boundary records of one heap.
#[derive(Debug, Clone)]
pub(super) struct Starts {
    regions: WordIndex,
    summaries: Vec<WordIndex>,
}

impl Starts {
    pub(super) fn new(layout: &Layout) -> Self {
        Self { regions: layout.regions, summaries: layout.summaries.clone() }
    }

    /// The word of the region's start bits; the next holds its free bits.
    pub(super) fn region_at(&self, region: Region) -> WordIndex {
        self.regions + region.0.wrapping_mul(REGION_WORDS)
    }

    fn frees_at(&self, region: Region) -> WordIndex {
        self.region_at(region) + 1
    }

    /// The start bits of a region.
    #[inline]
    pub(super) fn start_bits(&self, words: &impl Words, region: Region) -> u64 {
        words.load(self.region_at(region))
    }

    /// The free bits of a region.
    #[inline]
    pub(super) fn free_bits(&self, words: &impl Words, region: Region) -> u64 {
        words.load(self.frees_at(region))
    }

    /// Whether a block starts here.
    #[inline]
    pub(super) fn is_start(&self, words: &impl Words, at: Position) -> bool {
        self.start_bits(words, at.region()) & at.bit() != 0
    }

    /// Whether the block that starts here is marked free.
    #[inline]
    pub(super) fn is_free(&self, words: &impl Words, at: Position) -> bool {
        self.free_bits(words, at.region()) & at.bit() != 0
    }

    /// The first start behind `at`, or `end`.
    #[inline]
    pub(super) fn next(&self, words: &impl Words, at: Position, end: Position) -> Position {
        let from = at + 1;
        if from >= end {
            return end;
        }
        let bits = self.start_bits(words, from.region()) & !(from.bit() - 1);
        if bits != 0 {
            return end.min(from.region().start() + u64::from(bits.trailing_zeros()));
        }
        self.next_region(words, from.region(), end)
    }

    /// The first start in a region behind `region`, or `end`: up the summaries to a word that has
    /// a bit to the right, and down again. Words that stand for nothing before `end` are not
    /// touched: they may have no storage.
    fn next_region(&self, words: &impl Words, region: Region, end: Position) -> Position {
        let mut index = region.0 + 1;
        let mut count = end.0.div_ceil(BITS);
        for (level, &base) in self.summaries.iter().enumerate() {
            if index >= count {
                return end;
            }
            let bits = words.load(base + index / BITS) & (u64::MAX << (index % BITS));
            if bits != 0 {
                index = index / BITS * BITS + u64::from(bits.trailing_zeros());
                return self.first_below(words, level, index, end).unwrap_or(end);
            }
            index = index / BITS + 1;
            count = count.div_ceil(BITS);
        }
        end
    }

    /// The first start under entry `index` of the words that summary `level` stands for, if it is
    /// before `end`.
    fn first_below(
        &self,
        words: &impl Words,
        level: usize,
        mut index: u64,
        end: Position,
    ) -> Option<Position> {
        let last_region = end.0.checked_sub(1)? / BITS;
        for (below, &base) in self.summaries[..level].iter().enumerate().rev() {
            let is_within = index <= last_region >> (6 * (below as u32 + 1));
            let bits = is_within.then(|| words.load(base + index)).filter(|&bits| bits != 0)?;
            index = index * BITS + u64::from(bits.trailing_zeros());
        }
        let bits = (index <= last_region).then(|| self.start_bits(words, Region(index)))?;
        let start = Region(index).start() + u64::from(bits.trailing_zeros());
        (bits != 0 && start < end).then_some(start)
    }

    /// The last start before `at`. Words behind it are not touched: they may have no storage.
    #[inline]
    pub(super) fn previous(&self, words: &impl Words, at: Position) -> Option<Position> {
        let last = Position(at.0.checked_sub(1)?);
        let bits = self.start_bits(words, last.region()) & (u64::MAX >> (63 - last.0 % BITS));
        if bits != 0 {
            return Some(last.region().start() + u64::from(bits.ilog2()));
        }
        self.previous_region(words, last.region())
    }

    fn previous_region(&self, words: &impl Words, region: Region) -> Option<Position> {
        let mut index = region.0;
        for (level, &base) in self.summaries.iter().enumerate() {
            let bits = words.load(base + index / BITS) & ((1 << (index % BITS)) - 1);
            if bits != 0 {
                index = index / BITS * BITS + u64::from(bits.ilog2());
                return self.last_below(words, level, index);
            }
            index /= BITS;
        }
        None
    }

    fn last_below(&self, words: &impl Words, level: usize, mut index: u64) -> Option<Position> {
        for &base in self.summaries[..level].iter().rev() {
            index = index * BITS + u64::from(words.load(base + index).checked_ilog2()?);
        }
        let region = Region(index);
        let last = self.start_bits(words, region).checked_ilog2()?;
        Some(region.start() + u64::from(last))
    }

    /// Marks a start. Summaries are touched only if it is the first in its word.
    #[inline]
    pub(super) fn set_start(&self, words: &impl Words, at: Position) {
        let word = self.region_at(at.region());
        let bits = words.load(word);
        words.store(word, bits | at.bit());
        if bits == 0 {
            self.set_summaries(words, at.region());
        }
    }

    fn set_summaries(&self, words: &impl Words, region: Region) {
        let mut index = region.0;
        for &base in &self.summaries {
            let word = base + index / BITS;
            let bits = words.load(word);
            words.store(word, bits | 1 << (index % BITS));
            if bits != 0 {
                return;
            }
            index /= BITS;
        }
    }

    /// Unmarks a start. Summaries are touched only if it was the last in its word.
    #[inline]
    pub(super) fn clear_start(&self, words: &impl Words, at: Position) {
        let word = self.region_at(at.region());
        let bits = words.load(word) & !at.bit();
        words.store(word, bits);
        if bits == 0 {
            self.clear_summaries(words, at.region());
        }
    }

    fn clear_summaries(&self, words: &impl Words, region: Region) {
        let mut index = region.0;
        for &base in &self.summaries {
            let word = base + index / BITS;
            let bits = words.load(word) & !(1 << (index % BITS));
            words.store(word, bits);
            if bits != 0 {
                return;
            }
            index /= BITS;
        }
    }

    #[inline]
    pub(super) fn set_free(&self, words: &impl Words, at: Position) {
        let word = self.frees_at(at.region());
        words.store(word, words.load(word) | at.bit());
    }

    #[inline]
    pub(super) fn clear_free(&self, words: &impl Words, at: Position) {
        let word = self.frees_at(at.region());
        words.store(word, words.load(word) & !at.bit());
    }

    /// Makes every summary of the region's start word right, whatever a killed process left: no
    /// early exit, for the level where it died is not known.
    pub(super) fn repair(&self, words: &impl Words, region: Region) {
        let mut index = region.0;
        let mut below = self.start_bits(words, region);
        for &base in &self.summaries {
            let word = base + index / BITS;
            let bit = 1 << (index % BITS);
            let bits = words.load(word);
            let repaired = if below != 0 { bits | bit } else { bits & !bit };
            words.store(word, repaired);
            below = repaired;
            index /= BITS;
        }
    }

    /// The free blocks that start in the region, lowest first, each with its granules. Every block
    /// but the last of the region ends at the next start bit of the same word. Bits behind the end
    /// of the heap are damage and stand for nothing.
    #[inline]
    pub(super) fn free_blocks<W: Words>(
        &self,
        words: &W,
        region: Region,
        end: Position,
    ) -> impl Iterator<Item = (Position, u64)> {
        let beyond = match end.0.saturating_sub(region.start().0) {
            BITS.. => 0,
            granules => u64::MAX << granules,
        };
        let start_bits = self.start_bits(words, region) & !beyond;
        let mut frees = self.free_bits(words, region) & !beyond;
        std::iter::from_fn(move || {
            let bit = (frees != 0).then(|| frees.trailing_zeros())?;
            frees &= frees - 1;
            let at = region.start() + u64::from(bit);
            let later = start_bits & (u64::MAX << bit << 1);
            let granules = if later != 0 {
                u64::from(later.trailing_zeros() - bit)
            } else {
                self.next(words, at, end) - at
            };
            Some((at, granules))
        })
    }

    /// The base of every level of summaries.
    pub(super) fn summary_levels(&self) -> &[WordIndex] {
        &self.summaries
    }
}
