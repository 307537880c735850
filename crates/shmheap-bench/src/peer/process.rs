//! What the allocators for the memory of one process have in common: a thread of theirs, which is
//! no more than two functions to call.
//!
//! # Unsafe code
//!
//! Makes objects of what an allocator has given out, and gives them back.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::{Footprint, Object, Worker};

/// The functions of an allocator, called directly.
///
/// # Safety
///
/// `malloc` gives out memory as C's does: of so many bytes, aligned to 8 at the least, and nobody
/// else's until `free`; or null.
pub(crate) unsafe trait Functions {
    /// Memory of `bytes` bytes, not 0, or null.
    fn malloc(bytes: usize) -> *mut c_void;

    /// Frees it.
    ///
    /// # Safety
    ///
    /// It came from `malloc`, is freed once and not used again.
    unsafe fn free(address: *mut c_void);
}

/// A thread; the allocator finds out which by itself.
#[derive(Debug)]
pub(crate) struct Thread<F>(PhantomData<fn() -> F>);

impl<F> Thread<F> {
    pub(super) fn this() -> Self {
        Self(PhantomData)
    }
}

impl<F: Functions> Worker for Thread<F> {
    #[inline]
    fn alloc(&self, bytes: usize) -> Object<Self> {
        let address = F::malloc(bytes).cast();
        let address = NonNull::new(address).expect("the workloads fit the memory");
        // SAFETY: by the contract of `Functions` it is new, large enough, aligned, and ours alone.
        unsafe { Object::new(address) }
    }

    #[inline]
    fn free(&self, object: Object<Self>) {
        // SAFETY: an object of this kind of worker came from `malloc`, and its holder gives it up.
        unsafe { F::free(object.address().as_ptr().cast()) }
    }

    fn footprint(&self) -> Footprint {
        Footprint::Resident
    }
}
