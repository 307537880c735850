//! `Entries`: the entries of the ledger that this process may use, and those that it does.
//!
//! ```text
//!   a byte per thread record    7      6    5 .. 0
//!                             +------+----+------------------+
//!                             | ours | 0  | entry is in use  |
//!                             +------+----+------------------+
//! ```
//!
//! The bytes lie in pages that a forked child finds empty, behind the process's place among the
//! peers: its parent's entries are not its own,
//! and it takes records for itself when it needs some. Threads take entries and give them back by
//! one atomic operation each. A record stays the process's until it leaves the heap, for the next
//! object is likely to come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::os::WipeOnFork;
use crate::peers::threads::ENTRIES;
use crate::peers::{LedgerEntry, PLACE_WORDS, THREADS, ThreadRecord, ThreadTable};

const RECORDS_PER_WORD: usize = 8;
const BITS_PER_RECORD: u32 = 8;
const OURS_SHIFT: u32 = 7;
/// The first bit of each byte.
const EACH: u64 = u64::from_ne_bytes([1; RECORDS_PER_WORD]);
/// The bits of the entries in a byte.
const ENTRY_BITS: u64 = (1 << ENTRIES) - 1;
const _: () = assert!((ENTRIES as u32) <= OURS_SHIFT);
const _: () = assert!(THREADS as usize <= 4096, "a page has a byte for each record");
const _: () = assert!(PLACE_WORDS <= 512, "of the two pages, the other is for the place");

/// What this process has of the ledger; see the module's text.
#[derive(Debug)]
pub(super) struct Entries {
    pages: Arc<WipeOnFork>,
}

impl Entries {
    /// Entries in the pages that have the process's place.
    pub(super) fn new(pages: Arc<WipeOnFork>) -> Self {
        Self { pages }
    }

    fn word(&self, number: usize) -> &AtomicU64 {
        self.pages.word(PLACE_WORDS + number)
    }

    /// Takes an entry that is not in use, of the first `used` records.
    pub(super) fn take(&self, threads: ThreadTable, used: u16) -> Option<LedgerEntry> {
        let words = usize::from(used).div_ceil(RECORDS_PER_WORD);
        (0..words).find_map(|number| {
            let bit = self.take_bit(number)?;
            let record = number * RECORDS_PER_WORD + (bit / BITS_PER_RECORD) as usize;
            threads.entry(threads.record(record as u64)?, u64::from(bit % BITS_PER_RECORD))
        })
    }

    fn take_bit(&self, number: usize) -> Option<u32> {
        let free_in = |state: u64| (((state >> OURS_SHIFT) & EACH) * ENTRY_BITS) & !state;
        // Acquire; its partner is the release in `give_back`: the entry's last use is over.
        // Relaxed: what counts is the exchange.
        let before =
            self.word(number).fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| {
                let free = free_in(state);
                (free != 0).then(|| state | 1 << free.trailing_zeros())
            });
        before.ok().map(|state| free_in(state).trailing_zeros())
    }

    /// Adds a record that this process has taken; its first entry is in use at once.
    pub(super) fn add(&self, threads: ThreadTable, record: ThreadRecord) -> LedgerEntry {
        let (number, shift) = place(record);
        // Relaxed: nobody has used the entries, and `take` sees one word in one order.
        self.word(number).fetch_or((1 << OURS_SHIFT | 1) << shift, Ordering::Relaxed);
        threads.first_entry(record)
    }

    /// The entry is not in use any more: it owns nothing.
    pub(super) fn give_back(&self, entry: LedgerEntry) {
        let (number, shift) = place(entry.record());
        let bit = 1 << (shift + u32::from(entry.number()));
        // Release; its partner is the acquire in `take_bit`.
        self.word(number).fetch_and(!bit, Ordering::Release);
    }
}

/// The word of a record, and where its byte is there.
fn place(record: ThreadRecord) -> (usize, u32) {
    let record = usize::from(record.number());
    (record / RECORDS_PER_WORD, (record % RECORDS_PER_WORD) as u32 * BITS_PER_RECORD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{exit_status, fork, in_own_process};
    use crate::units::WordIndex;

    const TABLE: ThreadTable = ThreadTable::new(WordIndex(16), THREADS, WordIndex(0));

    #[test]
    fn entries_are_taken_once_and_come_back() {
        let entries = Entries::new(Arc::new(WipeOnFork::new().unwrap()));
        assert_eq!(entries.take(TABLE, THREADS), None);
        let mut all = vec![];
        for number in [0, 9, 4095] {
            all.push(entries.add(TABLE, TABLE.record(number).unwrap()));
        }
        all.extend(std::iter::from_fn(|| entries.take(TABLE, THREADS)));
        assert_eq!(all.len(), 18);
        assert!(all.iter().enumerate().all(|(n, entry)| !all[..n].contains(entry)));
        for &entry in &all {
            entries.give_back(entry);
            assert_eq!(entries.take(TABLE, THREADS), Some(entry));
        }
        all.iter().for_each(|&entry| entries.give_back(entry));
        assert_eq!(entries.take(TABLE, 8).map(|entry| entry.record().number()), Some(0));
        assert_eq!(entries.take(TABLE, 0), None, "of no record");
    }

    #[test]
    fn a_forked_child_has_none() {
        in_own_process(module_path!(), "a_forked_child_has_none", || {
            let entries = Entries::new(Arc::new(WipeOnFork::new().unwrap()));
            entries.add(TABLE, TABLE.record(3).unwrap());
            let child = fork(|| i32::from(entries.take(TABLE, THREADS).is_some()));
            assert_eq!(exit_status(child), 0);
            assert!(entries.take(TABLE, THREADS).is_some());
        });
    }
}
