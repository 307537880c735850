//! A pointer that moves up and never frees: what is left of a figure when the allocator costs
//! nothing.
//!
//! Each worker has an arena of its own in shared memory, and starts again at its end. Objects
//! therefore come to lie on older ones, which harms nothing: by then those are either out of use
//! or used by the harness for their address alone. The length of the arena decides what is shown:
//!
//! - a short one stays in the caches: the cost of the harness, which no allocator can undercut;
//! - a long one has left them when it comes round: every object has fresh memory, as from an
//!   allocator that really never frees, but no page faults, for all pages are touched in advance.
//!
//! # Unsafe code
//!
//! Hands out addresses in the mapping.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fs::File;
use std::ptr::NonNull;

use anyhow::{Context, Result};
use memmap2::{Advice, MmapOptions, MmapRaw};

use super::{Footprint, HEAP_BYTES_MAX, Object, Peer, Sharing, Worker, file};
use crate::board::WORKERS_MAX;

#[derive(Debug)]
pub(crate) struct Bump {
    name: &'static str,
    description: &'static str,
    arena_bytes: usize,
}

/// The arena is larger than all objects that may be under way from a worker to the next.
pub(crate) const WARM: Bump = Bump {
    name: "bump",
    description: "never frees, 4 MiB over and over: the cost of the harness",
    arena_bytes: 4 << 20,
};

pub(crate) const FRESH: Bump = Bump {
    name: "bump fresh",
    description: "never frees, 128 MiB over and over: memory that no cache holds",
    arena_bytes: 128 << 20,
};

/// A worker's arena, and the mapping it lies in.
#[derive(Debug)]
pub(crate) struct Arena {
    mapping: MmapRaw,
    start: usize,
    end: usize,
    /// What all workers together touch.
    used_bytes: usize,
    /// Offset of the next object in the mapping.
    next: Cell<usize>,
}

impl Bump {
    fn arena(&self, file: &File, number: usize) -> Result<Arena> {
        let mapping = MmapOptions::new().len(HEAP_BYTES_MAX as usize).map_raw(file)?;
        let start = number * self.arena_bytes;
        Ok(Arena {
            mapping,
            start,
            end: start + self.arena_bytes,
            used_bytes: WORKERS_MAX * self.arena_bytes,
            next: Cell::new(start),
        })
    }
}

impl Peer for Bump {
    type Worker = Arena;

    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> String {
        self.description.to_owned()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn create(&self, name: &str) -> Result<Arena> {
        let file = file::create(name)?;
        file.set_len(HEAP_BYTES_MAX)?;
        self.arena(&file, 0)
    }

    fn connect(&self, name: &str, number: usize) -> Result<Arena> {
        self.arena(&file::open(name)?, number)
    }

    fn remove(&self, name: &str) {
        file::remove(name);
    }
}

impl Arena {
    #[inline]
    fn object(&self, offset: usize) -> Object<Self> {
        assert!(offset < self.mapping.len(), "an offset outside the mapping");
        // SAFETY: the offset lies in the mapping.
        let address = unsafe { self.mapping.as_mut_ptr().add(offset) };
        let address = NonNull::new(address).expect("a mapping does not start at 0");
        // SAFETY: offsets are multiples of 16 that `alloc` made, with all the object's bytes in the
        // worker's arena.
        // Objects that are in use at the same time do not overlap; see the module's text.
        unsafe { Object::new(address) }
    }
}

impl Worker for Arena {
    fn prepare(&self) -> Result<()> {
        let touched = self.mapping.advise_range(Advice::PopulateWrite, 0, self.used_bytes);
        touched.context("no memory for the arenas")
    }

    #[inline]
    fn alloc(&self, bytes: usize) -> Object<Self> {
        let bytes = bytes.next_multiple_of(16);
        let mut offset = self.next.get();
        if offset + bytes > self.end {
            offset = self.start;
            assert!(offset + bytes <= self.end, "an object larger than the arena");
        }
        self.next.set(offset + bytes);
        self.object(offset)
    }

    #[inline]
    fn free(&self, _object: Object<Self>) {}

    #[inline]
    fn give(&self, object: Object<Self>) -> u64 {
        // Never 0, which stands for no object.
        1 + (object.address().addr().get() - self.mapping.as_ptr().addr()) as u64
    }

    #[inline]
    unsafe fn take(&self, given: u64) -> Object<Self> {
        self.object((given - 1) as usize)
    }

    fn footprint(&self) -> Footprint {
        Footprint::Meaningless
    }
}
