//! shmheap's own map and mutex, and what its channels in `channels` share with them.

use std::marker::PhantomData;

use ::shmheap::{Heap, HeapOptions, Shareable, ShmArc, ShmMap, ShmMutex};
use anyhow::Result;

use super::{Facility, Ground, Locks, Maps, Value};
use crate::peer::{HEAP_BYTES_MAX, Sharing};

/// Room at the start. Heaps grow as need be.
const LEN_BYTES: u64 = 64 << 10;

/// A heap that is gone with this at the latest.
struct Name(String);

impl Drop for Name {
    fn drop(&mut self) {
        // Most often it is gone already: the workers remove it as soon as they are connected.
        let _ = Heap::destroy(&self.0);
    }
}

/// Makes a heap with what `furnish` puts there.
pub(super) fn lay_out(name: &str, furnish: impl FnOnce(&Heap) -> Result<()>) -> Result<Ground> {
    let heap = HeapOptions::new(LEN_BYTES).max_len(HEAP_BYTES_MAX).create(name)?;
    let ground = Ground::new(name, Name(name.to_owned()));
    furnish(&heap)?;
    Ok(ground)
}

/// What all of them have in common.
macro_rules! lies_in_a_heap {
    () => {
        fn sharing(&self) -> Sharing {
            Sharing::Processes
        }

        fn remove(&self, address: &str) {
            // Whoever is to know it is connected.
            let _ = Heap::destroy(address);
        }
    };
}
pub(super) use lies_in_a_heap;

/// The version, and what is used of it.
pub(super) fn description(what: &str) -> String {
    format!("{}, {what}", env!("CARGO_PKG_VERSION"))
}

/// `ShmMap`.
#[derive(Debug)]
pub(crate) struct Map;

/// A heap with one value that all know.
#[derive(Debug)]
pub(crate) struct Site<T>(Heap, PhantomData<fn() -> T>);

type Table = ShmMap<u64, Value>;

impl<T: Shareable> Site<T> {
    fn lay_out(name: &str) -> Result<Ground> {
        lay_out(name, |heap| {
            heap.find_or_create::<T>("value", |_| {})?;
            Ok(())
        })
    }

    fn enter(name: &str) -> Result<Self> {
        Ok(Self(Heap::connect(name)?, PhantomData))
    }

    fn value(&self) -> Result<ShmArc<'_, T>> {
        Ok(self.0.find_root("value")?)
    }
}

impl Facility for Map {
    type Site = Site<Table>;

    lies_in_a_heap!();

    fn name(&self) -> &'static str {
        "shmheap map"
    }

    fn description(&self) -> String {
        description("ShmMap: readers take no lock, writers one of 16")
    }

    fn lay_out(&self, name: &str) -> Result<Ground> {
        Site::<Table>::lay_out(name)
    }

    fn enter(&self, address: &str) -> Result<Site<Table>> {
        Site::enter(address)
    }
}

/// A value in a heap, held.
struct Held<'h, T: Shareable> {
    heap: &'h Heap,
    value: ShmArc<'h, T>,
}

impl Maps for Site<Table> {
    fn map(&self) -> Result<impl super::Map + '_> {
        Ok(Held { heap: &self.0, value: self.value()? })
    }
}

impl super::Map for Held<'_, Table> {
    #[inline]
    fn get(&self, key: u64) -> Option<Value> {
        self.value.get(self.heap, &key).expect("a sound map")
    }

    #[inline]
    fn insert(&self, key: u64, value: Value) {
        self.value.insert(self.heap, key, value).expect("the workloads fit the heap");
    }
}

/// `ShmMutex`.
#[derive(Debug)]
pub(crate) struct Mutex;

type Counts = ShmMutex<[u64; 2]>;

impl Facility for Mutex {
    type Site = Site<Counts>;

    lies_in_a_heap!();

    fn name(&self) -> &'static str {
        "shmheap mutex"
    }

    fn description(&self) -> String {
        description("ShmMutex: whoever dies with it is noticed")
    }

    fn lay_out(&self, name: &str) -> Result<Ground> {
        Site::<Counts>::lay_out(name)
    }

    fn enter(&self, address: &str) -> Result<Site<Counts>> {
        Site::enter(address)
    }
}

impl Locks for Site<Counts> {
    fn lock(&self) -> Result<impl super::Lock + '_> {
        Ok(Held { heap: &self.0, value: self.value()? })
    }
}

impl super::Lock for Held<'_, Counts> {
    #[inline]
    fn count(&self) -> [u64; 2] {
        let mut counts = self.value.lock(self.heap).expect("nobody died");
        counts[0] += 1;
        counts[1] += 1;
        *counts
    }
}
