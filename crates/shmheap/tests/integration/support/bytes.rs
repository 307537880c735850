//! The bytes of objects: where the tests touch memory.
//!
//! # Unsafe code
//!
//! Writing and reading objects, viewing them as atomics, and freeing them. The functions are safe
//! to call from a test that owns the objects it passes; each states what it relies on.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use shmheap::{Handle, Heap, NotPublished, Result, Shareable, ShmWeak, Unpublished};

/// The layout of `size` bytes aligned to `align`.
pub(crate) fn layout(size: u64, align: u64) -> Layout {
    Layout::from_size_align(size as usize, align as usize).unwrap()
}

/// Allocates `size` bytes without an alignment.
pub(crate) fn alloc(heap: &Heap, size: u64) -> Result<NonNull<u8>> {
    heap.alloc(layout(size, 1))
}

/// Frees what the test owns, or what is no object at all, which must be an error.
pub(crate) fn free(heap: &Heap, object: NonNull<u8>) -> Result<()> {
    // SAFETY: tests free only objects that they, and nobody else, still knew of.
    unsafe { heap.free(object) }
}

/// Frees the object that a handle names.
pub(crate) fn free_handle(heap: &Heap, handle: Handle) -> Result<()> {
    free(heap, heap.resolve(handle)?)
}

/// Reallocates what the test owns.
pub(crate) fn realloc(
    heap: &Heap,
    object: NonNull<u8>,
    size: u64,
    align: u64,
) -> Result<NonNull<u8>> {
    // SAFETY: tests resize only objects that nobody else uses, and forget the old address.
    unsafe { heap.realloc(object, layout(size, align)) }
}

/// `object` moved by some bytes, perhaps to where no object is.
pub(crate) fn displaced(object: NonNull<u8>, bytes: isize) -> NonNull<u8> {
    let address = object.as_ptr().wrapping_offset(bytes);
    NonNull::new(address).unwrap()
}

/// The object's first `size` bytes, which must be within it, and which nobody may write meanwhile.
pub(crate) fn content(_heap: &Heap, object: NonNull<u8>, size: u64) -> &[u8] {
    // SAFETY: the object is mapped as long as the heap is, and holds `size` bytes.
    unsafe { std::slice::from_raw_parts(object.as_ptr(), size as usize) }
}

/// Overwrites the object's first `size` bytes, which must be within it, with what `stamp` gives.
pub(crate) fn stamp(object: NonNull<u8>, size: u64, stamp: u64) {
    // SAFETY: the object has at least `size` bytes and belongs to the caller.
    let content = unsafe { std::slice::from_raw_parts_mut(object.as_ptr(), size as usize) };
    for (place, byte) in content.iter_mut().zip(pattern(stamp)) {
        *place = byte;
    }
}

/// Whether the object's first `size` bytes are what `stamp` gave them.
pub(crate) fn is_stamped(heap: &Heap, object: NonNull<u8>, size: u64, stamp: u64) -> bool {
    content(heap, object, size)
        .iter()
        .copied()
        .zip(pattern(stamp))
        .all(|(found, byte)| found == byte)
}

/// An endless row of bytes, another for each stamp.
fn pattern(stamp: u64) -> impl Iterator<Item = u8> {
    let mut word = stamp;
    std::iter::from_fn(move || {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
        Some((word >> 56) as u8)
    })
}

/// Allocates a row of `count` words of 0, to be shared with other processes.
pub(crate) fn alloc_words(heap: &Heap, count: usize) -> (Handle, &[AtomicU64]) {
    let object = heap.alloc_zeroed(Layout::array::<AtomicU64>(count).unwrap()).unwrap();
    let handle = heap.handle(object).unwrap();
    (handle, words(heap, handle, count))
}

/// The row of `count` words that a handle names. It must live as long as it is used.
pub(crate) fn words(heap: &Heap, handle: Handle, count: usize) -> &[AtomicU64] {
    let object = heap.resolve(handle).unwrap();
    assert!(heap.usable_size(object).unwrap() >= count * size_of::<AtomicU64>());
    // SAFETY: the object is a row of words that all processes reach as atomics only.
    unsafe { std::slice::from_raw_parts(object.cast().as_ptr(), count) }
}

/// Writes two words to the start of an object that has room for them.
pub(crate) fn write_words(object: NonNull<u8>, words: [u64; 2]) {
    // SAFETY: the object has at least 16 bytes, is aligned to a granule, and is the caller's.
    unsafe { object.cast().write(words) };
}

/// Reads what [`write_words`] wrote.
pub(crate) fn read_words(_heap: &Heap, object: NonNull<u8>) -> [u64; 2] {
    // SAFETY: as above.
    unsafe { object.cast().read() }
}

/// A reference to a shared value as the two words that it is.
pub(crate) fn words_of_weak<T: Shareable>(weak: ShmWeak<T>) -> [u64; 2] {
    // SAFETY: it is plain data of that size, and a shareable type has no padding.
    unsafe { std::mem::transmute_copy(&weak) }
}

/// What two words say as a reference; any do.
pub(crate) fn weak_of_words<T: Shareable>(words: [u64; 2]) -> ShmWeak<T> {
    const { assert!(size_of::<ShmWeak<u64>>() == size_of::<[u64; 2]>()) };
    // SAFETY: it is a shareable type of that size, so any bytes are one.
    unsafe { std::mem::transmute_copy(&words) }
}

/// A cell so many bytes behind the start of object space, be there an object or not.
pub(crate) fn cell_anywhere(heap: &Heap, bytes: u64) -> &AtomicU64 {
    let address = heap.base().as_ptr().wrapping_add(bytes as usize);
    // SAFETY: only passed to the operations on cells, which find out whether it has storage.
    unsafe { &*address.cast() }
}

/// Publishes into a cell, which must be a word of a live object that is nothing but a cell.
pub(crate) fn publish<'h>(
    object: Unpublished<'h>,
    cell: &AtomicU64,
) -> Result<Handle, NotPublished<'h>> {
    // SAFETY: the tests reach cells through these functions and as atomics, and start from 0.
    unsafe { object.publish(NonNull::from(cell).cast()) }
}

/// Allocates into a cell.
pub(crate) fn alloc_into(heap: &Heap, size: u64, cell: &AtomicU64) -> Result<NonNull<u8>> {
    // SAFETY: as above.
    unsafe { heap.alloc_into(layout(size, 1), NonNull::from(cell).cast()) }
}

/// Takes from a cell.
pub(crate) fn take<'h>(heap: &'h Heap, cell: &AtomicU64) -> Result<Option<Unpublished<'h>>> {
    // SAFETY: as above.
    unsafe { heap.take(NonNull::from(cell).cast()) }
}

/// Looks into a cell.
pub(crate) fn peek(heap: &Heap, cell: &AtomicU64) -> Option<Handle> {
    // SAFETY: as above.
    unsafe { heap.peek(NonNull::from(cell).cast()) }
}

/// Allocates an object of zeros, to be shared with other processes.
pub(crate) fn alloc_object<T: Shareable>(heap: &Heap) -> (Handle, &T) {
    let object = heap.alloc_zeroed(Layout::new::<T>()).unwrap();
    let handle = heap.handle(object).unwrap();
    (handle, self::object(heap, handle))
}

/// The object that a handle names, which was made as that type. It must live as long as it is used.
pub(crate) fn object<T: Shareable>(heap: &Heap, handle: Handle) -> &T {
    let object = heap.resolve(handle).unwrap();
    assert!(heap.usable_size(object).unwrap() >= size_of::<T>());
    // SAFETY: the object was zeroed, and any bytes are a value of a shareable type, which all
    // processes reach in the same way.
    unsafe { object.cast().as_ref() }
}

/// The value that a handle names, which nobody else uses.
#[allow(clippy::mut_from_ref)]
pub(crate) fn exclusive<T: Shareable>(heap: &Heap, handle: Handle) -> &mut T {
    let mut object = heap.resolve(handle).unwrap().cast::<T>();
    // SAFETY: made by `alloc_object`; the test has ended all others that had it.
    unsafe { object.as_mut() }
}
