//! The scalable engine: slabs of size classes, owned by one thread at a time, without any lock.
//!
//! ```text
//!   object space   | unit 0  | unit 1  | unit 2 : unit 3 : unit 4 | unit 5  | ...   64 KiB each
//!                  | slab of | slab of |  a large object of three | free    |
//!                  | 48-byte | 2-KiB   |  units                   |         |
//!   unit words     | slab p  | slab -  | large 3: rest 1 : rest 2 | free    |   who has it
//!   states         | 1365 x  | 32 x    |                          |         |   a byte per object
//!   hints          |         | shared  |                          | free    |   a bit per unit
//! ```
//!
//! Two records are the truth: the word of each unit ([`unit`]) and the state byte of each object
//! ([`States`](crate::segment::states::States)). Everything else in the segment is a hint that may
//! be wrong ([`hints`]), everything else a thread needs is private to it ([`cache`]).
//!
//! A slab has one owner, a thread of one process, or none. The owner allocates and frees in it with
//! plain stores of one state byte. Anybody else frees with a plain store of that byte, too, and
//! needs nothing of the owner: the owner finds it when it next looks through the states, or, if the
//! slab is nobody's, the next to claim it. A thread keeps few slabs that have been used up, and
//! lets the others go, so what a stopped process keeps from others is bounded.
//!
//! | file | holds |
//! |---|---|
//! | `class`, `unit`, `layout` | sizes, units, where the records lie |
//! | `hints` | where to look first |
//! | `cache`, `owned` | what a thread has in hand |
//! | `pending` | what it has put off |
//! | `runs` | units claimed and given back, one or many at a time |
//! | `allocate`, `free` | small objects, by their owner and by others |
//! | `large` | objects of whole units |
//! | `adopt` | what becomes of a dead peer's units; hints recomputed |
//! | `resolve` | from an address to an object |
//! | `blocks` | a walk through all blocks |
//! | `copy` | the records in another heap |
//! | `census` | what a heap holds, and whether that makes sense |
//!
//! Killed between any two stores, a process leaves every unit either as it was, or marked with its
//! number, or with its *note* pointing at it; `adopt` finishes it under the dead one's lock.
//! Nothing here is `unsafe`, blocks, or knows about addresses: memory is a row of words and one of
//! states.

mod adopt;
mod allocate;
mod blocks;
mod cache;
mod census;
mod class;
mod copy;
mod free;
mod hints;
mod large;
pub(crate) mod layout;
mod owned;
mod pending;
mod resolve;
mod runs;
mod unit;

pub(crate) use blocks::Block;
pub(crate) use cache::Cache;
pub(crate) use census::{Census, PeerStanding, Registry};
pub(crate) use class::{CLASS_COUNT, Class, steps_of};
pub(crate) use copy::Site;
pub(crate) use large::ALIGN_BYTES_MAX;
pub(crate) use resolve::Object;
pub(crate) use unit::{Place, UNIT_BYTES, Unit};

use std::ops::Range;

use crate::segment::fault::Fault;
use crate::segment::states::States;
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};
use hints::{Hint, Hints};
use layout::{Layout, StateBlock};
use unit::{UNIT_SHIFT, UnitWord};

/// What the engine asks of the process that runs it. Unless that says otherwise, all records are
/// known to have storage.
pub(crate) trait Surroundings {
    /// Makes sure that the records of the first `units` units have storage, before the engine
    /// touches them on another process's word.
    fn ensure_units(&self, _units: u64) -> Result<(), Fault> {
        Ok(())
    }

    /// Makes sure that a block of states has storage.
    fn ensure_states(&self, _block: StateBlock) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether the records of a unit are known to have storage.
    fn has_unit(&self, _unit: Unit) -> bool {
        true
    }

    /// Whether a block of states is known to have storage.
    fn has_states(&self, _block: StateBlock) -> bool {
        true
    }

    /// Reserves storage for the bytes of units that may have none.
    fn reserve(&self, units: Range<Unit>) -> Result<(), Fault>;

    /// Gives the storage of the bytes of units back to the system; whether that worked.
    fn discard(&self, units: Range<Unit>) -> bool;
}

impl<S: Surroundings> Surroundings for &S {
    fn ensure_units(&self, units: u64) -> Result<(), Fault> {
        (**self).ensure_units(units)
    }

    fn ensure_states(&self, block: StateBlock) -> Result<(), Fault> {
        (**self).ensure_states(block)
    }

    fn has_unit(&self, unit: Unit) -> bool {
        (**self).has_unit(unit)
    }

    fn has_states(&self, block: StateBlock) -> bool {
        (**self).has_states(block)
    }

    fn reserve(&self, units: Range<Unit>) -> Result<(), Fault> {
        (**self).reserve(units)
    }

    fn discard(&self, units: Range<Unit>) -> bool {
        (**self).discard(units)
    }
}

/// Who operates: a thread of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Actor {
    pub(crate) peer: PeerSlot,
    /// The first of the thread's own words, where it notes what must be looked at again if it
    /// dies: one for what it is doing, and one for the frees whose slabs it has still to look at.
    pub(crate) notes: WordIndex,
}

impl Actor {
    /// For work that changes nothing.
    pub(crate) const NOBODY: Self =
        Self { peer: PeerSlot(u16::MAX), notes: WordIndex(u64::MAX / 2) };
}

/// How hard an allocation looks for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Where there is enough to make it worth the while.
    Usual,
    /// Everywhere, for a single object.
    Thorough,
}

/// The engine of one heap: private constants that say where everything is.
#[derive(Debug, Clone)]
pub(crate) struct Slabs {
    layout: Layout,
    hints: Hints,
    length: WordIndex,
}

/// One thread at work on the heap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worker<'e, W, S> {
    engine: &'e Slabs,
    words: W,
    surroundings: S,
    actor: Actor,
}

/// What a note says: what to look at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    /// The slab may be nobody's, and have a free object.
    Slab(Unit),
    /// The units may be free.
    Run(Unit, u64),
    /// Slabs among the units may be nobody's, and have a free object.
    Frees(Unit, u64),
}

impl Note {
    const UNIT_BITS: u32 = 31;
    const UNIT_MASK: u64 = (1 << Self::UNIT_BITS) - 1;

    fn word(self) -> u64 {
        let (kind, unit, units) = match self {
            Self::Slab(unit) => (1, unit, 0),
            Self::Run(unit, units) => (2, unit, units),
            Self::Frees(unit, units) => (3, unit, units),
        };
        kind << (2 * Self::UNIT_BITS) | unit.0 << Self::UNIT_BITS | units
    }

    fn read(word: u64) -> Option<Self> {
        let unit = Unit(word >> Self::UNIT_BITS & Self::UNIT_MASK);
        let units = word & Self::UNIT_MASK;
        match word >> (2 * Self::UNIT_BITS) {
            1 => Some(Self::Slab(unit)),
            2 => Some(Self::Run(unit, units)),
            3 => Some(Self::Frees(unit, units)),
            _ => None,
        }
    }

    /// Whether that hint of the unit is set by whoever sees to the note.
    fn is_about(self, hint: Hint, unit: Unit) -> bool {
        match (self, hint) {
            (Self::Slab(noted), Hint::Shared) => noted == unit,
            (Self::Frees(start, units), Hint::Shared) | (Self::Run(start, units), Hint::Free) => {
                (start..start + units).contains(&unit)
            }
            _ => false,
        }
    }
}

impl Slabs {
    pub(crate) fn new(layout: &Layout, length: WordIndex) -> Self {
        Self { layout: layout.clone(), hints: Hints::new(layout), length }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes the zeroed records those of an empty heap of `units` units.
    pub(crate) fn format(&self, words: &impl Words, units: u64) {
        self.hints.set_free(words, Unit(0), units);
        words.store(self.length, units << UNIT_SHIFT);
    }

    /// The end of object space now. Hostile lengths are cut to what the records are made for.
    #[inline]
    pub(crate) fn end(&self, words: &impl Words) -> Unit {
        Unit((words.load(self.length) >> UNIT_SHIFT).min(self.layout.units_max))
    }

    /// How many units right before `end` are free, at most `most`.
    pub(crate) fn free_units_before(&self, words: &impl Words, end: Unit, most: u64) -> u64 {
        let is_free = |&distance: &u64| {
            let word = self.load(words, Unit(end.0 - distance));
            matches!(word.get(), Some(unit::Use::Free | unit::Use::Hole))
        };
        (1..=most.min(end.0)).take_while(is_free).count() as u64
    }

    #[inline]
    fn word_of(&self, unit: Unit) -> WordIndex {
        self.layout.units + unit.0
    }

    /// The unit's word; that of no use for units that no heap has.
    #[inline]
    fn load(&self, words: &impl Words, unit: Unit) -> UnitWord {
        if unit.0 >= self.layout.units_max {
            return UnitWord(u64::MAX);
        }
        UnitWord(words.load(self.word_of(unit)))
    }

    /// Lengthens object space to `len_bytes`; the caller has reserved storage for it. Nothing to do
    /// if another process has done it.
    pub(crate) fn grow(&self, words: &impl Words, len_bytes: u64) {
        let mut length = words.load(self.length);
        loop {
            let (end, new_end) = (self.end(words), Unit(len_bytes >> UNIT_SHIFT));
            if new_end <= end || new_end.0 > self.layout.units_max {
                return;
            }
            // Before anybody may use them: killed here, the hints are early, not missing.
            self.hints.set_free(words, end, new_end.0 - end.0);
            match words.compare_exchange(self.length, length, new_end.start().0) {
                Ok(_) => return,
                Err(found) if found == length => return,
                Err(found) => length = found,
            }
        }
    }

    /// A thread of a peer, to work here.
    #[inline]
    pub(crate) fn worker<'e, W: Words + States, S: Surroundings>(
        &'e self,
        words: W,
        surroundings: S,
        actor: Actor,
    ) -> Worker<'e, W, S> {
        Worker { engine: self, words, surroundings, actor }
    }
}

impl<W: Words + States, S: Surroundings> Worker<'_, W, S> {
    #[inline]
    fn load(&self, unit: Unit) -> UnitWord {
        self.engine.load(&self.words, unit)
    }

    /// Changes the unit's word; whether it was still `current`.
    #[inline]
    fn exchange(&self, unit: Unit, current: UnitWord, new: UnitWord) -> bool {
        unit.0 < self.engine.layout.units_max
            && self.words.compare_exchange(self.engine.word_of(unit), current.0, new.0).is_ok()
    }

    /// Runs `step` with a note that tells whoever adopts this thread's affairs to look there again.
    #[inline]
    fn noted<T>(&self, note: Note, step: impl FnOnce() -> T) -> T {
        self.words.store(self.actor.notes, note.word());
        let result = step();
        self.words.store(self.actor.notes, 0);
        result
    }

    /// The end of object space.
    pub(crate) fn end(&self) -> Unit {
        self.engine.end(&self.words)
    }
}

#[cfg(test)]
mod tests;
