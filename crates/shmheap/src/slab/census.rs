//! The census: what a heap holds, unit by unit, and every rule that the units break.
//!
//! It trusts nothing it reads, writes nothing, and ends after a time that depends only on the
//! heap's length. Other processes go on meanwhile: what they change may be counted before or after,
//! and a unit in the middle of a change may look like a flaw, which another census will not find.
//!
//! | rule | what must hold |
//! |---|---|
//! | `length` | the length is a whole number of units and no more than the most |
//! | `unit` | a unit's word is one of those that are written, and its operand possible |
//! | `run` | every unit of a run is at its distance from the head, and belongs to one run |
//! | `owner` | a unit under change, or a slab's owner, is a peer that is joined |
//! | `beyond` | no state behind the last object of a slab says live |
//! | `hint` | a free unit, and a slab that is nobody's with a free object, are hinted at or noted |

use std::collections::BTreeSet;

use super::Note;
use super::Slabs;
use super::class::{CLASS_COUNT, Class};
use super::hints::Hint;
use super::layout::StateBlock;
use super::unit::{UNIT_BYTES, UNIT_SHIFT, Unit, Use};
use crate::segment::fault::Fault;
use crate::segment::states::{STATES_PER_LINE, States};
use crate::segment::words::Words;
use crate::units::{Offset, PeerSlot, WordIndex};

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) rule: &'static str,
    /// The record that breaks it.
    pub(crate) at: Offset,
    pub(crate) detail: String,
}

/// What there is of one size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClassCensus {
    /// Slabs with an owner, and those that are nobody's.
    pub(crate) owned_slabs: u64,
    pub(crate) shared_slabs: u64,
    pub(crate) live: u64,
    /// Free objects in slabs with an owner, and in those that are nobody's.
    pub(crate) free_owned: u64,
    pub(crate) free_shared: u64,
}

impl ClassCensus {
    pub(crate) fn slabs(self) -> u64 {
        self.owned_slabs + self.shared_slabs
    }

    fn free(self) -> u64 {
        self.free_owned + self.free_shared
    }
}

/// What a heap holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) classes: [ClassCensus; CLASS_COUNT],
    /// Live objects in slabs of each peer, by its slot.
    pub(crate) live_of_peer: Vec<(PeerSlot, u64)>,
    pub(crate) large_objects: u64,
    pub(crate) large_units: u64,
    pub(crate) free_units: u64,
    /// Those of the free units that have no storage now.
    pub(crate) hole_units: u64,
    /// Units that are being claimed or freed.
    pub(crate) moving_units: u64,
    /// Runs of free units, and the units of the longest.
    pub(crate) free_runs: u64,
    pub(crate) longest_free_units: u64,
    /// Bytes of states that have storage on behalf of slabs.
    pub(crate) state_bytes: u64,
    /// A peer that is not alive has units.
    pub(crate) is_recovery_pending: bool,
    /// The threads' notes, before anything else was looked at here.
    notes: Vec<Note>,
    pub(crate) flaws: Vec<Flaw>,
    pub(crate) more_flaws: bool,
    flaws_max: usize,
}

impl Census {
    pub(crate) fn live_objects(&self) -> u64 {
        self.classes.iter().map(|class| class.live).sum::<u64>() + self.large_objects
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        let small: u64 = self.of_classes().map(|(class, of)| of.live * class.object_bytes()).sum();
        small + self.large_units * UNIT_BYTES
    }

    /// Bytes in free objects and free units.
    pub(crate) fn free_bytes(&self) -> u64 {
        let small: u64 =
            self.of_classes().map(|(class, of)| of.free() * class.object_bytes()).sum();
        small + self.free_units * UNIT_BYTES
    }

    /// Bytes behind the last objects of slabs.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.of_classes().map(|(class, of)| of.slabs() * class.tail_bytes()).sum()
    }

    /// Objects of slabs, live and free, large objects, and runs of free units.
    pub(crate) fn blocks(&self) -> u64 {
        let small: u64 = self.classes.iter().map(|of| of.live + of.free()).sum();
        small + self.large_objects + self.free_runs
    }

    pub(crate) fn of_classes(&self) -> impl Iterator<Item = (Class, ClassCensus)> {
        Class::all().zip(self.classes)
    }

    /// Whether a thread will see to that hint of the unit, or whoever adopts it.
    fn is_noted(&self, hint: Hint, unit: Unit) -> bool {
        self.notes.iter().any(|note| note.is_about(hint, unit))
    }

    fn flaw(&mut self, rule: &'static str, at: WordIndex, detail: String) {
        if self.flaws.len() < self.flaws_max {
            self.flaws.push(Flaw { rule, at: at.offset(), detail });
        } else {
            self.more_flaws = true;
        }
    }
}

/// What the census asks about the world.
pub(crate) trait Registry {
    /// Whether the peer is joined, and whether it lives.
    fn peer(&self, peer: PeerSlot) -> PeerStanding;

    /// The words of the threads' notes.
    fn notes(&self) -> Vec<u64>;

    /// As [`Surroundings::ensure_states`](super::Surroundings::ensure_states), without the right to
    /// reserve anything, perhaps.
    fn ensure_states(&self, block: StateBlock) -> Result<(), Fault>;
}

/// How a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerStanding {
    Alive,
    Dead,
    /// Nobody is joined under that number.
    Unknown,
}

impl Slabs {
    /// Counts the first `end` units and lists at most `flaws_max` flaws.
    pub(crate) fn census(
        &self,
        words: &(impl Words + States),
        registry: &impl Registry,
        end: Unit,
        flaws_max: usize,
    ) -> Census {
        let mut census = Census {
            classes: [ClassCensus::default(); CLASS_COUNT],
            live_of_peer: vec![],
            large_objects: 0,
            large_units: 0,
            free_units: 0,
            hole_units: 0,
            moving_units: 0,
            free_runs: 0,
            longest_free_units: 0,
            state_bytes: 0,
            is_recovery_pending: false,
            notes: registry.notes().into_iter().filter_map(Note::read).collect(),
            flaws: vec![],
            more_flaws: false,
            flaws_max,
        };
        self.census_length(words, &mut census);
        let mut unit = Unit(0);
        let mut free_run = 0;
        let mut blocks = BTreeSet::new();
        while unit < end {
            if let Some(Use::Slab { class, .. }) = self.load(words, unit).get()
                && let Some(class) = Class::from_number(class)
            {
                let block = self.layout.block(class.geometry(), unit);
                if blocks.insert(block.0) {
                    let bytes = self.layout.block_bytes(block);
                    census.state_bytes += bytes.end - bytes.start;
                }
            }
            let units = self.census_run(words, registry, unit, end, &mut census);
            let is_free = matches!(self.load(words, unit).get(), Some(Use::Free | Use::Hole));
            census.free_runs += u64::from(is_free && free_run == 0);
            free_run = if is_free { free_run + units } else { 0 };
            census.longest_free_units = census.longest_free_units.max(free_run);
            unit = unit + units;
        }
        census
    }

    fn census_length(&self, words: &impl Words, census: &mut Census) {
        let bytes = words.load(self.length);
        if !bytes.is_multiple_of(UNIT_BYTES) || bytes >> UNIT_SHIFT > self.layout.units_max {
            let most = self.layout.units_max;
            census.flaw("length", self.length, format!("{bytes} bytes, at most {most} units"));
        }
    }

    /// Counts the run that starts at `unit`; how many units it has.
    fn census_run(
        &self,
        words: &(impl Words + States),
        registry: &impl Registry,
        unit: Unit,
        end: Unit,
        census: &mut Census,
    ) -> u64 {
        let word = self.load(words, unit);
        let at = self.word_of(unit);
        let Some(found) = word.get() else {
            census.flaw("unit", at, format!("unit {} has the word {:#x}", unit.0, word.0));
            return 1;
        };
        match found {
            Use::Free | Use::Hole => {
                census.free_units += 1;
                census.hole_units += u64::from(found == Use::Hole);
                if !self.hints.is_set(words, Hint::Free, unit) && !census.is_noted(Hint::Free, unit)
                {
                    census.flaw("hint", at, format!("unit {} is free without a hint", unit.0));
                }
                1
            }
            Use::Slab { owner, class } => {
                let Some(class) = Class::from_number(class) else {
                    census.flaw("unit", at, format!("unit {} is of no size class", unit.0));
                    return 1;
                };
                self.census_slab(words, registry, unit, owner, class, census);
                self.census_rest(words, unit, class.units(), end, census)
            }
            Use::Large { units } => {
                census.large_objects += 1;
                let counted = self.census_rest(words, unit, units, end, census);
                census.large_units += counted;
                counted
            }
            Use::Claim { peer, .. } | Use::Freeing { peer, .. } | Use::Rest { peer, .. } => {
                self.census_moving(registry, unit, peer, census);
                1
            }
        }
    }

    /// A unit on its way from one use to another.
    fn census_moving(
        &self,
        registry: &impl Registry,
        unit: Unit,
        peer: PeerSlot,
        census: &mut Census,
    ) {
        census.moving_units += 1;
        match registry.peer(peer) {
            // On its way, however long the peer takes: it may be stopped.
            PeerStanding::Alive => {}
            PeerStanding::Dead => census.is_recovery_pending = true,
            PeerStanding::Unknown => {
                let detail = format!("unit {} is peer {}'s, who is not joined", unit.0, peer.0);
                census.flaw("owner", self.word_of(unit), detail);
            }
        }
    }

    /// Checks the units behind the head of a run; how many units the run has.
    fn census_rest(
        &self,
        words: &impl Words,
        head: Unit,
        units: u64,
        end: Unit,
        census: &mut Census,
    ) -> u64 {
        let most = end.0 - head.0;
        if units == 0 || units > most {
            let detail = format!("a run of {units} units at unit {} of {}", head.0, end.0);
            census.flaw("unit", self.word_of(head), detail);
        }
        let units = units.clamp(1, most);
        for distance in 1..units {
            let word = self.load(words, head + distance);
            if !matches!(word.get(), Some(Use::Rest { distance: found, .. }) if found == distance) {
                let detail = format!("unit {} behind the head {} has {word:x?}", distance, head.0);
                census.flaw("run", self.word_of(head + distance), detail);
            }
        }
        units
    }

    fn census_slab(
        &self,
        words: &(impl Words + States),
        registry: &impl Registry,
        unit: Unit,
        owner: Option<PeerSlot>,
        class: Class,
        census: &mut Census,
    ) {
        let geometry = class.geometry();
        let at = self.word_of(unit);
        if let Err(fault) = registry.ensure_states(self.layout.block(geometry, unit)) {
            census.flaw(
                "unit",
                at,
                format!("no storage for the states of unit {}: {fault:?}", unit.0),
            );
            return;
        }
        let (live, beyond) = self.count_live(words, unit, class);
        if beyond > 0 {
            let detail = format!("{beyond} live states behind the slab at unit {}", unit.0);
            census.flaw("beyond", at, detail);
        }
        let free = class.capacity() - live;
        let of_class = &mut census.classes[class.number()];
        of_class.live += live;
        let Some(owner) = owner else {
            of_class.shared_slabs += 1;
            of_class.free_shared += free;
            let is_hinted_at = self.hints.is_set(words, Hint::Shared, unit);
            if free > 0 && !is_hinted_at && !census.is_noted(Hint::Shared, unit) {
                let detail =
                    format!("the slab at unit {} has {free} free objects, no hint", unit.0);
                census.flaw("hint", at, detail);
            }
            return;
        };
        of_class.owned_slabs += 1;
        of_class.free_owned += free;
        match census.live_of_peer.iter_mut().find(|(peer, _)| *peer == owner) {
            Some((_, count)) => *count += live,
            None => census.live_of_peer.push((owner, live)),
        }
        match registry.peer(owner) {
            PeerStanding::Alive => {}
            PeerStanding::Dead => census.is_recovery_pending = true,
            PeerStanding::Unknown => {
                let detail =
                    format!("the slab at unit {} is peer {}'s, who is not joined", unit.0, owner.0);
                census.flaw("owner", at, detail);
            }
        }
    }

    /// Live objects of a slab, and states behind its last object that say live.
    fn count_live(&self, words: &impl States, unit: Unit, class: Class) -> (u64, u64) {
        let geometry = class.geometry();
        let row = self.layout.row(geometry, unit);
        let (mut live, mut beyond) = (0, 0);
        for first in (0..class.capacity()).step_by(STATES_PER_LINE as usize) {
            let used = (class.capacity() - first).min(STATES_PER_LINE);
            let mask = u64::MAX >> (STATES_PER_LINE - used);
            let bits = !words.free_states(row + first);
            live += u64::from((bits & mask).count_ones());
            beyond += u64::from((bits & !mask).count_ones());
        }
        (live, beyond)
    }
}
