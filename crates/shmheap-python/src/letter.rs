//! `Letter`: an object that this process has for itself, and that dies with it; and the queue
//! through which letters change hands.
//!
//! ```text
//!   new Letter --fill--> send --> in the queue --> recv: a Letter of another process
//!       |                                                  |
//!       +-- collected, or its process dies: freed <--------+-- or kept: an ordinary object
//! ```
//!
//! A value that was received looks at its letter, so the letter is freed when the last view of the
//! value is gone. While it is this process's, it counts as a view of itself: who frees it by its
//! handle is told that there is one.
//!
//! # Safety
//!
//! Queues opened by handle, which their names keep open; what `bytes` asks for.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use self_cell::self_cell;
use shmheap::{Error, Handle, Heap, ObjectChannel, ShmObjectChannel, Unpublished};

use crate::bytes::{self, LARGE_BYTES, Span};
use crate::connection::Connection;
use crate::error::{Failure, Result};
use crate::waiting::{in_slices_with, timeout_of};

/// The object, as long as it is this process's.
struct InHand<'h> {
    object: Option<Unpublished<'h>>,
    /// How many threads write to it.
    writers: usize,
}

type Hand<'h> = Mutex<InHand<'h>>;

self_cell! {
    /// An object, and the connection that it is in.
    struct Mail {
        owner: Py<Connection>,
        #[not_covariant]
        dependent: Hand,
    }
}

self_cell! {
    /// A queue, and the connection that it is in.
    struct Open {
        owner: Py<Connection>,
        #[covariant]
        dependent: ObjectChannel,
    }
}

const GIVEN_AWAY: Error = Error::NotOwner { what: "the letter" };

/// Nothing panics while it is locked, so it is never poisoned.
fn lock<'g, 'h>(hand: &'g Hand<'h>) -> MutexGuard<'g, InHand<'h>> {
    hand.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'h> InHand<'h> {
    fn address(&self) -> Result<NonNull<u8>> {
        Ok(self.object.as_ref().ok_or(GIVEN_AWAY)?.as_ptr())
    }

    /// Takes it, to give it away. What is written then would be written into another's.
    fn take(&mut self) -> Result<Unpublished<'h>> {
        if self.writers > 0 {
            let why = "another thread writes to the object; wait for that, then send or keep it";
            return Err(PyBufferError::new_err(why).into());
        }
        Ok(self.object.take().ok_or(GIVEN_AWAY)?)
    }
}

/// An object that this process has for itself: freed when nothing looks at it any more, and when
/// the process dies, unless it was sent or kept before.
#[pyclass(frozen, weakref, module = "shmheap")]
pub(crate) struct Letter {
    mail: Mail,
    object: Handle,
    len_bytes: usize,
}

impl Mail {
    /// What `make` makes, or receives. The connection comes back with an error.
    fn of(
        connection: Py<Connection>,
        make: impl for<'h> FnOnce(&'h Heap) -> shmheap::Result<Unpublished<'h>>,
    ) -> std::result::Result<Self, (Py<Connection>, Error)> {
        Self::try_new_or_recover(connection, |connection| {
            let object = Some(make(&connection.get().heap)?);
            Ok(Mutex::new(InHand { object, writers: 0 }))
        })
    }
}

impl Letter {
    fn new(py: Python<'_>, mail: Mail) -> Result<Self> {
        let found = mail.with_dependent(|connection, hand| {
            let object = lock(hand).object.as_ref().map(Unpublished::handle).ok_or(GIVEN_AWAY)?;
            let heap = &connection.get().heap;
            Ok::<_, Error>((object, heap.usable_size(heap.resolve(object)?)?))
        });
        let (object, len_bytes) = found?;
        mail.borrow_owner().get().exports.view(py, object).keep();
        Ok(Self { mail, object, len_bytes })
    }

    fn connection(&self) -> &Py<Connection> {
        self.mail.borrow_owner()
    }

    fn is_ours(&self) -> bool {
        self.mail.with_dependent(|_, hand| lock(hand).object.is_some())
    }

    /// Where the object is, if it is still this process's.
    fn span(&self) -> Result<Span> {
        let address = self.mail.with_dependent(|_, hand| lock(hand).address())?;
        Ok(Span { address, len_bytes: self.len_bytes })
    }

    fn writer(&self) -> Result<Writer<'_>> {
        let address = self.mail.with_dependent(|_, hand| {
            let mut hand = lock(hand);
            let address = hand.address()?;
            hand.writers += 1;
            Ok::<_, Failure>(address)
        })?;
        Ok(Writer { letter: self, span: Span { address, len_bytes: self.len_bytes } })
    }

    /// It counts as looked at no longer, for it is not this process's any more.
    fn leave(&self) {
        self.connection().get().exports.end(self.object);
    }
}

/// One who writes to the object of a letter, which is not given away until this is dropped.
struct Writer<'l> {
    letter: &'l Letter,
    span: Span,
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.letter.mail.with_dependent(|_, hand| lock(hand).writers -= 1);
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        let was_ours = self.mail.with_dependent(|_, hand| {
            let object = lock(hand).object.take();
            object.is_some()
        });
        // Only after it has been freed.
        if was_ours {
            self.leave();
        }
    }
}

#[pymethods]
impl Letter {
    #[new]
    fn alloc(
        py: Python<'_>,
        connection: Py<Connection>,
        size: usize,
        align: usize,
        zero: bool,
    ) -> Result<Self> {
        let layout = bytes::layout_of(size, align)?;
        let takes_turns = connection.get().takes_turns;
        let make = || {
            Mail::of(connection, |heap| match zero {
                true => heap.alloc_unpublished_zeroed(layout),
                false => heap.alloc_unpublished(layout),
            })
        };
        let mail = if takes_turns || size >= LARGE_BYTES { py.detach(make) } else { make() };
        Self::new(py, mail.map_err(|(_, error)| error)?)
    }

    /// The integer that names the object in every process.
    #[getter]
    fn handle(&self) -> u64 {
        self.object.to_raw()
    }

    /// The connection that the object is reached through.
    #[getter(connection)]
    fn connection_in_python(&self, py: Python<'_>) -> Py<Connection> {
        self.connection().clone_ref(py)
    }

    fn __len__(&self) -> usize {
        self.len_bytes
    }

    /// Copies bytes into the object, from `offset` on. Other threads run meanwhile if it is long.
    fn write(&self, py: Python<'_>, offset: usize, data: &Bound<'_, PyAny>) -> Result<()> {
        let data = PyUntypedBuffer::get(data)?;
        let writer = self.writer()?;
        // SAFETY: the object has that many bytes, in a mapping that lasts as long as this, and is
        // this process's as long as there is a writer.
        unsafe { bytes::write(py, writer.span, offset, &data) }?;
        Ok(())
    }

    /// Makes it an ordinary object, which outlives the process, and returns its handle.
    ///
    /// `BufferError` while another thread writes to it.
    fn keep(&self) -> Result<u64> {
        self.mail.with_dependent(|_, hand| lock(hand).take().map(Unpublished::keep))?;
        self.leave();
        Ok(self.handle())
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
        let whose = (&*this.connection().get().exports, this.object);
        // SAFETY: the caller's view, and the object has that many bytes there. The view gets a
        // reference to this letter, so object and mapping last until it is released.
        unsafe { bytes::export_object(slf, whose, || this.span(), false, view, flags) }
    }

    /// # Safety
    ///
    /// `view` was filled by `__getbuffer__`.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.leave();
    }

    fn __repr__(&self) -> String {
        let whose = if self.is_ours() { "" } else { ", given away" };
        format!("<shmheap.Letter {}, {} bytes{whose}>", self.object, self.len_bytes)
    }
}

/// A queue of letters: what `shmheap.Channel` is made of.
#[pyclass(frozen, module = "shmheap._shmheap")]
pub(crate) struct LetterQueue {
    open: Open,
}

impl LetterQueue {
    fn handle(&self) -> Handle<ShmObjectChannel> {
        self.open.borrow_dependent().handle()
    }
}

#[pymethods]
impl LetterQueue {
    #[new]
    fn new(py: Python<'_>, connection: Py<Connection>, name: &str, capacity: u64) -> Result<Self> {
        let open = py.detach(|| {
            Open::try_new(connection, |connection| {
                ObjectChannel::find_or_create(&connection.get().heap, name, capacity)
            })
        })?;
        Ok(Self { open })
    }

    /// Gives a letter away. With an error it is still this process's.
    fn send(&self, py: Python<'_>, letter: &Letter, timeout: Option<f64>) -> Result<()> {
        let timeout = timeout_of(timeout)?;
        let (ours, theirs) = (self.open.borrow_owner().get(), letter.connection().get());
        if ours.heap.info().id != theirs.heap.info().id {
            let why = "the letter lies in another heap than the channel; copy it into this one";
            return Err(PyValueError::new_err(why).into());
        }
        let queue = self.handle();
        letter.mail.with_dependent(|connection, hand| {
            let heap = &connection.get().heap;
            let object = Some(lock(hand).take()?);
            let sent = in_slices_with(py, timeout, object, |object, slice| {
                let Some(object) = object else { return Err((None, GIVEN_AWAY)) };
                // SAFETY: the queue's name, or the process that sends, keeps it.
                let channel = match unsafe { ObjectChannel::open(heap, queue) } {
                    Ok(channel) => channel,
                    Err(error) => return Err((Some(object), error)),
                };
                let sent = channel.send_timeout(object, slice);
                sent.map(drop).map_err(|refused| (refused.object, refused.error))
            });
            let failure = sent.map_err(|(object, failure)| {
                lock(hand).object = object;
                failure
            });
            if !letter.is_ours() {
                letter.leave();
            }
            failure
        })
    }

    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> Result<Letter> {
        let (timeout, queue) = (timeout_of(timeout)?, self.handle());
        let connection = self.open.borrow_owner().clone_ref(py);
        let received = in_slices_with(py, timeout, connection, |connection, slice| {
            Mail::of(connection, |heap| {
                // SAFETY: the queue's name, or this process, keeps it.
                let channel = unsafe { ObjectChannel::open(heap, queue) }?;
                channel.recv_timeout(slice)
            })
        });
        Letter::new(py, received.map_err(|(_, failure)| failure)?)
    }

    fn close(&self) -> Result<()> {
        Ok(self.open.borrow_dependent().close()?)
    }

    fn __len__(&self) -> usize {
        self.open.borrow_dependent().len() as usize
    }
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.__repr__())
    }
}
