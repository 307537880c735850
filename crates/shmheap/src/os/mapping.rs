//! `Mapping`: an object in this process's address space, until it is dropped.
//!
//! A mapping may be longer than its object: address space for the largest heap is taken at once, so
//! that growth, by whichever process, needs nothing here. Bytes behind the object's end must not be
//! touched (`SIGBUS`) before [`Object::reserve`] has given them storage.
//!
//! # Unsafe code
//!
//! Mapping, unmapping, and the view of mapped bytes as words.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use super::descriptor::Access;
use super::object::Object;
use super::refused;
use crate::units::WORD_BYTES;
use crate::{Error, Result};

/// A shared mapping of an object from its start; see the module's text.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len_bytes: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and unmapping works from any. The
// bytes are handed out as atomics, and as a base address whose use is the caller's to argue.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing but the drop changes the mapping.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len_bytes` bytes of the object, which may be shorter, for what it was
    /// opened for. Storing to a mapping of a read-only object is a fault.
    pub(crate) fn new(object: &Object, len_bytes: u64) -> Result<Self> {
        let too_large = || Error::AddressSpace { bytes: len_bytes };
        let len = isize::try_from(len_bytes).map_err(|_| too_large())?.unsigned_abs();
        let protection = match object.access() {
            Access::ReadOnly => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // NORESERVE: behind the object's end nothing is promised, and nothing should be counted.
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        let mapped = object.with(|fd| {
            // SAFETY: without MAP_FIXED the kernel chooses a range that nothing else uses.
            unsafe { rustix::mm::mmap(ptr::null_mut(), len, protection, flags, fd, 0) }
        });
        match mapped {
            Ok(address) => match NonNull::new(address.cast()) {
                Some(base) => Ok(Self { base, len_bytes: len }),
                None => Err(refused("mapping the object")(Errno::FAULT)),
            },
            Err(Errno::NOMEM) => Err(too_large()),
            Err(errno) => Err(refused("mapping the object")(errno)),
        }
    }

    /// Where the object starts in this process.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How much of the address space is taken.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes as u64
    }

    /// The first `count` words; fewer if the mapping ends before. Of them, those behind the
    /// object's end must not be touched yet, and none of a read-only mapping be stored to.
    pub(crate) fn words(&self, count: u64) -> &[AtomicU64] {
        let available = self.len_bytes() / WORD_BYTES;
        let count = usize::try_from(count.min(available)).unwrap_or(0);
        // SAFETY: the range is mapped as long as `self` lives, its start is page-aligned, and words
        // may have any bits. Other processes change them, as `AtomicU64` allows.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and no borrow of it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast::<c_void>(), self.len_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::in_own_process;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_mapping_reaches_behind_the_end_and_growth_needs_nothing() {
        let object = Object::memfd(0o600, None).unwrap();
        let here = Mapping::new(&object, 1 << 40).unwrap();
        let there = Mapping::new(&object, 1 << 40).unwrap();
        object.reserve(0..1 << 20).unwrap();
        let last = (1 << 17) - 1;
        here.words(u64::MAX)[last].store(7, Ordering::Release);
        assert_eq!(there.words(1 << 17)[last].load(Ordering::Acquire), 7);
        assert_eq!(here.words(u64::MAX).len(), 1 << 37, "clamped");
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let object = Object::memfd(0o600, None).unwrap();
        for len in [u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 60] {
            let error = Mapping::new(&object, len).unwrap_err();
            assert!(matches!(error, Error::AddressSpace { bytes } if bytes == len), "{error}");
        }
        assert_eq!(Mapping::new(&object, 0).unwrap_err().errno(), libc::EINVAL);
    }

    #[test]
    fn the_limit_of_address_space_is_an_error() {
        in_own_process(module_path!(), "the_limit_of_address_space_is_an_error", || {
            let object = Object::memfd(0o600, None).unwrap();
            let limit = rustix::process::Rlimit { current: Some(4 << 30), maximum: None };
            rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
            let error = Mapping::new(&object, 8 << 30).unwrap_err();
            assert!(matches!(error, Error::AddressSpace { bytes } if bytes == 8 << 30), "{error}");
            Mapping::new(&object, 1 << 30).unwrap();
        });
    }
}
