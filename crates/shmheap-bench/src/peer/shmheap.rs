//! shmheap itself, one peer for each policy.
//!
//! # Unsafe code
//!
//! Takes objects from the heap and frees them.
#![allow(unsafe_code)]

use std::alloc::Layout;

use ::shmheap::{Handle, Heap, HeapOptions, Policy};
use anyhow::Result;

use super::{Footprint, HEAP_BYTES_MAX, Object, Peer, Sharing, Worker};

/// Room at the start. Heaps grow to what the workload needs, so that their length is a footprint.
pub(super) const LEN_BYTES: u64 = 64 << 10;

/// A policy under test.
#[derive(Debug)]
pub(crate) struct Shmheap {
    name: &'static str,
    policy: Policy,
}

impl Shmheap {
    pub(crate) fn new(name: &'static str, policy: Policy) -> Self {
        Self { name, policy }
    }
}

impl Peer for Shmheap {
    type Worker = Heap;

    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn create(&self, name: &str) -> Result<Heap> {
        let options = HeapOptions::new(LEN_BYTES).max_len(HEAP_BYTES_MAX).policy(self.policy);
        Ok(options.create(name)?)
    }

    fn connect(&self, name: &str, _number: usize) -> Result<Heap> {
        Ok(Heap::connect(name)?)
    }

    fn remove(&self, name: &str) {
        // Most often it is gone already: the workers remove it as soon as they are connected.
        let _ = Heap::destroy(name);
    }
}

impl Worker for Heap {
    #[inline]
    fn alloc(&self, bytes: usize) -> Object<Self> {
        let layout = Layout::from_size_align(bytes, 8).expect("the workloads' sizes are small");
        let address = Heap::alloc(self, layout).expect("the workloads fit the heap");
        // SAFETY: the object is new, has `bytes` bytes, and nobody else knows it.
        unsafe { Object::new(address) }
    }

    #[inline]
    fn free(&self, object: Object<Self>) {
        // SAFETY: the object was the caller's alone, and he gives it up. One of another heap would
        // be refused.
        unsafe { Heap::free(self, object.address()) }.expect("the object is live");
    }

    #[inline]
    fn give(&self, object: Object<Self>) -> u64 {
        self.handle(object.address()).expect("the object is live").to_raw()
    }

    #[inline]
    unsafe fn take(&self, given: u64) -> Object<Self> {
        let address = self.resolve(Handle::from_raw(given)).expect("the object is live");
        // SAFETY: the giver gave up a live object, and the caller is its only taker.
        unsafe { Object::new(address) }
    }

    fn footprint(&self) -> Footprint {
        let stats = self.stats();
        Footprint::Stated(stats.len_bytes + stats.metadata_bytes)
    }
}
