//! Hints: where to look for free units, and for slabs that are nobody's and have something free.
//!
//! ```text
//!   summary     a bit for a group of 64 units: some of them may be free
//!   free        a bit for a unit: it may be free, or a hole
//!   shared      a bit for a unit: it may be the head of nobody's slab with a free object
//! ```
//!
//! The truth is in the units' words and the objects' states. A bit that is set where nothing is
//! found costs a look. A bit that is missing hides memory, so there is a rule for each direction:
//!
//! - *set* after the truth has changed, by whoever changed it;
//! - *clear* only as the claimant, after the claim, or as stale: note it, clear, then look at the
//!   truth once more, and set again if it says so.
//!
//! Each is a change of one word followed by a look at another. All of them are sequentially
//! consistent, so of a setter and a clearer that meet, one sees what the other did.

use super::layout::{GROUP_UNITS, GROUP_WORDS, Layout};
use super::unit::Unit;
use crate::segment::words::Words;
use crate::units::WordIndex;

/// What a bit hints at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// The unit may be free or a hole.
    Free,
    /// The unit may be the head of a slab that is nobody's and has a free object.
    Shared,
}

/// What a search for a free unit comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextFree {
    /// This unit may be free.
    Unit(Unit),
    /// None is hinted at.
    None,
    /// The summary tells of a group, from this unit on, that hints at none.
    Stale(Unit),
}

/// The hints of one heap.
#[derive(Debug, Clone)]
pub(super) struct Hints {
    base: WordIndex,
    summary: WordIndex,
}

fn bit(number: u64) -> u64 {
    1 << (number % GROUP_UNITS)
}

impl Hints {
    pub(super) fn new(layout: &Layout) -> Self {
        Self { base: layout.hints, summary: layout.summary }
    }

    #[inline]
    fn word(&self, hint: Hint, group: u64) -> WordIndex {
        self.base + group * GROUP_WORDS + hint as u64
    }

    #[inline]
    pub(super) fn is_set(&self, words: &impl Words, hint: Hint, unit: Unit) -> bool {
        words.load(self.word(hint, unit.0 / GROUP_UNITS)) & bit(unit.0) != 0
    }

    /// Sets the bit; the truth has changed before.
    #[inline]
    pub(super) fn set(&self, words: &impl Words, hint: Hint, unit: Unit) {
        let group = unit.0 / GROUP_UNITS;
        set_bits(words, self.word(hint, group), bit(unit.0));
        if hint == Hint::Free {
            set_bits(words, self.summary + group / GROUP_UNITS, bit(group));
        }
    }

    /// Sets the bits of `count` units.
    pub(super) fn set_free(&self, words: &impl Words, start: Unit, count: u64) {
        self.set_free_where(words, start, count, |_| true);
    }

    /// Sets the bits of those of `count` units that `is_free` says are free.
    pub(super) fn set_free_where(
        &self,
        words: &impl Words,
        start: Unit,
        count: u64,
        is_free: impl Fn(Unit) -> bool,
    ) {
        for_each_group(start, count, |group, bits| {
            let first = group * GROUP_UNITS;
            let (from, to) = (bits.trailing_zeros(), u64::BITS - bits.leading_zeros());
            let free = (u64::from(from)..u64::from(to))
                .filter(|&number| is_free(Unit(first + number)))
                .fold(0, |free, number| free | bit(number));
            if free != 0 {
                set_bits(words, self.word(Hint::Free, group), free);
                set_bits(words, self.summary + group / GROUP_UNITS, bit(group));
            }
        });
    }

    /// Clears the bit as the one who has just claimed the unit.
    pub(super) fn clear(&self, words: &impl Words, hint: Hint, unit: Unit) {
        clear_bits(words, self.word(hint, unit.0 / GROUP_UNITS), bit(unit.0));
    }

    /// Clears the bits of `count` units as the one who has just claimed them.
    pub(super) fn clear_free(&self, words: &impl Words, start: Unit, count: u64) {
        for_each_group(start, count, |group, bits| {
            clear_bits(words, self.word(Hint::Free, group), bits);
        });
    }

    /// Clears a bit that has led to nothing, unless `is_true` says after that that it is right.
    pub(super) fn clear_stale(
        &self,
        words: &impl Words,
        hint: Hint,
        unit: Unit,
        is_true: impl Fn() -> bool,
    ) {
        self.clear(words, hint, unit);
        if is_true() {
            self.set(words, hint, unit);
        }
    }

    /// The first unit from `from` on and before `end` that is hinted at as shared.
    pub(super) fn next_shared(&self, words: &impl Words, from: Unit, end: Unit) -> Option<Unit> {
        let mut at = from;
        while at < end {
            if let Some(found) = self.next_in_group(words, Hint::Shared, at) {
                return (found < end).then_some(found);
            }
            at = Unit((at.0 / GROUP_UNITS + 1) * GROUP_UNITS);
        }
        None
    }

    /// The first unit from `from` on and before `end` that is hinted at as free.
    pub(super) fn next_free(&self, words: &impl Words, from: Unit, end: Unit) -> NextFree {
        let mut at = from;
        while at < end {
            if let Some(found) = self.next_in_group(words, Hint::Free, at) {
                return if found < end { NextFree::Unit(found) } else { NextFree::None };
            }
            let Some(next) = self.next_group(words, at.0 / GROUP_UNITS + 1, end) else {
                return NextFree::None;
            };
            at = Unit(next * GROUP_UNITS);
            if words.load(self.word(Hint::Free, next)) == 0 {
                return NextFree::Stale(at);
            }
        }
        NextFree::None
    }

    fn next_in_group(&self, words: &impl Words, hint: Hint, at: Unit) -> Option<Unit> {
        let group = at.0 / GROUP_UNITS;
        let bits = words.load(self.word(hint, group)) & (u64::MAX << (at.0 % GROUP_UNITS));
        (bits != 0).then(|| Unit(group * GROUP_UNITS + u64::from(bits.trailing_zeros())))
    }

    /// Clears the summary's bit of the group that starts at a unit, unless it turns out right.
    pub(super) fn clear_stale_group(&self, words: &impl Words, start: Unit) {
        let group = start.0 / GROUP_UNITS;
        let at = self.summary + group / GROUP_UNITS;
        clear_bits(words, at, bit(group));
        if words.load(self.word(Hint::Free, group)) != 0 {
            set_bits(words, at, bit(group));
        }
    }

    /// The first unit from `at` on, in its group, that begins `units` free bits as far as the group
    /// goes; `units` are at most a group.
    pub(super) fn next_start(&self, words: &impl Words, at: Unit, units: u64) -> Option<Unit> {
        let group = at.0 / GROUP_UNITS;
        let bits = words.load(self.word(Hint::Free, group)) & (u64::MAX << (at.0 % GROUP_UNITS));
        // Behind the group everything may be free.
        let mut starts = u128::from(bits) | u128::from(u64::MAX) << GROUP_UNITS;
        // A bit of `starts` begins `run` free ones; two such runs make one of up to twice the
        // length.
        let mut run = 1;
        while run < units {
            let step = run.min(units - run);
            starts &= starts >> step;
            run += step;
        }
        let starts = starts as u64;
        (starts != 0).then(|| Unit(group * GROUP_UNITS + u64::from(starts.trailing_zeros())))
    }

    /// The first unit from `from` on and before `end` that has no free bit, or `end`.
    pub(super) fn next_not_free(&self, words: &impl Words, from: Unit, end: Unit) -> Unit {
        let mut at = from;
        while at < end {
            let group = at.0 / GROUP_UNITS;
            let set = words.load(self.word(Hint::Free, group)) >> (at.0 % GROUP_UNITS);
            let run = u64::from(set.trailing_ones());
            let left = GROUP_UNITS - at.0 % GROUP_UNITS;
            if run < left {
                return (at + run).min(end);
            }
            at = at + left;
        }
        end
    }

    /// The first group from `from` on and before `end` that the summary tells of.
    fn next_group(&self, words: &impl Words, from: u64, end: Unit) -> Option<u64> {
        let groups = end.0.div_ceil(GROUP_UNITS);
        let mut group = from;
        while group < groups {
            let at = self.summary + group / GROUP_UNITS;
            let bits = words.load(at) & (u64::MAX << (group % GROUP_UNITS));
            if bits != 0 {
                let found = group / GROUP_UNITS * GROUP_UNITS + u64::from(bits.trailing_zeros());
                return (found < groups).then_some(found);
            }
            group = (group / GROUP_UNITS + 1) * GROUP_UNITS;
        }
        None
    }
}

/// Calls `each` with a group and the bits in it, for all groups of a run of units.
#[inline]
fn for_each_group(start: Unit, count: u64, mut each: impl FnMut(u64, u64)) {
    let (mut at, end) = (start.0, start.0.saturating_add(count));
    while at < end {
        let shift = at % GROUP_UNITS;
        let here = (end - at).min(GROUP_UNITS - shift);
        each(at / GROUP_UNITS, u64::MAX >> (GROUP_UNITS - here) << shift);
        at += here;
    }
}

#[inline]
fn set_bits(words: &impl Words, at: WordIndex, bits: u64) {
    change(words, at, |word| word | bits);
}

#[inline]
fn clear_bits(words: &impl Words, at: WordIndex, bits: u64) {
    change(words, at, |word| word & !bits);
}

/// Lock-free: a lost race means that another process has changed the word.
#[inline]
fn change(words: &impl Words, at: WordIndex, to: impl Fn(u64) -> u64) {
    let mut word = words.load(at);
    while to(word) != word {
        match words.compare_exchange(at, word, to(word)) {
            Ok(_) => return,
            // Outside the row, where a hostile number may lead, nothing ever changes.
            Err(found) if found == word => return,
            Err(found) => word = found,
        }
    }
}
