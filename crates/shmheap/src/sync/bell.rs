//! A word that people listen to: the protocol of the condition variable, and of those who wait for
//! a permit.
//!
//! ```text
//!   63                                                      1        0
//!  +---------------------------------------------------------+------------+
//!  | how often it was rung                                   | listeners  |
//!  +---------------------------------------------------------+------------+
//! ```
//!
//! A listener says so, then looks once more at what it waits for, then sleeps for as long as the
//! word is what it was. Who changes what is waited for rings afterwards. Between what either does
//! first and what it looks at next there is an exchange, so one sees the other.
//!
//! Nobody has the word, so nobody can die with it: a listener that is killed leaves a bit that
//! costs a vain call into the kernel, a ringer that is killed before it wakes anybody leaves a word
//! that has changed, or one that has not: listeners look again after a while by themselves.

use std::time::Duration;

use super::wait::Waiting;
use crate::Result;
use crate::segment::words::Words;
use crate::units::WordIndex;

const LISTENERS: u64 = 1;
const RING: u64 = 2;
/// How often somebody tries to change the word while others do: they have rung it then.
const CHANGES_MAX: u32 = 64;

/// The word; see the module's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bell {
    at: WordIndex,
}

/// Whom a bell wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listeners {
    One,
    All,
}

impl Bell {
    #[inline]
    pub(super) fn new(at: WordIndex) -> Self {
        Self { at }
    }

    /// From here on it is heard; returns the word to sleep on. What is waited for must be looked at
    /// again after this.
    pub(super) fn listen(self, words: &impl Words) -> u64 {
        let mut word = words.load(self.at);
        for _ in 0..CHANGES_MAX {
            // Set by another, who looks again as well, and rings when it has had what it finds.
            if word & LISTENERS != 0 {
                break;
            }
            match words.compare_exchange(self.at, word, word | LISTENERS) {
                Ok(_) => word |= LISTENERS,
                Err(found) => word = found,
            }
        }
        word
    }

    /// Sleeps until it is rung after [`listen`](Self::listen) returned `heard`, or for a while.
    pub(super) fn sleep(self, words: &impl Words, heard: u64, waiting: &mut Waiting) -> Result<()> {
        waiting.sleep(words, self.at, heard)
    }

    /// Gives back what keeps others from changing what is waited for, and sleeps until it is rung
    /// after that, for so long at the most.
    pub(super) fn sleep_without(
        self,
        words: &impl Words,
        give_back: impl FnOnce(),
        time: Duration,
    ) {
        // Who changes what is waited for takes what is given back here: it sees the listener, and
        // rings after the word was read.
        let heard = self.listen(words);
        give_back();
        words.wait(self.at, heard, time);
    }

    /// Rings it, if anybody listens.
    #[inline]
    pub(super) fn ring(self, words: &impl Words, whom: Listeners) {
        let word = words.load(self.at);
        if word & LISTENERS != 0 {
            self.ring_out(words, word, whom);
        }
    }

    #[cold]
    fn ring_out(self, words: &impl Words, mut word: u64, whom: Listeners) {
        for _ in 0..CHANGES_MAX {
            let rung = match whom {
                Listeners::One => word.wrapping_add(RING),
                // They all go, and say so again when they come back.
                Listeners::All => word.wrapping_add(RING) & !LISTENERS,
            };
            match words.compare_exchange(self.at, word, rung) {
                Ok(_) => break,
                Err(found) => word = found,
            }
        }
        match whom {
            Listeners::One => words.wake(self.at),
            Listeners::All => words.wake_all(self.at),
        }
    }
}
