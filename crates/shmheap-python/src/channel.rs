//! `ByteQueue`: a channel of messages of bytes, by its name.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use self_cell::self_cell;
use shmheap::{ByteChannel, Error};

use crate::connection::Connection;
use crate::error::Result;
use crate::waiting::{in_slices, timeout_of};

self_cell! {
    /// A channel, and the connection that it is in.
    struct Open {
        owner: Py<Connection>,
        #[covariant]
        dependent: ByteChannel,
    }
}

/// A queue of messages of bytes: what `shmheap.ByteChannel` is made of.
#[pyclass(frozen, module = "shmheap._shmheap")]
pub(crate) struct ByteQueue {
    open: Open,
    /// As long as a message is when it comes out.
    item_bytes: usize,
}

impl ByteQueue {
    /// The bytes of a message, which may lie in any buffer, if they are not too many.
    fn row_of<'py>(&self, message: &Bound<'py, PyAny>) -> Result<Bound<'py, PyBytes>> {
        if let Ok(row) = message.cast::<PyBytes>() {
            self.check(row.len()?)?;
            return Ok(row.clone());
        }
        let view = PyMemoryView::from(message)?;
        // Before they are copied.
        self.check(view.getattr("nbytes")?.extract()?)?;
        Ok(view.call_method0("tobytes")?.cast_into::<PyBytes>().map_err(PyErr::from)?)
    }

    /// In the heap there is room for more: a message is filled up to a multiple of 8.
    fn check(&self, count: usize) -> Result<()> {
        if count <= self.item_bytes {
            return Ok(());
        }
        let (value, why) = (count as u64, "the channel was opened for smaller ones");
        Err(Error::InvalidOption { option: "a message's size", value, why }.into())
    }
}

#[pymethods]
impl ByteQueue {
    #[new]
    fn new(
        py: Python<'_>,
        connection: Py<Connection>,
        name: &str,
        capacity: u64,
        item_bytes: usize,
    ) -> Result<Self> {
        let open = py.detach(|| {
            Open::try_new(connection, |connection| {
                let heap = &connection.get().heap;
                ByteChannel::find_or_create(heap, name, capacity, item_bytes)
            })
        })?;
        Ok(Self { open, item_bytes })
    }

    fn send(&self, py: Python<'_>, message: &Bound<'_, PyAny>, timeout: Option<f64>) -> Result<()> {
        let (timeout, channel) = (timeout_of(timeout)?, self.open.borrow_dependent());
        let message = self.row_of(message)?;
        let message = message.as_bytes();
        in_slices(py, timeout, |slice| channel.send(message, Some(slice)))
    }

    fn recv<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> Result<Bound<'py, PyBytes>> {
        let channel = self.open.borrow_dependent();
        let message = in_slices(py, timeout_of(timeout)?, |slice| channel.recv(Some(slice)))?;
        let message = message.get(..self.item_bytes).unwrap_or(&message);
        Ok(PyBytes::new(py, message))
    }

    fn close(&self) -> Result<()> {
        Ok(self.open.borrow_dependent().close()?)
    }

    fn __len__(&self) -> usize {
        self.open.borrow_dependent().len() as usize
    }
}
