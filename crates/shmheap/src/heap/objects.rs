//! What the layers above ask of a heap: its words, where objects lie in them, and who is alive.
//!
//! Objects with a protocol of their own (locks, channels, maps) are rows of words inside object
//! space. They see them through [`Gate`], which reaches over the whole segment; [`Span`] is the
//! part of it that is one object. Words outside the mapping read as 0, and a span is only given out
//! for an object that lives, so whatever stands in an object, following it never faults; but see
//! [`Heap::described_span`].

use std::ptr::NonNull;

use crate::error::NotLive;
use crate::first_fit::layout::Area;
use crate::heap::connection::Connection;
use crate::heap::shape::Engine;
use crate::heap::{Handle, Heap};
use crate::os::Futex;
use crate::peers::{PeerId, Roll};
use crate::segment::words::{Row, Words};
use crate::units::{WORD_BYTES, WordIndex};
use crate::{Error, Result};

/// The words of a segment, object space included.
#[cfg(not(test))]
pub(crate) type Gate<'h> = Row<'h, Futex>;
/// As for users, but that a test can have its process killed at a store.
#[cfg(test)]
pub(crate) type Gate<'h> = crate::segment::fuse::Fused<Row<'h, Futex>>;

/// The words of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first.
    pub(crate) first: WordIndex,
    /// How many there are.
    pub(crate) words: u64,
}

impl Span {
    /// The word of that number; one outside the segment if the object has none.
    #[inline]
    pub(crate) fn word(&self, number: u64) -> WordIndex {
        if number < self.words { self.first + number } else { WordIndex(u64::MAX) }
    }

    /// Whether the object has the words from `number` on, `count` of them.
    #[inline]
    pub(crate) fn has(&self, number: u64, count: u64) -> bool {
        number.checked_add(count).is_some_and(|end| end <= self.words)
    }
}

impl Heap {
    /// All words of the segment.
    #[inline]
    pub(crate) fn gate(&self) -> Gate<'_> {
        let row = Row::new(self.mapping.words(u64::MAX), Futex);
        #[cfg(test)]
        let row = crate::segment::fuse::Fused(row);
        row
    }

    /// What tells the cells of this heap's values from those of other heaps.
    #[inline]
    pub(crate) fn home_id(&self) -> u64 {
        self.shape.home_id()
    }

    /// The words of a live object.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub(crate) fn span<T>(&self, handle: Handle<T>) -> Result<Span> {
        if let Engine::Slabs(slabs) = &self.shape.engine {
            let (place, bytes) = self.slab_extent(slabs, handle.cast())?;
            let first = WordIndex((self.shape.data_offset.0 + place.0) / WORD_BYTES);
            return Ok(Span { first, words: bytes / WORD_BYTES });
        }
        let object = self.resolve(handle.cast())?;
        let bytes = self.usable_size(object)? as u64;
        Ok(Span { first: self.word_at(object)?, words: bytes / WORD_BYTES })
    }

    /// The words of an object that says itself how many it has, in its word `length_at`, without a
    /// look whether it lives; `None` if this process has not seen yet that all of them have
    /// storage. Whoever may have overwritten that word, or the handle, sends readers to a wrong
    /// place in the heap: if the storage there was given back and the file system is full, to a
    /// fault.
    #[inline]
    pub(crate) fn described_span(&self, handle: Handle, length_at: u64) -> Option<Span> {
        let place = handle.offset_bytes().checked_sub(self.shape.data_offset.0)?;
        let room = self.verified_len_bytes(Area::FIRST).checked_sub(place)? / WORD_BYTES;
        let first = WordIndex(handle.offset_bytes() / WORD_BYTES);
        if length_at >= room {
            return None;
        }
        let words = self.gate().load(first + length_at);
        (words <= room).then_some(Span { first, words })
    }

    /// Copies bytes of a live object, from `offset_bytes` of it on, until the buffer is full or the
    /// object ends; returns how many. Also through a read-only connection, and safe whatever others
    /// do to the object meanwhile: of each aligned 8 bytes it gives what they were at one moment.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    ///
    /// ```
    /// use std::alloc::Layout;
    /// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
    /// let object = heap.alloc_zeroed(Layout::new::<[u8; 100]>())?;
    /// let mut start = [1; 8];
    /// assert_eq!(heap.read_at(heap.handle(object)?, 0, &mut start)?, 8);
    /// assert_eq!(start, [0; 8]);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn read_at(&self, object: Handle, offset_bytes: u64, buffer: &mut [u8]) -> Result<usize> {
        let (span, words) = (self.span(object)?, self.gate());
        let end = (span.words * WORD_BYTES).min(offset_bytes.saturating_add(buffer.len() as u64));
        let mut at = offset_bytes;
        while at < end {
            let word = words.load(span.word(at / WORD_BYTES)).to_le_bytes();
            let within = &word[(at % WORD_BYTES) as usize..];
            let rest = &mut buffer[(at - offset_bytes) as usize..];
            let count = within.len().min(rest.len());
            rest[..count].copy_from_slice(&within[..count]);
            at += count as u64;
        }
        Ok(end.saturating_sub(offset_bytes) as usize)
    }

    /// The word at an address, which is that of something in an object of this heap.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPointer`] if it lies outside this heap, or at no multiple of 8.
    #[inline]
    pub(crate) fn word_at(&self, address: NonNull<u8>) -> Result<WordIndex> {
        let refuse = |why| Error::InvalidPointer { address: address.addr().get(), why };
        let bytes = self.space().offset_of(address);
        let bytes = bytes.filter(|&bytes| bytes < self.shape.identity.len_max_bytes);
        let bytes = bytes.ok_or_else(|| refuse(NotLive::Foreign))?;
        if !bytes.is_multiple_of(WORD_BYTES) {
            return Err(refuse(NotLive::Misaligned));
        }
        Ok(WordIndex((self.shape.data_offset.0 + bytes) / WORD_BYTES))
    }

    /// As [`word_at`](Self::word_at), for an address of anybody's: also that there is storage.
    ///
    /// # Errors
    ///
    /// As [`word_at`](Self::word_at).
    pub(crate) fn committed_word_at(&self, address: NonNull<u8>) -> Result<WordIndex> {
        let at = self.word_at(address)?;
        self.cell(address.cast()).map(|_| at).map_err(|error| match error {
            Error::InvalidCell { address } => {
                Error::InvalidPointer { address, why: NotLive::Foreign }
            }
            error => error,
        })
    }

    /// The address of a word.
    #[inline]
    pub(crate) fn address_of(&self, at: WordIndex) -> NonNull<u8> {
        self.space().at(at.offset().0.saturating_sub(self.shape.data_offset.0))
    }
}

impl Roll for Heap {
    #[inline]
    fn me(&self) -> Result<PeerId> {
        let slot = Heap::me(self, "take part in it")?;
        Ok(PeerId::new(slot, self.shape.records.joins(&self.words(), slot)))
    }

    fn is_alive(&self, peer: PeerId) -> bool {
        let (words, table) = (self.words(), self.shape.records);
        // Without the records' storage nobody can be told dead.
        let Some(used) = self.processes_used() else { return true };
        peer.is_alive(&words, table, used, |slot| match &self.connection {
            Connection::Peer(membership) => membership.is_dead(slot),
            Connection::Observer(witness) => witness.is_dead(slot),
        })
    }
}
