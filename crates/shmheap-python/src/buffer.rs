//! `Buffer`: the bytes of an object, for whatever in Python works on bytes.
//!
//! ```text
//!   numpy array, memoryview --view--> Buffer --reference--> Connection: the mapping
//!                              |
//!                              +-- counted in `Exports`: no free while there is one
//! ```
//!
//! What can go wrong stays within Python's own rules. The mapping lasts as long as any view. An
//! object that another process frees meanwhile takes its bytes along, not their addresses: what a
//! view shows then is another object's, or nothing's. Bytes are handed on as addresses alone, never
//! as Rust references, since others may change them at any time.
//!
//! # Safety
//!
//! Objects freed; what `bytes` asks for.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use shmheap::{Error, Handle};

use crate::bytes::{self, LARGE_BYTES, Span};
use crate::connection::Connection;
use crate::error::Result;

/// What every object has at least. Zeroed in a new one, so that nobody takes it for what lay there
/// before: Python's own objects are known by their first word.
const FIRST_WORD_BYTES: usize = 8;

/// The bytes of an object in a heap.
///
/// It has the buffer protocol: `memoryview(buffer)`, `numpy.frombuffer(buffer)` and others look at
/// the object itself, without a copy, and keep the heap mapped, also when it is closed. Pickled, it
/// is a reference to the object, not its bytes.
#[pyclass(frozen, weakref, module = "shmheap")]
#[derive(Debug)]
pub(crate) struct Buffer {
    connection: Py<Connection>,
    object: Handle,
    len_bytes: usize,
    /// Whether it was freed through this buffer.
    freed: AtomicBool,
}

impl Buffer {
    /// A new object.
    pub(crate) fn alloc(
        connection: &Bound<'_, Connection>,
        layout: Layout,
        zero: bool,
    ) -> Result<Self> {
        let (py, heap) = (connection.py(), &connection.get().heap);
        let large = layout.size() >= LARGE_BYTES;
        let alloc = || {
            let address = if zero { heap.alloc_zeroed(layout) } else { heap.alloc(layout) }?;
            // SAFETY: the object is new, has that many bytes, and nobody knows of it.
            unsafe { address.write_bytes(0, FIRST_WORD_BYTES) };
            heap.handle(address)
        };
        let object = connection.get().taking_turns(py, large, alloc)?;
        Ok(Self::new(connection, object, layout.size()))
    }

    /// The object of that handle: all of it, or its first bytes.
    pub(crate) fn resolve(
        connection: &Bound<'_, Connection>,
        object: Handle,
        len_bytes: Option<usize>,
    ) -> Result<Self> {
        let heap = &connection.get().heap;
        let whole_bytes = heap.usable_size(heap.resolve(object)?)?;
        let len_bytes = len_bytes.unwrap_or(whole_bytes);
        if len_bytes > whole_bytes {
            let why = format!("the object has {whole_bytes} bytes, not {len_bytes}");
            return Err(PyValueError::new_err(why).into());
        }
        Ok(Self::new(connection, object, len_bytes))
    }

    fn new(connection: &Bound<'_, Connection>, object: Handle, len_bytes: usize) -> Self {
        let connection = connection.clone().unbind();
        Self { connection, object, len_bytes, freed: AtomicBool::new(false) }
    }

    /// Where the object is, if it still lives and has that many bytes.
    fn span(&self) -> Result<Span> {
        let heap = &self.connection.get().heap;
        // Relaxed: a mark for who frees and uses in one thread; no memory hangs on it.
        if self.freed.load(Ordering::Relaxed) {
            return Err(Error::Stale { handle: self.object }.into());
        }
        let address = heap.resolve(self.object)?;
        if heap.usable_size(address)? < self.len_bytes {
            return Err(Error::Stale { handle: self.object }.into());
        }
        Ok(Span { address, len_bytes: self.len_bytes })
    }
}

/// Frees an object that this process has no view of. `freed` says whether it was freed already, and
/// is told that it was.
pub(crate) fn free(
    py: Python<'_>,
    connection: &Connection,
    object: Handle,
    freed: Option<&AtomicBool>,
) -> Result<()> {
    let claim = connection.exports.claim(py, object).map_err(|views| {
        PyBufferError::new_err(format!(
            "views of the object in this process: {views} (memoryviews, arrays); let go of them \
             (del, or release()), then free it"
        ))
    })?;
    // Relaxed: who has the claim is alone.
    if freed.is_some_and(|freed| freed.load(Ordering::Relaxed)) {
        return Err(Error::Stale { handle: object }.into());
    }
    let heap = &connection.heap;
    connection.taking_turns(py, false, || {
        let address = heap.resolve(object)?;
        // SAFETY: nothing in this process has the object's address: views were counted, none comes
        // to be meanwhile, and none keeps it otherwise. What other processes do with it is what all
        // of them have agreed upon; none can come to harm in its memory, for their views last as
        // long as their mappings.
        unsafe { heap.free(address) }
    })?;
    if let Some(freed) = freed {
        // Relaxed: as above.
        freed.store(true, Ordering::Relaxed);
    }
    drop(claim);
    Ok(())
}

#[pymethods]
impl Buffer {
    /// The integer that names the object in every process.
    #[getter]
    fn handle(&self) -> u64 {
        self.object.to_raw()
    }

    /// The connection that the object is reached through.
    #[getter]
    fn connection(&self, py: Python<'_>) -> Py<Connection> {
        self.connection.clone_ref(py)
    }

    /// Whether the bytes cannot be changed through this buffer.
    #[getter]
    fn readonly(&self) -> bool {
        self.connection.get().heap.is_read_only()
    }

    fn __len__(&self) -> usize {
        self.len_bytes
    }

    /// Frees the object, for all processes.
    ///
    /// `BufferError` if this process has views of it, by whatever buffer.
    fn free(&self, py: Python<'_>) -> Result<()> {
        free(py, self.connection.get(), self.object, Some(&self.freed))
    }

    /// Copies bytes into the object, from `offset` on. Other threads run meanwhile if it is long.
    fn write(&self, py: Python<'_>, offset: usize, data: &Bound<'_, PyAny>) -> Result<()> {
        if self.readonly() {
            return Err(Error::ReadOnly { action: "write" }.into());
        }
        let data = PyUntypedBuffer::get(data)?;
        let counted = self.connection.get().exports.view(py, self.object);
        // SAFETY: the object has that many bytes, in a mapping that lasts as long as this, and
        // nobody in this process frees it while it is looked at.
        unsafe { bytes::write(py, self.span()?, offset, &data) }?;
        drop(counted);
        Ok(())
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
        let whose = (&*this.connection.get().exports, this.object);
        // SAFETY: the caller's view. It gets a reference to this buffer, so the mapping lasts until
        // it is released.
        unsafe { bytes::export_object(slf, whose, || this.span(), this.readonly(), view, flags) }
    }

    /// # Safety
    ///
    /// `view` was filled by `__getbuffer__`.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.connection.get().exports.end(self.object);
    }

    /// A reference: what is pickled names the object and does not hold its bytes.
    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let rebuild = py.import("shmheap._references")?.getattr("rebuild_buffer")?;
        let whose = (&self.connection, self.object.to_raw(), self.len_bytes);
        Ok((rebuild, whose.into_pyobject(py)?))
    }

    /// The bytes for another library, by way of NumPy.
    #[pyo3(signature = (**options))]
    fn __dlpack__<'py>(
        slf: &Bound<'py, Self>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let numpy = slf.py().import("numpy")?;
        let array = numpy.call_method1("frombuffer", (slf, "u1"))?;
        array.call_method("__dlpack__", (), options)
    }

    /// The processor's memory.
    fn __dlpack_device__(&self) -> (i32, i32) {
        (1, 0)
    }

    fn __repr__(&self) -> String {
        // Relaxed: as in `span`.
        let freed = if self.freed.load(Ordering::Relaxed) { ", freed" } else { "" };
        format!("<shmheap.Buffer {}, {} bytes{freed}>", self.object, self.len_bytes)
    }
}
