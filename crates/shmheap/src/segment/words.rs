//! `Words`: the one gate through which every record of a segment is read and written.
//!
//! Engines and record tables see a segment as a row of atomic 64-bit words and address them by
//! number. The row is total: a load outside it reads 0, a store outside it is dropped. Whatever
//! stands in shared memory, following it can therefore give a wrong answer, but never leave the
//! segment; and the same code runs over a mapping, over plain memory (under Miri), and over the
//! test views that record or cut off its stores.
//!
//! # Ordering
//!
//! `store` is a release store. For a *killed* writer that keeps the compiler from reordering the
//! stores of one thread, so memory is left with exactly a prefix of them; the recovering process
//! reads them after the kernel has told it of the death, which synchronises. For *live* peers its
//! partner is `load`. `load` and `compare_exchange` are sequentially consistent: where two peers
//! each change one word and then look at the other's, one of them sees the other.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::os::Parking;
use crate::units::{LINE_WORDS, WordIndex};

/// A row of shared 64-bit words; see the module's text.
pub(crate) trait Words {
    /// The word, or 0 outside the row. Sequentially consistent, so also an acquire for `store`.
    fn load(&self, at: WordIndex) -> u64;

    /// A cache line of words from `at` on; all 0 unless all lie in the row. As so many `load`s, for
    /// one bounds check.
    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS];

    /// Sets the word; nothing outside the row. Release; its partner is `load`.
    fn store(&self, at: WordIndex, value: u64);

    /// Sets the word to `new` if it is `current`; else, and outside the row, tells what it is.
    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64>;

    /// A sequentially consistent fence: of what this thread has stored before and loads after it,
    /// and another peer does the other way round, one sees the other's store.
    fn fence(&self) {
        // SeqCst; its partner is the fence, or the exchange, of the other peer.
        fence(Ordering::SeqCst);
    }

    /// Sleeps until [`wake`](Self::wake) is called for the word, the time is over, or for no
    /// reason; not at all if the low half of the word is not that of `expected`. Returns how long
    /// that was.
    fn wait(&self, at: WordIndex, expected: u64, timeout: Duration) -> Duration;

    /// Wakes one sleeper of the word.
    fn wake(&self, at: WordIndex);

    /// Wakes every sleeper of the word.
    fn wake_all(&self, at: WordIndex);
}

impl<W: Words> Words for &W {
    #[inline]
    fn load(&self, at: WordIndex) -> u64 {
        (**self).load(at)
    }

    #[inline]
    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        (**self).load_line(at)
    }

    #[inline]
    fn store(&self, at: WordIndex, value: u64) {
        (**self).store(at, value);
    }

    #[inline]
    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        (**self).compare_exchange(at, current, new)
    }

    fn fence(&self) {
        (**self).fence();
    }

    fn wait(&self, at: WordIndex, expected: u64, timeout: Duration) -> Duration {
        (**self).wait(at, expected, timeout)
    }

    fn wake(&self, at: WordIndex) {
        (**self).wake(at);
    }

    fn wake_all(&self, at: WordIndex) {
        (**self).wake_all(at);
    }
}

/// A row of words over any memory.
#[derive(Clone, Copy)]
pub(crate) struct Row<'m, P> {
    words: &'m [AtomicU64],
    parking: P,
}

impl<'m, P: Parking> Row<'m, P> {
    pub(crate) fn new(words: &'m [AtomicU64], parking: P) -> Self {
        Self { words, parking }
    }

    #[inline]
    fn get(&self, at: WordIndex) -> Option<&'m AtomicU64> {
        self.words.get(usize::try_from(at.0).ok()?)
    }
}

impl<P: Parking> Words for Row<'_, P> {
    #[inline]
    fn load(&self, at: WordIndex) -> u64 {
        // SeqCst, its partners the compare_exchanges of other words by peers that then load this
        // one or its states; it is the acquire of `store` as well.
        self.get(at).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    #[inline]
    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        let first = usize::try_from(at.0).unwrap_or(usize::MAX);
        let line = self.words.get(first..).and_then(<[AtomicU64]>::first_chunk);
        line.map_or([0; LINE_WORDS], |line: &[AtomicU64; LINE_WORDS]| {
            // Acquire; its partner is `store`.
            std::array::from_fn(|word| line[word].load(Ordering::Acquire))
        })
    }

    #[inline]
    fn store(&self, at: WordIndex, value: u64) {
        if let Some(word) = self.get(at) {
            // Release; its partner is `load`.
            word.store(value, Ordering::Release);
        }
    }

    #[inline]
    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        match self.get(at) {
            // SeqCst, its partners every other compare_exchange and load of the same word: locks
            // and record states are claimed here, and a claim must be seen by all in one order.
            Some(word) => word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst),
            None => Err(0),
        }
    }

    fn wait(&self, at: WordIndex, expected: u64, timeout: Duration) -> Duration {
        match self.get(at) {
            Some(word) => self.parking.wait(word, expected, timeout),
            None => Duration::ZERO,
        }
    }

    fn wake(&self, at: WordIndex) {
        if let Some(word) = self.get(at) {
            self.parking.wake(word);
        }
    }

    fn wake_all(&self, at: WordIndex) {
        if let Some(word) = self.get(at) {
            self.parking.wake_all(word);
        }
    }
}

impl<P> fmt::Debug for Row<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("word_count", &self.words.len()).finish_non_exhaustive()
    }
}
