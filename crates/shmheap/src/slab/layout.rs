//! Where the records of the slab policy lie.
//!
//! ```text
//!   start                                states, each kind from a page on   object space
//!   +--------+-------------+------------+---------------+--------+--------+-- .. -+
//!   | units  | hints       | summary    | states kind 0 | kind 1 | kind 2 |       |
//!   | a word | 2 words for | a bit for  | 1024 bytes    | 2048   | 4096   |       |
//!   | each   | 64 units    | 64 units   | for each unit |        |        |       |
//!   +--------+-------------+------------+---------------+--------+--------+-- .. -+
//! ```
//!
//! All arrays are laid out for the most units that the heap may have. Units, hints and summary get
//! storage as the heap grows. States get it when a slab of their kind is first made among 4 units,
//! so that a heap pays for the states of tiny objects only where it has such.

use std::ops::Range;

use super::class::{Geometry, KIND_COUNT, row_states};
use super::unit::{UNIT_BYTES, Unit};
use crate::segment::states::StateIndex;
use crate::units::{LINE_BYTES, Offset, PAGE_BYTES, WORD_BYTES, WordIndex, round_up};

/// Units that one word of hints stands for.
pub(crate) const GROUP_UNITS: u64 = u64::BITS as u64;
/// Words of hints for a group: which units may be free, which slabs nobody's.
pub(crate) const GROUP_WORDS: u64 = 2;
/// Units whose states get storage together: as few as share a page.
pub(crate) const BLOCK_UNITS: u64 = 4;
/// The rows of each kind of states are made for a multiple of so many units.
const ROWS_UNITS: u64 = 16;
/// The most units that a heap may have: their numbers fit the words that name them.
const UNITS_MAX: u64 = 1 << 30;

/// The base of every array; see the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(super) units: WordIndex,
    pub(super) hints: WordIndex,
    pub(super) summary: WordIndex,
    /// The most units the heap may have.
    pub(crate) units_max: u64,
    /// The first byte of all states: what a `StateIndex` counts from.
    states: Offset,
    /// The first state of each kind.
    kinds: [StateIndex; KIND_COUNT],
    end: Offset,
}

/// Some states of one kind, which get storage together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateBlock(pub u64);

impl Layout {
    /// The layout from `start` on for at most `units_max` units; `None` if there are none or too
    /// many.
    pub(crate) fn new(start: Offset, units_max: u64) -> Option<Self> {
        if units_max == 0 || units_max > UNITS_MAX {
            return None;
        }
        let groups = units_max.div_ceil(GROUP_UNITS);
        let mut at = round_up(start.0, LINE_BYTES)?;
        let mut append = |words: u64| {
            let base = Offset(at).word();
            at = round_up(at.checked_add(words * WORD_BYTES)?, LINE_BYTES)?;
            Some(base)
        };
        let units = append(units_max)?;
        let hints = append(groups * GROUP_WORDS)?;
        let summary = append(groups.div_ceil(GROUP_UNITS))?;
        let states = Offset(round_up(at, PAGE_BYTES)?);
        let rows = units_max.next_multiple_of(ROWS_UNITS);
        let mut kinds = [StateIndex(0); KIND_COUNT];
        let mut used = 0;
        for (kind, first) in kinds.iter_mut().enumerate() {
            *first = StateIndex(used);
            used += rows * row_states(kind);
        }
        let end = Offset(states.0.checked_add(used)?);
        Some(Self { units, hints, summary, units_max, states, kinds, end })
    }

    /// The first byte behind the records.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// The bytes that hold words, and those that hold states.
    pub(crate) fn states(&self) -> Range<u64> {
        self.states.0..self.end.0
    }

    /// The first state of a slab of that geometry at a unit. Units that no heap has give a state
    /// behind the row.
    #[inline]
    pub(super) fn row(&self, geometry: &Geometry, unit: Unit) -> StateIndex {
        if unit.0 >= self.units_max {
            return StateIndex(u64::MAX);
        }
        let kind = usize::from(geometry.kind);
        self.kinds[kind] + unit.0 * row_states(kind)
    }

    /// The byte ranges, whole pages, that must have storage before the heap goes from `from` units
    /// to `to`. Neighbouring ranges are joined.
    pub(crate) fn storage(&self, from: u64, to: u64) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = vec![];
        let [from, to] = [from, to].map(|units| units.min(self.units_max));
        let groups = |units: u64| units.div_ceil(GROUP_UNITS);
        for (base, from_words, to_words) in [
            (self.units, from, to),
            (self.hints, groups(from) * GROUP_WORDS, groups(to) * GROUP_WORDS),
            (self.summary, groups(groups(from)), groups(groups(to))),
        ] {
            let byte = |words: u64| base.offset().0 + words * WORD_BYTES;
            let first = byte(from_words) / PAGE_BYTES * PAGE_BYTES;
            let last = byte(to_words).div_ceil(PAGE_BYTES) * PAGE_BYTES;
            match ranges.last_mut() {
                Some(previous) if previous.end >= first => previous.end = previous.end.max(last),
                _ => ranges.push(first..last),
            }
        }
        ranges
    }

    /// How many blocks of states there are.
    pub(crate) fn block_count(&self) -> u64 {
        self.units_max.div_ceil(BLOCK_UNITS) * KIND_COUNT as u64
    }

    /// The block that the states of a slab lie in.
    #[inline]
    pub(super) fn block(&self, geometry: &Geometry, unit: Unit) -> StateBlock {
        StateBlock(unit.0 / BLOCK_UNITS * KIND_COUNT as u64 + u64::from(geometry.kind))
    }

    /// The bytes of a block of states: whole pages.
    pub(crate) fn block_bytes(&self, block: StateBlock) -> Range<u64> {
        let kind = (block.0 % KIND_COUNT as u64) as usize;
        let bytes = BLOCK_UNITS * row_states(kind);
        let first = self.states.0 + self.kinds[kind].0 + block.0 / KIND_COUNT as u64 * bytes;
        first..first + bytes
    }
}

const _: () = assert!(UNIT_BYTES.is_multiple_of(PAGE_BYTES));
const _: () = assert!((BLOCK_UNITS * row_states(0)).is_multiple_of(PAGE_BYTES));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::class::Class;

    #[test]
    fn arrays_follow_each_other_and_storage_covers_their_words() {
        for units in [1, 15, 16, 17, 64, 65, 4096, 4097, 1 << 20, UNITS_MAX] {
            let layout = Layout::new(Offset(8 * PAGE_BYTES), units).unwrap();
            let groups = units.div_ceil(64);
            assert!(layout.units.0 + units <= layout.hints.0);
            assert!(layout.hints.0 + 2 * groups <= layout.summary.0);
            let words_end = layout.summary.offset().0 + groups.div_ceil(64) * WORD_BYTES;
            assert!(words_end <= layout.states.0);
            let storage = layout.storage(0, units);
            assert_eq!(storage.len(), 1, "a heap of full size needs one range");
            assert!(storage[0].start <= 8 * PAGE_BYTES && storage[0].end >= words_end);
            assert!(storage[0].end <= layout.states.0, "no storage for states before they are");
        }
    }

    #[test]
    fn rows_of_states_lie_apart_and_inside_their_blocks() {
        let layout = Layout::new(Offset(0), 40).unwrap();
        let mut rows: Vec<Range<u64>> = vec![];
        let mut blocks: Vec<Range<u64>> =
            (0..layout.block_count()).map(|block| layout.block_bytes(StateBlock(block))).collect();
        for kind in 0..KIND_COUNT {
            let class =
                Class::all().find(|class| usize::from(class.geometry().kind) == kind).unwrap();
            let geometry = class.geometry();
            for unit in (0..40).map(Unit) {
                let first = layout.states.0 + layout.row(geometry, unit).0;
                let row = first..first + row_states(kind);
                let block = layout.block_bytes(layout.block(geometry, unit));
                assert!(block.start <= row.start && row.end <= block.end, "{unit:?}");
                assert!(row_states(kind) >= class.capacity());
                rows.push(row);
            }
        }
        for ranges in [&mut rows, &mut blocks] {
            ranges.sort_by_key(|range| range.start);
            assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
            assert!(ranges.last().unwrap().end <= layout.end().0);
        }
        let geometry = Class::of(16, 1).unwrap().geometry();
        assert_eq!(layout.row(geometry, Unit(40)), StateIndex(u64::MAX));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert_eq!(Layout::new(Offset(0), 0), None);
        assert_eq!(Layout::new(Offset(0), UNITS_MAX + 1), None);
        assert_eq!(Layout::new(Offset(u64::MAX - 3), 64), None);
    }
}
