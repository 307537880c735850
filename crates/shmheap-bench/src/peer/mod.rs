//! The allocators under test, behind one trait.
//!
//! A [`Peer`] is an allocator as such, a [`Worker`] its use by one thread. Workloads are generic
//! over the worker, so every call is the peer's own, without a pointer in between.
//!
//! Objects are values that cannot be copied: a workload frees each once because it gives it up.
//! What is unsafe about that is [`Object::new`], and every peer says why it may.
//!
//! # Unsafe code
//!
//! Reading and writing the first eight bytes of an object, and filling it.
#![allow(unsafe_code)]

#[cfg_attr(not(boost), path = "no_boost.rs")]
pub(crate) mod boost;
pub(crate) mod bump;
pub(crate) mod c_library;
mod file;
pub(crate) mod first_fit_list;
pub(crate) mod jemalloc;
pub(crate) mod malloc;
pub(crate) mod mimalloc;
pub(crate) mod process;
pub(crate) mod rts_alloc;
pub(crate) mod shmheap;
pub(crate) mod snmalloc;
pub(crate) mod talc;

use std::hint::black_box;
use std::marker::PhantomData;
use std::ptr::NonNull;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// How large any heap may become.
pub(crate) const HEAP_BYTES_MAX: u64 = 1 << 30;

/// Who can use one heap of a peer together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sharing {
    /// Processes that know the heap's name.
    Processes,
    /// Threads of one process: the limit of what processes could reach.
    Threads,
}

/// What a workload asks of a heap at the most, all workers together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    pub(crate) live_objects: usize,
    pub(crate) largest_bytes: usize,
}

/// How the memory that a peer has taken is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Footprint {
    /// The peer states it: objects, gaps and records.
    Stated(u64),
    /// The growth of the process's resident memory.
    Resident,
    /// It would mean nothing.
    Meaningless,
}

/// An allocator under test.
pub(crate) trait Peer: Sync {
    /// Its use by one thread.
    type Worker: Worker;

    /// The name in the table.
    fn name(&self) -> &'static str;

    /// Version, and what is particular about it.
    fn description(&self) -> String;

    fn sharing(&self) -> Sharing;

    /// Why it cannot do what is demanded, if so.
    fn refuses(&self, _demand: Demand) -> Option<&'static str> {
        None
    }

    /// Makes a heap that others can connect to by name, of up to [`HEAP_BYTES_MAX`].
    fn create(&self, name: &str) -> Result<Self::Worker> {
        self.connect(name, 0)
    }

    /// Begins to use a heap, as its worker of that number.
    fn connect(&self, name: &str, number: usize) -> Result<Self::Worker>;

    /// Removes a heap's name, if it stands.
    fn remove(&self, _name: &str) {}
}

/// One thread's use of a heap.
pub(crate) trait Worker: Sized {
    /// Does, before anything is measured, what would only disturb the measurement.
    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// An object of at least eight bytes. Panics if there is no room: a figure of a workload that
    /// was not done is none.
    fn alloc(&self, bytes: usize) -> Object<Self>;

    fn free(&self, object: Object<Self>);

    /// Gives an object up for a number to hand to another worker.
    fn give(&self, object: Object<Self>) -> u64 {
        object.address().as_ptr().expose_provenance() as u64
    }

    /// The object that the number stands for.
    ///
    /// # Safety
    ///
    /// A worker of the same heap got the number from [`give`](Self::give), and it is taken once.
    unsafe fn take(&self, given: u64) -> Object<Self> {
        let address = std::ptr::with_exposed_provenance_mut(given as usize);
        let address = NonNull::new(address).expect("no object has the number 0");
        // SAFETY: whoever gave it up was its only holder, and so is the caller now.
        unsafe { Object::new(address) }
    }

    fn footprint(&self) -> Footprint;
}

/// A live object of a worker of this kind. Who holds it may use its first eight bytes.
#[derive(Debug)]
#[must_use = "an object is freed or given away"]
pub(crate) struct Object<W> {
    address: NonNull<u8>,
    worker: PhantomData<fn() -> W>,
}

impl<W: Worker> Object<W> {
    /// # Safety
    ///
    /// A live object of as many bytes as were asked for, and of at least eight, aligned to eight,
    /// starts there; it comes from a worker of this kind; and nobody else uses it.
    #[inline]
    pub(crate) unsafe fn new(address: NonNull<u8>) -> Self {
        Self { address, worker: PhantomData }
    }

    #[inline]
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Writes the first eight bytes; the compiler must believe that somebody reads them.
    #[inline]
    pub(crate) fn write(&mut self, value: u64) {
        let word = black_box(self.address).cast::<u64>();
        // SAFETY: by the contract of `new` the bytes are there, aligned, and ours.
        unsafe { word.write(value) }
    }

    /// Writes all of it, so that all of it is resident.
    ///
    /// # Safety
    ///
    /// The object was allocated with so many bytes.
    pub(crate) unsafe fn fill(&mut self, bytes: usize) {
        // SAFETY: the bytes are there by the caller's word, and ours by the contract of `new`.
        unsafe { self.address.write_bytes(0x5a, bytes) }
    }

    #[inline]
    pub(crate) fn read(&self) -> u64 {
        let word = black_box(self.address).cast::<u64>();
        // SAFETY: as in `write`; memory of an allocator under test is mapped memory, of which any
        // bytes make a number.
        unsafe { word.read() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Objects of one heap do not overlap, keep what was written, and can be handed over.
    fn is_an_allocator(peer: &impl Peer) {
        if peer.refuses(Demand { live_objects: 1000, largest_bytes: 64 }).is_some() {
            return;
        }
        let name = format!("shmheap-bench-test-{}-{}", std::process::id(), peer.name().len());
        let first = peer.create(&name).unwrap();
        let second = peer.connect(&name, 1).unwrap();
        peer.remove(&name);
        let mut given = Vec::new();
        for number in 0..1000 {
            let mut object = first.alloc(64);
            object.write(number);
            given.push(first.give(object));
        }
        for (number, given) in (0..).zip(given) {
            // SAFETY: both workers are of one heap, and each number is taken once.
            let object = unsafe { second.take(given) };
            assert_eq!(object.read(), number, "{}", peer.name());
            second.free(object);
        }
    }

    #[test]
    fn every_peer_is_an_allocator() {
        is_an_allocator(&shmheap::Shmheap::new("first fit", ::shmheap::Policy::FirstFit));
        is_an_allocator(&c_library::CLibrary);
        is_an_allocator(&boost::RBTREE);
        is_an_allocator(&boost::SEQ_FIT);
        is_an_allocator(&first_fit_list::FirstFitList);
        is_an_allocator(&rts_alloc::RtsAlloc);
        is_an_allocator(&talc::Talc);
        is_an_allocator(&jemalloc::Jemalloc);
        is_an_allocator(&snmalloc::Snmalloc);
        is_an_allocator(&malloc::Malloc);
        is_an_allocator(&mimalloc::USUAL);
        is_an_allocator(&mimalloc::SMALL_PAGES);
        is_an_allocator(&bump::WARM);
        is_an_allocator(&bump::FRESH);
    }
}
