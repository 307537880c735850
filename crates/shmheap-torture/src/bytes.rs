//! The bytes of objects: where the torture touches memory of a heap.
//!
//! # Unsafe code
//!
//! Writing and reading objects, viewing them, and the whole segment, as atomics, freeing them, and
//! handing them over. The functions are safe to call for whoever owns the objects that he passes.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use shmheap::{Handle, Heap, NotPublished, Unpublished};

/// The layout of `size` bytes aligned to `align`, a power of two.
pub(crate) fn layout(size: u64, align: u64) -> Layout {
    let layout = Layout::from_size_align(size as usize, align as usize);
    layout.unwrap_or(Layout::new::<u64>())
}

/// Allocates `size` bytes without an alignment.
pub(crate) fn alloc(heap: &Heap, size: u64) -> shmheap::Result<NonNull<u8>> {
    heap.alloc(layout(size, 1))
}

/// Frees what the caller owns, or what is no object at all, which must be an error.
pub(crate) fn free(heap: &Heap, object: NonNull<u8>) -> shmheap::Result<()> {
    // SAFETY: the torture frees only objects that it, and nobody else, still knows of.
    unsafe { heap.free(object) }
}

/// Reallocates what the caller owns.
pub(crate) fn realloc(heap: &Heap, object: NonNull<u8>, size: u64) -> shmheap::Result<NonNull<u8>> {
    // SAFETY: the torture resizes only objects that nobody else uses, and forgets the old address.
    unsafe { heap.realloc(object, layout(size, 1)) }
}

/// How far behind the start of object space an object lies: the same in every process, and in every
/// heap in which the same was done.
pub(crate) fn place(heap: &Heap, object: NonNull<u8>) -> u64 {
    object.addr().get().wrapping_sub(heap.base().addr().get()) as u64
}

/// The first `count` words of an object, which has them.
pub(crate) fn words(_heap: &Heap, object: NonNull<u8>, count: usize) -> &[AtomicU64] {
    // SAFETY: the object is mapped as long as the heap is, aligned to a word, and holds `count`
    // words, which all of the torture reaches as atomics.
    unsafe { std::slice::from_raw_parts(object.cast().as_ptr(), count) }
}

/// A row of `count` words of 0 in a new object.
pub(crate) fn alloc_words(heap: &Heap, count: usize) -> Result<(NonNull<u8>, &[AtomicU64])> {
    let object = heap.alloc_zeroed(Layout::array::<AtomicU64>(count)?)?;
    Ok((object, words(heap, object, count)))
}

/// All words of the segment that have storage, records and objects, as this process has them
/// mapped. Nobody may use the heap while they are read for more than a look.
pub(crate) fn segment(heap: &Heap) -> Result<&[AtomicU64]> {
    let info = heap.info();
    let offset = info.data_offset_bytes as usize;
    let start = heap.base().as_ptr().wrapping_sub(offset);
    let start = NonNull::new(start.cast::<AtomicU64>()).context("a heap at address 0")?;
    let count = (info.data_offset_bytes + info.len_bytes) as usize / size_of::<AtomicU64>();
    // SAFETY: the segment is mapped from its first byte, page-aligned, as long as the heap is, and
    // the object is at least as long as the heap says; any bytes are words.
    Ok(unsafe { std::slice::from_raw_parts(start.as_ptr(), count) })
}

/// Fills an object's words with what `stamp` gives.
pub(crate) fn stamp(heap: &Heap, object: NonNull<u8>, size: u64, stamp: u64) {
    let count = size as usize / size_of::<u64>();
    for (index, word) in (1..).zip(words(heap, object, count)) {
        // Relaxed: whoever compares it has waited for this process, or for its end.
        word.store(stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index, Ordering::Relaxed);
    }
}

/// Publishes into a cell, which must be a word of a live object that is nothing but a cell.
pub(crate) fn publish<'h>(
    object: Unpublished<'h>,
    cell: &AtomicU64,
) -> shmheap::Result<Handle, NotPublished<'h>> {
    // SAFETY: the torture reaches cells through these functions and as atomics, and starts from 0.
    unsafe { object.publish(NonNull::from(cell).cast()) }
}

/// Allocates into a cell.
pub(crate) fn alloc_into(heap: &Heap, size: u64, cell: &AtomicU64) -> shmheap::Result<NonNull<u8>> {
    // SAFETY: as above.
    unsafe { heap.alloc_into(layout(size, 1), NonNull::from(cell).cast()) }
}

/// Takes from a cell.
pub(crate) fn take<'h>(
    heap: &'h Heap,
    cell: &AtomicU64,
) -> shmheap::Result<Option<Unpublished<'h>>> {
    // SAFETY: as above.
    unsafe { heap.take(NonNull::from(cell).cast()) }
}

/// A cell so many bytes behind the start of object space, be there an object or not.
pub(crate) fn cell_anywhere(heap: &Heap, bytes: u64) -> &AtomicU64 {
    let address = heap.base().as_ptr().wrapping_add(bytes as usize);
    // SAFETY: only passed to the operations on cells, which find out whether it has storage.
    unsafe { &*address.cast() }
}
