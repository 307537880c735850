//! `ShmPtr`: the way from one place in a heap to an object, kept as the distance between them.
//!
//! ```text
//!   +----------+ - - - - - - - - - - - - - +----------+
//!   |  ShmPtr  |      distance             |  object  |
//!   +----------+ - - - - - - - - - - - - - +----------+
//! ```
//!
//! It means the same in every process, and costs an addition to follow; but it means something only
//! where it was set: it must not be moved or copied elsewhere. A [`Handle`] may.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::error::NotLive;
use crate::object::Shareable;
use crate::{Error, Handle, Heap, Result};

/// A pointer inside an object to another object of the same heap, which any process may follow and
/// set. Null when its bytes are 0.
///
/// It lies in an object and stays there: copied elsewhere it leads elsewhere. To follow it is
/// checked as a handle is.
///
/// ```
/// use shmheap::{HeapOptions, ShmBox, ShmPtr};
/// let heap = HeapOptions::new(1 << 20).create_memfd()?;
/// let node = ShmBox::<ShmPtr<u64>>::new_zeroed(&heap)?;
/// let target = ShmBox::new(&heap, 7_u64)?;
/// node.set(&heap, ShmBox::handle(&target))?;
/// assert_eq!(node.get(&heap)?, Some(ShmBox::handle(&target)));
/// # Ok::<(), shmheap::Error>(())
/// ```
#[derive(Debug)]
#[repr(transparent)]
pub struct ShmPtr<T> {
    distance: AtomicI64,
    target: PhantomData<fn() -> T>,
}

impl<T: Shareable> ShmPtr<T> {
    /// Points to an object; to none if the handle is that of none.
    ///
    /// # Errors
    ///
    /// As [`Heap::resolve`], and [`Error::InvalidPointer`] if this does not lie in the heap.
    pub fn set(&self, heap: &Heap, target: Handle<T>) -> Result<()> {
        let distance = match target.is_none() {
            true => 0,
            false => {
                let (from, to) = (self.address(heap)?, heap.located(target)?);
                to.addr().get() as i64 - from.addr().get() as i64
            }
        };
        // Release; its partner is the load in `get`: what was written to the object is seen.
        self.distance.store(distance, Ordering::Release);
        Ok(())
    }

    /// The object that it points to; `None` if it is null.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`] if no live object starts there, or this does not lie in the heap.
    pub fn get(&self, heap: &Heap) -> Result<Option<Handle<T>>> {
        // Acquire; its partner is the store in `set`.
        let distance = self.distance.load(Ordering::Acquire);
        if distance == 0 {
            return Ok(None);
        }
        let address = self.address(heap)?.addr().get();
        let target = address.checked_add_signed(distance as isize);
        let target =
            target.and_then(|target| NonNull::new(std::ptr::without_provenance_mut(target)));
        match target {
            Some(target) => heap.handle(target).map(|handle| Some(handle.cast())),
            None => Err(Error::InvalidPointer { address, why: NotLive::Foreign }),
        }
    }

    fn address(&self, heap: &Heap) -> Result<NonNull<u8>> {
        let address = NonNull::from(self).cast();
        heap.word_at(address)?;
        Ok(address)
    }
}
