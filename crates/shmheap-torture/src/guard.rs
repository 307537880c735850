//! Guards: address space before and behind a heap's mapping that nobody may touch, so that an
//! access outside the segment is a signal and not a word of something else.
//!
//! # Unsafe code
//!
//! Mapping address space that nothing else uses.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use rustix::mm::{MapFlags, ProtFlags};
use shmheap::Heap;

const GUARD_BYTES: usize = 1 << 20;

/// Where this process has guards already: the library likes to map the next heap where the last one
/// was, between them.
static GUARDS: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// A heap between guards, and whether both could be had: where the kernel puts a mapping is its own
/// choice. The guards stay mapped as long as the process lives.
pub(crate) fn connect(connect: impl FnOnce() -> shmheap::Result<Heap>) -> Result<(Heap, bool)> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // The kernel fills address space downwards, so the heap comes to lie right below this.
    // SAFETY: without MAP_FIXED the kernel chooses a range that nothing else uses.
    let above = unsafe {
        rustix::mm::mmap_anonymous(ptr::null_mut(), GUARD_BYTES, ProtFlags::empty(), flags)
    }?;
    let heap = connect()?;
    let info = heap.info();
    let start = heap.base().as_ptr().wrapping_sub(info.data_offset_bytes as usize);
    let end = heap.base().as_ptr().wrapping_add(info.max_len_bytes as usize);
    let mut guards = GUARDS.lock().unwrap_or_else(PoisonError::into_inner);
    guards.insert(above.addr());
    let flags = flags | MapFlags::FIXED_NOREPLACE;
    let mut guard = |at: *mut u8| {
        let is_new = !guards.contains(&at.addr())
            // SAFETY: with MAP_FIXED_NOREPLACE the call fails where something is mapped.
            && unsafe {
                rustix::mm::mmap_anonymous(at.cast(), GUARD_BYTES, ProtFlags::empty(), flags)
            }
            .is_ok();
        if is_new {
            guards.insert(at.addr());
        }
        guards.contains(&at.addr())
    };
    let (is_above, is_below) = (guard(end), guard(start.wrapping_sub(GUARD_BYTES)));
    Ok((heap, is_above && is_below))
}

#[cfg(test)]
mod tests {
    use shmheap::HeapOptions;

    use super::*;

    /// Whether the kernel says that nobody may touch the byte.
    fn is_untouchable(address: usize) -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().any(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).unwrap());
            (start..end).contains(&address) && rest.starts_with("---p")
        })
    }

    #[test]
    fn a_heap_that_is_said_to_be_guarded_is() {
        for policy in crate::site::POLICIES {
            let options = HeapOptions::new(1 << 20).policy(policy);
            let (heap, is_guarded) = connect(|| options.create_memfd()).unwrap();
            let start = heap.base().addr().get() - heap.info().data_offset_bytes as usize;
            let end = heap.base().addr().get() + heap.info().max_len_bytes as usize;
            // Other tests map and unmap as well, so a place may be taken.
            assert!(!is_guarded || (is_untouchable(start - 1) && is_untouchable(end)));
        }
    }
}
