//! Where entries are: a chain of chunks, each an object of the heap, that only ever grows.
//!
//! ```text
//!   header word --> +------+-------+-------+ ..  --> +------+-------+-------+-------+ ..
//!   (a cell)        | head | entry | entry |         | head | entry | entry | entry |
//!                   +------+-------+-------+ ..      +------+-------+-------+-------+ ..
//!    head   word 0   the cell of the next chunk
//!           word 1   in the first: the entry from which on a free one is looked for
//! ```
//!
//! A chunk comes into its cell by a hand-over: a kill leaves it there, or freed. How many entries
//! it has is told by its size, which the engine knows; each has about twice as many as the one
//! before.

use std::alloc::Layout;

use super::entry::{ENTRY_WORDS, Entry};
use crate::heap::{Gate, Span};
use crate::segment::words::Words;
use crate::units::{WORD_BYTES, WordIndex};
use crate::{Error, Heap, Result};

const NEXT: u64 = 0;
const HINT: u64 = 1;

const FIRST_WORDS: u64 = 4 * ENTRY_WORDS;
const WORDS_MAX: u64 = 4096 * ENTRY_WORDS;
/// A chain that is longer than this is a damaged one.
const CHUNKS_MAX: usize = 4096;

const DAMAGED: Error = Error::Damaged { what: "the registry's chain" };

/// The entries of one kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain<'h> {
    pub(super) heap: &'h Heap,
    /// The cell of the first chunk.
    first: WordIndex,
}

impl<'h> Chain<'h> {
    pub(super) fn new(heap: &'h Heap, first: WordIndex) -> Self {
        Self { heap, first }
    }

    fn chunk_in(&self, cell: WordIndex) -> Option<Span> {
        let chunk = self.heap.span(self.heap.peek_at(cell)?).ok()?;
        (chunk.words >= FIRST_WORDS).then_some(chunk)
    }

    fn chunks(&self) -> impl Iterator<Item = Span> + use<'h> {
        let chain = *self;
        let first = chain.chunk_in(chain.first);
        std::iter::successors(first, move |chunk| chain.chunk_in(chunk.word(NEXT))).take(CHUNKS_MAX)
    }

    /// The cell of the first chunk; each chunk begins with that of the next.
    pub(super) fn first_cell(&self) -> WordIndex {
        self.first
    }

    /// All entries, in the order of their numbers.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<Gate<'h>>> + use<'h> {
        let words = self.heap.gate();
        self.chunks().flat_map(move |chunk| {
            let count = chunk.words / ENTRY_WORDS;
            (1..count).map(move |number| Entry { words, at: chunk.word(number * ENTRY_WORDS) })
        })
    }

    /// The entry at that place, if there is one.
    pub(super) fn entry_at(&self, at: WordIndex) -> Option<Entry<Gate<'h>>> {
        let words = self.heap.gate();
        let is_one = |chunk: Span| {
            let distance = at.0.checked_sub(chunk.first.0);
            distance.is_some_and(|words| {
                words >= ENTRY_WORDS
                    && words.is_multiple_of(ENTRY_WORDS)
                    && chunk.has(words, ENTRY_WORDS)
            })
        };
        self.chunks().any(is_one).then_some(Entry { words, at })
    }

    /// The number of the entry from which on a free one is looked for: the hint's, which may be
    /// wrong.
    pub(super) fn hint(&self) -> usize {
        let head = self.chunk_in(self.first);
        head.map_or(0, |chunk| self.heap.gate().load(chunk.word(HINT)) as usize)
    }

    pub(super) fn set_hint(&self, number: usize) {
        if let Some(chunk) = self.chunk_in(self.first) {
            self.heap.gate().store(chunk.word(HINT), number as u64);
        }
    }

    /// Adds a chunk, unless another process was faster.
    pub(super) fn grow(&self) -> Result<()> {
        let (mut cell, mut words) = (self.first, FIRST_WORDS);
        for (number, chunk) in self.chunks().enumerate() {
            if number + 1 == CHUNKS_MAX {
                return Err(DAMAGED);
            }
            cell = chunk.word(NEXT);
            words = (chunk.words.next_power_of_two() * 2).min(WORDS_MAX);
        }
        append(self.heap, cell, words)
    }
}

/// Puts an object of so many words, all 0, into a cell that nobody ever empties, unless another
/// process was faster: then that one's is there. So whoever calls this in a loop gets on.
pub(super) fn append(heap: &Heap, cell: WordIndex, words: u64) -> Result<()> {
    let bytes = (words * WORD_BYTES) as usize;
    let layout = Layout::from_size_align(bytes, WORD_BYTES as usize).map_err(|_| DAMAGED)?;
    let Err(refused) = heap.alloc_unpublished_zeroed(layout)?.publish_at(cell) else {
        return Ok(());
    };
    match refused.error {
        Error::Occupied { .. } => {}
        error => return Err(error),
    }
    // If it is stopped in the middle of that, it must keep nobody waiting.
    heap.hasten_at(cell);
    let Some(object) = heap.peek_at(cell) else { return Err(DAMAGED) };
    match heap.span(object) {
        Ok(span) if span.words >= words.min(FIRST_WORDS) => Ok(()),
        _ => Err(DAMAGED),
    }
}
