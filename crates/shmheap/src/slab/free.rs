//! Small objects freed: by the thread that owns the slab with one store, by anybody else with one
//! compare-and-exchange.
//!
//! ```text
//!   owner        state: live -> free      the object is in hand again
//!   others       note the slab
//!                state: live -> free      the owner will find it when it looks
//!                whose is the slab?       nobody's: hint at it, for whoever needs it
//!                clear the note
//! ```
//!
//! Killed before the state changes, the object was not freed; after it, it was, and whoever adopts
//! the note looks at the slab again. Of two that free the same object, one is told.

use super::cache::{Cache, SlabNumber};
use super::class::Class;
use super::hints::Hint;
use super::resolve::Object;
use super::unit::{Place, Unit, Use};
use super::{Note, Surroundings, Worker};
use crate::error::NotLive;
use crate::segment::fault::Fault;
use crate::segment::states::{StateIndex, States};
use crate::segment::words::Words;

impl<W: Words + States, S: Surroundings> Worker<'_, W, S> {
    /// Frees the object at `place`.
    ///
    /// # Errors
    ///
    /// [`Fault::NotLive`] if no live object starts there.
    #[inline]
    pub(crate) fn free(&self, cache: &mut Cache, place: Place) -> Result<(), Fault> {
        match cache.number_of(Unit::of(place)) {
            Some(number) => self.free_owned(cache, number, place),
            None => self.free_shared(place),
        }
    }

    #[inline]
    fn free_owned(&self, cache: &mut Cache, number: SlabNumber, place: Place) -> Result<(), Fault> {
        let Some(owned) = cache.slab(number) else { return self.free_shared(place) };
        let within = place.0.wrapping_sub(owned.unit.start().0);
        let index = owned.geometry.index_of(within).ok_or(Fault::NotLive(NotLive::NoObject))?;
        let at = owned.row + index;
        let state = self.words.load_state(at);
        if !state.is_live() {
            return Err(Fault::NotLive(NotLive::Freed));
        }
        self.words.store_state(at, state.next());
        if owned.put(index) == owned.geometry.capacity {
            self.all_free(cache, number);
        }
        Ok(())
    }

    /// Nothing in the slab lives any more: unless it is open, its units are given back.
    #[cold]
    fn all_free(&self, cache: &mut Cache, number: SlabNumber) {
        let Some(class) = cache.slab(number).map(|owned| owned.class) else { return };
        if cache.open(class).slab != Some(number) {
            cache.rouse(class, number);
            self.let_go(cache, number);
        }
    }

    /// Frees an object whose slab is not this thread's, or which has units of its own.
    #[inline(never)]
    pub(crate) fn free_shared(&self, place: Place) -> Result<(), Fault> {
        match self.live_object(place)? {
            Object::Small { unit, class, state_at, state, .. } => {
                self.noted(Note::Slab(unit), || {
                    // It was live a moment ago: another has freed it just now.
                    if !self.words.exchange_state(state_at, state, state.next()) {
                        return Err(Fault::NotLive(NotLive::Freed));
                    }
                    self.freed_in(unit, class);
                    Ok(())
                })
            }
            Object::Large { unit, units, .. } => self.free_large(unit, units),
        }
    }

    /// Hints at a slab in which an object was just freed, if it is nobody's.
    #[inline]
    fn freed_in(&self, unit: Unit, class: Class) {
        let nobodys = Use::Slab { owner: None, class: class.number() as u64 };
        if self.load(unit).get() == Some(nobodys) {
            self.engine.hints.set(&self.words, Hint::Shared, unit);
        }
    }

    /// Lets every slab of the thread go, as when it ends.
    pub(crate) fn let_all_go(&self, cache: &mut Cache) {
        for mut owned in cache.drain() {
            owned.scan(&self.words);
            self.let_go_of(owned.unit, owned.class, owned.is_all_free());
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
