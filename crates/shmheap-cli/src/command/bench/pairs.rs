//! Allocations and frees, the same in a heap and by the allocator of this process: rings of objects
//! each of which is freed when its place is needed again.
//!
//! # Unsafe code
//!
//! Freeing, and the allocator of the process.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use shmheap::Heap;

/// Objects that live at a time, for each thread.
const RING: usize = 64;

/// Counts pairs in a heap until it ends.
pub(super) fn of_heap(heap: &Heap, bytes: usize, ends: &AtomicBool) -> Result<u64> {
    let layout = Layout::from_size_align(bytes, 16)?;
    let allocate = || Ok(heap.alloc(layout)?);
    let free = |object| {
        // SAFETY: `rounds` hands over what `allocate` gave, once, and nobody else knows of it.
        unsafe { heap.free(object) }?;
        Ok(())
    };
    rounds(allocate, free, ends)
}

/// Counts pairs of this process's allocator until it ends.
pub(super) fn of_malloc(bytes: usize, ends: &AtomicBool) -> Result<u64> {
    let layout = Layout::from_size_align(bytes, 16)?;
    let allocate = || {
        // SAFETY: the layout has a size.
        NonNull::new(unsafe { alloc(layout) }).context("this process has no memory")
    };
    let free = |object: NonNull<u8>| {
        // SAFETY: `rounds` hands over what `allocate` gave, of this layout, once.
        unsafe { dealloc(object.as_ptr(), layout) };
        Ok(())
    };
    rounds(allocate, free, ends)
}

/// Hands each object that `allocate` gave to `free`, once.
fn rounds(
    allocate: impl Fn() -> Result<NonNull<u8>>,
    free: impl Fn(NonNull<u8>) -> Result<()>,
    ends: &AtomicBool,
) -> Result<u64> {
    let mut ring = [None; RING];
    let mut count = 0;
    while !ends.load(Ordering::Relaxed) {
        for place in &mut ring {
            if let Some(object) = place.replace(std::hint::black_box(allocate()?)) {
                free(object)?;
            }
        }
        count += RING as u64;
    }
    for object in ring.into_iter().flatten() {
        free(object)?;
    }
    Ok(count)
}
