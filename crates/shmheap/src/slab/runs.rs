//! Runs: neighbouring units claimed together, at the lowest place that has them.
//!
//! ```text
//!   claim      free free free  ->  claim free free  ->  claim rest free  ->  claim rest rest
//!   establish  claim rest rest ->  slab or large, rest, rest
//!   dismantle  freeing rest rest -> freeing rest free -> freeing free free -> free free free
//! ```
//!
//! Whoever meets a unit that another was faster to claim gives its own back and goes on behind it;
//! nobody waits. The head is claimed first and freed last, so the units of a run are found from its
//! head as long as any of them belongs to it; and since each *rest* word names its distance, one
//! that has been freed and claimed again is not taken for a part of the old run.

use super::hints::{Hint, NextFree};
use super::layout::GROUP_UNITS;
use super::unit::{Unit, Use};
use super::{Note, Surroundings, Worker};
use crate::segment::fault::Fault;
use crate::segment::states::States;
use crate::segment::words::Words;

/// Units that this thread has claimed; the head's word says *claim*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claimed {
    pub(super) start: Unit,
    pub(super) units: u64,
    /// Some of them may have no storage.
    has_holes: bool,
}

impl<W: Words + States, S: Surroundings> Worker<'_, W, S> {
    /// Claims the lowest run of `units` units that starts at a multiple of `align_units`, with
    /// storage; `None` if there is none.
    pub(super) fn claim_run(&self, units: u64, align_units: u64) -> Result<Option<Claimed>, Fault> {
        let end = self.end();
        self.surroundings.ensure_units(end.0)?;
        let mut from = Unit(0);
        let mut without_storage = None;
        while let Some(start) = self.find_run(from, units, align_units, end) {
            match self.try_claim(start, units) {
                Ok(claimed) => match self.with_storage(claimed) {
                    Ok(claimed) => return Ok(Some(claimed)),
                    // The system has none for its holes; others may need none.
                    Err(fault) => {
                        without_storage = Some(fault);
                        from = start + 1;
                    }
                },
                Err(obstacle) => from = obstacle + 1,
            }
        }
        without_storage.map_or(Ok(None), Err)
    }

    /// The lowest place from `from` on that the hints have for the run.
    fn find_run(&self, from: Unit, units: u64, align_units: u64, end: Unit) -> Option<Unit> {
        let hints = &self.engine.hints;
        let mut at = from;
        loop {
            let free = match hints.next_free(&self.words, at, end) {
                NextFree::Unit(free) => free,
                NextFree::None => return None,
                NextFree::Stale(group_start) => {
                    self.noted(Note::Run(group_start, GROUP_UNITS), || {
                        hints.clear_stale_group(&self.words, group_start);
                    });
                    at = group_start + GROUP_UNITS;
                    continue;
                }
            };
            let start = if align_units > 1 || units > GROUP_UNITS {
                Unit(free.0.next_multiple_of(align_units))
            } else if let Some(start) = hints.next_start(&self.words, free, units) {
                start
            } else {
                at = Unit((free.0 / GROUP_UNITS + 1) * GROUP_UNITS);
                continue;
            };
            let run_end = Unit(start.0.checked_add(units)?);
            if run_end > end {
                return None;
            }
            let obstacle = hints.next_not_free(&self.words, start, run_end);
            if obstacle == run_end {
                return Some(start);
            }
            at = obstacle.max(free + 1);
        }
    }

    /// Claims the units one by one from the head on; an error names the one that is not free.
    fn try_claim(&self, start: Unit, units: u64) -> Result<Claimed, Unit> {
        let peer = self.actor.peer;
        let mut has_holes = false;
        for distance in 0..units {
            let unit = start + distance;
            let word = self.load(unit);
            let becomes = match distance {
                0 => Use::Claim { peer, units },
                _ => Use::Rest { peer, distance },
            };
            let is_free = matches!(word.get(), Some(Use::Free | Use::Hole));
            if !is_free || !self.exchange(unit, word, word.with(becomes)) {
                self.clear_stale_free(unit);
                if distance > 0 {
                    self.give_back(Claimed { start, units: distance, has_holes });
                }
                return Err(unit);
            }
            has_holes |= word.get() == Some(Use::Hole);
        }
        self.engine.hints.clear_free(&self.words, start, units);
        Ok(Claimed { start, units, has_holes })
    }

    fn clear_stale_free(&self, unit: Unit) {
        // Noted, for whoever is killed between clearing it and looking again.
        self.noted(Note::Run(unit, 1), || {
            self.engine.hints.clear_stale(&self.words, Hint::Free, unit, || {
                matches!(self.load(unit).get(), Some(Use::Free | Use::Hole))
            });
        });
    }

    /// Gives back a run whose claim came to nothing. Holes among its units are holes no longer by
    /// their words, so all of them become holes.
    pub(super) fn give_back(&self, claimed: Claimed) {
        let Claimed { start, units, has_holes } = claimed;
        let becomes = if has_holes { Use::Hole } else { Use::Free };
        self.noted(Note::Run(start, units), || self.free_units(start, units, becomes));
    }

    /// Reserves storage for the holes of a run; without it the run is given back.
    fn with_storage(&self, claimed: Claimed) -> Result<Claimed, Fault> {
        let Claimed { start, units, has_holes } = claimed;
        if has_holes && let Err(fault) = self.surroundings.reserve(start..start + units) {
            self.give_back(claimed);
            return Err(fault);
        }
        Ok(Claimed { has_holes: false, ..claimed })
    }

    /// Makes a claimed run what it is claimed for; its next generation.
    pub(super) fn establish(&self, claimed: Claimed, becomes: Use) -> Result<u64, Fault> {
        let word = self.load(claimed.start);
        let established = word.next(becomes);
        if word.get() != Some(Use::Claim { peer: self.actor.peer, units: claimed.units })
            || !self.exchange(claimed.start, word, established)
        {
            return Err(Fault::Damaged("a unit that was just claimed belongs to somebody else"));
        }
        Ok(established.generation())
    }

    /// Frees the units of a run whose head's word says *freeing* and names this peer.
    pub(super) fn dismantle(&self, start: Unit, units: u64) {
        self.noted(Note::Run(start, units), || self.free_units(start, units, Use::Free));
    }

    /// The units of the run become `becomes`, the head last. Done again by whoever adopts this.
    pub(super) fn free_units(&self, start: Unit, units: u64, becomes: Use) {
        // The dead may have left any number.
        let units = units.min(self.end().0.saturating_sub(start.0));
        for distance in (1..units).rev() {
            let word = self.load(start + distance);
            if matches!(word.get(), Some(Use::Rest { distance: found, .. }) if found == distance) {
                // Nobody else changes a word of a run that is this peer's; if a broken process has
                // done so, the unit is not this run's to free.
                self.exchange(start + distance, word, word.with(becomes));
            }
        }
        let word = self.load(start);
        if matches!(word.get(), Some(Use::Claim { .. } | Use::Freeing { .. })) {
            self.exchange(start, word, word.with(becomes));
        }
        self.hint_free(start, units);
    }

    /// Hints at those of the units that are free.
    pub(super) fn hint_free(&self, start: Unit, units: u64) {
        // The dead may have noted any number.
        let end = (start + units).min(self.end());
        let count = end.0.saturating_sub(start.0);
        self.engine.hints.set_free_where(&self.words, start, count, |unit| {
            matches!(self.load(unit).get(), Some(Use::Free | Use::Hole))
        });
    }
}
