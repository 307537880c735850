//! The lock of a first-fit heap: one word that says who holds it, and that a killed holder does
//! not keep.
//!
//! ```text
//!   63                                    17   16          15            0
//!  +----------------------------------------+------------+---------------+
//!  |  session                               | contended  |  holder + 1   |
//!  +----------------------------------------+------------+---------------+
//! ```
//!
//! | holder | contended | state |
//! |---|---|---|
//! | 0 | 0 | free |
//! | s + 1 | 0 | peer s is inside, nobody sleeps |
//! | s + 1 | 1 | peer s is inside, somebody may sleep on the word |
//!
//! `session` counts acquisitions, so that no state of the word ever comes back: a process that
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
const SESSION_SHIFT: u32 = 17;
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

/// The state in which `me` holds the lock, in the session after that of `word`.
fn held_by(me: PeerSlot, word: u64, contended: u64) -> u64 {
    let session = (word >> SESSION_SHIFT).wrapping_add(1) << SESSION_SHIFT;
    session | contended | (u64::from(me.0) + 1)
}

impl Lock {
    pub(super) fn new(at: WordIndex) -> Self {
        Self { at }
    }

    /// Sessions so far.
    pub(super) fn sessions(&self, words: &impl Words) -> u64 {
        words.load(self.at) >> SESSION_SHIFT
    }

    /// Who holds the lock.
    pub(super) fn holder(&self, words: &impl Words) -> Option<PeerSlot> {
        holder(words.load(self.at))
    }

    /// Takes the lock, from nobody or from the dead, waiting while a live peer has it.
    #[inline]
    pub(super) fn acquire(
        &self,
        words: &impl Words,
        me: PeerSlot,
        is_dead: &impl Fn(PeerSlot) -> bool,
    ) {
        let word = words.load(self.at);
        if holder(word).is_some() || !self.exchange(words, word, held_by(me, word, 0)) {
            self.acquire_contended(words, me, is_dead);
        }
    }

    #[cold]
    fn acquire_contended(
        &self,
        words: &impl Words,
        me: PeerSlot,
        is_dead: &impl Fn(PeerSlot) -> bool,
    ) {
        let mut spins = 0;
        let mut sleep = SLEEP_MIN;
        // Whoever has slept must assume that others still do.
        let mut contended = 0;
        loop {
            let word = words.load(self.at);
            match holder(word) {
                None => {
                    if self.exchange(words, word, held_by(me, word, contended)) {
                        return;
                    }
                }
                Some(_) if spins < SPIN_COUNT => {
                    spins += 1;
                    hint::spin_loop();
                }
                Some(peer) if is_dead(peer) => {
                    if self.exchange(words, word, held_by(me, word, CONTENDED)) {
                        return;
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
        holder(word) == Some(slot) && self.exchange(words, word, held_by(slot, word, CONTENDED))
    }

    /// Gives the lock back; whether it was still held by `me`.
    #[inline]
    pub(super) fn release(&self, words: &impl Words, me: PeerSlot) -> bool {
        loop {
            let word = words.load(self.at);
            if holder(word) != Some(me) {
                return false;
            }
            if self.exchange(words, word, word & !(HOLDER_MASK | CONTENDED)) {
                if word & CONTENDED != 0 {
                    words.wake(self.at);
                }
                return true;
            }
        }
    }

    #[inline]
    fn exchange(&self, words: &impl Words, current: u64, new: u64) -> bool {
        words.compare_exchange(self.at, current, new).is_ok()
    }
}
