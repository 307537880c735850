//! The records of a heap put into another that nobody uses yet, while processes work in the first.
//!
//! No moment of the heap is copied, for there is no lock to hold it still. Each run of units is
//! copied as it was at a moment of its own:
//!
//! ```text
//!   words of the run -> states of its objects -> words once more: the same? else again
//! ```
//!
//! An object that lives all the time has a slab, or a head, all the time: of the same class and
//! generation, whoever owns the slab. So it is in the copy, with its handle. A run that was seen is
//! passed over as a whole, and what is met that no head reaches becomes a hole; so runs of
//! different moments never overlap, and what came or went meanwhile is there as a whole or not at
//! all. In the copy all slabs are nobody's, and what the heap's processes were in the middle of,
//! claims and frees, are holes as adoption would make them. Free units are holes, too: the copy has
//! storage for what lives. Hints are made anew.
//!
//! What is not live in the copy may be named there, in bytes that are copied later: by the handle
//! of an object that came to that place meanwhile. So all such places are half a round of
//! generations further on in the copy: what it makes there has no such handle soon.

use std::ops::Range;

use super::class::Class;
use super::layout::StateBlock;
use super::resolve::UNIT_GENERATION_BITS;
use super::unit::{Unit, UnitWord, Use};
use super::{Slabs, Surroundings, Worker};
use crate::segment::fault::Fault;
use crate::segment::states::{State, States};
use crate::segment::words::Words;

/// How often a run is looked at that changes each time. None does for long, unless it is damaged.
const LOOKS: u32 = 10_000;
/// Half a round of the generations that units have in handles of small objects.
const FAR: u64 = 1 << (UNIT_GENERATION_BITS - 1);
const BROKEN: Fault = Fault::Damaged("a run of units is not whole");

/// What gives storage to the records of the copy.
pub(crate) trait Site {
    fn ensure_units(&self, end: Unit) -> Result<(), Fault>;
    fn ensure_states(&self, block: StateBlock) -> Result<(), Fault>;
}

/// A run of units as it was at one moment.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    words: Vec<UnitWord>,
    class: Option<Class>,
    states: Vec<State>,
}

impl<W: Words + States, S: Surroundings> Worker<'_, W, S> {
    /// Copies the records to zeroed ones, `site` being what has storage for these. Returns the
    /// units that have something in them.
    pub(crate) fn copy_to(
        &self,
        target: &(impl Words + States),
        site: &impl Site,
    ) -> Result<Vec<Range<Unit>>, Fault> {
        let mut end = self.ensured_end(site)?;
        let mut filled = vec![];
        let mut unit = Unit(0);
        while unit < end {
            let Some(seen) = self.see(unit, end)? else {
                let longer = self.ensured_end(site)?;
                if longer <= end {
                    return Err(BROKEN);
                }
                end = longer;
                continue;
            };
            let after = unit + seen.words.len() as u64;
            if self.engine.put(target, unit, &seen, site)? {
                filled.push(unit..after);
            }
            unit = after;
        }
        target.store(self.engine.length, end.start().0);
        Ok(filled)
    }

    /// The end of the heap now, up to which both have storage for records.
    fn ensured_end(&self, site: &impl Site) -> Result<Unit, Fault> {
        let end = self.end();
        self.surroundings.ensure_units(end.0)?;
        site.ensure_units(end)?;
        Ok(end)
    }

    /// The run that begins at the unit, or the unit alone if none does; `None` if it reaches beyond
    /// the end.
    fn see(&self, unit: Unit, end: Unit) -> Result<Option<Seen>, Fault> {
        for _ in 0..LOOKS {
            let word = self.load(unit);
            let (class, units) = match word.get() {
                Some(Use::Slab { class, .. }) => {
                    let class = Class::from_number(class);
                    let class = class.ok_or(Fault::Damaged("a slab has no size class"))?;
                    (Some(class), class.units())
                }
                Some(Use::Large { units }) => (None, units),
                _ => return Ok(Some(Seen { words: vec![word], class: None, states: vec![] })),
            };
            if units == 0 {
                return Err(BROKEN);
            }
            if units > end.0 - unit.0 {
                return Ok(None);
            }
            let Some(words) = self.run(unit, word, units) else { continue };
            let states = match class {
                Some(class) => self.states_of(unit, class)?,
                None => vec![],
            };
            if self.run(unit, self.load(unit), units).as_ref() == Some(&words) {
                return Ok(Some(Seen { words, class, states }));
            }
        }
        Err(BROKEN)
    }

    /// The words of a run with that head, if all of it is there; who owns it is left out.
    fn run(&self, unit: Unit, head: UnitWord, units: u64) -> Option<Vec<UnitWord>> {
        let head = match head.get()? {
            Use::Slab { class, .. } => head.with(Use::Slab { owner: None, class }),
            Use::Large { .. } => head,
            _ => return None,
        };
        let mut words = vec![head];
        for distance in 1..units {
            let word = self.load(unit + distance);
            match word.get()? {
                Use::Rest { distance: found, .. } if found == distance => words.push(word),
                _ => return None,
            }
        }
        Some(words)
    }

    fn states_of(&self, unit: Unit, class: Class) -> Result<Vec<State>, Fault> {
        self.surroundings.ensure_states(self.engine.layout.block(class.geometry(), unit))?;
        let row = self.engine.layout.row(class.geometry(), unit);
        Ok((0..class.capacity()).map(|number| self.words.load_state(row + number)).collect())
    }
}

impl Slabs {
    /// Whether what was put there is more than holes.
    fn put(
        &self,
        target: &(impl Words + States),
        unit: Unit,
        seen: &Seen,
        site: &impl Site,
    ) -> Result<bool, Fault> {
        let is_filled = match (seen.words[0].get(), seen.class) {
            (Some(Use::Large { .. }), _) => true,
            (_, Some(_)) => seen.states.iter().any(|state| state.is_live()),
            _ => false,
        };
        for (number, &word) in (0..).zip(&seen.words) {
            let word = if is_filled { word } else { word.later(FAR, Use::Hole) };
            target.store(self.word_of(unit + number), word.0);
        }
        if let Some(class) = seen.class.filter(|_| is_filled) {
            site.ensure_states(self.layout.block(class.geometry(), unit))?;
            let row = self.layout.row(class.geometry(), unit);
            for (number, &state) in (0..).zip(&seen.states) {
                target.store_state(row + number, if state.is_live() { state } else { state.far() });
            }
        }
        Ok(is_filled)
    }
}
