//! `ShmMutex`: a value that one at a time has for itself, whoever is killed.
//!
//! One word, whose states `owned` lists, and the value behind it.

use std::fmt;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use super::owned::{Owned, Want};
use super::value::{Exclusive, Value};
use super::wait::{Patience, Waiting, at_once};
use super::word_of;
use crate::peers::{PeerId, Roll};
use crate::{Heap, Result, Shareable};

pub(super) const MUTEX: &str = "the mutex";

/// A mutual exclusion lock in a heap, with the value that it protects, for the threads of all
/// processes. All zeros are a free mutex whose value is zeros.
///
/// # Killed and stopped processes
///
/// The mutex belongs to a *process*. When that is killed with the mutex in its hands, the value may
/// be half changed. So nobody is let in unawares: [`lock`](Self::lock) fails with
/// [`Error::OwnerDied`], for all, until somebody repairs the value in
/// [`lock_or_repair`](Self::lock_or_repair). The same becomes of a mutex whose guard is dropped by
/// a panic. A process killed before it has the mutex, or after it gave it back, costs at most the
/// 50 ms after which those who sleep look again.
///
/// Who is stopped with the mutex in its hands is waited for; [`lock_timeout`](Self::lock_timeout)
/// puts an end to that.
///
/// # Costs
///
/// Without contention an exchange for each of lock and unlock, and no system call. A waiter looks
/// again for a microsecond or so, then asks the kernel for its owner's proof of life and sleeps
/// until it is woken, or for 5 to 50 ms.
///
/// # Misuse
///
/// Who locks a mutex that the same thread has already waits for itself. A guard that is leaked
/// keeps the mutex until its process is gone. The copy of a guard that a forked child has is not
/// the child's: it must not be used; dropping it does nothing.
///
/// ```
/// use shmheap::{Heap, ShmMutex};
/// # let name = format!("/doc-mutex-{}", std::process::id());
///
/// let heap = Heap::create(&name, 1 << 20)?;
/// let pair = heap.find_or_create::<ShmMutex<[u64; 2]>>("pair", |_| {})?;
///
/// // Any process:
/// let mut both = pair.lock_or_repair(&heap, |both| both[1] = both[0])?;
/// both[0] += 1;
/// both[1] += 1;
/// drop(both);
/// assert_eq!(*pair.lock(&heap)?, [1, 1]);
/// # Heap::destroy(&name)?;
/// # Ok::<(), shmheap::Error>(())
/// ```
///
/// [`Error::OwnerDied`]: crate::Error::OwnerDied
#[repr(C)]
pub struct ShmMutex<T> {
    word: AtomicU64,
    pub(super) value: Value<T>,
}

// As FORMAT.md says.
const _: () = assert!(offset_of!(ShmMutex<u64>, value) == 8);
const _: () = assert!(offset_of!(ShmMutex<u128>, value) == align_of::<u128>());

/// Access to the value of a [`ShmMutex`]; dropping it gives the mutex back.
#[must_use = "the mutex is given back when the guard is dropped"]
pub struct ShmMutexGuard<'a, T: Shareable> {
    value: Exclusive<'a, T>,
    mutex: &'a ShmMutex<T>,
    heap: &'a Heap,
    owned: Owned,
    owner: PeerId,
    was_panicking: bool,
}

impl<T: Shareable> ShmMutex<T> {
    /// The value, for who has the mutex for himself: so it is filled when it is made.
    ///
    /// ```
    /// use shmheap::{HeapOptions, ShmMutex};
    /// let heap = HeapOptions::new(1 << 16).create_memfd()?;
    /// let number = heap.find_or_create::<ShmMutex<u64>>("number", |new| *new.get_mut() = 7)?;
    /// assert_eq!(*number.lock(&heap)?, 7);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Waits until nobody has the mutex, and takes it.
    ///
    /// # Errors
    ///
    /// [`Error::OwnerDied`] if a process was killed, or a thread panicked, with the mutex in its
    /// hands, and nobody has repaired the value since. [`Error::InvalidPointer`] if the mutex is
    /// not in this heap, [`Error::ReadOnly`] if this connection may only read; and what a forked
    /// child may meet that joins the heap with this.
    ///
    /// [`Error::OwnerDied`]: crate::Error::OwnerDied
    /// [`Error::InvalidPointer`]: crate::Error::InvalidPointer
    /// [`Error::ReadOnly`]: crate::Error::ReadOnly
    pub fn lock<'a>(&'a self, heap: &'a Heap) -> Result<ShmMutexGuard<'a, T>> {
        self.acquire(heap, Want::Sound, Patience::ENDLESS).map(|(guard, _)| guard)
    }

    /// As [`lock`](Self::lock), for so long at the most.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock); [`Error::TimedOut`] if somebody has the mutex all the time.
    ///
    /// [`Error::TimedOut`]: crate::Error::TimedOut
    pub fn lock_timeout<'a>(
        &'a self,
        heap: &'a Heap,
        timeout: Duration,
    ) -> Result<ShmMutexGuard<'a, T>> {
        self.acquire(heap, Want::Sound, Patience::of(timeout)).map(|(guard, _)| guard)
    }

    /// Takes the mutex if nobody has it; `None` if somebody does.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn try_lock<'a>(&'a self, heap: &'a Heap) -> Result<Option<ShmMutexGuard<'a, T>>> {
        let guard = self.acquire(heap, Want::Sound, Patience::NONE).map(|(guard, _)| guard);
        at_once(guard)
    }

    /// As [`lock`](Self::lock), and has the value repaired if its owner died: `repair` then gets
    /// the value as that left it, and makes it sound.
    ///
    /// Only when `repair` has returned the value counts as sound. If it panics, or the process is
    /// killed in it, the next one finds the value in doubt as this one did.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), but for [`Error::OwnerDied`].
    ///
    /// [`Error::OwnerDied`]: crate::Error::OwnerDied
    pub fn lock_or_repair<'a>(
        &'a self,
        heap: &'a Heap,
        repair: impl FnOnce(&mut T),
    ) -> Result<ShmMutexGuard<'a, T>> {
        self.repairing(heap, Patience::ENDLESS, repair)
    }

    /// As [`lock_or_repair`](Self::lock_or_repair), for so long at the most.
    ///
    /// # Errors
    ///
    /// As [`lock_or_repair`](Self::lock_or_repair); [`Error::TimedOut`] if somebody has the mutex
    /// all the time.
    ///
    /// [`Error::TimedOut`]: crate::Error::TimedOut
    pub fn lock_or_repair_timeout<'a>(
        &'a self,
        heap: &'a Heap,
        timeout: Duration,
        repair: impl FnOnce(&mut T),
    ) -> Result<ShmMutexGuard<'a, T>> {
        self.repairing(heap, Patience::of(timeout), repair)
    }

    fn repairing<'a>(
        &'a self,
        heap: &'a Heap,
        patience: Patience,
        repair: impl FnOnce(&mut T),
    ) -> Result<ShmMutexGuard<'a, T>> {
        let (mut guard, in_doubt) = self.acquire(heap, Want::Any, patience)?;
        if in_doubt {
            // Dropped by a panic of the repair, the guard leaves the value in doubt.
            let was_panicking = std::mem::replace(&mut guard.was_panicking, false);
            repair(&mut guard.value);
            guard.was_panicking = was_panicking;
            guard.owned.set_sound(&heap.gate(), guard.owner);
        }
        Ok(guard)
    }

    fn acquire<'a>(
        &'a self,
        heap: &'a Heap,
        want: Want,
        patience: Patience,
    ) -> Result<(ShmMutexGuard<'a, T>, bool)> {
        let owner = Roll::me(heap)?;
        let owned = Owned::new(word_of(heap, &self.word)?, MUTEX);
        let mut waiting = Waiting::new(patience, MUTEX);
        let (in_doubt, inside) = owned.acquire(&heap.gate(), heap, owner, want, &mut waiting)?;
        let value = self.value.exclusive(inside);
        let was_panicking = thread::panicking();
        Ok((ShmMutexGuard { value, mutex: self, heap, owned, owner, was_panicking }, in_doubt))
    }
}

impl<'a, T: Shareable> ShmMutexGuard<'a, T> {
    /// The mutex, and the heap that it is in.
    pub(super) fn origin(&self) -> (&'a ShmMutex<T>, &'a Heap) {
        (self.mutex, self.heap)
    }
}

impl<T: Shareable> Deref for ShmMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Shareable> DerefMut for ShmMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Shareable> Drop for ShmMutexGuard<'_, T> {
    fn drop(&mut self) {
        // A forked child has a copy of its parent's guard, and not the mutex.
        if !is_owner(self.heap, self.owner) {
            return;
        }
        if thread::panicking() && !self.was_panicking {
            self.owned.orphan(&self.heap.gate(), self.owner);
        } else {
            self.owned.release(&self.heap.gate(), self.owner);
        }
    }
}

/// Whether this process is still that peer.
pub(super) fn is_owner(heap: &Heap, owner: PeerId) -> bool {
    Roll::me(heap).is_ok_and(|me| me == owner)
}

impl<T> fmt::Debug for ShmMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmMutex").finish_non_exhaustive()
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for ShmMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
