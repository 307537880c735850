//! A word that a process owns for a while: the protocol of the mutex, and of the writers of the
//! read-write lock.
//!
//! ```text
//!   63                 32 31      19    18        17          16     15               0
//!  +---------------------+---------+---------+----------+-----------+------------------+
//!  | joins of the owner  | 0       | pending | orphaned | contended | slot + 1         |
//!  +---------------------+---------+---------+----------+-----------+------------------+
//! ```
//!
//! | owner | orphaned | pending | state | if the owner is killed |
//! |---|---|---|---|---|
//! | none | 0 | 0 | free | |
//! | none | 1 | 0 | free, but the value is in doubt: only who repairs it gets in | |
//! | p | 0 | 0 | p is inside | the value is in doubt |
//! | p | 1 | 0 | p is inside and repairs the value | the value is still in doubt |
//! | p | 0 or 1 | 1 | p keeps others out and is not inside yet | as *orphaned* says |
//!
//! *Contended* says that somebody may sleep on the word. Whoever has slept takes the word with that
//! bit, since others may sleep still.
//!
//! A waiter asks after each sleep whether the owner lives. If not, it makes the word *free* or
//! *free, in doubt* by one exchange of the very word it has looked at. That word names a stay among
//! the peers, which is never the same again, so the exchange cannot hit a later owner. A process
//! killed between its release and the wake costs those who sleep the rest of their sleep.

use super::wait::Waiting;
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Result};

pub(super) const CONTENDED: u64 = 1 << 16;
pub(super) const ORPHANED: u64 = 1 << 17;
const PENDING: u64 = 1 << 18;

/// How often an owner tries to change its own word. Others only add a bit to it, once.
const CHANGES_MAX: u32 = 64;

/// How somebody wants the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// With a value that is sound.
    Sound,
    /// Whatever the value is; who gets it in doubt has to repair it.
    Any,
}

/// What the word's owner may do. Made by acquisitions alone.
#[derive(Debug)]
pub(crate) struct Inside(());

/// The word; see the module's text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owned {
    at: WordIndex,
    what: &'static str,
}

impl Owned {
    /// `what` is the lock that the word stands for.
    #[inline]
    pub(crate) fn new(at: WordIndex, what: &'static str) -> Self {
        Self { at, what }
    }

    /// Waits for the word and takes it; whether the value is in doubt.
    #[inline]
    pub(crate) fn acquire(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        want: Want,
        waiting: &mut Waiting,
    ) -> Result<(bool, Inside)> {
        if self.try_acquire(words, me) {
            return Ok((false, Inside(())));
        }
        let word = self.take(words, roll, me, want, waiting)?;
        Ok((word & ORPHANED != 0, Inside(())))
    }

    /// Takes the word if it is nobody's, and its value sound; whether it was.
    #[inline]
    pub(crate) fn try_acquire(&self, words: &impl Words, me: PeerId) -> bool {
        words.compare_exchange(self.at, 0, me.word()).is_ok()
    }

    /// As [`acquire`](Self::acquire), but not inside before [`enter`](Self::enter) says so.
    pub(super) fn reserve(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        want: Want,
        waiting: &mut Waiting,
    ) -> Result<bool> {
        if words.compare_exchange(self.at, 0, me.word() | PENDING).is_ok() {
            return Ok(false);
        }
        let word = self.take_with(words, roll, me, want, waiting, PENDING)?;
        Ok(word & ORPHANED != 0)
    }

    /// Who has reserved the word is inside.
    pub(super) fn enter(&self, words: &impl Words, me: PeerId) -> Inside {
        self.change(words, me, |word| word & !PENDING);
        Inside(())
    }

    /// Who has reserved the word gives it up.
    pub(super) fn give_up(&self, words: &impl Words, me: PeerId) {
        self.leave(words, me, |word| word & ORPHANED);
    }

    #[cold]
    fn take(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        want: Want,
        waiting: &mut Waiting,
    ) -> Result<u64> {
        self.take_with(words, roll, me, want, waiting, 0)
    }

    fn take_with(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        want: Want,
        waiting: &mut Waiting,
        how: u64,
    ) -> Result<u64> {
        // Whoever has slept must assume that others still do.
        let mut contended = 0;
        loop {
            let (word, slept) = self.wait_until_free(words, roll, me, waiting)?;
            if slept {
                contended = CONTENDED;
            }
            self.judge(word, want)?;
            let taken = me.word() | word & (ORPHANED | CONTENDED) | contended | how;
            if words.compare_exchange(self.at, word, taken).is_ok() {
                return Ok(taken);
            }
            waiting.lost()?;
        }
    }

    fn judge(&self, word: u64, want: Want) -> Result<()> {
        match want {
            Want::Sound if word & ORPHANED != 0 => Err(Error::OwnerDied { what: self.what }),
            _ => Ok(()),
        }
    }

    /// Waits until nobody has the word and its value is sound.
    pub(super) fn wait_until_sound(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        waiting: &mut Waiting,
    ) -> Result<()> {
        let (word, _) = self.wait_until_free(words, roll, me, waiting)?;
        self.judge(word, Want::Sound)
    }

    /// Whether nobody has the word and its value is sound, at this moment.
    #[inline]
    pub(super) fn is_sound(&self, words: &impl Words) -> bool {
        let word = words.load(self.at);
        PeerId::of_word(word).is_none() && word & ORPHANED == 0
    }

    /// Whether the word is that of somebody dead, or its value in doubt.
    pub(crate) fn is_abandoned(&self, words: &impl Words, roll: &impl Roll) -> bool {
        let word = words.load(self.at);
        match PeerId::of_word(word) {
            Some(owner) => !roll.is_alive(owner),
            None => word & ORPHANED != 0,
        }
    }

    /// Waits until nobody has the word; what it is then, and whether that took a sleep.
    fn wait_until_free(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        waiting: &mut Waiting,
    ) -> Result<(u64, bool)> {
        let mut slept = false;
        loop {
            let word = words.load(self.at);
            let Some(owner) = PeerId::of_word(word) else { return Ok((word, slept)) };
            if waiting.spin() {
                continue;
            }
            // This process has other threads: one of them may be inside.
            if owner != me && !roll.is_alive(owner) {
                self.inherit(words, word);
                waiting.lost()?;
                continue;
            }
            let waited = word | CONTENDED;
            if waited != word && words.compare_exchange(self.at, word, waited).is_err() {
                waiting.lost()?;
                continue;
            }
            waiting.sleep(words, self.at, waited)?;
            slept = true;
        }
    }

    /// Takes the word from a dead owner; nobody has it then.
    fn inherit(&self, words: &impl Words, word: u64) {
        let left = if word & PENDING != 0 { word & ORPHANED } else { ORPHANED };
        if words.compare_exchange(self.at, word, left).is_ok() && word & CONTENDED != 0 {
            words.wake_all(self.at);
        }
    }

    /// The value has been repaired; whether the word is this process's.
    pub(super) fn set_sound(&self, words: &impl Words, me: PeerId) -> bool {
        self.change(words, me, |word| word & !ORPHANED).is_some()
    }

    /// Gives the word up with the value as it is, sound or in doubt, if the word is this process's;
    /// whether it was.
    pub(super) fn unlock(&self, words: &impl Words, me: PeerId) -> bool {
        let before = self.change(words, me, |word| word & ORPHANED);
        if before.is_some_and(|word| word & CONTENDED != 0) {
            words.wake_all(self.at);
        }
        before.is_some()
    }

    /// Gives the word up with a value that is sound, and wakes one who sleeps.
    #[inline]
    pub(crate) fn release(&self, words: &impl Words, me: PeerId) {
        if words.compare_exchange(self.at, me.word(), 0).is_err()
            && self.change(words, me, |_| 0).is_some_and(|word| word & CONTENDED != 0)
        {
            words.wake(self.at);
        }
    }

    /// As [`release`](Self::release), and wakes all.
    #[inline]
    pub(super) fn release_to_all(&self, words: &impl Words, me: PeerId) {
        if words.compare_exchange(self.at, me.word(), 0).is_err() {
            self.leave(words, me, |_| 0);
        }
    }

    /// Gives the word up with a value that is in doubt.
    #[cold]
    pub(crate) fn orphan(&self, words: &impl Words, me: PeerId) {
        self.leave(words, me, |_| ORPHANED);
    }

    fn leave(&self, words: &impl Words, me: PeerId, to: impl Fn(u64) -> u64) {
        if self.change(words, me, to).is_some_and(|word| word & CONTENDED != 0) {
            words.wake_all(self.at);
        }
    }

    /// Changes the word, if it is this process's, and returns what it was.
    fn change(&self, words: &impl Words, me: PeerId, to: impl Fn(u64) -> u64) -> Option<u64> {
        for _ in 0..CHANGES_MAX {
            let word = words.load(self.at);
            if PeerId::of_word(word) != Some(me) {
                return None;
            }
            if words.compare_exchange(self.at, word, to(word)).is_ok() {
                return Some(word);
            }
        }
        None
    }
}
