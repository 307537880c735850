//! `Owned`: one slab of a thread, and which of its objects the thread may give out.
//!
//! ```text
//!   one cache line: start, states, geometry        in_hand: a stack of object numbers
//!                                                  +-----+-----+-----+- - - - -+
//!      alloc: the number on top, taken off         |  17 |   4 |   9 |         |
//!      free:  the object's number, put on top      +-----+-----+-----+- - - - -+
//! ```
//!
//! All of it is private to the thread. The stack says nothing that the shared states do not say as
//! well: an object in hand is free in its state, and nobody but the owner makes it live. What
//! others free comes in hand with the next [`scan`](Owned::scan).
//!
//! The last freed object is given out first, while it is in the processor's cache; after a scan it
//! is the one of the lowest address.

use super::class::{Class, Geometry};
use super::unit::{Place, Unit};
use crate::segment::states::{STATES_PER_LINE, State, StateIndex, States};
use crate::units::LINE_BYTES;

/// A slab of this thread; see the module's text.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Owned {
    start: Place,
    /// The first object's state.
    row: StateIndex,
    geometry: Geometry,
    /// Numbers of objects that are free, each once.
    in_hand: Vec<u16>,
    /// How many may be in hand without further ado: all of an open slab, of others all but one.
    in_hand_max: u16,
    class: Class,
}

const _: () = assert!(size_of::<Owned>() == LINE_BYTES as usize);

impl Owned {
    /// What stands for no slab: no object is found in it.
    pub(super) fn none() -> Self {
        Self {
            start: Place(0),
            row: StateIndex(u64::MAX),
            geometry: Geometry::NONE,
            in_hand: vec![],
            in_hand_max: 0,
            class: Class::SMALLEST,
        }
    }

    /// Is another slab from now on, with nothing known to be free: [`scan`](Self::scan) finds out.
    pub(super) fn become_slab(&mut self, unit: Unit, class: Class, row: StateIndex) {
        let (geometry, mut in_hand) = (*class.geometry(), std::mem::take(&mut self.in_hand));
        in_hand.clear();
        in_hand.reserve_exact(geometry.capacity.into());
        let in_hand_max = geometry.capacity - 1;
        *self = Self { start: unit.start(), row, geometry, in_hand, in_hand_max, class };
    }

    /// Gives an object out; see [`Cache::alloc`](super::Cache::alloc).
    #[inline]
    pub(super) fn alloc(
        &mut self,
        states: &impl States,
        announce: impl FnOnce(Place, State),
    ) -> Option<Place> {
        let index = u64::from(self.in_hand.pop()?);
        let at = self.row + index;
        let state = states.load_state(at);
        if state.is_live() {
            return None;
        }
        let place = Place(self.start.0 + index * u64::from(self.geometry.object_bytes));
        announce(place, state);
        states.store_state(at, state.next());
        Some(place)
    }

    /// Frees the object at `place` if it is a live one of this slab and, unless the slab is open,
    /// not the last; whether it was.
    #[inline]
    pub(super) fn free(&mut self, states: &impl States, place: Place) -> bool {
        let Some(index) = self.index_of(place) else { return false };
        let at = self.row + index;
        let state = states.load_state(at);
        if !state.is_live() || self.in_hand.len() >= self.in_hand_max.into() {
            return false;
        }
        states.store_state(at, state.next());
        self.in_hand.push(index as u16);
        true
    }

    /// The number of the object that starts at `place`, if one of this slab does.
    #[inline]
    pub(super) fn index_of(&self, place: Place) -> Option<u64> {
        self.geometry.index_of(place.0.wrapping_sub(self.start.0))
    }

    /// The state of an object.
    #[inline]
    pub(super) fn state_of(&self, index: u64) -> StateIndex {
        self.row + index
    }

    /// The slab is the one that objects of its class come from, or not any more.
    pub(super) fn set_open(&mut self, is_open: bool) {
        self.in_hand_max = self.geometry.capacity.saturating_sub(u16::from(!is_open));
    }

    /// Takes an object in hand that was freed, the slab's last one maybe. Where a broken process
    /// has written, there may have been more frees than objects.
    pub(super) fn take_in_hand(&mut self, index: u64) {
        if !self.is_all_free() {
            self.in_hand.push(index as u16);
        }
    }

    /// Looks at all states anew, which others may have changed; tells how many objects are free.
    pub(super) fn scan(&mut self, states: &impl States) -> u32 {
        self.in_hand.clear();
        for (line, mut bits) in free_lines(states, self.row, &self.geometry).rev() {
            while bits != 0 {
                let bit = bits.ilog2();
                bits ^= 1 << bit;
                self.in_hand.push((line * STATES_PER_LINE) as u16 + bit as u16);
            }
        }
        self.free_count()
    }

    /// Whether any object is in hand.
    pub(super) fn has_free(&self) -> bool {
        !self.in_hand.is_empty()
    }

    /// How many objects are in hand.
    pub(super) fn free_count(&self) -> u32 {
        self.in_hand.len() as u32
    }

    pub(super) fn is_all_free(&self) -> bool {
        self.in_hand.len() >= usize::from(self.geometry.capacity)
    }

    pub(super) fn class(&self) -> Class {
        self.class
    }

    /// The first unit.
    pub(super) fn unit(&self) -> Unit {
        Unit::of(self.start)
    }
}

/// How many objects of a slab are free, whoever owns it.
pub(super) fn count_free(states: &impl States, row: StateIndex, geometry: &Geometry) -> u32 {
    free_lines(states, row, geometry).map(|(_, bits)| bits.count_ones()).sum()
}

/// Whether any object of a slab is free, whoever owns it.
pub(super) fn has_free(states: &impl States, row: StateIndex, geometry: &Geometry) -> bool {
    free_lines(states, row, geometry).any(|(_, bits)| bits != 0)
}

/// The lines of a slab's states by number, with a bit for each object that is free.
fn free_lines(
    states: &impl States,
    row: StateIndex,
    geometry: &Geometry,
) -> impl DoubleEndedIterator<Item = (u64, u64)> {
    // No line more than the row has: what lies behind may have no storage.
    let capacity = u64::from(geometry.capacity);
    let lines = capacity.div_ceil(STATES_PER_LINE);
    let of_last = u64::MAX >> (lines * STATES_PER_LINE - capacity);
    (0..lines).map(move |line| {
        let mask = if line == lines - 1 { of_last } else { u64::MAX };
        (line, states.free_states(row + line * STATES_PER_LINE) & mask)
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// All states are free; how many of them were looked at from the first on.
    struct Looked(Cell<u64>);

    impl States for Looked {
        fn load_state(&self, _at: StateIndex) -> State {
            State(0)
        }

        fn store_state(&self, _at: StateIndex, _state: State) {}

        fn free_states(&self, at: StateIndex) -> u64 {
            self.0.set(self.0.get().max(at.0 + STATES_PER_LINE));
            u64::MAX
        }
    }

    /// What lies behind the lines of a slab's states may have no storage.
    #[test]
    fn every_object_is_counted_and_no_line_behind_them_looked_at() {
        for class in Class::all() {
            let looked = Looked(Cell::new(0));
            let free_count = count_free(&looked, StateIndex(0), class.geometry());
            assert_eq!(u64::from(free_count), class.capacity());
            assert_eq!(looked.0.get(), class.capacity().next_multiple_of(STATES_PER_LINE));
        }
    }
}
