//! Exact, address-ordered first fit: every object gets the lowest address that holds it.
//!
//! ```text
//!   object space   |####|  |######|      |##|                       |   # live
//!   starts          ^    ^  ^      ^      ^  ^                          a bit per granule
//!   frees                ^         ^         ^                          a bit per granule
//!   maxima          [    6     |      24     ]   the longest free block per 64 granules,
//!                   [          24            ]   in a tree of eight children to a node
//! ```
//!
//! All records are out of line: objects cannot overrun them, and hostile bytes in them give a wrong
//! place inside the heap or an error, never a fault. Two records are the truth, `starts` and
//! `frees`; `maxima` and the summaries of `starts` are derived, and the counters are kept beside.
//!
//! One operation: take the lock, find the place, announce it in the journal, change the bits, the
//! tree and the counters, release. A process killed anywhere in this is noticed by the next that
//! wants the lock; it undoes or completes the announced operation and goes on.
//!
//! An object may be made for an entry of the ledger (`peers::ledger`) to own, and is then freed by
//! it: the entry changes within the operation, so that a kill leaves both done or neither.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | where the records lie |
//! | `starts`, `maxima` | the two indices |
//! | `lock`, `journal` | who changes the heap, and what they are about to do |
//! | `session` | the operations, possible only with the lock in hand |
//! | `recover` | what the next process does for a dead one |
//! | `audit` | every invariant above, checked |
//!
//! Nothing here is `unsafe`, allocates, blocks but in the lock, or knows about addresses: positions
//! are granules, and memory is a row of [`Words`].

mod audit;
mod journal;
pub(crate) mod layout;
mod lock;
mod maxima;
mod recover;
mod session;
mod starts;

use crate::error::NotLive;
use crate::peers::{LedgerEntry, ThreadTable};
pub(crate) use crate::segment::fault::Fault;
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};
pub(crate) use audit::Audit;
use journal::Journal;
pub(crate) use journal::{Counters, JOURNAL_WORDS};
use layout::{Layout, Position};
use lock::Lock;
use maxima::Maxima;
pub(crate) use session::Session;
use starts::Starts;

/// Where the words lie that the engine keeps in the segment's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderWords {
    pub(crate) lock: WordIndex,
    /// [`JOURNAL_WORDS`] words.
    pub(crate) journal: WordIndex,
    /// Live objects, then live granules.
    pub(crate) counters: WordIndex,
    /// The heap's length in bytes.
    pub(crate) length: WordIndex,
}

/// What the engine asks of the process that runs it.
pub(crate) trait Surroundings {
    /// Whether the peer is certainly dead; `false` if in doubt.
    fn is_dead(&self, peer: PeerSlot) -> bool;

    /// Makes sure that the records of the first `granules` granules have storage, before the
    /// engine touches them on another process's word.
    fn ensure_storage(&self, granules: u64) -> Result<(), Fault>;

    /// Makes sure that an entry of the ledger has storage that another process named.
    fn ensure_entry(&self, entry: LedgerEntry) -> Result<(), Fault>;
}

/// The engine of one heap: private constants that say where everything is.
#[derive(Debug, Clone)]
pub(crate) struct FirstFit {
    lock: Lock,
    journal: Journal,
    starts: Starts,
    maxima: Maxima,
    threads: ThreadTable,
    counters: WordIndex,
    length: WordIndex,
    /// A granule is two to this power bytes.
    granule_shift: u32,
    granules_max: u64,
}

/// What starts at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockState {
    /// An object of so many granules.
    Live(u64),
    /// A free block of so many granules.
    Free(u64),
    /// No block starts there.
    Inside,
}

impl FirstFit {
    pub(crate) fn new(
        layout: &Layout,
        header: HeaderWords,
        threads: ThreadTable,
        granule_bytes: u64,
    ) -> Self {
        Self {
            lock: Lock::new(header.lock),
            journal: Journal::new(header.journal, threads),
            starts: Starts::new(layout),
            maxima: Maxima::new(layout),
            threads,
            counters: header.counters,
            length: header.length,
            granule_shift: granule_bytes.trailing_zeros(),
            granules_max: layout.granules_max,
        }
    }

    /// Makes the zeroed records those of an empty heap of `granules` granules.
    pub(crate) fn format(&self, words: &impl Words, granules: u64) {
        self.store_end(words, Position(granules));
        self.starts.set_start(words, Position(0));
        self.starts.set_free(words, Position(0));
        self.maxima.admit(words, Position(0).region(), granules);
    }

    /// The end of object space now. Hostile lengths are cut to what the records are made for.
    #[inline]
    pub(crate) fn end(&self, words: &impl Words) -> Position {
        Position((words.load(self.length) >> self.granule_shift).min(self.granules_max))
    }

    fn store_end(&self, words: &impl Words, end: Position) {
        words.store(self.length, end.0 << self.granule_shift);
    }

    /// The counters; exact when the heap stands still.
    pub(crate) fn counters(&self, words: &impl Words) -> Counters {
        Counters { objects: words.load(self.counters), granules: words.load(self.counters + 1) }
    }

    #[inline]
    fn store_counters(&self, words: &impl Words, counters: Counters) {
        words.store(self.counters, counters.objects);
        words.store(self.counters + 1, counters.granules);
    }

    /// The longest free block in granules; exact when the heap stands still.
    pub(crate) fn longest_free(&self, words: &impl Words) -> u64 {
        self.maxima.root(words).min(self.end(words).0)
    }

    /// How many operations the lock has seen.
    pub(crate) fn operations(&self, words: &impl Words) -> u64 {
        self.lock.session(words)
    }

    /// Who holds the heap's lock.
    pub(crate) fn lock_holder(&self, words: &impl Words) -> Option<PeerSlot> {
        self.lock.holder(words)
    }

    /// Whether a live object starts here: two loads, no lock. It is certain for an object that the
    /// caller may use, since nobody frees that meanwhile.
    #[inline]
    pub(crate) fn expect_live(
        &self,
        words: &impl Words,
        at: Position,
        end: Position,
    ) -> Result<(), Fault> {
        if at >= end {
            return Err(Fault::NotLive(NotLive::Foreign));
        }
        if !self.starts.is_start(words, at) {
            return Err(Fault::NotLive(NotLive::NoObject));
        }
        if self.starts.is_free(words, at) {
            return Err(Fault::NotLive(NotLive::Freed));
        }
        Ok(())
    }

    /// The block that starts here, without a lock.
    pub(crate) fn block(&self, words: &impl Words, at: Position, end: Position) -> BlockState {
        if at >= end || !self.starts.is_start(words, at) {
            return BlockState::Inside;
        }
        let granules = self.starts.next(words, at, end) - at;
        if self.starts.is_free(words, at) {
            BlockState::Free(granules)
        } else {
            BlockState::Live(granules)
        }
    }

    /// The first block boundary behind `at`, or `end`.
    pub(crate) fn next_start(&self, words: &impl Words, at: Position, end: Position) -> Position {
        self.starts.next(words, at, end)
    }
}

#[cfg(test)]
mod tests;
