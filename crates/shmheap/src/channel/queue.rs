//! `Queue`: how messages come into the ring and out of it, without a lock.
//!
//! ```text
//!             reserve                commit                    claim              done
//!   cell  free ----> filling(me) ----> queued(t) ---------> receiving(me) ------> free
//!   slot                         open(t) ----> filled(t, cell) ----> open(t + capacity)
//!   counter                              tail t ----> t + 1    head t ----> t + 1
//! ```
//!
//! The message of turn *t* is sent by one exchange of a slot, and claimed by one exchange of a
//! cell's state. What follows either, slot and counters, is done by whoever finds it undone. So a
//! process has nothing but its own cell in its hands, wherever it is killed or stopped.
//!
//! | a sender is killed | leaves | and it becomes |
//! |---|---|---|
//! | before the cell's state is stored | a free cell | |
//! | while it fills the cell | *filling* of the dead | free |
//! | after *queued*, before the slot | *queued*, its turn still open | sent, by whoever looks |
//! | the same, the turn taken by another | *queued*, its turn over | free |
//! | after the slot, before the tail | a message | received; the tail follows |
//!
//! | a receiver is killed | leaves | and it becomes |
//! |---|---|---|
//! | before its claim | a message | received by another |
//! | after it | *receiving* of the dead, slot and head perhaps as before | received by another |
//! | after the cell is free | nothing | |
//!
//! # Why no old sight of a slot does harm
//!
//! A sender looks at the slot *after* it has taken the cell, and marks the cell as *queued* for a
//! turn only if that is open. So for each turn each cell is marked at most once at a time when the
//! turn is open, and no receiver that once saw the slot name the cell for that turn is still under
//! way: *queued(t)* of a cell that the slot of *t* has named means this message and no other.

use super::shape::Shape;
use super::words::{FREE, Slot, State};
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Result};

/// How often somebody tries who finds that others were faster, before it says "not now".
pub(super) const ATTEMPTS: u32 = 10_000;

const DAMAGED: Error = Error::Damaged { what: "the ring of a channel" };

/// A cell in the hands of its peer, by its number and its state's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) number: u64,
    pub(super) at: WordIndex,
    pub(super) me: PeerId,
}

impl Cell {
    /// Where the message stands.
    #[inline]
    pub(super) fn value(self) -> WordIndex {
        Shape::value(self.at)
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    Sent,
    /// The cell is the sender's as before, as when it is closed.
    Full,
    Closed,
}

/// What there is to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Message(Cell),
    Empty,
    Closed,
}

/// A queue as one process uses it; see the module's text.
#[derive(Debug)]
pub(super) struct Queue<'r, W, R> {
    pub(super) words: W,
    pub(super) roll: &'r R,
    pub(super) shape: Shape,
}

impl<W: Words, R: Roll> Queue<'_, W, R> {
    /// Takes a free cell, if there is one.
    pub(super) fn reserve(&self, me: PeerId) -> Option<Cell> {
        // In the order of turns nearly always the first is free.
        let first = self.shape.first_choice(self.words.load(self.shape.tail()));
        let filling = State::Filling(Some(me)).word();
        let numbers = (first..self.shape.cells).chain(0..first);
        for number in numbers {
            let at = self.shape.state(number);
            // The exchange acquires what the last receiver has read: it comes before what is
            // written here. Its partner is the exchange in `done`.
            if self.words.load(at) == FREE && self.words.compare_exchange(at, FREE, filling).is_ok()
            {
                self.words.store(Shape::owner(at), me.word());
                return Some(Cell { number, at, me });
            }
        }
        None
    }

    /// Sends what is in the cell.
    pub(super) fn commit(&self, cell: Cell) -> Result<Sending> {
        let outcome = self.try_commit(cell);
        if !matches!(outcome, Ok(Sending::Sent)) {
            self.words.store(cell.at, State::Filling(Some(cell.me)).word());
        }
        outcome
    }

    fn try_commit(&self, cell: Cell) -> Result<Sending> {
        let (words, shape) = (&self.words, &self.shape);
        for _ in 0..ATTEMPTS {
            let turn = words.load(shape.tail());
            match self.look(turn) {
                Slot::Open => {
                    // Release, with all of the message; its partner is the exchange in `claim`.
                    words.store(cell.at, State::Queued(turn).word());
                    let (open, filled) =
                        (shape.laps.open(turn), shape.laps.filled(turn, cell.number));
                    if words.compare_exchange(shape.slot(turn), open, filled).is_ok() {
                        self.advance(shape.tail(), turn);
                        return Ok(Sending::Sent);
                    }
                    // Nobody else touches the cell: its sender lives, and no slot names it.
                }
                Slot::Filled(_) | Slot::Passed => self.advance(shape.tail(), turn),
                Slot::Sealed => return Ok(Sending::Closed),
                Slot::Behind(before) => {
                    let claimed = turn.wrapping_sub(shape.laps.capacity());
                    let is_full = !self.clear_claimed(claimed, before);
                    if is_full && words.load(shape.tail()) == turn {
                        return Ok(Sending::Full);
                    }
                }
                Slot::Elsewhere if words.load(shape.tail()) == turn => return Err(DAMAGED),
                Slot::Elsewhere => {}
            }
        }
        Ok(Sending::Full)
    }

    /// Gives up a cell that holds nothing any more.
    pub(super) fn abandon(&self, cell: Cell) {
        // Release; its partner is the exchange in `reserve`.
        self.words.store(cell.at, FREE);
    }

    /// Claims the next message.
    pub(super) fn claim(&self, me: PeerId) -> Result<Claim> {
        let (words, shape) = (&self.words, &self.shape);
        for _ in 0..ATTEMPTS {
            let turn = words.load(shape.head());
            match self.look(turn) {
                Slot::Filled(number) => {
                    let (at, queued) = (shape.state(number), State::Queued(turn).word());
                    let receiving = State::Receiving(Some(me)).word();
                    // Acquires the message; its partner is the store in `try_commit`, or whoever
                    // had claimed it before.
                    let claimed = words.compare_exchange(at, queued, receiving);
                    self.clear(turn, number);
                    self.advance(shape.head(), turn);
                    if claimed.is_ok() {
                        return Ok(Claim::Message(Cell { number, at, me }));
                    }
                }
                Slot::Open if words.load(shape.closed()) == 0 => return Ok(Claim::Empty),
                Slot::Open => {
                    let (open, sealed) = (shape.laps.open(turn), shape.laps.sealed(turn));
                    // If it fails, a sender was faster, or another who seals.
                    let _ = words.compare_exchange(shape.slot(turn), open, sealed);
                }
                Slot::Sealed => return Ok(Claim::Closed),
                Slot::Passed => self.advance(shape.head(), turn),
                Slot::Behind(_) | Slot::Elsewhere if words.load(shape.head()) == turn => {
                    return Err(DAMAGED);
                }
                Slot::Behind(_) | Slot::Elsewhere => {}
            }
        }
        Ok(Claim::Empty)
    }

    /// Frees the cell of a message that has been received; whether it was still the receiver's.
    pub(super) fn done(&self, cell: Cell) -> bool {
        let receiving = State::Receiving(Some(cell.me)).word();
        // Releases what the receiver has read; its partner is the exchange in `reserve`. An
        // exchange, so that whoever waits for room is seen after it.
        self.words.compare_exchange(cell.at, receiving, FREE).is_ok()
    }

    /// Leaves a message to whoever looks thoroughly.
    pub(super) fn put_back(&self, cell: Cell) {
        // Release; its partner is the exchange of the next receiver.
        self.words.store(cell.at, State::Receiving(None).word());
    }

    /// Nothing will be sent any more.
    pub(super) fn close(&self) {
        self.words.store(self.shape.closed(), 1);
        self.words.fence();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.words.load(self.shape.closed()) != 0
    }

    /// How many messages there are, more or less.
    pub(super) fn len(&self) -> u64 {
        let head = self.words.load(self.shape.head());
        let len = self.words.load(self.shape.tail()).wrapping_sub(head);
        // A tail that lags behind the head.
        if len > u64::MAX / 2 { 0 } else { len.min(self.shape.laps.capacity()) }
    }

    /// Whether a receiver would find something.
    pub(super) fn has_items(&self) -> bool {
        self.look(self.words.load(self.shape.head())) != Slot::Open || self.is_closed()
    }

    /// Whether a sender would find room; makes some where a receiver did not come to it.
    pub(super) fn has_room(&self) -> bool {
        let turn = self.words.load(self.shape.tail());
        let Slot::Behind(cell) = self.look(turn) else { return true };
        self.clear_claimed(turn.wrapping_sub(self.shape.laps.capacity()), cell) || self.is_closed()
    }

    /// What the turn's slot says about it.
    #[inline]
    pub(super) fn look(&self, turn: u64) -> Slot {
        self.shape.laps.look(self.words.load(self.shape.slot(turn)), turn)
    }

    /// Makes room in the slot of a turn whose message, in that cell, has been claimed; whether it
    /// has.
    fn clear_claimed(&self, turn: u64, cell: u64) -> bool {
        // The slot has named the cell, which was queued for the turn by then. So if it is not any
        // more, somebody has claimed it. Acquires; its partner is the exchange in `claim`.
        let is_claimed = self.words.load(self.shape.state(cell)) != State::Queued(turn).word();
        if is_claimed {
            self.clear(turn, cell);
        }
        is_claimed
    }

    /// After the claim of the turn's message. If it fails, that had been done.
    fn clear(&self, turn: u64, cell: u64) {
        let laps = self.shape.laps;
        let open = laps.open(turn.wrapping_add(laps.capacity()));
        let _ = self.words.compare_exchange(self.shape.slot(turn), laps.filled(turn, cell), open);
    }

    /// The turn is over. If it fails, others have said so.
    pub(super) fn advance(&self, counter: WordIndex, turn: u64) {
        let _ = self.words.compare_exchange(counter, turn, turn.wrapping_add(1));
    }
}
