//! The bytes of an object, written to and shown to Python.
//!
//! They are handed on as addresses alone, never as Rust references, since other processes may
//! change them at any time: what all of shared memory, and of Python's buffers, has to live with.
//!
//! # Unsafe code
//!
//! All functions, whose contract is the caller's: that the bytes are there.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use shmheap::{Error, Handle};

use crate::error::Result;
use crate::exports::Exports;

/// From here on, filling bytes takes long enough to let other threads run.
pub(crate) const LARGE_BYTES: usize = 256 << 10;

/// How an object lies that Python asks for.
pub(crate) fn layout_of(size: usize, align: usize) -> Result<Layout> {
    let layout = Layout::from_size_align(size, align).map_err(|_| Error::InvalidLayout {
        size_bytes: size as u64,
        align_bytes: align as u64,
        why: "an alignment is a power of two, and no size comes near 2^63",
    });
    Ok(layout?)
}

/// Where an object's bytes are, and how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) address: NonNull<u8>,
    pub(crate) len_bytes: usize,
}

impl Span {
    /// Some of the bytes, if they lie in the span.
    pub(crate) fn part(self, offset: usize, len_bytes: usize) -> Option<Self> {
        if offset.checked_add(len_bytes)? > self.len_bytes {
            return None;
        }
        let address = NonNull::new(self.address.as_ptr().wrapping_add(offset))?;
        Some(Self { address, len_bytes })
    }
}

/// Copies bytes of Python's into a span, from `offset` on. Other threads run meanwhile if they are
/// many.
///
/// # Safety
///
/// The span is memory of the process until this returns.
pub(crate) unsafe fn write(
    py: Python<'_>,
    span: Span,
    offset: usize,
    data: &PyUntypedBuffer,
) -> PyResult<()> {
    if !data.is_c_contiguous() {
        let why = "the bytes to write do not lie in one row; pass a contiguous buffer";
        return Err(PyBufferError::new_err(why));
    }
    let count = data.len_bytes();
    let Some(room) = span.part(offset, count) else {
        let why = format!("{count} bytes from {offset} on do not fit into {}", span.len_bytes);
        return Err(PyValueError::new_err(why));
    };
    let from = data.buf_ptr().expose_provenance();
    let to = room.address.as_ptr().expose_provenance();
    let copy = move || {
        let from = std::ptr::with_exposed_provenance::<u8>(from);
        let to = std::ptr::with_exposed_provenance_mut::<u8>(to);
        // SAFETY: `data` holds `count` bytes as long as it is held, which is until the copy is
        // done; so many are in `room`, by the caller's promise. They may overlap, as far as `copy`
        // is concerned.
        unsafe { std::ptr::copy(from, to, count) };
    };
    if count >= LARGE_BYTES {
        py.detach(copy);
    } else {
        copy();
    }
    Ok(())
}

/// Copies bytes into a span, from `offset` on; none if they do not fit.
///
/// # Safety
///
/// The span is memory of the process, and nobody else's.
pub(crate) unsafe fn write_row(span: Span, offset: usize, data: &[u8]) {
    if let Some(room) = span.part(offset, data.len()) {
        // SAFETY: there is room for so many, which nobody else has.
        unsafe { data.as_ptr().copy_to_nonoverlapping(room.address.as_ptr(), data.len()) };
    }
}

/// Fills a view that Python asks `exporter` for.
///
/// # Safety
///
/// `view` is one that Python asks to be filled, and the span is memory of the process as long as
/// `exporter` lives, to which the view gets a reference.
pub(crate) unsafe fn export(
    exporter: &Bound<'_, PyAny>,
    span: Result<Span>,
    readonly: bool,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    // SAFETY: the view is the caller's to be filled. Empty, it asks nobody to release it: so Python
    // wants it of who fails.
    unsafe { (*view).obj = std::ptr::null_mut() };
    let span = span?;
    let address = span.address.as_ptr().cast::<c_void>();
    let (len, readonly) = (span.len_bytes.cast_signed(), c_int::from(readonly));
    // SAFETY: as above; it stands for bytes that are there until it is released, as the caller
    // promises.
    let filled =
        unsafe { ffi::PyBuffer_FillInfo(view, exporter.as_ptr(), address, len, readonly, flags) };
    match filled {
        0 => Ok(()),
        _ => Err(PyErr::fetch(exporter.py())),
    }
}

/// As [`export`], of an object, which counts as looked at until [`Exports::end`].
///
/// # Safety
///
/// As [`export`], for the span that `find` finds.
pub(crate) unsafe fn export_object(
    exporter: &Bound<'_, PyAny>,
    (exports, object): (&Exports, Handle),
    find: impl FnOnce() -> Result<Span>,
    readonly: bool,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    // Before it is found, so that it stays once it is.
    let counted = exports.view(exporter.py(), object);
    // SAFETY: as the caller promises.
    unsafe { export(exporter, find(), readonly, view, flags) }?;
    counted.keep();
    Ok(())
}
