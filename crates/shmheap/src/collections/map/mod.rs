//! `ShmMap`: a hash map that any process reads and writes at any time.
//!
//! ```text
//!   ShmMap             word 0 ..    the current table of each of 16 shards: its handle
//!                      word 16 ..   8 words of each for writers: lock, next, len, free, home
//!
//!   hash of a key      63    60 59            36 35                                    0
//!                     +--------+----------------+---------------------------------------+
//!                     | shard  |                | tag, which the entry keeps; its low   |
//!                     |        |                | bits are the number of the bucket     |
//!                     +--------+----------------+---------------------------------------+
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `table` | buckets and entries in one object; one store makes a change |
//! | `shard` | who may change a table, and which table it is |
//! | `iter` | all entries |

mod iter;
mod shard;
mod table;

#[cfg(test)]
mod tests;

use std::fmt;
use std::marker::{PhantomData, PhantomPinned};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub use iter::Iter;
use shard::{Shard, WRITER_WORDS};

use super::hash;
use crate::Result;
use crate::heap::Heap;
use crate::object::{OwnedCell, Shareable};
use crate::units::{WORD_BYTES, WordIndex};

/// Writers of different shards do not wait for each other.
const SHARDS: usize = 16;
const SHARD_SHIFT: u32 = u64::BITS - SHARDS.ilog2();
const WORDS: usize = SHARDS + SHARDS * WRITER_WORDS as usize;

/// A hash map in shared memory, for any number of threads and processes at once.
///
/// It lies in an object of a heap, or inside a value that does, and its entries in objects that it
/// allocates there; every operation is told the heap. All bytes 0 is an empty map.
///
/// Keys and values are plain values that are copied in and out. Keys are hashed and compared byte
/// by byte, which for floating-point numbers is not what `==` does. The hash is the same for all:
/// who may choose the keys can choose ones that make operations slow.
///
/// # Readers and writers
///
/// [`get`](Self::get) and all that only looks takes no lock. It looks again if somebody changes the
/// same bucket at that moment, and is never held up by anybody who is stopped or killed.
///
/// Whoever changes the map waits for its turn among those that change the same sixteenth of it. The
/// turn of a killed process is taken over at once. That of a *stopped* one is waited for: others go
/// on to read everything, and to change the other fifteen sixteenths; those that want a turn get
/// [`Error::TimedOut`](crate::Error::TimedOut) after [`PATIENCE`](Self::PATIENCE), or after the
/// time that they gave [`alter`](Self::alter).
///
/// # Killed processes
///
/// An operation on one key is done by one store. Killed before it, the process has changed nothing;
/// killed behind it, all. Whoever changes the same sixteenth next puts what is derived, the count
/// and the free entries, right again: a look at each entry of a sixteenth of the map.
///
/// # Room
///
/// A table that is full is replaced by one twice as large, of its sixteenth alone. Since a reader
/// may be stopped in the middle of the old one, that stays allocated: all old tables together are
/// about as large as those in use. [`free_old_tables`](Self::free_old_tables) frees them where
/// that is known to harm nobody. Entries that are removed are used again; the tables do not shrink.
///
/// What it has allocated goes with the root, [`ShmArc`](crate::ShmArc) or [`ShmBox`](crate::ShmBox)
/// that it is a part of. In an object that is freed by hand it is to be [freed](Self::free) before.
///
/// ```
/// use shmheap::{HeapOptions, ShmMap};
/// let heap = HeapOptions::new(1 << 20).create_memfd()?;
/// let map = heap.find_or_create::<ShmMap<u32, [f64; 3]>>("points", |_| {})?;
///
/// assert_eq!(map.insert(&heap, 7, [1.0, 2.0, 3.0])?, None);
/// assert_eq!(map.update(&heap, &7, |[x, y, z]| [x + 1.0, y, z])?, Some([2.0, 2.0, 3.0]));
/// // Any other process that has connected to the heap:
/// assert_eq!(map.get(&heap, &7)?, Some([2.0, 2.0, 3.0]));
/// assert_eq!(map.iter(&heap)?.map(|(key, _)| key).collect::<Vec<_>>(), [7]);
/// assert_eq!(map.remove(&heap, &7)?, Some([2.0, 2.0, 3.0]));
/// # Ok::<(), shmheap::Error>(())
/// ```
///
/// # Errors
///
/// All operations can give [`Error::InvalidPointer`](crate::Error::InvalidPointer) if the map does
/// not lie in that heap, and [`Error::Damaged`](crate::Error::Damaged) if somebody has overwritten
/// it. Those that change it, besides: [`Error::TimedOut`](crate::Error::TimedOut),
/// [`Error::ReadOnly`](crate::Error::ReadOnly); and those that add entries the errors of
/// [`Heap::alloc_unpublished`], and [`Error::AtCapacity`](crate::Error::AtCapacity) when a
/// sixteenth has 2^28 entries. The map is as it was then.
#[repr(C)]
pub struct ShmMap<K, V> {
    words: [AtomicU64; WORDS],
    kinds: PhantomData<fn() -> (K, V)>,
    /// Its words are reached by way of the heap also while somebody has it for himself.
    pinned: PhantomPinned,
}

impl<K: Shareable + Copy, V: Shareable + Copy> ShmMap<K, V> {
    /// How long a change waits for its turn: far longer than changes take, so a process that is
    /// stopped in one is the likely reason if it is in vain.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// An empty map, to be put into an object.
    #[must_use]
    pub const fn new() -> Self {
        let words = [const { AtomicU64::new(0) }; WORDS];
        Self { words, kinds: PhantomData, pinned: PhantomPinned }
    }

    /// The value of a key.
    ///
    /// Cost: no lock and no store; of the key's length and the value's. Somebody who changes the
    /// same bucket meanwhile costs another look.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    #[inline]
    pub fn get(&self, heap: &Heap, key: &K) -> Result<Option<V>> {
        let hash = hash::of(key);
        self.shard_of(heap, hash)?.get(hash, key)
    }

    /// Whether the key has a value. As [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn contains_key(&self, heap: &Heap, key: &K) -> Result<bool> {
        Ok(self.get(heap, key)?.is_some())
    }

    /// Gives the key a value, and returns the one it had.
    ///
    /// Cost: a lock that only writers of the same sixteenth take, and a store for each word of key
    /// and value; at times growth, which copies a sixteenth of the map. Killed inside: the key has
    /// the old value or the new one.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn insert(&self, heap: &Heap, key: K, value: V) -> Result<Option<V>> {
        Ok(self.change(heap, &key, |_| Some(value))?.0)
    }

    /// Gives the key a value if it has none, and returns the one that it has already. Of several
    /// who try that at once, one gets `None`. As [`insert`](Self::insert).
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn insert_if_absent(&self, heap: &Heap, key: K, value: V) -> Result<Option<V>> {
        Ok(self.change(heap, &key, |old| old.or(Some(value)))?.0)
    }

    /// The value of the key, which is given what `make` returns if it has none; without a lock if
    /// it has one. Otherwise as [`insert`](Self::insert); for `make` see [`alter`](Self::alter).
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn get_or_insert_with(&self, heap: &Heap, key: K, make: impl FnOnce() -> V) -> Result<V> {
        if let Some(value) = self.get(heap, &key)? {
            return Ok(value);
        }
        let mut given = None;
        self.change(heap, &key, |old| {
            given = Some(old.unwrap_or_else(make));
            given
        })?;
        given.ok_or(crate::Error::Damaged { what: "a value of a ShmMap" })
    }

    /// Changes the value of a key if it has one, and returns the new value; nobody changes it
    /// meanwhile. As [`insert`](Self::insert); for `change` see [`alter`](Self::alter).
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn update(&self, heap: &Heap, key: &K, change: impl FnOnce(V) -> V) -> Result<Option<V>> {
        Ok(self.change(heap, key, |old| old.map(change))?.1)
    }

    /// Replaces the value of a key if it has the same bytes as `expected`; whether it had. As
    /// [`insert`](Self::insert).
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn replace_if(&self, heap: &Heap, key: &K, expected: &V, new: V) -> Result<bool> {
        let mut is_expected = false;
        self.change(heap, key, |old| {
            is_expected = shard::is_same(old.as_ref(), Some(expected));
            if is_expected { Some(new) } else { old }
        })?;
        Ok(is_expected)
    }

    /// Removes the key and returns the value it had. As [`insert`](Self::insert), but that it
    /// takes free entries only where several keys share a bucket.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn remove(&self, heap: &Heap, key: &K) -> Result<Option<V>> {
        Ok(self.change(heap, key, |_| None)?.0)
    }

    /// What all changes of one key are made of: `change` is told the value that the key has, and
    /// says which it shall have. Returns both. Waits for its turn up to `patience`.
    ///
    /// While `change` runs, nobody else changes the same sixteenth of the map; it must not do so
    /// itself, which would wait for its own end and time out. If it panics, nothing is changed.
    ///
    /// Cost and kills: as [`insert`](Self::insert).
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    ///
    /// ```
    /// # use shmheap::{HeapOptions, ShmMap};
    /// # use std::{alloc::Layout, time::Duration};
    /// # let heap = HeapOptions::new(1 << 20).create_memfd()?;
    /// # let object = heap.alloc_zeroed(Layout::new::<ShmMap<u32, u32>>())?;
    /// # // SAFETY: the object is large enough, aligned, and zeros are an empty map.
    /// # let map = unsafe { object.cast::<ShmMap<u32, u32>>().as_ref() };
    /// // Counts down, and removes the key at the end.
    /// let countdown = |left: Option<u32>| left?.checked_sub(1).filter(|&left| left > 0);
    /// map.insert(&heap, 1, 2)?;
    /// let patience = Duration::from_millis(10);
    /// assert_eq!(map.alter(&heap, &1, patience, countdown)?, (Some(2), Some(1)));
    /// assert_eq!(map.alter(&heap, &1, patience, countdown)?, (Some(1), None));
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn alter(
        &self,
        heap: &Heap,
        key: &K,
        patience: Duration,
        change: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<(Option<V>, Option<V>)> {
        let hash = hash::of(key);
        self.shard_of(heap, hash)?.alter(hash, key, patience, change)
    }

    fn change(
        &self,
        heap: &Heap,
        key: &K,
        change: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<(Option<V>, Option<V>)> {
        self.alter(heap, key, Self::PATIENCE, change)
    }

    /// How many entries there are. While others change the map, it is the sum of numbers of
    /// different moments; otherwise it is exact, whoever was killed.
    ///
    /// Cost: 16 loads; behind a killed writer, a look at all entries of its sixteenth.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn len(&self, heap: &Heap) -> Result<u64> {
        self.shards(heap)?.try_fold(0, |sum, shard| Ok(sum + shard.len()?))
    }

    /// Whether there are no entries. As [`len`](Self::len).
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn is_empty(&self, heap: &Heap) -> Result<bool> {
        Ok(self.len(heap)? == 0)
    }

    /// How many entries the tables have room for. A sixteenth that is full grows, even if others
    /// have room.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn capacity(&self, heap: &Heap) -> Result<u64> {
        self.shards(heap)?.try_fold(0, |sum, shard| Ok(sum + shard.capacity()?))
    }

    /// Makes room for `entries` entries in all, so that they will hardly let a table grow. Killed
    /// inside: some tables have grown.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn reserve(&self, heap: &Heap, entries: u64) -> Result<()> {
        let mean = entries.div_ceil(SHARDS as u64);
        // Hashes spread entries as dice do: hardly ever by more than four times the square root.
        let each = mean.saturating_add(4 * (mean.isqrt() + 1));
        self.shards(heap)?.try_for_each(|shard| shard.reserve(each, Self::PATIENCE))
    }

    /// Removes all entries, one sixteenth after the other; those that others add meanwhile may
    /// stay. Killed inside: some entries are removed.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors); some entries may be removed by then.
    pub fn clear(&self, heap: &Heap) -> Result<()> {
        self.shards(heap)?.try_for_each(|shard| shard.clear(Self::PATIENCE))
    }

    /// All entries, in no order, while others may change the map: an entry that is there from
    /// beginning to end comes exactly once, one that is added or removed meanwhile once or not at
    /// all, and no key comes twice. The value is one that the key has had since the beginning.
    ///
    /// Cost: no lock; of the map's capacity. What somebody has overwritten is passed over.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`](crate::Error::InvalidPointer) if the map does not lie in the heap.
    pub fn iter<'a>(&'a self, heap: &'a Heap) -> Result<Iter<'a, K, V>> {
        Ok(Iter::new(heap, self.place(heap)?))
    }

    /// All keys; as [`iter`](Self::iter).
    ///
    /// # Errors
    ///
    /// As [`iter`](Self::iter).
    pub fn keys<'a>(&'a self, heap: &'a Heap) -> Result<impl Iterator<Item = K> + use<'a, K, V>> {
        Ok(self.iter(heap)?.map(|(key, _)| key))
    }

    /// All values; as [`iter`](Self::iter).
    ///
    /// # Errors
    ///
    /// As [`iter`](Self::iter).
    pub fn values<'a>(&'a self, heap: &'a Heap) -> Result<impl Iterator<Item = V> + use<'a, K, V>> {
        Ok(self.iter(heap)?.map(|(_, value)| value))
    }

    /// Frees the tables that have become too small and that no reader is in any more: whoever has
    /// the map for himself, in all processes, knows that there is none. Killed inside: some are
    /// freed.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors); some tables may be freed by then.
    pub fn free_old_tables(&mut self, heap: &Heap) -> Result<()> {
        self.shards(heap)?.try_for_each(|shard| shard.free(false, Self::PATIENCE))
    }

    /// Frees all that the map has allocated; it is empty then, and may be used again. To be called
    /// before the object is freed that it lies in. Killed inside: some sixteenths are empty.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors); some sixteenths may be empty by then.
    pub fn free(&mut self, heap: &Heap) -> Result<()> {
        self.shards(heap)?.try_for_each(|shard| shard.free(true, Self::PATIENCE))
    }

    /// The cells of its tables. One may be in two of them for a moment, when a table has grown.
    pub(in crate::collections) fn cells() -> impl Iterator<Item = OwnedCell> {
        let writers = |shard| SHARDS + shard * WRITER_WORDS as usize;
        let cell = move |shard, word, starts_chain| OwnedCell {
            offset_bytes: word * WORD_BYTES as usize,
            home_bytes: (writers(shard) + shard::HOME as usize) * WORD_BYTES as usize,
            starts_chain,
        };
        let next = move |shard| cell(shard, writers(shard) + shard::NEXT as usize, false);
        let current = (0..SHARDS).map(move |shard| cell(shard, shard, true));
        current.chain((0..SHARDS).map(next))
    }

    fn place(&self, heap: &Heap) -> Result<WordIndex> {
        heap.word_at(NonNull::from(self).cast())
    }

    #[inline]
    fn shard_of<'h>(&self, heap: &'h Heap, hash: u64) -> Result<Shard<'h, Heap, K, V>> {
        Ok(Self::shard_at(heap, self.place(heap)?, (hash >> SHARD_SHIFT) as usize))
    }

    fn shards<'h>(
        &self,
        heap: &'h Heap,
    ) -> Result<impl Iterator<Item = Shard<'h, Heap, K, V>> + use<'h, K, V>> {
        let map = self.place(heap)?;
        Ok((0..SHARDS).map(move |number| Self::shard_at(heap, map, number)))
    }

    #[inline]
    fn shard_at(heap: &Heap, map: WordIndex, number: usize) -> Shard<'_, Heap, K, V> {
        let number = number as u64;
        Shard::new(heap, map + number, map + (SHARDS as u64 + number * WRITER_WORDS))
    }
}

impl<K: Shareable + Copy, V: Shareable + Copy> Default for ShmMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for ShmMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmMap").field("tables", &&self.words[..SHARDS]).finish_non_exhaustive()
    }
}
