//! `Transfer`: messages of a kind through a queue, with all that sleeps and wakes.

use std::time::Duration;

use super::dead::{Find, Finder, Purpose};
use super::event::{Event, Look, Patience};
use super::queue::{ATTEMPTS, Cell, Claim, Queue, Sending};
use super::words::State;
use crate::object::{Shareable, value};
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Result};

const CLOSED: Error = Error::Closed { what: "the channel" };

/// Why a message was not taken out of its cell.
#[derive(Debug)]
pub(super) enum Stuck {
    /// It stays there, for another attempt. With an error, that is for the caller.
    NotNow(Option<Error>),
    /// There is none any more.
    Lost(Error),
}

/// What stands in cells.
pub(super) trait Cargo<W> {
    type Item;

    /// The message of a cell that is the caller's; `None` if a receiver that died had taken it out.
    fn unload(&self, words: &W, at: WordIndex) -> Result<Option<Self::Item>, Stuck>;

    /// Destroys what a dead sender has left in a cell; whether that could be done.
    fn discard(&self, words: &W, at: WordIndex) -> bool;
}

/// Plain values.
#[derive(Debug)]
pub(super) struct Values<T>(pub(super) std::marker::PhantomData<fn() -> T>);

impl<W: Words, T: Shareable + Copy> Cargo<W> for Values<T> {
    type Item = T;

    fn unload(&self, words: &W, at: WordIndex) -> Result<Option<T>, Stuck> {
        Ok(Some(value::load(words, at)))
    }

    fn discard(&self, _words: &W, _at: WordIndex) -> bool {
        true
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Transfer<'r, 'c, W, R, C> {
    pub(super) queue: Queue<'r, W, R>,
    pub(super) cargo: &'c C,
}

impl<W: Words, R: Roll, C: Cargo<W>> Transfer<'_, '_, W, R, C> {
    fn items(&self) -> Event {
        Event(self.queue.shape.items())
    }

    fn room(&self) -> Event {
        Event(self.queue.shape.room())
    }

    /// How long to wait.
    pub(super) fn patience(&self, timeout: Option<Duration>) -> Patience {
        Patience::new(timeout, self.queue.shape.cells)
    }

    /// Receives a message if there is one.
    pub(super) fn try_receive(&self, mut look: Look) -> Result<Option<C::Item>> {
        let me = self.queue.roll.me()?;
        let mut has_looked = false;
        for _ in 0..ATTEMPTS {
            let claim = self.queue.claim(me)?;
            match claim {
                Claim::Message(cell) => {
                    if let Some(item) = self.unload(cell)? {
                        return Ok(Some(item));
                    }
                }
                Claim::Closed if has_looked => return Err(CLOSED),
                Claim::Empty if look == Look::Quick => return Ok(None),
                // What the dead have left is older than the end; it may also be sent by the look.
                Claim::Empty | Claim::Closed => {
                    if let Some(item) = self.find(me)? {
                        return Ok(Some(item));
                    }
                    (look, has_looked) = (Look::Quick, true);
                }
            }
        }
        Ok(None)
    }

    /// Receives a message, and waits for it; `None` if none came in time.
    pub(super) fn receive(&self, patience: Patience) -> Result<Option<C::Item>> {
        let attempt = |look| self.try_receive(look);
        self.items().wait(&self.queue.words, patience, attempt, || self.queue.has_items())
    }

    /// A message that the dead have left; frees what else they have.
    fn find(&self, me: PeerId) -> Result<Option<C::Item>> {
        for find in Finder::new(&self.queue, me, Purpose::Receive) {
            match find {
                Find::Message(cell) => {
                    let item = self.unload(cell)?;
                    if item.is_some() {
                        return Ok(item);
                    }
                }
                Find::Unsent(cell) => self.discard(cell),
            }
        }
        Ok(None)
    }

    fn unload(&self, cell: Cell) -> Result<Option<C::Item>> {
        let unloaded = self.cargo.unload(&self.queue.words, cell.value());
        if let Err(Stuck::NotNow(error)) = unloaded {
            self.queue.put_back(cell);
            return error.map_or(Ok(None), Err);
        }
        let is_ours = self.queue.done(cell);
        self.room().notify(&self.queue.words);
        match unloaded {
            // Somebody has taken us for dead, and has received it.
            Ok(_) if !is_ours => Ok(None),
            Ok(item) => Ok(item),
            Err(Stuck::Lost(error)) => Err(error),
            Err(Stuck::NotNow(_)) => Ok(None),
        }
    }

    fn discard(&self, cell: Cell) {
        if self.cargo.discard(&self.queue.words, cell.value()) {
            self.give_up(cell);
        } else {
            self.leave(cell);
        }
    }

    /// Leaves what is in a cell to whoever looks for what the dead have left.
    pub(super) fn leave(&self, cell: Cell) {
        // Release; its partner is the exchange of who finds it.
        self.queue.words.store(cell.at, State::Filling(None).word());
    }

    /// Gives up an empty cell, for which somebody may wait.
    pub(super) fn give_up(&self, cell: Cell) {
        self.queue.abandon(cell);
        // Its partner is the fence of who waits, in `Event::announce`.
        self.queue.words.fence();
        self.room().notify(&self.queue.words);
    }

    /// A cell for a message, if there is one.
    pub(super) fn try_reserve(&self, look: Look) -> Result<Option<Cell>> {
        if self.queue.is_closed() {
            return Err(CLOSED);
        }
        let me = self.queue.roll.me()?;
        let cell = self.queue.reserve(me);
        if cell.is_some() || look == Look::Quick {
            return Ok(cell);
        }
        for find in Finder::new(&self.queue, me, Purpose::MakeRoom) {
            if let Find::Unsent(cell) = find {
                self.discard(cell);
            }
        }
        Ok(self.queue.reserve(me))
    }

    /// Sends what is in the cell, if there is room, and wakes a receiver. If not, or with an error,
    /// the cell is the caller's as before.
    pub(super) fn try_commit(&self, cell: Cell) -> Result<Option<()>> {
        let sent = self.commit_silently(cell)?;
        if sent.is_some() {
            self.tell_receivers();
        }
        Ok(sent)
    }

    fn commit_silently(&self, cell: Cell) -> Result<Option<()>> {
        match self.queue.commit(cell)? {
            Sending::Sent => Ok(Some(())),
            Sending::Full => Ok(None),
            Sending::Closed => Err(CLOSED),
        }
    }

    /// Wakes a receiver, which passes it on as long as there is more. Behind `commit`, which ends
    /// with an exchange.
    fn tell_receivers(&self) {
        self.items().notify(&self.queue.words);
    }

    /// Attempts until there is room or patience ends.
    pub(super) fn wait_for_room<T>(
        &self,
        patience: Patience,
        attempt: impl FnMut(Look) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        self.room().wait(&self.queue.words, patience, attempt, || self.queue.has_room())
    }

    /// Nothing will be sent any more: wakes all.
    pub(super) fn close(&self) {
        self.queue.close();
        self.items().notify_all(&self.queue.words);
        self.room().notify_all(&self.queue.words);
    }
}

impl<W: Words, R: Roll, C: Cargo<W>> Transfer<'_, '_, W, R, C> {
    /// Sends what `write` writes into a cell, if there is room, without waking anybody. Not for
    /// cargo that must be discarded.
    fn send_silently_with(
        &self,
        look: Look,
        write: impl FnOnce(&W, WordIndex),
    ) -> Result<Option<()>> {
        let Some(cell) = self.try_reserve(look)? else { return Ok(None) };
        write(&self.queue.words, cell.value());
        let sent = self.commit_silently(cell);
        if !matches!(sent, Ok(Some(()))) {
            // Wakes nobody, least of all this one: without room another could not send either.
            self.queue.abandon(cell);
        }
        sent
    }

    /// As [`send_silently_with`](Self::send_silently_with), and wakes a receiver.
    pub(super) fn try_send_with(
        &self,
        look: Look,
        write: impl FnOnce(&W, WordIndex),
    ) -> Result<Option<()>> {
        let sent = self.send_silently_with(look, write)?;
        if sent.is_some() {
            self.tell_receivers();
        }
        Ok(sent)
    }
}

impl<W: Words, R: Roll, T: Shareable + Copy> Transfer<'_, '_, W, R, Values<T>> {
    /// Sends a value if there is room, without waking anybody.
    fn send_silently(&self, value: &T, look: Look) -> Result<Option<()>> {
        self.send_silently_with(look, |words, at| value::store(words, at, value))
    }

    /// Sends a value if there is room.
    pub(super) fn try_send(&self, value: &T, look: Look) -> Result<Option<()>> {
        let sent = self.send_silently(value, look)?;
        if sent.is_some() {
            self.tell_receivers();
        }
        Ok(sent)
    }

    /// Sends a value, and waits for room; `None` if there was none in time.
    pub(super) fn send(&self, value: &T, patience: Patience) -> Result<Option<()>> {
        self.wait_for_room(patience, |look| self.try_send(value, look))
    }

    /// Sends as many as there is room for, with one wake-up for all; how many, and the error that
    /// kept the others back, if there is one.
    pub(super) fn try_send_all(&self, values: &[T], look: Look) -> (usize, Option<Error>) {
        let mut sent = 0;
        let mut failure = None;
        for value in values {
            match self.send_silently(value, look) {
                Ok(Some(())) => sent += 1,
                Ok(None) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if sent > 0 {
            self.tell_receivers();
        }
        (sent, failure)
    }
}
