//! `Connection`: a heap that this process is connected to, and its mapping.
//!
//! It ends with the last reference to it: of a Python `Heap` that was not closed, of a buffer, or
//! of a view. Python keeps one for each heap (`_references.py`).

use std::fs::File;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use shmheap::{Error, Handle, Heap, NotAHeap, Policy, Quota};

use crate::buffer::{self, Buffer};
use crate::bytes;
use crate::error::Result;
use crate::exports::Exports;
use crate::inspect;
use crate::place::{Options, Place};
use crate::tags;

/// A heap that this process is connected to.
#[pyclass(frozen, weakref, module = "shmheap._shmheap")]
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) heap: Heap,
    place: Place,
    pub(crate) exports: Arc<Exports>,
    /// Whether each operation may have to wait for others.
    pub(crate) takes_turns: bool,
}

impl Connection {
    fn new(heap: Heap, place: Place) -> Self {
        let info = heap.info();
        let takes_turns = info.policy == Policy::FirstFit;
        Self { heap, place, exports: Exports::of(info.id), takes_turns }
    }

    /// Does something that takes long, or may have to wait for others; other threads of this
    /// process run meanwhile.
    pub(crate) fn taking_turns<T: Send>(
        &self,
        py: Python<'_>,
        takes_long: bool,
        work: impl FnOnce() -> T + Send,
    ) -> T {
        if takes_long || self.takes_turns { py.detach(work) } else { work() }
    }
}

#[pymethods]
impl Connection {
    /// Makes a heap and connects to it; or, if that will do, connects to one that is there.
    #[staticmethod]
    fn create(
        py: Python<'_>,
        kind: &str,
        which: Option<PathBuf>,
        size: u64,
        options: Options,
        or_connect: bool,
    ) -> Result<Self> {
        let (place, options) = (Place::new(kind, which)?, options.read(size)?);
        let heap = py.detach(|| match or_connect {
            true => place.connect_or_create(&options),
            false => Ok(place.create(&options)?),
        })?;
        Ok(Self::new(heap, place))
    }

    /// Connects to a heap.
    #[staticmethod]
    fn connect(
        py: Python<'_>,
        kind: &str,
        which: Option<PathBuf>,
        read_only: bool,
    ) -> Result<Self> {
        let place = Place::new(kind, which)?;
        let heap = py.detach(|| place.connect(read_only))?;
        Ok(Self::new(heap, place))
    }

    /// Connects to the heap behind a descriptor, which stays the caller's.
    #[staticmethod]
    fn connect_fd(py: Python<'_>, fd: i32, read_only: bool) -> Result<Self> {
        let heap = py.detach(|| Heap::connect_fd(reopen(fd, read_only)?))?;
        Ok(Self::new(heap, Place::Descriptor))
    }

    /// Where the heap is found.
    #[getter]
    fn place(&self) -> (&'static str, Option<PathBuf>) {
        self.place.parts()
    }

    /// What tells the heap from all others.
    #[getter]
    fn id(&self) -> u128 {
        self.heap.info().id
    }

    #[getter]
    fn read_only(&self) -> bool {
        self.heap.is_read_only()
    }

    /// A new descriptor of the heap, the caller's to close.
    fn to_fd(&self) -> Result<i32> {
        Ok(self.heap.to_fd()?.into_raw_fd())
    }

    fn alloc(slf: &Bound<'_, Self>, size: usize, align: usize, zero: bool) -> Result<Buffer> {
        Buffer::alloc(slf, bytes::layout_of(size, align)?, zero)
    }

    #[pyo3(signature = (handle, length=None))]
    fn resolve(slf: &Bound<'_, Self>, handle: u64, length: Option<usize>) -> Result<Buffer> {
        Buffer::resolve(slf, Handle::from_raw(handle), length)
    }

    fn free(&self, py: Python<'_>, handle: u64) -> Result<()> {
        buffer::free(py, self, Handle::from_raw(handle), None)
    }

    fn set_root(&self, py: Python<'_>, name: &str, handle: u64) -> Result<()> {
        let object = Handle::from_raw(handle);
        Ok(self.taking_turns(py, false, || self.heap.set_root(name, object))?)
    }

    fn root(&self, name: &str) -> Result<u64> {
        Ok(self.heap.root_handle(name)?.to_raw())
    }

    fn remove_root(&self, py: Python<'_>, name: &str) -> Result<u64> {
        Ok(self.taking_turns(py, false, || self.heap.remove_root(name))?.to_raw())
    }

    /// Each root's name, handle and fingerprint, and whether it is made.
    fn roots(&self) -> Vec<(String, u64, u64, bool)> {
        let roots = self.heap.roots().into_iter();
        roots
            .map(|root| (root.name, root.handle.to_raw(), root.fingerprint, root.is_made))
            .collect()
    }

    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        inspect::info(py, &self.heap.info())
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        inspect::stats(py, &py.detach(|| self.heap.stats()))
    }

    fn usage<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        let usage = py.detach(|| self.heap.usage()).ok_or(Error::NotLabelled)?;
        Ok(inspect::usage(py, &usage)?)
    }

    /// Sets the quota of a tag, else of each peer, else of the heap.
    fn set_quota(&self, size: Option<u64>, tag: Option<&str>, each_peer: bool) -> Result<()> {
        let quota = match (tag, each_peer) {
            (Some(tag), _) => Quota::Tag(tag),
            (None, true) => Quota::Peer,
            (None, false) => Quota::Heap,
        };
        Ok(self.heap.set_quota(quota, size)?)
    }

    fn set_thread_tag(&self, tag: Option<&str>) -> Result<()> {
        Ok(self.heap.set_thread_tag(tag)?)
    }

    /// Gives this thread a tag, and returns the number by which `pop_tag` takes it back.
    fn push_tag(&self, tag: &str) -> Result<u64> {
        tags::push(&self.heap, tag)
    }

    #[staticmethod]
    fn pop_tag(number: u64) -> PyResult<()> {
        tags::pop(number)
    }

    fn peers<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let peers = py.detach(|| self.heap.peers());
        peers.iter().map(|peer| inspect::peer(py, peer)).collect()
    }

    fn check<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        inspect::report(py, &py.detach(|| self.heap.check()))
    }

    fn sweep(&self, py: Python<'_>) -> Result<u32> {
        Ok(py.detach(|| {
            let swept = self.heap.sweep()?;
            self.heap.sweep_shared().map(|()| swept)
        })?)
    }

    fn grow(&self, py: Python<'_>, size: u64) -> Result<u64> {
        Ok(py.detach(|| self.heap.grow(size))?)
    }

    fn trim(&self, py: Python<'_>) -> Result<u64> {
        Ok(py.detach(|| self.heap.trim())?)
    }

    /// A reference: what is pickled says where the heap is.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("shmheap._references")?.call_method1("reduce_connection", (slf,))
    }
}

/// A descriptor of its own for what a descriptor of the caller's is open for.
fn reopen(fd: i32, read_only: bool) -> shmheap::Result<OwnedFd> {
    let name = format!("/proc/self/fd/{fd}");
    let failed = |source| Error::System { operation: "open the descriptor", source };
    // Others may keep whoever opens them waiting.
    if !std::fs::metadata(&name).map_err(failed)?.is_file() {
        return Err(Error::NotAHeap { name, why: NotAHeap::NotAFile });
    }
    let opened = File::options().read(true).write(!read_only).open(&name);
    opened.map(OwnedFd::from).map_err(failed)
}
