//! `ShmSemaphore`: a number of permits that are nobody's.
//!
//! ```text
//!   63              32 31                        1      0
//!  +------------------+---------------------------+-----------+
//!  | 0                | permits                   | contended |
//!  +------------------+---------------------------+-----------+
//! ```
//!
//! *Contended* says that somebody may sleep on the word; a release takes it away and wakes one.
//! Whoever has slept takes a permit with that bit, since others may sleep still, and wakes the next
//! if permits are left: two releases in a row wake one themselves. A process killed in that chain
//! costs those who sleep the rest of their sleep.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::wait::{Patience, Waiting, at_once};
use super::word_of;
use crate::peers::Roll;
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Heap, Result};

const SEMAPHORE: &str = "the semaphore";
const CONTENDED: u64 = 1;
const PERMIT_SHIFT: u32 = 1;
/// As many as the low half of the word can count.
const PERMITS_MAX: u64 = (u32::MAX >> PERMIT_SHIFT) as u64;

/// A counting semaphore in a heap, for the threads of all processes. All zeros are one without
/// permits.
///
/// Permits are nobody's: one process may take what another gives, as the number of things in a
/// queue. So what a killed process has taken is not given back. For permits that are, see
/// [`ShmPermits`](crate::ShmPermits).
///
/// # Costs
///
/// A load and an exchange for each operation, and no system call where nobody waits. A process that
/// is killed between its release and the wake, or stopped there, delays those who wait by up to
/// 50 ms, after which they look for themselves.
///
/// ```
/// use shmheap::{Heap, ShmSemaphore};
/// # let name = format!("/doc-semaphore-{}", std::process::id());
///
/// let heap = Heap::create(&name, 1 << 20)?;
/// let things = heap.find_or_create::<ShmSemaphore>("things", |_| {})?;
///
/// things.release(&heap, 2)?;
/// things.acquire(&heap)?;
/// assert!(things.try_acquire(&heap)?);
/// assert!(!things.try_acquire(&heap)?);
/// # Heap::destroy(&name)?;
/// # Ok::<(), shmheap::Error>(())
/// ```
#[repr(C)]
pub struct ShmSemaphore {
    word: AtomicU64,
}

impl ShmSemaphore {
    /// Waits for a permit and takes it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`] if the semaphore is not in this heap, [`Error::ReadOnly`] if this
    /// connection may only read.
    pub fn acquire(&self, heap: &Heap) -> Result<()> {
        self.take(heap, Patience::ENDLESS)
    }

    /// As [`acquire`](Self::acquire), for so long at the most.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); [`Error::TimedOut`] if no permit came.
    pub fn acquire_timeout(&self, heap: &Heap, timeout: Duration) -> Result<()> {
        self.take(heap, Patience::of(timeout))
    }

    /// Takes a permit if there is one; whether there was.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub fn try_acquire(&self, heap: &Heap) -> Result<bool> {
        at_once(self.take(heap, Patience::NONE)).map(|taken| taken.is_some())
    }

    /// Adds permits.
    ///
    /// # Errors
    ///
    /// [`Error::AtCapacity`] if there would be more than 2^31 - 1: none is added. Else as
    /// [`acquire`](Self::acquire).
    pub fn release(&self, heap: &Heap, permits: u32) -> Result<()> {
        Roll::me(heap)?;
        Count { at: word_of(heap, &self.word)? }.give(&heap.gate(), u64::from(permits))
    }

    /// How many permits there are at this moment.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`] if the semaphore is not in this heap.
    pub fn permits(&self, heap: &Heap) -> Result<u32> {
        let word = heap.gate().load(word_of(heap, &self.word)?);
        Ok((word as u32) >> PERMIT_SHIFT)
    }

    fn take(&self, heap: &Heap, patience: Patience) -> Result<()> {
        Roll::me(heap)?;
        let count = Count { at: word_of(heap, &self.word)? };
        count.take(&heap.gate(), &mut Waiting::new(patience, SEMAPHORE))
    }
}

/// The word; see the module's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    pub(super) at: WordIndex,
}

impl Count {
    pub(super) fn take(self, words: &impl Words, waiting: &mut Waiting) -> Result<()> {
        let mut contended = 0;
        loop {
            let word = words.load(self.at);
            let permits = permits(word);
            if permits == 0 {
                if waiting.spin() {
                    continue;
                }
                let waited = word | CONTENDED;
                if waited != word && words.compare_exchange(self.at, word, waited).is_err() {
                    waiting.lost()?;
                    continue;
                }
                waiting.sleep(words, self.at, waited)?;
                contended = CONTENDED;
                continue;
            }
            let left = (permits - 1) << PERMIT_SHIFT | word & CONTENDED | contended;
            if words.compare_exchange(self.at, word, left).is_ok() {
                if contended != 0 && permits > 1 {
                    words.wake(self.at);
                }
                return Ok(());
            }
            waiting.lost()?;
        }
    }

    pub(super) fn give(self, words: &impl Words, more: u64) -> Result<()> {
        // Exchanges that fail are others' that succeed, but for what a broken process does.
        let mut waiting = Waiting::new(Patience::of(Duration::from_secs(1)), SEMAPHORE);
        loop {
            let word = words.load(self.at);
            let sum = permits(word) + more;
            if sum > PERMITS_MAX {
                return Err(Error::AtCapacity { what: SEMAPHORE, limit: PERMITS_MAX });
            }
            if words.compare_exchange(self.at, word, sum << PERMIT_SHIFT).is_ok() {
                if word & CONTENDED != 0 {
                    words.wake(self.at);
                }
                return Ok(());
            }
            waiting.lost()?;
        }
    }
}

fn permits(word: u64) -> u64 {
    word >> PERMIT_SHIFT & PERMITS_MAX
}

impl fmt::Debug for ShmSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmSemaphore").finish_non_exhaustive()
    }
}
