//! jemalloc, called directly by the prefixed names that its crate gives it: malloc stays the C
//! library's.
//!
//! It is compiled as its crate does it, which takes `make`.
//!
//! # Unsafe code
//!
//! Calls of C functions.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::ptr::{self, NonNull};

use anyhow::Result;
use tikv_jemalloc_sys::{free, mallctl, malloc};

use super::{Footprint, Object, Peer, Sharing, Worker};

#[derive(Debug)]
pub(crate) struct Jemalloc;

/// A thread; jemalloc finds out which by itself.
#[derive(Debug)]
pub(crate) struct Thread;

impl Peer for Jemalloc {
    type Worker = Thread;

    fn name(&self) -> &'static str {
        "jemalloc"
    }

    fn description(&self) -> String {
        let mut version: *const c_char = ptr::null();
        let mut bytes = size_of_val(&version);
        let place = (&raw mut version).cast();
        // SAFETY: "version" reads a pointer, for which there is room, and writes nothing.
        let error =
            unsafe { mallctl(c"version".as_ptr(), place, &raw mut bytes, ptr::null_mut(), 0) };
        assert!(error == 0 && !version.is_null(), "jemalloc has a version");
        // SAFETY: it points to a string that lives as long as the process.
        let version = unsafe { CStr::from_ptr(version) }.to_string_lossy();
        // "5.3.1-0-g" and the commit.
        version.split('-').next().unwrap_or_default().to_owned()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Threads
    }

    fn connect(&self, _name: &str, _number: usize) -> Result<Thread> {
        Ok(Thread)
    }
}

impl Worker for Thread {
    #[inline]
    fn alloc(&self, bytes: usize) -> Object<Self> {
        // SAFETY: the size is not 0.
        let address = unsafe { malloc(bytes) };
        let address = NonNull::new(address.cast()).expect("the workloads fit the memory");
        // SAFETY: the object is new, has `bytes` bytes, aligned to 8, and nobody else knows it.
        unsafe { Object::new(address) }
    }

    #[inline]
    fn free(&self, object: Object<Self>) {
        // SAFETY: a live object of jemalloc, the caller's alone, and he gives it up.
        unsafe { free(object.address().as_ptr().cast()) }
    }

    fn footprint(&self) -> Footprint {
        Footprint::Resident
    }
}
