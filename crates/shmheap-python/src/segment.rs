//! `Segment`: bytes with a name, which live as long as they have that, or a process has them open.
//!
//! ```text
//!   root: name --> SegmentHead { cell, handle, length } ---> bytes
//!   process: Segment ---holds---^
//! ```
//!
//! As POSIX shared memory does, but that the dead hold nothing. The bytes are owned by a cell of
//! the root's value, so they are freed with it, by whoever lets go of it last.
//!
//! # Safety
//!
//! What `bytes` asks for.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::ffi;
use pyo3::prelude::*;
use shmheap::{Error, Handle, Heap, Shareable, ShmArc, ShmBox, ShmCell};

use crate::bytes::{self, Span};
use crate::connection::Connection;
use crate::error::Result;
use crate::named::open_value;

/// How long another process may take to make a segment of the same name: to clear its bytes.
const PATIENCE: Duration = Duration::from_secs(60);
/// As NumPy likes it.
const ALIGN_BYTES: usize = 64;

/// The value of the root: it owns the bytes, of which only the first are known by their type.
#[derive(Debug, Shareable)]
#[repr(C)]
struct SegmentHead {
    bytes: ShmCell<u64>,
    handle: Handle,
    len_bytes: u64,
}

open_value!(SegmentHead);

/// Named bytes: what `shmheap.SharedMemory` is made of.
#[pyclass(frozen, weakref, module = "shmheap._shmheap")]
pub(crate) struct Segment {
    open: Open,
    span: Span,
    /// In a process that was forked from who opened it: what that holds itself.
    own: Mutex<Option<Open>>,
    /// Whether it is such a process, and could not hold it.
    is_lost: AtomicBool,
    /// How many look at the bytes.
    views: AtomicUsize,
}

// SAFETY: the span is an address, of bytes that any thread may use as it may any process's.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// The segment of that value, if its bytes are where it says.
    fn of(open: Open) -> Result<Self> {
        let (heap, head) = (&open.connection().heap, open.borrow_dependent());
        let address = heap.resolve(head.handle)?;
        let len_bytes = usize::try_from(head.len_bytes).unwrap_or(usize::MAX);
        if len_bytes > heap.usable_size(address)? {
            return Err(Error::Damaged { what: "the length of a segment" }.into());
        }
        let span = Span { address, len_bytes };
        let (own, is_lost) = (Mutex::new(None), AtomicBool::new(false));
        Ok(Self { open, span, own, is_lost, views: AtomicUsize::new(0) })
    }

    fn own(&self, py: Python<'_>) -> Result<Open> {
        let head = self.open.borrow_dependent();
        let (weak, object) = (ShmArc::downgrade(head), ShmArc::handle(head).cast());
        Ok(Open::try_new(self.open.borrow_owner().clone_ref(py), |connection| {
            // Freed, if nobody held it any more.
            weak.upgrade(&connection.get().heap)?.ok_or(Error::Stale { handle: object })
        })?)
    }
}

/// Fills the value of a new root.
fn make(heap: &Heap, head: &mut SegmentHead, layout: Layout) -> shmheap::Result<()> {
    let object = heap.alloc_unpublished_zeroed(layout)?;
    head.handle = object.handle();
    head.len_bytes = layout.size() as u64;
    ShmBox::<u64>::from_plain(object)?.publish(&head.bytes)?;
    Ok(())
}

#[pymethods]
impl Segment {
    /// Makes a segment of zeros; `None` if there is one of that name.
    #[staticmethod]
    fn create(
        py: Python<'_>,
        connection: Py<Connection>,
        name: &str,
        size: usize,
    ) -> Result<Option<Self>> {
        let layout = bytes::layout_of(size, ALIGN_BYTES)?;
        let mut is_new = false;
        let open = Open::find(py, connection, Some(PATIENCE), |heap, slice| {
            is_new = false;
            heap.try_find_or_create(name, slice, |head| {
                is_new = true;
                make(heap, head, layout)
            })
        })?;
        let segment = Self::of(open)?;
        Ok(is_new.then_some(segment))
    }

    /// Opens the segment of that name.
    #[staticmethod]
    fn attach(py: Python<'_>, connection: Py<Connection>, name: &str) -> Result<Self> {
        Self::of(Open::find(py, connection, None, |heap, _| heap.find_root(name))?)
    }

    /// Holds it once more, for a process that was forked: what its parent holds is not its own.
    fn hold(&self, py: Python<'_>) -> Result<()> {
        let own = self.own(py);
        // Relaxed: a mark that orders nothing; whoever sees an old one tries again.
        self.is_lost.store(own.is_err(), Ordering::Relaxed);
        let own = own?;
        // Nothing panics while it is locked, so it is never poisoned.
        let mut held = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let old = held.replace(own);
        drop(held);
        // Not under the lock.
        drop(old);
        Ok(())
    }

    /// Tries again if that has failed: only what is held has its bytes for itself.
    fn hold_if_lost(&self, py: Python<'_>) -> Result<()> {
        // Relaxed: as above.
        if self.is_lost.load(Ordering::Relaxed) { self.hold(py) } else { Ok(()) }
    }

    /// Takes the name away.
    #[staticmethod]
    fn unlink(py: Python<'_>, connection: &Connection, name: &str) -> Result<()> {
        Ok(py.detach(|| {
            let heap = &connection.heap;
            // Only from what is a segment.
            heap.find_root::<SegmentHead>(name)?;
            heap.remove_root(name).map(drop)
        })?)
    }

    /// How many look at the bytes in this process.
    #[getter]
    fn views(&self) -> usize {
        // Relaxed: a count that orders nothing.
        self.views.load(Ordering::Relaxed)
    }

    fn __len__(&self) -> usize {
        self.span.len_bytes
    }

    /// # Safety
    ///
    /// `view` is one that Python asks to be filled.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let span = this.hold_if_lost(slf.py()).map(|()| this.span);
        // SAFETY: the caller's view. The bytes are an object that the value owns, which is held as
        // long as this; the view gets a reference to this.
        unsafe { bytes::export(slf, span, false, view, flags) }?;
        // Relaxed: a count that orders nothing.
        this.views.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// # Safety
    ///
    /// `view` was filled by `__getbuffer__`.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        // Relaxed: as above.
        self.views.fetch_sub(1, Ordering::Relaxed);
    }
}
