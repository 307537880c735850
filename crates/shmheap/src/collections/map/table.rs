//! A table of a shard: buckets, and a pool of entries, in one object.
//!
//! ```text
//!   word 0        handle of the table that this one took the place of; 0: none, or freed since
//!   word 1        how many words the object has
//!   word 2 ..     buckets: a power of two of them
//!   ..            entries:  link | words of the key | words of the value
//!   ..            less than an entry
//!
//!            63                             28 27              0
//!   bucket  +---------------------------------+-----------------+
//!           | how often it was changed        | first entry + 1 |     0: none
//!   link    +---------------------------------+-----------------+
//!           | low bits of the key's hash      | next entry + 1  |     0: none
//!           +---------------------------------+-----------------+
//! ```
//!
//! How many buckets and entries there are follows from the length of the object alone, which
//! readers take from the table, and which bucket an entry belongs to from its hash. What the bucket
//! names never changes as long as the bucket does not: a change writes free entries and then *one*
//! word, the bucket. So a reader that finds the bucket as it was before has seen the entries as
//! they were then, and a process killed before that store has changed nothing.
//!
//! A chain that leads out of the pool, round in a circle or into another bucket ends there.

use std::marker::PhantomData;

use crate::heap::Span;
use crate::object::{Shareable, value};
use crate::segment::words::Words;
use crate::units::WordIndex;

/// The words before the buckets.
const HEADER: u64 = 2;
/// The one of them that has the number of the object's words.
pub(super) const LENGTH_AT: u64 = 1;
/// Bits of a bucket or link that name an entry.
const NAME_BITS: u32 = 28;
const NAME_MASK: u64 = (1 << NAME_BITS) - 1;
/// Entries that a table has at the most: as many as can be named.
pub(super) const ENTRIES_MAX: u64 = NAME_MASK;
/// The smallest table has so many buckets.
const BUCKETS_MIN: u64 = 4;
const BUCKETS_MAX: u64 = 1 << (NAME_BITS - 1);
/// A table has an eighth more entries than buckets, and so many: changes need some to spare.
const SPARE: u64 = 4;

/// The hash's bits that a link keeps.
pub(super) const fn tag_of(hash: u64) -> u64 {
    hash & (u64::MAX >> NAME_BITS)
}

/// A bucket that has changed once more than `before`, and names that entry first.
const fn changed(before: u64, first: u64) -> u64 {
    ((before >> NAME_BITS).wrapping_add(1) << NAME_BITS) | first
}

/// An entry by its name, its number + 1; 0 is none.
pub(super) type Name = u64;

/// One entry of a chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linked {
    pub(super) name: Name,
    /// What its link said.
    pub(super) tag: u64,
    pub(super) next: Name,
}

/// A table in a row of words; see the module's text.
#[derive(Debug)]
pub(super) struct Table<W, K, V> {
    words: W,
    span: Span,
    pub(super) buckets: u64,
    pub(super) entries: u64,
    kinds: PhantomData<fn() -> (K, V)>,
}

impl<W: Copy, K, V> Clone for Table<W, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W: Copy, K, V> Copy for Table<W, K, V> {}

impl<W: Words + Copy, K: Shareable + Copy, V: Shareable + Copy> Table<W, K, V> {
    const KEY_WORDS: u64 = value::words_of::<K>();
    const ENTRY_WORDS: u64 = 1 + Self::KEY_WORDS + value::words_of::<V>();

    /// The buckets of the smallest table that has room for so many entries; `None` if none has.
    pub(super) fn buckets_for(entries: u64) -> Option<u64> {
        let mut buckets = BUCKETS_MIN;
        while Self::pool(buckets) < entries {
            buckets *= 2;
            if buckets > BUCKETS_MAX {
                return None;
            }
        }
        Some(buckets)
    }

    /// The words that a table of so many buckets takes; `None` if there is no such table.
    pub(super) fn words_for(buckets: u64) -> Option<u64> {
        let entries = Self::pool(buckets.min(BUCKETS_MAX)).checked_mul(Self::ENTRY_WORDS)?;
        (buckets <= BUCKETS_MAX).then(|| HEADER + buckets + entries)
    }

    fn pool(buckets: u64) -> u64 {
        buckets + buckets.div_ceil(8) + SPARE
    }

    /// The table in an object; `None` if it is too small for one.
    #[inline]
    pub(super) fn new(words: W, span: Span) -> Option<Self> {
        let room = span.words.checked_sub(HEADER)?;
        // The most buckets b with b + pool(b) entries in the room, and what they leave for more
        // entries.
        let most = room.checked_sub(SPARE * Self::ENTRY_WORDS)?.min(1 << 48) * 8
            / (8 + 9 * Self::ENTRY_WORDS);
        let buckets = (1 << most.checked_ilog2()?).min(BUCKETS_MAX);
        let entries = ((room - buckets) / Self::ENTRY_WORDS).min(ENTRIES_MAX);
        Some(Self { words, span, buckets, entries, kinds: PhantomData })
    }

    /// The word that names the table before this one.
    pub(super) fn previous(&self) -> WordIndex {
        self.span.word(0)
    }

    #[inline]
    fn bucket_word(&self, bucket: u64) -> WordIndex {
        self.span.word(HEADER + bucket)
    }

    /// The link of an entry; its key and value follow.
    #[inline]
    fn link_word(&self, name: Name) -> WordIndex {
        self.span.word(HEADER + self.buckets + (name - 1) * Self::ENTRY_WORDS)
    }

    /// Which bucket a key of that tag belongs to.
    #[inline]
    pub(super) fn bucket_of(&self, tag: u64) -> u64 {
        tag & (self.buckets - 1)
    }

    /// What the bucket holds, to walk along and to compare with later.
    #[inline]
    pub(super) fn bucket(&self, bucket: u64) -> u64 {
        self.words.load(self.bucket_word(bucket))
    }

    /// The entries of a bucket that holds `content`.
    #[inline]
    pub(super) fn walk(&self, bucket: u64, content: u64) -> Walk<W, K, V> {
        Walk { table: *self, bucket, next: content & NAME_MASK, steps: 0, mark: 0 }
    }

    /// The entry of that key among those of a bucket that holds `content`.
    #[inline]
    pub(super) fn find(&self, bucket: u64, content: u64, tag: u64, key: &K) -> Option<Linked> {
        let is_it = |entry: &Linked| entry.tag == tag && self.has_key(entry.name, key);
        self.walk(bucket, content).find(is_it)
    }

    /// What a bucket holds in one moment, in the place of what is in `entries`.
    pub(super) fn read_all(&self, bucket: u64, entries: &mut Vec<(K, V)>) {
        loop {
            let content = self.bucket(bucket);
            let chain = self.walk(bucket, content);
            entries.clear();
            entries.extend(chain.map(|entry| (self.key(entry.name), self.value(entry.name))));
            if self.bucket(bucket) == content {
                return;
            }
        }
    }

    #[inline]
    fn has_key(&self, name: Name, key: &K) -> bool {
        value::equals(&self.words, self.link_word(name) + 1, key)
    }

    #[inline]
    pub(super) fn key(&self, name: Name) -> K {
        value::load(&self.words, self.link_word(name) + 1)
    }

    #[inline]
    pub(super) fn value(&self, name: Name) -> V {
        value::load(&self.words, self.link_word(name) + 1 + Self::KEY_WORDS)
    }

    fn linked(&self, name: Name) -> Linked {
        let link = self.words.load(self.link_word(name));
        Linked { name, tag: link >> NAME_BITS, next: link & NAME_MASK }
    }

    fn has(&self, name: Name) -> bool {
        (1..=self.entries).contains(&name)
    }
}

/// The entry that a bucket names first.
pub(super) const fn first_of(content: u64) -> Name {
    content & NAME_MASK
}

/// What the holder of the shard's lock does.
impl<W: Words + Copy, K: Shareable + Copy, V: Shareable + Copy> Table<W, K, V> {
    /// An empty table in a new object.
    pub(super) fn format(&self, previous: u64) {
        self.words.store(self.previous(), previous);
        self.words.store(self.span.word(LENGTH_AT), self.span.words);
        for number in HEADER..HEADER + self.buckets {
            self.words.store(self.span.word(number), 0);
        }
    }

    /// Writes a free entry.
    pub(super) fn write(&self, name: Name, tag: u64, next: Name, key: &K, value: &V) {
        let at = self.link_word(name);
        self.words.store(at, tag << NAME_BITS | next);
        value::store(&self.words, at + 1, key);
        value::store(&self.words, at + 1 + Self::KEY_WORDS, value);
    }

    /// Adds an entry to a table that nobody else knows of; whether there is room.
    pub(super) fn add(&self, name: Name, entry: Linked, from: &Self) -> bool {
        let bucket = self.bucket_of(entry.tag);
        let next = self.bucket(bucket) & NAME_MASK;
        let (key, value) = (from.key(entry.name), from.value(entry.name));
        if self.has(name) {
            self.write(name, entry.tag, next, &key, &value);
            self.words.store(self.bucket_word(bucket), name);
        }
        self.has(name)
    }

    /// Changes a bucket that held `before`: this is the moment of any change.
    pub(super) fn commit(&self, bucket: u64, before: u64, first: Name) {
        // Release; its partners are the loads of readers, who find the entries written.
        self.words.store(self.bucket_word(bucket), changed(before, first));
    }

    /// Where the entries that nobody names are; the others are counted.
    pub(super) fn recount(&self) -> (Free, u64) {
        let mut named = vec![false; self.entries as usize + 1];
        let (mut live, mut last) = (0, 0);
        for bucket in 0..self.buckets {
            for entry in self.walk(bucket, self.bucket(bucket)) {
                live += 1;
                last = last.max(entry.name);
                named[entry.name as usize] = true;
            }
        }
        let mut free = Free { first: 0, fresh: last };
        for name in (1..last).rev().filter(|&name| !named[name as usize]) {
            free.push(self, name, name);
        }
        (free, live)
    }
}

/// The free entries of a table: a chain of those that were in use, and all behind the last one that
/// ever was. Only its word's place is shared; nothing is lost when it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Free {
    first: Name,
    /// So many entries were in use at some time.
    fresh: u64,
}

impl Free {
    pub(super) const fn from_word(word: u64) -> Self {
        Self { first: word & NAME_MASK, fresh: word >> 32 }
    }

    /// What a table starts with that has `used` entries, the first ones.
    pub(super) const fn after(used: u64) -> Self {
        Self { first: 0, fresh: used }
    }

    pub(super) const fn word(self) -> u64 {
        self.fresh << 32 | self.first
    }

    /// Takes an entry; `None` if there is none, or if this is no chain of free entries at all.
    pub(super) fn pop<W, K, V>(&mut self, table: &Table<W, K, V>) -> Option<Name>
    where
        W: Words + Copy,
        K: Shareable + Copy,
        V: Shareable + Copy,
    {
        if self.first != 0 {
            let name = self.first;
            if !table.has(name) {
                return None;
            }
            self.first = table.linked(name).next;
            return Some(name);
        }
        self.fresh = self.fresh.saturating_add(1);
        table.has(self.fresh).then_some(self.fresh)
    }

    /// Gives back the entries from `first` to `last`, which are linked.
    pub(super) fn push<W, K, V>(&mut self, table: &Table<W, K, V>, first: Name, last: Name)
    where
        W: Words + Copy,
        K: Shareable + Copy,
        V: Shareable + Copy,
    {
        table.words.store(table.link_word(last), self.first);
        self.first = first;
    }
}

/// The entries of one bucket.
#[derive(Debug)]
pub(super) struct Walk<W, K, V> {
    table: Table<W, K, V>,
    bucket: u64,
    next: Name,
    steps: u64,
    /// The entry that was met when the steps were a power of two: met again, it is a circle.
    mark: Name,
}

impl<W: Words + Copy, K: Shareable + Copy, V: Shareable + Copy> Iterator for Walk<W, K, V> {
    type Item = Linked;

    #[inline]
    fn next(&mut self) -> Option<Linked> {
        let name = self.next;
        if !self.table.has(name) || name == self.mark {
            return None;
        }
        let entry = self.table.linked(name);
        if self.table.bucket_of(entry.tag) != self.bucket {
            return None;
        }
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.mark = name;
        }
        self.next = entry.next;
        Some(entry)
    }
}
