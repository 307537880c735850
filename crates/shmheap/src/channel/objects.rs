//! `ObjectChannel`: a queue of objects between processes, each of which changes hands once.
//!
//! A cell of the queue holds a cell of the ledger (`heap::handover`) as its value. The sender
//! publishes into it while the queue's cell is its own, the receiver takes from it likewise: so the
//! object is always in one place, and whoever finds what the dead have left asks the ledger.
//!
//! | the dead one's cell is | the object | whoever finds it |
//! |---|---|---|
//! | filling, empty | was not sent: freed with its sender | makes the cell free |
//! | filling, with the object | was not sent | takes and frees it, makes the cell free |
//! | receiving, with the object | was not received | receives it |
//! | receiving, empty | was received: freed with its receiver | makes the cell free |
//!
//! # Unsafe code
//!
//! Opening by handle, whose contract is the caller's.
#![allow(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::event::{Look, Patience};
use super::port::{self, Port};
use super::queue::Cell;
use super::shape::Kind;
use super::transfer::{Cargo, Stuck};
use crate::heap::Gate;
use crate::object::Fingerprint;
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Handle, Heap, Result, Unpublished};

const KIND: Kind = Kind {
    magic: u64::from_le_bytes(*b"shmobjsq"),
    fingerprint: Fingerprint::UNTYPED,
    value_words: 1,
};

/// What a handle to an [`ObjectChannel`] names: a queue of objects in a heap.
#[derive(Debug)]
pub struct ShmObjectChannel(());

/// Objects of a heap, by the cells that hold them.
#[derive(Debug)]
struct Objects<'h>(&'h Heap);

impl<'h> Cargo<Gate<'h>> for Objects<'h> {
    type Item = Unpublished<'h>;

    fn unload(&self, words: &Gate<'h>, at: WordIndex) -> Result<Option<Unpublished<'h>>, Stuck> {
        match self.0.take_at(at) {
            Ok(Some(object)) => Ok(Some(object)),
            Ok(None) if words.load(at) == 0 => Ok(None),
            // Somebody is about to adopt who died with it.
            Ok(None) => Err(Stuck::NotNow(None)),
            Err(error @ (Error::InvalidHandle { .. } | Error::Stale { .. })) => {
                // Release; its partner is the exchange of who publishes here next.
                words.store(at, 0);
                Err(Stuck::Lost(error))
            }
            Err(error) => Err(Stuck::NotNow(Some(error))),
        }
    }

    fn discard(&self, words: &Gate<'h>, at: WordIndex) -> bool {
        match self.unload(words, at) {
            Ok(object) => {
                drop(object);
                true
            }
            Err(Stuck::Lost(_)) => true,
            Err(Stuck::NotNow(_)) => false,
        }
    }
}

/// Why an object was not sent, and the object.
///
/// With `?`, in a function that returns [`Result`], the object is freed and the error goes on.
#[derive(Debug)]
pub struct NotSent<'h> {
    /// What kept it from being sent.
    pub error: Error,
    /// The object, unpublished as before. `None` if it could not be taken back, since at that very
    /// moment the heap could not remember one more unpublished object: then it is freed.
    pub object: Option<Unpublished<'h>>,
}

impl fmt::Display for NotSent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for NotSent<'_> {}

impl From<NotSent<'_>> for Error {
    fn from(refused: NotSent<'_>) -> Self {
        refused.error
    }
}

/// A queue of objects, which any number of processes send to and receive from: as
/// [`Channel`](crate::Channel), with objects that change hands.
///
/// An object that is sent belongs to the channel; received, to the receiver, with whom it dies
/// until it is published, sent on or kept. If a process is killed at any moment, each object is in
/// the channel, or somebody's, or freed: once, and with the dead one only if it was that one's.
///
/// ```
/// use shmheap::{HeapOptions, ObjectChannel};
/// use std::alloc::Layout;
///
/// let heap = HeapOptions::new(1 << 20).create_memfd()?;
/// let (handle, sender) = ObjectChannel::create(&heap, 100)?;
/// let letter = heap.alloc_unpublished(Layout::new::<u32>())?;
/// // SAFETY: the object is ours, large enough and aligned.
/// unsafe { letter.as_ptr().cast::<u32>().write(7) };
/// sender.send(letter)?;
///
/// // Usually in another process, which was told the handle:
/// // SAFETY: nobody frees the channel's object.
/// let receiver = unsafe { ObjectChannel::open(&heap, handle)? };
/// let letter = receiver.recv()?;
/// // SAFETY: who sent it has left it to us.
/// assert_eq!(unsafe { letter.as_ptr().cast::<u32>().read() }, 7);
/// # Ok::<(), shmheap::Error>(())
/// ```
pub struct ObjectChannel<'h> {
    port: Port<'h, Objects<'h>>,
}

impl<'h> ObjectChannel<'h> {
    /// Makes a channel for `capacity` objects, rounded up to a power of two.
    ///
    /// The channel stays until its object is freed ([`Heap::free`]): [`drain`](Self::drain) it
    /// before, or what it holds is lost.
    ///
    /// # Errors
    ///
    /// As [`Channel::create`](crate::Channel::create).
    pub fn create(heap: &'h Heap, capacity: u64) -> Result<(Handle<ShmObjectChannel>, Self)> {
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
        port::make(heap, capacity, KIND)
    }

    /// The channel of that name, or a new one for `capacity` messages, rounded up to a power of
    /// two; one that is there keeps its own. It stays while it has the name
    /// ([`Heap::remove_root`]), or a process has it open so. What is in it then is lost to
    /// all: [drain](Self::drain) it before.
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
    /// let frames = shmheap::ObjectChannel::find_or_create(&heap, "frames", 100)?;
    /// frames.send(heap.alloc_unpublished(std::alloc::Layout::new::<[u8; 100]>())?)?;
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn find_or_create(heap: &'h Heap, name: &str, capacity: u64) -> Result<Self> {
        let port = Port::find_or_create(heap, name, capacity, KIND, Objects(heap))?;
        Ok(Self { port })
    }

    /// Opens a channel that somebody has made.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if the object is no channel of objects; as [`Heap::resolve`] if it is
    /// not live.
    ///
    /// # Safety
    ///
    /// Nobody frees the channel's object as long as what is returned is in use. What was opened by
    /// name ([`find_or_create`](Self::find_or_create)) sees to that itself.
    pub unsafe fn open(heap: &'h Heap, handle: Handle<ShmObjectChannel>) -> Result<Self> {
        Self::of(heap, handle)
    }

    pub(super) fn of(heap: &'h Heap, handle: Handle<ShmObjectChannel>) -> Result<Self> {
        Ok(Self { port: Port::open(heap, handle.cast(), KIND, Objects(heap))? })
    }

    /// The channel's handle, for others to open it by.
    #[must_use]
    pub fn handle(&self) -> Handle<ShmObjectChannel> {
        self.port.handle.cast()
    }

    /// Sends an object if there is room.
    ///
    /// Cost: as [`Channel::try_send`](crate::Channel::try_send) and
    /// [`Unpublished::publish`]. Killed inside: the object is sent, or freed.
    ///
    /// # Errors
    ///
    /// [`Error::AtCapacity`] if there is none, [`Error::Closed`], [`Error::Inherited`];
    /// [`Error::InvalidPointer`] if the object was made through another connection than the
    /// channel's, [`Error::Damaged`] if somebody has overwritten the channel. The object comes back
    /// with the error.
    pub fn try_send(&self, object: Unpublished<'h>) -> Result<Handle, NotSent<'h>> {
        self.send_within(object, Some(Duration::ZERO), || self.port.at_capacity())
    }

    /// Sends an object, and waits for room.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), but for the capacity.
    pub fn send(&self, object: Unpublished<'h>) -> Result<Handle, NotSent<'h>> {
        self.send_within(object, None, || self.port.at_capacity())
    }

    /// Sends an object, and waits for room for so long.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`Error::TimedOut`].
    pub fn send_timeout(
        &self,
        object: Unpublished<'h>,
        timeout: Duration,
    ) -> Result<Handle, NotSent<'h>> {
        let late = || Error::TimedOut { what: "room in the channel" };
        self.send_within(object, Some(timeout), late)
    }

    fn send_within(
        &self,
        object: Unpublished<'h>,
        timeout: Option<Duration>,
        late: impl Fn() -> Error,
    ) -> Result<Handle, NotSent<'h>> {
        // Of another heap it would be published there.
        if let Err(error) = self.port.heap.word_at(object.as_ptr()) {
            return Err(NotSent { error, object: Some(object) });
        }
        let transfer = self.port.transfer();
        let patience = self.port.patience(timeout);
        let reserved = transfer.wait_for_room(patience, |look| {
            // Not to publish an object that must be taken back; what counts is the commit.
            if transfer.queue.has_room() { transfer.try_reserve(look) } else { Ok(None) }
        });
        let cell = match reserved {
            Ok(Some(cell)) => cell,
            Ok(None) => return Err(NotSent { error: late(), object: Some(object) }),
            Err(error) => return Err(NotSent { error, object: Some(object) }),
        };
        let published = object.publish_at(cell.value()).or_else(|refused| {
            if matches!(refused.error, Error::Occupied { .. }) {
                // A free cell holds nothing: somebody has overwritten it.
                transfer.queue.words.store(cell.value(), 0);
            }
            refused.object.publish_at(cell.value())
        });
        match published {
            Ok(handle) => self.commit(cell, patience).map(|()| handle).map_err(|error| {
                let object = self.take_back(cell);
                NotSent { error: error.unwrap_or_else(&late), object }
            }),
            Err(refused) => {
                transfer.give_up(cell);
                Err(NotSent { error: refused.error, object: Some(refused.object) })
            }
        }
    }

    /// Sends what is in the cell; with an error it is still there. `None`: not in time.
    fn commit(&self, cell: Cell, patience: Patience) -> Result<(), Option<Error>> {
        let transfer = self.port.transfer();
        match transfer.wait_for_room(patience, |_| transfer.try_commit(cell)) {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(None),
            Err(error) => Err(Some(error)),
        }
    }

    fn take_back(&self, cell: Cell) -> Option<Unpublished<'h>> {
        let transfer = self.port.transfer();
        let object = self.port.heap.take_at(cell.value()).ok().flatten();
        match &object {
            Some(_) => transfer.give_up(cell),
            None => transfer.leave(cell),
        }
        object
    }

    /// Receives an object if there is one; when those are found that a killed receiver has left, is
    /// as for [`Channel::try_recv`](crate::Channel::try_recv).
    ///
    /// Cost: as [`Channel::try_recv`](crate::Channel::try_recv) and [`Heap::take`]. Killed inside:
    /// the object comes to another receiver, or it was received and is freed.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if there is none and none will come, [`Error::TooManyUnpublished`]: the
    /// object comes to another receiver; [`Error::ReadOnly`]; [`Error::InvalidHandle`] if somebody
    /// has freed the object, and [`Error::Damaged`] if somebody has overwritten the channel.
    pub fn try_recv(&self) -> Result<Option<Unpublished<'h>>> {
        self.port.try_recv()
    }

    /// Receives an object, and waits for it.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn recv(&self) -> Result<Unpublished<'h>> {
        self.port.recv(None)
    }

    /// Receives an object, and waits for it for so long.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [`Error::TimedOut`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Unpublished<'h>> {
        self.port.recv(Some(timeout))
    }

    /// Waits for an object, and receives up to `limit` of those that are there then, to the end of
    /// `into`; returns how many.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), if there is none.
    pub fn recv_batch(&self, into: &mut Vec<Unpublished<'h>>, limit: usize) -> Result<usize> {
        self.port.recv_batch(into, limit, None)
    }

    /// Frees all objects that are in the channel, also those that the dead have left, and returns
    /// how many. What living receivers have in hand is theirs.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), but for a closed channel.
    pub fn drain(&self) -> Result<u64> {
        let mut count = 0;
        loop {
            match self.port.transfer().try_receive(Look::Thorough) {
                Ok(Some(object)) => {
                    drop(object);
                    count += 1;
                }
                Ok(None) | Err(Error::Closed { .. }) => return Ok(count),
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes the channel for good, as [`Channel::close`](crate::Channel::close).
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

    /// How many objects there are, at some moment, without those that receivers have in hand.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.port.queue().len()
    }

    /// Whether there is no object, at some moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many objects there can be.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.port.shape.laps.capacity()
    }
}

impl fmt::Debug for ObjectChannel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectChannel")
            .field("handle", &self.port.handle)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
