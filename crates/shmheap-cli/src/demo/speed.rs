//! How fast one process allocates and frees in the heap, next to everything that lives there.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use anyhow::Result;
use shmheap::Heap;

use super::corpus::Random;
use super::object::{self, WORD_BYTES};

/// Objects alive at any moment of the measurement.
const LIVE: usize = 1000;
/// Bytes of the smallest and the largest.
pub(super) const SIZES: (u64, u64) = (16, 512);

/// Frees the oldest of [`LIVE`] objects and allocates a new one of a random size, `pairs` times.
pub(super) fn pairs(heap: &Heap, pairs: usize) -> Result<Duration> {
    let mut random = Random(1);
    let mut allocate = || -> Result<NonNull<u8>> {
        let bytes = SIZES.0 + random.below(SIZES.1 - SIZES.0 + 1);
        Ok(heap.alloc(Layout::from_size_align(bytes as usize, WORD_BYTES)?)?)
    };
    let mut live = (0..LIVE).map(|_| allocate()).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    for pair in 0..pairs {
        if let Some(object) = live.get_mut(pair % LIVE) {
            object::free_object(heap, *object)?;
            *object = allocate()?;
        }
    }
    let taken = started.elapsed();
    for object in live {
        object::free_object(heap, object)?;
    }
    Ok(taken)
}
