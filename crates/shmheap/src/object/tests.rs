//! Typed objects in a real heap: what they hold, who frees them, and what a kill leaves.

#![allow(unsafe_code)]

mod boxes;
mod registry;
mod shared;
mod snapshot;
mod traced;

use crate::{Heap, HeapOptions, Policy};

/// A heap of each policy.
fn heaps() -> [Heap; 2] {
    [Policy::FirstFit, Policy::Scalable]
        .map(|policy| HeapOptions::new(4 << 20).policy(policy).create_memfd().unwrap())
}

fn live(heap: &Heap) -> u64 {
    heap.stats().live_objects
}
