//! `ShmBox`: a value that one process has for itself; and `ShmCell`, through which it is handed on.
//!
//! ```text
//!   ShmBox::new -> fill -> publish(cell)     dies with its process until it is in the cell
//!                          cell.take() -> ShmBox
//! ```
//!
//! Both are the heap's hand-over (`heap::handover`) with a type to it.
//!
//! # Unsafe code
//!
//! A box looks into its object, and gives a kept one back.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::heap::{NotPublished, Unpublished};
use crate::object::belongings::{self, List};
use crate::object::{Fingerprint, OwnedCell, Shareable, place};
use crate::{Error, Handle, Heap, Result};

/// A value in a heap that this process has for itself, like a `Box`: freed when it is dropped, and
/// when its process dies, unless it is given away or kept before.
///
/// When its process is *killed*, others free the value's own object, but not what that owns, as a
/// vector owns its elements: the place for such values is a root, or a [`ShmArc`](crate::ShmArc).
///
/// ```
/// use shmheap::{HeapOptions, ShmBox, ShmCell};
/// let heap = HeapOptions::new(1 << 20).create_memfd()?;
/// let mailbox = ShmBox::<ShmCell<[u64; 2]>>::new_zeroed(&heap)?;
///
/// let mut letter = ShmBox::new(&heap, [0_u64; 2])?;
/// letter[1] = 7;
/// letter.publish(&mailbox)?; // from here on it is whoever takes it
///
/// let letter = mailbox.take(&heap)?.expect("it is there");
/// assert_eq!(*letter, [0, 7]);
/// # Ok::<(), shmheap::Error>(())
/// ```
pub struct ShmBox<'h, T: Shareable> {
    object: ManuallyDrop<Unpublished<'h>>,
    /// Whether what lies behind the value may say of it what is not so: an object of plain bytes
    /// has there whatever was at its place before.
    is_plain: bool,
    value: PhantomData<T>,
}

/// What the value owns goes before it.
impl<T: Shareable> Drop for ShmBox<'_, T> {
    fn drop(&mut self) {
        let (heap, list) = (self.object.heap(), List::of::<T>());
        if list != List::NONE
            && self.object.is_ours()
            && let Ok(span) = heap.span(self.object.handle())
        {
            belongings::free(heap, span, list);
        }
        // SAFETY: the box is gone after this.
        unsafe { ManuallyDrop::drop(&mut self.object) };
    }
}

impl<'h, T: Shareable> ShmBox<'h, T> {
    fn of(object: Unpublished<'h>) -> Self {
        Self { object: ManuallyDrop::new(object), is_plain: false, value: PhantomData }
    }

    /// Puts a value into the heap.
    ///
    /// # Errors
    ///
    /// As [`Heap::alloc_unpublished`].
    pub fn new(heap: &'h Heap, value: T) -> Result<Self> {
        let mut new = Self::new_zeroed(heap)?;
        *new = value;
        Ok(new)
    }

    /// A value all of whose bytes are 0, to be filled in its place. So are made what would be too
    /// large for the stack, and what must not be moved.
    ///
    /// # Errors
    ///
    /// As [`Heap::alloc_unpublished`].
    pub fn new_zeroed(heap: &'h Heap) -> Result<Self> {
        Ok(Self::of(belongings::alloc::<T>(heap)?))
    }

    /// The handle of the object.
    #[must_use]
    pub fn handle(this: &Self) -> Handle<T> {
        this.object.handle().cast()
    }

    /// Puts it into an empty cell, for whoever takes it from there.
    ///
    /// Cost and crash behaviour: as [`Unpublished::publish`].
    ///
    /// # Errors
    ///
    /// As [`Unpublished::publish`]; the box comes back with the error.
    pub fn publish(self, cell: &ShmCell<T>) -> Result<Handle<T>, NotHandedOver<'h, T>> {
        let heap = self.object.heap();
        // First that the cell is one of this heap: elsewhere nothing is changed.
        let settle = || {
            let at = heap.cell(cell.word())?;
            cell.settle(heap)?;
            if self.is_plain {
                belongings::disown::<T>(heap, self.object.handle())?;
            }
            Ok(at)
        };
        let at = match settle() {
            Ok(at) => at,
            Err(error) => return Err(NotHandedOver { error, value: self }),
        };
        match Self::into_unpublished(self).publish_at(at) {
            Ok(handle) => Ok(handle.cast()),
            Err(NotPublished { error, object }) => {
                Err(NotHandedOver { error, value: Self::of(object) })
            }
        }
    }

    /// Makes it an ordinary object, which stays when its process dies, until it is freed: see
    /// [`Heap::get`] and [`Heap::free_typed`].
    #[must_use = "without its handle the object is lost"]
    pub fn keep(self) -> Handle<T> {
        let handle = self.object.handle().cast();
        let _ = Self::into_unpublished(self).keep();
        handle
    }

    /// The object without its type.
    pub fn into_unpublished(this: Self) -> Unpublished<'h> {
        let this = ManuallyDrop::new(this);
        // SAFETY: `this` is neither used nor dropped after this.
        unsafe { ptr::read(&*this.object) }
    }

    /// An object whose bytes are a value of that type, as any are.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if it is too small for the type, or lies badly. It is freed then.
    ///
    /// # Safety
    ///
    /// If the type owns other objects, as collections and cells do: the object was a box of that
    /// type before. What it says that it owns is believed.
    pub unsafe fn from_unpublished(object: Unpublished<'h>) -> Result<Self> {
        object.heap().located::<T>(object.handle().cast())?;
        Ok(Self::of(object))
    }
}

impl<'h, T: Shareable + Copy> ShmBox<'h, T> {
    /// An object whose bytes are a value of that type, as any are: what comes out of an
    /// `ObjectChannel`, for one. Types that can be copied own nothing. If the object is larger,
    /// [`publish`](Self::publish) sets 8 bytes behind the value to 0.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if it is too small for the type, or lies badly. It is freed then.
    pub fn from_plain(object: Unpublished<'h>) -> Result<Self> {
        object.heap().located::<T>(object.handle().cast())?;
        let mut plain = Self::of(object);
        plain.is_plain = true;
        Ok(plain)
    }
}

impl<T: Shareable> Deref for ShmBox<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: whoever made the box has seen to size and alignment; the object lives as long as
        // the box, and who changes it has borrowed that to change it.
        unsafe { place::shared(self.object.as_ptr().cast()) }
    }
}

impl<T: Shareable> DerefMut for ShmBox<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `self` is borrowed for this alone.
        unsafe { place::exclusive(&self.object) }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for ShmBox<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Why a box was not handed over, and the box. With `?` the value is freed and the error goes on.
pub struct NotHandedOver<'h, T: Shareable> {
    /// What kept it from that.
    pub error: Error,
    /// The value, as before.
    pub value: ShmBox<'h, T>,
}

impl<T: Shareable> fmt::Debug for NotHandedOver<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotHandedOver").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T: Shareable> fmt::Display for NotHandedOver<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: Shareable> std::error::Error for NotHandedOver<'_, T> {}

impl<T: Shareable> From<NotHandedOver<'_, T>> for Error {
    fn from(refused: NotHandedOver<'_, T>) -> Self {
        refused.error
    }
}

/// A place in an object through which values are handed from process to process, one at a time:
/// each is in one place at any moment, whoever is killed. Empty when its bytes are 0.
///
/// What is in it is freed with the value that the cell is a part of. What *that* owns in turn is
/// not: it is to be taken out before.
#[derive(Debug)]
#[repr(C)]
pub struct ShmCell<T> {
    word: AtomicU64,
    /// To which heap it belongs; 0 until something is put there.
    home: AtomicU64,
    value: PhantomData<fn() -> T>,
}

// SAFETY: words that mean the same in every process, and any of which are some. The fingerprint is
// without that of the value, which may have such a cell itself. But it has the value's size: so
// what `take` finds behind the value is no part of a larger one.
unsafe impl<T: Shareable> Shareable for ShmCell<T> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("ShmCell", size_of::<Self>(), align_of::<Self>())
            .parameter(Fingerprint::new("", size_of::<T>(), align_of::<T>()));

    fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
        let home_bytes = offset_of!(Self, home);
        visit(OwnedCell { offset_bytes: 0, home_bytes, starts_chain: false });
    }
}

impl<T: Shareable> ShmCell<T> {
    fn word(&self) -> NonNull<u64> {
        NonNull::from(&self.word).cast()
    }

    /// Whether the cell is known to be one of that heap. Once it is, that changes only while
    /// somebody has the cell for himself. Relaxed: nothing else comes with the word.
    fn is_at_home(&self, heap: &Heap) -> bool {
        self.home.load(Ordering::Relaxed) == heap.home_id()
    }

    /// Whether something is in a cell that was not known to be one of that heap; an error if it is
    /// something of another heap.
    fn is_filled(&self, heap: &Heap) -> Result<bool> {
        // Acquire, with the exchange that publishes: who sees what was put into the cell sees that
        // it was settled before.
        match self.word.load(Ordering::Acquire) {
            0 => Ok(false),
            _ if self.is_at_home(heap) => Ok(true),
            _ => Err(Error::Damaged { what: "a cell with a value of another heap" }),
        }
    }

    /// Makes an empty cell one of that heap.
    fn settle(&self, heap: &Heap) -> Result<()> {
        if !self.is_at_home(heap) && !self.is_filled(heap)? {
            self.home.store(heap.home_id(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes out what is there; `None` if it is empty, or if another process is just putting
    /// something there or taking it.
    ///
    /// Cost and crash behaviour: as [`Heap::take`].
    ///
    /// # Errors
    ///
    /// As [`Heap::take`]; [`Error::WrongType`] if what was there was no value of that type, it is
    /// freed then; [`Error::Damaged`] if it is a value of another heap, as behind
    /// [`std::mem::swap`].
    pub fn take<'h>(&self, heap: &'h Heap) -> Result<Option<ShmBox<'h, T>>> {
        if !self.is_at_home(heap) && !self.is_filled(heap)? {
            return Ok(None);
        }
        // SAFETY: the word is a cell and nothing else, and the borrow keeps its object.
        let Some(object) = (unsafe { heap.take(self.word()) })? else { return Ok(None) };
        if !belongings::is_made_for::<T>(heap, object.handle())? {
            return Err(Error::WrongType { what: format!("the object {}", object.handle()) });
        }
        // SAFETY: it was made for a value of which others believe the same.
        unsafe { ShmBox::from_unpublished(object) }.map(Some)
    }

    /// The handle of what is there, which stays; it may be taken and freed at any time.
    #[must_use]
    pub fn peek(&self, heap: &Heap) -> Option<Handle<T>> {
        if !self.is_at_home(heap) {
            return None;
        }
        // SAFETY: as in `take`.
        unsafe { heap.peek(self.word()) }.map(Handle::cast)
    }
}

impl Heap {
    /// Frees an object that [`ShmBox::keep`] has made an ordinary one, and what its value owns.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve) and [`free`](Self::free).
    ///
    /// # Safety
    ///
    /// As [`free`](Self::free).
    pub unsafe fn free_typed<T: Shareable>(&self, handle: Handle<T>) -> Result<()> {
        let object = self.resolve(handle.cast())?;
        belongings::free(self, self.span(handle)?, List::of::<T>());
        // SAFETY: the caller's.
        unsafe { self.free(object) }
    }
}
