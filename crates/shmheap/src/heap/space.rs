//! The bytes of objects: the only place where the heap touches them.
//!
//! # Unsafe
//!
//! Two operations write object bytes: zeroing a fresh object and moving an object's content. Both
//! take objects that the engine has just placed or confirmed, so the ranges lie in the mapping and
//! belong to the caller; that is what their contracts ask for.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use crate::first_fit::layout::Position;
use crate::units::Offset;

/// Object space as it is mapped in this process: granules to addresses and back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    /// The first byte of object space.
    base: NonNull<u8>,
    granule_bytes: u64,
}

// SAFETY: an address by itself; using it is argued where it is used.
unsafe impl Send for Space {}
// SAFETY: as above.
unsafe impl Sync for Space {}

impl Space {
    pub(super) fn new(segment: NonNull<u8>, data_offset: Offset, granule_bytes: u64) -> Self {
        Self { base: displaced(segment, data_offset.0), granule_bytes }
    }

    #[inline]
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The address of a position.
    #[inline]
    pub(super) fn address(&self, at: Position) -> NonNull<u8> {
        displaced(self.base, at.0 * self.granule_bytes)
    }

    /// The address of an object that the engine has placed so many bytes behind the start of object
    /// space.
    #[inline]
    pub(super) fn of_object(&self, bytes: u64) -> NonNull<u8> {
        debug_assert!(self.base.addr().checked_add(bytes as usize).is_some());
        let address = self.base.as_ptr().wrapping_byte_add(bytes as usize);
        // SAFETY: the engine places objects in the mapping alone, by numbers that are private to
        // this process, and nothing is mapped at address 0.
        unsafe { NonNull::new_unchecked(address) }
    }

    /// The address so many bytes behind the start of object space.
    #[inline]
    pub(super) fn at(&self, bytes: u64) -> NonNull<u8> {
        displaced(self.base, bytes)
    }

    /// How many bytes behind the start of object space the address lies, if not before it.
    #[inline]
    pub(super) fn offset_of(&self, address: NonNull<u8>) -> Option<u64> {
        let bytes = address.addr().get().checked_sub(self.base.addr().get())?;
        Some(bytes as u64)
    }

    /// As [`offset_of`](Self::offset_of), and a number that no heap has for what lies before it.
    #[inline]
    pub(super) fn displacement(&self, address: NonNull<u8>) -> u64 {
        address.addr().get().wrapping_sub(self.base.addr().get()) as u64
    }

    /// Fills `bytes` bytes from `object` on with zeros.
    ///
    /// # Safety
    ///
    /// The range lies in an object of the heap that no other thread or process knows yet.
    pub(super) unsafe fn zero(object: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's range is mapped for writing and his alone; bytes have no alignment.
        unsafe { object.write_bytes(0, bytes) };
    }

    /// Copies `bytes` bytes from one object to another.
    ///
    /// # Safety
    ///
    /// The ranges lie in two live objects of the heap; nobody writes the first or knows the second
    /// meanwhile. Damaged records may have made them overlap.
    pub(super) unsafe fn copy(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
        // SAFETY: both ranges are mapped; for overlapping ones the result is defined.
        unsafe { to.copy_from(from, bytes) };
    }
}

/// `start` moved up by `bytes`; both in one mapping, so the sum neither wraps nor is null.
#[inline]
fn displaced(start: NonNull<u8>, bytes: u64) -> NonNull<u8> {
    let address = start.addr().saturating_add(bytes as usize);
    start.with_addr(address)
}
