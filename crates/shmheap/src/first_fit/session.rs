//! A session: the heap's lock in hand, and the operations that need it.
//!
//! Every operation has the same shape: look, decide, announce in the journal, change the truth
//! (`starts`, `frees`), then what is derived (`maxima`) and counted, give the lock back. Nothing is
//! written before the decision is final, so a refusal leaves the heap untouched. A session has one
//! operation, which uses it up: it is the exchange that frees the lock by which it is done.

use super::journal::{Counters, Entry, Growth, Resize, Span};
use super::layout::Position;
use super::lock::Acquired;
use super::{Fault, FirstFit, Surroundings};
use crate::peers::LedgerEntry;
use crate::segment::words::Words;
use crate::units::PeerSlot;

/// The right to change the heap, given back when dropped.
#[derive(Debug)]
pub(crate) struct Session<'e, W: Words> {
    engine: &'e FirstFit,
    words: W,
    me: PeerSlot,
    end: Position,
}

impl FirstFit {
    /// Takes the lock as peer `me`, and first finishes what a dead holder left half done.
    ///
    /// # Errors
    ///
    /// [`Fault::Damaged`] if the dead holder's journal makes no sense, [`Fault::NoStorage`] if
    /// records that exist by another process's word have no storage. The lock is free again.
    #[inline]
    pub(crate) fn session<'e, W: Words>(
        &'e self,
        words: W,
        me: PeerSlot,
        surroundings: &impl Surroundings,
    ) -> Result<Session<'e, W>, Fault> {
        let acquired = self.lock.acquire(&words, me, &|peer| surroundings.is_dead(peer));
        let end = self.end(&words);
        let mut session = Session { engine: self, words, me, end };
        if acquired == Acquired::TakenOver {
            session = session.recover(surroundings)?;
        }
        surroundings.ensure_storage(session.end.0)?;
        Ok(session)
    }

    /// Does for the dead process that was peer `slot` what it left half done. The caller holds the
    /// slot's proof of life. What cannot be finished is left for the next session.
    pub(crate) fn adopt<W: Words>(
        &self,
        words: W,
        slot: PeerSlot,
        surroundings: &impl Surroundings,
    ) -> Result<(), Fault> {
        if self.lock.take_over(&words, slot) {
            if let Err(fault) = self.recover(&words, surroundings) {
                self.lock.abandon(&words, slot);
                return Err(fault);
            }
            self.lock.release(&words, slot);
        }
        Ok(())
    }
}

impl<W: Words> Session<'_, W> {
    /// Recovers what was announced in the session that was taken over, and goes on in the next. If
    /// that cannot be done now, it is left to whoever comes next.
    #[cold]
    fn recover(mut self, surroundings: &impl Surroundings) -> Result<Self, Fault> {
        match self.engine.recover(&self.words, surroundings) {
            Ok(()) => {}
            // Reported once, to a caller; the audit shows what it comes to.
            Err(Fault::Damaged(what)) => return Err(Fault::Damaged(what)),
            Err(fault) => {
                self.engine.lock.abandon(&self.words, self.me);
                return Err(fault);
            }
        }
        self.engine.lock.advance(&self.words, self.me);
        self.end = self.engine.end(&self.words);
        Ok(self)
    }

    /// Which session it is.
    #[inline]
    fn number(&self) -> u64 {
        self.engine.lock.session(&self.words)
    }

    /// The end of object space.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Places an object of `need` granules at the lowest position that is a multiple of
    /// `align_granules`, a power of two. `None` if no free block holds it.
    ///
    /// Cost: a node of the tree per level. With an alignment, free blocks that are long enough but
    /// lie badly are passed over one by one.
    #[inline]
    pub(crate) fn alloc(self, need: u64, align_granules: u64) -> Result<Option<Position>, Fault> {
        let Some(span) = self.find(need, align_granules)? else {
            return Ok(None);
        };
        self.make(span, Entry::Carve(span), |_| {});
        Ok(Some(span.object))
    }

    /// As [`alloc`](Self::alloc), for an entry of the ledger to own the object: it gets the word
    /// that `owned` makes of the position.
    pub(crate) fn alloc_for(
        self,
        need: u64,
        align_granules: u64,
        owner: LedgerEntry,
        owned: impl FnOnce(Position) -> u64,
    ) -> Result<Option<Position>, Fault> {
        let Some(span) = self.find(need, align_granules)? else {
            return Ok(None);
        };
        let at = self.engine.threads.entry_word(owner);
        let own = |words: &W| words.store(at, owned(span.object));
        self.make(span, Entry::CarveFor(span, owner), own);
        Ok(Some(span.object))
    }

    /// Makes the span's object; `own` is part of it.
    #[inline]
    fn make(&self, span: Span, entry: Entry, own: impl FnOnce(&W)) {
        let (engine, words) = (self.engine, &self.words);
        let before = engine.counters(words);
        engine.journal.begin(words, self.number(), entry, before);
        self.carve(span);
        own(words);
        let after = Counters {
            objects: before.objects.wrapping_add(1),
            granules: before.granules.wrapping_add(span.object_end - span.object),
        };
        engine.store_counters(words, after);
    }

    /// The lowest free block that holds the object, and the object's place in it.
    #[inline]
    fn find(&self, need: u64, align_granules: u64) -> Result<Option<Span>, Fault> {
        let (engine, words) = (self.engine, &self.words);
        let mut candidate = engine.maxima.first(words, need, self.end)?;
        while let Some(region) = candidate {
            let found = engine
                .starts
                .free_blocks(words, region, self.end)
                .find_map(|(start, granules)| fit(start, granules, need, align_granules));
            if found.is_some() {
                return Ok(found);
            }
            if align_granules == 1 {
                return Err(Fault::Damaged("a region has no free block of its maximum"));
            }
            candidate = engine.maxima.next(words, region, need, self.end)?;
        }
        Ok(None)
    }

    #[inline]
    fn carve(&self, span: Span) {
        let (engine, words) = (self.engine, &self.words);
        if span.object == span.start {
            engine.starts.clear_free(words, span.start);
        } else {
            engine.starts.set_start(words, span.object);
        }
        if span.object_end < span.end {
            engine.starts.set_start(words, span.object_end);
            engine.starts.set_free(words, span.object_end);
        }
        let whole = span.end - span.start;
        engine.maxima.retire(words, &engine.starts, span.start.region(), whole, self.end);
        if span.object_end < span.end {
            let rest = span.end - span.object_end;
            engine.maxima.admit(words, span.object_end.region(), rest);
        }
    }

    /// Frees the object at `at` and joins it with free neighbours on both sides.
    ///
    /// # Errors
    ///
    /// [`Fault::NotLive`] if no live object starts there.
    #[inline]
    pub(crate) fn free(self, at: Position) -> Result<(), Fault> {
        let span = self.span_of(at)?;
        self.unmake(span, Entry::Join(span), |_| {});
        Ok(())
    }

    /// Frees the object at `at` that an entry of the ledger owns, which then owns nothing.
    ///
    /// # Errors
    ///
    /// [`Fault::NotLive`] if no live object starts there; the entry stays as it is.
    pub(crate) fn free_of(self, at: Position, owner: LedgerEntry) -> Result<(), Fault> {
        let span = self.span_of(at)?;
        let disown = |words: &W| words.store(self.engine.threads.entry_word(owner), 0);
        self.unmake(span, Entry::JoinFor(span, owner), disown);
        Ok(())
    }

    /// The object at `at` with its free neighbours.
    #[inline]
    fn span_of(&self, at: Position) -> Result<Span, Fault> {
        let (engine, words) = (self.engine, &self.words);
        engine.expect_live(words, at, self.end)?;
        let object_end = engine.starts.next(words, at, self.end);
        let start = match engine.starts.previous(words, at) {
            Some(previous) if engine.starts.is_free(words, previous) => previous,
            _ => at,
        };
        Ok(Span { start, object: at, object_end, end: self.gap_end(object_end) })
    }

    /// Makes one free block of the span; `disown` is part of it.
    #[inline]
    fn unmake(&self, span: Span, entry: Entry, disown: impl FnOnce(&W)) {
        let (engine, words) = (self.engine, &self.words);
        let before = engine.counters(words);
        let after = Counters {
            objects: before.objects.wrapping_sub(1),
            granules: before.granules.wrapping_sub(span.object_end - span.object),
        };
        engine.journal.begin(words, self.number(), entry, after);
        self.join(span);
        disown(words);
        engine.store_counters(words, after);
    }

    /// The end of the free block at `at`, or `at` if none starts there.
    #[inline]
    fn gap_end(&self, at: Position) -> Position {
        if at < self.end && self.engine.starts.is_free(&self.words, at) {
            self.engine.starts.next(&self.words, at, self.end)
        } else {
            at
        }
    }

    #[inline]
    fn join(&self, span: Span) {
        let (engine, words) = (self.engine, &self.words);
        let joins_next = span.object_end < span.end;
        if joins_next {
            engine.starts.clear_free(words, span.object_end);
            engine.starts.clear_start(words, span.object_end);
        }
        if span.object == span.start {
            engine.starts.set_free(words, span.start);
        } else {
            engine.starts.clear_start(words, span.object);
        }
        engine.maxima.admit(words, span.start.region(), span.end - span.start);
        if joins_next {
            let region = span.object_end.region();
            let rest = span.end - span.object_end;
            engine.maxima.retire(words, &engine.starts, region, rest, self.end);
        }
    }

    /// Makes the object at `at` `need` granules long without moving it, if the free block behind
    /// it allows; whether it did.
    ///
    /// # Errors
    ///
    /// [`Fault::NotLive`] if no live object starts there.
    pub(crate) fn resize(self, at: Position, need: u64) -> Result<bool, Fault> {
        let (engine, words) = (self.engine, &self.words);
        engine.expect_live(words, at, self.end)?;
        let old_end = engine.starts.next(words, at, self.end);
        let gap_end = self.gap_end(old_end);
        let new_end = at + need;
        if new_end > gap_end {
            return Ok(false);
        }
        if new_end == old_end {
            return Ok(true);
        }
        let before = engine.counters(words);
        let after = Counters {
            objects: before.objects,
            granules: before.granules.wrapping_sub(old_end - at).wrapping_add(need),
        };
        let resize = Resize { object: at, new_end, old_end, gap_end };
        engine.journal.begin(words, self.number(), Entry::Resize(resize), after);
        self.move_boundary(resize);
        engine.store_counters(words, after);
        Ok(true)
    }

    fn move_boundary(&self, resize: Resize) {
        let (engine, words) = (self.engine, &self.words);
        let Resize { new_end, old_end, gap_end, .. } = resize;
        if old_end < gap_end {
            engine.starts.clear_free(words, old_end);
            engine.starts.clear_start(words, old_end);
        }
        if new_end < gap_end {
            engine.starts.set_start(words, new_end);
            engine.starts.set_free(words, new_end);
        }
        if old_end < gap_end {
            let region = old_end.region();
            engine.maxima.retire(words, &engine.starts, region, gap_end - old_end, self.end);
        }
        if new_end < gap_end {
            engine.maxima.admit(words, new_end.region(), gap_end - new_end);
        }
    }

    /// The start of the free block at the end of object space, or the end if there is none.
    pub(crate) fn last_gap(&self) -> Position {
        match self.engine.starts.previous(&self.words, self.end) {
            Some(last) if self.engine.starts.is_free(&self.words, last) => last,
            _ => self.end,
        }
    }

    /// Lengthens object space to `new_end`; the caller has reserved storage for it. Nothing to do
    /// if another process has done it.
    pub(crate) fn grow(self, new_end: Position) {
        let (engine, words) = (self.engine, &self.words);
        let old_end = self.end;
        if new_end <= old_end || new_end.0 > engine.granules_max {
            return;
        }
        let gap = self.last_gap();
        let growth = Growth { gap, old_end, new_end };
        engine.journal.begin(words, self.number(), Entry::Grow(growth), engine.counters(words));
        if gap == old_end {
            engine.starts.set_start(words, gap);
            engine.starts.set_free(words, gap);
        }
        engine.maxima.admit(words, gap.region(), new_end - gap);
        engine.store_end(words, new_end);
    }
}

/// The object's place in a free block, if it has one there.
#[inline]
fn fit(start: Position, granules: u64, need: u64, align_granules: u64) -> Option<Span> {
    if granules < need {
        return None;
    }
    let end = start + granules;
    let object = Position((start.0 + (align_granules - 1)) & !(align_granules - 1));
    let object_end = object + need;
    (object_end <= end).then_some(Span { start, object, object_end, end })
}

impl<W: Words> Drop for Session<'_, W> {
    #[inline]
    fn drop(&mut self) {
        self.engine.lock.release(&self.words, self.me);
    }
}
