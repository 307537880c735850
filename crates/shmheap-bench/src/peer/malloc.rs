//! The C library's malloc, called directly: what every program has.
//!
//! # Unsafe code
//!
//! Calls of C functions.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use anyhow::Result;

use super::{Footprint, Object, Peer, Sharing, Worker};

#[derive(Debug)]
pub(crate) struct Malloc;

/// A thread; malloc finds out which by itself.
#[derive(Debug)]
pub(crate) struct Thread;

impl Peer for Malloc {
    type Worker = Thread;

    fn name(&self) -> &'static str {
        "malloc"
    }

    #[cfg(target_env = "gnu")]
    fn description(&self) -> String {
        // SAFETY: without conditions.
        let version = unsafe { libc::gnu_get_libc_version() };
        // SAFETY: it returns a string that lives as long as the process.
        let version = unsafe { std::ffi::CStr::from_ptr(version) };
        format!("glibc {}", version.to_string_lossy())
    }

    #[cfg(not(target_env = "gnu"))]
    fn description(&self) -> String {
        "of a C library other than glibc".to_owned()
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
        let address = unsafe { libc::malloc(bytes) };
        let address = NonNull::new(address.cast()).expect("the workloads fit the memory");
        // SAFETY: the object is new, has `bytes` bytes, aligned to 16, and nobody else knows it.
        unsafe { Object::new(address) }
    }

    #[inline]
    fn free(&self, object: Object<Self>) {
        // SAFETY: a live object of malloc, the caller's alone, and he gives it up.
        unsafe { libc::free(object.address().as_ptr().cast()) }
    }

    fn footprint(&self) -> Footprint {
        Footprint::Resident
    }
}
