//! The header's types: handles, flags, and the two structs that may grow in later versions.
//!
//! Both structs begin with their size as the program was compiled, so that program and library may
//! be of different versions:
//!
//! ```text
//!  program older:   |size|len| ... |             missing fields count as 0
//!  library:         |size|len| ... |address|
//!  program newer:   |size|len| ... |address|new|   new fields must be 0, else EINVAL
//! ```
//!
//! # Safety
//!
//! The unsafe functions read or write as many bytes as the caller's `size` field announces, which
//! the header makes the caller's promise.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::mem::size_of;
use std::num::NonZeroUsize;
use std::ptr;
use std::time::Duration;

use shmheap::{Granule, HeapOptions, Policy, Stats};

use crate::error::Failure;

/// `shmheap_memory_handle`: a number in the shape of a pointer, never followed.
pub type MemoryHandle = *mut c_void;

/// `shmheap_object_handle`.
pub type ObjectHandle = usize;

/// `SHMHEAP_READ_ONLY`.
pub(crate) const READ_ONLY: u32 = 1;
/// `SHMHEAP_FILE`.
pub(crate) const FILE: u32 = 2;
/// `SHMHEAP_SET_GROUP`.
pub(crate) const SET_GROUP: u32 = 4;
/// `SHMHEAP_SAME_ADDRESS`.
pub(crate) const SAME_ADDRESS: u32 = 8;
/// `SHMHEAP_EPHEMERAL`.
pub(crate) const EPHEMERAL: u32 = 16;
/// `SHMHEAP_LABELS`.
pub(crate) const LABELS: u32 = 32;

/// No struct is larger in any version; a larger `size` is garbage.
const STRUCT_BYTES_MAX: usize = 4096;

/// `shmheap_options`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// `sizeof(shmheap_options)` as the program was compiled.
    pub size: usize,
    /// Bytes for objects now.
    pub len: usize,
    /// Bytes for objects at the most; 0: `len`.
    pub max_len: usize,
    /// 8 or 16 bytes; 0: 16.
    pub granule: u32,
    /// Permission bits; 0: `0600`.
    pub mode: u32,
    /// `SHMHEAP_POLICY_*`; 0: first fit.
    pub policy: u32,
    /// `SHMHEAP_FILE`, `SHMHEAP_SET_GROUP`, `SHMHEAP_SAME_ADDRESS`,
    /// `SHMHEAP_EPHEMERAL`, `SHMHEAP_LABELS`.
    pub flags: u32,
    /// Numeric group, with `SHMHEAP_SET_GROUP`.
    pub group: u32,
    /// 0.
    pub reserved: u32,
    /// Where the heap is to start, with `SHMHEAP_SAME_ADDRESS`; 0: the library chooses.
    pub address: usize,
}

/// `shmheap_statistics`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Statistics {
    /// `sizeof(shmheap_statistics)` as the program was compiled.
    pub size: usize,
    /// Bytes for objects now.
    pub len: u64,
    /// Bytes for objects at the most.
    pub max_len: u64,
    /// Bytes in live objects.
    pub live_bytes: u64,
    /// Number of live objects.
    pub live_objects: u64,
    /// Bytes in free blocks.
    pub free_bytes: u64,
    /// Bytes in the largest free block.
    pub largest_free: u64,
    /// Bytes of the heap's own records.
    pub metadata_bytes: u64,
    /// Operations since the heap was made.
    pub operations: u64,
    /// Processes connected now.
    pub peers_alive: u32,
    /// Processes that died connected, not yet swept.
    pub peers_dead: u32,
    /// Bytes that no object can use.
    pub tail_bytes: u64,
    /// Of the free bytes, those that were given back to the system.
    pub trimmed_bytes: u64,
}

impl Options {
    /// Copies the caller's struct, whatever its version.
    ///
    /// # Safety
    ///
    /// `given` is null or points to as many readable bytes as its first field says.
    pub(crate) unsafe fn copy_from(given: *const Self) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let size = unsafe { size_of_struct(given.cast()) }?;
        let known = size.min(size_of::<Self>());
        let mut options = Self::default();
        // SAFETY: `known` bytes are readable by the caller's promise, and fit `options`, for which
        // any bytes are valid values.
        unsafe {
            ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut options).cast::<u8>(), known);
        }
        // SAFETY: `given` has `size` readable bytes, of which `known` are skipped.
        let rest = unsafe { given.cast::<u8>().add(known) };
        // SAFETY: these are the remaining `size - known` bytes; nobody writes to them meanwhile.
        let rest = unsafe { std::slice::from_raw_parts(rest, size - known) };
        if rest.iter().any(|&byte| byte != 0) {
            return Err(Failure::Argument(
                "the options use a field of a newer version of shmheap; \
                 set it to 0 or update libshmheap",
            ));
        }
        Ok(options)
    }

    /// Whether the heap is to be a file on disk.
    pub(crate) fn in_file(&self) -> bool {
        self.flags & FILE != 0
    }

    /// The options in Rust's terms; `allowed` are the flags that make sense for the call.
    pub(crate) fn to_heap_options(self, allowed: u32) -> Result<HeapOptions, Failure> {
        check_flags(self.flags, allowed)?;
        if self.reserved != 0 {
            return Err(Failure::Argument("the options' reserved field must be 0"));
        }
        let mut options = HeapOptions::new(self.len as u64);
        if self.max_len != 0 {
            options = options.max_len(self.max_len as u64);
        }
        if self.granule != 0 {
            options = options.granule(Granule::from_bytes(u64::from(self.granule))?);
        }
        if self.mode != 0 {
            options = options.mode(self.mode);
        }
        options = options.policy(match self.policy {
            0 | 1 => Policy::FirstFit,
            2 => Policy::Scalable,
            _ => return Err(Failure::Argument("unknown policy; use a SHMHEAP_POLICY_ constant")),
        });
        options = match (self.flags & SAME_ADDRESS != 0, NonZeroUsize::new(self.address)) {
            (true, None) => options.same_address(),
            (true, Some(address)) => options.at_address(address),
            (false, None) => options,
            (false, Some(_)) => {
                return Err(Failure::Argument("address needs the flag SHMHEAP_SAME_ADDRESS"));
            }
        };
        if self.flags & EPHEMERAL != 0 {
            options = options.ephemeral();
        }
        if self.flags & LABELS != 0 {
            options = options.labels();
        }
        match (self.flags & SET_GROUP != 0, self.group) {
            (true, group) => Ok(options.group(group)),
            (false, 0) => Ok(options),
            (false, _) => Err(Failure::Argument("group needs the flag SHMHEAP_SET_GROUP")),
        }
    }
}

impl Statistics {
    /// Writes `stats` to the caller's struct, whatever its version: fields that this library does
    /// not know become 0.
    ///
    /// # Safety
    ///
    /// `to` is null or points to as many writable bytes as its first field says.
    pub(crate) unsafe fn copy_to(stats: &Stats, to: *mut Self) -> Result<(), Failure> {
        // SAFETY: the caller's promise.
        let size = unsafe { size_of_struct(to.cast_const().cast()) }?;
        let full = Self {
            size,
            len: stats.len_bytes,
            max_len: stats.max_len_bytes,
            live_bytes: stats.live_bytes,
            live_objects: stats.live_objects,
            free_bytes: stats.free_bytes,
            largest_free: stats.largest_free_bytes,
            metadata_bytes: stats.metadata_bytes,
            operations: stats.operations,
            peers_alive: stats.peers_alive,
            peers_dead: stats.peers_dead,
            tail_bytes: stats.tail_bytes,
            trimmed_bytes: stats.trimmed_bytes,
        };
        let known = size.min(size_of::<Self>());
        // SAFETY: `size` bytes are writable by the caller's promise.
        unsafe { ptr::write_bytes(to.cast::<u8>(), 0, size) };
        // SAFETY: so are the first `known` of them; the source has that many.
        unsafe { ptr::copy_nonoverlapping((&raw const full).cast::<u8>(), to.cast::<u8>(), known) };
        Ok(())
    }
}

/// Refuses flags that the call does not know.
pub(crate) fn check_flags(flags: u32, allowed: u32) -> Result<(), Failure> {
    if flags & !allowed == 0 {
        return Ok(());
    }
    Err(Failure::Argument("a flag is unknown, or does not fit this function"))
}

/// Reads the first field of one of the two structs.
///
/// # Safety
///
/// `given` is null or points to at least a `size_t`.
unsafe fn size_of_struct(given: *const usize) -> Result<usize, Failure> {
    if given.is_null() {
        return Err(Failure::Argument("the struct's pointer is NULL"));
    }
    if !given.is_aligned() {
        return Err(Failure::Argument("the struct's pointer is misaligned"));
    }
    // SAFETY: the caller's promise, and aligned.
    match unsafe { given.read() } {
        // The first two fields are in every version.
        size @ 16..=STRUCT_BYTES_MAX => Ok(size),
        _ => Err(Failure::Argument(
            "the struct's size field is wrong; set it to the sizeof of the struct \
             (SHMHEAP_OPTIONS_INIT and SHMHEAP_STATISTICS_INIT do)",
        )),
    }
}
/// How long a caller waits; `None`: for ever.
pub(crate) fn timeout_of(timeout_ns: i64) -> Option<Duration> {
    u64::try_from(timeout_ns).ok().map(Duration::from_nanos)
}
