//! Which collections may lie in a heap, and the elements of a vector as slices.
//!
//! # Unsafe code
//!
//! The implementations of `Shareable`, and slices made of a vector's object. A slice is lent for as
//! long as the vector is borrowed, and the heap that it is mapped by.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::slice;

use super::{ShmMap, ShmString, ShmVec};
use crate::heap::{Heap, Span};
use crate::object::{Fingerprint, OwnedCell, Shareable};
#[cfg(test)]
use crate::segment::words::Words;
use crate::units::WORD_BYTES;

// SAFETY: words, of which any bytes are some; no padding, no address but handles; what the words
// lead to is bounded before it is used.
unsafe impl<K: Shareable + Copy, V: Shareable + Copy> Shareable for ShmMap<K, V> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("ShmMap", size_of::<Self>(), align_of::<Self>())
            .parameter(K::FINGERPRINT)
            .parameter(V::FINGERPRINT);

    fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
        Self::cells().for_each(visit);
    }
}

// SAFETY: as above.
unsafe impl<T: Shareable + Copy> Shareable for ShmVec<T> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("ShmVec", size_of::<Self>(), align_of::<Self>()).parameter(T::FINGERPRINT);

    fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
        Self::cells().for_each(visit);
    }
}

// SAFETY: as above.
unsafe impl Shareable for ShmString {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("ShmString", size_of::<Self>(), align_of::<Self>());

    fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
        ShmVec::<u8>::owned_cells(visit);
    }
}

/// How many elements an object holds, and where the first is; none if it is not aligned for them.
fn extent<T>(heap: &Heap, span: Span) -> (NonNull<T>, usize) {
    let first = heap.address_of(span.first).cast::<T>();
    if size_of::<T>() == 0 || !first.is_aligned() {
        return (NonNull::dangling(), 0);
    }
    (first, (span.words * WORD_BYTES) as usize / size_of::<T>())
}

/// How many elements an object holds.
pub(super) fn capacity<T: Shareable + Copy>(heap: &Heap, span: Span) -> usize {
    extent::<T>(heap, span).1
}

/// As [`extent`], of an object or none.
fn whole<T>(heap: &Heap, array: Option<Span>) -> (NonNull<T>, usize) {
    match array {
        _ if size_of::<T>() == 0 => (NonNull::dangling(), usize::MAX),
        Some(array) => extent(heap, array),
        None => (NonNull::dangling(), 0),
    }
}

/// The first `len` elements of the object that belongs to the vector, or as many as it holds. Those
/// without a size need none.
pub(super) fn of<'a, T: Shareable + Copy>(
    _vec: &'a ShmVec<T>,
    heap: &'a Heap,
    array: Option<Span>,
    len: usize,
) -> &'a [T] {
    let (first, capacity) = whole::<T>(heap, array);
    // SAFETY: so many elements lie in a live object, which is mapped as long as the heap is, and
    // are aligned; any bytes are elements. The object is the vector's: it stays live, and nobody
    // writes to it, as long as the vector is borrowed, for that is for one user at a time.
    unsafe { slice::from_raw_parts(first.as_ptr(), len.min(capacity)) }
}

/// As [`of`], to be changed.
pub(super) fn of_mut<'a, T: Shareable + Copy>(
    _vec: &'a mut ShmVec<T>,
    heap: &'a Heap,
    array: Option<Span>,
    len: usize,
) -> &'a mut [T] {
    let (first, capacity) = whole::<T>(heap, array);
    // SAFETY: as above, and nobody reads meanwhile.
    unsafe { slice::from_raw_parts_mut(first.as_ptr(), len.min(capacity)) }
}

/// Writes elements to an object of this process alone, or behind the elements that its vector has:
/// from number `at` on, as far as it has room.
pub(super) fn write<T: Shareable + Copy>(heap: &Heap, span: Span, at: usize, elements: &[T]) {
    let (first, capacity) = extent::<T>(heap, span);
    let count = elements.len().min(capacity.saturating_sub(at));
    // A store to nowhere: a moment for a test to kill this process at.
    #[cfg(test)]
    heap.gate().store(crate::units::WordIndex(u64::MAX), 0);
    if count > 0 {
        // SAFETY: `at` is below the capacity.
        let to = unsafe { first.cast::<MaybeUninit<T>>().add(at) };
        // SAFETY: so many elements are there, and have room in the object behind `at`; nobody has
        // the place, so the two do not overlap.
        unsafe { to.cast::<T>().copy_from_nonoverlapping(NonNull::from(elements).cast(), count) };
    }
}
