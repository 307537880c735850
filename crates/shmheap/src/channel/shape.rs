//! Where everything of a queue lies in its object, and how one is made and judged.
//!
//! ```text
//!   word  0     magic, fingerprint, words of a value, capacity; closed
//!         8     tail      each on a cache line of its own
//!         16    head
//!         24    items     the event that there is a message
//!         32    room      the event that there is room
//!         40    slots     as many as the capacity
//!         ..    cells     twice the capacity and some, from a cache line on
//!
//!   cell  0     state
//!         1     owner: who filled it
//!         2     the value, up to the next cache line
//! ```
//!
//! A handle to a queue keeps what it has read of this when it was opened, judged against the
//! length of the object: nothing that is written there later leads it elsewhere.

use super::words::{CELLS_MAX, Laps};
use crate::heap::Span;
use crate::object::Fingerprint;
use crate::segment::words::Words;
use crate::units::{LINE_WORDS, WordIndex, round_up};
use crate::{Error, Result};

const MAGIC: u64 = 0;
const FINGERPRINT: u64 = 1;
const VALUE_WORDS: u64 = 2;
const CAPACITY: u64 = 3;
const CLOSED: u64 = 4;
const TAIL: u64 = 8;
const HEAD: u64 = 16;
const ITEMS: u64 = 24;
const ROOM: u64 = 32;
const SLOTS: u64 = 40;

const OWNER: u64 = 1;
const VALUE: u64 = 2;

/// Messages that a queue can hold at the most.
pub(crate) const CAPACITY_MAX: u64 = 1 << 20;
/// Cells besides those that the ring can name twice over: what processes have in hand.
const SPARE_CELLS: u64 = 16;
/// Values of more bytes belong into objects.
pub(crate) const VALUE_WORDS_MAX: u64 = 1 << 16;

const _: () = assert!(2 * CAPACITY_MAX + SPARE_CELLS <= CELLS_MAX);

/// What a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Another for queues of values and of objects.
    pub(crate) magic: u64,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) value_words: u64,
}

/// The places of a queue in its object; see the module's text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    span: Span,
    pub(super) laps: Laps,
    pub(super) cells: u64,
    first_cell: u64,
    stride: u64,
}

impl Shape {
    /// That of a queue in an object of just so many words, or more.
    pub(super) fn new(span: Span, capacity: u64, value_words: u64) -> Option<Self> {
        let may_be = capacity.is_power_of_two()
            && capacity <= CAPACITY_MAX
            && value_words <= VALUE_WORDS_MAX;
        if !may_be {
            return None;
        }
        let line = LINE_WORDS as u64;
        let first_cell = round_up(SLOTS + capacity, line)?;
        let (cells, stride) = (2 * capacity + SPARE_CELLS, round_up(VALUE + value_words, line)?);
        let laps = Laps { shift: capacity.trailing_zeros() };
        let shape = Self { span, laps, cells, first_cell, stride };
        span.has(0, first_cell + cells * stride).then_some(shape)
    }

    /// Makes a queue of an object that nobody else knows of.
    pub(crate) fn format(
        words: &impl Words,
        span: Span,
        capacity: u64,
        kind: Kind,
    ) -> Result<Self> {
        let shape = Self::new(span, capacity, kind.value_words)
            .ok_or(Error::Damaged { what: "the length of an object" })?;
        for number in 0..span.words {
            words.store(span.word(number), 0);
        }
        words.store(span.word(FINGERPRINT), kind.fingerprint.to_raw());
        words.store(span.word(VALUE_WORDS), kind.value_words);
        words.store(span.word(CAPACITY), capacity);
        words.store(span.word(MAGIC), kind.magic);
        Ok(shape)
    }

    /// The queue of that kind in an object, if it is one.
    pub(crate) fn open(words: &impl Words, span: Span, kind: Kind) -> Result<Self> {
        let load = |number| words.load(span.word(number));
        let fingerprints = [Fingerprint::from_raw(load(FINGERPRINT)), kind.fingerprint];
        let is_same = [MAGIC, VALUE_WORDS].map(load) == [kind.magic, kind.value_words]
            && (fingerprints[0] == fingerprints[1] || fingerprints.contains(&Fingerprint::UNTYPED));
        let shape = is_same.then(|| Self::new(span, load(CAPACITY), kind.value_words)).flatten();
        shape.ok_or_else(|| Error::WrongType { what: "the channel".to_owned() })
    }

    pub(super) fn closed(&self) -> WordIndex {
        self.span.word(CLOSED)
    }

    #[inline]
    pub(super) fn tail(&self) -> WordIndex {
        self.span.word(TAIL)
    }

    #[inline]
    pub(super) fn head(&self) -> WordIndex {
        self.span.word(HEAD)
    }

    #[inline]
    pub(super) fn items(&self) -> WordIndex {
        self.span.word(ITEMS)
    }

    #[inline]
    pub(super) fn room(&self) -> WordIndex {
        self.span.word(ROOM)
    }

    /// The slot of a turn.
    #[inline]
    pub(super) fn slot(&self, turn: u64) -> WordIndex {
        self.span.word(SLOTS + self.laps.slot(turn))
    }

    /// The cell that is most likely to be free for a turn, without a division.
    #[inline]
    pub(super) fn first_choice(&self, turn: u64) -> u64 {
        (turn & (2 * self.laps.capacity() - 1)).min(self.cells - 1)
    }

    /// The words of a cell; nowhere if there is no such cell.
    #[inline]
    pub(super) fn state(&self, cell: u64) -> WordIndex {
        if cell < self.cells {
            self.span.word(self.first_cell + cell * self.stride)
        } else {
            WordIndex(u64::MAX)
        }
    }

    /// The word that says who filled the cell of that state.
    #[inline]
    pub(super) fn owner(state: WordIndex) -> WordIndex {
        state + OWNER
    }

    /// The first word of the value in the cell of that state.
    #[inline]
    pub(super) fn value(state: WordIndex) -> WordIndex {
        state + VALUE
    }

    /// With fewer cells, for scenes that try every order of events.
    #[cfg(test)]
    pub(super) fn with_cells(self, cells: u64) -> Self {
        Self { cells, ..self }
    }

    /// Every word that may be accessed.
    #[cfg(test)]
    pub(super) fn words(&self) -> impl Iterator<Item = WordIndex> {
        let head = [CLOSED, TAIL, HEAD, ITEMS, ROOM].into_iter();
        let slots = SLOTS..SLOTS + self.laps.capacity();
        let (first, stride) = (self.first_cell, self.stride);
        let cells = (0..self.cells).flat_map(move |cell| (0..3).map(move |it| (cell, it)));
        let cells = cells.map(move |(cell, word)| first + cell * stride + word);
        let first = self.span.first;
        head.chain(slots).chain(cells).map(move |number| first + number)
    }
}

/// How many words a value has in the queue in that object, if it is one.
pub(super) fn value_words(words: &impl Words, span: Span) -> u64 {
    words.load(span.word(VALUE_WORDS))
}

/// How many words a queue takes.
pub(crate) fn layout_words(capacity: u64, value_words: u64) -> Option<u64> {
    let endless = Span { first: WordIndex(0), words: u64::MAX };
    let shape = Shape::new(endless, capacity, value_words)?;
    Some(shape.first_cell + shape.cells * shape.stride)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Futex;
    use crate::segment::words::Row;
    use std::sync::atomic::AtomicU64;

    const KIND: Kind = Kind { magic: 7, fingerprint: Fingerprint::UNTYPED, value_words: 3 };

    #[test]
    fn a_queue_is_opened_as_what_it_was_made_and_in_its_length_only() {
        let length = layout_words(4, 3).unwrap();
        let memory: Vec<AtomicU64> = (0..length).map(|_| AtomicU64::new(5)).collect();
        let words = Row::new(&memory, Futex);
        let span = Span { first: WordIndex(0), words: length };
        let shape = Shape::format(&words, span, 4, KIND).unwrap();
        assert!(words.load(shape.state(shape.cells - 1)) == 0);
        assert_eq!(shape.state(shape.cells), WordIndex(u64::MAX));
        assert!(Shape::open(&words, span, KIND).is_ok());
        let short = Span { words: length - 1, ..span };
        assert!(Shape::open(&words, short, KIND).is_err());
        assert!(Shape::open(&words, span, Kind { magic: 8, ..KIND }).is_err());
        assert!(Shape::open(&words, span, Kind { value_words: 2, ..KIND }).is_err());
        for capacity in [0, 3, 8, 1 << 20, 1 << 21, u64::MAX] {
            words.store(span.word(CAPACITY), capacity);
            assert!(Shape::open(&words, span, KIND).is_err(), "{capacity}");
        }
        assert!(Shape::format(&words, short, 4, KIND).is_err());
    }

    #[test]
    fn format_document_names_every_word_of_a_channel() {
        let document = include_str!("../../../../FORMAT.md");
        let words = [
            (MAGIC, "magic"),
            (FINGERPRINT, "fingerprint"),
            (VALUE_WORDS, "value words"),
            (CAPACITY, "capacity"),
            (CLOSED, "closed"),
            (TAIL, "tail"),
            (HEAD, "head"),
            (ITEMS, "items"),
            (ROOM, "room"),
            (SLOTS, "slots"),
        ];
        for row in words.map(|(at, name)| format!("\n| {at} | {name} |")) {
            assert!(document.contains(&row), "FORMAT.md lacks {row}");
        }
        let capacity = format!("at most {CAPACITY_MAX} |");
        let cells = format!("twice the capacity and {SPARE_CELLS} of them");
        assert!(document.contains(&capacity) && document.contains(&cells));
    }
}
