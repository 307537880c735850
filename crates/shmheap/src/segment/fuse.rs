//! A row of words that kills its process at a store of choice.
//!
//! Unit tests see object space through it. A forked child lights the fuse and works; the kernel
//! ends it before the store that the fuse was cut for, so that memory is left as a real `kill -9`
//! at that instruction leaves it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use super::words::Words;
use crate::units::{LINE_WORDS, WordIndex};

/// Stores that this process has left; 0: as many as it likes.
static LEFT: AtomicU64 = AtomicU64::new(0);
static IS_TO_STOP: AtomicBool = AtomicBool::new(false);

/// From here on this process makes `stores` stores and exchanges, and is killed before the next.
pub(crate) fn light(stores: u64) {
    LEFT.store(stores + 1, Ordering::Relaxed);
}

/// As [`light`], but this process is stopped before that store; sent on, it makes that and all
/// others.
pub(crate) fn light_to_stop(stores: u64) {
    IS_TO_STOP.store(true, Ordering::Relaxed);
    light(stores);
}

fn burn() {
    // Relaxed: one thread works in a process whose fuse is lit.
    if LEFT.load(Ordering::Relaxed) != 0 && LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        let is_to_stop = IS_TO_STOP.load(Ordering::Relaxed);
        let signal = if is_to_stop { Signal::STOP } else { Signal::KILL };
        kill_process(getpid(), signal).unwrap();
    }
}

/// The row; see the module's text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fused<W>(pub(crate) W);

impl<W: Words> Words for Fused<W> {
    fn load(&self, at: WordIndex) -> u64 {
        self.0.load(at)
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        self.0.load_line(at)
    }

    fn store(&self, at: WordIndex, value: u64) {
        burn();
        self.0.store(at, value);
    }

    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        burn();
        self.0.compare_exchange(at, current, new)
    }

    fn wait(&self, at: WordIndex, expected: u64, timeout: Duration) -> Duration {
        self.0.wait(at, expected, timeout)
    }

    fn wake(&self, at: WordIndex) {
        self.0.wake(at);
    }

    fn wake_all(&self, at: WordIndex) {
        self.0.wake_all(at);
    }
}
