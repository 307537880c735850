//! A session: the heap's lock in hand, and how an operation is done with it.
//!
//! Every operation (`operations`) has the same shape: look, decide, announce in the journal, change
//! the truth (`starts`, `frees`), then what is derived (`maxima`) and counted, give the lock back.
//! Nothing is written before the decision is final, so a refusal leaves the heap untouched. A
//! session has one operation, and it is the exchange that frees the lock by which it is done.
//!
//! That exchange is refused if the lock was stolen meanwhile. Then nothing of the session counts,
//! but for what the thief may have completed in its place; so the operator waits until that is
//! settled, looks, leaves the area where it was, and, if need be, does the operation again. What a
//! session has only looked at needs no second time: the heap was so when the lock was stolen.

use std::cell::Cell;
use std::mem::ManuallyDrop;

use super::areas::InArea;
use super::journal::{Counters, Entry};
use super::layout::{Area, Position};
use super::lock::{Acquired, LockWord};
use super::{Fault, FirstFit, Surroundings};
use crate::peers::LedgerEntry;
use crate::segment::words::Words;
use crate::units::PeerSlot;

/// A peer that operates on the heap.
#[derive(Debug)]
pub(crate) struct Operator<'e, W, S> {
    pub(super) engine: &'e FirstFit,
    pub(super) words: W,
    pub(super) me: PeerSlot,
    pub(super) surroundings: &'e S,
}

/// The right to change the heap, given back when dropped.
#[derive(Debug)]
pub(crate) struct Session<'e, W: Words + Copy> {
    pub(super) engine: &'e FirstFit,
    pub(super) words: W,
    /// The same, seen in the area of the session.
    pub(super) area: InArea<W>,
    held: LockWord,
    end: Position,
    has_announced: Cell<bool>,
}

impl FirstFit {
    /// The heap's operations, for peer `me`.
    #[inline]
    pub(crate) fn operator<'e, W: Words, S: Surroundings>(
        &'e self,
        words: W,
        me: PeerSlot,
        surroundings: &'e S,
    ) -> Operator<'e, W, S> {
        Operator { engine: self, words, me, surroundings }
    }

    /// Does for the dead process that was peer `slot` what it left half done. The caller holds the
    /// slot's proof of life. What cannot be finished is left for the next session.
    pub(crate) fn adopt(
        &self,
        words: &impl Words,
        slot: PeerSlot,
        surroundings: &impl Surroundings,
    ) -> Result<(), Fault> {
        let settled = match self.lock.take_over(words, slot) {
            Some(held) => self.settle_for(words, surroundings, held),
            None => Ok(()),
        };
        self.pins.leave_for(words, slot);
        settled
    }

    fn settle_for(
        &self,
        words: &impl Words,
        surroundings: &impl Surroundings,
        held: LockWord,
    ) -> Result<(), Fault> {
        if let Err(fault) = self.settle(words, surroundings, held) {
            self.abandon(words, held);
            return Err(fault);
        }
        if let Some(held) = self.advance(words, held) {
            self.release(words, held);
        }
        Ok(())
    }

    /// Makes the area of `held`, where all is recovered, the truth for everybody; `None` if
    /// somebody else has taken that on, being tired of waiting.
    fn advance(&self, words: &impl Words, held: LockWord) -> Option<LockWord> {
        let end = self.end(words, held.to());
        let Some(next) = self.lock.advance(words, held) else {
            self.pins.leave(words, held);
            return None;
        };
        self.current.raise(words, &self.lock, next);
        self.raise_length(words, end);
        Some(next)
    }

    /// Gives the lock back, unless it was stolen: then whoever was robbed leaves its area.
    fn release(&self, words: &impl Words, held: LockWord) {
        if !self.lock.release(words, held) {
            self.pins.leave(words, held);
        }
    }

    /// The same, with something left to recover.
    fn abandon(&self, words: &impl Words, held: LockWord) {
        if !self.lock.abandon(words, held) {
            self.pins.leave(words, held);
        }
    }
}

impl<'e, W: Words + Copy, S: Surroundings> Operator<'e, W, S> {
    /// Takes the lock, and first finishes what a dead or a stopped holder left half done.
    ///
    /// # Errors
    ///
    /// [`Fault::Damaged`] if its journal makes no sense, [`Fault::NoStorage`] if records that exist
    /// by another process's word have no storage. The lock is free again.
    #[inline]
    pub(crate) fn session(&self) -> Result<Session<'e, W>, Fault> {
        loop {
            let held = match self.engine.lock.acquire(&self.words, self.me, self) {
                Acquired::Free(held) | Acquired::Ended(held) => held,
                Acquired::TakenOver(held) => self.settle(held)?,
            };
            if let Some(session) = self.session_in(held) {
                return Ok(session);
            }
            self.engine.ensure_area(&self.words, self.surroundings, held.to())?;
        }
    }

    /// The session, if its records are known to have storage. That is not asked for with the lock
    /// in hand, for it may take longer than the others' patience.
    #[inline]
    fn session_in(&self, held: LockWord) -> Option<Session<'e, W>> {
        let Self { engine, words, surroundings, .. } = *self;
        let (area, has_announced) = (engine.in_area(words, held.to()), Cell::new(false));
        let mut session = Session { engine, words, area, held, end: Position(0), has_announced };
        if !surroundings.has_storage(held.to(), 1) {
            return None;
        }
        session.end = engine.end_in(&area);
        surroundings.has_storage(held.to(), session.end.0).then_some(session)
    }

    /// Recovers in the session that was taken over, and goes on in the next. If that cannot be done
    /// now, it is left to whoever comes next.
    #[cold]
    fn settle(&self, mut held: LockWord) -> Result<LockWord, Fault> {
        let Self { engine, words, surroundings, .. } = self;
        loop {
            let damage = match engine.settle(words, *surroundings, held) {
                Ok(()) => None,
                // Reported once, to a caller; the audit shows what it comes to.
                Err(fault @ Fault::Damaged(_)) => Some(fault),
                Err(fault) => {
                    engine.abandon(words, held);
                    return Err(fault);
                }
            };
            let next = engine.advance(words, held);
            match (next, damage) {
                (Some(next), None) => return Ok(next),
                (Some(next), Some(fault)) => {
                    engine.release(words, next);
                    return Err(fault);
                }
                (None, _) => {}
            }
            match engine.lock.acquire(words, self.me, self) {
                Acquired::Free(held) | Acquired::Ended(held) => return Ok(held),
                Acquired::TakenOver(again) => held = again,
            }
        }
    }

    /// Does an operation once, in as many sessions as that takes. `helped` is what it comes to if a
    /// thief has completed it.
    #[inline]
    pub(super) fn operate<T>(
        &self,
        helped: impl Fn() -> T,
        attempt: impl Fn(&Session<'e, W>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let session = self.session()?;
        let result = attempt(&session);
        match session.commit() {
            Ok(()) => result,
            Err(robbed) => self.operate_again(robbed, helped, attempt),
        }
    }

    /// As [`operate`](Self::operate), after an attempt that ended with the lock stolen.
    #[cold]
    fn operate_again<T>(
        &self,
        mut robbed: LockWord,
        helped: impl Fn() -> T,
        attempt: impl Fn(&Session<'e, W>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        loop {
            let was_helped = self.was_helped(robbed);
            // Only now: an area that was left may be stolen again, and the note of help with it.
            self.engine.pins.leave(&self.words, robbed);
            if was_helped? {
                return Ok(helped());
            }
            let session = self.session()?;
            let result = attempt(&session);
            match session.commit() {
                Ok(()) => return result,
                Err(again) => robbed = again,
            }
        }
    }

    /// Whether what the robbed session has announced was completed. That is settled once the
    /// session is over, and needs no lock to be seen: the note is in each area that holds the truth
    /// from then on, and in each copy of it, until the area of the session is left.
    fn was_helped(&self, robbed: LockWord) -> Result<bool, Fault> {
        let Self { engine, words, surroundings, me } = self;
        loop {
            match engine.lock.acquire_or_end(words, *me, self, robbed.session()) {
                Acquired::Ended(word) => {
                    surroundings.ensure_head(word.from())?;
                    return Ok(engine.was_helped(&engine.in_area(words, word.from()), robbed));
                }
                Acquired::TakenOver(held) => engine.release(words, self.settle(held)?),
                Acquired::Free(held) => engine.release(words, held),
            }
        }
    }
}

impl<W: Words + Copy> Session<'_, W> {
    /// The end of object space.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Which area the session is in.
    pub(crate) fn area_number(&self) -> Area {
        self.held.to()
    }

    /// Whether the lock was stolen.
    pub(super) fn is_robbed(&self) -> bool {
        self.engine.lock.load(&self.words).acquisition() != self.held.acquisition()
    }

    /// The bit of an entry.
    pub(super) fn is_done(&self, entry: LedgerEntry) -> bool {
        self.engine.is_done(&self.area, entry)
    }

    /// Announces the one operation of the session.
    #[inline]
    pub(super) fn announce(&self, entry: Entry, recovered: Counters) {
        self.has_announced.set(true);
        self.engine.journal.begin(&self.area, self.held.session(), entry, recovered);
    }

    /// Gives the lock back. If that was stolen, what was announced is not done, at least not by
    /// this session: the word of the acquisition comes back.
    #[inline]
    fn commit(self) -> Result<(), LockWord> {
        let session = ManuallyDrop::new(self);
        if session.engine.lock.release(&session.words, session.held) {
            return Ok(());
        }
        session.robbed()
    }

    #[cold]
    fn robbed(&self) -> Result<(), LockWord> {
        if self.has_announced.get() {
            return Err(self.held);
        }
        self.engine.pins.leave(&self.words, self.held);
        Ok(())
    }
}

impl<W: Words + Copy> Drop for Session<'_, W> {
    #[inline]
    fn drop(&mut self) {
        self.engine.release(&self.words, self.held);
    }
}
