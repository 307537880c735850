//! What a thread has in hand: its slabs, and which of their objects it may give out.
//!
//! ```text
//!   open, for each class, and for each size up to 1 KiB
//!   +-----------------+
//!   | number of a slab|--------.     slabs
//!   +-----------------+        |     +----------------------------+
//!   of_unit, for each unit     +---->| Owned: objects in hand     |
//!   +-----------------+        |     +----------------------------+
//!   | number of a slab|--------'
//!   +-----------------+
//! ```
//!
//! All of it is private memory of one thread of one process, which nobody else can damage. When the
//! process dies it is simply gone.
//!
//! A thread has one slab *open* for each class, and a few *resting* ones, whose free objects are
//! too few to open them yet. Slab number 0 is none: it has no free object and no unit.
//!
//! [`Cache::alloc`] and [`Cache::free_fast`] change no state when they do not come to their end, so
//! whatever is out of the ordinary is told, or seen to, by doing it again, slowly.

use super::class::{CLASS_COUNT, Class, STEPS_COUNT};
use super::owned::Owned;
use super::pending::Pending;
use super::unit::{Place, Unit};
use crate::error::NotLive;
use crate::segment::states::{State, StateIndex, States};

/// Resting slabs of a class at the most.
const RESTING_MAX: usize = 16;
/// One entry for every class number that seven bits hold, so that no index is out of range.
const OPEN_COUNT: usize = CLASS_COUNT.next_power_of_two();

/// The number of an owned slab in its thread's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlabNumber(u32);

/// The number of the slab that there is none of.
const NONE: SlabNumber = SlabNumber(0);

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

/// What one thread has in hand; see the module's text. What every free needs is one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Cache {
    /// For each unit the number of this thread's slab in it.
    of_unit: Vec<SlabNumber>,
    slabs: Vec<Owned>,
    /// For each size the slab that its next object comes from, by the steps that the size takes.
    open_for: [SlabNumber; STEPS_COUNT],
    /// The same for each class.
    open: [SlabNumber; OPEN_COUNT],
    pending: Pending,
    searches: [Search; OPEN_COUNT],
    resting: [Resting; CLASS_COUNT],
    /// Units of all resting slabs.
    resting_units: u64,
    vacant: Vec<SlabNumber>,
}

impl Cache {
    /// A cache of nothing.
    pub(crate) fn new() -> Self {
        let search = Search { is_poor: false, cursor: Unit(0) };
        let resting = Resting { numbers: [NONE; RESTING_MAX], count: 0 };
        Self {
            of_unit: vec![],
            slabs: vec![Owned::none()],
            open_for: [NONE; STEPS_COUNT],
            open: [NONE; OPEN_COUNT],
            pending: Pending::NONE,
            searches: [search; OPEN_COUNT],
            resting: [resting; CLASS_COUNT],
            resting_units: 0,
            vacant: vec![],
        }
    }

    /// Gives out an object of the class's open slab. `None` if it has none, or a broken process has
    /// written there; the caller sees to more.
    ///
    /// `announce` is called with the object and its state before it lives.
    #[inline]
    pub(crate) fn alloc(
        &mut self,
        states: &impl States,
        class: Class,
        announce: impl FnOnce(Place, State),
    ) -> Option<Place> {
        self.open_slab(class).alloc(states, announce)
    }

    /// As [`alloc`](Self::alloc), for an object that takes so many steps.
    #[inline]
    pub(crate) fn alloc_fast(&mut self, states: &impl States, steps: usize) -> Option<Place> {
        let number = *self.open_for.get(steps)?;
        self.slab(number).alloc(states, |_, _| {})
    }

    /// Frees an object of one of the thread's slabs in which others live; whether that is what it
    /// is.
    #[inline]
    pub(crate) fn free_fast(&mut self, states: &impl States, place: Place) -> bool {
        let Some(&number) = self.of_unit.get(Unit::of(place).0 as usize) else { return false };
        self.slab(number).free(states, place)
    }

    /// Frees an object of one of the thread's slabs, or tells why not.
    pub(crate) fn free(&mut self, states: &impl States, place: Place) -> Freed {
        let Some(number) = self.number_of(Unit::of(place)) else { return Freed::Elsewhere };
        let owned = self.slab(number);
        let Some(index) = owned.index_of(place) else {
            return Freed::NotLive(NotLive::NoObject);
        };
        let at = owned.state_of(index);
        let state = states.load_state(at);
        if !state.is_live() {
            return Freed::NotLive(NotLive::Freed);
        }
        states.store_state(at, state.next());
        owned.take_in_hand(index);
        if owned.is_all_free() { Freed::AllFree(number) } else { Freed::Done }
    }

    /// Whether the place lies in a slab of this thread.
    pub(crate) fn has(&self, place: Place) -> bool {
        self.number_of(Unit::of(place)).is_some()
    }

    #[inline]
    pub(super) fn pending(&mut self) -> &mut Pending {
        &mut self.pending
    }

    fn replace_open(&mut self, class: Class, number: SlabNumber) -> SlabNumber {
        self.open_for[class.steps()].fill(number);
        self.slab(number).set_open(true);
        let before = std::mem::replace(&mut self.open[class.number() % OPEN_COUNT], number);
        self.slab(before).set_open(false);
        before
    }

    /// The slab that objects of the class come from; one without free objects if none is open.
    #[inline]
    pub(super) fn open_slab(&mut self, class: Class) -> &mut Owned {
        let number = self.open[class.number() % OPEN_COUNT];
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

    /// Takes a slab in hand whose states are still to be looked at.
    pub(super) fn add(&mut self, unit: Unit, class: Class, row: StateIndex) -> SlabNumber {
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.slabs.push(Owned::none());
            SlabNumber(self.slabs.len() as u32 - 1)
        });
        self.slab(number).become_slab(unit, class, row);
        let (first, units) = (unit.0 as usize, class.units() as usize);
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
        let (unit, class, is_all_free) = (owned.unit(), owned.class(), owned.is_all_free());
        self.of_unit[unit.0 as usize..][..class.units() as usize].fill(NONE);
        self.vacant.push(number);
        (unit, class, is_all_free)
    }

    /// Opens a slab of the class; none is open.
    pub(super) fn set_open(&mut self, class: Class, number: SlabNumber) {
        self.replace_open(class, number);
    }

    pub(super) fn is_open(&self, class: Class, number: SlabNumber) -> bool {
        self.open[class.number() % OPEN_COUNT] == number
    }

    /// The class's slab is open no more.
    pub(super) fn close(&mut self, class: Class) -> Option<SlabNumber> {
        let number = self.replace_open(class, NONE);
        (number != NONE).then_some(number)
    }

    /// Lets a slab rest. If that makes too many of its class, or more than `units_max` units of all
    /// classes, and its class has another, the oldest of those is returned.
    pub(super) fn rest(
        &mut self,
        class: Class,
        number: SlabNumber,
        units_max: u64,
    ) -> Option<SlabNumber> {
        let is_full = self.resting[class.number()].count == RESTING_MAX
            || self.resting_units + class.units() > units_max;
        let oldest = if is_full { self.oldest_resting(class) } else { None };
        if let Some(oldest) = oldest {
            self.rouse(class, oldest);
        }
        let resting = &mut self.resting[class.number()];
        resting.numbers[resting.count] = number;
        resting.count += 1;
        self.resting_units += class.units();
        oldest
    }

    /// The slab rests no more.
    pub(super) fn rouse(&mut self, class: Class, number: SlabNumber) {
        let resting = &mut self.resting[class.number()];
        if let Some(at) = resting.slabs().iter().position(|&other| other == number) {
            resting.numbers.copy_within(at + 1..resting.count, at);
            resting.count -= 1;
            self.resting_units -= class.units();
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

    /// The open slabs in which nothing lives, as far as this thread knows.
    pub(super) fn idle(&self) -> impl Iterator<Item = (Class, SlabNumber)> {
        Class::all().filter_map(|class| {
            let number = self.open[class.number() % OPEN_COUNT];
            let is_idle = number != NONE && self.slabs[number.0 as usize].is_all_free();
            is_idle.then_some((class, number))
        })
    }

    /// Every slab in hand, none of them open or resting any more.
    pub(super) fn close_all(&mut self) -> Vec<SlabNumber> {
        self.open = [NONE; OPEN_COUNT];
        self.open_for = [NONE; STEPS_COUNT];
        for resting in &mut self.resting {
            resting.count = 0;
        }
        self.resting_units = 0;
        let all = (1..self.slabs.len() as u32).map(SlabNumber);
        all.filter(|number| !self.vacant.contains(number)).collect()
    }
}
