//! `Log`: every store of an operator to the segment, in order, with the instruction that made it.
//!
//! ```text
//!   board: | counts | entries: instruction, word, old, new | shadow of the whole segment |
//! ```
//!
//! After each instruction the operator compares the watched pages with the shadow, which is then
//! brought up to date. Whoever reads the log goes from the shadow backwards to what stood before
//! the operation; and since the shadow must in the end be what the segment is, he sees it if a
//! store went to a page that was not watched.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail, ensure};

use crate::board::Board;

pub(crate) const PAGE_WORDS: usize = 4096 / 8;
const ENTRY_WORDS: usize = 4;
const ENTRIES_MAX: usize = 1 << 16;
const ENTRIES_AT: usize = 8;
const SHADOW_AT: usize = ENTRIES_AT + ENTRIES_MAX * ENTRY_WORDS;

// Relaxed wherever the board is used: one side writes, and the other has waited for its end.
const ORDER: Ordering = Ordering::Relaxed;

/// A store of one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) instruction: u64,
    pub(crate) word: usize,
    old: u64,
    pub(crate) new: u64,
}

#[derive(Debug)]
pub(crate) struct Log {
    board: Board,
    shadow_words: usize,
}

impl Log {
    /// A log for segments of up to so many words.
    pub(crate) fn new(shadow_words: usize) -> Result<Self> {
        Ok(Self { board: Board::new(SHADOW_AT + shadow_words)?, shadow_words })
    }

    fn count(&self) -> &AtomicU64 {
        &self.board.words()[0]
    }

    fn instructions(&self) -> &AtomicU64 {
        &self.board.words()[1]
    }

    /// How many words the segment had when the log began.
    fn segment_words(&self) -> &AtomicU64 {
        &self.board.words()[2]
    }

    fn shadow(&self) -> &[AtomicU64] {
        &self.board.words()[SHADOW_AT..]
    }

    /// The operator: starts a log of what happens to these words from now on.
    pub(crate) fn begin(&self, segment: &[AtomicU64]) -> Result<()> {
        let (has, needed) = (self.shadow_words, segment.len());
        ensure!(needed <= has, "a log for {has} words, not {needed}");
        self.segment_words().store(needed as u64, ORDER);
        self.count().store(0, ORDER);
        self.instructions().store(0, ORDER);
        for (shadow, word) in self.shadow().iter().zip(segment) {
            let now = word.load(ORDER);
            // Most of both has never been touched, and shall not be.
            if shadow.load(ORDER) != now {
                shadow.store(now, ORDER);
            }
        }
        Ok(())
    }

    /// The operator, in its trap: logs what has changed in the watched ranges of words.
    pub(crate) fn look(&self, segment: &[AtomicU64], watched: &[Range<usize>], instruction: u64) {
        self.instructions().store(instruction, ORDER);
        // What the heap grows by holds no records.
        for range in watched.iter().filter(|range| range.end <= segment.len()) {
            let shadow = &self.shadow()[range.clone()];
            for (index, (word, shadow)) in segment[range.clone()].iter().zip(shadow).enumerate() {
                let (old, new) = (shadow.load(ORDER), word.load(ORDER));
                if old != new {
                    shadow.store(new, ORDER);
                    self.push([instruction, (range.start + index) as u64, old, new]);
                }
            }
        }
    }

    fn push(&self, entry: [u64; ENTRY_WORDS]) {
        let number = self.count().fetch_add(1, ORDER) as usize;
        let words = &self.board.words()[ENTRIES_AT..SHADOW_AT];
        if let Some(row) = words.chunks_exact(ENTRY_WORDS).nth(number) {
            row.iter().zip(entry).for_each(|(word, value)| word.store(value, ORDER));
        }
    }

    /// The reader: what was logged, and how many instructions there were.
    pub(crate) fn read(&self) -> Result<(Vec<Store>, u64)> {
        let count = self.count().load(ORDER) as usize;
        ensure!(count <= ENTRIES_MAX, "{count} stores do not fit the log");
        let words = &self.board.words()[ENTRIES_AT..SHADOW_AT];
        let rows = words.chunks_exact(ENTRY_WORDS).take(count);
        let stores = rows.map(|row| Store {
            instruction: row[0].load(ORDER),
            word: row[1].load(ORDER) as usize,
            old: row[2].load(ORDER),
            new: row[3].load(ORDER),
        });
        Ok((stores.collect(), self.instructions().load(ORDER)))
    }

    /// The reader: the words that are not what the shadow says.
    pub(crate) fn differing(&self, segment: &[AtomicU64]) -> impl Iterator<Item = usize> {
        let len = self.segment_words().load(ORDER) as usize;
        let pairs = segment.iter().zip(&self.shadow()[..len]).enumerate();
        pairs.filter(|(_, (word, shadow))| word.load(ORDER) != shadow.load(ORDER)).map(|(at, _)| at)
    }

    /// The reader: an error unless the watched pages are all that has changed.
    pub(crate) fn assert_complete(&self, segment: &[AtomicU64]) -> Result<()> {
        match self.differing(segment).next() {
            None => Ok(()),
            Some(word) => bail!("a store to byte {:#x} was not seen", word * size_of::<u64>()),
        }
    }

    /// The reader: the words as they were before the first of the stores.
    pub(crate) fn before(&self, stores: &[Store]) -> Vec<u64> {
        let len = self.segment_words().load(ORDER) as usize;
        let mut words: Vec<u64> =
            self.shadow()[..len].iter().map(|word| word.load(ORDER)).collect();
        for store in stores.iter().rev() {
            words[store.word] = store.old;
        }
        words
    }
}

/// Pages as ranges of words, neighbours together.
pub(crate) fn ranges(pages: &BTreeSet<usize>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = vec![];
    for page in pages {
        let words = page * PAGE_WORDS..(page + 1) * PAGE_WORDS;
        match ranges.last_mut() {
            Some(last) if last.end == words.start => last.end = words.end,
            _ => ranges.push(words),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_log_leads_back_to_what_stood_before() {
        let segment = words(2 * PAGE_WORDS);
        segment[3].store(7, ORDER);
        let log = Log::new(segment.len()).unwrap();
        log.begin(&segment).unwrap();
        let watched = ranges(&BTreeSet::from([0]));
        log.look(&segment, &watched, 1);
        segment[3].store(8, ORDER);
        log.look(&segment, &watched, 2);
        segment[3].store(7, ORDER);
        segment[5].store(1, ORDER);
        log.look(&segment, &watched, 3);
        let (stores, instructions) = log.read().unwrap();
        assert_eq!(instructions, 3);
        let seen: Vec<_> = stores.iter().map(|store| (store.instruction, store.word)).collect();
        assert_eq!(seen, [(2, 3), (3, 3), (3, 5)]);
        assert_eq!(log.before(&stores)[..6], [0, 0, 0, 7, 0, 0]);
        log.assert_complete(&segment).unwrap();
        segment[PAGE_WORDS].store(1, ORDER);
        assert!(log.assert_complete(&segment).is_err(), "that page is not watched");
    }

    #[test]
    fn neighbouring_pages_are_one_range() {
        let pages = BTreeSet::from([1, 2, 4]);
        assert_eq!(ranges(&pages), [512..1536, 2048..2560]);
    }
}
