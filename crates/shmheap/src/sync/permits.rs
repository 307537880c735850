//! `ShmPermits`: so many may do something at once, whoever is killed.
//!
//! ```text
//!   word 0       a bell for those who wait
//!   words 1 - N  a permit each: 0, or the process that has it
//! ```
//!
//! A permit is taken by the exchange of its word from 0, and from a dead holder by the exchange of
//! the word that names it. Who gives one back rings; who waits says so, looks at all of them again,
//! and sleeps.

use std::fmt;
use std::mem::offset_of;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::bell::{Bell, Listeners};
use super::mutex::is_owner;
use super::wait::{Patience, Waiting, at_once};
use super::word_of;
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Heap, Result};

const PERMIT: &str = "a permit";

/// A number of permits in a heap for the threads of all processes, of which those of killed
/// processes come back: N may do something at once. All zeros are N free permits.
///
/// # Killed processes
///
/// A permit names the process that has it. When that is killed, whoever waits finds out within
/// 50 ms, and takes it.
///
/// # Costs
///
/// A look at the words until one is free, N of 8 bytes at the most, and an exchange; an exchange to
/// give it back, and no system call where nobody waits.
///
/// ```
/// use shmheap::{Heap, ShmPermits};
/// # let name = format!("/doc-permits-{}", std::process::id());
///
/// let heap = Heap::create(&name, 1 << 20)?;
/// let devices = heap.find_or_create::<ShmPermits<2>>("devices", |_| {})?;
///
/// let first = devices.acquire(&heap)?;
/// let second = devices.acquire(&heap)?;
/// assert_ne!(first.number(), second.number(), "which of the two devices");
/// assert!(devices.try_acquire(&heap)?.is_none());
/// drop(first);
/// assert!(devices.try_acquire(&heap)?.is_some());
/// # drop(second);
/// # Heap::destroy(&name)?;
/// # Ok::<(), shmheap::Error>(())
/// ```
#[repr(C)]
pub struct ShmPermits<const N: usize> {
    bell: AtomicU64,
    holders: [AtomicU64; N],
}

// As FORMAT.md says.
const _: () = assert!(offset_of!(ShmPermits<2>, holders) == 8);

/// One of the permits of a [`ShmPermits`]; dropping it gives it back.
#[must_use = "the permit is given back when this is dropped"]
pub struct ShmPermit<'a> {
    heap: &'a Heap,
    table: Permits,
    number: u64,
    holder: PeerId,
}

impl<const N: usize> ShmPermits<N> {
    /// Waits for a permit and takes it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`](crate::Error::InvalidPointer) if the permits are not in this heap,
    /// [`Error::ReadOnly`](crate::Error::ReadOnly) if this connection may only read; and what a
    /// forked child may meet that joins the heap with this.
    pub fn acquire<'a>(&'a self, heap: &'a Heap) -> Result<ShmPermit<'a>> {
        self.take(heap, Patience::ENDLESS)
    }

    /// As [`acquire`](Self::acquire), for so long at the most.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); [`Error::TimedOut`](crate::Error::TimedOut) if no permit was
    /// free.
    pub fn acquire_timeout<'a>(
        &'a self,
        heap: &'a Heap,
        timeout: Duration,
    ) -> Result<ShmPermit<'a>> {
        self.take(heap, Patience::of(timeout))
    }

    /// Takes a permit if one is free.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub fn try_acquire<'a>(&'a self, heap: &'a Heap) -> Result<Option<ShmPermit<'a>>> {
        at_once(self.take(heap, Patience::NONE))
    }

    fn take<'a>(&'a self, heap: &'a Heap, patience: Patience) -> Result<ShmPermit<'a>> {
        let holder = Roll::me(heap)?;
        let bell = word_of(heap, &self.bell)?;
        let table = Permits { bell: Bell::new(bell), first: bell + 1, count: N as u64 };
        let mut waiting = Waiting::new(patience, PERMIT);
        let number = table.take(&heap.gate(), heap, holder, &mut waiting)?;
        Ok(ShmPermit { heap, table, number, holder })
    }
}

impl ShmPermit<'_> {
    /// Which of the N it is, from 0 on; nobody else has that one.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number as usize
    }
}

impl Drop for ShmPermit<'_> {
    fn drop(&mut self) {
        // A forked child has a copy of what its parent holds, and not the permit.
        if is_owner(self.heap, self.holder) {
            self.table.give_back(&self.heap.gate(), self.holder, self.number);
        }
    }
}

/// The words; see the module's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permits {
    pub(super) bell: Bell,
    pub(super) first: WordIndex,
    pub(super) count: u64,
}

impl Permits {
    /// Waits for a permit and takes it; its number.
    pub(super) fn take(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        waiting: &mut Waiting,
    ) -> Result<u64> {
        loop {
            if let Some(number) = self.take_free(words, me) {
                return Ok(number);
            }
            if waiting.spin() {
                continue;
            }
            if let Some(number) = self.take_from_dead(words, roll, me) {
                return Ok(number);
            }
            let heard = self.bell.listen(words);
            // One may have been given back before this could be heard.
            if let Some(number) = self.take_free(words, me) {
                return Ok(number);
            }
            self.bell.sleep(words, heard, waiting)?;
        }
    }

    fn take_free(&self, words: &impl Words, me: PeerId) -> Option<u64> {
        (0..self.count).find(|&number| {
            let at = self.first + number;
            words.load(at) == 0 && words.compare_exchange(at, 0, me.word()).is_ok()
        })
    }

    fn take_from_dead(&self, words: &impl Words, roll: &impl Roll, me: PeerId) -> Option<u64> {
        (0..self.count).find(|&number| {
            let at = self.first + number;
            let word = words.load(at);
            // What names nobody was written by no holder.
            let holder = PeerId::of_word(word);
            let is_held = holder.is_some_and(|holder| holder == me || roll.is_alive(holder));
            !is_held && words.compare_exchange(at, word, me.word()).is_ok()
        })
    }

    pub(super) fn give_back(&self, words: &impl Words, me: PeerId, number: u64) {
        if words.compare_exchange(self.first + number, me.word(), 0).is_ok() {
            self.bell.ring(words, Listeners::All);
        }
    }
}

impl<const N: usize> fmt::Debug for ShmPermits<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmPermits").finish_non_exhaustive()
    }
}

impl fmt::Debug for ShmPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmPermit").field("number", &self.number).finish_non_exhaustive()
    }
}
