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
//! wants the lock; it undoes or completes the announced operation and goes on. One that is stopped
//! is robbed: the others copy the records to another *area*, do the same there, and go on in that.
//!
//! An object may be made for an entry of the ledger (`peers::ledger`) to own, and is then freed by
//! it: a bit of the entry changes within the operation, so that a kill leaves both done or neither.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | where the records lie |
//! | `starts`, `maxima` | the two indices |
//! | `areas` | where readers look, and who is still in an area that was stolen |
//! | `lock`, `journal` | who changes the heap, and what they are about to do |
//! | `session` | the lock in hand, and how an operation is done once |
//! | `operations` | what is possible with it |
//! | `theft` | the lock taken from who keeps others waiting |
//! | `recover` | what the next process does for a dead or a robbed one |
//! | `copy` | the records in another heap |
//! | `audit` | every invariant above, checked |
//!
//! Nothing here is `unsafe`, allocates, blocks but in the lock, or knows about addresses: positions
//! are granules, and memory is a row of [`Words`].

mod areas;
mod audit;
mod copy;
mod journal;
pub(crate) mod layout;
mod lock;
mod maxima;
mod operations;
mod recover;
mod session;
mod starts;
mod theft;

use crate::error::NotLive;
use crate::peers::{LedgerEntry, ThreadTable};
pub(crate) use crate::segment::fault::Fault;
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};
use areas::{Current, InArea, Pins};
pub(crate) use audit::Audit;
pub(crate) use journal::Counters;
use journal::Journal;
use layout::{Area, COUNTERS, DONE, JOURNAL, LENGTH, Layout, Position};
use lock::Lock;
pub(crate) use lock::LockWord;
use maxima::Maxima;
pub(crate) use session::Operator;
use starts::Starts;

/// Where the words lie that the engine keeps in the segment's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderWords {
    pub(crate) lock: WordIndex,
    pub(crate) current: WordIndex,
    /// A word per area.
    pub(crate) pins: WordIndex,
    /// The heap's length in bytes, at least. What is exact is in the area that holds the truth.
    pub(crate) length: WordIndex,
}

/// What the engine asks of the process that runs it.
pub(crate) trait Surroundings {
    /// Whether the peer is certainly dead; `false` if in doubt.
    fn is_dead(&self, peer: PeerSlot) -> bool;

    /// Makes sure that the head of the area has storage.
    fn ensure_head(&self, area: Area) -> Result<(), Fault>;

    /// Makes sure that the heap's first `granules` granules exist, and that the area's records of
    /// them have storage, before the engine touches them on another process's word.
    fn ensure_storage(&self, area: Area, granules: u64) -> Result<(), Fault>;

    /// Whether this process knows that already. Quick.
    fn has_storage(&self, area: Area, granules: u64) -> bool;

    /// Gives storage to the area's records of the first `granules` granules, of a heap that is not
    /// that long yet.
    fn ensure_records(&self, area: Area, granules: u64) -> Result<(), Fault>;

    /// Is told when the lock was taken from a holder that lives.
    fn has_robbed(&self, holder: PeerSlot) {
        let _ = holder;
    }
}

/// The engine of one heap: private constants that say where everything is.
#[derive(Debug, Clone)]
pub(crate) struct FirstFit {
    lock: Lock,
    current: Current,
    pins: Pins,
    journal: Journal,
    starts: Starts,
    maxima: Maxima,
    threads: ThreadTable,
    layout: Layout,
    /// The header's word.
    length: WordIndex,
    /// A granule is two to this power bytes.
    granule_shift: u32,
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

/// What a state of the lock says of the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Quiet,
    ToRecover,
    AtWork,
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
            current: Current::new(header.current),
            pins: Pins::new(header.pins),
            journal: Journal::new(layout.head + JOURNAL, threads),
            starts: Starts::new(layout),
            maxima: Maxima::new(layout),
            threads,
            layout: layout.clone(),
            length: header.length,
            granule_shift: granule_bytes.trailing_zeros(),
        }
    }

    /// Where everything lies.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes the zeroed records those of an empty heap of `granules` granules.
    pub(crate) fn format(&self, words: &impl Words, granules: u64) {
        // Zeros in the lock's word and in `current` mean area 0.
        self.store_end(words, Position(granules));
        self.raise_length(words, Position(granules));
        self.starts.set_start(words, Position(0));
        self.starts.set_free(words, Position(0));
        self.maxima.admit(words, Position(0).region(), granules);
    }

    /// The area for readers without the lock; to be asked anew for each look at the records.
    #[inline]
    pub(crate) fn current(&self, words: &impl Words) -> Area {
        self.current.area(words)
    }

    #[inline]
    fn in_area<W: Words>(&self, words: W, area: Area) -> InArea<W> {
        InArea::new(words, self.layout.displacement(area))
    }

    /// The end of object space, as the area has it. Hostile lengths are cut to what the records are
    /// made for.
    #[inline]
    pub(crate) fn end(&self, words: &impl Words, area: Area) -> Position {
        self.end_in(&self.in_area(words, area))
    }

    #[inline]
    fn end_in(&self, area: &impl Words) -> Position {
        let bytes = area.load(self.layout.head + LENGTH);
        Position((bytes >> self.granule_shift).min(self.layout.granules_max))
    }

    fn store_end(&self, area: &impl Words, end: Position) {
        area.store(self.layout.head + LENGTH, end.0 << self.granule_shift);
    }

    /// Brings the header's length up to an end that object space has come to.
    fn raise_length(&self, words: &impl Words, end: Position) {
        let bytes = end.0 << self.granule_shift;
        let mut found = words.load(self.length);
        while found < bytes {
            match words.compare_exchange(self.length, found, bytes) {
                Err(other) if other != found => found = other,
                _ => return,
            }
        }
    }

    /// The counters; exact when the heap stands still.
    pub(crate) fn counters(&self, words: &impl Words, area: Area) -> Counters {
        self.counters_in(&self.in_area(words, area))
    }

    #[inline]
    fn counters_in(&self, area: &impl Words) -> Counters {
        let at = self.layout.head + COUNTERS;
        Counters { objects: area.load(at), granules: area.load(at + 1) }
    }

    #[inline]
    fn store_counters(&self, area: &impl Words, counters: Counters) {
        let at = self.layout.head + COUNTERS;
        area.store(at, counters.objects);
        area.store(at + 1, counters.granules);
    }

    /// The bit that tells of an entry whether its last operation is done.
    fn is_done(&self, area: &impl Words, entry: LedgerEntry) -> bool {
        let (at, bit) = self.done_at(entry);
        area.load(at) & bit != 0
    }

    /// The same for those who only look, and may look while an operation changes it.
    pub(crate) fn seems_done(&self, words: &impl Words, area: Area, entry: LedgerEntry) -> bool {
        self.is_done(&self.in_area(words, area), entry)
    }

    fn set_done(&self, area: &impl Words, entry: LedgerEntry, done: bool) {
        let (at, bit) = self.done_at(entry);
        let others = area.load(at) & !bit;
        area.store(at, others | if done { bit } else { 0 });
    }

    fn done_at(&self, entry: LedgerEntry) -> (WordIndex, u64) {
        let number = self.threads.entry_number(entry);
        let bits = u64::from(u64::BITS);
        (self.layout.head + DONE + number / bits, 1 << (number % bits))
    }

    /// The longest free block in granules; exact when the heap stands still.
    pub(crate) fn longest_free(&self, words: &impl Words, area: Area) -> u64 {
        let area = self.in_area(words, area);
        self.maxima.root(&area).min(self.end_in(&area).0)
    }

    /// How many operations the lock has seen.
    pub(crate) fn operations(&self, words: &impl Words) -> u64 {
        self.lock.load(words).session()
    }

    /// Who holds the heap's lock.
    pub(crate) fn lock_holder(&self, words: &impl Words) -> Option<PeerSlot> {
        let word = self.lock.load(words);
        if word.is_abandoned() { None } else { word.holder() }
    }

    /// The lock's state: it does not come back once something has changed.
    pub(crate) fn state(&self, words: &impl Words) -> LockWord {
        self.lock.load(words).acquisition()
    }

    /// Whether nobody is inside; or only somebody dead, and then there is something to recover.
    pub(crate) fn rest(&self, state: LockWord, is_dead: impl Fn(PeerSlot) -> bool) -> Rest {
        match state.holder() {
            None => Rest::Quiet,
            Some(holder) if state.is_abandoned() || is_dead(holder) => Rest::ToRecover,
            Some(_) => Rest::AtWork,
        }
    }

    /// Whether a live object starts here: two loads, no lock. It is certain for an object that the
    /// caller may use, since nobody frees that meanwhile.
    #[inline]
    pub(crate) fn expect_live(
        &self,
        words: &impl Words,
        area: Area,
        at: Position,
        end: Position,
    ) -> Result<(), Fault> {
        self.expect_live_in(&self.in_area(words, area), at, end)
    }

    #[inline]
    fn expect_live_in(&self, words: &impl Words, at: Position, end: Position) -> Result<(), Fault> {
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
    pub(crate) fn block(
        &self,
        words: &impl Words,
        area: Area,
        at: Position,
        end: Position,
    ) -> BlockState {
        let area = self.in_area(words, area);
        if at >= end || !self.starts.is_start(&area, at) {
            return BlockState::Inside;
        }
        let granules = self.starts.next(&area, at, end) - at;
        if self.starts.is_free(&area, at) {
            BlockState::Free(granules)
        } else {
            BlockState::Live(granules)
        }
    }

    /// The first block boundary behind `at`, or `end`.
    pub(crate) fn next_start(
        &self,
        words: &impl Words,
        area: Area,
        at: Position,
        end: Position,
    ) -> Position {
        self.starts.next(&self.in_area(words, area), at, end)
    }
}

#[cfg(test)]
mod tests;
