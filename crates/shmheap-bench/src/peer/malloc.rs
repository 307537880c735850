//! The C library's malloc, called directly: what every program has.
//!
//! # Unsafe code
//!
//! Calls of C functions.
#![allow(unsafe_code)]

use std::ffi::c_void;

use anyhow::Result;

use super::process::{Functions, Thread};
use super::{Peer, Sharing};

#[derive(Debug)]
pub(crate) struct Malloc;

impl Peer for Malloc {
    type Worker = Thread<Self>;

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

    fn connect(&self, _name: &str, _number: usize) -> Result<Thread<Self>> {
        Ok(Thread::this())
    }
}

// SAFETY: as C's malloc and free.
unsafe impl Functions for Malloc {
    #[inline]
    fn malloc(bytes: usize) -> *mut c_void {
        // SAFETY: without conditions.
        unsafe { libc::malloc(bytes) }
    }

    #[inline]
    unsafe fn free(address: *mut c_void) {
        // SAFETY: as the caller promises.
        unsafe { libc::free(address) }
    }
}
