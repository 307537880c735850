//! What the tests of collections share.
//!
//! # Unsafe code
//!
//! Collections in objects of a test's own heap.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use crate::object::Shareable;
use crate::{Heap, HeapOptions, Policy};

pub(super) const POLICIES: [Policy; 2] = [Policy::FirstFit, Policy::Scalable];

pub(super) fn heap_of(policy: Policy) -> Heap {
    HeapOptions::new(8 << 20).policy(policy).create_memfd().unwrap()
}

/// An object of zeros.
pub(super) fn make<T: Shareable>(heap: &Heap) -> NonNull<T> {
    heap.alloc_zeroed(Layout::new::<T>()).unwrap().cast()
}

/// The object, which must live as long as the heap.
pub(super) fn get<T: Shareable>(_heap: &Heap, object: NonNull<T>) -> &T {
    // SAFETY: made by `make`; the tests free no such object.
    unsafe { object.as_ref() }
}

/// The object, which nobody else has.
#[allow(clippy::mut_from_ref)]
pub(super) fn get_mut<T: Shareable>(_heap: &Heap, mut object: NonNull<T>) -> &mut T {
    // SAFETY: as above; a test takes one at a time, and its child only while it waits.
    unsafe { object.as_mut() }
}

/// Overwrites a word of an object.
pub(super) fn overwrite<T>(object: NonNull<T>, word: usize, value: u64) {
    assert!(word < size_of::<T>() / 8);
    // SAFETY: the object has the word, which is an atomic to everybody.
    let word =
        unsafe { &*object.as_ptr().cast::<std::sync::atomic::AtomicU64>().wrapping_add(word) };
    word.store(value, std::sync::atomic::Ordering::Relaxed);
}

/// splitmix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// The seed of a random test: `SHMHEAP_SEED`, or one made up, printed to replay it.
pub(super) fn seed() -> u64 {
    let given = std::env::var("SHMHEAP_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Random(now.as_nanos() as u64).next()
    });
    println!("replay with SHMHEAP_SEED={seed}");
    seed
}
