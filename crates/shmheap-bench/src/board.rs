//! `Board`: the memory that the workers of a crew share besides the heap under test: where they
//! meet before they start, and a ring from each worker to the next.
//!
//! It is a memfd that the conductor makes and its children inherit: whatever becomes of them,
//! nothing is left behind.
//!
//! # Unsafe code
//!
//! One cast, from mapped zeros to words or what else zeros make.
#![allow(unsafe_code)]

use std::fs::File;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// What processes may share as it comes, in memory of zeros.
///
/// # Safety
///
/// Any bytes will do, and whoever uses it leaves others room to use it at the same time: it is made
/// of atomics, or says when its other parts may be used.
pub(crate) unsafe trait Zeroable: Sync {}

// SAFETY: all of it is atomics.
unsafe impl Zeroable for Board {}

// SAFETY: it is an atomic.
unsafe impl Zeroable for AtomicU32 {}

// SAFETY: what holds for one holds for many.
unsafe impl<T: Zeroable, const N: usize> Zeroable for [T; N] {}

/// The file of an empty board, for children to inherit.
pub(crate) fn create() -> Result<File> {
    create_for::<Board>()
}

/// The file of whatever is shared, for children to inherit.
pub(crate) fn create_for<T: Zeroable>() -> Result<File> {
    // Without CLOEXEC.
    let memory = rustix::fs::memfd_create("shmheap-bench", MemfdFlags::empty())
        .context("no memory for what workers share")?;
    let file = File::from(memory);
    file.set_len(size_of::<T>() as u64)?;
    Ok(file)
}

/// The number by which a child finds the file.
pub(crate) fn number(file: &File) -> i32 {
    file.as_raw_fd()
}

/// A board in this process's address space.
pub(crate) type Mapped = Shared<Board>;

/// Something shared in this process's address space.
#[derive(Debug)]
pub(crate) struct Shared<T>(MmapRaw, PhantomData<fn() -> T>);

impl<T: Zeroable> Shared<T> {
    /// Maps what was inherited under this number.
    pub(crate) fn inherited(number: i32) -> Result<Self> {
        const { assert!(align_of::<T>() <= 4096) };
        let path = format!("/proc/self/fd/{number}");
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self(MmapOptions::new().len(size_of::<T>()).map_raw(&file)?, PhantomData))
    }
}

impl<T: Zeroable> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping is page-aligned, as long as a `T` and lives as long as `self`. By the
        // contract of `Zeroable` any bytes make one, and others may use it meanwhile.
        unsafe { &*self.0.as_ptr().cast::<T>() }
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
