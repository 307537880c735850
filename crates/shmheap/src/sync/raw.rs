//! `RawMutex`: the mutex without a value, for programs that keep what it guards by themselves, as
//! those in C do.
//!
//! The word is that of a [`ShmMutex`](super::ShmMutex), so either may be used by the other's
//! programs: `struct { uint64_t mutex; T value; }` is a `ShmMutex<T>`, if `T` has an alignment of 8
//! at the most.

use std::fmt;
use std::ptr::NonNull;
use std::time::Duration;

use super::mutex::MUTEX;
use super::owned::{Owned, Want};
use super::wait::{Patience, Waiting, at_once};
use crate::peers::{PeerId, Roll};
use crate::{Error, Heap, Result};

/// A mutex by its word, which lies in an object: 0 when nobody has it. Held by a process until it
/// unlocks it, whichever of its threads does; not by a guard.
///
/// ```
/// use shmheap::{HeapOptions, Locked, RawMutex};
/// use std::alloc::Layout;
/// # let heap = HeapOptions::new(1 << 16).create_memfd()?;
/// let word = heap.alloc_zeroed(Layout::new::<u64>())?.cast::<u64>();
/// // SAFETY: the word is an object of its own, and nothing but a mutex.
/// let mutex = unsafe { RawMutex::at(&heap, word) }?;
/// assert_eq!(mutex.lock(None)?, Locked::Sound);
/// assert_eq!(mutex.try_lock()?, None);
/// mutex.unlock()?;
/// assert!(mutex.unlock().is_err(), "this process does not have it");
/// # Ok::<(), shmheap::Error>(())
/// ```
pub struct RawMutex<'h> {
    heap: &'h Heap,
    owned: Owned,
}

/// In which state somebody finds what the mutex that it got guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// As its last owner left it.
    Sound,
    /// As a process left it that was killed with the mutex in its hands: it may be half changed.
    /// Unless [`RawMutex::set_sound`] is called, the next one finds it so again.
    InDoubt,
}

impl<'h> RawMutex<'h> {
    /// The mutex at an address, whatever is there.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`] if the address lies outside this heap, or at no multiple of 8.
    ///
    /// # Safety
    ///
    /// The word lies in a live object, and is used as a mutex and for nothing else. It is not given
    /// up while this process has a guard of it.
    #[allow(unsafe_code)]
    pub unsafe fn at(heap: &'h Heap, word: NonNull<u64>) -> Result<Self> {
        Ok(Self { heap, owned: Owned::new(heap.committed_word_at(word.cast())?, MUTEX) })
    }

    /// Waits until nobody has the mutex, and takes it; for so long at the most if a time is given.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::ReadOnly`].
    pub fn lock(&self, timeout: Option<Duration>) -> Result<Locked> {
        self.acquire(timeout.map_or(Patience::ENDLESS, Patience::of))
    }

    /// Takes the mutex if nobody has it; `None` if somebody does.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`].
    pub fn try_lock(&self) -> Result<Option<Locked>> {
        at_once(self.acquire(Patience::NONE))
    }

    fn acquire(&self, patience: Patience) -> Result<Locked> {
        let mut waiting = Waiting::new(patience, MUTEX);
        let (words, me) = (self.heap.gate(), Roll::me(self.heap)?);
        let (in_doubt, _) = self.owned.acquire(&words, self.heap, me, Want::Any, &mut waiting)?;
        Ok(if in_doubt { Locked::InDoubt } else { Locked::Sound })
    }

    /// Says that what the mutex guards has been repaired.
    ///
    /// # Errors
    ///
    /// [`Error::NotOwner`] if this process does not have the mutex.
    pub fn set_sound(&self) -> Result<()> {
        self.as_owner(|me| self.owned.set_sound(&self.heap.gate(), me))
    }

    /// Gives the mutex up. What was found in doubt, and not repaired since, stays so.
    ///
    /// # Errors
    ///
    /// [`Error::NotOwner`] if this process does not have the mutex.
    pub fn unlock(&self) -> Result<()> {
        self.as_owner(|me| self.owned.unlock(&self.heap.gate(), me))
    }

    fn as_owner(&self, change: impl FnOnce(PeerId) -> bool) -> Result<()> {
        match change(Roll::me(self.heap)?) {
            true => Ok(()),
            false => Err(Error::NotOwner { what: MUTEX }),
        }
    }
}

impl fmt::Debug for RawMutex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMutex").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{exit_status, fork, in_own_process};
    use crate::{HeapOptions, ShmArc, ShmMutex};

    fn word(mutex: &ShmMutex<u64>) -> NonNull<u64> {
        NonNull::from(mutex).cast()
    }

    #[allow(unsafe_code)]
    fn at(heap: &Heap, word: NonNull<u64>) -> Result<RawMutex<'_>> {
        // SAFETY: the tests use mutexes, or what is refused, and give up no guard's.
        unsafe { RawMutex::at(heap, word) }
    }

    #[test]
    fn it_is_the_mutex_with_a_value() {
        let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
        let mutex = heap.find_or_create::<ShmMutex<u64>>("mutex", |_| {}).unwrap();
        let raw = at(&heap, word(&mutex)).unwrap();
        assert_eq!(raw.lock(None).unwrap(), Locked::Sound);
        assert!(mutex.try_lock(&heap).unwrap().is_none());
        raw.unlock().unwrap();
        let guard = mutex.lock(&heap).unwrap();
        assert_eq!(raw.try_lock().unwrap(), None);
        let timed_out = raw.lock(Some(Duration::from_millis(1)));
        assert!(matches!(timed_out, Err(Error::TimedOut { .. })));
        drop(guard);
        assert!(matches!(raw.unlock(), Err(Error::NotOwner { .. })));
        assert!(matches!(raw.set_sound(), Err(Error::NotOwner { .. })));
    }

    #[test]
    fn it_lies_in_the_heap_or_is_refused() {
        let heap = HeapOptions::new(1 << 20).max_len(1 << 30).create_memfd().unwrap();
        let mut outside = 0_u64;
        let behind = heap.base().as_ptr().wrapping_add(1 << 29).cast();
        let within = heap.base().as_ptr().wrapping_add(4).cast();
        for address in [&raw mut outside, behind, within] {
            let refused = at(&heap, NonNull::new(address).unwrap());
            assert!(matches!(refused, Err(Error::InvalidPointer { .. })), "{address:?}");
        }
    }

    #[test]
    fn what_a_dead_owner_left_is_in_doubt_until_it_is_repaired() {
        let name = "what_a_dead_owner_left_is_in_doubt_until_it_is_repaired";
        in_own_process(module_path!(), name, || {
            let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
            let mutex: ShmArc<'_, ShmMutex<u64>> = heap.find_or_create("mutex", |_| {}).unwrap();
            let raw = at(&heap, word(&mutex)).unwrap();
            let child = fork(|| i32::from(raw.lock(None).is_err()));
            assert_eq!(exit_status(child), 0);
            for _ in 0..2 {
                assert_eq!(raw.lock(None).unwrap(), Locked::InDoubt);
                raw.unlock().unwrap();
            }
            assert!(matches!(mutex.lock(&heap), Err(Error::OwnerDied { .. })));
            assert_eq!(raw.lock(None).unwrap(), Locked::InDoubt);
            raw.set_sound().unwrap();
            raw.unlock().unwrap();
            assert_eq!(*mutex.lock(&heap).unwrap(), 0);
        });
    }
}
