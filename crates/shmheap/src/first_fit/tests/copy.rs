//! Copies of the records for who cannot have the lock.

use std::cell::Cell;

use super::memory::{Memory, World, heap};
use crate::first_fit::layout::Area;
use crate::first_fit::{Fault, FirstFit, Surroundings};
use crate::units::PeerSlot;

const OTHER: PeerSlot = PeerSlot(3);

/// Surroundings in which another process allocates while a copier looks at the records.
struct Busy<'m> {
    engine: &'m FirstFit,
    memory: &'m Memory,
    is_busy: Cell<bool>,
}

impl Surroundings for Busy<'_> {
    fn is_dead(&self, _peer: PeerSlot) -> bool {
        false
    }

    fn ensure_head(&self, _area: Area) -> Result<(), Fault> {
        Ok(())
    }

    fn ensure_storage(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn has_storage(&self, _area: Area, _granules: u64) -> bool {
        if self.is_busy.get() {
            self.engine.operator(self.memory, OTHER, &World).alloc(3, 1).unwrap();
        }
        true
    }

    fn ensure_records(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        Ok(())
    }
}

#[test]
fn what_changed_while_it_was_copied_is_no_copy() {
    let (engine, memory) = heap(1000, 4000, 16);
    engine.operator(&memory, OTHER, &World).alloc(5, 1).unwrap();
    let busy = Busy { engine: &engine, memory: &memory, is_busy: Cell::new(true) };
    let (_, target) = heap(1000, 4000, 16);
    assert!(!engine.copy_if_quiet(&memory, &busy, &target, 1000));
    busy.is_busy.set(false);
    let (_, target) = heap(1000, 4000, 16);
    assert!(!engine.copy_if_quiet(&memory, &busy, &target, 999), "too short");
    assert!(engine.copy_if_quiet(&memory, &busy, &target, 1000));
    assert_eq!(engine.live_runs(&target, 0), engine.live_runs(&memory, 0));
}
