//! Tags that threads have set. What ends one in Rust is its drop, and in Python the end of a
//! `with`, which knows no more than a number.

use std::cell::RefCell;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use shmheap::{Heap, TagScope};

use crate::error::Result;

#[derive(Debug)]
struct Pushed {
    scopes: Vec<(u64, TagScope)>,
    next_number: u64,
}

thread_local! {
    static PUSHED: RefCell<Pushed> =
        const { RefCell::new(Pushed { scopes: vec![], next_number: 0 }) };
}

/// Gives this thread a tag in the heap, and returns what takes it back.
pub(crate) fn push(heap: &Heap, tag: &str) -> Result<u64> {
    let scope = heap.tag_scope(tag)?;
    Ok(PUSHED.with_borrow_mut(|pushed| {
        let number = pushed.next_number;
        pushed.next_number += 1;
        pushed.scopes.push((number, scope));
        number
    }))
}

/// Takes that tag of this thread back.
pub(crate) fn pop(number: u64) -> PyResult<()> {
    let scope = PUSHED.with_borrow_mut(|pushed| {
        let at = pushed.scopes.iter().rposition(|(of, _)| *of == number);
        at.map(|at| pushed.scopes.remove(at))
    });
    match scope {
        Some(_) => Ok(()),
        None => Err(PyRuntimeError::new_err("the tag was set by another thread, which has it yet")),
    }
}
