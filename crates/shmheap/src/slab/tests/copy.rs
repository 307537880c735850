//! Copies of a heap that changes while it is copied: at each load of the copier some of the stores
//! are played that two peers made in a run of operations before. What lived all the time is in the
//! copy with its handle, what never lived is not, and the copy breaks no rule.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use super::memory::{Held, ME, Memory, OTHER, Random, Store, alloc, at_work, census, heap, seed};
use crate::segment::fault::Fault;
use crate::segment::states::{State, StateIndex, States};
use crate::segment::words::Words;
use crate::slab::layout::StateBlock;
use crate::slab::{Cache, Place, Site, Slabs, Unit};
use crate::units::{LINE_WORDS, WordIndex};

const UNITS: u64 = if cfg!(miri) { 16 } else { 48 };
const ROUNDS: u32 = if cfg!(miri) { 1 } else { 2000 };
const STEPS: u32 = if cfg!(miri) { 24 } else { 3000 };
const PHASE_STEPS: u32 = 60;
/// Few classes, so that each has many slabs, and units pass from one to another; and an object of
/// whole units. Slabs of these have states also under Miri.
const SIZES: [u64; 5] = [6 << 10, 10 << 10, 24 << 10, 60 << 10, 600 << 10];

/// A memory that goes on with each look at it.
struct Moving<'m> {
    memory: &'m Memory,
    stores: &'m [Store],
    played: Cell<usize>,
    /// In one of so many looks it goes on, by at most so many stores.
    pace: (u64, u64),
    random: RefCell<Random>,
}

impl Moving<'_> {
    fn go_on(&self) {
        let (looks, most) = self.pace;
        let mut random = self.random.borrow_mut();
        let count = if random.below(looks) == 0 { random.below(most + 1) } else { 0 };
        for &store in self.stores.iter().skip(self.played.get()).take(count as usize) {
            self.memory.apply(store);
            self.played.set(self.played.get() + 1);
        }
    }
}

impl Words for Moving<'_> {
    fn load(&self, at: WordIndex) -> u64 {
        self.go_on();
        self.memory.load(at)
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        std::array::from_fn(|word| self.load(at + word as u64))
    }

    fn store(&self, at: WordIndex, _value: u64) {
        panic!("the copier stores to {at:?}");
    }

    fn compare_exchange(&self, at: WordIndex, _current: u64, _new: u64) -> Result<u64, u64> {
        panic!("the copier exchanges {at:?}");
    }

    fn wait(&self, _at: WordIndex, _expected: u64, _timeout: Duration) -> Duration {
        Duration::ZERO
    }

    fn wake(&self, _at: WordIndex) {}

    fn wake_all(&self, _at: WordIndex) {}
}

impl States for Moving<'_> {
    fn load_state(&self, at: StateIndex) -> State {
        self.go_on();
        self.memory.load_state(at)
    }

    fn store_state(&self, at: StateIndex, _state: State) {
        panic!("the copier stores to {at:?}");
    }

    fn free_states(&self, at: StateIndex) -> u64 {
        self.go_on();
        self.memory.free_states(at)
    }
}

/// Plain memory has room for everything.
struct Room;

impl Site for Room {
    fn ensure_units(&self, _end: Unit) -> Result<(), Fault> {
        Ok(())
    }

    fn ensure_states(&self, _block: StateBlock) -> Result<(), Fault> {
        Ok(())
    }
}

/// Two peers who allocate and free.
struct Play<'h> {
    engine: &'h Slabs,
    memory: &'h Memory,
    caches: [Cache; 2],
    held: Vec<Held>,
    /// How many of ten steps allocate: the heap fills and empties.
    share: u64,
    /// All that has ever lived: place and generation.
    ever: BTreeSet<(u64, u64)>,
}

impl<'h> Play<'h> {
    fn new(engine: &'h Slabs, memory: &'h Memory) -> Self {
        Self {
            engine,
            memory,
            caches: [Cache::new(), Cache::new()],
            held: vec![],
            share: 9,
            ever: BTreeSet::new(),
        }
    }

    fn step(&mut self, random: &mut Random) {
        let number = random.below(2) as usize;
        let worker = at_work(self.engine, self.memory, [ME, OTHER][number]);
        let cache = &mut self.caches[number];
        if self.held.is_empty() || random.below(10) < self.share {
            let size = SIZES[random.below(SIZES.len() as u64) as usize];
            let Some(held) = alloc(&worker, cache, size, 8) else { return };
            let generation = worker.live_object(held.place).unwrap().generation();
            self.ever.insert((held.place.0, generation));
            self.held.push(held);
        } else {
            let held = self.held.swap_remove(random.below(self.held.len() as u64) as usize);
            worker.free(cache, held.place).unwrap();
        }
    }
}

fn generation(engine: &Slabs, memory: &Memory, place: Place) -> Option<u64> {
    at_work(engine, memory, ME).live_object(place).ok().map(|object| object.generation())
}

#[test]
fn a_copy_has_all_that_lived_while_the_heap_changed() {
    let mut random = Random(seed());
    for round in 0..ROUNDS {
        let (engine, memory) = heap(UNITS, UNITS);
        let mut play = Play::new(&engine, &memory);
        (0..20).for_each(|_| play.step(&mut random));
        let still = std::mem::take(&mut play.held);
        let expected: Vec<_> =
            still.iter().map(|held| generation(&engine, &memory, held.place)).collect();
        let before = memory.image();
        let ((), stores) = memory.record(|| {
            for step in 0..STEPS {
                play.share = if (step / PHASE_STEPS).is_multiple_of(2) { 8 } else { 1 };
                play.step(&mut random);
            }
        });
        memory.restore(&before);
        let moving = Moving {
            memory: &memory,
            stores: &stores,
            played: Cell::new(0),
            pace: (random.log_uniform(64), random.log_uniform(64)),
            random: RefCell::new(Random(random.next())),
        };
        let (_, target) = heap(UNITS, UNITS);
        let worker = engine.worker(&moving, &memory, crate::slab::Actor::NOBODY);
        worker.copy_to(&&target, &Room).unwrap();
        at_work(&engine, &target, ME).sweep().unwrap();
        let found = census(&engine, &target);
        assert!(found.flaws.is_empty(), "round {round}: {:?}", found.flaws);
        assert_eq!((found.moving_units, found.is_recovery_pending), (0, false));
        let target_worker = at_work(&engine, &target, ME);
        let first = target_worker.block_from(Place(0));
        let blocks = std::iter::successors(first, |block| target_worker.block_from(block.next));
        for block in blocks.filter(|block| block.live) {
            let has_lived = play.ever.contains(&(block.place.0, block.generation));
            assert!(has_lived, "round {round}: {block:?}");
        }
        let mut cache = Cache::new();
        for size in SIZES.into_iter().chain([64 << 10]) {
            while let Some(held) = alloc(&target_worker, &mut cache, size, 8) {
                let made = (held.place.0, generation(&engine, &target, held.place).unwrap());
                let lives = play.ever.range((made.0, 0)..(made.0 + 1, 0)).count();
                let is_soon = lives < 40;
                assert!(!is_soon || !play.ever.contains(&made), "round {round}: {made:?}");
            }
        }
        for (held, &expected) in still.iter().zip(&expected) {
            let copied = generation(&engine, &target, held.place);
            assert!(copied.is_some() && copied == expected, "round {round}: {held:?}");
        }
    }
}
