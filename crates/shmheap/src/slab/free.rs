//! Small objects freed: with one store of the state, by whoever it is.
//!
//! ```text
//!   in a slab of the thread's own      state: live -> free     in hand again
//!   in any other                       note the slab, unless it is noted
//!                                      state: live -> free     found by its owner's next look
//!   after some frees                   fence
//!                                      for each of the slabs: nobody's?  hint at it
//!                                      clear the note
//! ```
//!
//! Only who has an object frees it, so nobody else changes its state meanwhile, and a plain store
//! is enough. What must not be lost is the hint at a slab that is nobody's. Whose the slab is, is
//! looked at behind a fence; the fence is dear, since it waits for all stores before it, and so is
//! put off until it serves many frees. In the meantime a note tells whoever adopts this thread's
//! affairs among which units to look, and a sweep finds what is free in any case.
//!
//! Killed before the state changes, the object was not freed; after it, it was. Of two that free
//! the same object one after the other, the second is told.

use std::ops::Range;

use super::cache::{Cache, Freed, SlabNumber};
use super::class::Class;
use super::hints::Hint;
use super::pending::Pending;
use super::resolve::Object;
use super::unit::{Place, Unit};
use super::{Note, Surroundings, Worker};
use crate::segment::fault::Fault;
use crate::segment::states::{StateIndex, States};
use crate::segment::words::Words;
use crate::units::WordIndex;

impl<W: Words + States, S: Surroundings> Worker<'_, W, S> {
    /// Frees the object at `place`.
    ///
    /// # Errors
    ///
    /// [`Fault::NotLive`] if no live object starts there.
    pub(crate) fn free(&self, cache: &mut Cache, place: Place) -> Result<(), Fault> {
        if self.free_elsewhere_fast(cache, place) {
            return Ok(());
        }
        match cache.free(&self.words, place) {
            Freed::Done => Ok(()),
            Freed::AllFree(number) => {
                self.all_free(cache, number);
                Ok(())
            }
            Freed::Elsewhere => self.free_elsewhere(cache, place),
            Freed::NotLive(why) => Err(Fault::NotLive(why)),
        }
    }

    /// Nothing in the slab lives any more: unless it is open, its units are given back.
    fn all_free(&self, cache: &mut Cache, number: SlabNumber) {
        let class = cache.slab(number).class();
        if !cache.is_open(class, number) {
            cache.rouse(class, number);
            self.let_go(cache, number);
        }
    }

    /// Frees an object whose slab is not this thread's, or which has units of its own.
    fn free_elsewhere(&self, cache: &mut Cache, place: Place) -> Result<(), Fault> {
        match self.live_object(place)? {
            Object::Small { unit, state_at, state, .. } => {
                self.put_off(cache, unit);
                self.words.store_state(state_at, state.next());
                Ok(())
            }
            Object::Large { unit, units, .. } => self.free_large(unit, units),
        }
    }

    /// Frees an object of a slab that is not this thread's, if nothing about it is out of the
    /// ordinary; whether that is so. Anything else is left to [`free`](Self::free).
    #[inline]
    pub(crate) fn free_elsewhere_fast(&self, cache: &mut Cache, place: Place) -> bool {
        if cache.has(place) {
            return false;
        }
        let Some(object) = self.small_object_fast(place) else { return false };
        self.put_off(cache, object.unit);
        self.words.store_state(object.state_at, object.state.next());
        true
    }

    /// Notes that the slab must be looked at when the thread comes to it.
    #[inline]
    fn put_off(&self, cache: &mut Cache, unit: Unit) {
        if cache.pending().is_full() {
            self.catch_up(cache);
        }
        let pending = cache.pending();
        if !pending.add(unit) {
            self.note_frees(pending, unit);
        }
    }

    #[cold]
    fn note_frees(&self, pending: &mut Pending, unit: Unit) {
        let Range { start, end } = pending.widen(unit);
        self.words.store(self.frees_note(), Note::Frees(start, end.0 - start.0).word());
    }

    fn frees_note(&self) -> WordIndex {
        self.actor.notes + 1
    }

    /// Looks at the slabs of others that this thread has freed in.
    pub(crate) fn catch_up(&self, cache: &mut Cache) {
        if cache.pending().is_empty() {
            return;
        }
        // Between the frees before and the look at the slabs' owners after: see `release`.
        self.words.fence();
        for &unit in cache.pending().iter() {
            if self.load(unit).is_nobodys_slab() {
                self.engine.hints.set(&self.words, Hint::Shared, unit);
            }
        }
        self.words.store(self.frees_note(), 0);
        cache.pending().clear();
    }

    /// Lets every slab of the thread go, as when it ends.
    pub(crate) fn let_all_go(&self, cache: &mut Cache) {
        self.catch_up(cache);
        for number in cache.close_all() {
            cache.slab(number).scan(&self.words);
            self.let_go(cache, number);
        }
    }

    /// The state of a small object, and whether storage for it was seen to.
    pub(super) fn state_of(
        &self,
        unit: Unit,
        class: Class,
        index: u64,
    ) -> Result<StateIndex, Fault> {
        let geometry = class.geometry();
        self.surroundings.ensure_states(self.engine.layout.block(geometry, unit))?;
        Ok(self.engine.layout.row(geometry, unit) + index)
    }
}
