//! mimalloc, version 2, called directly: the mark that the targets are set by.
//!
//! It is compiled as its crate does it: optimised, without debug checks, for any processor of the
//! architecture. Its code is C, so no call of it is inlined, in any program.
//!
//! Where the system gives huge pages to private memory that asks for them and none to shared
//! memory, as most do, a million objects cost it far fewer walks of page tables than any allocator
//! of shared memory. [`SMALL_PAGES`] is the same without them.
//!
//! # Unsafe code
//!
//! Calls of C functions.
#![allow(unsafe_code)]

use std::ffi::c_void;

use anyhow::Result;
use libmimalloc_sys::{mi_free, mi_malloc, mi_version};

use super::process::{Functions, Thread};
use super::{Peer, Sharing};

#[derive(Debug)]
pub(crate) struct Mimalloc {
    may_have_huge_pages: bool,
}

/// As it comes.
pub(crate) const USUAL: Mimalloc = Mimalloc { may_have_huge_pages: true };
/// In pages of the smallest size alone.
pub(crate) const SMALL_PAGES: Mimalloc = Mimalloc { may_have_huge_pages: false };

impl Peer for Mimalloc {
    type Worker = Thread<Self>;

    fn name(&self) -> &'static str {
        if self.may_have_huge_pages { "mimalloc" } else { "mimalloc 4 KiB" }
    }

    fn description(&self) -> String {
        // SAFETY: without conditions.
        let version = unsafe { mi_version() };
        let number = format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100);
        if self.may_have_huge_pages { number } else { number + ", without huge pages" }
    }

    fn sharing(&self) -> Sharing {
        Sharing::Threads
    }

    fn connect(&self, _name: &str, _number: usize) -> Result<Thread<Self>> {
        if !self.may_have_huge_pages {
            // For the whole process, which works for this peer alone.
            rustix::thread::disable_transparent_huge_pages(true)?;
        }
        Ok(Thread::this())
    }
}

// SAFETY: as C's malloc and free.
unsafe impl Functions for Mimalloc {
    #[inline]
    fn malloc(bytes: usize) -> *mut c_void {
        // SAFETY: without conditions.
        unsafe { mi_malloc(bytes) }
    }

    #[inline]
    unsafe fn free(address: *mut c_void) {
        // SAFETY: as the caller promises.
        unsafe { mi_free(address) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_version_of_the_targets() {
        assert!(USUAL.description().starts_with("2."), "{}", USUAL.description());
    }
}
