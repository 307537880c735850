//! Large objects: runs of units, the lowest that are free.
//!
//! The head's word makes the object: it lives from the exchange that says *large* to the one that
//! says *freeing*. Resized in place, its units follow the word when it grows and precede it when it
//! shrinks:
//!
//! ```text
//!   grow      large 2, rest 1, free     ->  large 2, rest 1, rest 2 of p  ->  large 3
//!   shrink    large 3, rest 1, rest 2   ->  rest 2 made p's  ->  large 2  ->  rest 2 freed
//! ```
//!
//! A *rest* word that no head reaches is freed by whoever adopts its peer, so a killed resize
//! leaves the object with the old or the new size and nothing else.

use super::unit::{Place, UNIT_BYTES, Unit, Use};
use super::{Note, Surroundings, Worker};
use crate::error::NotLive;
use crate::segment::fault::Fault;
use crate::segment::states::States;
use crate::segment::words::Words;

/// Alignments go up to a huge page.
pub(crate) const ALIGN_BYTES_MAX: u64 = 2 << 20;

impl<W: Words + States, S: Surroundings> Worker<'_, W, S> {
    /// Allocates an object of whole units, aligned to `align_bytes`; `None` if there is no room
    /// without growth.
    ///
    /// `announce` is called with the object and its generation before it lives.
    pub(crate) fn alloc_large(
        &self,
        size_bytes: u64,
        align_bytes: u64,
        announce: impl Fn(Place, u64),
    ) -> Result<Option<Place>, Fault> {
        let units = size_bytes.div_ceil(UNIT_BYTES).max(1);
        let align_units = align_bytes.div_ceil(UNIT_BYTES).max(1);
        let Some(claimed) = self.claim_run(units, align_units)? else { return Ok(None) };
        let becomes = Use::Large { units };
        let place = claimed.start.start();
        announce(place, self.load(claimed.start).next(becomes).generation());
        self.establish(claimed, becomes)?;
        Ok(Some(place))
    }

    /// Frees the large object at `unit`, which had so many units a moment ago.
    pub(super) fn free_large(&self, unit: Unit, units: u64) -> Result<(), Fault> {
        let word = self.load(unit);
        let freeing = word.with(Use::Freeing { peer: self.actor.peer, units });
        if word.get() != Some(Use::Large { units }) || !self.exchange(unit, word, freeing) {
            return Err(Fault::NotLive(NotLive::Freed));
        }
        self.dismantle(unit, units);
        Ok(())
    }

    /// Makes the large object at `unit` `new_units` units long without moving it; whether it did.
    pub(crate) fn resize_large(
        &self,
        unit: Unit,
        old_units: u64,
        new_units: u64,
    ) -> Result<bool, Fault> {
        if new_units > old_units {
            return self.lengthen(unit, old_units, new_units);
        }
        let peer = self.actor.peer;
        for distance in new_units..old_units {
            let word = self.load(unit + distance);
            let is_rest =
                matches!(word.get(), Some(Use::Rest { distance: found, .. }) if found == distance);
            let owned = word.with(Use::Rest { peer, distance });
            if !is_rest || (word != owned && !self.exchange(unit + distance, word, owned)) {
                return Err(Fault::Damaged("a unit of a large object belongs to somebody else"));
            }
        }
        if self.set_units(unit, old_units, new_units) {
            self.free_rest(unit, new_units, old_units);
            return Ok(true);
        }
        Err(Fault::NotLive(NotLive::Freed))
    }

    fn lengthen(&self, unit: Unit, old_units: u64, new_units: u64) -> Result<bool, Fault> {
        let peer = self.actor.peer;
        // The length as it is now may be damage, so it must have been verified as well.
        let end = unit + new_units;
        if end > self.end() || !self.surroundings.has_unit(unit + (new_units - 1)) {
            return Ok(false);
        }
        let mut has_holes = false;
        let mut claimed = old_units;
        while claimed < new_units {
            let word = self.load(unit + claimed);
            let is_free = matches!(word.get(), Some(Use::Free | Use::Hole));
            let rest = word.with(Use::Rest { peer, distance: claimed });
            if !is_free || !self.exchange(unit + claimed, word, rest) {
                break;
            }
            has_holes |= word.get() == Some(Use::Hole);
            claimed += 1;
        }
        let reserved = match has_holes {
            true => self.surroundings.reserve(unit + old_units..unit + claimed),
            false => Ok(()),
        };
        let becomes = if has_holes { Use::Hole } else { Use::Free };
        if claimed == new_units && reserved.is_ok() {
            let added = new_units - old_units;
            self.engine.hints.clear_free(&self.words, unit + old_units, added);
            if self.set_units(unit, old_units, new_units) {
                return Ok(true);
            }
        }
        self.free_rest_as(unit, old_units, claimed, becomes);
        reserved.map(|()| false)
    }

    /// Changes the size in the head's word; whether it was the old one.
    fn set_units(&self, unit: Unit, old_units: u64, new_units: u64) -> bool {
        let word = self.load(unit);
        word.get() == Some(Use::Large { units: old_units })
            && self.exchange(unit, word, word.with(Use::Large { units: new_units }))
    }

    fn free_rest(&self, head: Unit, from: u64, to: u64) {
        self.free_rest_as(head, from, to, Use::Free);
    }

    /// Frees the units behind a run's head that are not, or no longer, the run's.
    fn free_rest_as(&self, head: Unit, from: u64, to: u64, becomes: Use) {
        if from == to {
            return;
        }
        self.noted(Note::Run(head + from, to - from), || {
            for distance in (from..to).rev() {
                let word = self.load(head + distance);
                let own = Use::Rest { peer: self.actor.peer, distance };
                if word.get() == Some(own) {
                    self.exchange(head + distance, word, word.with(becomes));
                }
            }
            self.hint_free(head + from, to - from);
        });
    }
}
