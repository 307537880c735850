//! `ShmOnce`: something that is done once, by whichever process comes first and lives to the end.
//!
//! ```text
//!   63                 32 31      18    17      16          15               0
//!  +---------------------+---------+------+-----------+------------------+
//!  | joins of the doer   | 0       | done | contended | slot + 1         |
//!  +---------------------+---------+------+-----------+------------------+
//! ```
//!
//! | doer | done | state | if the doer is killed |
//! |---|---|---|---|
//! | none | 0 | not done | |
//! | p | 0 | p is at it | the next one who asks does it |
//! | none | 1 | done, for good | |
//!
//! *Contended* says that somebody may sleep on the word; all are woken when it is done, or left.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::mutex::is_owner;
use super::wait::{Patience, Waiting};
use super::word_of;
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Heap, Result};

const ONCE: &str = "what is done once";
const CONTENDED: u64 = 1 << 16;
const DONE: u64 = 1 << 17;
/// How often the doer tries to change its own word. Others only add a bit to it, once.
const CHANGES_MAX: u32 = 64;

/// Something in a heap that is to be done once, by one of the threads of all processes. All zeros
/// are one that is not done yet.
///
/// # Killed processes
///
/// If the process that does it is killed in it, or it panics, the next one that asks does it, from
/// the start: it has to cope with what was left half done. Those who wait find out within 50 ms.
///
/// # Costs
///
/// One load when it is done.
///
/// ```
/// use shmheap::{Heap, ShmOnce};
/// # let name = format!("/doc-once-{}", std::process::id());
///
/// let heap = Heap::create(&name, 1 << 20)?;
/// let start = heap.find_or_create::<ShmOnce>("start", |_| {})?;
///
/// let mut times = 0;
/// start.call_once(&heap, || times += 1)?;
/// start.call_once(&heap, || times += 1)?;
/// assert_eq!(times, 1);
/// assert!(start.is_done(&heap)?);
/// # Heap::destroy(&name)?;
/// # Ok::<(), shmheap::Error>(())
/// ```
#[repr(C)]
pub struct ShmOnce {
    word: AtomicU64,
}

impl ShmOnce {
    /// Does it, unless it is done; waits while another one is at it. It is done when this returns,
    /// and all that was written in it is seen.
    ///
    /// Who asks again from inside `act` waits for itself.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`](crate::Error::InvalidPointer) if this is not in that heap,
    /// [`Error::ReadOnly`](crate::Error::ReadOnly) if it is not done and this connection may only
    /// read; and what a forked child may meet that joins the heap with this.
    pub fn call_once(&self, heap: &Heap, act: impl FnOnce()) -> Result<()> {
        self.call(heap, Patience::ENDLESS, act)
    }

    /// As [`call_once`](Self::call_once), but waits no longer than that for another one.
    ///
    /// # Errors
    ///
    /// As [`call_once`](Self::call_once); [`Error::TimedOut`](crate::Error::TimedOut) if another
    /// one is at it all the time.
    pub fn call_once_timeout(
        &self,
        heap: &Heap,
        timeout: Duration,
        act: impl FnOnce(),
    ) -> Result<()> {
        self.call(heap, Patience::of(timeout), act)
    }

    /// Whether it is done; all that was written in it is seen then. Observers may ask, too.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`](crate::Error::InvalidPointer) if this is not in that heap.
    pub fn is_done(&self, heap: &Heap) -> Result<bool> {
        Ok(Deed { at: word_of(heap, &self.word)? }.is_done(&heap.gate()))
    }

    fn call(&self, heap: &Heap, patience: Patience, act: impl FnOnce()) -> Result<()> {
        let deed = Deed { at: word_of(heap, &self.word)? };
        if deed.is_done(&heap.gate()) {
            return Ok(());
        }
        let doer = Roll::me(heap)?;
        let mut waiting = Waiting::new(patience, ONCE);
        if deed.begin(&heap.gate(), heap, doer, &mut waiting)? {
            let mut doing = Doing { deed, heap, doer, end: 0 };
            act();
            doing.end = DONE;
        }
        Ok(())
    }
}

/// Somebody is at it; dropped by a panic, it leaves it to the next.
struct Doing<'h> {
    deed: Deed,
    heap: &'h Heap,
    doer: PeerId,
    end: u64,
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        // A child that was forked inside has a copy, and is not the doer.
        if is_owner(self.heap, self.doer) {
            self.deed.end(&self.heap.gate(), self.doer, self.end);
        }
    }
}

/// The word; see the module's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed {
    pub(super) at: WordIndex,
}

impl Deed {
    #[inline]
    pub(super) fn is_done(self, words: &impl Words) -> bool {
        let word = words.load(self.at);
        PeerId::of_word(word).is_none() && word & DONE != 0
    }

    /// Waits until it is done, or for `me` to do; whether it is.
    pub(super) fn begin(
        self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        waiting: &mut Waiting,
    ) -> Result<bool> {
        loop {
            let word = words.load(self.at);
            match PeerId::of_word(word) {
                None if word & DONE != 0 => return Ok(false),
                Some(_) if waiting.spin() => continue,
                Some(doer) if doer == me || roll.is_alive(doer) => {
                    let waited = word | CONTENDED;
                    if waited == word || words.compare_exchange(self.at, word, waited).is_ok() {
                        waiting.sleep(words, self.at, waited)?;
                        continue;
                    }
                }
                // Nobody is at it, or somebody who is dead.
                _ => {
                    let begun = me.word() | word & CONTENDED;
                    if words.compare_exchange(self.at, word, begun).is_ok() {
                        return Ok(true);
                    }
                }
            }
            waiting.lost()?;
        }
    }

    /// It is done, if `end` says so, or left to the next.
    pub(super) fn end(self, words: &impl Words, me: PeerId, end: u64) {
        for _ in 0..CHANGES_MAX {
            let word = words.load(self.at);
            if PeerId::of_word(word) != Some(me) {
                return;
            }
            if words.compare_exchange(self.at, word, end).is_ok() {
                if word & CONTENDED != 0 {
                    words.wake_all(self.at);
                }
                return;
            }
        }
    }
}

impl fmt::Debug for ShmOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmOnce").finish_non_exhaustive()
    }
}
