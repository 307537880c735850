//! Tests of maps.

mod basics;
mod hostile;
mod kills;
mod loom;

use std::collections::BTreeMap;
use std::ptr::NonNull;

use super::shard::Shard;
use super::{SHARDS, ShmMap, hash};
use crate::Heap;
use crate::segment::words::Words;

type Map = ShmMap<u64, u64>;

/// The first so many keys of that shard whose hashes end in the same bits as `bucket`.
fn keys(shard: u64, bucket: u64, bucket_bits: u32, count: usize) -> Vec<u64> {
    let belongs = |key: &u64| {
        let hash = hash::of(key);
        hash >> super::SHARD_SHIFT == shard && (hash ^ bucket) & ((1 << bucket_bits) - 1) == 0
    };
    (0..).filter(belongs).take(count).collect()
}

/// All entries; no key comes twice.
fn content(heap: &Heap, map: &Map) -> BTreeMap<u64, u64> {
    let entries: Vec<_> = map.iter(heap).unwrap().collect();
    let content: BTreeMap<_, _> = entries.iter().copied().collect();
    assert_eq!(content.len(), entries.len(), "a key comes twice: {entries:?}");
    content
}

/// How many tables the map has, with the old ones; nothing is left in a cell `next`.
fn tables(heap: &Heap, map: &Map) -> u64 {
    let at = heap.word_at(NonNull::from(map).cast()).unwrap();
    let mut count = 0;
    for number in 0..SHARDS as u64 {
        let writers = at + (SHARDS as u64 + number * super::WRITER_WORDS);
        assert_eq!(heap.gate().load(writers + 1), 0, "something is left in next");
        let mut cell = at + number;
        loop {
            match heap.gate().load(cell) {
                0 => break,
                handle => {
                    count += 1;
                    cell = heap.span(crate::Handle::from_raw(handle)).unwrap().first;
                }
            }
        }
    }
    count
}

/// The shard of that number.
fn shard<'h>(heap: &'h Heap, map: &Map, number: u64) -> Shard<'h, Heap, u64, u64> {
    let at = heap.word_at(NonNull::from(map).cast()).unwrap();
    Map::shard_at(heap, at, number as usize)
}
