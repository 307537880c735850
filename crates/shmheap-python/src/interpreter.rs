//! The main interpreter, in which alone the module works.
//!
//! PyO3 makes each class once in the process. In the interpreter that came first, which may end
//! before another that has objects of it.
//!
//! # Unsafe code
//!
//! Which interpreter this is.
#![allow(unsafe_code)]

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// As Python counts them.
const MAIN: i64 = 0;

/// Refuses interpreters besides the main one.
pub(crate) fn refuse_others(_: Python<'_>) -> PyResult<()> {
    // SAFETY: this thread is attached to an interpreter.
    let current = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: it is the current one, so it is there.
    let id = unsafe { ffi::PyInterpreterState_GetID(current) };
    if id == MAIN {
        return Ok(());
    }
    let why = "shmheap works in the main interpreter alone; import it there, or start a process";
    Err(PyImportError::new_err(why))
}
