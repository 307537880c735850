//! Waiting: how long at the most, and how a waiter sleeps so that no dead process keeps it.
//!
//! A process that is killed wakes nobody. So nobody sleeps until he is woken: a sleep has an end,
//! after which the waiter looks for himself whether whoever it waits for still lives. The first
//! sleeps are short, so that a lock is taken over soon; later ones longer, so that waiting for long
//! costs little.

use std::hint;
use std::time::{Duration, Instant};

use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Result};

/// How often a waiter looks again before it asks for proof of life and sleeps: about a microsecond.
const SPIN_COUNT: u32 = 100;
const SLEEP_MIN: Duration = Duration::from_millis(5);
/// How many races a waiter may lose whatever the time is.
const LOSSES: u32 = 32;
/// What a death, or a wake that never came, costs a waiter at the most.
pub(super) const SLEEP_MAX: Duration = Duration::from_millis(50);

/// How long somebody is willing to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    end: End,
    spins: u32,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Never,
    At(Instant),
    Now,
}

impl Patience {
    /// As long as it takes.
    pub(super) const ENDLESS: Self = Self { end: End::Never, spins: SPIN_COUNT };
    /// Not at all.
    pub(super) const NONE: Self = Self { end: End::Now, spins: 0 };

    /// So long; what no clock can count is for ever.
    pub(crate) fn of(timeout: Duration) -> Self {
        let end = Instant::now().checked_add(timeout);
        Self { end: end.map_or(End::Never, End::At), spins: SPIN_COUNT }
    }

    /// As long as it takes, asleep.
    #[cfg(test)]
    pub(super) const ASLEEP: Self = Self { end: End::Never, spins: 0 };

    /// How much of it is left, and no more than `most`.
    fn left(&self, most: Duration) -> Duration {
        match self.end {
            End::Never => most,
            End::At(end) => end.saturating_duration_since(Instant::now()).min(most),
            End::Now => Duration::ZERO,
        }
    }
}

/// Somebody who waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    patience: Patience,
    spins: u32,
    losses: u32,
    sleep: Duration,
    what: &'static str,
}

impl Waiting {
    /// `what` is waited for.
    #[inline]
    pub(crate) fn new(patience: Patience, what: &'static str) -> Self {
        Self { patience, spins: 0, losses: 0, sleep: SLEEP_MIN, what }
    }

    /// Whether the waiter shall look again at once.
    pub(super) fn spin(&mut self) -> bool {
        let spins = self.spins < self.patience.spins;
        if spins {
            self.spins += 1;
            hint::spin_loop();
        }
        spins
    }

    /// Sleeps while the word's low half is that of `expected`, until somebody wakes the waiter, for
    /// a while; [`Error::TimedOut`] if no time is left for that.
    pub(super) fn sleep(&mut self, words: &impl Words, at: WordIndex, expected: u64) -> Result<()> {
        let sleep = self.patience.left(self.sleep);
        if sleep.is_zero() {
            return Err(self.timed_out());
        }
        words.wait(at, expected, sleep);
        self.sleep = SLEEP_MAX.min(self.sleep * 2);
        Ok(())
    }

    /// The word has changed under the waiter's hands. Who meets that again and again, be it by a
    /// broken process that never stops to change the word, does so no longer than it is willing to
    /// wait.
    pub(super) fn lost(&mut self) -> Result<()> {
        self.losses = self.losses.saturating_add(1);
        if self.losses > LOSSES && self.patience.left(SLEEP_MAX).is_zero() {
            return Err(self.timed_out());
        }
        Ok(())
    }

    fn timed_out(&self) -> Error {
        Error::TimedOut { what: self.what }
    }
}

/// What an attempt came to that does not wait: `None` if it would have had to.
pub(super) fn at_once<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Err(Error::TimedOut { .. }) => Ok(None),
        outcome => outcome.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Futex;
    use crate::segment::words::Row;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn a_waiter_sleeps_until_its_time_is_over_and_no_longer() {
        let memory = [AtomicU64::new(7)];
        let row = Row::new(&memory, Futex);
        let timeout = Duration::from_millis(30);
        let start = Instant::now();
        let mut waiting = Waiting::new(Patience::of(timeout), "it");
        let mut sleeps = 0;
        while waiting.sleep(&row, WordIndex(0), 7).is_ok() {
            sleeps += 1;
        }
        assert!(start.elapsed() >= timeout);
        assert!(sleeps >= 2, "it looks around in between");
        let lost = (0..=LOSSES).map(|_| waiting.lost());
        assert_eq!(lost.filter(Result::is_err).count(), 1, "the last one");
        assert_eq!(waiting.sleep, SLEEP_MAX.min(SLEEP_MIN * (1 << sleeps)));
    }

    #[test]
    fn a_time_that_no_clock_can_count_is_for_ever_and_none_is_none() {
        let mut waiting = Waiting::new(Patience::of(Duration::MAX), "it");
        assert!((0..=LOSSES).all(|_| waiting.lost().is_ok()));
        let memory = [AtomicU64::new(7)];
        let row = Row::new(&memory, Futex);
        let mut waiting = Waiting::new(Patience::NONE, "it");
        assert!(!waiting.spin());
        assert!(at_once(waiting.sleep(&row, WordIndex(0), 7)).unwrap().is_none());
        assert!(matches!(at_once(Ok(5)), Ok(Some(5))));
    }
}
