//! The bytes of an object, written to and shown to Python.
//!
//! They are handed on as addresses alone, never as Rust references, since other processes may
//! change them at any time: what all of shared memory, and of Python's buffers, has to live with.
//!
//! # Unsafe code
//!
//! Both functions, whose contract is the caller's: that the bytes are there.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

/// From here on, filling bytes takes long enough to let other threads run.
pub(crate) const LARGE_BYTES: usize = 256 << 10;

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
pub(crate) unsafe fn write(span: Span, offset: usize, data: &Bound<'_, PyAny>) -> PyResult<()> {
    let (py, data) = (data.py(), PyUntypedBuffer::get(data)?);
    let (count, whole) = (data.len_bytes(), span.len_bytes);
    if !data.is_c_contiguous() {
        let why = "the bytes to write do not lie in one row; pass a contiguous buffer";
        return Err(PyBufferError::new_err(why));
    }
    if offset.checked_add(count).is_none_or(|end| end > whole) {
        let why = format!("{count} bytes from {offset} on do not fit into {whole}");
        return Err(PyValueError::new_err(why));
    }
    let from = data.buf_ptr().expose_provenance();
    let to = span.address.as_ptr().expose_provenance() + offset;
    let copy = move || {
        let from = std::ptr::with_exposed_provenance::<u8>(from);
        let to = std::ptr::with_exposed_provenance_mut::<u8>(to);
        // SAFETY: `data` holds `count` bytes as long as it is held, which is until the copy is
        // done; the span has bytes up to `offset + count`, by the caller's promise. They may
        // overlap, as far as `copy` is concerned.
        unsafe { std::ptr::copy(from, to, count) };
    };
    if count >= LARGE_BYTES {
        py.detach(copy)
    } else {
        copy()
    }
    Ok(())
}

/// Fills a view that Python asks `exporter` for.
///
/// # Safety
///
/// `view` is one that Python asks to be filled, and the span is memory of the process as long as
/// `exporter` lives, to which the view gets a reference.
pub(crate) unsafe fn export(
    exporter: &Bound<'_, PyAny>,
    span: Span,
    readonly: bool,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let address = span.address.as_ptr().cast::<c_void>();
    let (len, readonly) = (span.len_bytes.cast_signed(), c_int::from(readonly));
    // SAFETY: the view is the caller's to be filled, and stands for bytes that are there until it
    // is released, as the caller promises.
    let filled =
        unsafe { ffi::PyBuffer_FillInfo(view, exporter.as_ptr(), address, len, readonly, flags) };
    match filled {
        0 => Ok(()),
        _ => Err(PyErr::fetch(exporter.py())),
    }
}
