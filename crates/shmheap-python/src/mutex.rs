//! `NamedMutex`: the mutex that has a name in a heap.
//!
//! In Rust it is a root of the type `ShmMutex<u64>`, whose number is for programs to use as they
//! agree.
//!
//! # Safety
//!
//! A mutex by its address, in a value that is held.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use pyo3::prelude::*;
use shmheap::{Locked, RawMutex, ShmMutex};

use crate::connection::Connection;
use crate::error::Result;
use crate::named::{find_or_create, open_value};
use crate::waiting::{in_slices, timeout_of};

open_value!(ShmMutex<u64>);
find_or_create!();

/// A mutex between processes: what `shmheap.Mutex` is made of.
#[pyclass(frozen, module = "shmheap._shmheap")]
pub(crate) struct NamedMutex {
    open: Open,
}

impl NamedMutex {
    fn raw(&self) -> shmheap::Result<RawMutex<'_>> {
        let heap = &self.open.connection().heap;
        let mutex: &ShmMutex<u64> = self.open.borrow_dependent();
        // SAFETY: the word of a mutex is its first; the value is held as long as this, and nobody
        // in this process has a guard of it.
        unsafe { RawMutex::at(heap, NonNull::from(mutex).cast()) }
    }
}

#[pymethods]
impl NamedMutex {
    #[new]
    fn new(py: Python<'_>, connection: Py<Connection>, name: &str) -> Result<Self> {
        Ok(Self { open: Open::find_or_create(py, connection, name)? })
    }

    /// Takes it; whether what it guards may be half changed.
    fn lock(&self, py: Python<'_>, timeout: Option<f64>) -> Result<bool> {
        let raw = self.raw()?;
        let locked = in_slices(py, timeout_of(timeout)?, |slice| raw.lock(Some(slice)))?;
        Ok(locked == Locked::InDoubt)
    }

    fn set_sound(&self) -> Result<()> {
        Ok(self.raw()?.set_sound()?)
    }

    fn unlock(&self) -> Result<()> {
        Ok(self.raw()?.unlock()?)
    }
}
