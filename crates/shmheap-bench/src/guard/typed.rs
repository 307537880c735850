//! The hot paths of typed objects, in heaps of the scalable policy: of the heap's own paths they
//! use few, so another policy would say the same.

use std::hint::black_box;

use anyhow::{Context, Result};
use shmheap::{Channel, Heap, Policy, ShmArc, ShmMap, ShmMutex};

use super::ops::{Path, count, heap};

pub(super) const ALL: [(&str, Path); 7] = [
    ("map get, 10,000 entries", |policy| map(&heap(policy)?, get)),
    ("map get of an absent key, 10,000 entries", |policy| map(&heap(policy)?, get_absent)),
    ("map insert over another value, 10,000 entries", |policy| map(&heap(policy)?, insert)),
    ("channel send and recv, 64 B", send_and_receive),
    ("mutex lock and unlock", lock),
    ("arc clone and drop", clone),
    ("weak upgrade and drop", upgrade),
];

const ENTRIES: u64 = 10_000;

type Map = ShmMap<u64, [u64; 2]>;

/// What is done to a map in a heap, with a number below [`ENTRIES`].
type Step = fn(&Heap, &Map, u64) -> shmheap::Result<Option<[u64; 2]>>;

/// The keys of entries are even.
fn map(heap: &Heap, step: Step) -> Result<()> {
    let map = heap.find_or_create::<Map>("map", |_| {})?;
    for number in 0..ENTRIES {
        map.insert(heap, 2 * number, [number; 2])?;
    }
    let mut number = 0;
    count(|| {
        number = (number + 7) % ENTRIES;
        black_box(step(heap, &map, number).expect("a sound map"));
    });
    Ok(())
}

fn get(heap: &Heap, map: &Map, number: u64) -> shmheap::Result<Option<[u64; 2]>> {
    map.get(heap, &(2 * number))
}

fn get_absent(heap: &Heap, map: &Map, number: u64) -> shmheap::Result<Option<[u64; 2]>> {
    map.get(heap, &(2 * number + 1))
}

fn insert(heap: &Heap, map: &Map, number: u64) -> shmheap::Result<Option<[u64; 2]>> {
    map.insert(heap, 2 * number, [number; 2])
}

fn send_and_receive(policy: Policy) -> Result<()> {
    let heap = heap(policy)?;
    let [sender, receiver] =
        [(); 2].map(|()| Channel::<[u64; 8]>::find_or_create(&heap, "messages", 1024));
    let (sender, receiver) = (sender?, receiver?);
    count(|| {
        sender.send(black_box([7; 8])).expect("the channel has room");
        black_box(receiver.recv().expect("a message was sent"));
    });
    Ok(())
}

fn lock(policy: Policy) -> Result<()> {
    let heap = heap(policy)?;
    let mutex = heap.find_or_create::<ShmMutex<u64>>("mutex", |_| {})?;
    count(|| *mutex.lock(&heap).expect("nobody died") += 1);
    Ok(())
}

fn clone(policy: Policy) -> Result<()> {
    let heap = heap(policy)?;
    let value = ShmArc::new(&heap, 7_u64)?;
    count(|| drop(black_box(value.clone())));
    Ok(())
}

fn upgrade(policy: Policy) -> Result<()> {
    let heap = heap(policy)?;
    let value = ShmArc::new(&heap, 7_u64)?;
    let weak = ShmArc::downgrade(&value);
    weak.upgrade(&heap)?.context("a value that is held")?;
    count(|| drop(black_box(weak.upgrade(&heap).expect("a sound value"))));
    Ok(())
}
