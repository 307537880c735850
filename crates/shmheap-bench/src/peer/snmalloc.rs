//! snmalloc, called directly by names of its own: malloc stays the C library's.
//!
//! It is compiled as its crate does it without cmake, for any processor of the architecture, and
//! without the checks that it can have.
//!
//! # Unsafe code
//!
//! Calls of C functions.
#![allow(unsafe_code)]

use std::ffi::c_void;

use anyhow::Result;
use snmalloc_sys::{sn_free, sn_malloc};

use super::process::{Functions, Thread};
use super::{Peer, Sharing};

#[derive(Debug)]
pub(crate) struct Snmalloc;

impl Peer for Snmalloc {
    type Worker = Thread<Self>;

    fn name(&self) -> &'static str {
        "snmalloc"
    }

    fn description(&self) -> String {
        env!("VERSION_OF_SNMALLOC_SYS").to_owned()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Threads
    }

    fn connect(&self, _name: &str, _number: usize) -> Result<Thread<Self>> {
        Ok(Thread::this())
    }
}

// SAFETY: as C's malloc and free.
unsafe impl Functions for Snmalloc {
    #[inline]
    fn malloc(bytes: usize) -> *mut c_void {
        // SAFETY: without conditions.
        unsafe { sn_malloc(bytes).cast() }
    }

    #[inline]
    unsafe fn free(address: *mut c_void) {
        // SAFETY: as the caller promises.
        unsafe { sn_free(address.cast()) }
    }
}
