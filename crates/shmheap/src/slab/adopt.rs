//! What becomes of a dead peer's units, and hints recomputed from the truth.
//!
//! Whoever adopts holds the lock of the dead one's record, so there is one at a time, and acts
//! under the dead one's number: killed in the middle, it leaves nothing but more of what it was
//! adopting, and the next goes on.
//!
//! | found | left by a kill in | and becomes |
//! |---|---|---|
//! | note of a slab | release | a hint, if the slab is nobody's and has something free |
//! | note of frees | free | the same for all slabs among the units |
//! | note of a run | the end of a free | hints at those of the units that are free |
//! | slab of the dead | | nobody's, or free units if nothing in it lives |
//! | claim of the dead | allocation | holes: storage for them may or may not be there |
//! | freeing by the dead | free | freed |
//! | rest of the dead, and its run's head does not reach it | allocation, resize | a hole |
//!
//! Live objects stay: their *large* head and the rest behind it are nobody's affair.

use std::ops::Range;

use super::class::Class;
use super::hints::Hint;
use super::owned;
use super::unit::{Place, Unit, UnitWord, Use};
use super::{Note, Surroundings, Worker};
use crate::segment::fault::Fault;
use crate::segment::states::States;
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};

impl<W: Words + States, S: Surroundings> Worker<'_, W, S> {
    /// Looks again at what the threads of the dead peer that this worker acts as have noted. Before
    /// anything else is done for it, since whoever acts as the dead one uses its notes.
    pub(crate) fn adopt_notes(
        &self,
        notes: impl IntoIterator<Item = WordIndex>,
    ) -> Result<(), Fault> {
        self.surroundings.ensure_units(self.end().0)?;
        // Between the frees of the dead one, which its death has made known to this thread alone,
        // and the look at the slabs' owners after: see `release`.
        self.words.fence();
        for at in notes {
            // A note that makes no sense is no reason to leave the dead one's units as they are.
            let _ = self.look_again(at);
            self.words.store(at, 0);
        }
        Ok(())
    }

    /// Adopts the units of the dead peer that this worker acts as.
    ///
    /// Cost: a load for each unit of the heap, and a look at the states of the dead one's slabs.
    pub(crate) fn adopt_units(&self) -> Result<(), Fault> {
        let end = self.end();
        self.surroundings.ensure_units(end.0)?;
        let mut outcome = Ok(());
        for unit in (0..end.0).map(Unit) {
            outcome = outcome.and(self.adopt_unit(unit));
        }
        outcome
    }

    fn look_again(&self, at: WordIndex) -> Result<(), Fault> {
        match Note::read(self.words.load(at)) {
            Some(Note::Slab(unit)) => self.look_for_shared(unit..unit + 1),
            Some(Note::Frees(unit, units)) => self.look_for_shared(unit..unit + units),
            Some(Note::Run(unit, units)) => {
                self.hint_free(unit, units);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Hints at the slabs among the units that are nobody's and have a free object.
    fn look_for_shared(&self, units: Range<Unit>) -> Result<(), Fault> {
        // The dead may have noted anything.
        let end = units.end.min(self.end());
        let mut outcome = Ok(());
        for unit in (units.start.0..end.0).map(Unit) {
            // An owner looks for itself; of a run that is no slab, nothing was freed.
            if let Some(Use::Slab { owner: None, class }) = self.load(unit).get() {
                let looked = self.class_with_states(unit, class);
                outcome = outcome.and(looked.map(|class| self.hint_shared(unit, class)));
            }
        }
        outcome
    }

    fn adopt_unit(&self, unit: Unit) -> Result<(), Fault> {
        let dead = self.actor.peer;
        let word = self.load(unit);
        match word.get() {
            Some(Use::Slab { owner: Some(owner), class }) if owner == dead => {
                let class = self.class_with_states(unit, class)?;
                self.let_go_of(unit, class, self.is_all_free(unit, class));
            }
            Some(Use::Claim { peer, units }) if peer == dead => {
                self.noted(Note::Run(unit, units), || self.free_units(unit, units, Use::Hole));
            }
            Some(Use::Freeing { peer, units }) if peer == dead => self.dismantle(unit, units),
            Some(Use::Rest { peer, distance })
                if peer == dead && !self.is_reached(unit, distance) =>
            {
                self.free_stray(unit, word);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the run whose head is so far before the unit has the unit.
    fn is_reached(&self, unit: Unit, distance: u64) -> bool {
        let head = Unit(unit.0.wrapping_sub(distance));
        let units = match self.load(head).get() {
            Some(Use::Large { units } | Use::Freeing { units, .. }) => units,
            Some(Use::Slab { class, .. }) => {
                Class::from_number(class).map_or(0, |class| class.units())
            }
            // Another's claim of the same head will never reach a unit that is not free; a claim
            // of the dead itself came before the unit in this walk, and is gone.
            _ => 0,
        };
        distance < units
    }

    /// Frees a unit that no head reached after it had that word. If somebody was just freeing the
    /// run, the unit has another word by now, and may be anybody's.
    fn free_stray(&self, unit: Unit, word: UnitWord) {
        self.noted(Note::Run(unit, 1), || {
            if self.exchange(unit, word, word.with(Use::Hole)) {
                self.hint_free(unit, 1);
            }
        });
    }

    /// Whether the place lies in a slab of the peer.
    pub(crate) fn is_owned_by(&self, place: Place, peer: PeerSlot) -> bool {
        let (_, word) = self.engine.head_of(&self.words, Unit::of(place));
        matches!(word.get(), Some(Use::Slab { owner: Some(owner), .. }) if owner == peer)
    }

    fn class_with_states(&self, unit: Unit, class: u64) -> Result<Class, Fault> {
        let class = Class::from_number(class).ok_or(Fault::Damaged("a slab has no size class"))?;
        self.surroundings.ensure_states(self.engine.layout.block(class.geometry(), unit))?;
        Ok(class)
    }

    fn is_all_free(&self, unit: Unit, class: Class) -> bool {
        let row = self.engine.layout.row(class.geometry(), unit);
        let free_count = owned::count_free(&self.words, row, class.geometry());
        u64::from(free_count) == class.capacity()
    }

    /// Recomputes all hints from the truth, and gives back the units of slabs that are nobody's and
    /// have nothing live.
    ///
    /// Cost: a load for each unit of the heap, and a look at the states of each slab that is
    /// nobody's.
    pub(crate) fn sweep(&self) -> Result<(), Fault> {
        let end = self.end();
        self.surroundings.ensure_units(end.0)?;
        let mut outcome = Ok(());
        for unit in (0..end.0).map(Unit) {
            match self.load(unit).get() {
                Some(Use::Free | Use::Hole) => {
                    self.engine.hints.set(&self.words, Hint::Free, unit);
                }
                Some(Use::Slab { owner: None, class }) => {
                    outcome = outcome.and(self.sweep_slab(unit, class));
                }
                _ => {}
            }
        }
        outcome
    }

    fn sweep_slab(&self, unit: Unit, class: u64) -> Result<(), Fault> {
        let class = self.class_with_states(unit, class)?;
        if !self.is_all_free(unit, class) {
            self.hint_shared(unit, class);
            return Ok(());
        }
        let word = self.load(unit);
        let nobodys = Use::Slab { owner: None, class: class.number() as u64 };
        if word.get() == Some(nobodys) && self.exchange(unit, word, word.with(self.own(class))) {
            self.engine.hints.clear(&self.words, Hint::Shared, unit);
            // Nobody allocates in it now; but what was free before the claim may live since.
            self.let_go_of(unit, class, self.is_all_free(unit, class));
        }
        Ok(())
    }

    /// Gives the storage of all free units back to the system: they become holes. Returns how many.
    pub(crate) fn trim(&self) -> Result<u64, Fault> {
        let mut trimmed = 0;
        let end = self.end();
        self.surroundings.ensure_units(end.0)?;
        for unit in (0..end.0).map(Unit) {
            let word = self.load(unit);
            let claim = word.with(Use::Claim { peer: self.actor.peer, units: 1 });
            // Killed from here on, the unit becomes a hole: as such it may have storage or not.
            if word.get() == Some(Use::Free) && self.exchange(unit, word, claim) {
                let discarded = self.surroundings.discard(unit..unit + 1);
                // Also if it seems to have failed: a hole may have storage.
                self.noted(Note::Run(unit, 1), || self.free_units(unit, 1, Use::Hole));
                if !discarded {
                    break;
                }
                trimmed += 1;
            }
        }
        Ok(trimmed)
    }
}
