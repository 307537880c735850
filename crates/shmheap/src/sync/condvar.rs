//! `ShmCondvar`: waits for something to become true of what a mutex protects.
//!
//! One word: `bell`.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::bell::{Bell, Listeners};
use super::mutex::ShmMutexGuard;
use super::wait::SLEEP_MAX;
use super::word_of;
use crate::peers::Roll;
use crate::{Error, Heap, Result, Shareable};

const CONDITION: &str = "the condition";

/// A condition variable in a heap, to be used with a [`ShmMutex`](crate::ShmMutex) of the same
/// heap, for the threads of all processes. All zeros are one that nobody waits for.
///
/// # Killed processes
///
/// Whoever waits looks again by itself every 50 ms. So a process that is killed before it notifies
/// the others of what it has changed costs them no more than that, nor does one that is killed when
/// it has just been woken in the place of another. A waiter that gets the mutex back finds out what
/// [`lock`](crate::ShmMutex::lock) would: if its owner died, the value has to be repaired first.
///
/// # Costs
///
/// To notify when nobody has waited since all were notified is one load. A waiter makes some
/// exchanges and a system call, and takes the mutex again every 50 ms.
///
/// ```
/// use shmheap::{Heap, Shareable, ShmCondvar, ShmMutex};
/// # let name = format!("/doc-condvar-{}", std::process::id());
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Gate {
///     is_open: ShmMutex<u64>,
///     changed: ShmCondvar,
/// }
///
/// let heap = Heap::create(&name, 1 << 20)?;
/// let gate = heap.find_or_create::<Gate>("gate", |_| {})?;
///
/// std::thread::scope(|scope| {
///     // Usually in another process:
///     scope.spawn(|| {
///         *gate.is_open.lock(&heap)? = 1;
///         gate.changed.notify_all(&heap)
///     });
///     let is_open = gate.is_open.lock(&heap)?;
///     let is_open = gate.changed.wait_while(is_open, |is_open| *is_open == 0)?;
///     assert_eq!(*is_open, 1);
///     Ok::<_, shmheap::Error>(())
/// })?;
/// # Heap::destroy(&name)?;
/// # Ok::<(), shmheap::Error>(())
/// ```
#[repr(C)]
pub struct ShmCondvar {
    word: AtomicU64,
}

impl ShmCondvar {
    /// Gives the mutex back, waits to be notified, and takes the mutex again. May also return for
    /// no reason, and does so after 50 ms at the latest: what is waited for is to be looked at
    /// again.
    ///
    /// # Errors
    ///
    /// As [`ShmMutex::lock`](crate::ShmMutex::lock); the mutex is not taken then.
    /// [`Error::InvalidPointer`] if this is not in the heap of the guard.
    pub fn wait<'a, T: Shareable>(
        &self,
        guard: ShmMutexGuard<'a, T>,
    ) -> Result<ShmMutexGuard<'a, T>> {
        self.doze(guard, SLEEP_MAX)
    }

    /// As [`wait`](Self::wait), again and again while the condition holds.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_while<'a, T: Shareable>(
        &self,
        mut guard: ShmMutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<ShmMutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Self::wait), for so long at the most; then waiting for the mutex is all that it
    /// waits for.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout<'a, T: Shareable>(
        &self,
        guard: ShmMutexGuard<'a, T>,
        timeout: Duration,
    ) -> Result<ShmMutexGuard<'a, T>> {
        self.doze(guard, timeout.min(SLEEP_MAX))
    }

    /// As [`wait_while`](Self::wait_while), for so long at the most.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); [`Error::TimedOut`] if the condition still holds in the end, or
    /// somebody else has the mutex then. The mutex is not taken in either case.
    pub fn wait_timeout_while<'a, T: Shareable>(
        &self,
        mut guard: ShmMutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<ShmMutexGuard<'a, T>> {
        let Some(end) = Instant::now().checked_add(timeout) else {
            return self.wait_while(guard, condition);
        };
        while condition(&mut guard) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut { what: CONDITION });
            }
            let (mutex, heap) = guard.origin();
            self.listen(guard, left.min(SLEEP_MAX))?;
            guard = mutex.lock_timeout(heap, end.saturating_duration_since(Instant::now()))?;
        }
        Ok(guard)
    }

    /// Wakes one who waits, if anybody does. To be called after what is waited for was changed
    /// under the mutex, with the mutex in hand or not.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`] if this is not in that heap, [`Error::ReadOnly`] if this
    /// connection may only read.
    pub fn notify_one(&self, heap: &Heap) -> Result<()> {
        self.notify(heap, Listeners::One)
    }

    /// Wakes all who wait; as [`notify_one`](Self::notify_one).
    ///
    /// # Errors
    ///
    /// As [`notify_one`](Self::notify_one).
    pub fn notify_all(&self, heap: &Heap) -> Result<()> {
        self.notify(heap, Listeners::All)
    }

    fn notify(&self, heap: &Heap, whom: Listeners) -> Result<()> {
        Roll::me(heap)?;
        self.bell(heap)?.ring(&heap.gate(), whom);
        Ok(())
    }

    fn bell(&self, heap: &Heap) -> Result<Bell> {
        Ok(Bell::new(word_of(heap, &self.word)?))
    }

    fn doze<'a, T: Shareable>(
        &self,
        guard: ShmMutexGuard<'a, T>,
        time: Duration,
    ) -> Result<ShmMutexGuard<'a, T>> {
        let (mutex, heap) = guard.origin();
        self.listen(guard, time)?;
        mutex.lock(heap)
    }

    /// Gives the mutex back and sleeps until it is notified.
    fn listen<T: Shareable>(&self, guard: ShmMutexGuard<'_, T>, time: Duration) -> Result<()> {
        let (_, heap) = guard.origin();
        self.bell(heap)?.sleep_without(&heap.gate(), || drop(guard), time);
        Ok(())
    }
}

impl fmt::Debug for ShmCondvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmCondvar").finish_non_exhaustive()
    }
}
