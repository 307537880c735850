//! Objects: the malloc family, and the handles that name objects in every process.
//!
//! # Safety
//!
//! Pointers and handles may be any value: the heap checks them before it uses them. What remains
//! the caller's promise is malloc's own: nobody uses an object after it was freed.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use shmheap::Handle;

use crate::call;
use crate::error::Failure;
use crate::handles::Connection;
use crate::options::{MemoryHandle, ObjectHandle};

const NO_OBJECT: *mut c_void = ptr::null_mut();

/// `shmheap_underlying`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_underlying(mem: MemoryHandle) -> *mut c_void {
    call::on_heap(mem, NO_OBJECT, |connection| Ok(connection.heap.base().as_ptr().cast()))
}

/// `shmheap_alloc`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_alloc(mem: MemoryHandle, sz: usize) -> *mut c_void {
    call::on_heap(mem, NO_OBJECT, |connection| {
        Ok(connection.alloc(connection.layout(sz)?)?.as_ptr().cast())
    })
}

/// `shmheap_calloc`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_calloc(mem: MemoryHandle, count: usize, size: usize) -> *mut c_void {
    call::on_heap(mem, NO_OBJECT, |connection| {
        let bytes = count.checked_mul(size).ok_or(Failure::TooLarge)?;
        Ok(connection.alloc_zeroed(connection.layout(bytes)?)?.as_ptr().cast())
    })
}

/// `shmheap_aligned_alloc`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_aligned_alloc(
    mem: MemoryHandle,
    alignment: usize,
    size: usize,
) -> *mut c_void {
    call::on_heap(mem, NO_OBJECT, |connection| {
        if !alignment.is_power_of_two() || alignment > connection.align_bytes_max {
            return Err(Failure::Argument(
                "the alignment must be a power of two, at most 4096 in a heap of the first-fit \
                 policy and 2 MiB in one of the scalable policy",
            ));
        }
        let least = connection.layout(size)?;
        let layout = layout(size, alignment.max(least.align()))?;
        Ok(connection.alloc(layout)?.as_ptr().cast())
    })
}

/// `shmheap_realloc`.
///
/// # Safety
///
/// Nobody uses the object at `ptr` afterwards if the result is another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_realloc(
    mem: MemoryHandle,
    ptr: *mut c_void,
    size: usize,
) -> *mut c_void {
    call::on_heap(mem, NO_OBJECT, |connection| {
        let layout = connection.layout(size)?;
        let moved = match NonNull::new(ptr.cast()) {
            None => connection.alloc(layout)?,
            // SAFETY: the caller's promise; whether it is an object, the heap checks.
            Some(object) => unsafe { connection.realloc(object, layout) }?,
        };
        Ok(moved.as_ptr().cast())
    })
}

/// `shmheap_free`.
///
/// # Safety
///
/// Nobody uses the object at `ptr` afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_free(mem: MemoryHandle, ptr: *mut c_void) {
    call::on_heap(mem, (), |connection| {
        if let Some(object) = NonNull::new(ptr.cast()) {
            // SAFETY: the caller's promise; whether it is an object, the heap checks.
            unsafe { connection.free(object) }?;
        }
        Ok(())
    });
}

/// `shmheap_usable_size`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_usable_size(mem: MemoryHandle, ptr: *mut c_void) -> usize {
    call::on_heap(mem, 0, |connection| match NonNull::new(ptr.cast()) {
        Some(object) => Ok(connection.usable_size(object)?),
        None => Ok(0),
    })
}

/// `shmheap_ptr_to_handle`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_ptr_to_handle(mem: MemoryHandle, ptr: *mut c_void) -> ObjectHandle {
    call::on_heap(mem, 0, |connection| {
        let object = NonNull::new(ptr.cast())
            .ok_or(Failure::Argument("NULL is no object, so it has no handle"))?;
        Ok(connection.heap.handle(object)?.to_raw() as usize)
    })
}

/// `shmheap_handle_to_ptr`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_handle_to_ptr(mem: MemoryHandle, hdl: ObjectHandle) -> *mut c_void {
    call::on_heap(mem, NO_OBJECT, |connection| {
        Ok(connection.resolve(Handle::from_raw(hdl as u64))?.as_ptr().cast())
    })
}

impl Connection {
    /// What `malloc` means by a size, in this heap.
    #[inline]
    fn layout(&self, bytes: usize) -> Result<Layout, Failure> {
        // Two calls, so that each is checked with a constant.
        if bytes >= self.sixteen_from_bytes { layout(bytes, 16) } else { layout(bytes, 8) }
    }
}

#[inline]
fn layout(bytes: usize, alignment: usize) -> Result<Layout, Failure> {
    Layout::from_size_align(bytes, alignment).map_err(|_| Failure::TooLarge)
}
