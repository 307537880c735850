//! What the dead have left in a queue: found by whoever has nothing better to do.
//!
//! A receiver that finds the ring empty for long, or is about to give up, looks through all cells;
//! a sender does that finds no free cell. A message that a dead receiver had claimed is received by
//! the one that finds it; the cells of dead senders become free, and what those had marked for a
//! turn that is still open is sent. Each step is an exchange of the very word that named the dead,
//! which no living process writes again: so one finder has it, and dies as any other would.
//!
//! # Marks of the dead
//!
//! *queued(t)* of a cell that no slot names is a sender's that did not come to its exchange, or
//! lost it. A mark for *t* is only made while *t* is open (see `queue`). So:
//!
//! - *t* is open: the mark stays as it is until *t* is over, for its sender cannot lose the turn
//!   before, and nobody claims or frees what is not named. If the sender is dead, sending the
//!   message is one exchange of the slot, which fails if *t* is over by then.
//! - *t* is over and its slot names another: no mark for *t* is made any more. So one that is there
//!   after *t* was seen to be over, and whose cell's owner is dead, is the dead one's, and stays so
//!   up to the exchange that makes the cell free.

use super::queue::{Cell, Queue};
use super::shape::Shape;
use super::words::{Slot, State};
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::WordIndex;

/// What a look through the cells is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Receive,
    MakeRoom,
}

/// Somebody who looks through all cells, once.
#[derive(Debug)]
pub(super) struct Finder<'q, 'r, W, R> {
    queue: &'q Queue<'r, W, R>,
    me: PeerId,
    purpose: Purpose,
    next: u64,
    /// Whom the kernel was asked about last, and what it said.
    known: Option<(PeerId, bool)>,
}

/// What a finder finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Find {
    /// A message, which is the finder's to receive.
    Message(Cell),
    /// A cell, which is the finder's to clean and to abandon.
    Unsent(Cell),
}

impl<'q, 'r, W: Words, R: Roll> Finder<'q, 'r, W, R> {
    pub(super) fn new(queue: &'q Queue<'r, W, R>, me: PeerId, purpose: Purpose) -> Self {
        Self { queue, me, purpose, next: 0, known: None }
    }

    /// Whether nobody will go on with what is the peer's.
    fn is_gone(&mut self, peer: Option<PeerId>) -> bool {
        let Some(peer) = peer else { return true };
        if peer == self.me {
            return false;
        }
        match self.known {
            Some((known, is_gone)) if known == peer => is_gone,
            _ => {
                let is_gone = !self.queue.roll.is_alive(peer);
                self.known = Some((peer, is_gone));
                is_gone
            }
        }
    }

    fn look_at(&mut self, number: u64) -> Option<Find> {
        let at = self.queue.shape.state(number);
        let word = self.queue.words.load(at);
        let cell = Cell { number, at, me: self.me };
        match State::of_word(word) {
            State::Receiving(peer) if self.purpose == Purpose::Receive && self.is_gone(peer) => {
                self.seize(at, word, State::Receiving(Some(self.me))).then_some(Find::Message(cell))
            }
            State::Filling(peer) if self.is_gone(peer) => self.seize_unsent(cell, word),
            State::Queued(turn) => self.look_at_mark(cell, word, turn),
            State::Free | State::Receiving(_) | State::Filling(_) => None,
        }
    }

    fn look_at_mark(&mut self, cell: Cell, word: u64, turn: u64) -> Option<Find> {
        let queue = self.queue;
        match queue.look(turn) {
            Slot::Filled(named) if named == cell.number => None,
            Slot::Open => {
                if self.is_owner_gone(cell.at) {
                    let laps = queue.shape.laps;
                    let (open, filled) = (laps.open(turn), laps.filled(turn, cell.number));
                    // The tail follows when somebody comes to the turn.
                    let _ = queue.words.compare_exchange(queue.shape.slot(turn), open, filled);
                }
                None
            }
            // Over. The order counts: the mark, after that was seen; then whose it is.
            _ if queue.words.load(cell.at) == word && self.is_owner_gone(cell.at) => {
                self.seize_unsent(cell, word)
            }
            _ => None,
        }
    }

    fn is_owner_gone(&mut self, at: WordIndex) -> bool {
        let owner = self.queue.words.load(Shape::owner(at));
        self.is_gone(PeerId::of_word(owner))
    }

    fn seize_unsent(&self, cell: Cell, word: u64) -> Option<Find> {
        self.seize(cell.at, word, State::Filling(Some(self.me))).then_some(Find::Unsent(cell))
    }

    /// Acquires what the dead one has written; the kernel's word on its death is the partner.
    fn seize(&self, at: WordIndex, word: u64, state: State) -> bool {
        self.queue.words.compare_exchange(at, word, state.word()).is_ok()
    }
}

impl<W: Words, R: Roll> Iterator for Finder<'_, '_, W, R> {
    type Item = Find;

    fn next(&mut self) -> Option<Find> {
        while self.next < self.queue.shape.cells {
            let number = self.next;
            self.next += 1;
            let find = self.look_at(number);
            if find.is_some() {
                return find;
            }
        }
        None
    }
}
