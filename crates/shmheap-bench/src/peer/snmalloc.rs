//! snmalloc, called directly by names of its own: malloc stays the C library's.
//!
//! It is compiled as its crate does it without cmake, for any processor of the architecture, and
//! without the checks that it can have.
//!
//! # Unsafe code
//!
//! Calls of C functions.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use anyhow::Result;
use snmalloc_sys::{sn_free, sn_malloc};

use super::{Footprint, Object, Peer, Sharing, Worker};

#[derive(Debug)]
pub(crate) struct Snmalloc;

/// A thread; snmalloc finds out which by itself.
#[derive(Debug)]
pub(crate) struct Thread;

impl Peer for Snmalloc {
    type Worker = Thread;

    fn name(&self) -> &'static str {
        "snmalloc"
    }

    fn description(&self) -> String {
        env!("VERSION_OF_SNMALLOC_SYS").to_owned()
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
        // SAFETY: without conditions.
        let address = unsafe { sn_malloc(bytes) };
        let address = NonNull::new(address.cast()).expect("the workloads fit the memory");
        // SAFETY: the object is new, has `bytes` bytes, aligned to 8, and nobody else knows it.
        unsafe { Object::new(address) }
    }

    #[inline]
    fn free(&self, object: Object<Self>) {
        // SAFETY: a live object of snmalloc, the caller's alone, and he gives it up.
        unsafe { sn_free(object.address().as_ptr().cast()) }
    }

    fn footprint(&self) -> Footprint {
        Footprint::Resident
    }
}
