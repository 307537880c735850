//! The table of thread records: what a thread that uses a heap is in the middle of.
//!
//! ```text
//!   word  0        slot of the process that has the record, plus 1; 0: nobody
//!         1 .. 3   two notes of the policy's engine
//!         4 .. 16  six entries of the ledger, two words each
//! ```
//!
//! A record belongs to a process, and within it to whatever thread the process lends it to. It is
//! taken by one compare-and-exchange of word 0 and given back by storing 0 there, when all else in
//! it is 0 again. Whoever adopts what a dead process left goes through its records first, and gives
//! them back last; so a record that is nobody's has nothing to tell.
//!
//! The header's word *threads used* bounds the search: no record from there on was ever taken. It
//! is raised *before* a record is taken, so a kill in between hides none.
//!
//! The table is sparse. Storage is reserved before a record is touched, whatever the words of
//! others say: `reserve(n)`, which the caller brings, gives storage to the first `n` records.

use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::segment::words::Words;
use crate::units::{Offset, PAGE_BYTES, PeerSlot, WORD_BYTES, WordIndex};
use crate::{Error, Result};

/// Records of a table.
pub(crate) const THREADS: u16 = 4096;
/// Words of a record: two cache lines, so that records do not share any.
pub(crate) const THREAD_WORDS: u64 = 16;
const RECORDS_PER_PAGE: u16 = (PAGE_BYTES / WORD_BYTES / THREAD_WORDS) as u16;
/// Notes of a record.
pub(crate) const NOTES: u64 = 2;
/// Entries of the ledger in a record.
pub(crate) const ENTRIES: u8 = 6;
/// Words of an entry.
pub(crate) const ENTRY_WORDS: u64 = 2;

const OWNER: u64 = 0;
const FIRST_NOTE: u64 = 1;
const FIRST_ENTRY: u64 = 4;
const _: () = assert!(FIRST_NOTE + NOTES <= FIRST_ENTRY);
const _: () = assert!(FIRST_ENTRY + ENTRIES as u64 * ENTRY_WORDS == THREAD_WORDS);

/// Where the next search for a free record begins: threads that come at once start apart.
static SPREAD: AtomicU16 = AtomicU16::new(0);

/// Where the thread records of a segment are; see the module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadTable {
    first: WordIndex,
    used: WordIndex,
    count: u16,
}

/// The number of a thread record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ThreadRecord(u16);

/// An entry of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LedgerEntry {
    record: ThreadRecord,
    number: u8,
}

/// Gives storage to the first so many records.
pub(crate) type Reserve<'r> = &'r dyn Fn(u16) -> Result<()>;

impl ThreadRecord {
    /// Its place in the table.
    pub(crate) fn number(self) -> u16 {
        self.0
    }
}

impl LedgerEntry {
    /// The record that it is in.
    pub(crate) fn record(self) -> ThreadRecord {
        self.record
    }

    /// Its place in the record.
    pub(crate) fn number(self) -> u8 {
        self.number
    }
}

impl ThreadTable {
    /// The table of `count` records whose first starts at `first`; `used` is the header's word.
    pub(crate) const fn new(first: WordIndex, count: u16, used: WordIndex) -> Self {
        Self { first, used, count }
    }

    /// The first `count` records alone.
    pub(crate) fn up_to(self, count: u16) -> Self {
        Self { count: count.min(self.count), ..self }
    }

    /// The bytes of the first `count` records, in whole pages.
    pub(crate) fn storage(&self, count: u16) -> Range<u64> {
        let base = self.first.offset().0;
        let bytes = u64::from(count.min(self.count)) * THREAD_WORDS * WORD_BYTES;
        base..base + bytes.next_multiple_of(PAGE_BYTES)
    }

    /// How many records have storage when the first `count` have: those on the same page, too.
    pub(crate) fn stored_with(&self, count: u16) -> u16 {
        count.checked_next_multiple_of(RECORDS_PER_PAGE).map_or(count, |all| all.min(self.count))
    }

    /// How many records a page holds.
    pub(crate) fn in_first_page(&self) -> u16 {
        self.count.min(RECORDS_PER_PAGE)
    }

    /// The first byte behind the table.
    pub(crate) const fn end(&self) -> Offset {
        (WordIndex(self.first.0 + self.count as u64 * THREAD_WORDS)).offset()
    }

    /// How many records may be in use: none from there on.
    pub(crate) fn used(&self, words: &impl Words) -> u16 {
        u16::try_from(words.load(self.used)).unwrap_or(u16::MAX).min(self.count)
    }

    /// Takes a record for the living peer `peer`: a free one among those used before, else the next
    /// one.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyThreads`] if there is none, or what `reserve` says.
    pub(crate) fn claim(
        &self,
        words: &impl Words,
        peer: PeerSlot,
        reserve: Reserve<'_>,
    ) -> Result<ThreadRecord> {
        let used = self.used(words);
        reserve(used)?;
        // Relaxed: any number will do.
        let start = SPREAD.fetch_add(1, Ordering::Relaxed) % used.max(1);
        for number in (start..used).chain(0..start) {
            if self.try_claim(words, ThreadRecord(number), peer) {
                return Ok(ThreadRecord(number));
            }
        }
        for number in used..self.count {
            reserve(number + 1)?;
            self.raise_used(words, number + 1);
            if self.try_claim(words, ThreadRecord(number), peer) {
                return Ok(ThreadRecord(number));
            }
        }
        Err(Error::TooManyThreads { limit: u32::from(self.count) })
    }

    fn try_claim(&self, words: &impl Words, record: ThreadRecord, peer: PeerSlot) -> bool {
        let owner = self.word(record, OWNER);
        words.load(owner) == 0 && words.compare_exchange(owner, 0, u64::from(peer.0) + 1).is_ok()
    }

    fn raise_used(&self, words: &impl Words, count: u16) {
        let mut used = words.load(self.used);
        while used < u64::from(count) {
            match words.compare_exchange(self.used, used, u64::from(count)) {
                Err(found) if found != used => used = found,
                _ => break,
            }
        }
    }

    /// Gives a record back, by its owner or who adopts for it; its entries are free by then.
    pub(crate) fn release(&self, words: &impl Words, record: ThreadRecord) {
        for note in self.notes(record) {
            words.store(note, 0);
        }
        words.store(self.word(record, OWNER), 0);
    }

    /// The records that a peer has.
    ///
    /// # Errors
    ///
    /// What `reserve` says.
    pub(crate) fn of_peer<W: Words>(
        &self,
        words: W,
        peer: PeerSlot,
        reserve: Reserve<'_>,
    ) -> Result<impl Iterator<Item = ThreadRecord> + use<W>> {
        let used = self.used(&words);
        reserve(used)?;
        let table = *self;
        let owner = u64::from(peer.0) + 1;
        let records = (0..used).map(ThreadRecord);
        Ok(records.filter(move |&record| words.load(table.word(record, OWNER)) == owner))
    }

    /// The peer that has a record which has storage, if it is anybody's.
    pub(crate) fn owner_now(&self, words: &impl Words, record: ThreadRecord) -> Option<PeerSlot> {
        let owner = words.load(self.word(record, OWNER)).checked_sub(1);
        owner.and_then(|slot| u16::try_from(slot).ok()).map(PeerSlot)
    }

    /// The peer that has the record, if it exists and is anybody's.
    ///
    /// # Errors
    ///
    /// What `reserve` says.
    pub(crate) fn owner(
        &self,
        words: &impl Words,
        record: ThreadRecord,
        reserve: Reserve<'_>,
    ) -> Result<Option<PeerSlot>> {
        reserve(record.0 + 1)?;
        Ok(self.owner_now(words, record))
    }

    /// The first of the engine's words of a record; the others follow.
    pub(crate) fn first_note(&self, record: ThreadRecord) -> WordIndex {
        self.word(record, FIRST_NOTE)
    }

    /// The engine's words of a record.
    pub(crate) fn notes(&self, record: ThreadRecord) -> impl Iterator<Item = WordIndex> + use<> {
        let first = self.first_note(record);
        (0..NOTES).map(move |number| first + number)
    }

    /// The record of that number, if the table has it.
    pub(crate) fn record(&self, number: u64) -> Option<ThreadRecord> {
        u16::try_from(number).ok().filter(|&number| number < self.count).map(ThreadRecord)
    }

    /// The entry of that number in a record, if there is one.
    pub(crate) fn entry(&self, record: ThreadRecord, number: u64) -> Option<LedgerEntry> {
        let number = u8::try_from(number).ok().filter(|&number| number < ENTRIES)?;
        Some(LedgerEntry { record, number })
    }

    /// The first entry of a record.
    pub(crate) fn first_entry(&self, record: ThreadRecord) -> LedgerEntry {
        LedgerEntry { record, number: 0 }
    }

    /// The entries of a record.
    pub(crate) fn entries(
        &self,
        record: ThreadRecord,
    ) -> impl Iterator<Item = LedgerEntry> + use<> {
        (0..ENTRIES).map(move |number| LedgerEntry { record, number })
    }

    /// The first word of an entry; the second follows.
    pub(crate) fn entry_word(&self, entry: LedgerEntry) -> WordIndex {
        self.word(entry.record, FIRST_ENTRY + u64::from(entry.number) * ENTRY_WORDS)
    }

    /// The entry's place among all of the table.
    pub(crate) fn entry_number(&self, entry: LedgerEntry) -> u64 {
        u64::from(entry.record.0) * u64::from(ENTRIES) + u64::from(entry.number)
    }

    /// The entry of that place, if the table has it.
    pub(crate) fn entry_of_number(&self, number: u64) -> Option<LedgerEntry> {
        let record = self.record(number / u64::from(ENTRIES))?;
        self.entry(record, number % u64::from(ENTRIES))
    }

    fn word(&self, record: ThreadRecord, number: u64) -> WordIndex {
        self.first + u64::from(record.0) * THREAD_WORDS + number
    }
}

#[cfg(test)]
mod loom;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Futex;
    use crate::segment::words::Row;
    use std::cell::Cell;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU64;

    const USED: WordIndex = WordIndex(2);
    const BASE: WordIndex = WordIndex(16);
    const COUNT: u16 = if cfg!(miri) { 14 } else { 70 };
    const TABLE: ThreadTable = ThreadTable::new(BASE, COUNT, USED);
    const ENOUGH: Reserve<'static> = &|_| Ok(());
    const ME: PeerSlot = PeerSlot(0);
    const OTHER: PeerSlot = PeerSlot(1023);

    fn memory() -> Vec<AtomicU64> {
        let words = BASE.0 + u64::from(COUNT) * THREAD_WORDS;
        (0..words).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn records_are_taken_from_below_and_found_by_their_owner() {
        let memory = memory();
        let row = Row::new(&memory, Futex);
        let of = |peer| TABLE.of_peer(row, peer, ENOUGH).unwrap().collect::<Vec<_>>();
        let mine: Vec<_> = (0..3).map(|_| TABLE.claim(&row, ME, ENOUGH).unwrap()).collect();
        assert_eq!(mine, [0, 1, 2].map(ThreadRecord));
        let other = TABLE.claim(&row, OTHER, ENOUGH).unwrap();
        assert_eq!((of(ME), of(OTHER)), (mine.clone(), vec![other]));
        assert_eq!(TABLE.owner(&row, other, ENOUGH).unwrap(), Some(OTHER));
        TABLE.release(&row, mine[1]);
        assert_eq!(TABLE.owner(&row, mine[1], ENOUGH).unwrap(), None);
        assert_eq!(TABLE.claim(&row, OTHER, ENOUGH).unwrap(), mine[1], "the hole comes first");
        assert_eq!((of(ME).len(), of(OTHER).len(), TABLE.used(&row)), (2, 2, 4));
    }

    #[test]
    fn a_record_that_is_given_back_tells_nothing() {
        let memory = memory();
        let row = Row::new(&memory, Futex);
        let record = TABLE.claim(&row, ME, ENOUGH).unwrap();
        let (first, last) = (BASE + FIRST_NOTE, BASE + FIRST_NOTE + 1);
        assert_eq!(TABLE.notes(record).collect::<Vec<_>>(), [first, last]);
        row.store(first, 5);
        row.store(last, 5);
        TABLE.release(&row, record);
        assert!(memory[BASE.0 as usize..].iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_table_lies_where_it_says_and_so_does_a_part_of_it() {
        let table = ThreadTable::new(BASE, 70, USED);
        assert_eq!((table.in_first_page(), table.up_to(14).in_first_page()), (32, 14));
        assert_eq!((table.end().0, table.up_to(100)), (128 + 70 * 128, table));
        let memory = memory();
        let row = Row::new(&memory, Futex);
        let part = table.up_to(2);
        assert_eq!([0, 1].map(|_| part.claim(&row, ME, ENOUGH).unwrap().0), [0, 1]);
        let full = part.claim(&row, ME, ENOUGH).unwrap_err();
        assert!(matches!(full, Error::TooManyThreads { limit: 2 }), "{full}");
        assert_eq!(table.entry(ThreadRecord(0), 5).map(|entry| entry.number), Some(5));
        assert_eq!(table.entry(ThreadRecord(0), 6), None);
        // Where no word says how many are used, none is raised, and it ends.
        let unsaid = ThreadTable::new(BASE, 2, WordIndex(u64::MAX));
        assert!(unsaid.claim(&row, OTHER, ENOUGH).is_err());
    }

    #[test]
    fn a_full_table_is_an_error_and_takes_one_again_later() {
        let memory = memory();
        let row = Row::new(&memory, Futex);
        let all: Vec<_> = (0..COUNT).map(|_| TABLE.claim(&row, ME, ENOUGH).unwrap()).collect();
        let error = TABLE.claim(&row, OTHER, ENOUGH).unwrap_err();
        assert!(
            matches!(error, Error::TooManyThreads { limit } if limit == u32::from(COUNT)),
            "{error}"
        );
        assert_eq!(error.errno(), libc::EUSERS);
        let left = all[all.len() / 2];
        TABLE.release(&row, left);
        assert_eq!(TABLE.claim(&row, OTHER, ENOUGH).unwrap(), left);
    }

    #[test]
    fn threads_that_come_at_once_get_records_of_their_own() {
        let memory = memory();
        let row = Row::new(&memory, Futex);
        let start = Barrier::new(7);
        let claim_share = || {
            start.wait();
            (0..COUNT / 7).map(|_| TABLE.claim(&row, ME, ENOUGH).unwrap()).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..7).map(|_| scope.spawn(claim_share)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        all.sort();
        assert_eq!(all, (0..COUNT).map(ThreadRecord).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_touched_before_it_has_storage() {
        let count = u64::from(COUNT);
        for used in [0, 3, count / 2, count - 1, count, count + 1, 4096, 65_536, u64::MAX] {
            let memory = memory();
            let row = Row::new(&memory, Futex);
            row.store(USED, used);
            let reserved = Cell::new(0);
            let reserve: Reserve<'_> = &|count| {
                assert!(count <= COUNT);
                reserved.set(reserved.get().max(count));
                Ok(())
            };
            let record = TABLE.claim(&row, ME, reserve).unwrap();
            assert!(record.0 < reserved.get(), "{used}");
            assert_eq!(TABLE.of_peer(row, ME, reserve).unwrap().collect::<Vec<_>>(), [record]);
            assert!(reserved.get() >= TABLE.used(&row));
            let refused: Reserve<'_> = &|_| Err(Error::ReadOnly { action: "test" });
            let before: Vec<_> = memory.iter().map(|word| word.load(Ordering::Relaxed)).collect();
            assert!(TABLE.claim(&row, ME, refused).is_err());
            assert!(TABLE.of_peer(row, ME, refused).is_err());
            assert!(TABLE.owner(&row, record, refused).is_err());
            let asked_for: Reserve<'_> = &|count| {
                assert_eq!(count, record.0 + 1);
                Ok(())
            };
            assert_eq!(TABLE.owner(&row, record, asked_for).unwrap(), Some(ME));
            let after: Vec<_> = memory.iter().map(|word| word.load(Ordering::Relaxed)).collect();
            assert_eq!(before, after);
        }
    }

    #[test]
    fn hostile_owners_are_nobody_and_take_nothing_but_their_record() {
        let memory = memory();
        let row = Row::new(&memory, Futex);
        for word in &memory {
            word.store(u64::MAX, Ordering::Relaxed);
        }
        assert_eq!(TABLE.owner(&row, ThreadRecord(3), ENOUGH).unwrap(), None);
        assert_eq!(TABLE.of_peer(row, ME, ENOUGH).unwrap().count(), 0);
        assert!(TABLE.claim(&row, ME, ENOUGH).is_err());
        row.store(TABLE.word(ThreadRecord(5), OWNER), 0);
        assert_eq!(TABLE.claim(&row, ME, ENOUGH).unwrap(), ThreadRecord(5));
    }

    #[test]
    fn entries_are_found_by_their_number() {
        let found: Vec<_> = (0..u64::from(COUNT) * 6 + 100)
            .map_while(|number| TABLE.entry_of_number(number))
            .collect();
        assert_eq!(found.len(), usize::from(COUNT) * usize::from(ENTRIES));
        let words: std::collections::BTreeSet<_> =
            found.iter().map(|&entry| TABLE.entry_word(entry)).collect();
        assert_eq!(words.len(), found.len(), "each has words of its own");
        for (number, &entry) in (0..).zip(&found) {
            assert_eq!(TABLE.entry_number(entry), number);
        }
        assert_eq!(TABLE.entries(ThreadRecord(1)).count(), 6);
        assert_eq!(TABLE.entry_of_number(u64::MAX), None);
        let table = ThreadTable::new(BASE, 70, USED);
        assert_eq!(table.storage(0), 128..128);
        assert_eq!(table.storage(1), 128..128 + 4096);
        assert_eq!(table.storage(33), 128..128 + 8192);
        assert_eq!(table.storage(u16::MAX).end - 128, 3 * 4096);
        for (count, stored) in [(0, 0), (1, 32), (32, 32), (33, 64), (65, 70), (u16::MAX, u16::MAX)]
        {
            assert_eq!(table.stored_with(count), stored);
            assert_eq!(table.storage(stored), table.storage(count));
        }
    }
}
