//! `Broadcast`: one process writes values, and any number of others read all of them, or the last.
//! How that works is told in `sequence`.
//!
//! # Unsafe code
//!
//! Opening by handle, whose contract is the caller's.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{Look, Patience};
use super::sequence::{CAPACITY_MAX, CAPACITY_MIN, Core, Received};
use crate::object::{Fingerprint, Held, Shareable, value};
use crate::peers::{PeerId, Roll};
use crate::units::{LINE_BYTES, WORD_BYTES};
use crate::{Error, Handle, Heap, Result, Unpublished};

/// How often a read-only connection looks for news.
const POLL: Duration = Duration::from_millis(1);

/// What a handle to a [`Broadcast`] names: the last values of type `T` that somebody has written.
#[derive(Debug)]
pub struct ShmBroadcast<T>(PhantomData<fn() -> T>);

/// The last values that one process has written, for any number of others to read.
///
/// The writer never waits, and readers cost it nothing; a reader that is slower than the writer by
/// more than the capacity loses values, and is told how many. A writer that is *killed* or
/// *stopped* anywhere leaves every value that it had written; a stopped one holds up nobody but
/// those who want its next. When it is dead, another may take its place.
///
/// ```
/// use shmheap::{Broadcast, HeapOptions, Received};
///
/// let heap = HeapOptions::new(1 << 20).create_memfd()?;
/// let (handle, broadcast) = Broadcast::<u64>::create(&heap, 4)?;
/// let mut publisher = broadcast.publisher()?;
/// publisher.send(1)?;
///
/// // Usually in another process, which was told the handle:
/// // SAFETY: nobody frees the broadcast's object.
/// let other = unsafe { Broadcast::open(&heap, handle)? };
/// assert_eq!(other.latest(), Some(1));
/// let mut subscriber = other.subscribe();
/// publisher.send(2)?;
/// assert_eq!(subscriber.recv(), Received::Value(2));
/// for number in 3..10 {
///     publisher.send(number)?;
/// }
/// assert_eq!(subscriber.recv(), Received::Lagged { missed: 4 });
/// assert_eq!(subscriber.recv(), Received::Value(7));
/// # Ok::<(), shmheap::Error>(())
/// ```
pub struct Broadcast<'h, T> {
    heap: &'h Heap,
    handle: Handle<ShmBroadcast<T>>,
    core: Core,
    /// Keeps the object of one that was found by its name.
    held: Option<Arc<Held<'h>>>,
}

impl<'h, T: Shareable + Copy> Broadcast<'h, T> {
    /// Makes a broadcast of the last `capacity` values, rounded up to a power of two, of which the
    /// oldest may be under replacement.
    ///
    /// It stays until its object is freed ([`Heap::free`]); nobody may use it then.
    ///
    /// Cost: memory for as many values, each with 8 bytes more and rounded up to 64 bytes. Killed
    /// inside: one that nobody knows may be left; [`create_unpublished`](Self::create_unpublished)
    /// leaves none.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] if the capacity is below 2 or above 1048576, or a value larger than
    /// 512 KiB; as [`Heap::alloc_unpublished`].
    pub fn create(heap: &'h Heap, capacity: u64) -> Result<(Handle<ShmBroadcast<T>>, Self)> {
        let object = Self::create_unpublished(heap, capacity)?;
        let broadcast = Self::of(heap, object.handle().cast())?;
        let _ = object.keep();
        Ok((broadcast.handle, broadcast))
    }

    /// As [`create`](Self::create), but only the object, which dies with this process until it is
    /// published or kept.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_unpublished(heap: &'h Heap, capacity: u64) -> Result<Unpublished<'h>> {
        let refuse = |option, value, why| Error::InvalidOption { option, value, why };
        if !(CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity) {
            return Err(refuse("a broadcast's capacity", capacity, "it is 2 to 1048576"));
        }
        let capacity = capacity.next_power_of_two();
        let words = Core::layout_words(capacity, value::words_of::<T>()).ok_or_else(|| {
            let why = "a value in a broadcast has at most 524288 bytes";
            refuse("a value's size", size_of::<T>() as u64, why)
        })?;
        let size_bytes = words * WORD_BYTES;
        let layout = Layout::from_size_align(size_bytes as usize, LINE_BYTES as usize);
        let layout = layout.map_err(|_| Error::InvalidLayout {
            size_bytes,
            align_bytes: LINE_BYTES,
            why: "it overflows",
        })?;
        let object = heap.alloc_unpublished(layout)?;
        Core::format::<T>(&heap.gate(), heap.span(object.handle())?, capacity)?;
        Ok(object)
    }

    /// The broadcast of that name, or a new one of the last `capacity` values, rounded up to a
    /// power of two. It stays while it has the name ([`Heap::remove_root`]), or a process has it
    /// open so, or a publisher or subscriber of it.
    ///
    /// Cost: a walk through the names. Killed inside: there is one, or none.
    ///
    /// # Errors
    ///
    /// As [`Heap::find_or_create`] and [`create`](Self::create).
    pub fn find_or_create(heap: &'h Heap, name: &str, capacity: u64) -> Result<Self> {
        let fingerprint = Fingerprint::new("ShmBroadcast", 0, 1).parameter(T::FINGERPRINT);
        let make = || Self::create_unpublished(heap, capacity);
        let held = heap.find_or_create_object(name, fingerprint, make)?;
        let broadcast = Self::of(heap, held.handle().cast())?;
        Ok(Self { held: Some(Arc::new(held)), ..broadcast })
    }

    /// Opens a broadcast that somebody has made.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if the object is no broadcast of values of this type; as
    /// [`Heap::resolve`] if it is not live.
    ///
    /// # Safety
    ///
    /// Nobody frees the broadcast's object as long as what is returned, or a
    /// publisher or subscriber of it, is in use. What was opened by name
    /// ([`find_or_create`](Self::find_or_create)) sees to that itself.
    pub unsafe fn open(heap: &'h Heap, handle: Handle<ShmBroadcast<T>>) -> Result<Self> {
        Self::of(heap, handle)
    }

    pub(super) fn of(heap: &'h Heap, handle: Handle<ShmBroadcast<T>>) -> Result<Self> {
        let core = Core::open::<T>(&heap.gate(), heap.span(handle)?)?;
        Ok(Self { heap, handle, core, held: None })
    }

    /// The broadcast's handle, for others to open it by.
    #[must_use]
    pub fn handle(&self) -> Handle<ShmBroadcast<T>> {
        self.handle
    }

    /// Becomes the one that writes, until what is returned is dropped or this process dies.
    ///
    /// # Errors
    ///
    /// [`Error::AtCapacity`] if another process that lives, or another thread, is the writer;
    /// [`Error::ReadOnly`].
    pub fn publisher(&self) -> Result<Publisher<'h, T>> {
        let me = self.core.claim(&self.heap.gate(), self.heap)?;
        Ok(Publisher {
            heap: self.heap,
            core: self.core,
            me,
            of: PhantomData,
            _held: self.held.clone(),
        })
    }

    /// Reads all that is written from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscriber<'h, T> {
        let position = self.core.count(&self.heap.gate());
        Subscriber {
            heap: self.heap,
            core: self.core,
            position,
            of: PhantomData,
            _held: self.held.clone(),
        }
    }

    /// Reads all that is there, the oldest first, and all that is written from now on.
    #[must_use]
    pub fn subscribe_from_oldest(&self) -> Subscriber<'h, T> {
        let position = self.core.oldest(&self.heap.gate());
        Subscriber { position, ..self.subscribe() }
    }

    /// The value that was written last; `None` if none was.
    ///
    /// Cost: a load for each word, and again if it was replaced meanwhile. `None` as well if it is
    /// replaced a thousand times while this looks.
    #[must_use]
    pub fn latest(&self) -> Option<T> {
        self.core.latest(&self.heap.gate())
    }

    /// How many values a reader may be behind before it loses some; the oldest of them may be under
    /// replacement.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.core.capacity()
    }
}

impl<T> fmt::Debug for Broadcast<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// The writer of a [`Broadcast`]; another may be when this is dropped, or its process dead.
pub struct Publisher<'h, T> {
    heap: &'h Heap,
    core: Core,
    me: PeerId,
    of: PhantomData<fn() -> T>,
    /// As that of the broadcast.
    _held: Option<Arc<Held<'h>>>,
}

impl<T: Shareable + Copy> Publisher<'_, T> {
    /// Writes the next value, in place of the oldest, and wakes those who wait for it.
    ///
    /// Cost: three stores, one for each word of the value and a fence; a system call if somebody
    /// waits. Killed inside: it is written or not.
    ///
    /// # Errors
    ///
    /// [`Error::AtCapacity`] in a forked child, whose parent is the writer; [`Error::ReadOnly`].
    pub fn send(&mut self, value: T) -> Result<()> {
        if Roll::me(self.heap)? != self.me {
            return Err(Error::AtCapacity { what: "a broadcast's place for a writer", limit: 1 });
        }
        self.core.write(&self.heap.gate(), &value);
        Ok(())
    }
}

impl<T> Drop for Publisher<'_, T> {
    fn drop(&mut self) {
        // Not for the parent of this process.
        if Roll::me(self.heap).is_ok_and(|me| me == self.me) {
            self.core.release(&self.heap.gate(), self.me);
        }
    }
}

impl<T> fmt::Debug for Publisher<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

/// A reader of a [`Broadcast`], with a position of its own.
pub struct Subscriber<'h, T> {
    heap: &'h Heap,
    core: Core,
    position: u64,
    of: PhantomData<fn() -> T>,
    /// As that of the broadcast.
    _held: Option<Arc<Held<'h>>>,
}

impl<T: Shareable + Copy> Subscriber<'_, T> {
    /// The next value, or how many were lost, if there is one.
    ///
    /// Cost: a load for each word of the value and two more. Killed inside: nothing, for only
    /// this process knows of its reader.
    pub fn try_recv(&mut self) -> Option<Received<T>> {
        self.core.next(&self.heap.gate(), &mut self.position)
    }

    /// The next value, or how many were lost; waits for it. (A read-only connection looks every
    /// millisecond instead, for nobody can wake it.)
    pub fn recv(&mut self) -> Received<T> {
        loop {
            if let Some(received) = self.wait(None) {
                return received;
            }
        }
    }

    /// The next value, or how many were lost; `None` if none came in time.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<Received<T>> {
        self.wait(Some(timeout))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Option<Received<T>> {
        if self.heap.is_read_only() {
            return self.poll(timeout);
        }
        let (core, words, position) = (self.core, self.heap.gate(), &mut self.position);
        // Every sleeper is woken, so there is nothing to pass on; and the dead leave nothing.
        let attempt = |_: Look| Ok(core.next(&words, position));
        core.news().wait(&words, Patience::new(timeout, 0), attempt, || false).unwrap_or(None)
    }

    /// For whoever may not say that it sleeps.
    fn poll(&mut self, timeout: Option<Duration>) -> Option<Received<T>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let received = self.try_recv();
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if received.is_some() || is_late {
                return received;
            }
            std::thread::sleep(POLL);
        }
    }

    /// How many values it has read or lost, and were written before it came.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl<T> fmt::Debug for Subscriber<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("position", &self.position).finish_non_exhaustive()
    }
}
