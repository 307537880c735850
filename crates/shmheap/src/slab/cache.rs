//! What a thread has in hand: its slabs, and which of their objects it may give out.
//!
//! ```text
//!   open, for each class        Owned, for each slab of the thread
//!   +-----------------+         +-----------------------------------------+
//!   | number of a slab|-------->| summary: which words have a bit         |
//!   +-----------------+         | free: a bit for each object, 64 a word  |
//!   of_unit, for each unit      |   alloc: the lowest bit, cleared        |
//!   +-----------------+         |   free:  the object's bit, set          |
//!   | number of a slab|-------->|                                         |
//!   +-----------------+         +-----------------------------------------+
//! ```
//!
//! All of it is private memory of one thread of one process, which nobody else can damage. It says
//! nothing that the shared states do not say as well: an object in it is free in its state, and
//! belongs to a slab whose unit's word names this process. When the process dies it is simply gone.
//!
//! A thread has one slab *open* for each class, and a few *resting* ones, whose free objects are
//! too few to open them yet. Slab number 0 is none: it has no free object and no unit.
//!
//! [`Cache::alloc`] and [`Cache::free_fast`] change no state when they do not come to their end, so
//! whatever is out of the ordinary is told, or seen to, by doing it again, slowly.

use super::class::{CAPACITY_MAX, CLASS_COUNT, Class, Geometry};
use super::free::PENDING_MAX;
use super::unit::{Place, Unit};
use crate::error::NotLive;
use crate::segment::states::{STATES_PER_LINE, State, StateIndex, States};
use crate::units::LINE_BYTES;

/// Words of free bits that the smallest class needs.
const FREE_WORDS: usize = (CAPACITY_MAX / STATES_PER_LINE) as usize;
/// Resting slabs of a class at the most.
pub(super) const RESTING_MAX: usize = 64;
/// One entry for every class number that seven bits hold, so that no index is out of range.
const OPEN_COUNT: usize = CLASS_COUNT.next_power_of_two();

/// The number of an owned slab in its thread's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlabNumber(u32);

/// The number of the slab that there is none of.
const NONE: SlabNumber = SlabNumber(0);

/// A slab of this thread: what every operation needs in the first cache line, and the bit that it
/// changes in another.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Owned {
    start: Place,
    /// The first object's state.
    row: StateIndex,
    geometry: Geometry,
    /// Bit w: word w of `free` is not 0.
    summary: u64,
    /// Objects that have no bit in `free`.
    taken: u32,
    class: Class,
    free: [u64; FREE_WORDS],
}

const _: () = assert!(std::mem::offset_of!(Owned, free) <= LINE_BYTES as usize);

/// What the last search for a slab of others has shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    /// Whether the last slab of others had next to nothing free, so that a new one is better.
    pub(super) is_poor: bool,
    /// Where the last slab of others was found.
    pub(super) cursor: Unit,
}

/// Slabs that rest, the oldest first.
#[derive(Debug, Clone, Copy)]
struct Resting {
    numbers: [SlabNumber; RESTING_MAX],
    count: usize,
}

impl Resting {
    fn slabs(&self) -> &[SlabNumber] {
        &self.numbers[..self.count]
    }
}

/// What became of an object to be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freed {
    /// It is in hand again.
    Done,
    /// It is, and nothing in its slab lives any more.
    AllFree(SlabNumber),
    /// It does not lie in a slab of this thread.
    Elsewhere,
    /// It is no live object.
    NotLive(NotLive),
}

/// Slabs that the thread has freed in, and has still to look whose they are.
#[derive(Debug)]
pub(super) struct Pending {
    units: [Unit; PENDING_MAX],
    count: usize,
    /// Frees since it looked last.
    pub(super) frees: u32,
}

impl Pending {
    const NONE: Self = Self { units: [Unit(0); PENDING_MAX], count: 0, frees: 0 };

    #[inline]
    pub(super) fn last(&self) -> Option<Unit> {
        self.units[..self.count.min(PENDING_MAX)].last().copied()
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == PENDING_MAX
    }

    /// Adds a slab, unless it is there; its number if it is new. There must be room.
    pub(super) fn add(&mut self, unit: Unit) -> Option<usize> {
        let number = self.count;
        if self.units[..number].contains(&unit) {
            return None;
        }
        *self.units.get_mut(number)? = unit;
        self.count += 1;
        Some(number)
    }

    /// Takes all slabs out.
    pub(super) fn take(&mut self) -> PendingUnits {
        let Self { units, count, .. } = std::mem::replace(self, Self::NONE);
        PendingUnits { units, count }
    }
}

/// What [`Pending`] held.
pub(super) struct PendingUnits {
    units: [Unit; PENDING_MAX],
    count: usize,
}

impl std::ops::Deref for PendingUnits {
    type Target = [Unit];

    fn deref(&self) -> &[Unit] {
        &self.units[..self.count]
    }
}

/// What one thread has in hand; see the module's text. What every free needs is one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Cache {
    /// For each unit the number of this thread's slab in it.
    of_unit: Vec<SlabNumber>,
    slabs: Vec<Owned>,
    /// For each class the slab that its next objects come from.
    open: [SlabNumber; OPEN_COUNT],
    pending: Pending,
    searches: [Search; OPEN_COUNT],
    resting: [Resting; CLASS_COUNT],
    vacant: Vec<SlabNumber>,
}

impl Owned {
    /// A slab with nothing known to be free: [`scan`](Self::scan) finds out.
    pub(super) fn new(unit: Unit, class: Class, row: StateIndex) -> Self {
        let (start, geometry) = (unit.start(), *class.geometry());
        let taken = geometry.capacity;
        Self { start, row, geometry, summary: 0, taken, class, free: [0; FREE_WORDS] }
    }

    /// What stands for no slab: no object is found in it.
    fn none() -> Self {
        let none = Self::new(Unit(0), Class::SMALLEST, StateIndex(u64::MAX));
        Self { geometry: Geometry::NONE, taken: 0, ..none }
    }

    /// Adds a free object, which is not counted as taken any more.
    #[inline]
    fn put(&mut self, index: u64) {
        let word = (index / STATES_PER_LINE) as usize % FREE_WORDS;
        self.free[word] |= 1 << (index % STATES_PER_LINE);
        self.summary |= 1 << word;
    }

    /// Takes the free object of the lowest address out.
    #[inline]
    fn take(&mut self) -> Option<u64> {
        if self.summary == 0 {
            return None;
        }
        let word = self.summary.trailing_zeros() as usize;
        let bits = self.free[word];
        let rest = bits & bits.wrapping_sub(1);
        self.free[word] = rest;
        // No branch: whether others are left in the word is as good as random.
        self.summary ^= u64::from(rest == 0) << word;
        self.taken += 1;
        Some(word as u64 * STATES_PER_LINE + u64::from(bits.trailing_zeros()))
    }

    /// Looks at all states anew, which others may have freed; tells how many objects are free.
    pub(super) fn scan(&mut self, states: &impl States) -> u32 {
        let mut free_count = 0;
        self.summary = 0;
        let capacity = u64::from(self.geometry.capacity);
        let lines = capacity.div_ceil(STATES_PER_LINE);
        for (word, line) in self.free.iter_mut().zip(0..lines) {
            let used = (capacity - line * STATES_PER_LINE).min(STATES_PER_LINE);
            let mask = u64::MAX >> (STATES_PER_LINE - used);
            let bits = states.free_states(self.row + line * STATES_PER_LINE) & mask;
            *word = bits;
            self.summary |= u64::from(bits != 0) << line;
            free_count += bits.count_ones();
        }
        self.taken = self.geometry.capacity - free_count;
        free_count
    }

    /// Whether any object has a bit.
    pub(super) fn has_free(&self) -> bool {
        self.summary != 0
    }

    /// How many objects have a bit; where a broken process has written, at least so many.
    pub(super) fn free_count(&self) -> u32 {
        self.geometry.capacity - self.taken
    }

    pub(super) fn class(&self) -> Class {
        self.class
    }

    pub(super) fn is_all_free(&self) -> bool {
        self.taken == 0
    }
}

impl Cache {
    /// A cache of nothing.
    pub(crate) fn new() -> Self {
        let search = Search { is_poor: false, cursor: Unit(0) };
        let resting = Resting { numbers: [NONE; RESTING_MAX], count: 0 };
        Self {
            of_unit: vec![],
            slabs: vec![Owned::none()],
            open: [NONE; OPEN_COUNT],
            pending: Pending::NONE,
            searches: [search; OPEN_COUNT],
            resting: [resting; CLASS_COUNT],
            vacant: vec![],
        }
    }

    /// Gives out the lowest free object of the class's open slab. `None` if it has none, or a
    /// broken process has written there; the caller sees to more.
    ///
    /// `announce` is called with the object and its state before it lives.
    #[inline]
    pub(crate) fn alloc(
        &mut self,
        states: &impl States,
        class: Class,
        announce: impl Fn(Place, State),
    ) -> Option<Place> {
        let owned = self.open_slab(class);
        let index = owned.take()?;
        let at = owned.row + index;
        let state = states.load_state(at);
        if state.is_live() {
            return None;
        }
        let place = Place(owned.start.0 + index * u64::from(owned.geometry.object_bytes));
        announce(place, state);
        states.store_state(at, state.next());
        Some(place)
    }

    /// Frees an object of one of the thread's slabs in which others live; whether that is what it
    /// is.
    #[inline]
    pub(crate) fn free_fast(&mut self, states: &impl States, place: Place) -> bool {
        let Some(&number) = self.of_unit.get(Unit::of(place).0 as usize) else { return false };
        let owned = self.slab(number);
        let within = place.0.wrapping_sub(owned.start.0);
        let Some(index) = owned.geometry.index_of(within) else { return false };
        let at = owned.row + index;
        let state = states.load_state(at);
        // Where a broken process has written, there may be more frees than objects.
        let taken = owned.taken;
        if !state.is_live() || taken <= 1 {
            return false;
        }
        owned.taken = taken - 1;
        states.store_state(at, state.next());
        owned.put(index);
        true
    }

    /// Frees an object of one of the thread's slabs, or tells why not.
    pub(crate) fn free(&mut self, states: &impl States, place: Place) -> Freed {
        let Some(number) = self.number_of(Unit::of(place)) else { return Freed::Elsewhere };
        let owned = self.slab(number);
        let within = place.0.wrapping_sub(owned.start.0);
        let Some(index) = owned.geometry.index_of(within) else {
            return Freed::NotLive(NotLive::NoObject);
        };
        let at = owned.row + index;
        let state = states.load_state(at);
        if !state.is_live() {
            return Freed::NotLive(NotLive::Freed);
        }
        states.store_state(at, state.next());
        owned.taken = owned.taken.saturating_sub(1);
        owned.put(index);
        if owned.is_all_free() { Freed::AllFree(number) } else { Freed::Done }
    }

    #[inline]
    pub(super) fn pending(&mut self) -> &mut Pending {
        &mut self.pending
    }

    #[inline]
    fn open(&mut self, class: Class) -> &mut SlabNumber {
        &mut self.open[class.number() % OPEN_COUNT]
    }

    /// The slab that objects of the class come from; one without free objects if none is open.
    #[inline]
    pub(super) fn open_slab(&mut self, class: Class) -> &mut Owned {
        let number = *self.open(class);
        self.slab(number)
    }

    pub(super) fn search(&mut self, class: Class) -> &mut Search {
        &mut self.searches[class.number() % OPEN_COUNT]
    }

    /// The slab of this thread that a unit belongs to.
    pub(super) fn number_of(&self, unit: Unit) -> Option<SlabNumber> {
        let number = *self.of_unit.get(unit.0 as usize)?;
        (number != NONE).then_some(number)
    }

    /// The slab of that number; numbers are only ever handed out by this cache.
    #[inline]
    pub(super) fn slab(&mut self, number: SlabNumber) -> &mut Owned {
        &mut self.slabs[number.0 as usize]
    }

    /// Takes a slab in hand.
    pub(super) fn add(&mut self, owned: Owned) -> SlabNumber {
        let (first, units) = (Unit::of(owned.start).0 as usize, owned.geometry.units as usize);
        let number = match self.vacant.pop() {
            Some(number) => {
                *self.slab(number) = owned;
                number
            }
            None => {
                self.slabs.push(owned);
                SlabNumber(self.slabs.len() as u32 - 1)
            }
        };
        if self.of_unit.len() < first + units {
            self.of_unit.resize((first + units).next_power_of_two(), NONE);
        }
        self.of_unit[first..first + units].fill(number);
        number
    }

    /// Lets a slab go; it must be neither open nor resting. Tells what it was, and whether nothing
    /// in it lives.
    pub(super) fn remove(&mut self, number: SlabNumber) -> (Unit, Class, bool) {
        let owned = self.slab(number);
        let (unit, class) = (Unit::of(owned.start), owned.class);
        let is_all_free = owned.is_all_free();
        let units = owned.geometry.units as usize;
        self.of_unit[unit.0 as usize..][..units].fill(NONE);
        self.vacant.push(number);
        (unit, class, is_all_free)
    }

    /// Opens a slab of the class; none is open.
    pub(super) fn set_open(&mut self, class: Class, number: SlabNumber) {
        *self.open(class) = number;
    }

    pub(super) fn is_open(&mut self, class: Class, number: SlabNumber) -> bool {
        *self.open(class) == number
    }

    /// The class's slab is open no more.
    pub(super) fn close(&mut self, class: Class) -> Option<SlabNumber> {
        let number = std::mem::replace(self.open(class), NONE);
        (number != NONE).then_some(number)
    }

    /// Lets a slab rest. If there are `limit` resting ones already, the oldest is returned.
    pub(super) fn rest(
        &mut self,
        class: Class,
        number: SlabNumber,
        limit: usize,
    ) -> Option<SlabNumber> {
        let oldest = if self.resting[class.number()].count >= limit.clamp(1, RESTING_MAX) {
            self.resting[class.number()].slabs().first().copied()
        } else {
            None
        };
        if let Some(oldest) = oldest {
            self.rouse(class, oldest);
        }
        let resting = &mut self.resting[class.number()];
        resting.numbers[resting.count] = number;
        resting.count += 1;
        oldest
    }

    /// The slab rests no more.
    pub(super) fn rouse(&mut self, class: Class, number: SlabNumber) {
        let resting = &mut self.resting[class.number()];
        if let Some(at) = resting.slabs().iter().position(|&other| other == number) {
            resting.numbers.copy_within(at + 1..resting.count, at);
            resting.count -= 1;
        }
    }

    /// The resting slab with the most free objects, if it has at least `enough`.
    pub(super) fn best_resting(&mut self, class: Class, enough: u32) -> Option<SlabNumber> {
        let resting = self.resting[class.number()];
        let counted = resting.slabs().iter().filter_map(|&number| {
            let free_count = self.slab(number).free_count();
            (free_count >= enough).then_some((free_count, number))
        });
        counted.max_by_key(|&(free_count, _)| free_count).map(|(_, number)| number)
    }

    pub(super) fn oldest_resting(&self, class: Class) -> Option<SlabNumber> {
        self.resting[class.number()].slabs().first().copied()
    }

    /// Every slab in hand, none of them open or resting any more.
    pub(super) fn close_all(&mut self) -> Vec<SlabNumber> {
        self.open = [NONE; OPEN_COUNT];
        for resting in &mut self.resting {
            resting.count = 0;
        }
        let all = (1..self.slabs.len() as u32).map(SlabNumber);
        all.filter(|number| !self.vacant.contains(number)).collect()
    }
}
