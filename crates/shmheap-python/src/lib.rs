//! The Rust half of the Python package: heaps and the bytes of objects, as Python sees them.
//!
//! ```text
//!   shmheap             Python: Heap, arrays, pickles, names, references between processes
//!   shmheap._shmheap    this crate: Connection, Buffer, the exceptions raised
//!   shmheap::Heap       does the work
//! ```
//!
//! A [`Connection`](connection::Connection) has the mapping, and each [`Buffer`](buffer::Buffer)
//! holds its connection. So whatever lies over a buffer (a memoryview, an array) keeps the mapping,
//! by Python's own counts of references, however the heap is closed.
//!
//! # Without the GIL
//!
//! The module says that it needs none. It holds no state but what lies behind the heap, which any
//! thread may use, what is a thread's own (`tags.rs`), atomics, and mutexes (`exports.rs`,
//! `letter.rs`, `segment.rs`), under which no Python code runs and no thread detaches. Only
//! attached threads take them, so with the lock no fork finds one taken either.

mod buffer;
mod bytes;
mod channel;
mod connection;
mod error;
mod exports;
mod inspect;
mod interpreter;
mod letter;
mod map;
mod mutex;
mod named;
mod place;
mod segment;
mod tags;
mod waiting;

/// What `import shmheap._shmheap` gives.
#[pyo3::pymodule(gil_used = false)]
mod _shmheap {
    #[pymodule_export]
    use crate::buffer::Buffer;
    #[pymodule_export]
    use crate::channel::ByteQueue;
    #[pymodule_export]
    use crate::connection::Connection;
    #[pymodule_export]
    use crate::exports::forget_frees;
    #[pymodule_export]
    use crate::letter::{Letter, LetterQueue};
    #[pymodule_export]
    use crate::map::ByteMap;
    #[pymodule_export]
    use crate::mutex::NamedMutex;
    #[pymodule_export]
    use crate::place::{destroy, destroy_file, sweep_abandoned};
    #[pymodule_export]
    use crate::segment::Segment;

    /// # Errors
    ///
    /// `ImportError` in a subinterpreter.
    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        crate::interpreter::refuse_others(module.py())
    }
}
