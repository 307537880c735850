//! The calls on objects, as a tool that watches the program has to see them.
//!
//! Without a tool each of them is a call of the heap. With one it tells the tool as well which
//! bytes the program may touch:
//!
//! ```text
//!  asked for:   |<----- 20 bytes ----->|
//!  block:       |       object         |  rest  |
//!  after alloc  |        open          | closed |    a touch of what is closed is reported
//!  after free   |            closed             |
//! ```
//!
//! What a tool knows is this process's own, a heap is not. So the rule is that nothing which some
//! process may use is ever closed here, whatever that costs in misuse that is not found:
//!
//! - A heap begins open, and only what this process has allocated or freed is closed.
//! - An object that is named to the program, by its handle or by a question for its size, is
//!   opened as a whole: another process may have allocated it where this one had freed something.
//! - What has been closed is opened again before it is unmapped, for something else may be mapped
//!   there.
//!
//! The library's own copying and zeroing is seen by the tools, too: by Memcheck as all code, by
//! AddressSanitizer through `memcpy` and `memset`. So it happens here, on bytes that are open.
//!
//! # Safety
//!
//! Bytes are zeroed and copied in objects that the heap has just handed out, or confirmed, with
//! their size.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ops::Range;
use std::ptr::{self, NonNull};

use shmheap::{Handle, Heap, Result};

use crate::handles::Connection;
use crate::tool::{Closed, Tool};

impl Connection {
    #[inline]
    pub(crate) fn alloc(&self, layout: Layout) -> Result<NonNull<u8>> {
        match self.watch() {
            None => self.heap.alloc(layout),
            Some(watch) => watch.alloc(layout),
        }
    }

    #[inline]
    pub(crate) fn alloc_zeroed(&self, layout: Layout) -> Result<NonNull<u8>> {
        match self.watch() {
            None => self.heap.alloc_zeroed(layout),
            Some(watch) => watch.alloc_zeroed(layout),
        }
    }

    /// # Safety
    ///
    /// As [`Heap::realloc`].
    #[inline]
    pub(crate) unsafe fn realloc(
        &self,
        object: NonNull<u8>,
        layout: Layout,
    ) -> Result<NonNull<u8>> {
        match self.watch() {
            // SAFETY: the caller's promise.
            None => unsafe { self.heap.realloc(object, layout) },
            // SAFETY: the caller's promise.
            Some(watch) => unsafe { watch.realloc(object, layout) },
        }
    }

    /// # Safety
    ///
    /// As [`Heap::free`].
    #[inline]
    pub(crate) unsafe fn free(&self, object: NonNull<u8>) -> Result<()> {
        match self.watch() {
            // SAFETY: the caller's promise.
            None => unsafe { self.heap.free(object) },
            // SAFETY: the caller's promise.
            Some(watch) => unsafe { watch.free(object) },
        }
    }

    #[inline]
    pub(crate) fn usable_size(&self, object: NonNull<u8>) -> Result<usize> {
        match self.watch() {
            None => self.heap.usable_size(object),
            Some(watch) => watch.usable_size(object),
        }
    }

    #[inline]
    pub(crate) fn resolve(&self, handle: Handle) -> Result<NonNull<u8>> {
        match self.watch() {
            None => self.heap.resolve(handle),
            Some(watch) => watch.resolve(handle),
        }
    }

    pub(crate) fn disconnect(self) {
        if let Some(watch) = self.watch() {
            watch.forget();
        }
        self.heap.disconnect();
    }

    #[inline]
    fn watch(&self) -> Option<Watch<'_>> {
        Tool::here().map(|tool| Watch { tool, heap: &self.heap, closed: &self.closed })
    }
}

/// A tool, and a heap that it is told about.
struct Watch<'c> {
    tool: Tool,
    heap: &'c Heap,
    closed: &'c Closed,
}

impl Watch<'_> {
    /// Opens all bytes of a live object.
    fn open(&self, object: NonNull<u8>) -> Result<Range<usize>> {
        let start = object.addr().get();
        let bytes = start..start + self.heap.usable_size(object)?;
        self.tool.open(bytes.clone());
        Ok(bytes)
    }

    /// Opens so many bytes of a live object, and closes the rest of its block.
    fn hand_out(&self, object: NonNull<u8>, size_bytes: usize) -> Result<()> {
        let bytes = self.open(object)?;
        let rest = bytes.start + size_bytes..bytes.end;
        self.closed.include(&rest);
        self.tool.close(rest);
        Ok(())
    }

    /// Opens all that may be closed.
    fn forget(&self) {
        let bytes = self.closed.bytes();
        if !bytes.is_empty() {
            self.tool.open(bytes);
        }
    }

    #[cold]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>> {
        let object = self.heap.alloc(layout)?;
        self.hand_out(object, layout.size())?;
        Ok(object)
    }

    #[cold]
    fn alloc_zeroed(&self, layout: Layout) -> Result<NonNull<u8>> {
        let object = self.heap.alloc(layout)?;
        let bytes = self.open(object)?;
        // SAFETY: the object was placed just now with that many bytes, and nobody knows it yet.
        unsafe { object.write_bytes(0, bytes.len()) };
        self.hand_out(object, layout.size())?;
        Ok(object)
    }

    #[cold]
    fn resolve(&self, handle: Handle) -> Result<NonNull<u8>> {
        let object = self.heap.resolve(handle)?;
        self.open(object)?;
        Ok(object)
    }

    #[cold]
    fn usable_size(&self, object: NonNull<u8>) -> Result<usize> {
        Ok(self.open(object)?.len())
    }

    /// Before the heap frees the object: afterwards its bytes may be another thread's already.
    #[cold]
    unsafe fn free(&self, object: NonNull<u8>) -> Result<()> {
        let start = object.addr().get();
        let bytes = start..start + self.heap.usable_size(object)?;
        self.closed.include(&bytes);
        self.tool.close_freed(bytes.clone());
        // SAFETY: the caller's promise.
        let freed = unsafe { self.heap.free(object) };
        if freed.is_err() {
            self.tool.open(bytes);
        }
        freed
    }

    /// Moves the object wherever there is room for both, as the tools do with `malloc`'s: so that
    /// who goes on to use the old place is found.
    #[cold]
    unsafe fn realloc(&self, object: NonNull<u8>, layout: Layout) -> Result<NonNull<u8>> {
        let old = self.open(object)?;
        let Ok(moved) = self.heap.alloc(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { self.realloc_in_place(object, layout) };
        };
        self.open(moved)?;
        let bytes = old.len().min(layout.size());
        // SAFETY: both are live objects, the old one used by nobody meanwhile, the new one known
        // to nobody.
        unsafe { ptr::copy_nonoverlapping(object.as_ptr(), moved.as_ptr(), bytes) };
        self.hand_out(moved, layout.size())?;
        // SAFETY: the caller gives up the old address.
        unsafe { self.free(object) }?;
        Ok(moved)
    }

    /// By the heap itself, for want of room. If somebody makes room this very moment, it copies to
    /// a place that may be closed, which must not be reported.
    unsafe fn realloc_in_place(&self, object: NonNull<u8>, layout: Layout) -> Result<NonNull<u8>> {
        self.forget();
        // SAFETY: the caller's promise.
        let object = unsafe { self.heap.realloc(object, layout) }?;
        self.hand_out(object, layout.size())?;
        Ok(object)
    }
}
