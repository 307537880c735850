//! The table of those who read: who they are, so that none can die unnoticed.
//!
//! ```text
//!   63                 32 31              17     16      15               0
//!  +---------------------+-----------------+-----------+------------------+
//!  | joins of the reader | how many times  | contended | slot + 1         |     0: nobody's
//!  +---------------------+-----------------+-----------+------------------+
//! ```
//!
//! An entry is a process and how often it reads, by as many threads. It is changed by its process,
//! but for the bit *contended*, which says that somebody sleeps on the entry until it is free, and
//! for its end when the process is dead: whoever finds that clears it, since who only reads leaves
//! no harm.
//!
//! Who finds no entry sleeps on one of them, and looks at all when that is free or after a while.
//!
//! A reader enters, then looks whether a writer keeps it out. A writer keeps readers out, then
//! looks at the entries. Both change a word by an exchange before they look, so one of them sees
//! the other.

use super::wait::Waiting;
use crate::Result;
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::WordIndex;

/// How many processes read at once.
pub(super) const ENTRIES: u64 = 14;

const CONTENDED: u64 = 1 << 16;
const ONCE: u64 = 1 << 17;
const COUNT_MASK: u64 = 0xfffe_0000;
/// How often a reader tries to change its own entry: as often as its threads come and go meanwhile.
const CHANGES_MAX: u32 = 1 << 20;

/// What a reader may do. Made by [`Readers::enter`] alone.
#[derive(Debug)]
pub(super) struct Among {
    entry: WordIndex,
}

/// The table; see the module's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Readers {
    first: WordIndex,
    entries: u64,
}

impl Readers {
    #[inline]
    pub(super) fn new(first: WordIndex) -> Self {
        Self { first, entries: ENTRIES }
    }

    /// A table of another size.
    #[cfg(test)]
    pub(super) fn of(first: WordIndex, entries: u64) -> Self {
        Self { first, entries }
    }

    /// Waits for an entry and enters.
    #[inline]
    pub(super) fn enter(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        waiting: &mut Waiting,
    ) -> Result<Among> {
        loop {
            let Some((entry, word)) = self.find(words, me) else {
                self.wait_for_room(words, roll, me, waiting)?;
                continue;
            };
            let entered = if word == 0 { me.word() | ONCE } else { word + ONCE };
            if words.compare_exchange(entry, word, entered).is_ok() {
                return Ok(Among { entry });
            }
            waiting.lost()?;
        }
    }

    /// The entry of this process if it has one that can count once more, else one that is free.
    #[inline]
    fn find(&self, words: &impl Words, me: PeerId) -> Option<(WordIndex, u64)> {
        let mut free = None;
        for number in 0..self.entries {
            let entry = self.entry(me, number);
            match words.load(entry) {
                0 => free = free.or(Some((entry, 0))),
                word if PeerId::of_word(word) == Some(me) && word & COUNT_MASK != COUNT_MASK => {
                    return Some((entry, word));
                }
                _ => {}
            }
        }
        free
    }

    /// The entries, from another one on for each process.
    #[inline]
    fn entry(&self, me: PeerId, number: u64) -> WordIndex {
        self.first + (me.word() + number) % self.entries
    }

    fn wait_for_room(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        waiting: &mut Waiting,
    ) -> Result<()> {
        if waiting.spin() {
            return Ok(());
        }
        let mut found = false;
        for number in 0..self.entries {
            let entry = self.entry(me, number);
            let word = words.load(entry);
            found |= self.is_over(words, roll, me, entry, word);
        }
        if found {
            return waiting.lost();
        }
        let entry = self.entry(me, 0);
        self.sleep(words, entry, words.load(entry), waiting)
    }

    /// Whether the entry is free, now that the dead leave it.
    fn is_over(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        entry: WordIndex,
        word: u64,
    ) -> bool {
        match PeerId::of_word(word) {
            Some(reader) if reader == me || roll.is_alive(reader) => return false,
            _ if word == 0 => return true,
            _ => {}
        }
        // Of the dead, or made by no reader at all.
        if words.compare_exchange(entry, word, 0).is_ok() && word & CONTENDED != 0 {
            words.wake_all(entry);
        }
        true
    }

    fn sleep(
        &self,
        words: &impl Words,
        entry: WordIndex,
        word: u64,
        waiting: &mut Waiting,
    ) -> Result<()> {
        let waited = word | CONTENDED;
        if word == 0 || waited != word && words.compare_exchange(entry, word, waited).is_err() {
            return waiting.lost();
        }
        waiting.sleep(words, entry, waited)
    }

    /// Waits until nobody reads; the caller keeps others from entering for long.
    #[inline]
    pub(super) fn drain(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        waiting: &mut Waiting,
    ) -> Result<()> {
        for number in 0..self.entries {
            let entry = self.first + number;
            loop {
                let word = words.load(entry);
                if word == 0 {
                    break;
                }
                if waiting.spin() {
                    continue;
                }
                if self.is_over(words, roll, me, entry, word) {
                    waiting.lost()?;
                    continue;
                }
                self.sleep(words, entry, word, waiting)?;
            }
        }
        Ok(())
    }

    /// Who reads leaves, and wakes those who wait for that.
    #[inline]
    pub(super) fn leave(&self, words: &impl Words, me: PeerId, among: &Among) {
        let entry = among.entry;
        if words.compare_exchange(entry, me.word() | ONCE, 0).is_ok() {
            return;
        }
        for _ in 0..CHANGES_MAX {
            let word = words.load(entry);
            if PeerId::of_word(word) != Some(me) {
                return;
            }
            let is_last = word & COUNT_MASK <= ONCE;
            let left = if is_last { 0 } else { word - ONCE };
            if words.compare_exchange(entry, word, left).is_ok() {
                if is_last && word & CONTENDED != 0 {
                    words.wake_all(entry);
                }
                return;
            }
        }
    }
}
