//! talc: an allocator for an arena that one process has, here in shared memory and under a lock.
//!
//! Its records hold addresses, so processes that map the arena elsewhere cannot share it: threads
//! stand in. It wants to be told an object's size when it is freed, which neither C's `free` nor a
//! workload knows, so the size stands in a word in front of each object.
//!
//! # Unsafe code
//!
//! Takes objects from the arena and frees them.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::talc::DefaultBinning;
use ::talc::base::Talc as Arena;
use ::talc::source::Manual;
use anyhow::{Context, Result};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::MemfdFlags;

use super::{Footprint, HEAP_BYTES_MAX, Object, Peer, Sharing, Worker};

#[derive(Debug)]
pub(crate) struct Talc;

/// A thread; all share the one arena.
#[derive(Debug)]
pub(crate) struct Thread;

static ARENA: Mutex<Arena<Manual, DefaultBinning>> = Mutex::new(Arena::new(Manual));

const SIZE_BYTES: usize = size_of::<usize>();

fn arena() -> MutexGuard<'static, Arena<Manual, DefaultBinning>> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of an object and the word in front of it.
fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(SIZE_BYTES + bytes, align_of::<usize>()).expect("sizes are small")
}

impl Peer for Talc {
    type Worker = Thread;

    fn name(&self) -> &'static str {
        "talc"
    }

    fn description(&self) -> String {
        concat!(env!("VERSION_OF_TALC"), ", one lock, 8 bytes for the size").to_owned()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Threads
    }

    fn connect(&self, _name: &str, _number: usize) -> Result<Thread> {
        let mut arena = arena();
        if !arena.is_metadata_established() {
            let memory = rustix::fs::memfd_create("shmheap-bench-talc", MemfdFlags::CLOEXEC)?;
            rustix::fs::ftruncate(&memory, HEAP_BYTES_MAX)?;
            let mapping: MmapRaw =
                MmapOptions::new().len(HEAP_BYTES_MAX as usize).map_raw(&memory)?;
            // SAFETY: memory that nobody else knows, and that stays mapped.
            let claimed = unsafe { arena.claim(mapping.as_mut_ptr(), mapping.len()) };
            claimed.context("the arena is too small for talc")?;
            // As long as the process.
            std::mem::forget(mapping);
        }
        Ok(Thread)
    }
}

impl Worker for Thread {
    #[inline]
    fn alloc(&self, bytes: usize) -> Object<Self> {
        // SAFETY: the size is not 0.
        let block = unsafe { arena().allocate(layout(bytes)) };
        let block = block.expect("the workloads fit the arena").cast::<usize>();
        // SAFETY: the block is new and starts with room for a word, aligned for it.
        unsafe { block.write(bytes) };
        // SAFETY: the word lies in the block, and so does its end.
        let object = unsafe { block.add(1) };
        // SAFETY: the object is new, has `bytes` bytes, aligned to 8, and nobody else knows it.
        unsafe { Object::new(object.cast()) }
    }

    #[inline]
    fn free(&self, object: Object<Self>) {
        // SAFETY: every object lies behind a word, in one block with it.
        let block: NonNull<usize> = unsafe { object.address().cast().sub(1) };
        // SAFETY: `alloc` wrote the word.
        let bytes = unsafe { block.read() };
        // SAFETY: allocated with the same layout; the caller gives it up.
        unsafe { arena().deallocate(block.as_ptr().cast(), layout(bytes)) }
    }

    fn footprint(&self) -> Footprint {
        Footprint::Resident
    }
}
