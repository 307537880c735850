//! The lock of a first-fit heap: one word that says who holds it, and that a killed holder does
//! not keep.
//!
//! ```text
//!   63                        25   24         17   16          15            0
//!  +----------------------------+--------------+------------+---------------+
//!  |  session                   |  takeovers   | contended  |  holder + 1   |
//!  +----------------------------+--------------+------------+---------------+
//! ```
//!
//! | holder | contended | state |
//! |---|---|---|
//! | 0 | 0 | free |
//! | s + 1 | 0 | peer s is inside, nobody sleeps |
//! | s + 1 | 1 | peer s is inside, somebody may sleep on the word |
//! | 65535 | | nobody is inside, and what its session has announced is to be recovered |
//!
//! `session` counts acquisitions: it names the one operation that its holder may announce in the
//! journal, and that is done by the exchange that frees the lock. Whoever takes the lock over from
//! the dead is in the same session, until what was announced in it is recovered. `takeovers` counts
//! these, round and round. By both no state of the word comes back while it matters: a process that
//! decided on an old state fails its compare-and-exchange.
//!
//! No kernel lock stands behind it. A waiter that has spun for a while asks for the holder's proof
//! of life; if that is gone, the holder has stopped executing for good, and the waiter takes the
//! lock over in one exchange and recovers by the journal. Sleepers wake by themselves after a
//! while, so a holder that dies between releasing and waking costs a delay, not a hang. A stopped
//! holder is alive and makes the others wait.

use std::hint;
use std::time::Duration;

use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};

const HOLDER_MASK: u64 = 0xffff;
const CONTENDED: u64 = 1 << 16;
const TAKEOVER: u64 = 1 << 17;
const SESSION_SHIFT: u32 = 25;
const SESSION: u64 = 1 << SESSION_SHIFT;
const TAKEOVERS_MASK: u64 = SESSION - TAKEOVER;
/// Stands for the number of a holder that is no more and has left something to recover.
const ABANDONED: u64 = HOLDER_MASK;
/// How often a waiter looks again before it asks for proof of life and sleeps: some microseconds.
const SPIN_COUNT: u32 = 200;
const SLEEP_MIN: Duration = Duration::from_millis(1);
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// The lock of one heap.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    at: WordIndex,
}

fn holder(word: u64) -> Option<PeerSlot> {
    let number = (word & HOLDER_MASK) as u16;
    number.checked_sub(1).map(PeerSlot)
}

fn is_abandoned(word: u64) -> bool {
    word & HOLDER_MASK == ABANDONED
}

/// The state in which `me` holds the lock, in the session after that of `word`.
fn held_by(me: PeerSlot, word: u64, contended: u64) -> u64 {
    let (session, takeovers) = (word >> SESSION_SHIFT, word & TAKEOVERS_MASK);
    session.wrapping_add(1) << SESSION_SHIFT | takeovers | contended | (u64::from(me.0) + 1)
}

/// The state in which `me` has taken the lock over, in the session of `word`.
fn taken_over_by(me: PeerSlot, word: u64) -> u64 {
    let takeovers = word.wrapping_add(TAKEOVER) & TAKEOVERS_MASK;
    word & !(SESSION - 1) | takeovers | CONTENDED | (u64::from(me.0) + 1)
}

/// How the lock was acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acquired {
    /// Nobody has left anything.
    Free,
    /// What the session has announced is to be recovered.
    TakenOver,
}

impl Lock {
    pub(super) fn new(at: WordIndex) -> Self {
        Self { at }
    }

    /// Who holds the lock.
    pub(super) fn holder(&self, words: &impl Words) -> Option<PeerSlot> {
        holder(words.load(self.at))
    }

    /// The session of whoever holds the lock; of an acquisition that is over, if it is free.
    pub(super) fn session(&self, words: &impl Words) -> u64 {
        words.load(self.at) >> SESSION_SHIFT
    }

    /// Takes the lock, from nobody or from the dead, waiting while a live peer has it.
    #[inline]
    pub(super) fn acquire(
        &self,
        words: &impl Words,
        me: PeerSlot,
        is_dead: &impl Fn(PeerSlot) -> bool,
    ) -> Acquired {
        let word = words.load(self.at);
        if holder(word).is_some() || !self.exchange(words, word, held_by(me, word, 0)) {
            return self.acquire_contended(words, me, is_dead);
        }
        Acquired::Free
    }

    #[cold]
    fn acquire_contended(
        &self,
        words: &impl Words,
        me: PeerSlot,
        is_dead: &impl Fn(PeerSlot) -> bool,
    ) -> Acquired {
        let mut spins = 0;
        let mut sleep = SLEEP_MIN;
        // Whoever has slept must assume that others still do.
        let mut contended = 0;
        loop {
            let word = words.load(self.at);
            match holder(word) {
                None => {
                    if self.exchange(words, word, held_by(me, word, contended)) {
                        return Acquired::Free;
                    }
                }
                Some(_) if is_abandoned(word) => {
                    if self.exchange(words, word, taken_over_by(me, word)) {
                        return Acquired::TakenOver;
                    }
                }
                Some(_) if spins < SPIN_COUNT => {
                    spins += 1;
                    hint::spin_loop();
                }
                Some(peer) if is_dead(peer) => {
                    if self.exchange(words, word, taken_over_by(me, word)) {
                        return Acquired::TakenOver;
                    }
                }
                Some(_) => {
                    let waited = word | CONTENDED;
                    if waited == word || self.exchange(words, word, waited) {
                        contended = CONTENDED;
                        words.wait(self.at, waited, sleep);
                        sleep = SLEEP_MAX.min(sleep * 2);
                    }
                }
            }
        }
    }

    /// Takes the lock from a dead process that held it as peer `slot`. The caller has the slot's
    /// proof of life in hand, so whoever held the lock under that number is no more.
    pub(super) fn take_over(&self, words: &impl Words, slot: PeerSlot) -> bool {
        let word = words.load(self.at);
        holder(word) == Some(slot) && self.exchange(words, word, taken_over_by(slot, word))
    }

    /// What the session had announced is recovered: the lock goes to the next session, which may
    /// announce something itself.
    pub(super) fn advance(&self, words: &impl Words, me: PeerSlot) {
        let _ = self.change(words, me, |word| held_by(me, word, word & CONTENDED));
    }

    /// Gives the lock back with something left to recover, for whoever comes next.
    pub(super) fn abandon(&self, words: &impl Words, me: PeerSlot) {
        self.leave(words, me, ABANDONED);
    }

    /// Gives the lock back, and makes what the session has done part of the heap.
    #[inline]
    pub(super) fn release(&self, words: &impl Words, me: PeerSlot) {
        self.leave(words, me, 0);
    }

    #[inline]
    fn leave(&self, words: &impl Words, me: PeerSlot, holder: u64) {
        let free = |word| word & !(HOLDER_MASK | CONTENDED) | holder;
        if let Some(word) = self.change(words, me, free)
            && word & CONTENDED != 0
        {
            words.wake(self.at);
        }
    }

    /// Changes the word as long as `me` holds the lock, and returns what it was. If the lock is no
    /// longer ours its word was overwritten: there is nothing to change.
    #[inline]
    fn change(&self, words: &impl Words, me: PeerSlot, to: impl Fn(u64) -> u64) -> Option<u64> {
        loop {
            let word = words.load(self.at);
            if holder(word) != Some(me) {
                return None;
            }
            if self.exchange(words, word, to(word)) {
                return Some(word);
            }
        }
    }

    #[inline]
    fn exchange(&self, words: &impl Words, current: u64, new: u64) -> bool {
        words.compare_exchange(self.at, current, new).is_ok()
    }
}
