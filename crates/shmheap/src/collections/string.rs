//! `ShmString`: text in shared memory, over a vector of its bytes.
//!
//! That the bytes are UTF-8 is looked at each time, for others may have written them: a text costs
//! a look at all of it. Changes keep what is there and only take and put whole characters, so they
//! ask for less: that they do not begin inside one.

use std::borrow::Cow;
use std::fmt;

use super::ShmVec;
use crate::heap::Heap;
use crate::{Error, Result};

/// Text in shared memory, for one user at a time. As [`ShmVec`], of which it is one of bytes, also
/// in what a kill leaves.
///
/// ```
/// use shmheap::{HeapOptions, ShmBox, ShmString};
/// let heap = HeapOptions::new(1 << 20).create_memfd()?;
/// let mut text = ShmBox::<ShmString>::new_zeroed(&heap)?;
///
/// text.push_str(&heap, "shared mémoire")?;
/// text.truncate(&heap, 6)?;
/// text.push(&heap, '!')?;
/// assert_eq!(text.as_str(&heap)?, "shared!");
/// assert_eq!(format!("{}", text.display(&heap)), "shared!");
/// text.free(&heap)?;
/// # Ok::<(), shmheap::Error>(())
/// ```
///
/// # Errors
///
/// Those of [`ShmVec`](ShmVec#errors). An index that is behind the end or inside a character is
/// [`Error::InvalidOption`].
#[repr(C)]
#[derive(Debug, Default)]
pub struct ShmString {
    bytes: ShmVec<u8>,
}

impl ShmString {
    /// An empty text, to be put into an object.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: ShmVec::new() }
    }

    /// The text.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors); [`Error::Damaged`] if it is no UTF-8: see
    /// [`to_string_lossy`](Self::to_string_lossy).
    pub fn as_str<'a>(&'a self, heap: &'a Heap) -> Result<&'a str> {
        let text = str::from_utf8(self.as_bytes(heap)?);
        text.map_err(|_| Error::Damaged { what: "a ShmString, which is no UTF-8" })
    }

    /// The text, with U+FFFD in place of what is no UTF-8.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn to_string_lossy<'a>(&'a self, heap: &'a Heap) -> Result<Cow<'a, str>> {
        Ok(String::from_utf8_lossy(self.as_bytes(heap)?))
    }

    /// What to print it by: as [`to_string_lossy`](Self::to_string_lossy), and the error in place
    /// of a text that cannot be had.
    pub fn display<'a>(&'a self, heap: &'a Heap) -> impl fmt::Display + use<'a> {
        Shown { text: self, heap }
    }

    /// The bytes of the text, whatever they are.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn as_bytes<'a>(&'a self, heap: &'a Heap) -> Result<&'a [u8]> {
        self.bytes.as_slice(heap)
    }

    /// Its length in bytes.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn len(&self, heap: &Heap) -> Result<usize> {
        self.bytes.len(heap)
    }

    /// Whether there is no text.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn is_empty(&self, heap: &Heap) -> Result<bool> {
        self.bytes.is_empty(heap)
    }

    /// How many bytes there is room for.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn capacity(&self, heap: &Heap) -> Result<usize> {
        self.bytes.capacity(heap)
    }

    /// Adds text at the end: all of it or, killed inside, nothing.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn push_str(&mut self, heap: &Heap, text: &str) -> Result<()> {
        self.bytes.extend_from_slice(heap, text.as_bytes())
    }

    /// Adds a character at the end.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn push(&mut self, heap: &Heap, character: char) -> Result<()> {
        self.push_str(heap, character.encode_utf8(&mut [0; 4]))
    }

    /// Removes the last character and returns it.
    ///
    /// # Errors
    ///
    /// As [`as_str`](Self::as_str).
    pub fn pop(&mut self, heap: &Heap) -> Result<Option<char>> {
        let Some(last) = self.as_str(heap)?.chars().next_back() else { return Ok(None) };
        let len = self.len(heap)?;
        self.bytes.truncate(heap, len - last.len_utf8())?;
        Ok(Some(last))
    }

    /// Puts text before the byte of that number; see [`ShmVec::splice`].
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn insert_str(&mut self, heap: &Heap, index: usize, text: &str) -> Result<()> {
        self.check_boundary(heap, index)?;
        self.bytes.splice(heap, index, 0, text.as_bytes())
    }

    /// Puts another text in the place of this one: all of it or, killed inside, nothing.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn set(&mut self, heap: &Heap, text: &str) -> Result<()> {
        self.bytes.splice(heap, 0, usize::MAX, text.as_bytes())
    }

    /// Removes all but the first `len` bytes.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn truncate(&mut self, heap: &Heap, len: usize) -> Result<()> {
        self.check_boundary(heap, len)?;
        self.bytes.truncate(heap, len)
    }

    /// Removes all text and keeps the room.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn clear(&mut self, heap: &Heap) -> Result<()> {
        self.bytes.clear(heap)
    }

    /// Makes room for so many more bytes.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn reserve(&mut self, heap: &Heap, more: usize) -> Result<()> {
        self.bytes.reserve(heap, more)
    }

    /// Gives back room that is not needed.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn shrink_to_fit(&mut self, heap: &Heap) -> Result<()> {
        self.bytes.shrink_to_fit(heap)
    }

    /// Frees all that the text has allocated; it is empty then, and may be used again. To be called
    /// before the object is freed that it lies in.
    ///
    /// # Errors
    ///
    /// See [errors](Self#errors).
    pub fn free(&mut self, heap: &Heap) -> Result<()> {
        self.bytes.free(heap)
    }

    fn check_boundary(&self, heap: &Heap, index: usize) -> Result<()> {
        let bytes = self.as_bytes(heap)?;
        // The bytes of a character behind its first one are 10xxxxxx.
        let is_inside = |byte: &u8| byte & 0xc0 == 0x80;
        if index <= bytes.len() && !bytes.get(index).is_some_and(is_inside) {
            return Ok(());
        }
        let why = "it is behind the end of the text, or inside a character";
        Err(Error::InvalidOption { option: "index", value: index as u64, why })
    }
}

struct Shown<'a> {
    text: &'a ShmString,
    heap: &'a Heap,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.to_string_lossy(self.heap) {
            Ok(text) => f.pad(&text),
            Err(error) => write!(f, "<{error}>"),
        }
    }
}

#[cfg(test)]
mod tests;
