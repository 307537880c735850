//! `Board`: the memory that the workers of a crew share besides the heap under test: where they
//! meet before they start, and a ring from each worker to the next.
//!
//! It is a memfd that the conductor makes and its children inherit: whatever becomes of them,
//! nothing is left behind.
//!
//! # Unsafe code
//!
//! One cast, from mapped zeros to words.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::MemfdFlags;

use crate::ring::{Lonely, Ring};

/// As many workers as any crew has.
pub(crate) const WORKERS_MAX: usize = 4;

/// How often a waiting worker looks before it lets another process have the processor.
const LOOKS: u32 = 256;

/// What is on the board; see the module's text.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Board {
    arrivals: Lonely,
    /// Ring `n` goes from worker `n` to the next; that of the last, to the first.
    pub(crate) rings: [Ring; WORKERS_MAX],
}

impl Board {
    /// Waits until all workers have come to the meeting. Meetings are numbered from 1.
    pub(crate) fn meet(&self, number: usize, workers: usize) {
        let expected = (number * workers) as u64;
        // Acquire and release: with each other; what a worker did before a meeting is seen by the
        // others after it.
        self.arrivals.0.fetch_add(1, Ordering::AcqRel);
        let mut patience = Patience::default();
        while self.arrivals.0.load(Ordering::Acquire) < expected {
            patience.wait();
        }
    }
}

/// Waiting for another worker, which may have no processor of its own.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    looks: u32,
}

impl Patience {
    #[inline]
    pub(crate) fn wait(&mut self) {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// The file of an empty board, for children to inherit.
pub(crate) fn create() -> Result<File> {
    // Without CLOEXEC.
    let memory = rustix::fs::memfd_create("shmheap-bench", MemfdFlags::empty())
        .context("no memory for the workers' board")?;
    let file = File::from(memory);
    file.set_len(size_of::<Board>() as u64)?;
    Ok(file)
}

/// The number by which a child finds the board.
pub(crate) fn number(board: &File) -> i32 {
    board.as_raw_fd()
}

/// A board in this process's address space.
#[derive(Debug)]
pub(crate) struct Mapped(MmapRaw);

impl Mapped {
    /// Maps the board that was inherited under this number.
    pub(crate) fn inherited(number: i32) -> Result<Self> {
        let path = format!("/proc/self/fd/{number}");
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self(MmapOptions::new().len(size_of::<Board>()).map_raw(&file)?))
    }
}

impl Deref for Mapped {
    type Target = Board;

    fn deref(&self) -> &Board {
        // SAFETY: the mapping is page-aligned, as long as a board and lives as long as `self`. A
        // board is made of atomics, for which any bytes will do, and is only ever used as such.
        unsafe { &*self.0.as_ptr().cast::<Board>() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn nobody_leaves_a_meeting_before_the_last_has_come() {
        let file = create().unwrap();
        let board = Mapped::inherited(number(&file)).unwrap();
        let (seen, before) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    before.fetch_add(1, Ordering::SeqCst);
                    board.meet(1, 3);
                    seen.fetch_add(before.load(Ordering::SeqCst), Ordering::SeqCst);
                    board.meet(2, 3);
                });
            }
        });
        assert_eq!(seen.into_inner(), 9);
    }
}
