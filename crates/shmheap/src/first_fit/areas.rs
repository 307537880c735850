//! Areas: which of them readers look at, who is still in one that was stolen, and how one is seen.
//!
//! ```text
//!   header   current         the area that holds the truth, as readers without the lock take it
//!            pin of area 0   the acquisition of the lock that was stolen there, as the lock's word
//!            ...             said it; without its holder, once that has left
//!   area 0   area 1   ...    records
//! ```
//!
//! A holder stores to one area, and nobody else does meanwhile. When its lock is stolen it does not
//! know, and goes on storing to its area, which the *pin* keeps from being used until it has seen
//! that and says that it has left, or is dead. Pins of areas in the lock's word mean nothing.
//!
//! Readers without the lock look at *current*, which is raised after each theft and each recovery,
//! before the first operation that follows. So an object that lives when a reader begins, and as
//! long as it reads, lives in each image that the area it reads may hold meanwhile, be the area
//! left behind, or copied to anew: a reader needs no second look, as long as it takes `current`
//! anew for each. (The length alone may be one that came to nothing; see `theft`.)

use std::time::Duration;

use super::layout::Area;
use super::lock::{Lock, LockWord};
use crate::segment::words::Words;
use crate::units::{LINE_WORDS, PeerSlot, WordIndex};

/// The segment seen so that the words of area 0 are those of another area.
#[derive(Debug, Clone, Copy)]
pub(super) struct InArea<W> {
    words: W,
    displacement: u64,
}

impl<W: Words> InArea<W> {
    /// With areas so many words apart.
    #[inline]
    pub(super) fn new(words: W, displacement: u64) -> Self {
        Self { words, displacement }
    }
}

impl<W: Words> Words for InArea<W> {
    #[inline]
    fn load(&self, at: WordIndex) -> u64 {
        self.words.load(at + self.displacement)
    }

    #[inline]
    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        self.words.load_line(at + self.displacement)
    }

    #[inline]
    fn store(&self, at: WordIndex, value: u64) {
        self.words.store(at + self.displacement, value);
    }

    #[inline]
    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        self.words.compare_exchange(at + self.displacement, current, new)
    }

    fn wait(&self, at: WordIndex, expected: u64, timeout: Duration) -> Duration {
        self.words.wait(at + self.displacement, expected, timeout)
    }

    fn wake(&self, at: WordIndex) {
        self.words.wake(at + self.displacement);
    }

    fn wake_all(&self, at: WordIndex) {
        self.words.wake_all(at + self.displacement);
    }
}

/// The area for readers.
#[derive(Debug, Clone)]
pub(super) struct Current {
    at: WordIndex,
}

impl Current {
    pub(super) fn new(at: WordIndex) -> Self {
        Self { at }
    }

    #[inline]
    pub(super) fn area(&self, words: &impl Words) -> Area {
        LockWord::of(words.load(self.at)).to()
    }

    /// Names the area of `held`, unless the lock was stolen: then the thief names another, or did.
    pub(super) fn raise(&self, words: &impl Words, lock: &Lock, held: LockWord) {
        loop {
            // Before the lock: if that is `held` still, nobody has named a later area before this
            // was read; and if somebody does after it, the exchange fails.
            let found = words.load(self.at);
            if lock.load(words).acquisition() != held.acquisition() {
                return;
            }
            let new = held.without_holder().bits();
            if words.compare_exchange(self.at, found, new).is_ok() {
                return;
            }
        }
    }

    pub(super) fn at(&self) -> WordIndex {
        self.at
    }
}

/// Who is still in an area that was stolen.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    first: WordIndex,
}

impl Pins {
    pub(super) fn new(first: WordIndex) -> Self {
        Self { first }
    }

    fn at(&self, area: Area) -> WordIndex {
        self.first + u64::from(area.0)
    }

    pub(super) fn load(&self, words: &impl Words, area: Area) -> LockWord {
        LockWord::of(words.load(self.at(area)))
    }

    /// Pins the area of the acquisition `held` for its holder; `found` is the pin as it was
    /// *before* the thief read the lock, so that no later pin is replaced.
    pub(super) fn set(&self, words: &impl Words, found: LockWord, held: LockWord) -> bool {
        let pin = held.acquisition();
        words.compare_exchange(self.at(held.to()), found.bits(), pin.bits()).is_ok()
    }

    /// Says that nobody is in the area of `robbed` for that acquisition any more.
    pub(super) fn leave(&self, words: &impl Words, robbed: LockWord) {
        if self.load(words, robbed.to()) == robbed.acquisition() {
            self.unpin(words, robbed.to(), robbed.acquisition());
        }
    }

    /// Says that of all areas where the dead process was that was peer `slot`.
    pub(super) fn leave_for(&self, words: &impl Words, slot: PeerSlot) {
        for area in Area::all() {
            let pin = self.load(words, area);
            if pin.holder() == Some(slot) {
                self.unpin(words, area, pin);
            }
        }
    }

    fn unpin(&self, words: &impl Words, area: Area, pin: LockWord) {
        // Refused if a thief has pinned the area for another.
        let _ = words.compare_exchange(self.at(area), pin.bits(), pin.without_holder().bits());
    }

    /// Whether nobody stores to the area, which is not in the lock's word.
    pub(super) fn is_left(
        &self,
        words: &impl Words,
        area: Area,
        is_dead: &impl Fn(PeerSlot) -> bool,
    ) -> bool {
        self.load(words, area).holder().is_none_or(is_dead)
    }
}
