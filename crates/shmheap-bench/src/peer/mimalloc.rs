//! mimalloc, version 2, called directly: the mark that the targets are set by.
//!
//! It is compiled as its crate does it: optimised, without debug checks, for any processor of the
//! architecture. Its code is C, so no call of it is inlined, in any program.
//!
//! # Unsafe code
//!
//! Calls of C functions.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use anyhow::Result;
use libmimalloc_sys::{mi_free, mi_malloc, mi_version};

use super::{Footprint, Object, Peer, Sharing, Worker};

#[derive(Debug)]
pub(crate) struct Mimalloc;

/// A thread; mimalloc finds out which by itself.
#[derive(Debug)]
pub(crate) struct Thread;

impl Peer for Mimalloc {
    type Worker = Thread;

    fn name(&self) -> &'static str {
        "mimalloc"
    }

    fn description(&self) -> String {
        // SAFETY: without conditions.
        let version = unsafe { mi_version() };
        format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
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
        let address = unsafe { mi_malloc(bytes) };
        let address = NonNull::new(address.cast()).expect("the workloads fit the memory");
        // SAFETY: the object is new, has `bytes` bytes, aligned to 8, and nobody else knows it.
        unsafe { Object::new(address) }
    }

    #[inline]
    fn free(&self, object: Object<Self>) {
        // SAFETY: a live object of mimalloc, the caller's alone, and he gives it up.
        unsafe { mi_free(object.address().as_ptr().cast()) }
    }

    fn footprint(&self) -> Footprint {
        Footprint::Resident
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_version_of_the_targets() {
        assert!(Mimalloc.description().starts_with("2."), "{}", Mimalloc.description());
    }
}
