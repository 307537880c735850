//! The heap as an allocator for collections that take one: two faces of it.
//!
//! | allocator | a collection with it | in its header |
//! |---|---|---|
//! | `&Heap` | is this process's own, its elements lie in the heap | an address in this process |
//! | [`SharedAllocator`] | may lie in the heap as a whole, for every process | the heap's address |
//!
//! Sizes of 0 are no objects: collections neither ask for them nor give them back in pairs.
//!
//! # Unsafe code
//!
//! The trait is unsafe, and its functions that take a block pass the caller's promise on.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::OnceLock;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::heap::{Heap, Space};

/// With the feature `allocator-api2`, for `allocator_api2::vec::Vec`, `Box` and other collections
/// that take an allocator. They are this process's own: what they hold lies in the heap, but they
/// refer to this [`Heap`], which means nothing elsewhere. For collections that lie in the heap as a
/// whole there is [`SharedAllocator`].
///
/// Costs what [`alloc`](Heap::alloc), [`realloc`](Heap::realloc) and [`free`](Heap::free) cost. A
/// full heap is an `AllocError`, at which `push` and its like end the process: reserve with
/// `try_reserve` first. An object that cannot be given back (see the errors of `free`) stays.
/// Objects of a killed process stay, too, as all that were not allocated unpublished.
///
/// ```
/// use allocator_api2::vec::Vec;
/// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
/// let mut numbers = Vec::new_in(&heap);
/// numbers.try_reserve(100).expect("there is room");
/// numbers.extend(0..100_u64);
/// assert_eq!(heap.stats().live_objects, 1);
/// drop(numbers);
/// assert_eq!(heap.stats().live_objects, 0);
/// # Ok::<(), shmheap::Error>(())
/// ```
// SAFETY: blocks are live objects of the heap, which stay where they are as long as the heap is
// borrowed, and so as long as any copy of the reference lives. All copies are the same heap.
unsafe impl Allocator for &Heap {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        match layout.size() {
            0 => Ok(nothing(layout)),
            _ => Ok(block(self.alloc(layout).map_err(|_| AllocError)?, layout)),
        }
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        match layout.size() {
            0 => Ok(nothing(layout)),
            _ => Ok(block(self.alloc_zeroed(layout).map_err(|_| AllocError)?, layout)),
        }
    }

    #[inline]
    unsafe fn deallocate(&self, object: NonNull<u8>, layout: Layout) {
        if layout.size() > 0 {
            // SAFETY: the caller gives the block up. What cannot be freed stays.
            let _ = unsafe { self.free(object) };
        }
    }

    #[inline]
    unsafe fn grow(
        &self,
        object: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() == 0 {
            return self.allocate(new);
        }
        // SAFETY: the block is the caller's, who forgets its old address if this succeeds.
        let object = unsafe { self.realloc(object, new) };
        Ok(block(object.map_err(|_| AllocError)?, new))
    }

    unsafe fn grow_zeroed(
        &self,
        object: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise is the same.
        let grown = unsafe { self.grow(object, old, new) }?;
        // SAFETY: the block has `new.size()` bytes, no fewer than `old.size()`.
        let added = unsafe { grown.cast::<u8>().add(old.size()) };
        // SAFETY: these are the bytes of the block behind the old ones; nobody else knows of them.
        unsafe { Space::zero(added, new.size() - old.size()) };
        Ok(grown)
    }

    unsafe fn shrink(
        &self,
        object: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if new.size() == 0 {
            // SAFETY: the caller gives the block up.
            unsafe { self.deallocate(object, old) };
            return Ok(nothing(new));
        }
        // SAFETY: as in `grow`.
        match unsafe { self.realloc(object, new) } {
            Ok(object) => Ok(block(object, new)),
            // A full heap may have no room to move the object to; it is large enough as it stands.
            Err(_) if object.addr().get().is_multiple_of(new.align()) => Ok(block(object, new)),
            Err(_) => Err(AllocError),
        }
    }
}

/// The allocator of collections that lie in a heap as a whole, their headers, too, so that every
/// process can use them. It is the heap's address, the same in all processes, by which each finds
/// its own connection. With the feature `allocator-api2`; made by [`Heap::shared_allocator`].
///
/// In a process that has not called that, allocation fails, and what is freed stays allocated.
///
/// The compiler does not know of other processes. Whoever takes a collection that another process
/// has put into a heap promises that
///
/// - both run the same program, the very same build: Rust lays types out as it likes;
/// - nobody changes it meanwhile: a lock in the heap, or a hand-over, sees to that. A process that
///   is killed while it changes a collection leaves it half changed;
/// - it holds no address of anything outside the heap: no reference to other memory, no pointer to
///   a function, no `dyn Trait`, no `String` or `Vec` of the global allocator. A hash map that is
///   empty, or hashes by a seed of its process, does: hashbrown's is such.
///
/// ```
/// use allocator_api2::{boxed::Box, vec::Vec};
/// use shmheap::{Heap, HeapOptions, SharedAllocator};
///
/// # let heap = HeapOptions::new(1 << 20).same_address().create_memfd()?;
/// // For good, so that collections need not borrow it; a `static OnceLock<Heap>` does it as well.
/// let heap: &'static Heap = std::boxed::Box::leak(std::boxed::Box::new(heap));
/// let shared = heap.shared_allocator().expect("it lies at the same address everywhere");
/// type Rows = Vec<Vec<u64, SharedAllocator>, SharedAllocator>;
/// let mut rows: Box<Rows, _> = Box::new_in(Vec::new_in(shared), shared);
/// rows.push(Vec::new_in(shared));
/// rows[0].extend([1, 2, 3]);
/// let root: *mut Rows = Box::into_raw(rows); // all of it lies in the heap
/// // Another process would get the address, or a handle of this object:
/// // SAFETY: see above; nobody else uses it.
/// let rows = unsafe { Box::from_raw_in(root, shared) };
/// assert_eq!(rows[0][2], 3);
/// # Ok::<(), shmheap::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct SharedAllocator(NonZeroUsize);

impl Heap {
    /// The allocator for collections that lie in this heap as a whole. `None` unless it was made
    /// with [`same_address`](crate::HeapOptions::same_address): in other heaps an address is one
    /// process's own. Every process calls this once before it touches such a collection. Each
    /// allocation then looks through the heaps for which this process has done so, in that order.
    #[must_use]
    pub fn shared_allocator(&'static self) -> Option<SharedAllocator> {
        let address = self.shape.address()?;
        let mut link = Box::new(Link { heap: self, next: OnceLock::new() });
        let mut place = &FIRST;
        while let Err(returned) = place.set(link) {
            let found = place.get()?;
            if found.heap.shape.address() == Some(address) {
                break;
            }
            (link, place) = (returned, &found.next);
        }
        Some(SharedAllocator(address))
    }
}

/// The heaps with shared allocators in this process. They stay connected, so none is ever taken
/// out, and no other can come to lie at the address of one.
static FIRST: OnceLock<Box<Link>> = OnceLock::new();

struct Link {
    heap: &'static Heap,
    next: OnceLock<Box<Link>>,
}

impl SharedAllocator {
    #[inline]
    fn heap(self) -> Result<&'static Heap, AllocError> {
        let mut place = &FIRST;
        while let Some(link) = place.get() {
            if link.heap.shape.address() == Some(self.0) {
                return Ok(link.heap);
            }
            place = &link.next;
        }
        Err(AllocError)
    }
}

// SAFETY: as for `&Heap`, and the heap stays connected. All copies find the same heap.
unsafe impl Allocator for SharedAllocator {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        (&self.heap()?).allocate(layout)
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        (&self.heap()?).allocate_zeroed(layout)
    }

    #[inline]
    unsafe fn deallocate(&self, object: NonNull<u8>, layout: Layout) {
        if let Ok(heap) = self.heap() {
            // SAFETY: the caller's promise is the same.
            unsafe { (&heap).deallocate(object, layout) };
        }
    }

    #[inline]
    unsafe fn grow(
        &self,
        object: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise is the same.
        unsafe { (&self.heap()?).grow(object, old, new) }
    }

    unsafe fn grow_zeroed(
        &self,
        object: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise is the same.
        unsafe { (&self.heap()?).grow_zeroed(object, old, new) }
    }

    unsafe fn shrink(
        &self,
        object: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise is the same.
        unsafe { (&self.heap()?).shrink(object, old, new) }
    }
}

fn block(object: NonNull<u8>, layout: Layout) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(object, layout.size())
}

/// A block of no bytes, aligned as the layout says.
fn nothing(layout: Layout) -> NonNull<[u8]> {
    let address = NonZeroUsize::new(layout.align()).unwrap_or(NonZeroUsize::MIN);
    block(NonNull::dangling().with_addr(address), layout)
}
