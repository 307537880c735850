//! Growth: more object space, from any connected process, unnoticed by the others.
//!
//! Every process maps the most that the heap may become when it connects; behind the object's end
//! that is address space and nothing more. To grow is to reserve storage for the new objects and
//! their records, and then, under the lock, to raise the length by a journalled operation. A
//! process killed in between leaves storage that the next growth finds in place.
//!
//! The others see a larger length with their next operation. None takes another's word for it: it
//! looks at the object's size and reserves the records' storage itself, which costs nothing where
//! it exists, before it touches them.

use std::sync::atomic::Ordering;

use crate::first_fit::layout::{Area, Position};
use crate::first_fit::{FirstFit, Surroundings};
use crate::heap::Heap;
use crate::heap::connection::Host;
use crate::heap::shape::Engine;
use crate::peers::ThreadRecord;
use crate::slab::UNIT_BYTES;
use crate::units::PeerSlot;
use crate::{Error, Result, events};

/// Growth on demand adds a quarter of the length, within these bounds.
const STEP_BYTES_MIN: u64 = 64 << 10;
const STEP_BYTES_MAX: u64 = 64 << 20;

/// What an object needs of the heap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) granules: u64,
    pub(super) align_granules: u64,
}

impl Heap {
    /// Makes the heap at least `len_bytes` long, and returns its new length. Nothing happens if it
    /// is that long already. The heap also grows by itself when an object does not fit.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] beyond the heap's `max_len`, [`Error::NoSpace`] if the system has
    /// no room, [`Error::ReadOnly`].
    pub fn grow(&self, len_bytes: u64) -> Result<u64> {
        let me = self.me("grow the heap")?;
        if len_bytes > self.shape.identity.len_max_bytes {
            let why = "it is beyond the max_len that the heap was created with";
            return Err(Error::InvalidOption { option: "len", value: len_bytes, why });
        }
        self.grow_to(me, len_bytes.next_multiple_of(self.shape.unit_bytes()))?;
        Ok(self.len_bytes())
    }

    /// Gives memory that no object uses back to the system, and returns how many bytes. The heap
    /// keeps its length: what was given back is reserved again when it is needed, so a system that
    /// is full by then is an error from `alloc`, never a signal.
    ///
    /// Under [`Policy::FirstFit`](crate::Policy::FirstFit) nothing is given back. Costs a walk
    /// through the heap, and a system call for each 64 KiB returned.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`].
    ///
    /// ```
    /// use std::alloc::Layout;
    /// # let heap = shmheap::HeapOptions::new(16 << 20).create_memfd()?;
    /// let object = heap.alloc(Layout::new::<[u8; 8 << 20]>())?;
    /// // SAFETY: nobody else knows the object.
    /// unsafe { heap.free(object)? };
    /// assert_eq!(heap.trim()?, 16 << 20);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn trim(&self) -> Result<u64> {
        self.me("trim")?;
        let Engine::Slabs(slabs) = &self.shape.engine else { return Ok(0) };
        let bytes = self.slab_trim(slabs)?;
        events::trimmed(&self.label, bytes);
        Ok(bytes)
    }

    /// Makes room for an object that did not fit; an error if the heap may not become that large.
    #[cold]
    pub(super) fn grow_for(&self, engine: &FirstFit, me: PeerSlot, request: Request) -> Result<()> {
        let ends = engine.operator(self.words(), me, &Host(self)).last_gap();
        let (gap, end) = ends.map_err(|fault| self.explain(fault, 0))?;
        let object = gap.0.next_multiple_of(request.align_granules);
        let most = self.shape.granules(self.shape.identity.len_max_bytes);
        let needed = object.saturating_add(request.granules);
        if needed > most {
            return Err(self.full(self.shape.bytes(request.granules)));
        }
        if needed <= end.0 {
            // Another process has grown the heap, or freed something, since the object did not fit.
            return Ok(());
        }
        let quarter = self.shape.bytes(end.0) / 4;
        let step = self.shape.granules(quarter.clamp(STEP_BYTES_MIN, STEP_BYTES_MAX));
        let generous = needed.max(end.0 + step).min(most);
        let [needed, generous] = [needed, generous].map(|granules| self.shape.bytes(granules));
        self.grow_generously(me, needed, generous)
    }

    /// Grows to `generous` bytes or, if the system has no room for that, to what is needed.
    pub(super) fn grow_generously(&self, me: PeerSlot, needed: u64, generous: u64) -> Result<()> {
        match self.grow_to(me, generous) {
            Err(Error::NoSpace { .. }) if generous > needed => self.grow_to(me, needed),
            grown => grown,
        }
    }

    pub(super) fn full(&self, requested_bytes: u64) -> Error {
        let (words, len_bytes) = (self.words(), self.len_bytes());
        let free_bytes = match &self.shape.engine {
            Engine::FirstFit(engine) => {
                let area = engine.current(&words);
                let live = Host(self).ensure_head(area).map(|()| engine.counters(&words, area));
                let live_bytes = live.map_or(0, |live| self.shape.bytes(live.granules));
                len_bytes.saturating_sub(live_bytes)
            }
            Engine::Slabs(slabs) => self.census(slabs, 0).free_bytes(),
        };
        events::full(&self.label, requested_bytes, free_bytes);
        Error::Full {
            requested_bytes,
            free_bytes,
            len_bytes,
            max_len_bytes: self.shape.identity.len_max_bytes,
        }
    }

    fn grow_to(&self, me: PeerSlot, len_bytes: u64) -> Result<()> {
        let old_len_bytes = self.len_bytes();
        if len_bytes <= old_len_bytes {
            return Ok(());
        }
        self.reserve(old_len_bytes, len_bytes)?;
        match &self.shape.engine {
            Engine::FirstFit(engine) => {
                let end = Position(self.shape.granules(len_bytes));
                let grown = engine.operator(self.words(), me, &Host(self)).grow(end);
                grown.map_err(|fault| self.explain(fault, 0))?;
            }
            Engine::Slabs(slabs) => slabs.grow(&self.words(), len_bytes),
        }
        events::grown(&self.label, old_len_bytes, len_bytes);
        Ok(())
    }

    /// Reserves storage for the records and the objects between two lengths.
    fn reserve(&self, from_bytes: u64, to_bytes: u64) -> Result<()> {
        self.reserve_records(self.shape.current_area(&self.words()), from_bytes, to_bytes)?;
        let object = self.connection.object();
        object.reserve(self.shape.end_of_data(from_bytes)..self.shape.end_of_data(to_bytes))
    }

    /// Reserves storage for an area's records of what is between two lengths.
    pub(super) fn reserve_records(&self, area: Area, from_bytes: u64, to_bytes: u64) -> Result<()> {
        let object = self.connection.object();
        for range in self.shape.records_storage(area, from_bytes, to_bytes) {
            object.reserve(range)?;
        }
        Ok(())
    }

    /// The length of object space that this process knows to be there, with records in the area
    /// that have storage.
    #[inline]
    pub(super) fn verified_len_bytes(&self, area: Area) -> u64 {
        // Relaxed: the words only remember what this process itself has checked with the kernel.
        self.verified_len_bytes[usize::from(area.0)].load(Ordering::Relaxed)
    }

    /// Makes sure that the first `count` thread records have storage.
    pub(super) fn reserve_threads(&self, count: u16) -> Result<()> {
        // Relaxed: the number only remembers what this process itself has reserved.
        if count > self.verified_threads.load(Ordering::Relaxed) {
            let object = self.connection.object();
            object.reserve(self.shape.threads.storage(count))?;
            let stored = self.shape.threads.stored_with(count);
            self.verified_threads.fetch_max(stored, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes sure that the first `count` process records have storage.
    pub(super) fn reserve_processes(&self, count: u16) -> Result<()> {
        // Relaxed: as above.
        if count > self.verified_processes.load(Ordering::Relaxed) {
            let object = self.connection.object();
            object.reserve(self.shape.records.storage(count))?;
            self.verified_processes.fetch_max(count, Ordering::Relaxed);
        }
        Ok(())
    }

    /// How many process records may be in use, and have storage; an observer has to believe that.
    pub(super) fn processes_used(&self) -> Option<u16> {
        let used = self.shape.records.used(&self.words());
        (self.is_read_only() || self.reserve_processes(used).is_ok()).then_some(used)
    }

    /// The thread records that may be in use, and have storage; an observer has to believe that.
    pub(super) fn thread_records(&self) -> impl Iterator<Item = ThreadRecord> + use<> {
        let threads = self.shape.threads;
        let used = threads.used(&self.words());
        let has_storage = self.is_read_only() || self.reserve_threads(used).is_ok();
        let count = if has_storage { u64::from(used) } else { 0 };
        (0..count).filter_map(move |number| threads.record(number))
    }

    /// Whether the slot's holder has joined and not left, as far as its record can be looked at.
    pub(super) fn has_joined(&self, slot: PeerSlot) -> bool {
        self.processes_used().is_some_and(|used| slot.0 < used)
            && self.shape.records.is_joined(&self.words(), slot)
    }

    /// Checks another process's word that the heap has `len_bytes` bytes of object space, with
    /// records in the area.
    #[cold]
    pub(super) fn verify_growth(&self, area: Area, len_bytes: u64) -> Result<()> {
        let object = self.connection.object();
        if object.size_bytes()? < self.shape.end_of_data(len_bytes) {
            return Err(Error::Damaged { what: "the object is shorter than its length" });
        }
        if !self.is_read_only() {
            self.reserve_records(area, self.verified_len_bytes(area), len_bytes)?;
        }
        self.verified_len_bytes[usize::from(area.0)].fetch_max(len_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The error behind a refused [`verify_growth`](Self::verify_growth), which the engine does not
    /// carry.
    #[cold]
    pub(super) fn why_no_storage(&self) -> Error {
        let area = self.shape.current_area(&self.words());
        match self.verify_growth(area, self.len_bytes_in(area)) {
            Err(error) => error,
            Ok(()) => match &self.shape.engine {
                Engine::FirstFit(_) => {
                    Error::Damaged { what: "an operation under way is beyond the heap's end" }
                }
                // For the unit that was trimmed, or the states of its objects.
                Engine::Slabs(_) => self.connection.object().no_space(UNIT_BYTES),
            },
        }
    }
}
