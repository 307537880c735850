//! The search index: for every region the longest free block that starts in it, and above that a
//! tree of maxima, eight children to a node, a node to a cache line.
//!
//! ```text
//!                       [ 900 ]                              root: the longest free block of all
//!           [ 12 | 900 | 3 | ... ]                           one word per 8 regions
//!   [ 0 | 12 | 5 ...]  [ 900 | 1 | ...]  [ 3 | 0 | ...]      one word per region
//! ```
//!
//! A block counts in the region where it starts, also if it reaches far beyond: so the leftmost
//! leaf that is large enough holds the start of the lowest block that is large enough, which is
//! first fit, in one node per level.
//!
//! Invariant: a leaf is the maximum over the free blocks that start in its region, 0 if none; a
//! node is the maximum of its children. The tree is derived from the bits of `starts`: an
//! operation may find it wrong after a kill, and `rebuild` makes it right.

use super::Fault;
use super::layout::{FAN_OUT, Layout, Position, REGION_GRANULES, Region};
use super::starts::Starts;
use crate::segment::words::Words;
use crate::units::WordIndex;

/// The tree of one heap.
#[derive(Debug, Clone)]
pub(super) struct Maxima {
    levels: Vec<WordIndex>,
}

impl Maxima {
    pub(super) fn new(layout: &Layout) -> Self {
        Self { levels: layout.maxima.clone() }
    }

    #[inline]
    fn leaf(&self, region: Region) -> WordIndex {
        self.levels[0] + region.0
    }

    /// The longest free block of the heap, in granules.
    #[inline]
    pub(super) fn root(&self, words: &impl Words) -> u64 {
        words.load(self.levels[self.levels.len() - 1])
    }

    /// The first region that has a free block of at least `need` granules.
    #[inline]
    pub(super) fn first(
        &self,
        words: &impl Words,
        need: u64,
        end: Position,
    ) -> Result<Option<Region>, Fault> {
        if self.root(words) < need {
            return Ok(None);
        }
        self.descend(words, self.levels.len() - 1, 0, need, end).map(Some)
    }

    /// From a node that promises `need` down to the first leaf that keeps the promise. What stands
    /// for nothing before `end` is not gone to: it may have no storage.
    #[inline]
    fn descend(
        &self,
        words: &impl Words,
        level: usize,
        mut index: u64,
        need: u64,
        end: Position,
    ) -> Result<Region, Fault> {
        let last_region = end.0.saturating_sub(1) / REGION_GRANULES;
        for (child_level, &children) in self.levels[..level].iter().enumerate().rev() {
            let first = index * FAN_OUT;
            let line = words.load_line(children + first);
            let child = line.iter().position(|&granules| granules >= need);
            index = first + child.unwrap_or(0) as u64;
            if child.is_none() || index > last_region >> (child_level as u32 * FAN_OUT.ilog2()) {
                return Err(Fault::Damaged("a node of the search index exceeds its children"));
            }
        }
        Ok(Region(index))
    }

    /// The first region behind `region` that has a free block of at least `need` granules.
    pub(super) fn next(
        &self,
        words: &impl Words,
        region: Region,
        need: u64,
        end: Position,
    ) -> Result<Option<Region>, Fault> {
        let mut index = region.0;
        for (level, &base) in self.levels[..self.levels.len() - 1].iter().enumerate() {
            let first = index / FAN_OUT * FAN_OUT;
            let behind = (index - first) as usize + 1;
            let line = words.load_line(base + first);
            if let Some(child) = line[behind..].iter().position(|&granules| granules >= need) {
                let sibling = first + (behind + child) as u64;
                return self.descend(words, level, sibling, need, end).map(Some);
            }
            index /= FAN_OUT;
        }
        Ok(None)
    }

    /// A free block of `granules` now starts in the region: the path rises as far as it must.
    #[inline]
    pub(super) fn admit(&self, words: &impl Words, region: Region, granules: u64) {
        let mut index = region.0;
        for &level in &self.levels {
            let at = level + index;
            if words.load(at) >= granules {
                return;
            }
            words.store(at, granules);
            index /= FAN_OUT;
        }
    }

    /// A free block of `granules` no longer starts in the region. Only if it was the longest, the
    /// leaf is counted anew from `starts`, whose bits are right already, and the path with it.
    #[inline]
    pub(super) fn retire(
        &self,
        words: &impl Words,
        starts: &Starts,
        region: Region,
        granules: u64,
        end: Position,
    ) {
        let at = self.leaf(region);
        if words.load(at) != granules {
            return;
        }
        let leaf = leaf_maximum(words, starts, region, end);
        if leaf == granules {
            return;
        }
        words.store(at, leaf);
        self.lower_path(words, region);
    }

    fn lower_path(&self, words: &impl Words, region: Region) {
        let mut index = region.0;
        for pair in self.levels.windows(2) {
            index /= FAN_OUT;
            let maximum = maximum_of_children(words, pair[0], index);
            let at = pair[1] + index;
            if words.load(at) == maximum {
                return;
            }
            words.store(at, maximum);
        }
    }

    /// Makes the region's leaf and all above it right from the bits, whatever a killed process
    /// left: no early exit, for the level where it died is not known.
    pub(super) fn rebuild(
        &self,
        words: &impl Words,
        starts: &Starts,
        region: Region,
        end: Position,
    ) {
        let mut index = region.0;
        words.store(self.leaf(region), leaf_maximum(words, starts, region, end));
        for pair in self.levels.windows(2) {
            index /= FAN_OUT;
            words.store(pair[1] + index, maximum_of_children(words, pair[0], index));
        }
    }

    /// The base of every level, leaves first.
    pub(super) fn levels(&self) -> &[WordIndex] {
        &self.levels
    }
}

/// The maximum over the children, in the level at `children`, of node `index`.
#[inline]
pub(super) fn maximum_of_children(words: &impl Words, children: WordIndex, index: u64) -> u64 {
    words.load_line(children + index.wrapping_mul(FAN_OUT)).into_iter().fold(0, u64::max)
}

/// The longest free block that starts in the region, counted from the bits.
pub(super) fn leaf_maximum(
    words: &impl Words,
    starts: &Starts,
    region: Region,
    end: Position,
) -> u64 {
    starts.free_blocks(words, region, end).map(|(_, granules)| granules).max().unwrap_or(0)
}
