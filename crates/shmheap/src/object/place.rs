//! From handles to references: where the layers above touch values in objects.
//!
//! # Unsafe code
//!
//! References to values in objects of the heap. That an object is live and large enough is checked
//! each time; that it stays so, and that nobody else changes it but by atomics, is the callers' to
//! argue: the box has it for itself, the arc keeps it from being freed.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use crate::heap::Unpublished;
use crate::object::Shareable;
use crate::object::registry::Making;
use crate::{Error, Handle, Heap, Result};

impl Heap {
    /// Where an object of that type is in this process.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve), and [`Error::WrongType`] if it is too small or lies badly.
    pub(crate) fn located<T>(&self, handle: Handle<T>) -> Result<NonNull<T>> {
        let object = self.resolve(handle.cast())?;
        let fits = self.usable_size(object)? >= size_of::<T>();
        if !fits || !object.cast::<T>().is_aligned() {
            return Err(Error::WrongType { what: format!("the object {handle}") });
        }
        Ok(object.cast())
    }

    /// The value of an object, by its handle.
    ///
    /// Cost: as [`resolve`](Self::resolve).
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve), and [`Error::WrongType`] if the object is too small for the
    /// type, or lies at no multiple of its alignment.
    ///
    /// # Safety
    ///
    /// As long as the reference is used, in all processes nobody frees the object, and nobody
    /// changes it but by the atomics in it. (Any bytes are a value of the type, so another type
    /// there is no violation.)
    ///
    /// ```
    /// use shmheap::{HeapOptions, ShmBox};
    /// let heap = HeapOptions::new(1 << 20).create_memfd()?;
    /// let handle = ShmBox::new(&heap, [1_u32, 2, 3])?.keep();
    /// // Anybody who gets the handle:
    /// // SAFETY: nobody frees or changes it any more.
    /// assert_eq!(unsafe { heap.get(handle) }?, &[1, 2, 3]);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub unsafe fn get<T: Shareable>(&self, handle: Handle<T>) -> Result<&T> {
        // A type with padding does not compile.
        let _ = T::FINGERPRINT;
        let place = self.located(handle)?;
        // SAFETY: a live object has at least as many bytes there, aligned, and any bytes are a
        // value of the type; the rest is the caller's.
        Ok(unsafe { place.as_ref() })
    }

    /// As [`alloc_unpublished`](Self::alloc_unpublished), with all bytes of the object 0.
    ///
    /// # Errors
    ///
    /// As [`alloc_unpublished`](Self::alloc_unpublished).
    pub fn alloc_unpublished_zeroed(&self, layout: Layout) -> Result<Unpublished<'_>> {
        let object = self.alloc_unpublished(layout)?;
        let address = object.as_ptr();
        let bytes = self.usable_size(address)?;
        // SAFETY: the object was allocated just now with that many bytes, and nobody knows it yet.
        unsafe { address.write_bytes(0, bytes) };
        Ok(object)
    }
}

/// The value of an object that a box has for itself.
///
/// # Safety
///
/// The object is one of at least that size and alignment, and as long as the reference lives it is
/// reached through nothing else.
#[allow(clippy::mut_from_ref, reason = "the object is reached through a pointer")]
pub(super) unsafe fn exclusive<'a, T: Shareable>(object: &'a Unpublished<'_>) -> &'a mut T {
    // SAFETY: the caller's.
    unsafe { object.as_ptr().cast().as_mut() }
}

/// The value of a root in the making: of zeros at first.
pub(super) fn in_the_making<'a, T: Shareable>(
    heap: &Heap,
    making: &'a mut Making<'_, '_>,
) -> Result<&'a mut T> {
    let mut place = heap.located(making.object().cast::<T>())?;
    // SAFETY: a live object has room for the value, and any bytes are one. Nobody else looks at an
    // object in the making, and of this process only who has that, which is borrowed for this.
    Ok(unsafe { place.as_mut() })
}

/// The value of an object that is not freed while its guard lives.
///
/// # Safety
///
/// The place is one that [`Heap::located`] gave, and the object stays live for `'a`.
pub(super) unsafe fn shared<'a, T: Shareable>(place: NonNull<T>) -> &'a T {
    // SAFETY: the caller's.
    unsafe { place.as_ref() }
}
