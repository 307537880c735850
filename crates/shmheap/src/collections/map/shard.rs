//! A shard of a map: a table, and the lock of those who change it.
//!
//! ```text
//!   current ----> table, whose word 0 names the one before, and so on
//!   lock          of writers
//!   next          a cell: the table that shall become current; else 0
//!   len, free     what the lock's holder knows of the table: recounted after its death
//!   home          to which heap the tables belong; 0 before the first
//! ```
//!
//! A reader takes no lock. It finds its entry in the current table and looks whether the bucket is
//! as it was: if so, it has seen what was there all the while. It looks again only if somebody has
//! really changed that bucket, so no stopped or dead process holds it up.
//!
//! A table that becomes too small is left as it is, for readers that may be stopped in the middle
//! of it, and stays allocated behind the new one, which is at least twice as large. Growth:
//!
//! | step | a process killed behind it leaves | the next writer |
//! |---|---|---|
//! | new table, filled | nothing: an unpublished object | |
//! | `next` = new | a table that no reader has seen | frees it |
//! | `current` = new | the new table | empties `next`, recounts |
//! | `next` = 0 | the new table | recounts |

use std::marker::PhantomData;
use std::time::Duration;

use super::super::cells::Home;
use super::super::turn::{self, Turn};
use super::table::{ENTRIES_MAX, Free, LENGTH_AT, Linked, Table, first_of, tag_of};
use crate::object::{Shareable, value};
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Result};

/// The words of a shard for its writers, of which the first five are in use.
pub(super) const WRITER_WORDS: u64 = 8;
/// Which of them is the cell of the next table.
pub(super) const NEXT: u64 = 1;
/// Which of them says to which heap the tables belong.
pub(super) const HOME: u64 = 4;

/// How long the chain of tables is at the most: each is twice as large as the one before.
const TABLES_MAX: u32 = 64;
/// How often a change is tried anew after room was made for it. Once is enough, unless somebody
/// overwrites the map meanwhile.
const ATTEMPTS: u32 = 4;

/// A shard of a map in a heap; see the module's text.
#[derive(Debug)]
pub(super) struct Shard<'h, H: Home + 'h, K, V> {
    home: &'h H,
    words: H::Words<'h>,
    current: WordIndex,
    lock: WordIndex,
    kinds: PhantomData<fn() -> (K, V)>,
}

/// The table of a shard.
pub(super) type TableOf<'h, H, K, V> = Table<<H as Home>::Words<'h>, K, V>;

impl<'h, H: Home, K: Shareable + Copy, V: Shareable + Copy> Shard<'h, H, K, V> {
    /// The shard whose table is named by the word `current` and whose writers use those from
    /// `writers` on.
    #[inline]
    pub(super) fn new(home: &'h H, current: WordIndex, writers: WordIndex) -> Self {
        Self { home, words: home.words(), current, lock: writers, kinds: PhantomData }
    }

    fn next(&self) -> WordIndex {
        self.lock + NEXT
    }

    fn len_word(&self) -> WordIndex {
        self.lock + 2
    }

    fn free_word(&self) -> WordIndex {
        self.lock + 3
    }

    /// The table that `current` names; `None` if there is none yet.
    #[inline]
    fn open(&self, current: u64) -> Result<Option<TableOf<'h, H, K, V>>> {
        if current == 0 {
            return Ok(None);
        }
        let span = self.home.span(current);
        let table = span.and_then(|span| Table::new(self.words, span));
        table.map(Some).ok_or(Error::Damaged { what: "the table of a ShmMap" })
    }

    /// The table of this moment.
    pub(super) fn table(&self) -> Result<Option<TableOf<'h, H, K, V>>> {
        self.open(self.words.load(self.current))
    }

    /// The table of this moment, to be read only. A table stays allocated while anybody may be in
    /// it, so whether it lives need not be asked.
    #[inline]
    fn glance(&self) -> Result<Option<TableOf<'h, H, K, V>>> {
        let current = self.words.load(self.current);
        let span = self.home.described_span(current, LENGTH_AT);
        match span.and_then(|span| Table::new(self.words, span)) {
            Some(table) => Ok(Some(table)),
            None => self.open(current),
        }
    }

    /// The value of a key.
    #[inline]
    pub(super) fn get(&self, hash: u64, key: &K) -> Result<Option<V>> {
        let tag = tag_of(hash);
        loop {
            let Some(table) = self.glance()? else { return Ok(None) };
            let bucket = table.bucket_of(tag);
            let content = table.bucket(bucket);
            let found = table.find(bucket, content, tag, key).map(|entry| table.value(entry.name));
            // Of a table that is left behind by now, this is what the last moment of it had: later
            // than the look at `current`.
            if table.bucket(bucket) == content {
                return Ok(found);
            }
        }
    }

    /// How many entries there are: a look, unless a writer has died.
    pub(super) fn len(&self) -> Result<u64> {
        let Some(table) = self.table()? else { return Ok(0) };
        if turn::is_abandoned(&self.words, self.lock, self.home) {
            let chain = |bucket| table.walk(bucket, table.bucket(bucket)).count() as u64;
            return Ok((0..table.buckets).map(chain).sum());
        }
        Ok(self.words.load(self.len_word()).min(table.entries))
    }

    /// Entries that fit without growth.
    pub(super) fn capacity(&self) -> Result<u64> {
        Ok(self.table()?.map_or(0, |table| table.entries))
    }

    /// Gives the key another value or none, as `change` says, which is told the one it has; returns
    /// both.
    pub(super) fn alter(
        &self,
        hash: u64,
        key: &K,
        patience: Duration,
        change: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<(Option<V>, Option<V>)> {
        let turn = self.turn(patience)?;
        let tag = tag_of(hash);
        let mut table = self.table()?;
        let found = table.and_then(|table| {
            let bucket = table.bucket_of(tag);
            let found = table.find(bucket, table.bucket(bucket), tag, key);
            found.map(|entry| table.value(entry.name))
        });
        let new = change(found);
        turn.confirm()?;
        if is_same(found.as_ref(), new.as_ref()) {
            return Ok((found, new));
        }
        for _ in 0..ATTEMPTS {
            let needed = match table.map(|table| self.change(&table, tag, key, new.as_ref())) {
                Some(Ok(())) => return Ok((found, new)),
                Some(Err(needed)) => needed,
                None => 1,
            };
            table = Some(self.make_room(table, needed)?);
        }
        Err(Error::Damaged { what: "the free entries of a ShmMap" })
    }

    /// Does it in the table, or says how many free entries it takes.
    fn change(
        &self,
        table: &TableOf<'h, H, K, V>,
        tag: u64,
        key: &K,
        new: Option<&V>,
    ) -> Result<(), u64> {
        let bucket = table.bucket_of(tag);
        let content = table.bucket(bucket);
        let found = table.find(bucket, content, tag, key);
        // The entries before the one that is to change are copied, for it is named by the last.
        let (copies, rest) = match found {
            Some(entry) => {
                let is_before = |other: &Linked| other.name != entry.name;
                let before = table.walk(bucket, content).take_while(is_before).count();
                (before as u64, entry.next)
            }
            None => (0, first_of(content)),
        };
        let needed = copies + u64::from(new.is_some());
        let len = self.words.load(self.len_word());
        let mut free = Free::from_word(self.words.load(self.free_word()));
        if table.entries.saturating_sub(len) < needed {
            return Err(needed);
        }
        let mut taken = 0;
        let mut take = |free: &mut Free| {
            taken += 1;
            if taken > needed { Ok(rest) } else { free.pop(table).ok_or(needed) }
        };
        let first = take(&mut free)?;
        let mut at = first;
        for entry in table.walk(bucket, content).take(copies as usize) {
            let next = take(&mut free)?;
            table.write(at, entry.tag, next, &table.key(entry.name), &table.value(entry.name));
            at = next;
        }
        if let Some(value) = new {
            table.write(at, tag, rest, key, value);
        }
        table.commit(bucket, content, first);
        if let Some(entry) = found {
            free.push(table, first_of(content), entry.name);
        }
        self.words.store(self.free_word(), free.word());
        let len = len + u64::from(new.is_some()) - u64::from(found.is_some()).min(len);
        self.words.store(self.len_word(), len);
        Ok(())
    }

    /// A table with so many free entries: this one, if it has them after all, or a larger one.
    fn make_room(
        &self,
        table: Option<TableOf<'h, H, K, V>>,
        needed: u64,
    ) -> Result<TableOf<'h, H, K, V>> {
        let mut live = 0;
        if let Some(table) = table {
            live = self.recount(&table);
            if table.entries.saturating_sub(live) >= needed {
                return Ok(table);
            }
        }
        let buckets = TableOf::<'h, H, K, V>::buckets_for(live.saturating_add(needed));
        self.grow(table, buckets)
    }

    /// Puts a table of so many buckets, or twice as many as it has, in the place of the current.
    fn grow(
        &self,
        table: Option<TableOf<'h, H, K, V>>,
        buckets: Option<u64>,
    ) -> Result<TableOf<'h, H, K, V>> {
        let twice = table.map_or(0, |table| 2 * table.buckets);
        let words =
            buckets.and_then(|buckets| Table::<H::Words<'h>, K, V>::words_for(buckets.max(twice)));
        let full = Error::AtCapacity { what: "a shard of a ShmMap", limit: ENTRIES_MAX };
        let words = words.ok_or(full)?;
        let current = self.words.load(self.current);
        self.settle(current)?;
        let mut used = 0;
        let new = self.home.place(words, 1, self.next(), |span| {
            let Some(new) = Table::<_, K, V>::new(self.words, span) else { return };
            new.format(current);
            let Some(old) = table else { return };
            for bucket in 0..old.buckets {
                for entry in old.walk(bucket, old.bucket(bucket)) {
                    used += u64::from(new.add(used + 1, entry, &old));
                }
            }
        })?;
        // Release; its partners are the loads of readers, who find the table filled.
        self.words.store(self.current, new);
        self.words.store(self.free_word(), Free::after(used).word());
        self.words.store(self.len_word(), used);
        self.words.store(self.next(), 0);
        self.table()?.ok_or(Error::Damaged { what: "the table of a ShmMap" })
    }

    /// Makes sure that so many entries fit without growth.
    pub(super) fn reserve(&self, entries: u64, patience: Duration) -> Result<()> {
        let _turn = self.turn(patience)?;
        let table = self.table()?;
        if table.is_none_or(|table| table.entries < entries) {
            self.grow(table, TableOf::<'h, H, K, V>::buckets_for(entries))?;
        }
        Ok(())
    }

    /// Removes all entries, one bucket after the other.
    pub(super) fn clear(&self, patience: Duration) -> Result<()> {
        let _turn = self.turn(patience)?;
        let Some(table) = self.table()? else { return Ok(()) };
        for bucket in 0..table.buckets {
            let content = table.bucket(bucket);
            if first_of(content) != 0 {
                table.commit(bucket, content, 0);
            }
        }
        self.words.store(self.free_word(), Free::after(0).word());
        self.words.store(self.len_word(), 0);
        Ok(())
    }

    /// The lock; what its last holder died over is set right.
    fn turn(&self, patience: Duration) -> Result<Turn<'h, H::Words<'h>, H>> {
        let mut turn = Turn::take(self.words, self.lock, self.home, patience)?;
        self.come_home()?;
        if turn.is_unfinished {
            self.recover()?;
            turn.is_unfinished = false;
        }
        Ok(turn)
    }

    /// Refuses tables of another heap, as behind a swap of two maps. Readers do without: they look
    /// at words of whatever object has the name here, and write nothing.
    fn come_home(&self) -> Result<()> {
        let home = self.lock + HOME;
        match self.words.load(home) {
            0 => self.words.store(home, self.home.id()),
            id if id == self.home.id() => {}
            _ => return Err(Error::Damaged { what: "a ShmMap whose tables are in another heap" }),
        }
        Ok(())
    }

    #[cold]
    fn recover(&self) -> Result<()> {
        let current = self.words.load(self.current);
        self.settle(current)?;
        if let Some(table) = self.open(current)? {
            self.recount(&table);
        }
        Ok(())
    }

    /// Empties the cell `next`.
    fn settle(&self, current: u64) -> Result<()> {
        match self.words.load(self.next()) {
            0 => Ok(()),
            next if next == current => {
                self.words.store(self.next(), 0);
                Ok(())
            }
            _ => self.home.vacate(self.next()),
        }
    }

    /// Counts what there is; returns how many live.
    fn recount(&self, table: &TableOf<'h, H, K, V>) -> u64 {
        let (free, live) = table.recount();
        self.words.store(self.free_word(), free.word());
        self.words.store(self.len_word(), live);
        live
    }

    /// Frees the tables that were left behind, and with `all` the current one. Nobody else may be
    /// in the map.
    pub(super) fn free(&self, all: bool, patience: Duration) -> Result<()> {
        let mut turn = Turn::take(self.words, self.lock, self.home, patience)?;
        self.come_home()?;
        turn.is_unfinished = true;
        self.settle(self.words.load(self.current))?;
        // The oldest first: a process killed in between leaves no table that nobody names.
        for _ in 0..TABLES_MAX {
            let Some(oldest) = self.oldest() else { break };
            if oldest == self.current && !all {
                break;
            }
            self.home.vacate(oldest)?;
        }
        self.recover()?;
        turn.is_unfinished = false;
        if self.words.load(self.current) == 0 {
            self.words.store(self.lock + HOME, 0);
        }
        Ok(())
    }

    /// The word that names the oldest table.
    fn oldest(&self) -> Option<WordIndex> {
        let (mut oldest, mut cell) = (None, self.current);
        for _ in 0..TABLES_MAX {
            let handle = self.words.load(cell);
            if handle == 0 {
                break;
            }
            oldest = Some(cell);
            let Ok(Some(table)) = self.open(handle) else { break };
            cell = table.previous();
        }
        oldest
    }
}

/// Whether both are the same bytes.
pub(super) fn is_same<V: Shareable + Copy>(one: Option<&V>, other: Option<&V>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            let mut words = 0..value::words_of::<V>();
            words.all(|number| value::word(one, number) == value::word(other, number))
        }
        (None, None) => true,
        _ => false,
    }
}
