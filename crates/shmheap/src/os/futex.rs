//! Sleeping on a word of shared memory until another process changes it.
//!
//! The kernel's futexes have 32 bits; a word has 64. The sleeper names the low half, which comes
//! first in memory on the little-endian targets that this crate is built for.
//!
//! # Unsafe code
//!
//! One cast, from a word to its low half.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use rustix::thread::futex::{self, Flags, Timespec};

/// How sleepers of a row of words are put to sleep and woken: by the kernel, or not at all.
pub(crate) trait Parking {
    /// Sleeps until [`wake`](Self::wake) is called for the word, the time is over, or for no
    /// reason; not at all if the low half of the word is not that of `expected`. Returns how long
    /// that was.
    fn wait(&self, word: &AtomicU64, expected: u64, timeout: Duration) -> Duration;
    /// Wakes one sleeper of the word.
    fn wake(&self, word: &AtomicU64);
    /// Wakes every sleeper of the word.
    fn wake_all(&self, word: &AtomicU64);
}

/// Parking by the kernel, across processes that map the same object anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Futex;

impl Parking for Futex {
    fn wait(&self, word: &AtomicU64, expected: u64, timeout: Duration) -> Duration {
        let start = Instant::now();
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        // Without FUTEX_PRIVATE_FLAG: the sleeper and the waker may be in different processes.
        // Every outcome means the same to the caller: look at the word again.
        let low_half = expected as u32;
        let _ = futex::wait(low_half_of(word), Flags::empty(), low_half, Some(&timeout));
        start.elapsed()
    }

    fn wake(&self, word: &AtomicU64) {
        let _ = futex::wake(low_half_of(word), Flags::empty(), 1);
    }

    fn wake_all(&self, word: &AtomicU64) {
        let _ = futex::wake(low_half_of(word), Flags::empty(), i32::MAX.unsigned_abs());
    }
}

fn low_half_of(word: &AtomicU64) -> &AtomicU32 {
    // SAFETY: the low half lies inside the word, is aligned, and lives as long. The reference only
    // carries its address into the kernel: no access of 32 bits is made through it, so none mixes
    // with those of 64 bits.
    unsafe { &*std::ptr::from_ref(word).cast::<AtomicU32>() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_sleeper_is_woken_by_a_change() {
        let word = AtomicU64::new(7);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while word.load(Ordering::Acquire) == 7 {
                    Futex.wait(&word, 7, Duration::from_secs(600));
                }
            });
            word.store(8, Ordering::Release);
            while !sleeper.is_finished() {
                Futex.wake(&word);
                std::thread::yield_now();
            }
        });
    }

    #[test]
    fn only_the_low_half_counts_and_a_changed_word_is_not_waited_for() {
        let word = AtomicU64::new((9 << 32) | 7);
        let forever = Duration::from_secs(u64::MAX);
        Futex.wait(&word, 8, forever);
        Futex.wait(&word, (9 << 32) | 8, forever);
        Futex.wait(&word, 7, Duration::ZERO);
    }
}
