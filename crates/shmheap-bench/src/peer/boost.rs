//! Boost.Interprocess: the allocator for shared memory that C++ programs reach for first.
//!
//! Two peers, one for each of its algorithms: a red-black tree of gaps by size, which is its
//! default (best fit), and a list of gaps by address (first fit), which every free walks. Both
//! stand under one mutex that processes share. A segment has its full length from the start;
//! version 1.74 leaves its storage to whoever touches it first, later ones reserve all of it at
//! once and take as long to make one. Memory counts as held once it was touched.
//!
//! The C++ side is `shim/boost.cpp`, of whatever version the headers are. Each call goes through a
//! table of functions, a nanosecond next to the hundreds that the algorithms take. Where there were
//! no headers at build time, `no_boost.rs` stands in for this module.
//!
//! # Unsafe code
//!
//! Calls of the shim's functions.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;

use anyhow::{Result, bail};

use super::{Demand, Footprint, HEAP_BYTES_MAX, Object, Peer, Sharing, Worker};

#[derive(Debug)]
pub(crate) struct Boost {
    name: &'static str,
    calls: &'static Calls,
    algorithm: &'static str,
    live_objects_max: usize,
}

pub(crate) const RBTREE: Boost = Boost {
    name: "boost rbtree",
    calls: &shim_boost_rbtree,
    algorithm: "rbtree_best_fit",
    live_objects_max: usize::MAX,
};

pub(crate) const SEQ_FIT: Boost = Boost {
    name: "boost seq fit",
    calls: &shim_boost_seq_fit,
    algorithm: "simple_seq_fit",
    // With 40,000 an op takes 15 us, and with twice as many twice as long.
    live_objects_max: 100_000,
};

/// `Calls` of the shim.
#[derive(Debug)]
#[repr(C)]
struct Calls {
    create: unsafe extern "C" fn(*const c_char, usize) -> *mut c_void,
    open: unsafe extern "C" fn(*const c_char) -> *mut c_void,
    close: unsafe extern "C" fn(*mut c_void),
    allocate: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    deallocate: unsafe extern "C" fn(*mut c_void, *mut c_void),
    handle: unsafe extern "C" fn(*const c_void, *const c_void) -> u64,
    address: unsafe extern "C" fn(*const c_void, u64) -> *mut c_void,
}

unsafe extern "C" {
    safe static shim_boost_rbtree: Calls;
    safe static shim_boost_seq_fit: Calls;
    fn shim_boost_remove(name: *const c_char);
    safe fn shim_boost_last_error() -> *const c_char;
    safe fn shim_boost_version() -> *const c_char;
}

/// A segment in this process's address space.
#[derive(Debug)]
pub(crate) struct Segment {
    calls: &'static Calls,
    segment: NonNull<c_void>,
}

impl Peer for Boost {
    type Worker = Segment;

    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> String {
        // SAFETY: a C string that stands as long as the process.
        let version = unsafe { CStr::from_ptr(shim_boost_version()) };
        let version = version.to_string_lossy().replace('_', ".");
        format!("Boost.Interprocess {version}, {}", self.algorithm)
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn refuses(&self, demand: Demand) -> Option<&'static str> {
        let too_many = demand.live_objects > self.live_objects_max;
        too_many.then_some("O(n): to warm it up would take six minutes or more")
    }

    fn create(&self, name: &str) -> Result<Segment> {
        let name = CString::new(name)?;
        // SAFETY: a C string.
        let segment = unsafe { (self.calls.create)(name.as_ptr(), HEAP_BYTES_MAX as usize) };
        Segment::new(self.calls, segment)
    }

    fn connect(&self, name: &str, _number: usize) -> Result<Segment> {
        let name = CString::new(name)?;
        // SAFETY: a C string.
        Segment::new(self.calls, unsafe { (self.calls.open)(name.as_ptr()) })
    }

    fn remove(&self, name: &str) {
        if let Ok(name) = CString::new(name) {
            // SAFETY: a C string.
            unsafe { shim_boost_remove(name.as_ptr()) };
        }
    }
}

impl Segment {
    fn new(calls: &'static Calls, segment: *mut c_void) -> Result<Self> {
        match NonNull::new(segment) {
            Some(segment) => Ok(Self { calls, segment }),
            None => {
                // SAFETY: a C string that stands until this thread's next failure.
                let text = unsafe { CStr::from_ptr(shim_boost_last_error()) };
                bail!("Boost.Interprocess: {}", text.to_string_lossy())
            }
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: `create` or `open` made it, and nobody uses it any more.
        unsafe { (self.calls.close)(self.segment.as_ptr()) };
    }
}

impl Worker for Segment {
    #[inline]
    fn alloc(&self, bytes: usize) -> Object<Self> {
        // SAFETY: an open segment.
        let address = unsafe { (self.calls.allocate)(self.segment.as_ptr(), bytes) };
        let address = NonNull::new(address.cast()).expect("the workloads fit the segment");
        // SAFETY: the object is new, has `bytes` bytes, aligned to 16, and nobody else knows it.
        unsafe { Object::new(address) }
    }

    #[inline]
    fn free(&self, object: Object<Self>) {
        let address = object.address().as_ptr().cast();
        // SAFETY: a live object of the open segment, the caller's alone, and he gives it up.
        unsafe { (self.calls.deallocate)(self.segment.as_ptr(), address) }
    }

    #[inline]
    fn give(&self, object: Object<Self>) -> u64 {
        let address = object.address().as_ptr().cast();
        // SAFETY: a live object of the open segment.
        unsafe { (self.calls.handle)(self.segment.as_ptr(), address) }
    }

    #[inline]
    unsafe fn take(&self, given: u64) -> Object<Self> {
        // SAFETY: an open segment; by the caller's promise, the handle of a live object.
        let address = unsafe { (self.calls.address)(self.segment.as_ptr(), given) };
        let address = NonNull::new(address.cast()).expect("no object lies at 0");
        // SAFETY: the giver gave up a live object, and the caller is its only taker.
        unsafe { Object::new(address) }
    }

    fn footprint(&self) -> Footprint {
        Footprint::Resident
    }
}
