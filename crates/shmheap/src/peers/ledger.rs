//! The ledger: who owns an object that is on its way from hand to hand.
//!
//! An object is handed over through a *cell*, a word inside another object. Between its allocation
//! and the cell, and between the cell and its release, it belongs to an entry of a thread record;
//! so whoever adopts a dead process knows what it had in its hands.
//!
//! ```text
//!   entry   word 0   handle | state    handles are multiples of 8, states are below 8
//!           word 1   in states 2, 3, 4 and 6 the cell: its byte offset in the segment;
//!                    in state 7 how the entry's bit is while the entry owns the object
//!
//!   cell    0                          empty
//!           a handle                   the object is there for whoever takes it
//!           mark | record | entry | 1  somebody is in the middle of a hand-over
//! ```
//!
//! A tag in a cell keeps all others out, readers by being read as empty, publishers as occupied.
//! Only the tag's owner replaces it, or who adopts the owner. The steps, each one store:
//!
//! ```text
//!   publish   2 publishing   cell 0 -> tag   3 published   cell tag -> handle   0
//!                                 fails: back to 1 owned
//!   take      4 taking       cell handle -> tag   6 taken   cell tag -> 0   1 owned
//!                                 fails: back to 0
//! ```
//!
//! What a process killed between two of them leaves, and what adoption makes of it:
//!
//! | state | cell has the tag | adoption |
//! |---|---|---|
//! | 1 owned, 5 freeing | | frees the object, if it is live |
//! | 2 publishing | no | frees the object: the cell was not won |
//! | 2 publishing | yes | goes on to 3 |
//! | 3 published | yes | the handle goes into the cell |
//! | 3 published | no | nothing: it had gone there, and may have been taken since |
//! | 4 taking | no | nothing: the cell was not won |
//! | 4 taking | yes | goes on to 6 |
//! | 6 taken | yes, no | the cell becomes empty, the object is freed |
//! | 7 in session | | frees the object, if the bit says that the entry owns it |
//!
//! Every step of an adoption leaves a row of this table again, so that it may be killed as well.
//! States 3 and 6 exist for that: without them a cell without the tag could mean "not won" as well
//! as "done".
//!
//! A cell from which nothing is ever taken need not wait for its publisher: others make its stores
//! from 3 on for it ([`Ledger::hasten`]).
//!
//! # In session
//!
//! Under first fit an object is made or freed for an entry by an operation that others may complete
//! or undo. Were they to store to the entry, one of them, stopped before that store, could do it
//! when the entry serves another object. So it is stored to by its owner alone, and by who adopts
//! it; what the operation changes is a bit that the engine keeps with its records, and that is
//! copied with them. *Before* it announces the operation, the owner says in the entry how the bit
//! is while the object is the entry's. The adopter has the engine settle whatever is under way, and
//! looks at the bit:
//!
//! ```text
//!   alloc   7 with the bit as it will be   ... operation ...   1 owned
//!   free    7 with the bit as it is        ... operation ...   0
//! ```
//!
//! A cell that a dead process names is only believed if it lies in committed object space.

use std::ops::Range;

use super::threads::{LedgerEntry, Reserve, ThreadTable};
use crate::Result;
use crate::segment::format;
use crate::segment::words::Words;
use crate::units::{Offset, PeerSlot, WORD_BYTES, WordIndex};

const STATE_MASK: u64 = 7;
const NONE: u64 = 0;
const OWNED: u64 = 1;
const PUBLISHING: u64 = 2;
const PUBLISHED: u64 = 3;
const TAKING: u64 = 4;
const FREEING: u64 = 5;
const TAKEN: u64 = 6;
const IN_SESSION: u64 = 7;

const TAG: u64 = 1;
const TAG_ENTRY_SHIFT: u32 = 8;
const TAG_RECORD_SHIFT: u32 = 16;
/// "hand" in the upper half, so that the bytes of a text or a number are hardly ever a tag.
pub(crate) const TAG_MARK: u64 = (u32::from_le_bytes(*b"hand") as u64) << 32;

/// How often a cell is looked at that is in the middle of another hand-over each time.
const SETTLING_LOOKS: u32 = 64;

/// The first word of an entry that owns an object.
pub(crate) const fn owned(handle: u64) -> u64 {
    (handle & !STATE_MASK) | OWNED
}

/// What the ledger asks of the engine that keeps the objects.
pub(crate) trait Objects {
    /// Frees the object that the entry owns, if it is live, and clears the entry: both or nothing,
    /// or so that doing it again does no harm.
    fn free_owned(&self, entry: LedgerEntry, handle: u64) -> Result<()>;

    /// The entry's bit, as it stays: whatever was under way is settled.
    fn is_done(&self, entry: LedgerEntry) -> Result<bool>;
}

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Empty,
    /// An object, by its handle.
    Object(u64),
    /// The entry's owner is in the middle of a hand-over.
    Midway(LedgerEntry),
    /// No hand-over has stored this.
    Nonsense(u64),
}

/// How an attempt to take an object from a cell went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taking {
    /// The entry owns the object.
    Taken,
    /// The cell holds something else by now.
    Lost,
    /// The object is not live; it is in the cell as before.
    NotLive,
}

/// The ledger of a heap, in a row of words that reaches over object space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ledger<W> {
    words: W,
    threads: ThreadTable,
}

impl<W: Words> Ledger<W> {
    pub(crate) fn new(words: W, threads: ThreadTable) -> Self {
        Self { words, threads }
    }

    /// What is in the cell.
    pub(crate) fn content(&self, cell: WordIndex) -> Content {
        let word = self.words.load(cell);
        if word == 0 {
            Content::Empty
        } else if word & STATE_MASK == 0 {
            Content::Object(word)
        } else {
            self.entry_of(word).map_or(Content::Nonsense(word), Content::Midway)
        }
    }

    /// The entry owns nothing any more: the object is an ordinary one, or gone.
    pub(crate) fn clear(&self, entry: LedgerEntry) {
        self.set(entry, NONE, 0);
    }

    /// The entry owns the object.
    pub(crate) fn own(&self, entry: LedgerEntry, handle: u64) {
        self.set(entry, OWNED, handle);
    }

    /// The entry owns the object as long as its bit is so; see "In session".
    pub(crate) fn enter(&self, entry: LedgerEntry, handle: u64, owns_while: bool) {
        // Before the state that makes it count. It does not where this comes from, or is the same.
        self.words.store(self.threads.entry_word(entry) + 1, u64::from(owns_while));
        self.set(entry, IN_SESSION, handle);
    }

    /// Puts the object that the entry owns into an empty cell; what was there if it is not empty.
    pub(crate) fn publish(
        &self,
        entry: LedgerEntry,
        handle: u64,
        cell: WordIndex,
    ) -> Result<(), Content> {
        self.set_cell(entry, cell);
        self.set(entry, PUBLISHING, handle);
        if self.words.compare_exchange(cell, 0, tag(entry)).is_err() {
            self.set(entry, OWNED, handle);
            return Err(self.content(cell));
        }
        self.set(entry, PUBLISHED, handle);
        // Release; its partners are the loads of takers, who may use the object from here on.
        self.words.store(cell, handle);
        self.set(entry, NONE, 0);
        Ok(())
    }

    /// Takes the object `handle` from the cell, for the free entry to own. `is_live` is asked while
    /// nobody else can free the object.
    pub(crate) fn take(
        &self,
        entry: LedgerEntry,
        handle: u64,
        cell: WordIndex,
        is_live: impl FnOnce() -> bool,
    ) -> Taking {
        self.set_cell(entry, cell);
        self.set(entry, TAKING, handle);
        if self.words.compare_exchange(cell, handle, tag(entry)).is_err() {
            self.set(entry, NONE, 0);
            return Taking::Lost;
        }
        if !is_live() {
            self.words.store(cell, handle);
            self.set(entry, NONE, 0);
            return Taking::NotLive;
        }
        self.set(entry, TAKEN, handle);
        self.words.store(cell, 0);
        self.set(entry, OWNED, handle);
        Taking::Taken
    }

    /// Brings the publication that the cell is in the middle of to its end, for its owner, who may
    /// be stopped. The cell must be one from which nothing is ever taken: so the owner can do no
    /// harm by storing the same once more.
    pub(crate) fn hasten(&self, cell: WordIndex) {
        let Content::Midway(entry) = self.content(cell) else { return };
        let at = self.threads.entry_word(entry);
        let word = self.words.load(at);
        let is_for_cell = self.words.load(at + 1) == cell.offset().0;
        // As long as the cell has the tag, its owner is in the middle of this, and nothing else.
        if !is_for_cell || self.words.load(cell) != tag(entry) {
            return;
        }
        let handle = word & !STATE_MASK;
        match word & STATE_MASK {
            // The state first: should the owner be killed, its adopter must not free the object.
            PUBLISHING => {
                let _ = self.words.compare_exchange(at, word, handle | PUBLISHED);
            }
            PUBLISHED => {}
            _ => return,
        }
        let _ = self.words.compare_exchange(cell, tag(entry), handle);
    }

    /// What a word means in a copy of the heap that nobody else uses: the word, unless it is the
    /// tag of a hand-over that is under way in that cell, which nobody would end there. Then it is
    /// the object, as if it had been published already or not been taken yet.
    pub(crate) fn settled(&self, cell: WordIndex, word: u64, reserve: Reserve<'_>) -> Result<u64> {
        let mut word = word;
        for _ in 0..SETTLING_LOOKS {
            let Some(entry) = self.entry_of(word) else { return Ok(word) };
            let used = self.threads.used(&self.words);
            if entry.record().number() >= used {
                return Ok(word);
            }
            reserve(used)?;
            let at = self.threads.entry_word(entry);
            let (state, named) = (self.words.load(at), self.words.load(at + 1));
            let now = self.words.load(cell);
            if now == word && self.words.load(at) == state {
                return Ok(match state & STATE_MASK {
                    PUBLISHING | PUBLISHED | TAKING | TAKEN if named == cell.offset().0 => {
                        state & !STATE_MASK
                    }
                    // No tag, but a number of somebody's.
                    _ => word,
                });
            }
            word = now;
        }
        // It passes from hand to hand all the time: between two hands it is empty.
        Ok(0)
    }

    /// Whether the peer owns nothing and is in the middle of nothing.
    pub(crate) fn is_clear(&self, peer: PeerSlot, reserve: Reserve<'_>) -> Result<bool> {
        let mut entries = self.entries_of(peer, reserve)?;
        Ok(entries.all(|entry| self.words.load(self.threads.entry_word(entry)) == 0))
    }

    /// Brings every hand-over that a dead peer was in the middle of to its end, and frees what it
    /// owned. The caller holds the peer's proof of life; `space` is committed object space.
    pub(crate) fn adopt(
        &self,
        peer: PeerSlot,
        reserve: Reserve<'_>,
        space: &Range<Offset>,
        objects: &impl Objects,
    ) -> Result<()> {
        for entry in self.entries_of(peer, reserve)? {
            self.adopt_entry(entry, space, objects)?;
        }
        Ok(())
    }

    fn adopt_entry(
        &self,
        entry: LedgerEntry,
        space: &Range<Offset>,
        objects: &impl Objects,
    ) -> Result<()> {
        let at = self.threads.entry_word(entry);
        let (word, cell, is_tagged) = loop {
            if let Some(seen) = self.look(entry, space) {
                break seen;
            }
        };
        let handle = word & !STATE_MASK;
        match word & STATE_MASK {
            OWNED | FREEING => return objects.free_owned(entry, handle),
            PUBLISHING if !is_tagged => return objects.free_owned(entry, handle),
            PUBLISHING => {
                self.set(entry, PUBLISHED, handle);
                self.replace_tag(entry, cell, handle);
            }
            PUBLISHED => self.replace_tag(entry, cell, handle),
            TAKING if !is_tagged => {}
            TAKING => {
                self.set(entry, TAKEN, handle);
                self.replace_tag(entry, cell, 0);
                return objects.free_owned(entry, handle);
            }
            TAKEN => {
                self.replace_tag(entry, cell, 0);
                return objects.free_owned(entry, handle);
            }
            IN_SESSION => {
                let owns_while = self.words.load(at + 1) != 0;
                if objects.is_done(entry)? == owns_while {
                    return objects.free_owned(entry, handle);
                }
            }
            // Free.
            _ => {}
        }
        if word != 0 {
            self.clear(entry);
        }
        Ok(())
    }

    /// The entry's first word, the cell that it names, and whether that has the entry's tag; `None`
    /// if the entry changed meanwhile.
    fn look(
        &self,
        entry: LedgerEntry,
        space: &Range<Offset>,
    ) -> Option<(u64, Option<WordIndex>, bool)> {
        let at = self.threads.entry_word(entry);
        let word = self.words.load(at);
        // The cell counts in some states only: in the others its object may be gone, with its
        // storage.
        let cell = match word & STATE_MASK {
            PUBLISHING | PUBLISHED | TAKING | TAKEN => cell_in(space, self.words.load(at + 1)),
            _ => None,
        };
        let is_tagged = cell.is_some_and(|cell| self.words.load(cell) == tag(entry));
        // Who hastens a dead one changes the state before the cell.
        (self.words.load(at) == word).then_some((word, cell, is_tagged))
    }

    /// The object that the entry owns at this moment: what would be freed if its process died now.
    /// For those who only look; one that is just changing hands may be missed.
    pub(crate) fn owned_now(
        &self,
        entry: LedgerEntry,
        space: &Range<Offset>,
        is_done: impl FnOnce() -> bool,
    ) -> Option<u64> {
        let (word, _, is_tagged) = self.look(entry, space)?;
        let owns = match word & STATE_MASK {
            OWNED | FREEING | TAKEN => true,
            PUBLISHING => !is_tagged,
            TAKING => is_tagged,
            IN_SESSION => {
                let owns_while = self.words.load(self.threads.entry_word(entry) + 1) != 0;
                is_done() == owns_while
            }
            _ => false,
        };
        owns.then_some(word & !STATE_MASK)
    }

    /// Ends a hand-over in the cell, unless that has been done.
    fn replace_tag(&self, entry: LedgerEntry, cell: Option<WordIndex>, value: u64) {
        if let Some(cell) = cell {
            let _ = self.words.compare_exchange(cell, tag(entry), value);
        }
    }

    fn entries_of(
        &self,
        peer: PeerSlot,
        reserve: Reserve<'_>,
    ) -> Result<impl Iterator<Item = LedgerEntry>> {
        let records = self.threads.of_peer(&self.words, peer, reserve)?;
        Ok(records.flat_map(|record| self.threads.entries(record)))
    }

    fn set(&self, entry: LedgerEntry, state: u64, handle: u64) {
        self.words.store(self.threads.entry_word(entry), handle | state);
    }

    /// Before the state that makes it count.
    fn set_cell(&self, entry: LedgerEntry, cell: WordIndex) {
        self.words.store(self.threads.entry_word(entry) + 1, cell.offset().0);
    }

    fn entry_of(&self, word: u64) -> Option<LedgerEntry> {
        let record = self.threads.record((word & !TAG_MARK) >> TAG_RECORD_SHIFT)?;
        let entry = self.threads.entry(record, word >> TAG_ENTRY_SHIFT & 0xff)?;
        (tag(entry) == word).then_some(entry)
    }
}

/// What stands in a cell while the entry's owner is in the middle of a hand-over.
fn tag(entry: LedgerEntry) -> u64 {
    let record = u64::from(entry.record().number()) << TAG_RECORD_SHIFT;
    TAG_MARK | record | u64::from(entry.number()) << TAG_ENTRY_SHIFT | TAG
}

/// The cell at that offset, if object space has it, or if it is one of the header's.
pub(crate) fn cell_in(space: &Range<Offset>, offset: u64) -> Option<WordIndex> {
    let lies_inside = offset.is_multiple_of(WORD_BYTES)
        && offset >= space.start.0
        && offset.checked_add(WORD_BYTES).is_some_and(|end| end <= space.end.0);
    let is_of_header =
        [format::ROOTS_AT, format::SHARED_AT].map(WordIndex::offset).contains(&Offset(offset));
    (lies_inside || is_of_header).then(|| Offset(offset).word())
}

#[cfg(test)]
mod loom;

#[cfg(test)]
mod tests;
