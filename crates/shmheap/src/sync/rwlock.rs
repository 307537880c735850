//! `ShmRwLock`: a value that one at a time changes, or many read, whoever is killed.
//!
//! ```text
//!   word 0        the writer: `owned`
//!   word 1        0
//!   words 2 - 15  who reads: `readers`
//!   word 16 ..    the value
//! ```

use std::fmt;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use super::mutex::is_owner;
use super::owned::{Owned, Want};
use super::readers::{Among, ENTRIES, Readers};
use super::shared::SharedLock;
use super::value::{Exclusive, Shared, Value};
use super::wait::{Patience, Waiting, at_once};
use super::word_of;
use crate::peers::{PeerId, Roll};
use crate::{Heap, Result, Shareable};

const LOCK: &str = "the read-write lock";

/// A read-write lock in a heap, with the value that it protects, for the threads of all processes.
/// All zeros are a free lock whose value is zeros.
///
/// Up to 14 processes read at once, each with as many threads as it likes; a further one waits
/// until one of them has stopped reading, and that is all it may cost. A writer keeps new readers
/// out while it waits for those that are in.
///
/// # Killed and stopped processes
///
/// A *writer* that is killed may leave the value half changed: as with a
/// [`ShmMutex`](crate::ShmMutex), nobody gets in until somebody repairs the value in
/// [`write_or_repair`](Self::write_or_repair). One that was killed while it still waited for
/// readers has changed nothing, and leaves nothing. A *reader* that is killed is counted no more:
/// writers that wait for it look after its life every 5 to 50 ms.
///
/// Who is stopped with the lock in its hands is waited for; all operations have a variant with a
/// timeout.
///
/// # Costs
///
/// Without contention an exchange to read and one to stop reading, besides a look at the table of
/// readers, two cache lines; a writer makes three and looks as well. No system call. Readers of
/// different processes mostly use different words, but of the same lines: this lock is for reads
/// that take longer than a microsecond or so.
///
/// # Misuse
///
/// A thread that reads and then waits to write waits for itself; one that reads twice may, if a
/// writer comes in between. Guards are as those of a [`ShmMutex`](crate::ShmMutex).
///
/// ```
/// use shmheap::{Heap, ShmRwLock};
/// # let name = format!("/doc-rwlock-{}", std::process::id());
///
/// let heap = Heap::create(&name, 1 << 20)?;
/// let table = heap.find_or_create::<ShmRwLock<[u64; 4]>>("table", |_| {})?;
///
/// table.write_or_repair(&heap, |table| *table = [0; 4])?[2] = 7;
/// let one = table.read(&heap)?;
/// let other = table.read(&heap)?;
/// assert_eq!((one[2], other[2]), (7, 7));
/// assert!(table.try_write(&heap)?.is_none());
/// # drop((one, other));
/// # Heap::destroy(&name)?;
/// # Ok::<(), shmheap::Error>(())
/// ```
#[repr(C)]
pub struct ShmRwLock<T> {
    writer: AtomicU64,
    reserved: AtomicU64,
    readers: [AtomicU64; ENTRIES as usize],
    pub(super) value: Value<T>,
}

// As FORMAT.md says.
const _: () = assert!(offset_of!(ShmRwLock<u8>, readers) == 16);
const _: () = assert!(offset_of!(ShmRwLock<u8>, value) == 128);

/// Access to the value of a [`ShmRwLock`] beside other readers.
#[must_use = "the lock is given back when the guard is dropped"]
pub struct ShmReadGuard<'a, T: Shareable> {
    value: Shared<'a, T>,
    heap: &'a Heap,
    readers: Readers,
    among: Among,
    reader: PeerId,
}

/// Access to the value of a [`ShmRwLock`] alone.
#[must_use = "the lock is given back when the guard is dropped"]
pub struct ShmWriteGuard<'a, T: Shareable> {
    value: Exclusive<'a, T>,
    heap: &'a Heap,
    owned: Owned,
    writer: PeerId,
    was_panicking: bool,
}

impl<T: Shareable> ShmRwLock<T> {
    /// The value, for who has the lock for himself: so it is filled when it is made.
    ///
    /// ```
    /// use shmheap::{HeapOptions, ShmRwLock};
    /// let heap = HeapOptions::new(1 << 16).create_memfd()?;
    /// let number = heap.find_or_create::<ShmRwLock<u64>>("number", |new| *new.get_mut() = 7)?;
    /// assert_eq!(*number.read(&heap)?, 7);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Waits until nobody writes, and reads.
    ///
    /// # Errors
    ///
    /// [`Error::OwnerDied`] if a process was killed, or a thread panicked, while it wrote, and
    /// nobody has repaired the value since. [`Error::InvalidPointer`] if the lock is not in this
    /// heap; [`Error::ReadOnly`] if this connection may only read the heap, for a reader has to be
    /// counted; and what a forked child may meet that joins the heap with this.
    ///
    /// [`Error::OwnerDied`]: crate::Error::OwnerDied
    /// [`Error::InvalidPointer`]: crate::Error::InvalidPointer
    /// [`Error::ReadOnly`]: crate::Error::ReadOnly
    pub fn read<'a>(&'a self, heap: &'a Heap) -> Result<ShmReadGuard<'a, T>> {
        self.enter(heap, Patience::ENDLESS)
    }

    /// As [`read`](Self::read), for so long at the most.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); [`Error::TimedOut`] if somebody writes all the time, or 14 other
    /// processes read.
    ///
    /// [`Error::TimedOut`]: crate::Error::TimedOut
    pub fn read_timeout<'a>(
        &'a self,
        heap: &'a Heap,
        timeout: Duration,
    ) -> Result<ShmReadGuard<'a, T>> {
        self.enter(heap, Patience::of(timeout))
    }

    /// Reads if nobody writes or wants to; `None` else, or if 14 other processes read.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn try_read<'a>(&'a self, heap: &'a Heap) -> Result<Option<ShmReadGuard<'a, T>>> {
        at_once(self.enter(heap, Patience::NONE))
    }

    /// Waits until nobody reads or writes, and writes.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn write<'a>(&'a self, heap: &'a Heap) -> Result<ShmWriteGuard<'a, T>> {
        self.acquire(heap, Want::Sound, Patience::ENDLESS).map(|(guard, _)| guard)
    }

    /// As [`write`](Self::write), for so long at the most.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); [`Error::TimedOut`] if somebody reads or writes all the time.
    ///
    /// [`Error::TimedOut`]: crate::Error::TimedOut
    pub fn write_timeout<'a>(
        &'a self,
        heap: &'a Heap,
        timeout: Duration,
    ) -> Result<ShmWriteGuard<'a, T>> {
        self.acquire(heap, Want::Sound, Patience::of(timeout)).map(|(guard, _)| guard)
    }

    /// Writes if nobody reads or writes; `None` if somebody does.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn try_write<'a>(&'a self, heap: &'a Heap) -> Result<Option<ShmWriteGuard<'a, T>>> {
        let guard = self.acquire(heap, Want::Sound, Patience::NONE).map(|(guard, _)| guard);
        at_once(guard)
    }

    /// As [`write`](Self::write), and has the value repaired if a writer died: see
    /// [`ShmMutex::lock_or_repair`](crate::ShmMutex::lock_or_repair).
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), but for [`Error::OwnerDied`].
    ///
    /// [`Error::OwnerDied`]: crate::Error::OwnerDied
    pub fn write_or_repair<'a>(
        &'a self,
        heap: &'a Heap,
        repair: impl FnOnce(&mut T),
    ) -> Result<ShmWriteGuard<'a, T>> {
        self.repairing(heap, Patience::ENDLESS, repair)
    }

    /// As [`write_or_repair`](Self::write_or_repair), for so long at the most.
    ///
    /// # Errors
    ///
    /// As [`write_or_repair`](Self::write_or_repair); [`Error::TimedOut`] if somebody reads or
    /// writes all the time.
    ///
    /// [`Error::TimedOut`]: crate::Error::TimedOut
    pub fn write_or_repair_timeout<'a>(
        &'a self,
        heap: &'a Heap,
        timeout: Duration,
        repair: impl FnOnce(&mut T),
    ) -> Result<ShmWriteGuard<'a, T>> {
        self.repairing(heap, Patience::of(timeout), repair)
    }

    fn repairing<'a>(
        &'a self,
        heap: &'a Heap,
        patience: Patience,
        repair: impl FnOnce(&mut T),
    ) -> Result<ShmWriteGuard<'a, T>> {
        let (mut guard, in_doubt) = self.acquire(heap, Want::Any, patience)?;
        if in_doubt {
            // Dropped by a panic of the repair, the guard leaves the value in doubt.
            let was_panicking = std::mem::replace(&mut guard.was_panicking, false);
            repair(&mut guard.value);
            guard.was_panicking = was_panicking;
            guard.owned.set_sound(&heap.gate(), guard.writer);
        }
        Ok(guard)
    }

    fn protocol(&self, heap: &Heap) -> Result<SharedLock> {
        let writer = Owned::new(word_of(heap, &self.writer)?, LOCK);
        let readers = Readers::new(word_of(heap, &self.readers[0])?);
        Ok(SharedLock { writer, readers })
    }

    fn enter<'a>(&'a self, heap: &'a Heap, patience: Patience) -> Result<ShmReadGuard<'a, T>> {
        let reader = Roll::me(heap)?;
        let protocol = self.protocol(heap)?;
        let mut waiting = Waiting::new(patience, LOCK);
        let among = protocol.read(&heap.gate(), heap, reader, &mut waiting)?;
        let value = self.value.shared(&among);
        Ok(ShmReadGuard { value, heap, readers: protocol.readers, among, reader })
    }

    fn acquire<'a>(
        &'a self,
        heap: &'a Heap,
        want: Want,
        patience: Patience,
    ) -> Result<(ShmWriteGuard<'a, T>, bool)> {
        let writer = Roll::me(heap)?;
        let protocol = self.protocol(heap)?;
        let mut waiting = Waiting::new(patience, LOCK);
        let (in_doubt, inside) = protocol.write(&heap.gate(), heap, writer, want, &mut waiting)?;
        let value = self.value.exclusive(inside);
        let (owned, was_panicking) = (protocol.writer, thread::panicking());
        Ok((ShmWriteGuard { value, heap, owned, writer, was_panicking }, in_doubt))
    }
}

impl<T: Shareable> Deref for ShmReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Shareable> Deref for ShmWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Shareable> DerefMut for ShmWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Shareable> Drop for ShmReadGuard<'_, T> {
    fn drop(&mut self) {
        // A forked child has a copy of its parent's guard, and is not among the readers.
        if is_owner(self.heap, self.reader) {
            self.readers.leave(&self.heap.gate(), self.reader, &self.among);
        }
    }
}

impl<T: Shareable> Drop for ShmWriteGuard<'_, T> {
    fn drop(&mut self) {
        // As above.
        if !is_owner(self.heap, self.writer) {
            return;
        }
        if thread::panicking() && !self.was_panicking {
            self.owned.orphan(&self.heap.gate(), self.writer);
        } else {
            self.owned.release_to_all(&self.heap.gate(), self.writer);
        }
    }
}

impl<T> fmt::Debug for ShmRwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmRwLock").finish_non_exhaustive()
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for ShmReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for ShmWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
