//! Objects of a collection that come and go with it, in cells that only one process uses at a time.
//!
//! ```text
//!   place   unpublished object, filled  -->  the empty cell
//!   vacate  what is in the cell         -->  freed
//! ```
//!
//! Both are hand-overs: a process killed inside leaves the object in the cell, or none.

use std::alloc::Layout;

use crate::heap::{Gate, Heap, Span};
use crate::peers::Roll;
use crate::segment::words::Words;
use crate::units::{WORD_BYTES, WordIndex};
use crate::{Error, Handle, Result};

/// What a collection asks of the heap that it lies in.
pub(super) trait Home: Roll {
    type Words<'h>: Words + Copy
    where
        Self: 'h;

    fn words(&self) -> Self::Words<'_>;

    /// What tells this heap from others.
    fn id(&self) -> u64;

    /// The words of a live object; `None` if the handle names none.
    fn span(&self, handle: u64) -> Option<Span>;

    /// As [`span`](Self::span), for who only reads: of an object that has the number of its words
    /// in its word `length_at`. `None` if that takes a closer look.
    fn described_span(&self, handle: u64, length_at: u64) -> Option<Span>;

    /// Makes an object of so many words, aligned to words and to `align_bytes`, has it filled, and
    /// puts it into an empty cell.
    ///
    /// # Errors
    ///
    /// As `Heap::alloc_unpublished`, and [`Error::Occupied`]; nothing has changed then.
    fn place(
        &self,
        words: u64,
        align_bytes: usize,
        cell: WordIndex,
        fill: impl FnOnce(Span),
    ) -> Result<u64>;

    /// Frees what is in the cell.
    fn vacate(&self, cell: WordIndex) -> Result<()>;
}

impl Home for Heap {
    type Words<'h> = Gate<'h>;

    #[inline]
    fn words(&self) -> Gate<'_> {
        self.gate()
    }

    #[inline]
    fn id(&self) -> u64 {
        self.home_id()
    }

    #[inline]
    fn span(&self, handle: u64) -> Option<Span> {
        Heap::span(self, Handle::from_raw(handle)).ok()
    }

    #[inline]
    fn described_span(&self, handle: u64, length_at: u64) -> Option<Span> {
        Heap::described_span(self, Handle::from_raw(handle), length_at)
    }

    fn place(
        &self,
        words: u64,
        align_bytes: usize,
        cell: WordIndex,
        fill: impl FnOnce(Span),
    ) -> Result<u64> {
        let align_bytes = align_bytes.max(WORD_BYTES as usize);
        let size_bytes = words.saturating_mul(WORD_BYTES);
        let layout = usize::try_from(size_bytes).ok();
        let layout = layout.and_then(|size| Layout::from_size_align(size, align_bytes).ok());
        let layout = layout.ok_or(Error::InvalidLayout {
            size_bytes,
            align_bytes: align_bytes as u64,
            why: "the size overflows",
        })?;
        let object = self.alloc_unpublished(layout)?;
        fill(Heap::span(self, object.handle())?);
        Ok(object.publish_at(cell)?.to_raw())
    }

    fn vacate(&self, cell: WordIndex) -> Result<()> {
        Heap::vacate(self, cell)
    }
}
