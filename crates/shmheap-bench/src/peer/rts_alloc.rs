//! rts-alloc: slabs in a shared file, without locks, for small and frequent objects.
//!
//! It is the nearest relative among crates: any process that joins may allocate and free. Its
//! limits: sizes are rounded up to 256, 512, ... 4096 bytes, and there are none above; a file is of
//! one length for good; a process that dies takes its worker's slot with it.
//!
//! Objects that others free lie on a list until their owner clears it, which is the program's
//! business. Here he does so every [`CLEAR_EVERY`] allocations: the crate's text advises neither
//! too often nor too seldom.
//!
//! # Unsafe code
//!
//! Takes objects from the heap and frees them.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr::NonNull;

use ::rts_alloc::{Allocator, MAX_ALLOC_SIZE};
use anyhow::{Result, bail};

use super::{Demand, Footprint, HEAP_BYTES_MAX, Object, Peer, Sharing, Worker, file};

#[derive(Debug)]
pub(crate) struct RtsAlloc;

/// As many workers as any crew has, and the one that makes the heap.
const WORKERS: u32 = 16;

/// 256 of the smallest objects.
const SLAB_BYTES: u32 = 64 << 10;

const CLEAR_EVERY: u32 = 64;

/// A worker's slot.
pub(crate) struct Slot {
    allocator: Allocator,
    allocations: Cell<u32>,
}

impl Peer for RtsAlloc {
    type Worker = Slot;

    fn name(&self) -> &'static str {
        "rts-alloc"
    }

    fn description(&self) -> String {
        let version = env!("VERSION_OF_RTS_ALLOC");
        format!("{version}, clears what others freed every {CLEAR_EVERY} allocs")
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn refuses(&self, demand: Demand) -> Option<&'static str> {
        let too_large = demand.largest_bytes > MAX_ALLOC_SIZE;
        too_large.then_some("has no objects above 4096 bytes")
    }

    fn create(&self, name: &str) -> Result<Slot> {
        let file = file::create(name)?;
        // SAFETY: the file is new, and nobody else makes a heap of it.
        let made =
            unsafe { Allocator::create(&file, HEAP_BYTES_MAX as usize, WORKERS, SLAB_BYTES) };
        Slot::new(made)
    }

    fn connect(&self, name: &str, _number: usize) -> Result<Slot> {
        Slot::new(Allocator::join(&file::open(name)?))
    }

    fn remove(&self, name: &str) {
        file::remove(name);
    }
}

impl Slot {
    fn new(allocator: Result<Allocator, ::rts_alloc::error::Error>) -> Result<Self> {
        match allocator {
            Ok(allocator) => Ok(Self { allocator, allocations: Cell::new(0) }),
            Err(error) => bail!("rts-alloc: {error}"),
        }
    }

    #[cold]
    fn clear_and_allocate(&self, bytes: u32) -> Option<NonNull<u8>> {
        self.allocator.clean_remote_frees();
        self.allocator.allocate(bytes)
    }
}

impl Worker for Slot {
    #[inline]
    fn alloc(&self, bytes: usize) -> Object<Self> {
        let bytes = bytes as u32;
        let allocations = self.allocations.get().wrapping_add(1);
        self.allocations.set(allocations);
        let address = if allocations.is_multiple_of(CLEAR_EVERY) {
            self.clear_and_allocate(bytes)
        } else {
            self.allocator.allocate(bytes).or_else(|| self.clear_and_allocate(bytes))
        };
        let address = address.expect("the workloads fit the heap");
        // SAFETY: the object is new, has 256 bytes or more, and nobody else knows it.
        unsafe { Object::new(address) }
    }

    #[inline]
    fn free(&self, object: Object<Self>) {
        // SAFETY: a live object of this heap, the caller's alone, and he gives it up.
        unsafe { self.allocator.free(object.address()) }
    }

    #[inline]
    fn give(&self, object: Object<Self>) -> u64 {
        // SAFETY: a live object of this heap.
        let offset = unsafe { self.allocator.offset(object.address()) };
        offset as u64
    }

    #[inline]
    unsafe fn take(&self, given: u64) -> Object<Self> {
        // SAFETY: by the caller's promise, the offset of a live object of this heap.
        let address = unsafe { self.allocator.ptr_from_offset(given as usize) };
        // SAFETY: the giver gave up a live object, and the caller is its only taker.
        unsafe { Object::new(address) }
    }

    fn footprint(&self) -> Footprint {
        Footprint::Resident
    }
}
