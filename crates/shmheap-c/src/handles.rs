//! Memory handles: numbers that name this process's heaps, looked up in a table.
//!
//! ```text
//!   63        48 47                          16 15         0
//!  +------------+------------------------------+------------+
//!  |    TAG     |          generation          |    slot    |
//!  +------------+------------------------------+------------+
//! ```
//!
//! To a C program a handle is a pointer to an incomplete type; the tag makes it an address that no
//! process can have, so a program that follows it faults at once instead of reading something.
//! A slot's word equals the handle while its heap is connected. The generation goes up by one
//! each time, and starts at random, so that a handle of another process does not fit by accident.
//!
//! | word of a slot | the slot |
//! |---|---|
//! | tag 0, generation g | free; the next handle has generation g + 1 |
//! | tag [`BUSY`], generation g | being filled or emptied by one thread |
//! | tag [`TAG`], generation g | holds a connected heap |
//!
//! A lookup is two loads. The table is lock-free, so a child forked at any moment can use it.
//!
//! # Safety
//!
//! A slot's content is written and dropped only by the thread that moved its word to [`BUSY`], and
//! read only by threads that hold a [`Pin`] naming the handle and saw the word equal to it;
//! [`remove`] waits for those. Chunks are never freed.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed};
use std::cell::UnsafeCell;
use std::hash::{BuildHasher, RandomState};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use shmheap::{Granule, Heap, Policy};

use crate::error::Failure;
use crate::pins::{self, Pin};
use crate::tool::Closed;

const TAG: usize = 0x5348;
const BUSY: usize = 1;
const TAG_SHIFT: u32 = 48;
const GENERATION_SHIFT: u32 = 16;
const SLOT_MASK: usize = 0xffff;

const PAGE_BYTES: usize = 4096;
const HUGE_PAGE_BYTES: usize = 2 << 20;

const SLOTS_PER_CHUNK: usize = 64;
/// How many heaps a process may have at once.
const SLOTS_MAX: usize = 1 << GENERATION_SHIFT;

const _: () = assert!(usize::BITS == 64, "a memory handle needs 64 bits");

/// A heap of this process, and what every allocation asks about it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) heap: Heap,
    /// Objects of so many bytes and more are aligned to 16 bytes, smaller ones to 8.
    pub(crate) sixteen_from_bytes: usize,
    /// The largest alignment that an object can have.
    pub(crate) align_bytes_max: usize,
    /// What a tool that watches the program was told not to let it touch.
    pub(crate) closed: Closed,
}

impl Connection {
    pub(crate) fn new(heap: Heap) -> Self {
        let info = heap.info();
        let (sixteen_from_bytes, align_bytes_max) = match (info.policy, info.granule()) {
            (Policy::FirstFit, Granule::Eight) => (usize::MAX, PAGE_BYTES),
            (Policy::FirstFit, _) => (0, PAGE_BYTES),
            // As malloc: no object of C that is smaller than 16 bytes needs more than 8.
            _ => (16, HUGE_PAGE_BYTES),
        };
        Self { heap, sixteen_from_bytes, align_bytes_max, closed: Closed::nothing() }
    }
}

struct Slot<T> {
    word: AtomicUsize,
    content: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Slot<T> {
    /// Whether the word was `found` and is `busy` now: the slot is this thread's then.
    fn replace(&self, found: usize, busy: usize) -> bool {
        // Acquire: with the Release stores with which `insert` and `remove` end.
        self.word.compare_exchange(found, busy, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

/// Handles for values of `T`; the library has one table, of [`Connection`]s.
pub(crate) struct Table<T> {
    chunks: [AtomicPtr<[Slot<T>; SLOTS_PER_CHUNK]>; SLOTS_MAX / SLOTS_PER_CHUNK],
}

// SAFETY: slots hand out `&T` to several threads and move `T` between threads, which `T` allows.
unsafe impl<T: Send + Sync> Sync for Table<T> {}

/// The heaps of this process.
pub(crate) static HEAPS: Table<Connection> = Table::new();

const fn word(tag: usize, generation: u32, slot: usize) -> usize {
    tag << TAG_SHIFT | (generation as usize) << GENERATION_SHIFT | slot
}

const fn tag_of(word: usize) -> usize {
    word >> TAG_SHIFT
}

const fn generation_of(word: usize) -> u32 {
    (word >> GENERATION_SHIFT) as u32
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS_MAX / SLOTS_PER_CHUNK] }
    }

    /// Puts `value` into a free slot and returns its handle, which is never 0.
    pub(crate) fn insert(&self, value: T) -> Result<usize, Failure> {
        pins::prepare();
        for number in 0..SLOTS_MAX {
            let slot = self.slot_or_new_chunk(number)?;
            let found = slot.word.load(Ordering::Relaxed);
            let generation = generation_of(found).wrapping_add(1);
            let busy = word(BUSY, generation, number);
            if tag_of(found) == 0 && slot.replace(found, busy) {
                // SAFETY: this thread made the slot busy, so nobody else touches its content.
                unsafe { slot.content.get().cast::<T>().write(value) };
                let handle = word(TAG, generation, number);
                slot.word.store(handle, Ordering::Release); // with the Acquire in `find`
                return Ok(handle);
            }
        }
        Err(Failure::NoRoom("this process has 65536 heaps already; disconnect some"))
    }

    /// The value that `handle` names, as long as `_pin`, which must be for that handle, lives.
    #[inline]
    pub(crate) fn find<'pin>(&self, handle: usize, _pin: &'pin Pin) -> Result<&'pin T, Failure> {
        let stale = || Failure::MemoryHandle(handle);
        let slot = self.slot(handle & SLOT_MASK).ok_or_else(stale)?;
        // Acquire: with the Release in `insert`. The tag excludes words of free and busy slots.
        if tag_of(handle) != TAG || slot.word.load(Ordering::Acquire) != handle {
            return Err(stale());
        }
        // SAFETY: the word says that the content is whole; the pin, taken before that load, makes
        // `remove` wait before it takes the content away.
        Ok(unsafe { &*slot.content.get().cast::<T>() })
    }

    /// Takes the value out, once no thread uses it. From the start on the handle is stale.
    pub(crate) fn remove(&self, handle: usize) -> Result<T, Failure> {
        let stale = || Failure::MemoryHandle(handle);
        let (number, generation) = (handle & SLOT_MASK, generation_of(handle));
        let slot = self.slot(number).ok_or_else(stale)?;
        if tag_of(handle) != TAG {
            return Err(stale());
        }
        // One of several threads that disconnect the same handle wins.
        if !slot.replace(handle, word(BUSY, generation, number)) {
            return Err(stale());
        }
        if let Err(error) = pins::wait_until_unused(handle) {
            slot.word.store(handle, Ordering::Release); // with the Acquire in `find`
            return Err(Failure::System("membarrier", error));
        }
        // SAFETY: this thread made the slot busy when it held a value, and no thread uses it.
        let value = unsafe { slot.content.get().cast::<T>().read() };
        slot.word.store(word(0, generation, 0), Ordering::Release); // with the Acquire in `insert`
        Ok(value)
    }

    #[inline]
    fn slot(&self, number: usize) -> Option<&Slot<T>> {
        // Acquire: with the Release in `slot_or_new_chunk`.
        let chunk = self.chunks[number / SLOTS_PER_CHUNK].load(Ordering::Acquire);
        // SAFETY: null, or a chunk that was initialised before it was published; never freed.
        let chunk = unsafe { chunk.as_ref() }?;
        Some(&chunk[number % SLOTS_PER_CHUNK])
    }

    fn slot_or_new_chunk(&self, number: usize) -> Result<&Slot<T>, Failure> {
        if let Some(slot) = self.slot(number) {
            return Ok(slot);
        }
        let layout = Layout::new::<[Slot<T>; SLOTS_PER_CHUNK]>();
        // SAFETY: the layout is not empty. Not `Box`: having no memory is an error to report.
        let memory = unsafe { alloc_zeroed(layout) }.cast::<[Slot<T>; SLOTS_PER_CHUNK]>();
        if memory.is_null() {
            return Err(Failure::NoRoom("the process has no memory for another heap's record"));
        }
        // SAFETY: zero is a valid slot (a word of 0, no content), and nobody else has the memory.
        let chunk = unsafe { &*memory };
        let random = RandomState::new();
        for (index, slot) in chunk.iter().enumerate() {
            slot.word.store(word(0, random.hash_one(index) as u32, 0), Ordering::Relaxed);
        }
        let place = &self.chunks[number / SLOTS_PER_CHUNK];
        // Release: with the Acquire in `slot`.
        let published =
            place.compare_exchange(ptr::null_mut(), memory, Ordering::Release, Ordering::Relaxed);
        if published.is_err() {
            // SAFETY: allocated above with this layout; another thread's chunk stands instead.
            unsafe { std::alloc::dealloc(memory.cast(), layout) };
        }
        self.slot(number).ok_or(Failure::NoRoom("the process has no memory for another heap"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    fn get<T: Clone>(table: &Table<T>, handle: usize) -> Option<T> {
        let pin = pins::enter(handle).unwrap();
        table.find(handle, &pin).ok().cloned()
    }

    #[test]
    fn handles_go_stale_and_are_never_given_again() {
        let table = Table::new();
        let mut seen = HashSet::new();
        for round in 0..1000 {
            let handle = table.insert(round).unwrap();
            assert!(seen.insert(handle));
            assert_eq!(get(&table, handle), Some(round));
            assert_eq!(table.remove(handle).unwrap(), round);
            assert_eq!(get(&table, handle), None);
            assert!(table.remove(handle).is_err(), "disconnected twice");
        }
    }

    #[test]
    fn thousands_of_heaps_at_once() {
        let table = Table::new();
        let handles: Vec<_> = (0..5000).map(|value| table.insert(value).unwrap()).collect();
        for (value, &handle) in handles.iter().enumerate() {
            assert_eq!(get(&table, handle), Some(value));
        }
        for (value, &handle) in handles.iter().enumerate() {
            assert_eq!(table.remove(handle).unwrap(), value);
        }
        assert_eq!(table.insert(1).unwrap() & SLOT_MASK, 0, "slots are used again");
    }

    #[test]
    fn numbers_that_are_no_handles_are_refused() {
        let table = Table::new();
        let live = table.insert(7).unwrap();
        let local = &live as *const usize as usize;
        let bits = (0..64).map(|bit| live ^ (1 << bit));
        let invented = [0, 1, 2, 0xdead_beef, usize::MAX, local, TAG << TAG_SHIFT, live + 1];
        for handle in bits.chain(invented) {
            assert_eq!(get(&table, handle), None, "{handle:#x}");
            assert!(table.remove(handle).is_err(), "{handle:#x}");
        }
        assert_eq!(get(&table, live), Some(7));
        let freed = table.remove(live).map(|_| live).unwrap();
        for tag in [0, BUSY, TAG] {
            let handle = word(tag, generation_of(freed), freed & SLOT_MASK);
            assert_eq!(get(&table, handle), None, "the word of a free slot is no handle");
            assert!(table.remove(handle).is_err());
        }
    }

    #[test]
    fn removal_waits_for_users_and_one_remover_wins() {
        let table = Table::new();
        for round in 0..300 {
            let handle = table.insert(Arc::new(AtomicBool::new(true))).unwrap();
            let removed = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        loop {
                            let pin = pins::enter(handle).unwrap();
                            match table.find(handle, &pin) {
                                Ok(alive) => assert!(alive.load(Ordering::SeqCst), "{round}"),
                                Err(_) => break,
                            }
                        }
                    });
                    scope.spawn(|| {
                        if let Ok(alive) = table.remove(handle) {
                            alive.store(false, Ordering::SeqCst);
                            removed.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                }
            });
            assert_eq!(removed.into_inner(), 1);
        }
    }
}
