//! The operations: alloc, free, resize, grow, each done once whoever dies or is stopped.

use super::journal::{Counters, Entry, Growth, Owner, Resize, Span};
use super::layout::Position;
use super::session::{Operator, Session};
use super::{Fault, Surroundings};
use crate::peers::{Ledger, LedgerEntry};
use crate::segment::words::Words;

impl<W: Words + Copy, S: Surroundings> Operator<'_, W, S> {
    /// Places an object of `need` granules at the lowest position that is a multiple of
    /// `align_granules`, a power of two. `None` if no free block holds it.
    ///
    /// Cost: a node of the tree per level. With an alignment, free blocks that are long enough but
    /// lie badly are passed over one by one.
    #[inline]
    pub(crate) fn alloc(&self, need: u64, align_granules: u64) -> Result<Option<Position>, Fault> {
        let attempt = |session: &Session<'_, W>| {
            let Some(span) = session.find(need, align_granules)? else { return Ok(None) };
            session.make(span, Entry::Carve(span));
            Ok(Some(span.object))
        };
        // An allocation is undone, not completed: whoever was robbed does it again.
        self.operate(|| None, attempt)
    }

    /// As [`alloc`](Self::alloc), for an entry of the ledger to own the object, by the handle that
    /// `handle` makes of the position. The entry owns nothing before, and nothing after if there
    /// is no object.
    pub(crate) fn alloc_for(
        &self,
        need: u64,
        align_granules: u64,
        entry: LedgerEntry,
        handle: impl Fn(Position) -> u64,
    ) -> Result<Option<Position>, Fault> {
        let ledger = self.ledger();
        let attempt = |session: &Session<'_, W>| {
            let Some(span) = session.find(need, align_granules)? else { return Ok(None) };
            let done = !session.is_done(entry);
            // It will own the object when the operation is done, and says so before.
            ledger.enter(entry, handle(span.object), done);
            session.make(span, Entry::CarveFor(span, Owner { entry, done }));
            Ok(Some(span.object))
        };
        let made = self.operate(|| None, attempt);
        match made {
            Ok(Some(at)) => ledger.own(entry, handle(at)),
            // It has perhaps said that it would, and was robbed.
            Ok(None) | Err(_) => ledger.clear(entry),
        }
        made
    }

    /// Frees the object at `at` and joins it with free neighbours on both sides.
    ///
    /// # Errors
    ///
    /// [`Fault::NotLive`] if no live object starts there.
    #[inline]
    pub(crate) fn free(&self, at: Position) -> Result<(), Fault> {
        let attempt = |session: &Session<'_, W>| {
            let span = session.span_of(at)?;
            session.unmake(span, Entry::Join(span));
            Ok(())
        };
        self.operate(|| (), attempt)
    }

    /// Frees the object at `at` that an entry of the ledger owns by `handle`, which then owns
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`Fault::NotLive`] if no live object starts there; the entry owns it as before.
    pub(crate) fn free_of(
        &self,
        at: Position,
        entry: LedgerEntry,
        handle: u64,
    ) -> Result<(), Fault> {
        let ledger = self.ledger();
        let attempt = |session: &Session<'_, W>| {
            let span = session.span_of(at)?;
            let was_done = session.is_done(entry);
            // It owns the object until the operation is done.
            ledger.enter(entry, handle, was_done);
            session.unmake(span, Entry::JoinFor(span, Owner { entry, done: !was_done }));
            Ok(())
        };
        self.operate(|| (), attempt)?;
        ledger.clear(entry);
        Ok(())
    }

    /// The bit of an entry, once whatever others were doing is settled.
    pub(crate) fn is_done(&self, entry: LedgerEntry) -> Result<bool, Fault> {
        self.operate(|| false, |session| Ok(session.is_done(entry)))
    }

    /// Gives the object at `at` a new length in place. `false`, with nothing changed, if the free
    /// block behind it does not allow that.
    ///
    /// # Errors
    ///
    /// [`Fault::NotLive`] if no live object starts there.
    pub(crate) fn resize(&self, at: Position, need: u64) -> Result<bool, Fault> {
        self.operate(|| true, |session| session.resize(at, need))
    }

    /// The start of the free block at the end of object space, or the end if there is none; and
    /// the end.
    pub(crate) fn last_gap(&self) -> Result<(Position, Position), Fault> {
        self.operate(
            || (Position(0), Position(0)),
            |session| Ok((session.last_gap(), session.end())),
        )
    }

    /// Lengthens object space to `new_end`; the caller has reserved storage for it. Nothing to do
    /// if another process has done it.
    pub(crate) fn grow(&self, new_end: Position) -> Result<(), Fault> {
        let attempt = |session: &Session<'_, W>| {
            let granules_max = self.engine.layout.granules_max;
            if new_end <= session.end() || new_end.0 > granules_max {
                return Ok(session.end());
            }
            // Of this area, which need not be the one that the caller knew.
            self.surroundings.ensure_records(session.area_number(), new_end.0)?;
            session.grow(new_end);
            Ok(new_end)
        };
        let end = self.operate(|| new_end, attempt)?;
        self.engine.raise_length(&self.words, end);
        Ok(())
    }

    fn ledger(&self) -> Ledger<W> {
        Ledger::new(self.words, self.engine.threads)
    }
}

impl<W: Words + Copy> Session<'_, W> {
    /// Makes the span's object.
    #[inline]
    fn make(&self, span: Span, entry: Entry) {
        let (engine, words) = (self.engine, &self.area);
        let before = engine.counters_in(words);
        self.announce(entry, before);
        self.carve(span);
        if let Entry::CarveFor(_, Owner { entry, done }) = entry {
            engine.set_done(words, entry, done);
        }
        let after = Counters {
            objects: before.objects.wrapping_add(1),
            granules: before.granules.wrapping_add(span.object_end - span.object),
        };
        engine.store_counters(words, after);
    }

    /// The lowest free block that holds the object, and the object's place in it.
    #[inline]
    fn find(&self, need: u64, align_granules: u64) -> Result<Option<Span>, Fault> {
        let (engine, words) = (self.engine, &self.area);
        let mut candidate = engine.maxima.first(words, need, self.end())?;
        while let Some(region) = candidate {
            let found = engine
                .starts
                .free_blocks(words, region, self.end())
                .find_map(|(start, granules)| fit(start, granules, need, align_granules));
            if found.is_some() {
                return Ok(found);
            }
            if align_granules == 1 {
                return Err(Fault::Damaged("a region has no free block of its maximum"));
            }
            candidate = engine.maxima.next(words, region, need, self.end())?;
        }
        Ok(None)
    }

    #[inline]
    fn carve(&self, span: Span) {
        let (engine, words) = (self.engine, &self.area);
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
        engine.maxima.retire(words, &engine.starts, span.start.region(), whole, self.end());
        if span.object_end < span.end {
            let rest = span.end - span.object_end;
            engine.maxima.admit(words, span.object_end.region(), rest);
        }
    }

    /// The object at `at` with its free neighbours.
    #[inline]
    fn span_of(&self, at: Position) -> Result<Span, Fault> {
        let (engine, words) = (self.engine, &self.area);
        engine.expect_live_in(words, at, self.end())?;
        let object_end = engine.starts.next(words, at, self.end());
        let start = match engine.starts.previous(words, at) {
            Some(previous) if engine.starts.is_free(words, previous) => previous,
            _ => at,
        };
        Ok(Span { start, object: at, object_end, end: self.gap_end(object_end) })
    }

    /// Makes one free block of the span.
    #[inline]
    fn unmake(&self, span: Span, entry: Entry) {
        let (engine, words) = (self.engine, &self.area);
        let before = engine.counters_in(words);
        let after = Counters {
            objects: before.objects.wrapping_sub(1),
            granules: before.granules.wrapping_sub(span.object_end - span.object),
        };
        self.announce(entry, after);
        self.join(span);
        if let Entry::JoinFor(_, Owner { entry, done }) = entry {
            engine.set_done(words, entry, done);
        }
        engine.store_counters(words, after);
    }

    /// The end of the free block at `at`, or `at` if none starts there.
    #[inline]
    fn gap_end(&self, at: Position) -> Position {
        if at < self.end() && self.engine.starts.is_free(&self.area, at) {
            self.engine.starts.next(&self.area, at, self.end())
        } else {
            at
        }
    }

    #[inline]
    fn join(&self, span: Span) {
        let (engine, words) = (self.engine, &self.area);
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
            engine.maxima.retire(words, &engine.starts, region, rest, self.end());
        }
    }

    fn resize(&self, at: Position, need: u64) -> Result<bool, Fault> {
        let (engine, words) = (self.engine, &self.area);
        engine.expect_live_in(words, at, self.end())?;
        let old_end = engine.starts.next(words, at, self.end());
        let gap_end = self.gap_end(old_end);
        let new_end = at + need;
        if new_end > gap_end {
            return Ok(false);
        }
        if new_end == old_end {
            return Ok(true);
        }
        let before = engine.counters_in(words);
        let after = Counters {
            objects: before.objects,
            granules: before.granules.wrapping_sub(old_end - at).wrapping_add(need),
        };
        let resize = Resize { object: at, new_end, old_end, gap_end };
        self.announce(Entry::Resize(resize), after);
        self.move_boundary(resize);
        engine.store_counters(words, after);
        Ok(true)
    }

    fn move_boundary(&self, resize: Resize) {
        let (engine, words) = (self.engine, &self.area);
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
            engine.maxima.retire(words, &engine.starts, region, gap_end - old_end, self.end());
        }
        if new_end < gap_end {
            engine.maxima.admit(words, new_end.region(), gap_end - new_end);
        }
    }

    fn last_gap(&self) -> Position {
        match self.engine.starts.previous(&self.area, self.end()) {
            Some(last) if self.engine.starts.is_free(&self.area, last) => last,
            _ => self.end(),
        }
    }

    fn grow(&self, new_end: Position) {
        let (engine, words) = (self.engine, &self.area);
        let old_end = self.end();
        let gap = self.last_gap();
        let growth = Growth { gap, old_end, new_end };
        self.announce(Entry::Grow(growth), engine.counters_in(words));
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
