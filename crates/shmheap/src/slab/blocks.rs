//! A walk through all blocks in order of address: objects of slabs one by one, large objects, and
//! runs of free units.
//!
//! The heap may change meanwhile. Each step looks at the records anew and leads further up, so the
//! walk ends in any case.

use super::class::Class;
use super::resolve::small_generation;
use super::unit::{Place, UNIT_BYTES, Unit, UnitWord, Use};
use super::{Surroundings, Worker};
use crate::segment::fault::Fault;
use crate::segment::states::States;
use crate::segment::words::Words;
use crate::units::PeerSlot;

/// One block, and where the walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) place: Place,
    pub(crate) bytes: u64,
    pub(crate) generation: u64,
    pub(crate) live: bool,
    pub(crate) next: Place,
    /// The owner of the slab that it is in, if it is in one.
    pub(crate) slab: Option<Option<PeerSlot>>,
}

impl<W: Words + States, S: Surroundings> Worker<'_, W, S> {
    /// The first block from `from` on.
    pub(crate) fn block_from(&self, from: Place) -> Option<Block> {
        let end = self.end();
        self.surroundings.ensure_units(end.0).ok()?;
        let mut at = from;
        while Unit::of(at) < end {
            let (head, word) = self.engine.head_of(&self.words, Unit::of(at));
            let next_unit = Unit::of(at) + 1;
            let found = match word.get() {
                Some(Use::Slab { class, owner }) => match Class::from_number(class) {
                    Some(class) => self.object_from(head, (word, owner), class, at),
                    None => Err(next_unit.start()),
                },
                Some(Use::Large { units }) if head.start() == at => {
                    Ok(large(head, word, units.clamp(1, end.0 - head.0)))
                }
                Some(Use::Free | Use::Hole) => Ok(self.free_run(Unit::of(at), end)),
                _ => Err(next_unit.start()),
            };
            match found {
                Ok(block) => return Some(block),
                // A broken run may seem to end before.
                Err(next) => at = next.max(next_unit.start()),
            }
        }
        None
    }

    /// Makes sure that all records have storage that a walk looks at.
    pub(crate) fn ensure_walk(&self) -> Result<(), Fault> {
        let end = self.end();
        self.surroundings.ensure_units(end.0)?;
        for unit in (0..end.0).map(Unit) {
            if let Some(Use::Slab { class, .. }) = self.load(unit).get()
                && let Some(class) = Class::from_number(class)
            {
                let block = self.engine.layout.block(class.geometry(), unit);
                self.surroundings.ensure_states(block)?;
            }
        }
        Ok(())
    }

    /// The first object of the slab from `at` on, or where the slab ends.
    fn object_from(
        &self,
        unit: Unit,
        (word, owner): (UnitWord, Option<PeerSlot>),
        class: Class,
        at: Place,
    ) -> Result<Block, Place> {
        let start = unit.start();
        let index = at.0.saturating_sub(start.0).div_ceil(class.object_bytes());
        let slab_end = (unit + class.units()).start();
        if index >= class.capacity() {
            return Err(slab_end);
        }
        let state = match self.state_of(unit, class, index) {
            Ok(state_at) => self.words.load_state(state_at),
            Err(_) => return Err(slab_end),
        };
        let place = Place(start.0 + index * class.object_bytes());
        let is_last = index + 1 == class.capacity();
        let bytes = class.object_bytes();
        let next = if is_last { slab_end } else { Place(place.0 + bytes) };
        let generation = small_generation(word, state);
        let slab = Some(owner);
        Ok(Block { place, bytes, generation, live: state.is_live(), next, slab })
    }

    fn free_run(&self, start: Unit, end: Unit) -> Block {
        let is_free =
            |&unit: &u64| matches!(self.load(Unit(unit)).get(), Some(Use::Free | Use::Hole));
        let units = 1 + (start.0 + 1..end.0).take_while(is_free).count() as u64;
        let next = (start + units).start();
        Block {
            place: start.start(),
            bytes: units * UNIT_BYTES,
            generation: self.load(start).generation(),
            live: false,
            next,
            slab: None,
        }
    }
}

fn large(unit: Unit, word: UnitWord, units: u64) -> Block {
    Block {
        place: unit.start(),
        bytes: units * UNIT_BYTES,
        generation: word.generation(),
        live: true,
        next: (unit + units).start(),
        slab: None,
    }
}
