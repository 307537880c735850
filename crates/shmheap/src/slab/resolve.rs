//! From a place in object space to the object there, by what the shared records say.
//!
//! The unit's word gives the size class, the class the object's number, the number its state. A
//! unit behind the head of its run leads to the head first. None of it needs to be this thread's.
//!
//! ```text
//!   generation of a handle     15           7 6            0
//!                             +--------------+--------------+
//!      a small object         |  unit's      |  state's     |
//!      a large object         |  unit's, 12 bits            |
//!                             +--------------+--------------+
//! ```

use super::class::Class;
use super::unit::{Place, UNIT_BYTES, Unit, UnitWord, Use};
use super::{Slabs, Surroundings, Worker};
use crate::error::NotLive;
use crate::segment::fault::Fault;
use crate::segment::states::{GENERATION_BITS, State, StateIndex, States};
use crate::segment::words::Words;

/// Bits of a handle's generation.
const HANDLE_GENERATION_BITS: u32 = 16;
/// Those that are the unit's, where an object has a state with others.
pub(super) const UNIT_GENERATION_BITS: u32 = HANDLE_GENERATION_BITS - GENERATION_BITS;

/// A live object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    /// One of a slab.
    Small { unit: Unit, class: Class, state_at: StateIndex, state: State, generation: u64 },
    /// A run of units.
    Large { unit: Unit, units: u64, generation: u64 },
}

impl Object {
    /// Bytes that the object may use.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Small { class, .. } => class.object_bytes(),
            Self::Large { units, .. } => units * UNIT_BYTES,
        }
    }

    /// Its size class, if it has one.
    pub(crate) fn class(self) -> Option<Class> {
        match self {
            Self::Small { class, .. } => Some(class),
            Self::Large { .. } => None,
        }
    }

    /// Which life of its place this is, in 16 bits, for its handle.
    pub(crate) fn generation(self) -> u64 {
        match self {
            Self::Small { generation, .. } | Self::Large { generation, .. } => generation,
        }
    }
}

/// The generation that the handle of a small object has.
pub(super) fn small_generation(word: UnitWord, state: State) -> u64 {
    let of_unit = word.generation() & ((1 << UNIT_GENERATION_BITS) - 1);
    of_unit << GENERATION_BITS | state.generation()
}

impl Slabs {
    /// The head of the run that a unit belongs to, and the head's word.
    #[inline]
    pub(super) fn head_of(&self, words: &impl Words, unit: Unit) -> (Unit, UnitWord) {
        let word = self.load(words, unit);
        match word.get() {
            Some(Use::Rest { distance, .. }) => {
                let head = Unit(unit.0.wrapping_sub(distance));
                (head, self.load(words, head))
            }
            _ => (unit, word),
        }
    }
}

/// A live object of a slab, found on the short way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Small {
    pub(super) unit: Unit,
    pub(super) state_at: StateIndex,
    pub(super) state: State,
    word: UnitWord,
}

impl Small {
    /// As [`Object::generation`].
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        small_generation(self.word, self.state)
    }
}

impl<W: Words + States, S: Surroundings> Worker<'_, W, S> {
    /// The live object of a slab that starts at `place`, if nothing about it is out of the
    /// ordinary; else [`live_object`](Self::live_object) tells what is.
    #[inline]
    pub(crate) fn small_object_fast(&self, place: Place) -> Option<Small> {
        let (layout, unit) = (&self.engine.layout, Unit::of(place));
        if !self.surroundings.has_unit(unit) {
            return None;
        }
        let word = self.load(unit);
        let class = word.class_of_slab()?;
        let geometry = class.geometry();
        let index = geometry.index_of(place.0 - unit.start().0)?;
        // A damaged word may tell of a slab that ends behind the heap.
        if !self.surroundings.has_unit(unit + (class.units() - 1))
            || !self.surroundings.has_states(layout.block(geometry, unit))
        {
            return None;
        }
        let state_at = layout.row(geometry, unit) + index;
        let state = self.words.load_state(state_at);
        state.is_live().then_some(Small { unit, state_at, state, word })
    }

    /// The live object that starts at `place`.
    ///
    /// # Errors
    ///
    /// [`Fault::NotLive`] if there is none.
    #[inline]
    pub(crate) fn live_object(&self, place: Place) -> Result<Object, Fault> {
        let unit = Unit::of(place);
        let end = self.end();
        if unit >= end {
            return Err(Fault::NotLive(NotLive::Foreign));
        }
        self.surroundings.ensure_units(end.0)?;
        let (head, word) = self.engine.head_of(&self.words, unit);
        // Hostile lengths must not lead behind the heap: callers write to all of an object.
        let most = end.0.saturating_sub(head.0);
        match word.get() {
            Some(Use::Slab { class, .. }) => self.small_object(head, word, class, place, most),
            Some(Use::Large { units }) if units > most => {
                Err(Fault::Damaged("a large object is longer than the heap"))
            }
            Some(Use::Large { units }) if head.start() == place => {
                Ok(Object::Large { unit: head, units, generation: word.generation() })
            }
            Some(Use::Free | Use::Hole | Use::Freeing { .. }) => {
                Err(Fault::NotLive(NotLive::Freed))
            }
            _ => Err(Fault::NotLive(NotLive::NoObject)),
        }
    }

    #[inline]
    fn small_object(
        &self,
        unit: Unit,
        word: UnitWord,
        class: u64,
        place: Place,
        units_max: u64,
    ) -> Result<Object, Fault> {
        let no_object = Fault::NotLive(NotLive::NoObject);
        let class = Class::from_number(class).ok_or(Fault::Damaged("a slab has no size class"))?;
        if class.units() > units_max {
            return Err(Fault::Damaged("a slab is longer than the heap"));
        }
        let within = place.0.wrapping_sub(unit.start().0);
        let index = class.geometry().index_of(within).ok_or(no_object)?;
        let state_at = self.state_of(unit, class, index)?;
        let state = self.words.load_state(state_at);
        if !state.is_live() {
            return Err(Fault::NotLive(NotLive::Freed));
        }
        let generation = small_generation(word, state);
        Ok(Object::Small { unit, class, state_at, state, generation })
    }
}
