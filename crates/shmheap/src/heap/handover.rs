//! Objects from hand to hand: what a process has made and not given away dies with it, and what it
//! gives away is in one place at any time, whoever is killed.
//!
//! ```text
//!   alloc_unpublished        publish              take
//!   ----------------> owned ---------> in a cell ------> owned ---> published, kept or freed
//!                       |                                  |
//!                       +--- its process dies: freed ------+
//! ```
//!
//! The steps are those of the ledger (`peers::ledger`), on an entry of it (`custody`) and a cell,
//! which is a word of object space.
//!
//! # Unsafe code
//!
//! The functions that take a cell, whose contract is the caller's.

use std::alloc::Layout;
use std::fmt;
use std::ptr::NonNull;

use crate::error::NotLive;
use crate::first_fit::FirstFit;
use crate::heap::custody::Held;
use crate::heap::shape::Engine;
use crate::heap::{Handle, Heap};
use crate::peers::LedgerEntry;
use crate::peers::ledger::{Content, Taking};
use crate::units::{PeerSlot, WordIndex};
use crate::{Error, Result};

/// An object that nobody else knows of: it is freed when this is dropped, and when its process
/// dies, unless it is given away ([`publish`](Self::publish)) or made an ordinary object
/// ([`keep`](Self::keep)) before.
///
/// Made by [`Heap::alloc_unpublished`] and [`Heap::take`]. Any thread of the process may use it. A
/// forked child inherits only the address: the object stays its parent's, and what the child does
/// with this changes nothing.
#[derive(Debug)]
#[must_use = "the object is freed when this is dropped"]
pub struct Unpublished<'h> {
    held: Held<'h>,
    handle: Handle,
    /// Whether the entry still owns the object.
    is_owned: bool,
}

/// Why an object was not published, and the object.
///
/// With `?`, in a function that returns [`Result`], the object is freed and the error
/// goes on.
#[derive(Debug)]
pub struct NotPublished<'h> {
    /// What kept it from being published.
    pub error: Error,
    /// The object, unpublished as before.
    pub object: Unpublished<'h>,
}

impl fmt::Display for NotPublished<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for NotPublished<'_> {}

impl From<NotPublished<'_>> for Error {
    fn from(refused: NotPublished<'_>) -> Self {
        refused.error
    }
}

impl<'h> Unpublished<'h> {
    /// Where the object is in this process. It must not be passed to [`Heap::free`] or
    /// [`Heap::realloc`] before [`keep`](Self::keep).
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        let heap = self.held.heap;
        let offset = self.handle.offset_bytes();
        heap.space().at(offset.saturating_sub(heap.shape.data_offset.0))
    }

    /// The heap that it is in.
    pub(crate) fn heap(&self) -> &'h Heap {
        self.held.heap
    }

    /// Whether this process has it, and not the one that this was forked from.
    pub(crate) fn is_ours(&self) -> bool {
        self.held.is_ours()
    }

    /// The object's handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Puts the object's handle into an empty cell, for whoever takes it from there. Everything
    /// written to the object before is seen by the taker.
    ///
    /// Cost: a compare-and-exchange and five stores, no lock. Killed inside: the
    /// object is in the cell, or it is freed and the cell is empty.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] if the cell is not empty, [`Error::InvalidCell`], [`Error::Inherited`].
    /// The object comes back with the error.
    ///
    /// # Safety
    ///
    /// The cell lies in a live object of this heap, which stays live meanwhile. It was 0 before its
    /// first use as a cell, and while it is one nothing but these operations accesses it. (An
    /// address that cannot be a cell is an error, not a violation.)
    ///
    /// ```
    /// use shmheap::{Error, HeapOptions};
    /// use std::alloc::Layout;
    /// let heap = HeapOptions::new(1 << 16).create_memfd()?;
    /// let cell = heap.alloc_zeroed(Layout::new::<u64>())?.cast::<u64>();
    /// let [first, second] = [1_u32, 2].map(|number| {
    ///     let object = heap.alloc_unpublished(Layout::new::<u32>()).unwrap();
    ///     // SAFETY: the object is ours, large enough and aligned.
    ///     unsafe { object.as_ptr().cast().write(number) };
    ///     object
    /// });
    /// // SAFETY: the cell is an object of its own, zeroed, and nothing else.
    /// unsafe { first.publish(cell) }?;
    /// // SAFETY: as above.
    /// let refused = unsafe { second.publish(cell) }.unwrap_err();
    /// assert!(matches!(refused.error, Error::Occupied { .. }));
    /// drop(refused.object); // or try again with it
    /// # Ok::<(), Error>(())
    /// ```
    #[allow(unsafe_code)]
    pub unsafe fn publish(self, cell: NonNull<u64>) -> Result<Handle, NotPublished<'h>> {
        match self.held.heap.cell(cell) {
            Ok(at) => self.publish_at(at),
            Err(error) => Err(NotPublished { error, object: self }),
        }
    }

    /// As [`publish`](Self::publish), into a cell that the caller knows to be one.
    pub(crate) fn publish_at(mut self, cell: WordIndex) -> Result<Handle, NotPublished<'h>> {
        match self.try_publish(cell) {
            Ok(()) => {
                self.is_owned = false;
                Ok(self.handle)
            }
            Err(error) => Err(NotPublished { error, object: self }),
        }
    }

    fn try_publish(&self, at: WordIndex) -> Result<()> {
        let Held { heap, entry, .. } = self.held;
        if !self.held.is_ours() {
            return Err(Error::Inherited { address: self.as_ptr().addr().get() });
        }
        let publish = || heap.ledger().publish(entry, self.handle.to_raw(), at);
        match publish() {
            Ok(()) => Ok(()),
            Err(Content::Midway(other)) if heap.adopt_owner(other)? => publish(),
            Err(content) => Err(content),
        }
        .map_err(|_| Error::Occupied { address: heap.address_of(at).addr().get() })
    }

    /// Makes the object an ordinary one, as [`Heap::alloc`] would have made it: it stays when its
    /// process dies, and is for [`Heap::free`] to free.
    ///
    /// Cost: a store. Killed inside: the object is an ordinary one, or it is freed.
    ///
    /// ```
    /// use std::alloc::Layout;
    /// # let heap = shmheap::HeapOptions::new(1 << 16).create_memfd()?;
    /// let object = heap.alloc_unpublished(Layout::new::<u64>())?.keep();
    /// // SAFETY: nobody uses the object from here on.
    /// unsafe { heap.free(object) }?;
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    #[must_use = "without its address the object is lost"]
    pub fn keep(mut self) -> NonNull<u8> {
        if self.held.is_ours() {
            self.held.heap.ledger().clear(self.held.entry);
        }
        self.is_owned = false;
        self.as_ptr()
    }
}

impl Drop for Unpublished<'_> {
    fn drop(&mut self) {
        if !self.is_owned || !self.held.is_ours() {
            return;
        }
        let Held { heap, entry, .. } = self.held;
        let freed = heap.free_own(entry, self.handle);
        // What a damaged heap does not free still belongs to the entry.
        self.held.is_in_use = freed.is_err();
    }
}

impl Heap {
    /// Allocates an object as [`alloc`](Self::alloc) does, but one that dies with its process: if
    /// that is killed before it has published or kept the object, others free it.
    ///
    /// Cost: as `alloc`, and two stores. Killed inside: the others undo the allocation.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc), and [`Error::TooManyUnpublished`].
    ///
    /// ```
    /// use std::alloc::Layout;
    /// # let heap = shmheap::HeapOptions::new(1 << 16).create_memfd()?;
    /// let object = heap.alloc_unpublished(Layout::new::<[u8; 100]>())?;
    /// assert_eq!(heap.stats().live_objects, 1);
    /// drop(object); // or: the process is killed here
    /// assert_eq!(heap.stats().live_objects, 0);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn alloc_unpublished(&self, layout: Layout) -> Result<Unpublished<'_>> {
        match &self.shape.labels {
            None => self.alloc_unpublished_plainly(layout),
            Some(labels) => self.alloc_unpublished_labelled(labels, layout),
        }
    }

    /// As [`alloc_unpublished`](Self::alloc_unpublished), without a label.
    #[inline]
    pub(super) fn alloc_unpublished_plainly(&self, layout: Layout) -> Result<Unpublished<'_>> {
        let me = self.me("allocate")?;
        let held = self.hold_entry(me)?;
        let handle = match &self.shape.engine {
            Engine::FirstFit(engine) => self.fit_alloc_owned(engine, me, layout, held.entry)?,
            Engine::Slabs(slabs) => {
                let object = self.slab_alloc_owned(slabs, layout, held.entry)?;
                self.handle(object)?
            }
        };
        Ok(Unpublished { held, handle, is_owned: true })
    }

    fn fit_alloc_owned(
        &self,
        engine: &FirstFit,
        me: PeerSlot,
        layout: Layout,
        entry: LedgerEntry,
    ) -> Result<Handle> {
        let handle = |at| self.handle_of(at).to_raw();
        let request = self.request(layout)?;
        let at = self.place_object(engine, me, request, |operator| {
            operator.alloc_for(request.granules, request.align_granules, entry, handle)
        })?;
        Ok(self.handle_of(at))
    }

    /// Allocates an object into an empty cell: its handle is there when the object is made, and no
    /// kill leaves the one without the other. The bytes of the object are what was there before; to
    /// fill it first, use [`alloc_unpublished`](Self::alloc_unpublished) and
    /// [`publish`](Unpublished::publish).
    ///
    /// Cost: as both. Killed inside: the object is in the cell, or it is freed and the cell is
    /// empty.
    ///
    /// # Errors
    ///
    /// As [`alloc_unpublished`](Self::alloc_unpublished), and [`Error::Occupied`] if the cell is
    /// not empty, [`Error::InvalidCell`].
    ///
    /// # Safety
    ///
    /// As [`publish`](Unpublished::publish); and whoever takes the object from the cell may free it
    /// at once.
    ///
    /// ```
    /// use std::alloc::Layout;
    /// # let heap = shmheap::HeapOptions::new(1 << 16).create_memfd()?;
    /// let cell = heap.alloc_zeroed(Layout::new::<u64>())?.cast::<u64>();
    /// // SAFETY: the cell is an object of its own, zeroed, and nothing else.
    /// let object = unsafe { heap.alloc_into(Layout::new::<u32>(), cell) }?;
    /// // SAFETY: as above.
    /// assert_eq!(unsafe { heap.peek(cell) }, Some(heap.handle(object)?));
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    #[allow(unsafe_code)]
    pub unsafe fn alloc_into(&self, layout: Layout, cell: NonNull<u64>) -> Result<NonNull<u8>> {
        // Not to allocate for a cell that is occupied anyway; what counts is the exchange.
        if let Content::Object(_) | Content::Nonsense(_) = self.ledger().content(self.cell(cell)?) {
            return Err(Error::Occupied { address: cell.addr().get() });
        }
        let object = self.alloc_unpublished(layout)?;
        let address = object.as_ptr();
        // SAFETY: the caller's cell.
        unsafe { object.publish(cell) }?;
        Ok(address)
    }

    /// Takes the object out of a cell, which is empty then; `None` if it is empty, or if another
    /// is just putting something there or taking it.
    ///
    /// The object belongs to this process now and dies with it, until it is published or kept.
    ///
    /// Cost: a compare-and-exchange and five stores if nobody else wants it, no lock. If a dead
    /// process left the cell in the middle of a hand-over, that is finished first. Killed inside:
    /// the object is still in the cell, or it is freed and the cell is empty.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidCell`]; [`Error::InvalidHandle`] if what the cell holds names no live
    /// object, and [`Error::TooManyUnpublished`]: the cell stays as it is. [`Error::ReadOnly`].
    ///
    /// # Safety
    ///
    /// As [`publish`](Unpublished::publish). The object's bytes are the caller's to use only if
    /// those who published it use it no longer.
    ///
    /// ```
    /// use std::alloc::Layout;
    /// # let heap = shmheap::HeapOptions::new(1 << 16).create_memfd()?;
    /// let cell = heap.alloc_zeroed(Layout::new::<u64>())?.cast::<u64>();
    /// let letter = heap.alloc_unpublished(Layout::new::<u32>())?;
    /// // SAFETY: the object is ours; the cell is an object of its own, zeroed, and nothing else.
    /// unsafe { letter.as_ptr().cast::<u32>().write(7) };
    /// // SAFETY: as above.
    /// unsafe { letter.publish(cell) }?;
    ///
    /// // Usually in another process:
    /// // SAFETY: as above.
    /// if let Some(letter) = unsafe { heap.take(cell) }? {
    ///     // SAFETY: who published it has left it to us.
    ///     assert_eq!(unsafe { letter.as_ptr().cast::<u32>().read() }, 7);
    /// } // dropped, and so freed
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    #[allow(unsafe_code)]
    pub unsafe fn take(&self, cell: NonNull<u64>) -> Result<Option<Unpublished<'_>>> {
        self.take_at(self.cell(cell)?)
    }

    /// As [`take`](Self::take), from a cell that the caller knows to be one.
    pub(crate) fn take_at(&self, at: WordIndex) -> Result<Option<Unpublished<'_>>> {
        let me = self.me("take objects")?;
        let mut has_adopted = false;
        let mut held = None;
        loop {
            let handle = match self.ledger().content(at) {
                Content::Object(raw) => Handle::from_raw(raw),
                Content::Midway(other) if !has_adopted && self.adopt_owner(other)? => {
                    has_adopted = true;
                    continue;
                }
                Content::Empty | Content::Midway(_) => return Ok(None),
                Content::Nonsense(raw) => {
                    let why = NotLive::Misaligned;
                    return Err(Error::InvalidHandle { handle: Handle::from_raw(raw), why });
                }
            };
            let hand = match held.take() {
                Some(hand) => hand,
                None => self.hold_entry(me)?,
            };
            let is_live = || self.resolve(handle).is_ok();
            match self.ledger().take(hand.entry, handle.to_raw(), at, is_live) {
                Taking::Taken => {
                    return Ok(Some(Unpublished { held: hand, handle, is_owned: true }));
                }
                // Another was faster, which may happen again, but never to all.
                Taking::Lost => held = Some(hand),
                Taking::NotLive => {
                    let why = NotLive::NoObject;
                    return Err(Error::InvalidHandle { handle, why });
                }
            }
        }
    }

    /// The handle in a cell, which stays there; `None` if the cell is empty, if another is just
    /// putting something there or taking it, and if it cannot be a cell.
    ///
    /// Cost: a load. If a dead process left the cell in the middle of a hand-over, that is finished
    /// first, except by a read-only connection.
    ///
    /// # Safety
    ///
    /// As [`publish`](Unpublished::publish). The object may be taken and freed at any time.
    #[must_use]
    #[allow(unsafe_code)]
    pub unsafe fn peek(&self, cell: NonNull<u64>) -> Option<Handle> {
        self.peek_at(self.cell(cell).ok()?)
    }

    /// As [`peek`](Self::peek), of a cell that the caller knows to be one.
    pub(crate) fn peek_at(&self, at: WordIndex) -> Option<Handle> {
        let content = match self.ledger().content(at) {
            Content::Midway(other) if self.adopt_owner(other).unwrap_or(false) => {
                self.ledger().content(at)
            }
            content => content,
        };
        match content {
            Content::Object(raw) => Some(Handle::from_raw(raw)),
            Content::Empty | Content::Midway(_) | Content::Nonsense(_) => None,
        }
    }

    /// Ends what another process is in the middle of putting into a cell, from which nobody ever
    /// takes anything.
    pub(crate) fn hasten_at(&self, at: WordIndex) {
        self.ledger().hasten(at);
    }
}
