//! `ByteMap`: texts and the bytes that they stand for, which any process reads and changes.
//!
//! ```text
//!   root --> Table { index: ShmMap<key, Entry>, stamps }
//!                                   |
//!                                   v
//!             object:  length of the text | length of the value | text | value
//! ```
//!
//! An object never changes while an entry names it. Whoever sets a value writes a new object, has
//! the entry name that instead, which is one store in the index, and frees the old one.
//!
//! # Readers
//!
//! take no lock, and hold nothing that others would have to wait for or that could be left behind
//! by a kill. They copy the bytes of the object that the entry names, and then look at the entry
//! again. If it is the same, the object was named during all of the copy: for it is freed only
//! after the entry has changed, and no two entries ever have the same stamp. If not, the copy may
//! hold anything, and the reader starts again with the new entry. What a reader takes for a length
//! meanwhile is bounded by an object that is there, so it never leaves the heap; that stays mapped.
//!
//! # Kills
//!
//! | a writer killed | the key has | what is left |
//! |---|---|---|
//! | before the object is made an ordinary one | the old value | nothing |
//! | between that and the store in the index | the old value | the new object, which nobody names |
//! | between that and the end of `free` | the new value | the old object, which nobody names |
//! | afterwards | the new value | nothing |
//!
//! Two windows of some instructions, in which a kill costs the memory of one value. The index takes
//! over the turn of a killed writer by itself.
//!
//! # Safety
//!
//! Objects filled, copied from and freed.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering, fence};

use pyo3::buffer::PyUntypedBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::{Digest, Sha256};
use shmheap::{Error, Handle, Heap, Shareable, ShmMap, Unpublished};

use crate::bytes::{self, LARGE_BYTES, Span};
use crate::connection::Connection;
use crate::error::Result;
use crate::named::{find_or_create, open_value};
use crate::waiting::{Timeout, in_slices};

/// As long as the index is patient by itself.
const PATIENCE: Timeout = Some(ShmMap::<Key, Entry>::PATIENCE);
const KEY_BYTES: usize = 32;
/// Longest text that is its own key.
const SHORT_BYTES: usize = KEY_BYTES - 1;
/// What stands in the place of the length of a longer one.
const HASHED: u8 = 0xff;
const WORD_BYTES: usize = 8;
/// The two lengths.
const HEAD_BYTES: usize = 2 * WORD_BYTES;

/// A text by its length and bytes, or by its hash.
type Key = [u8; KEY_BYTES];

/// Where a value is. No two values of a map ever have the same stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Shareable)]
#[repr(C)]
struct Entry {
    object: Handle,
    stamp: u64,
}

#[derive(Shareable)]
#[repr(C)]
struct Table {
    index: ShmMap<Key, Entry>,
    stamps: AtomicU64,
}

open_value!(Table);
find_or_create!();

/// A map of texts and bytes: what `shmheap.Map` is made of.
#[pyclass(frozen, module = "shmheap._shmheap")]
pub(crate) struct ByteMap {
    open: Open,
}

fn key_of(text: &str) -> Key {
    let mut key = [0; KEY_BYTES];
    let (first, rest) = key.split_at_mut(1);
    let len = text.len();
    if len <= SHORT_BYTES {
        first.fill(len as u8);
        rest[..len].copy_from_slice(text.as_bytes());
    } else {
        first.fill(HASHED);
        rest.copy_from_slice(&Sha256::digest(text.as_bytes())[..SHORT_BYTES]);
    }
    key
}

/// The text of a short key.
fn text_of(key: &Key) -> Option<String> {
    let text = key.get(1..)?.get(..usize::from(key[0]))?;
    String::from_utf8(text.to_vec()).ok()
}

/// Where things are in an object; checked against its length.
#[derive(Debug, Clone, Copy)]
struct Content {
    text: Span,
    value: Span,
}

/// What an object says of itself, which may be anything if it is no longer what it was.
fn content_of(heap: &Heap, object: Handle) -> Option<Content> {
    let address = heap.resolve(object).ok()?;
    let whole = Span { address, len_bytes: heap.usable_size(address).ok()? };
    let (text_bytes, value_bytes) = (length(whole, 0)?, length(whole, 1)?);
    Some(Content {
        text: whole.part(HEAD_BYTES, text_bytes)?,
        value: whole.part(HEAD_BYTES.checked_add(text_bytes)?, value_bytes)?,
    })
}

/// One of the lengths that an object starts with.
fn length(object: Span, number: usize) -> Option<usize> {
    let word = object.part(number * WORD_BYTES, WORD_BYTES)?.address.cast::<AtomicU64>();
    // SAFETY: the word lies in an object of the heap, at a multiple of 8 since objects do. All who
    // may change it meanwhile are processes with what is theirs; any bytes are a number.
    let word = unsafe { word.as_ref() };
    // Relaxed, as all of the copy: see `copied`.
    usize::try_from(word.load(Ordering::Relaxed)).ok()
}

impl ByteMap {
    fn heap(&self) -> &Heap {
        &self.open.connection().heap
    }

    fn table(&self) -> &Table {
        self.open.borrow_dependent()
    }

    fn entry(&self, key: &Key) -> shmheap::Result<Option<Entry>> {
        self.table().index.get(self.heap(), key)
    }

    /// Copies a part of the object that the key stands for, and tells which that was; `None` if it
    /// stands for none. Each time that this has to be done anew, another process has come further.
    fn copied<'py>(
        &self,
        py: Python<'py>,
        key: &Key,
        part: impl Fn(Content) -> Span,
    ) -> Result<Option<(Entry, Bound<'py, PyBytes>)>> {
        let mut seen = self.entry(key)?;
        while let Some(entry) = seen {
            let content = content_of(self.heap(), entry.object);
            // Before room is made for lengths that may be anything.
            let now = self.entry(key)?;
            if now == seen {
                let content = content.ok_or(Error::Damaged { what: "a value of a map" })?;
                let copy = copy(py, part(content))?;
                // Acquire; its partner is the fence in `replaced`: who has seen a byte that was
                // written after the object was freed sees the entry that came before.
                fence(Ordering::Acquire);
                seen = self.entry(key)?;
                if seen == Some(entry) {
                    return Ok(Some((entry, copy)));
                }
            } else {
                seen = now;
            }
            py.check_signals()?;
        }
        Ok(None)
    }

    /// Changes what the key stands for, in turn with others; returns what it stood for, and now
    /// does.
    fn alter(
        &self,
        py: Python<'_>,
        key: &Key,
        mut change: impl FnMut(Option<Entry>) -> Option<Entry> + Send,
    ) -> Result<(Option<Entry>, Option<Entry>)> {
        in_slices(py, PATIENCE, |slice| {
            self.table().index.alter(self.heap(), key, slice, &mut change)
        })
    }

    /// A new object, which dies with this process.
    fn write(&self, text: &str, value: &Bound<'_, PyAny>) -> Result<Unpublished<'_>> {
        // Held, so that it stays as long as it is.
        let (py, value) = (value.py(), PyUntypedBuffer::get(value)?);
        let value_bytes = value.len_bytes();
        let value_at = HEAD_BYTES + text.len();
        let size = value_at.saturating_add(value_bytes);
        let layout = bytes::layout_of(size, HEAD_BYTES)?;
        let heap = self.heap();
        let object =
            self.open.connection().taking_turns(py, false, || heap.alloc_unpublished(layout))?;
        let span = Span { address: object.as_ptr(), len_bytes: size };
        let head = [text.len().to_ne_bytes(), value_bytes.to_ne_bytes()].concat();
        for (offset, row) in [(0, &*head), (HEAD_BYTES, text.as_bytes())] {
            // SAFETY: the object is ours, and has that many bytes.
            unsafe { bytes::write_row(span, offset, row) };
        }
        // SAFETY: as above.
        unsafe { bytes::write(py, span, value_at, &value) }?;
        Ok(object)
    }

    /// Frees what an entry named, which no entry names any more.
    fn replaced(&self, py: Python<'_>, old: Entry) -> Result<()> {
        // SeqCst; its partner is the fence in `copied`: whoever gets the object's bytes next writes
        // to them only after the entry has changed.
        fence(Ordering::SeqCst);
        let heap = self.heap();
        Ok(self.open.connection().taking_turns(py, false, || {
            let address = heap.resolve(old.object)?;
            // SAFETY: who took the entry away is the one who frees the object. Others may still
            // copy from it; they find that they are late.
            unsafe { heap.free(address) }
        })?)
    }
}

/// A copy of bytes that others may change meanwhile.
fn copy(py: Python<'_>, span: Span) -> PyResult<Bound<'_, PyBytes>> {
    PyBytes::new_with(py, span.len_bytes, |room| {
        let from = span.address.as_ptr().expose_provenance();
        let mut copy = move || {
            let from = std::ptr::with_exposed_provenance::<u8>(from);
            // SAFETY: the span lies in the heap's mapping, which lasts; the room is as long, and
            // nobody else's.
            unsafe { from.copy_to_nonoverlapping(room.as_mut_ptr(), room.len()) };
        };
        if span.len_bytes >= LARGE_BYTES {
            py.detach(copy)
        } else {
            copy()
        }
        Ok(())
    })
}

#[pymethods]
impl ByteMap {
    #[new]
    fn new(py: Python<'_>, connection: Py<Connection>, name: &str) -> Result<Self> {
        Ok(Self { open: Open::find_or_create(py, connection, name)? })
    }

    fn get<'py>(&self, py: Python<'py>, text: &str) -> Result<Option<Bound<'py, PyBytes>>> {
        let copied = self.copied(py, &key_of(text), |content| content.value)?;
        Ok(copied.map(|(_, value)| value))
    }

    fn contains(&self, text: &str) -> Result<bool> {
        Ok(self.entry(&key_of(text))?.is_some())
    }

    /// Has the text stand for a copy of the value; unless it does for one and `only_if_absent`.
    /// Whether it does so now.
    fn set(
        &self,
        py: Python<'_>,
        text: &str,
        value: &Bound<'_, PyAny>,
        only_if_absent: bool,
    ) -> Result<bool> {
        let object = self.write(text, value)?;
        // Relaxed: a number that orders nothing.
        let stamp = self.table().stamps.fetch_add(1, Ordering::Relaxed);
        let new = Entry { object: object.handle(), stamp };
        let mut object = Some(object);
        let altered = self.alter(py, &key_of(text), |old| {
            if only_if_absent && old.is_some() {
                return old;
            }
            // From here on no kill frees it.
            let _ = object.take().map(Unpublished::keep);
            Some(new)
        });
        match altered {
            Ok((old, now)) => {
                let is_set = now == Some(new);
                match old {
                    Some(old) if is_set => self.replaced(py, old)?,
                    _ => {}
                }
                Ok(is_set)
            }
            Err(failure) => {
                if object.is_none() {
                    self.replaced(py, new)?;
                }
                Err(failure)
            }
        }
    }

    /// Has the text stand for nothing; returns what it stood for.
    fn pop<'py>(&self, py: Python<'py>, text: &str) -> Result<Option<Bound<'py, PyBytes>>> {
        let key = key_of(text);
        loop {
            // First the copy, for which there may be no memory.
            let copied = self.copied(py, &key, |content| content.value)?;
            let Some((entry, value)) = copied else { return Ok(None) };
            let (old, _) = self.alter(py, &key, |old| old.filter(|old| *old != entry))?;
            if old == Some(entry) {
                self.replaced(py, entry)?;
                return Ok(Some(value));
            }
        }
    }

    /// Has the text stand for nothing; whether it stood for something.
    fn remove(&self, py: Python<'_>, text: &str) -> Result<bool> {
        match self.alter(py, &key_of(text), |_| None)?.0 {
            Some(old) => self.replaced(py, old).map(|()| true),
            None => Ok(false),
        }
    }

    /// All texts that stood for something from beginning to end, and some of the others.
    fn texts(&self, py: Python<'_>) -> Result<Vec<String>> {
        let keys: Vec<_> =
            py.detach(|| Ok::<_, Error>(self.table().index.keys(self.heap())?.collect()))?;
        let mut texts = Vec::with_capacity(keys.len());
        for key in keys {
            if key[0] != HASHED {
                texts.extend(text_of(&key));
            } else if let Some((_, text)) = self.copied(py, &key, |content| content.text)? {
                texts.extend(String::from_utf8(text.as_bytes().to_vec()).ok());
            }
        }
        Ok(texts)
    }

    fn __len__(&self) -> Result<usize> {
        Ok(self.table().index.len(self.heap())? as usize)
    }
}
