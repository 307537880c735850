//! Small objects: from the open slab, and where the next slab comes from.
//!
//! ```text
//!   open slab -> lowest free bit -> one store of the object's state       almost always
//!   the open slab again, if others have freed enough of it                then, in this order:
//!   a resting slab of this thread with enough free objects
//!   a slab that is nobody's
//!   a new slab
//! ```
//!
//! Killed before the store of the state, nothing has happened. Killed after it, the object lives.

use super::cache::{Cache, SlabNumber};
use super::class::Class;
use super::hints::Hint;
use super::owned;
use super::resolve::small_generation;
use super::unit::{Place, Unit, Use};
use super::{Effort, Note, Surroundings, Worker};
use crate::segment::fault::Fault;
use crate::segment::states::{State, States};
use crate::segment::words::Words;

/// An eighth of a slab's objects are enough to open it again.
const ENOUGH_SHARE: u32 = 8;
/// Less than this share, and the next slab is a new one: others' slabs are not worth the search.
const POOR_SHARE: u32 = 32;
/// How many slabs of others a usual search looks at.
const LOOKS_MAX: u32 = 256;
/// The resting slabs of a thread, but for one of each class, have at most this share of the heap's
/// units.
const RESTING_SHARE: u64 = 16;
/// Or so many units, in a small heap.
const RESTING_UNITS_MIN: u64 = 16;
/// The open slabs of a thread in which nothing lives have at most twice this share of the heap's
/// units when the heap grows.
const IDLE_SHARE: u64 = 32;
/// Or twice so many units, in a small heap.
const IDLE_UNITS_MIN: u64 = 8;

impl<W: Words + States, S: Surroundings> Worker<'_, W, S> {
    /// Allocates an object of the class; `None` if there is no room without growth.
    ///
    /// `announce` is called with the object and its state before it lives.
    pub(crate) fn alloc_small(
        &self,
        cache: &mut Cache,
        class: Class,
        effort: Effort,
        announce: impl Fn(Place, State),
    ) -> Result<Option<Place>, Fault> {
        loop {
            if let Some(place) = cache.alloc(&self.words, class, &announce) {
                return Ok(Some(place));
            }
            let has_more = cache.open_slab(class).has_free();
            if !has_more && !self.next_slab(cache, class, effort)? {
                return Ok(None);
            }
        }
    }

    /// The generation in the handle of the small object at `place` that has, or is about to leave,
    /// that state.
    pub(crate) fn small_generation(&self, place: Place, state: State) -> u64 {
        let (_, word) = self.engine.head_of(&self.words, Unit::of(place));
        small_generation(word, state)
    }

    /// Opens another slab of the class; whether there was one.
    fn next_slab(&self, cache: &mut Cache, class: Class, effort: Effort) -> Result<bool, Fault> {
        let enough = u32::from(class.geometry().capacity).div_ceil(ENOUGH_SHARE);
        self.catch_up(cache);
        let mut others_free = true;
        if let Some(used_up) = cache.close(class) {
            let free_count = cache.slab(used_up).scan(&self.words);
            if free_count >= enough {
                cache.set_open(class, used_up);
                return Ok(true);
            }
            others_free = free_count > 0;
            self.rest(cache, class, used_up);
        }
        if self.open_resting(cache, class, enough, others_free) {
            return Ok(true);
        }
        let is_poor = std::mem::take(&mut cache.search(class).is_poor);
        if !is_poor && self.claim_shared(cache, class, effort)? {
            return Ok(true);
        }
        if let Some(number) = self.make_slab(cache, class)? {
            cache.set_open(class, number);
            return Ok(true);
        }
        // No unit is free. What was too little above is better than nothing.
        Ok(self.open_resting(cache, class, 1, true)
            || (is_poor && self.claim_shared(cache, class, effort)?))
    }

    /// Opens a resting slab that has enough free objects, by what the thread knows or, if others
    /// free in its slabs, by the states of the one that they have had the most time for.
    fn open_resting(
        &self,
        cache: &mut Cache,
        class: Class,
        enough: u32,
        others_free: bool,
    ) -> bool {
        let found = cache.best_resting(class, enough).or_else(|| {
            let oldest = cache.oldest_resting(class).filter(|_| others_free)?;
            (cache.slab(oldest).scan(&self.words) >= enough).then_some(oldest)
        });
        if let Some(number) = found {
            cache.rouse(class, number);
            cache.set_open(class, number);
        }
        found.is_some()
    }

    /// Lets a used-up slab rest; the oldest resting one makes room for it.
    fn rest(&self, cache: &mut Cache, class: Class, number: SlabNumber) {
        let limit = (self.end().0 / RESTING_SHARE).max(RESTING_UNITS_MIN);
        if let Some(oldest) = cache.rest(class, number, limit) {
            self.let_go(cache, oldest);
        }
    }

    /// Gives open slabs back in which nothing lives, if they are many: the heap is about to grow. A
    /// few stay, for classes of which a program has one object at a time.
    pub(crate) fn give_back_idle(&self, cache: &mut Cache) {
        let kept_units = (self.end().0 / IDLE_SHARE).max(IDLE_UNITS_MIN);
        let mut idle_units = cache.idle().map(|(class, _)| class.units()).sum::<u64>();
        // Twice as many, so that what is given back pays for the look at the whole heap.
        if idle_units <= 2 * kept_units {
            return;
        }
        // The largest first: there is most in them.
        let idle: Vec<_> = cache.idle().collect();
        for (class, number) in idle.into_iter().rev() {
            if idle_units > kept_units {
                idle_units -= class.units();
                cache.close(class);
                self.let_go(cache, number);
            }
        }
    }

    /// Gives a slab to nobody, or its units back if nothing in it lives.
    pub(super) fn let_go(&self, cache: &mut Cache, number: SlabNumber) {
        let (unit, class, is_all_free) = cache.remove(number);
        self.let_go_of(unit, class, is_all_free);
    }

    pub(super) fn let_go_of(&self, unit: Unit, class: Class, is_all_free: bool) {
        if is_all_free {
            self.retire(unit, class);
        } else {
            self.release(unit, class);
        }
    }

    /// Makes the slab nobody's, and hints at it if it has anything free.
    pub(super) fn release(&self, unit: Unit, class: Class) {
        let word = self.load(unit);
        if word.get() != Some(self.own(class)) {
            // A broken process has taken it: there is nothing to give.
            return;
        }
        let released = word.with(Use::Slab { owner: None, class: class.number() as u64 });
        self.noted(Note::Slab(unit), || {
            if self.exchange(unit, word, released) {
                // Its partners are the fences in `catch_up` and `adopt_notes`: of whoever frees an
                // object, then looks whose the slab is, and this, which makes it nobody's, then
                // looks for free objects, one sees the other.
                self.words.fence();
                self.hint_shared(unit, class);
            }
        });
    }

    /// Hints at the slab, which is nobody's, if any object of it is free.
    pub(super) fn hint_shared(&self, unit: Unit, class: Class) {
        let geometry = class.geometry();
        let row = self.engine.layout.row(geometry, unit);
        if owned::has_free(&self.words, row, geometry) {
            self.engine.hints.set(&self.words, Hint::Shared, unit);
        }
    }

    /// Gives the units of a slab back, none of whose objects lives.
    pub(super) fn retire(&self, unit: Unit, class: Class) {
        let (word, units) = (self.load(unit), class.units());
        let freeing = word.with(Use::Freeing { peer: self.actor.peer, units });
        if word.get() == Some(self.own(class)) && self.exchange(unit, word, freeing) {
            self.dismantle(unit, units);
        }
    }

    /// What the unit's word says of a slab of this peer.
    pub(super) fn own(&self, class: Class) -> Use {
        Use::Slab { owner: Some(self.actor.peer), class: class.number() as u64 }
    }

    /// Claims a slab of the class that is nobody's and opens it; whether one had a free object.
    fn claim_shared(&self, cache: &mut Cache, class: Class, effort: Effort) -> Result<bool, Fault> {
        let end = self.end();
        self.surroundings.ensure_units(end.0)?;
        let cursor = cache.search(class).cursor.min(end);
        let mut looks = if effort == Effort::Usual { LOOKS_MAX } else { u32::MAX };
        for (from, to) in [(cursor, end), (Unit(0), cursor)] {
            let mut at = from;
            while let Some(unit) = self.engine.hints.next_shared(&self.words, at, to) {
                if self.try_claim_shared(cache, class, unit)? {
                    return Ok(true);
                }
                looks -= 1;
                if looks == 0 {
                    return Ok(false);
                }
                at = unit + 1;
            }
        }
        Ok(false)
    }

    fn try_claim_shared(&self, cache: &mut Cache, class: Class, unit: Unit) -> Result<bool, Fault> {
        let word = self.load(unit);
        if !word.is_nobodys_slab() {
            self.clear_stale_shared(unit);
            return Ok(false);
        }
        if word.class_of_slab() != Some(class) {
            return Ok(false);
        }
        // A damaged word may tell of a slab that ends behind the heap.
        if !self.surroundings.has_unit(unit + (class.units() - 1)) {
            return Ok(false);
        }
        let geometry = class.geometry();
        self.surroundings.ensure_states(self.engine.layout.block(geometry, unit))?;
        if !self.exchange(unit, word, word.with(self.own(class))) {
            return Ok(false);
        }
        // Only now: cleared before the claim, by one who then fails or dies, it would be lost.
        self.engine.hints.clear(&self.words, Hint::Shared, unit);
        let number = cache.add(unit, class, self.engine.layout.row(geometry, unit));
        let free_count = cache.slab(number).scan(&self.words);
        if free_count == 0 {
            self.let_go(cache, number);
            return Ok(false);
        }
        cache.set_open(class, number);
        let search = cache.search(class);
        search.is_poor = free_count < u32::from(geometry.capacity) / POOR_SHARE;
        search.cursor = unit + 1;
        Ok(true)
    }

    pub(super) fn clear_stale_shared(&self, unit: Unit) {
        // Noted, for whoever is killed between clearing it and looking again.
        self.noted(Note::Slab(unit), || {
            self.engine
                .hints
                .clear_stale(&self.words, Hint::Shared, unit, || self.load(unit).is_nobodys_slab());
        });
    }

    /// A new slab in the lowest free units.
    fn make_slab(&self, cache: &mut Cache, class: Class) -> Result<Option<SlabNumber>, Fault> {
        let geometry = class.geometry();
        let Some(claimed) = self.claim_run(class.units(), 1)? else { return Ok(None) };
        let unit = claimed.start;
        if let Err(fault) =
            self.surroundings.ensure_states(self.engine.layout.block(geometry, unit))
        {
            self.give_back(claimed);
            return Err(fault);
        }
        self.establish(claimed, self.own(class))?;
        let number = cache.add(unit, class, self.engine.layout.row(geometry, unit));
        // The objects of a unit that was free are all free, so this finds them all; but looking is
        // cheaper than being wrong after a broken process has written there.
        cache.slab(number).scan(&self.words);
        Ok(Some(number))
    }
}
