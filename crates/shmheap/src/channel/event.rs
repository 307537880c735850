//! `Event`: a word on which processes sleep until something has come about.
//!
//! ```text
//!   bit 0       somebody may sleep on the word
//!   bits 1..    how often sleepers were woken
//! ```
//!
//! Who wants to sleep says so in the word, *then* looks once more whether it has come about; who
//! brings it about does so, *then* looks at the word. Both go through a sequentially consistent
//! exchange or fence in between, so one of them sees the other: no wake-up is lost. As long as
//! nobody sleeps, a wake-up is one load and no system call.
//!
//! A wake-up wakes one sleeper and takes the mark away, for more would find nothing. So whoever has
//! slept *passes it on*: it sets the mark again, since others may sleep still, and if there is more
//! than it took, wakes the next. A process killed with a wake-up in its hands takes that along:
//! therefore sleep comes in slices, and costs the others one slice.

use std::time::{Duration, Instant};

use crate::Result;
use crate::segment::words::Words;
use crate::units::WordIndex;

/// Somebody may sleep on the word.
const SLEEPERS: u64 = 1;
/// One more wake-up.
const WAKE_UP: u64 = 2;

/// How long the first slice of sleep is, and the longest.
const SLICE_MIN: Duration = Duration::from_millis(5);
const SLICE_MAX: Duration = Duration::from_millis(50);

/// How often somebody looks again before it sleeps, at the time of a system call in all.
pub(super) const SPINS: u32 = 100;

/// How thoroughly an attempt looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// At what there is if all are well.
    Quick,
    /// Also at what the dead have left.
    Thorough,
}

/// How long somebody waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// `None`: for ever.
    deadline: Option<Instant>,
    spins: u32,
    /// A thorough look is worth it after so long.
    look_after: Duration,
}

impl Patience {
    /// For ever, and without looking more than once before sleep.
    #[cfg(test)]
    pub(super) const ENDLESS: Self =
        Self { deadline: None, spins: 0, look_after: Duration::from_millis(0) };

    /// For so long; `None`: for ever. A thorough look takes as long as `cells` cells.
    pub(super) fn new(timeout: Option<Duration>, cells: u64) -> Self {
        // A look takes some nanoseconds for each cell: a twentieth of the time at the most.
        const NS_PER_CELL: u64 = 250;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let look_after = Duration::from_nanos(cells.saturating_mul(NS_PER_CELL));
        Self { deadline, spins: SPINS, look_after }
    }

    /// What is left; `None` if nothing is.
    fn left(self) -> Option<Duration> {
        let Some(deadline) = self.deadline else { return Some(Duration::MAX) };
        let left = deadline.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// A word to sleep on; see the module's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event(pub(super) WordIndex);

impl Event {
    /// Says that somebody is about to sleep. Returns the word to [`sleep`](Self::sleep) with, after
    /// one more look.
    pub(super) fn announce(self, words: &impl Words) -> u64 {
        let word = words.load(self.0);
        if word & SLEEPERS == 0 {
            // If it fails, somebody has just woken sleepers or announced itself: then the word is
            // not what sleep expects, and there is none.
            let _ = words.compare_exchange(self.0, word, word | SLEEPERS);
        }
        // Its partner is the exchange by which the other side commits, before it looks at this word
        // in `notify`: either that sees the mark, or the look that follows here sees what is new.
        words.fence();
        word | SLEEPERS
    }

    /// Sleeps until woken; not at all if somebody was since `announced`. Whether nobody was.
    pub(super) fn sleep(self, words: &impl Words, announced: u64, timeout: Duration) -> bool {
        words.wait(self.0, announced, timeout) >= timeout
    }

    /// Wakes a sleeper if there may be one. The caller has just exchanged, or fenced, what it
    /// brought about.
    #[inline]
    pub(super) fn notify(self, words: &impl Words) {
        // Its partner is the fence in `announce`, across the exchange that the caller has made.
        let word = words.load(self.0);
        if word & SLEEPERS != 0 {
            self.wake_one(words, word);
        }
    }

    #[cold]
    fn wake_one(self, words: &impl Words, word: u64) {
        // If it fails, another has woken a sleeper, which passes it on.
        if words.compare_exchange(self.0, word, (word & !SLEEPERS).wrapping_add(WAKE_UP)).is_ok() {
            words.wake(self.0);
        }
    }

    /// Wakes all that sleep. The caller has just exchanged, or fenced, what it brought about.
    pub(super) fn notify_all(self, words: &impl Words) {
        // Its partner is the fence in `announce`.
        let word = words.load(self.0);
        if word & SLEEPERS != 0 {
            let woken = (word & !SLEEPERS).wrapping_add(WAKE_UP);
            let _ = words.compare_exchange(self.0, word, woken);
            words.wake_all(self.0);
        }
    }

    /// What somebody does that has slept, and leaves: others may sleep still, and if there is more,
    /// one of them is due.
    pub(super) fn pass_on(self, words: &impl Words, has_more: impl FnOnce() -> bool) {
        self.announce(words);
        if has_more() {
            self.notify(words);
        }
    }

    /// Attempts until that succeeds or patience ends (`None`); sleeps in between.
    pub(super) fn wait<T>(
        self,
        words: &impl Words,
        patience: Patience,
        mut attempt: impl FnMut(Look) -> Result<Option<T>>,
        has_more: impl Fn() -> bool,
    ) -> Result<Option<T>> {
        for _ in 0..=patience.spins {
            let outcome = attempt(Look::Quick);
            if !matches!(outcome, Ok(None)) {
                return outcome;
            }
            if patience.left().is_none() {
                return attempt(Look::Thorough);
            }
            std::hint::spin_loop();
        }
        let outcome = self.wait_asleep(words, patience, &mut attempt);
        self.pass_on(words, has_more);
        outcome
    }

    fn wait_asleep<T>(
        self,
        words: &impl Words,
        patience: Patience,
        attempt: &mut impl FnMut(Look) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut slice = SLICE_MIN;
        let mut since_look = Duration::ZERO;
        loop {
            let announced = self.announce(words);
            let outcome = attempt(Look::Quick);
            if !matches!(outcome, Ok(None)) {
                return outcome;
            }
            let Some(left) = patience.left() else { return attempt(Look::Thorough) };
            let timeout = slice.min(left);
            if !self.sleep(words, announced, timeout) {
                continue;
            }
            since_look += timeout;
            slice = (slice * 2).min(SLICE_MAX);
            if since_look >= patience.look_after {
                since_look = Duration::ZERO;
                let outcome = attempt(Look::Thorough);
                if !matches!(outcome, Ok(None)) {
                    return outcome;
                }
            }
        }
    }
}
