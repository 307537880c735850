//! What the slab engine asks of the process that runs it: storage for records and bytes, and who
//! the others are.
//!
//! Nothing is believed that another process says. Records are reserved once more before this
//! process touches them, which costs nothing where they have storage, and what was reserved is
//! remembered.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::first_fit::layout::Area;
use crate::heap::Heap;
use crate::heap::shape::Engine;
use crate::segment::fault::Fault;
use crate::segment::words::Words;
use crate::slab::layout::StateBlock;
use crate::slab::{PeerStanding, Registry, Slabs, Surroundings, UNIT_BYTES, Unit};
use crate::units::PeerSlot;

impl Heap {
    /// The length of object space that this process knows to have records with storage.
    #[cold]
    fn verify_units(&self, units: u64) -> Result<(), Fault> {
        self.verify_growth(Area::FIRST, units * UNIT_BYTES).map_err(|_| Fault::NoStorage)
    }

    #[cold]
    fn verify_states(&self, slabs: &Slabs, block: StateBlock) -> Result<(), Fault> {
        if !self.is_read_only() {
            for bytes in self.shape.states_storage(slabs, block) {
                self.connection.object().reserve(bytes).map_err(|_| Fault::NoStorage)?;
            }
        }
        self.verified_states.set(block);
        Ok(())
    }
}

/// What the engine asks of the process that runs it, answered for a heap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'h>(pub(super) &'h Heap);

impl Storage<'_> {
    fn slabs(&self) -> Option<&Slabs> {
        match &self.0.shape.engine {
            Engine::Slabs(slabs) => Some(slabs),
            Engine::FirstFit(_) => None,
        }
    }

    fn bytes(&self, units: &Range<Unit>) -> Range<u64> {
        let shape = &self.0.shape;
        shape.end_of_data(units.start.start().0)..shape.end_of_data(units.end.start().0)
    }
}

impl Surroundings for Storage<'_> {
    #[inline]
    fn ensure_units(&self, units: u64) -> Result<(), Fault> {
        if units * UNIT_BYTES <= self.0.verified_len_bytes(Area::FIRST) {
            return Ok(());
        }
        self.0.verify_units(units)
    }

    #[inline]
    fn ensure_states(&self, block: StateBlock) -> Result<(), Fault> {
        if self.has_states(block) {
            return Ok(());
        }
        self.slabs().map_or(Ok(()), |slabs| self.0.verify_states(slabs, block))
    }

    #[inline]
    fn has_unit(&self, unit: Unit) -> bool {
        // Whole units are verified.
        unit.start().0 < self.0.verified_len_bytes(Area::FIRST)
    }

    #[inline]
    fn has_states(&self, block: StateBlock) -> bool {
        self.0.verified_states.is_set(block)
    }

    fn reserve(&self, units: Range<Unit>) -> Result<(), Fault> {
        let object = self.0.connection.object();
        object.reserve(self.bytes(&units)).map_err(|_| Fault::NoStorage)
    }

    fn discard(&self, units: Range<Unit>) -> bool {
        self.0.connection.object().discard(self.bytes(&units)).is_ok()
    }
}

impl Registry for Storage<'_> {
    fn peer(&self, peer: PeerSlot) -> PeerStanding {
        let heap = self.0;
        if !heap.connection.witness().is_dead(peer) {
            PeerStanding::Alive
        } else if heap.has_joined(peer) {
            PeerStanding::Dead
        } else {
            PeerStanding::Unknown
        }
    }

    fn notes(&self) -> Vec<u64> {
        let (heap, table) = (self.0, self.0.shape.threads);
        let notes = heap.thread_records().flat_map(|record| table.notes(record));
        notes.map(|note| heap.words().load(note)).collect()
    }

    fn ensure_states(&self, block: StateBlock) -> Result<(), Fault> {
        Surroundings::ensure_states(self, block)
    }
}

/// For work on what is known to have storage.
#[derive(Debug)]
pub(super) struct Ensured;

impl Surroundings for Ensured {
    fn reserve(&self, _units: Range<Unit>) -> Result<(), Fault> {
        Ok(())
    }

    fn discard(&self, _units: Range<Unit>) -> bool {
        false
    }
}

/// A set of blocks of states. All of it is made at once: a lazy part of it could be in the middle
/// of being made by another thread when a child is forked, which would then wait for it for ever.
#[derive(Debug)]
pub(super) struct Verified(Box<[AtomicU64]>);

impl Verified {
    pub(super) fn new(block_count: u64) -> Self {
        let words = block_count.div_ceil(u64::from(u64::BITS));
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn word(&self, block: StateBlock) -> Option<&AtomicU64> {
        self.0.get((block.0 / u64::from(u64::BITS)) as usize)
    }

    #[inline]
    fn is_set(&self, block: StateBlock) -> bool {
        // Relaxed: the kernel has told this process, and memory says the same to all threads.
        self.word(block).is_some_and(|word| word.load(Ordering::Relaxed) & bit(block) != 0)
    }

    fn set(&self, block: StateBlock) {
        if let Some(word) = self.word(block) {
            // Relaxed: as in `is_set`.
            word.fetch_or(bit(block), Ordering::Relaxed);
        }
    }
}

fn bit(block: StateBlock) -> u64 {
    1 << (block.0 % u64::from(u64::BITS))
}
