//! jemalloc, called directly by the prefixed names that its crate gives it: malloc stays the C
//! library's.
//!
//! It is compiled as its crate does it, which takes `make`.
//!
//! # Unsafe code
//!
//! Calls of C functions.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use anyhow::Result;
use tikv_jemalloc_sys::{free, mallctl, malloc};

use super::process::{Functions, Thread};
use super::{Peer, Sharing};

#[derive(Debug)]
pub(crate) struct Jemalloc;

impl Peer for Jemalloc {
    type Worker = Thread<Self>;

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

    fn connect(&self, _name: &str, _number: usize) -> Result<Thread<Self>> {
        Ok(Thread::this())
    }
}

// SAFETY: as C's malloc and free.
unsafe impl Functions for Jemalloc {
    #[inline]
    fn malloc(bytes: usize) -> *mut c_void {
        // SAFETY: the size is not 0.
        unsafe { malloc(bytes) }
    }

    #[inline]
    unsafe fn free(address: *mut c_void) {
        // SAFETY: as the caller promises.
        unsafe { free(address) }
    }
}
