//! `ShmArc`: a value that lives as long as some process holds it; `ShmWeak`, by which others find
//! it.
//!
//! ```text
//!   this process                           registry             object space
//!   ShmArc -+                              +-------------+
//!   ShmArc -+-> one reference, counted --> | held by ... | ---> value
//!   clones      in this process            +-------------+
//! ```
//!
//! Clones are counted where they are, in the process. What stands in the heap is only which
//! processes hold the value, so the counts of a dead process die with it (`registry`).
//!
//! # Unsafe code
//!
//! Looking at a value that is held.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::object::registry::{Description, Holding, Registry};
use crate::object::{Fingerprint, Shareable, ShmBox, place};
use crate::units::WordIndex;
use crate::{Error, Handle, Heap, Result};

/// A value in a heap, shared between processes: it lives until no process holds it any more.
/// Clones are cheap, and counted in this process. A killed process holds nothing.
///
/// Others find it by its [`ShmWeak`], which is plain data, or by a name ([`Heap::find_or_create`]).
/// What it holds is changed by atomics, or under a lock that is a part of it.
///
/// A forked child may look at its parent's, as long as the parent holds it; to hold it itself it
/// upgrades a [`ShmWeak`].
///
/// ```
/// use shmheap::{HeapOptions, ShmArc};
/// use std::sync::atomic::{AtomicU64, Ordering};
/// let heap = HeapOptions::new(1 << 20).create_memfd()?;
/// let count = ShmArc::new(&heap, AtomicU64::new(1))?;
/// let weak = ShmArc::downgrade(&count); // plain data, for others to find it
///
/// let other = weak.upgrade(&heap)?.expect("it is held");
/// other.fetch_add(1, Ordering::Relaxed);
/// assert_eq!(count.load(Ordering::Relaxed), 2);
///
/// drop((count, other)); // and so freed
/// assert!(weak.upgrade(&heap)?.is_none());
/// # Ok::<(), shmheap::Error>(())
/// ```
pub struct ShmArc<'h, T: Shareable> {
    held: Arc<Held<'h>>,
    place: NonNull<T>,
}

// SAFETY: it gives shared access to a value, which may be shared between threads as it may be
// between processes.
unsafe impl<T: Shareable> Send for ShmArc<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Shareable> Sync for ShmArc<'_, T> {}

/// The reference of this process to an object.
#[derive(Debug)]
pub(crate) struct Held<'h> {
    heap: &'h Heap,
    holding: Holding<'h>,
    /// Tells this process from its forked children.
    stay: u64,
}

impl<'h> Held<'h> {
    pub(super) fn new(heap: &'h Heap, holding: Holding<'h>) -> Self {
        Self { heap, holding, stay: heap.stay() }
    }

    /// The object.
    pub(crate) fn handle(&self) -> Handle {
        self.holding.object()
    }
}

/// Such a reference without the borrow of its heap.
#[cfg(feature = "async")]
#[derive(Debug)]
pub(crate) struct Lease {
    place: crate::object::registry::Place,
    stay: u64,
}

#[cfg(feature = "async")]
impl Held<'_> {
    /// Leaves it to whoever ends the lease; until then the object is held.
    pub(crate) fn into_lease(self) -> Lease {
        let held = std::mem::ManuallyDrop::new(self);
        Lease { place: held.holding.place(), stay: held.stay }
    }
}

#[cfg(feature = "async")]
impl Lease {
    /// Gives the reference up; `heap` is the one that it came from.
    pub(crate) fn end(self, heap: &Heap) {
        if heap.stay() == self.stay {
            Registry::roots(heap).release_at(&self.place);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.heap.stay() == self.stay {
            Registry::release(&self.holding);
        }
    }
}

impl<'h, T: Shareable> ShmArc<'h, T> {
    /// Puts a value into the heap.
    ///
    /// Cost: an allocation, a hand-over, some ten stores. Killed inside: it is freed.
    ///
    /// # Errors
    ///
    /// As [`Heap::alloc_unpublished`].
    pub fn new(heap: &'h Heap, value: T) -> Result<Self> {
        Self::from_box(heap, ShmBox::new(heap, value)?)
    }

    /// Shares what this process has had for itself.
    ///
    /// # Errors
    ///
    /// As [`Heap::alloc_unpublished`]. The value is freed then.
    pub fn from_box(heap: &'h Heap, value: ShmBox<'h, T>) -> Result<Self> {
        // Taken out of the box when there is room for it: what it owns is freed with the box else.
        let object = || ShmBox::into_unpublished(value);
        Self::of(heap, Registry::shared(heap).add(object, Description::of::<T>())?)
    }

    /// What this process holds, which is given up if it is not a value of that type.
    pub(super) fn of(heap: &'h Heap, holding: Holding<'h>) -> Result<Self> {
        let held = Held::new(heap, holding);
        let place = heap.located(holding.object().cast())?;
        Ok(Self { held: Arc::new(held), place })
    }

    /// Plain data by which any process finds the value, as long as one holds it.
    #[must_use]
    pub fn downgrade(this: &Self) -> ShmWeak<T> {
        let (entry, incarnation) = this.held.holding.name();
        ShmWeak { entry: entry.0, incarnation, value: PhantomData }
    }

    /// The handle of the value, which does not keep it.
    #[must_use]
    pub fn handle(this: &Self) -> Handle<T> {
        this.held.holding.object().cast()
    }
}

impl<T: Shareable> Deref for ShmArc<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `place` came from `Heap::located`; the reference of this process keeps the
        // object, and other references to it are shared ones.
        unsafe { place::shared(self.place) }
    }
}

impl<T: Shareable> Clone for ShmArc<'_, T> {
    fn clone(&self) -> Self {
        Self { held: Arc::clone(&self.held), place: self.place }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for ShmArc<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// By which any process finds the value of a [`ShmArc`], without keeping it. Plain data: it may
/// lie in objects and be sent anywhere. All bytes 0 find nothing.
#[derive(Debug)]
#[repr(C)]
pub struct ShmWeak<T> {
    entry: u64,
    incarnation: u64,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for ShmWeak<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ShmWeak<T> {}

// SAFETY: two numbers that mean the same in every process, and any of which are one.
unsafe impl<T: Shareable> Shareable for ShmWeak<T> {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("ShmWeak", size_of::<Self>(), align_of::<Self>());
}

impl<T: Shareable> ShmWeak<T> {
    /// What finds nothing.
    pub const NONE: Self = Self { entry: 0, incarnation: 0, value: PhantomData };

    /// Holds the value, if any process does.
    ///
    /// Cost: three exchanges. Killed inside: this process holds nothing.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if the value was made as another type, [`Error::Full`],
    /// [`Error::ReadOnly`].
    pub fn upgrade<'h>(&self, heap: &'h Heap) -> Result<Option<ShmArc<'h, T>>> {
        if self.entry == 0 {
            return Ok(None);
        }
        let at = WordIndex(self.entry);
        for registry in [Registry::shared(heap), Registry::roots(heap)] {
            let Some(holding) = registry.attach(at, self.incarnation)? else { continue };
            let arc = ShmArc::of(heap, holding)?;
            let fingerprint = holding.fingerprint();
            if fingerprint != T::FINGERPRINT {
                return Err(Error::WrongType { what: "the shared value".to_owned() });
            }
            return Ok(Some(arc));
        }
        Ok(None)
    }
}
