//! `Channel`: a queue of plain values between processes.
//!
//! # Unsafe code
//!
//! Opening by handle, whose contract is the caller's.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::event::Look;
use super::port::{self, Port};
use super::shape::Kind;
use super::transfer::Values;
use crate::object::{Shareable, value};
use crate::{Error, Handle, Heap, Result, Unpublished};

/// What queues of values and of bytes begin with.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"shmqueue");

/// What a handle to a [`Channel`] names: a queue of values of type `T` in a heap.
#[derive(Debug)]
pub struct ShmChannel<T>(PhantomData<fn() -> T>);

/// A queue of plain values, which any number of processes send to and receive from.
///
/// Messages come in the order in which they were sent, each to one receiver. A process that is
/// *killed* anywhere in a call blocks nobody: what it was sending is sent as a whole or not at all,
/// and what it was receiving, but had not received yet, comes to another receiver, late. A process
/// that is *stopped* anywhere blocks nobody either; what it was receiving is its own. (Each keeps
/// room for a message to itself; a full channel has room for its capacity once more, and sixteen:
/// more than that are not to be stopped at once.)
///
/// Threads may share one of these; several in one process are as good.
///
/// ```
/// use shmheap::{Channel, Error, HeapOptions};
/// use std::time::Duration;
///
/// let heap = HeapOptions::new(1 << 20).create_memfd()?;
/// let (handle, sender) = Channel::<[u32; 2]>::create(&heap, 100)?;
/// sender.send([1, 2])?;
/// sender.send_batch(&[[3, 4], [5, 6]])?;
///
/// // Usually in another process, which was told the handle:
/// // SAFETY: nobody frees the channel's object.
/// let receiver = unsafe { Channel::open(&heap, handle)? };
/// assert_eq!(receiver.recv()?, [1, 2]);
/// assert_eq!(receiver.try_recv()?, Some([3, 4]));
/// sender.close()?;
/// assert_eq!(receiver.recv()?, [5, 6]);
/// assert!(matches!(receiver.recv_timeout(Duration::ZERO), Err(Error::Closed { .. })));
/// # Ok::<(), Error>(())
/// ```
pub struct Channel<'h, T> {
    pub(super) port: Port<'h, Values<T>>,
}

impl<'h, T: Shareable + Copy> Channel<'h, T> {
    const KIND: Kind =
        Kind { magic: MAGIC, fingerprint: T::FINGERPRINT, value_words: value::words_of::<T>() };

    /// Makes a channel for `capacity` messages, rounded up to a power of two.
    ///
    /// The channel stays until its object is freed ([`Heap::free`]); nobody may use it then.
    ///
    /// Cost: memory for three times as many messages and some, each with 16 bytes more and rounded
    /// up to 64 bytes. Killed inside: a channel that nobody knows may be left;
    /// [`create_unpublished`](Self::create_unpublished) leaves none.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] if the capacity is 0 or above 1048576, or a value larger than
    /// 512 KiB; as [`Heap::alloc_unpublished`].
    pub fn create(heap: &'h Heap, capacity: u64) -> Result<(Handle<ShmChannel<T>>, Self)> {
        let object = Self::create_unpublished(heap, capacity)?;
        let channel = Self::of(heap, object.handle().cast())?;
        let _ = object.keep();
        Ok((channel.handle(), channel))
    }

    /// As [`create`](Self::create), but only the object, which dies with this process until it is
    /// published or kept.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_unpublished(heap: &'h Heap, capacity: u64) -> Result<Unpublished<'h>> {
        port::make(heap, capacity, Self::KIND)
    }

    /// The channel of that name, or a new one for `capacity` messages, rounded up to a power of
    /// two; one that is there keeps its own. It stays while it has the name
    /// ([`Heap::remove_root`]), or a process has it open so.
    ///
    /// Cost: a walk through the names. Killed inside: there is one, or none.
    ///
    /// # Errors
    ///
    /// As [`Heap::find_or_create`] and [`create`](Self::create).
    ///
    /// ```
    /// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
    /// // In any number of processes:
    /// let jobs = shmheap::Channel::<u64>::find_or_create(&heap, "jobs", 100)?;
    /// jobs.send(7)?;
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn find_or_create(heap: &'h Heap, name: &str, capacity: u64) -> Result<Self> {
        let port = Port::find_or_create(heap, name, capacity, Self::KIND, Values(PhantomData))?;
        Ok(Self { port })
    }

    /// Opens a channel that somebody has made.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if the object is no channel of values of this type; as
    /// [`Heap::resolve`] if it is not live.
    ///
    /// # Safety
    ///
    /// Nobody frees the channel's object as long as what is returned is in use. What was opened by
    /// name ([`find_or_create`](Self::find_or_create)) sees to that itself.
    pub unsafe fn open(heap: &'h Heap, handle: Handle<ShmChannel<T>>) -> Result<Self> {
        Self::of(heap, handle)
    }

    pub(super) fn of(heap: &'h Heap, handle: Handle<ShmChannel<T>>) -> Result<Self> {
        let port = Port::open(heap, handle.cast(), Self::KIND, Values(PhantomData))?;
        Ok(Self { port })
    }

    /// The channel's handle, for others to open it by.
    #[must_use]
    pub fn handle(&self) -> Handle<ShmChannel<T>> {
        self.port.handle.cast()
    }

    /// Sends a value if there is room.
    ///
    /// Cost: three exchanges, and a system call if a receiver sleeps. Killed inside: the value is
    /// sent or not.
    ///
    /// # Errors
    ///
    /// [`Error::AtCapacity`] if there is none, [`Error::Closed`]; [`Error::ReadOnly`];
    /// [`Error::Damaged`] if somebody has overwritten the channel.
    pub fn try_send(&self, value: T) -> Result<()> {
        let sent = self.port.transfer().try_send(&value, Look::Thorough)?;
        sent.ok_or_else(|| self.port.at_capacity())
    }

    /// Sends a value, and waits for room.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), but for the capacity.
    pub fn send(&self, value: T) -> Result<()> {
        self.send_within(&value, None)
    }

    /// Sends a value, and waits for room for so long.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`Error::TimedOut`].
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<()> {
        self.send_within(&value, Some(timeout))
    }

    fn send_within(&self, value: &T, timeout: Option<Duration>) -> Result<()> {
        let sent = self.port.transfer().send(value, self.port.patience(timeout))?;
        sent.ok_or(Error::TimedOut { what: "room in the channel" })
    }

    /// Sends values one after the other, waits for room, and returns how many: all, unless the
    /// channel is closed meanwhile. Others may send in between.
    ///
    /// Cost: as so many sends, but one wake-up for as many as there is room for. Killed inside:
    /// some of the first are sent.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), if none was sent.
    pub fn send_batch(&self, values: &[T]) -> Result<usize> {
        let transfer = self.port.transfer();
        let mut sent = 0;
        while sent < values.len() {
            let rest = &values[sent..];
            let more = transfer.wait_for_room(self.port.patience(None), |look| {
                match transfer.try_send_all(rest, look) {
                    (0, None) => Ok(None),
                    (0, Some(error)) => Err(error),
                    (count, _) => Ok(Some(count)),
                }
            });
            match more {
                Ok(more) => sent += more.unwrap_or(0),
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    /// Sends the first of the values, as many as there is room for, and returns how many.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), but for the capacity, if none was sent.
    pub fn try_send_batch(&self, values: &[T]) -> Result<usize> {
        match self.port.transfer().try_send_all(values, Look::Thorough) {
            (0, Some(error)) => Err(error),
            (sent, _) => Ok(sent),
        }
    }

    /// Receives a value if there is one.
    ///
    /// What a receiver that was killed has left is found by every 65th attempt in a row that finds
    /// nothing else, by [`recv`](Self::recv) while it sleeps, and at the end of
    /// [`recv_timeout`](Self::recv_timeout), also of one that does not wait.
    ///
    /// Cost: four exchanges, or two loads if there is none; and a system call if a sender sleeps.
    /// Killed inside: the value is received, or comes to another receiver.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if there is none and none will come, [`Error::ReadOnly`];
    /// [`Error::Damaged`] if somebody has overwritten the channel.
    pub fn try_recv(&self) -> Result<Option<T>> {
        self.port.try_recv()
    }

    /// Receives a value, and waits for it.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn recv(&self) -> Result<T> {
        self.port.recv(None)
    }

    /// Receives a value, and waits for it for so long.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [`Error::TimedOut`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T> {
        self.port.recv(Some(timeout))
    }

    /// The values to come, each waited for, until the channel is closed and empty, or an error.
    ///
    /// ```
    /// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
    /// let jobs = shmheap::Channel::<u64>::find_or_create(&heap, "jobs", 100)?;
    /// jobs.send_batch(&[1, 2, 3])?;
    /// jobs.close()?;
    /// let sum: u64 = jobs.iter().sum::<shmheap::Result<u64>>()?;
    /// assert_eq!(sum, 6);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Result<T>> {
        let mut is_over = false;
        std::iter::from_fn(move || {
            let received = (!is_over).then(|| self.recv())?;
            is_over = received.is_err();
            (!matches!(received, Err(Error::Closed { .. }))).then_some(received)
        })
    }

    /// Waits for a value, and receives up to `limit` of those that are there then, to the end of
    /// `into`; returns how many. Killed inside: what is in `into` is gone with the process, the
    /// rest comes to others.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), if there is none.
    pub fn recv_batch(&self, into: &mut Vec<T>, limit: usize) -> Result<usize> {
        self.port.recv_batch(into, limit, None)
    }

    /// Closes the channel for good: nothing can be sent any more, and receivers are told so when
    /// they have received what is there. Killed inside: it is closed or not; if it is, those who
    /// sleep notice after a twentieth of a second at the latest.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`].
    pub fn close(&self) -> Result<()> {
        self.port.close()
    }

    /// Whether it has been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.port.queue().is_closed()
    }

    /// How many messages there are, at some moment, without those that receivers have in hand.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.port.queue().len()
    }

    /// Whether there is no message, at some moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages there can be.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.port.shape.laps.capacity()
    }
}

impl<T> fmt::Debug for Channel<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capacity = self.port.shape.laps.capacity();
        f.debug_struct("Channel")
            .field("handle", &self.port.handle)
            .field("capacity", &capacity)
            .finish_non_exhaustive()
    }
}
