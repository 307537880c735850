//! Objects: alloc, free, realloc, and the handles that name them.

use std::alloc::Layout;
use std::ptr::NonNull;

use crate::error::NotLive;
use crate::first_fit::layout::{Area, Position};
use crate::first_fit::{Fault, FirstFit, Operator, Surroundings};
use crate::heap::connection::Host;
use crate::heap::grow::Request;
use crate::heap::shape::Engine;
use crate::heap::{Handle, Heap, Space};
use crate::os::Futex;
use crate::segment::format::LEN_MAX_BYTES;
use crate::segment::words::Row;
use crate::units::{PAGE_BYTES, PeerSlot};
use crate::{Error, Result};

/// How often an object is tried to be placed while others take the room that was made for it; or
/// while a damaged search index hides it.
const PLACE_TRIES: u32 = 100;

impl Heap {
    /// Allocates an object.
    ///
    /// Its bytes are what was there before. A size of 0 gives the smallest object. The heap grows
    /// by itself, up to its `max_len`, if it has no room.
    ///
    /// Under [`Policy::Scalable`](crate::Policy::Scalable) it lies in a slab of its size class, or,
    /// above 512 KiB, in the lowest run of 64-KiB units that holds it. Cost: a few stores, no lock
    /// and no system call; now and then a new slab.
    ///
    /// Under [`Policy::FirstFit`](crate::Policy::FirstFit) it lies at the lowest free address that
    /// holds it. Cost: the heap's lock; near constant in the number of objects and holes. With an
    /// alignment above the granule, holes that are large enough but lie badly are passed over one
    /// by one.
    ///
    /// Killed inside: the others undo the allocation. Killed after it, the object stays.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] if the heap has no room and may not grow, [`Error::NoSpace`] if the system
    /// has none, [`Error::InvalidLayout`] for an alignment above 2 MiB, under first fit above 4096
    /// bytes, [`Error::TooManyThreads`], [`Error::ReadOnly`].
    ///
    /// ```
    /// use std::alloc::Layout;
    /// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
    /// let page = heap.alloc(Layout::from_size_align(5000, 4096).unwrap())?;
    /// assert_eq!(page.addr().get() % 4096, 0);
    /// assert!(heap.usable_size(page)? >= 5000);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    #[inline]
    pub fn alloc(&self, layout: Layout) -> Result<NonNull<u8>> {
        match self.slab_alloc_fast(layout) {
            Some(object) => Ok(object),
            None => self.alloc_slowly(layout),
        }
    }

    /// Out of line, and asked for little, so that the fast path needs no room for it.
    #[cold]
    #[inline(never)]
    fn alloc_slowly(&self, layout: Layout) -> Result<NonNull<u8>> {
        match &self.shape.labels {
            None => self.alloc_plainly(layout),
            Some(labels) => self.alloc_labelled(labels, layout),
        }
    }

    /// Allocates an object without a label.
    #[inline]
    pub(super) fn alloc_plainly(&self, layout: Layout) -> Result<NonNull<u8>> {
        let engine = match &self.shape.engine {
            Engine::Slabs(slabs) => return self.slab_alloc(slabs, layout),
            Engine::FirstFit(engine) => engine,
        };
        let me = self.me("allocate")?;
        let request = self.request(layout)?;
        let at = self.place_object(engine, me, request, |operator| {
            operator.alloc(request.granules, request.align_granules)
        })?;
        Ok(self.space().address(at))
    }

    /// Has `place` put an object somewhere, and makes room for it if there is none.
    #[inline]
    pub(super) fn place_object(
        &self,
        engine: &FirstFit,
        me: PeerSlot,
        request: Request,
        place: impl Fn(&Operator<'_, Row<'_, Futex>, Host<'_>>) -> Result<Option<Position>, Fault>,
    ) -> Result<Position> {
        let host = Host(self);
        let operator = engine.operator(self.words(), me, &host);
        for _ in 0..PLACE_TRIES {
            match place(&operator) {
                Ok(Some(at)) => return Ok(at),
                Ok(None) => self.grow_for(engine, me, request)?,
                Err(fault) => return Err(self.explain(fault, 0)),
            }
        }
        Err(self.full(self.shape.bytes(request.granules)))
    }

    /// As [`alloc`](Self::alloc), with all bytes of the object 0.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc).
    #[inline]
    pub fn alloc_zeroed(&self, layout: Layout) -> Result<NonNull<u8>> {
        let object = self.alloc(layout)?;
        let bytes = self.usable_size(object)?;
        // SAFETY: the object was placed just now with that many bytes, and nobody knows it yet.
        #[allow(unsafe_code)]
        unsafe {
            Space::zero(object, bytes);
        }
        Ok(object)
    }

    /// Frees an object, from whichever process. Free neighbours on both sides are joined with it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`], with the heap unharmed, if no live object starts there: it was
    /// freed already, points into an object, or belongs elsewhere. [`Error::ReadOnly`].
    ///
    /// # Safety
    ///
    /// Nobody, in any process, uses the object from here on. (A pointer that is no object is an
    /// error, not a violation.)
    #[inline]
    #[allow(unsafe_code)]
    pub unsafe fn free(&self, object: NonNull<u8>) -> Result<()> {
        if self.slab_free_fast(object) || self.slab_free_elsewhere(object) {
            return Ok(());
        }
        self.free_slowly(object)
    }

    /// As [`alloc_slowly`](Self::alloc_slowly).
    #[cold]
    #[inline(never)]
    fn free_slowly(&self, object: NonNull<u8>) -> Result<()> {
        match &self.shape.labels {
            None => self.free_plainly(object),
            Some(labels) => {
                let me = self.me("free")?;
                self.free_labelled(labels, me, object, || self.free_plainly(object))
            }
        }
    }

    /// Frees an object whose label has been seen to.
    #[inline]
    pub(super) fn free_plainly(&self, object: NonNull<u8>) -> Result<()> {
        let engine = match &self.shape.engine {
            Engine::Slabs(slabs) => return self.slab_free(slabs, object),
            Engine::FirstFit(engine) => engine,
        };
        let me = self.me("free")?;
        let at = self.position(object)?;
        let freed = engine.operator(self.words(), me, &Host(self)).free(at);
        freed.map_err(|fault| self.explain(fault, object.addr().get()))
    }

    /// Changes an object's size and alignment: in place if the space behind it allows, else by
    /// moving its content to a new object. Returns where it is now.
    ///
    /// Killed inside: the object has its old place, its new one, or, in the moment between, both.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc) and [`free`](Self::free). The object then stands as it was.
    ///
    /// # Safety
    ///
    /// Nobody else, in any process, uses the object meanwhile; nor, if the address returned is
    /// another, ever again at the old one.
    #[allow(unsafe_code)]
    pub unsafe fn realloc(&self, object: NonNull<u8>, layout: Layout) -> Result<NonNull<u8>> {
        let old_bytes = self.usable_size(object)?;
        if self.resize(object, layout)? {
            return Ok(object);
        }
        let moved = self.alloc(layout)?;
        // SAFETY: both are live objects, the old one of `old_bytes` and used by nobody meanwhile,
        // the new one of `layout.size()` and known to nobody.
        unsafe { Space::copy(object, moved, old_bytes.min(layout.size())) };
        // SAFETY: the caller gives up the old address.
        unsafe { self.free(object) }?;
        Ok(moved)
    }

    /// Changes an object's size without moving it; whether that was possible.
    fn resize(&self, object: NonNull<u8>, layout: Layout) -> Result<bool> {
        match &self.shape.labels {
            None => self.resize_plainly(object, layout),
            Some(labels) => self.resize_labelled(labels, object, layout),
        }
    }

    pub(super) fn resize_plainly(&self, object: NonNull<u8>, layout: Layout) -> Result<bool> {
        let engine = match &self.shape.engine {
            Engine::Slabs(slabs) => return self.slab_resize(slabs, object, layout),
            Engine::FirstFit(engine) => engine,
        };
        let me = self.me("reallocate")?;
        let at = self.position(object)?;
        let request = self.request(layout)?;
        if !at.0.is_multiple_of(request.align_granules) {
            return Ok(false);
        }
        let resized = engine.operator(self.words(), me, &Host(self)).resize(at, request.granules);
        resized.map_err(|fault| self.explain(fault, object.addr().get()))
    }

    /// How many bytes an object has for use: what was asked for, rounded up to the granule or to
    /// its size class.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`] if no live object starts there.
    pub fn usable_size(&self, object: NonNull<u8>) -> Result<usize> {
        let engine = match &self.shape.engine {
            Engine::Slabs(slabs) => return self.slab_usable_size(slabs, object),
            Engine::FirstFit(engine) => engine,
        };
        let at = self.position(object)?;
        let live = self.expect_live(engine, at).and_then(|(area, verified_end)| {
            let object_end = engine.next_start(&self.words(), area, at, verified_end);
            if object_end < verified_end {
                return Ok(object_end);
            }
            self.end_of_last(engine, area, at)
        });
        let object_end = live.map_err(|fault| self.explain(fault, object.addr().get()))?;
        Ok(self.shape.bytes(object_end - at) as usize)
    }

    /// The end of an object behind which no other starts, as far as this process has looked: it
    /// ends with the heap, or in what another process has added to that.
    #[cold]
    fn end_of_last(&self, engine: &FirstFit, area: Area, at: Position) -> Result<Position, Fault> {
        let words = self.words();
        loop {
            let end = engine.end(&words, area);
            if end <= at {
                return Err(Fault::Damaged("the heap ends before a live object"));
            }
            Host(self).ensure_storage(area, end.0)?;
            let object_end = engine.next_start(&words, area, at, end);
            // A growth that came to nothing is there for a moment: its end, and where that begins.
            if object_end < end || engine.end(&words, area) == end {
                return Ok(object_end);
            }
        }
    }

    /// The handle of an object: a plain integer that names it in every process.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`] if no live object starts there.
    #[inline]
    pub fn handle(&self, object: NonNull<u8>) -> Result<Handle> {
        let engine = match &self.shape.engine {
            Engine::Slabs(slabs) => {
                let found = self.slab_handle_fast(slabs, object);
                return found.map_or_else(|| self.slab_handle(slabs, object), Ok);
            }
            Engine::FirstFit(engine) => engine,
        };
        let at = self.position(object)?;
        self.expect_live(engine, at).map_err(|fault| self.explain(fault, object.addr().get()))?;
        Ok(self.handle_of(at))
    }

    /// The object that a handle names, at its address in this process.
    ///
    /// Costs a few loads; takes no lock. The first-fit policy cannot tell an object from a later
    /// one that starts at the same place; the scalable policy can, until the place has been used
    /// 127 times more, and it can tell the handles of other heaps.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidHandle`] if no live object starts where the handle says, or, under the
    /// scalable policy, for a place in the heap, [`Error::Stale`].
    #[inline]
    pub fn resolve(&self, handle: Handle) -> Result<NonNull<u8>> {
        let engine = match &self.shape.engine {
            Engine::Slabs(slabs) => {
                let found = self.slab_resolve_fast(slabs, handle);
                return found.map_or_else(|| self.slab_resolve(slabs, handle), Ok);
            }
            Engine::FirstFit(engine) => engine,
        };
        let refuse = |why| Error::InvalidHandle { handle, why };
        let offset = handle.to_raw().checked_sub(self.shape.data_offset.0);
        let Some(bytes) = offset.filter(|&bytes| bytes < LEN_MAX_BYTES) else {
            return Err(refuse(NotLive::Foreign));
        };
        let at = self.granule_at(bytes).ok_or_else(|| refuse(NotLive::Misaligned))?;
        match self.expect_live(engine, at) {
            Ok(_) => Ok(self.space().address(at)),
            Err(Fault::NotLive(why)) => Err(refuse(why)),
            Err(fault) => Err(self.explain(fault, 0)),
        }
    }

    /// The start of object space as it is mapped here: where the first object of an empty heap
    /// lies. A multiple of 4096.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.space().base()
    }

    pub(super) fn handle_of(&self, at: Position) -> Handle {
        Handle::from_raw(self.shape.end_of_data(self.shape.bytes(at.0)))
    }

    /// What the layout comes to in granules, if any heap can hold it.
    #[inline]
    pub(super) fn request(&self, layout: Layout) -> Result<Request> {
        let (size_bytes, align_bytes) = (layout.size() as u64, layout.align() as u64);
        if align_bytes > PAGE_BYTES {
            let why = "alignments go up to 4096 bytes";
            return Err(Error::InvalidLayout { size_bytes, align_bytes, why });
        }
        let request = Request {
            granules: self.shape.granules(size_bytes.max(1)),
            align_granules: self.shape.granules(align_bytes),
        };
        if size_bytes > self.shape.identity.len_max_bytes {
            let granule_bytes = self.shape.granule_bytes();
            return Err(self.full(request.granules.saturating_mul(granule_bytes)));
        }
        Ok(request)
    }

    /// The position of an address in object space.
    #[inline]
    pub(super) fn position(&self, object: NonNull<u8>) -> Result<Position> {
        let address = object.addr().get();
        let offset = self.space().offset_of(object).filter(|&bytes| bytes < LEN_MAX_BYTES);
        let bytes = offset.ok_or_else(|| Self::foreign(address))?;
        self.granule_at(bytes).ok_or(Error::InvalidPointer { address, why: NotLive::Misaligned })
    }

    #[inline]
    pub(super) fn granule_at(&self, bytes: u64) -> Option<Position> {
        let granules = self.shape.granules(bytes);
        (self.shape.bytes(granules) == bytes).then_some(Position(granules))
    }

    /// Makes sure that a live object starts here, and returns where that is on record, and an end
    /// of the heap that lies behind the object's start. Beyond what this process has verified, it
    /// looks at the heap's length again first: another process may have grown it.
    #[inline]
    fn expect_live(&self, engine: &FirstFit, at: Position) -> Result<(Area, Position), Fault> {
        let words = self.words();
        let area = engine.current(&words);
        let mut end = Position(self.shape.granules(self.verified_len_bytes(area)));
        if at >= end {
            Host(self).ensure_head(area)?;
            end = engine.end(&words, area);
            if at < end {
                Host(self).ensure_storage(area, end.0)?;
            }
        }
        engine.expect_live(&words, area, at, end).map(|()| (area, end))
    }
}
