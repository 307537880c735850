//! Where a heap is found: under a name, in a file, or through a descriptor alone.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use shmheap::{Heap, HeapOptions, Policy};

use crate::error::Result;

/// Where a heap is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Name(String),
    File(PathBuf),
    /// A memfd: it has no name, and whoever is to connect gets a descriptor.
    Descriptor,
}

impl Place {
    /// The place as Python says it: what kind it is, and which.
    pub(crate) fn new(kind: &str, which: Option<PathBuf>) -> PyResult<Self> {
        match (kind, which) {
            ("name", Some(name)) => match name.into_os_string().into_string() {
                Ok(name) => Ok(Self::Name(name)),
                Err(_) => Err(PyValueError::new_err("the name is not UTF-8; choose another")),
            },
            // A process that works elsewhere has to find it, too.
            ("file", Some(path)) => Ok(Self::File(std::path::absolute(&path).unwrap_or(path))),
            ("memfd", None) => Ok(Self::Descriptor),
            _ => Err(PyValueError::new_err("a heap is found by name, file or memfd")),
        }
    }

    /// As [`new`](Self::new) takes it.
    pub(crate) fn parts(&self) -> (&'static str, Option<PathBuf>) {
        match self {
            Self::Name(name) => ("name", Some(name.into())),
            Self::File(path) => ("file", Some(path.clone())),
            Self::Descriptor => ("memfd", None),
        }
    }

    pub(crate) fn create(&self, options: &HeapOptions) -> shmheap::Result<Heap> {
        match self {
            Self::Name(name) => options.create(name),
            Self::File(path) => options.create_file(path),
            Self::Descriptor => options.create_memfd(),
        }
    }

    pub(crate) fn connect_or_create(&self, options: &HeapOptions) -> Result<Heap> {
        match self {
            Self::Name(name) => Ok(options.connect_or_create(name)?),
            _ => Err(PyValueError::new_err("only by name a heap is connected to or made").into()),
        }
    }

    pub(crate) fn connect(&self, read_only: bool) -> Result<Heap> {
        Ok(match (self, read_only) {
            (Self::Name(name), false) => Heap::connect(name)?,
            (Self::Name(name), true) => Heap::connect_read_only(name)?,
            (Self::File(path), false) => Heap::connect_file(path)?,
            (Self::File(path), true) => Heap::connect_file_read_only(path)?,
            (Self::Descriptor, _) => {
                return Err(PyValueError::new_err("a memfd has no name to connect by").into());
            }
        })
    }
}

/// What is chosen when a heap is made, but for its size: a dictionary.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Options {
    max_size: Option<u64>,
    policy: String,
    mode: u32,
    group: Option<u32>,
    ephemeral: bool,
    labels: bool,
}

impl Options {
    pub(crate) fn read(self, size: u64) -> PyResult<HeapOptions> {
        let policy = match self.policy.as_str() {
            "scalable" => Policy::Scalable,
            "first-fit" => Policy::FirstFit,
            other => {
                let why =
                    format!("there is no policy {other:?}; it is \"scalable\" or \"first-fit\"");
                return Err(PyValueError::new_err(why));
            }
        };
        let mut options = HeapOptions::new(size).policy(policy).mode(self.mode);
        if let Some(max_size) = self.max_size {
            options = options.max_len(max_size);
        }
        if let Some(gid) = self.group {
            options = options.group(gid);
        }
        if self.ephemeral {
            options = options.ephemeral();
        }
        if self.labels {
            options = options.labels();
        }
        Ok(options)
    }
}

/// The name of a policy.
pub(crate) fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::FirstFit => "first-fit",
        _ => "scalable",
    }
}

/// Removes a heap's name.
///
/// Processes that are connected go on undisturbed; the memory is returned when the last of them
/// disconnects. What is no heap is left alone.
///
/// Raises `NotFound`, `PermissionDenied`, `NotAHeap`.
#[pyfunction]
pub(crate) fn destroy(py: Python<'_>, name: &str) -> Result<()> {
    Ok(py.detach(|| Heap::destroy(name))?)
}

/// Removes the ephemeral heaps in shared memory whose processes were all killed.
///
/// Returns their names. Whoever creates an ephemeral heap does so in passing. Those that this user
/// may not remove are passed over.
#[pyfunction]
pub(crate) fn sweep_abandoned(py: Python<'_>) -> Result<Vec<String>> {
    let names = py.detach(shmheap::sweep_abandoned)?;
    Ok(names.iter().map(|name| format!("/{}", name.display())).collect())
}

/// Removes a file that holds a heap: see `destroy`.
#[pyfunction]
pub(crate) fn destroy_file(py: Python<'_>, path: PathBuf) -> Result<()> {
    Ok(py.detach(|| Heap::destroy_file(path))?)
}
