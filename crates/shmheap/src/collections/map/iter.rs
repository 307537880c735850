//! The entries of a map, one after the other, while others go on changing it.

use std::fmt;

use super::shard::{Shard, TableOf};
use super::{SHARDS, ShmMap};
use crate::heap::Heap;
use crate::object::Shareable;
use crate::units::WordIndex;

/// The entries of a [`ShmMap`]: made by [`ShmMap::iter`], whose text says what it promises.
pub struct Iter<'h, K, V> {
    heap: &'h Heap,
    map: WordIndex,
    /// The next shard to look into.
    shard: usize,
    /// The table of the one before, and the next bucket of it. A table that is left behind stays as
    /// it was, so this goes on in it.
    table: Option<TableOf<'h, Heap, K, V>>,
    bucket: u64,
    /// What a bucket held in one moment.
    entries: Vec<(K, V)>,
}

impl<'h, K: Shareable + Copy, V: Shareable + Copy> Iter<'h, K, V> {
    pub(super) fn new(heap: &'h Heap, map: WordIndex) -> Self {
        Self { heap, map, shard: 0, table: None, bucket: 0, entries: vec![] }
    }

    /// Takes what the next bucket holds; `false` behind the last one.
    fn look(&mut self) -> bool {
        let Some(table) = self.table.filter(|table| self.bucket < table.buckets) else {
            if self.shard == SHARDS {
                return false;
            }
            let shard: Shard<'h, Heap, K, V> = ShmMap::shard_at(self.heap, self.map, self.shard);
            // A damaged one is passed over.
            self.table = shard.table().unwrap_or(None);
            (self.shard, self.bucket) = (self.shard + 1, 0);
            return true;
        };
        table.read_all(self.bucket, &mut self.entries);
        self.bucket += 1;
        true
    }
}

impl<K: Shareable + Copy, V: Shareable + Copy> Iterator for Iter<'_, K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            if let Some(entry) = self.entries.pop() {
                return Some(entry);
            }
            if !self.look() {
                return None;
            }
        }
    }
}

impl<K, V> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("shard", &self.shard).finish_non_exhaustive()
    }
}
