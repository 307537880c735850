//! What a thread has in hand: its slabs, and which of their objects it may give out.
//!
//! ```text
//!   Open, one for each class                Owned, one for each slab of the thread
//!   +------------------------+             +------------------------------------------+
//!   | free objects: one word |<- a word --<| free objects: up to 64 words, and a      |
//!   | of bits of one slab    |  at a time  | summary of them         free <- put      |
//!   +------------------------+             +------------------------------------------+
//!      alloc: lowest bit                      free: set a bit
//! ```
//!
//! All of it is private memory of one thread of one process, which nobody else can damage. It says
//! nothing that the shared states do not say as well: an object in it is free in its state, and
//! belongs to a slab whose unit's word names this process. When the process dies it is simply gone.
//!
//! A thread has one slab *open* for each class, and a few *resting* ones, whose free objects are
//! too few to open them yet.

use super::free::PENDING_MAX;
use super::class::{CAPACITY_MAX, CLASS_COUNT, Class, Geometry};
use super::unit::{Place, Unit};
use crate::segment::states::{STATES_PER_LINE, StateIndex, States};

/// Words of free bits that the smallest class needs.
const FREE_WORDS: usize = (CAPACITY_MAX / STATES_PER_LINE) as usize;
/// Resting slabs of a class at the most.
pub(super) const RESTING_MAX: usize = 8;
/// One entry for every class number that seven bits hold, so that no index is out of range.
const OPEN_COUNT: usize = CLASS_COUNT.next_power_of_two();

/// The number of an owned slab in its thread's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlabNumber(u32);

/// A slab of this thread.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) unit: Unit,
    pub(super) class: Class,
    pub(super) geometry: Geometry,
    /// The first object's state.
    pub(super) row: StateIndex,
    /// Free objects, those in the class's `Open` not among them.
    pub(super) free_count: u64,
    /// Bit w: word w of `free` is not 0.
    summary: u64,
    free: [u64; FREE_WORDS],
}

/// Free objects of the open slab: those of one word of its states.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    /// Bit i: object i of the word is free.
    pub(super) free: u64,
    /// The word's first object.
    pub(super) first: Place,
    /// The word's first state.
    pub(super) states: StateIndex,
    pub(super) object_bytes: u64,
    /// The slab, unless there is none.
    pub(super) slab: Option<SlabNumber>,
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

/// What one thread has in hand; see the module's text.
#[derive(Debug)]
pub(crate) struct Cache {
    pending: Pending,
    open: [Open; OPEN_COUNT],
    resting: [Resting; CLASS_COUNT],
    slabs: Vec<Option<Box<Owned>>>,
    vacant: Vec<SlabNumber>,
    /// For each unit the number of the slab in it plus one, 0 if it is none of this thread's.
    of_unit: Vec<u32>,
}

impl Owned {
    /// A slab with nothing known to be free: [`scan`](Self::scan) finds out.
    pub(super) fn new(unit: Unit, class: Class, row: StateIndex) -> Self {
        let geometry = *class.geometry();
        Self { unit, class, geometry, row, free_count: 0, summary: 0, free: [0; FREE_WORDS] }
    }

    /// Adds a free object; tells how many there are.
    #[inline]
    pub(super) fn put(&mut self, index: u64) -> u64 {
        let word = (index / STATES_PER_LINE) as usize % FREE_WORDS;
        self.free[word] |= 1 << (index % STATES_PER_LINE);
        self.summary |= 1 << word;
        self.free_count += 1;
        self.free_count
    }

    /// Takes a word of free objects out, the one of the lowest address; its number and its bits.
    #[inline]
    fn take_word(&mut self) -> Option<(u64, u64)> {
        if self.summary == 0 {
            return None;
        }
        let word = self.summary.trailing_zeros() as usize;
        self.summary &= self.summary - 1;
        let bits = std::mem::take(&mut self.free[word]);
        self.free_count -= u64::from(bits.count_ones());
        Some((word as u64, bits))
    }

    /// Looks at all states anew, which others may have freed; tells how many objects are free.
    ///
    /// None of the slab's objects may be in an `Open`, or it would be there twice.
    pub(super) fn scan(&mut self, states: &impl States) -> u64 {
        (self.summary, self.free_count) = (0, 0);
        let lines = self.geometry.capacity.div_ceil(STATES_PER_LINE);
        for (word, line) in self.free.iter_mut().zip(0..lines) {
            let used = (self.geometry.capacity - line * STATES_PER_LINE).min(STATES_PER_LINE);
            let mask = u64::MAX >> (STATES_PER_LINE - used);
            let bits = states.free_states(self.row + line * STATES_PER_LINE) & mask;
            *word = bits;
            self.summary |= u64::from(bits != 0) << line;
            self.free_count += u64::from(bits.count_ones());
        }
        self.free_count
    }

    pub(super) fn is_all_free(&self) -> bool {
        self.free_count == self.geometry.capacity
    }
}

impl Cache {
    /// A cache of nothing.
    pub(crate) fn new() -> Self {
        let open = Open {
            free: 0,
            first: Place(0),
            states: StateIndex(0),
            object_bytes: 0,
            slab: None,
            is_poor: false,
            cursor: Unit(0),
        };
        let resting = Resting { numbers: [SlabNumber(0); RESTING_MAX], count: 0 };
        Self {
            pending: Pending::NONE,
            open: [open; OPEN_COUNT],
            resting: [resting; CLASS_COUNT],
            slabs: vec![],
            vacant: vec![],
            of_unit: vec![],
        }
    }

    #[inline]
    pub(super) fn pending(&mut self) -> &mut Pending {
        &mut self.pending
    }

    #[inline]
    pub(super) fn open(&mut self, class: Class) -> &mut Open {
        &mut self.open[class.number() % OPEN_COUNT]
    }

    /// The slab of this thread that a unit belongs to.
    #[inline]
    pub(super) fn number_of(&self, unit: Unit) -> Option<SlabNumber> {
        let number = *self.of_unit.get(usize::try_from(unit.0).ok()?)?;
        number.checked_sub(1).map(SlabNumber)
    }

    #[inline]
    pub(super) fn slab(&mut self, number: SlabNumber) -> Option<&mut Owned> {
        self.slabs.get_mut(number.0 as usize)?.as_deref_mut()
    }

    /// Takes a slab in hand.
    pub(super) fn add(&mut self, owned: Owned) -> SlabNumber {
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.slabs.push(None);
            SlabNumber(self.slabs.len() as u32 - 1)
        });
        let (first, units) = (owned.unit.0 as usize, owned.geometry.units as usize);
        if self.of_unit.len() < first + units {
            self.of_unit.resize((first + units).next_power_of_two(), 0);
        }
        self.of_unit[first..first + units].fill(number.0 + 1);
        self.slabs[number.0 as usize] = Some(Box::new(owned));
        number
    }

    /// Lets a slab go; it must be neither open nor resting.
    pub(super) fn remove(&mut self, number: SlabNumber) -> Option<Box<Owned>> {
        let owned = self.slabs.get_mut(number.0 as usize)?.take()?;
        let (first, units) = (owned.unit.0 as usize, owned.geometry.units as usize);
        self.of_unit[first..first + units].fill(0);
        self.vacant.push(number);
        Some(owned)
    }

    /// Moves the next free objects of the class's slab into its `Open`; whether there were any.
    #[inline]
    pub(super) fn draw(&mut self, class: Class) -> bool {
        let Some(number) = self.open(class).slab else { return false };
        let Some(owned) = self.slab(number) else { return false };
        let Some((word, bits)) = owned.take_word() else { return false };
        let first = word * STATES_PER_LINE;
        let object_bytes = owned.geometry.object_bytes;
        let (start, states) = (owned.unit.start(), owned.row + first);
        let open = self.open(class);
        open.free = bits;
        open.first = Place(start.0 + first * object_bytes);
        open.states = states;
        open.object_bytes = object_bytes;
        true
    }

    /// Opens a slab of the class; none is open.
    pub(super) fn open_slab(&mut self, class: Class, number: SlabNumber) {
        let open = self.open(class);
        (open.slab, open.free) = (Some(number), 0);
    }

    /// The class's slab is open no more. What was drawn of it goes back to it.
    pub(super) fn close(&mut self, class: Class) -> Option<SlabNumber> {
        let open = self.open(class);
        let (number, mut free) = (open.slab.take()?, std::mem::take(&mut open.free));
        let (states, cursor) = (open.states, self.slab(number)?);
        let first = states.0.wrapping_sub(cursor.row.0);
        while free != 0 {
            cursor.put(first.wrapping_add(u64::from(free.trailing_zeros())));
            free &= free - 1;
        }
        Some(number)
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
    pub(super) fn best_resting(&mut self, class: Class, enough: u64) -> Option<SlabNumber> {
        let resting = self.resting[class.number()];
        let counted = resting.slabs().iter().filter_map(|&number| {
            let free_count = self.slab(number)?.free_count;
            (free_count >= enough).then_some((free_count, number))
        });
        counted.max_by_key(|&(free_count, _)| free_count).map(|(_, number)| number)
    }

    pub(super) fn oldest_resting(&self, class: Class) -> Option<SlabNumber> {
        self.resting[class.number()].slabs().first().copied()
    }

    /// Every slab in hand, none of them open or resting any more.
    pub(super) fn drain(&mut self) -> Vec<Box<Owned>> {
        for open in &mut self.open {
            (open.slab, open.free) = (None, 0);
        }
        for resting in &mut self.resting {
            resting.count = 0;
        }
        self.vacant.clear();
        self.of_unit.clear();
        std::mem::take(&mut self.slabs).into_iter().flatten().collect()
    }
}
