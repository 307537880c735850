//! The journal: what the holder of the lock is about to do, in one cache line of its area's head.
//!
//! ```text
//!   word   0      1        2        3        4        5              6               7
//!        +------+--------+--------+--------+--------+--------------+---------------+-------+
//!        | kind | operand| operand| operand| operand| live objects | live granules | owner |
//!        +------+--------+--------+--------+--------+--------------+---------------+-------+
//!          written last                           the counters after recovery     5, 6 only
//! ```
//!
//! It is logical: it names the blocks concerned, not the words. All that an operation changes is a
//! function of those blocks, so recovery writes the end state of the span and recomputes what is
//! derived, in any order, any number of times. With the kind stands the session that announces it.
//! An entry counts from the store of its kind on, as long as the lock is held in that session: so
//! an operation is done by the very exchange that frees the lock, and nothing needs to be cleared.
//! A session announces one operation at the most, for the operands of a second one would be taken
//! for those of the first.
//!
//! | kind | operands | a killed operation is | because |
//! |---|---|---|---|
//! | 1 carve | span | undone | nobody has the object's address yet |
//! | 2 join | span | completed | the caller has given the object up |
//! | 3 resize | object, new end, old end, gap end | completed | both lengths hold the content |
//! | 4 grow | gap, old end, new end, 0 | completed | the storage is there already |
//! | 5 carve for | span, owner | undone | nobody has the object's address yet |
//! | 6 join for | span, owner | completed | the owner has given the object up |
//!
//! The owner is an entry of the ledger: twice its number, plus the entry's bit in the head as the
//! operation makes it. That bit is part of the operation, and all of the entry that is: the entry
//! itself is stored to by its owner alone (`peers::ledger`, "In session").

use super::layout::{COUNTERS, JOURNAL, Position};
use crate::peers::{LedgerEntry, ThreadTable};
use crate::segment::words::Words;
use crate::units::WordIndex;

/// A stretch of object space that is one free block when joined, and when carved an object with a
/// free block on either side, or none where the bounds coincide.
///
/// ```text
///   start     object       object_end      end
///     |  free   |   object     |    free    |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: Position,
    pub(super) object: Position,
    pub(super) object_end: Position,
    pub(super) end: Position,
}

impl Span {
    fn operands(self) -> [Position; 4] {
        [self.start, self.object, self.object_end, self.end]
    }
}

/// The end of an object and the free block behind it, before and after a change in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resize {
    pub(super) object: Position,
    pub(super) new_end: Position,
    pub(super) old_end: Position,
    pub(super) gap_end: Position,
}

/// New object space at the end of the heap: it becomes, or lengthens, the free block at `gap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Growth {
    pub(super) gap: Position,
    pub(super) old_end: Position,
    pub(super) new_end: Position,
}

/// What is about to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Carve(Span),
    Join(Span),
    Resize(Resize),
    Grow(Growth),
    CarveFor(Span, Owner),
    JoinFor(Span, Owner),
}

/// The entry of the ledger that an operation is for, and its bit when the operation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) entry: LedgerEntry,
    pub(super) done: bool,
}

impl Entry {
    /// Whether recovery completes it; else it undoes it.
    pub(super) fn is_completed(self) -> bool {
        match self {
            Self::Carve(_) | Self::CarveFor(..) => false,
            Self::Join(_) | Self::JoinFor(..) | Self::Resize(_) | Self::Grow(_) => true,
        }
    }

    /// The end of object space after it, if it changes that.
    pub(super) fn new_end(self) -> Option<Position> {
        match self {
            Self::Grow(growth) => Some(growth.new_end),
            _ => None,
        }
    }
}

/// Live objects and the granules they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    pub(crate) objects: u64,
    pub(crate) granules: u64,
}

/// Words of the journal.
pub(super) const JOURNAL_WORDS: u64 = 8;
const _: () = assert!(JOURNAL + JOURNAL_WORDS <= COUNTERS);

const CARVE: u64 = 1;
const JOIN: u64 = 2;
const RESIZE: u64 = 3;
const GROW: u64 = 4;
const CARVE_FOR: u64 = 5;
const JOIN_FOR: u64 = 6;

const OWNER: u64 = 7;

const KIND_BITS: u32 = 8;
const KIND_MASK: u64 = (1 << KIND_BITS) - 1;

/// The journal of one heap, in whichever area it is seen.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    base: WordIndex,
    threads: ThreadTable,
}

impl Journal {
    pub(super) fn new(base: WordIndex, threads: ThreadTable) -> Self {
        Self { base, threads }
    }

    /// Announces an operation and the counters that recovery from it shall set.
    #[inline]
    pub(super) fn begin(
        &self,
        words: &impl Words,
        session: u64,
        entry: Entry,
        recovered: Counters,
    ) {
        let (kind, operands) = encode(entry);
        for (number, operand) in (1..).zip(operands) {
            words.store(self.base + number, operand.0);
        }
        words.store(self.base + 5, recovered.objects);
        words.store(self.base + 6, recovered.granules);
        if let Entry::CarveFor(_, owner) | Entry::JoinFor(_, owner) = entry {
            let number = self.threads.entry_number(owner.entry);
            words.store(self.base + OWNER, number << 1 | u64::from(owner.done));
        }
        words.store(self.base, session << KIND_BITS | kind);
    }

    /// The word of the kind; the operands follow.
    pub(super) fn base(&self) -> WordIndex {
        self.base
    }

    /// What the session has announced, if its operands make sense for a heap that ends at `end` and
    /// may grow to `granules_max` granules; an error if they do not.
    pub(super) fn pending(
        &self,
        words: &impl Words,
        session: u64,
        end: Position,
        granules_max: u64,
    ) -> Result<Option<(Entry, Counters)>, super::Fault> {
        let word = words.load(self.base);
        let kind = word & KIND_MASK;
        if kind == 0 || word & !KIND_MASK != session << KIND_BITS {
            return Ok(None);
        }
        let operands = [1, 2, 3, 4].map(|number| Position(words.load(self.base + number)));
        let recovered =
            Counters { objects: words.load(self.base + 5), granules: words.load(self.base + 6) };
        let word = words.load(self.base + OWNER);
        let owner = self.threads.entry_of_number(word >> 1);
        let owner = owner.map(|entry| Owner { entry, done: word & 1 != 0 });
        decode(kind, operands, owner, end, granules_max)
            .map(|entry| Some((entry, recovered)))
            .ok_or(super::Fault::Damaged("the journal holds no possible operation"))
    }
}

fn encode(entry: Entry) -> (u64, [Position; 4]) {
    match entry {
        Entry::Carve(span) => (CARVE, span.operands()),
        Entry::Join(span) => (JOIN, span.operands()),
        Entry::CarveFor(span, _) => (CARVE_FOR, span.operands()),
        Entry::JoinFor(span, _) => (JOIN_FOR, span.operands()),
        Entry::Resize(resize) => {
            (RESIZE, [resize.object, resize.new_end, resize.old_end, resize.gap_end])
        }
        Entry::Grow(growth) => (GROW, [growth.gap, growth.old_end, growth.new_end, Position(0)]),
    }
}

fn decode(
    kind: u64,
    operands: [Position; 4],
    owner: Option<Owner>,
    end: Position,
    granules_max: u64,
) -> Option<Entry> {
    let [a, b, c, d] = operands;
    match kind {
        CARVE | JOIN | CARVE_FOR | JOIN_FOR => {
            let span = Span { start: a, object: b, object_end: c, end: d };
            let ordered = a <= b && b < c && c <= d && d <= end;
            ordered.then_some(match kind {
                CARVE => Entry::Carve(span),
                JOIN => Entry::Join(span),
                CARVE_FOR => Entry::CarveFor(span, owner?),
                _ => Entry::JoinFor(span, owner?),
            })
        }
        RESIZE => (a < b && a < c && b <= d && c <= d && d <= end)
            .then_some(Entry::Resize(Resize { object: a, new_end: b, old_end: c, gap_end: d })),
        // Killed late, it has raised the end already.
        GROW => (a <= b && b <= end && b < c && end <= c && c.0 <= granules_max)
            .then_some(Entry::Grow(Growth { gap: a, old_end: b, new_end: c })),
        _ => None,
    }
}
