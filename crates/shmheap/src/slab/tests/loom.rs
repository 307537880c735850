//! The engine itself under loom: threads that free, release and claim at once, over weak memory.
//!
//! The models under `tests/model` look at every step and every death, but at a description of the
//! protocols, and as if all saw all in one order. Here it is the code that runs, and each load may
//! see whatever the language lets it see. Heaps are tiny: slabs of two objects.

mod runs;
mod slabs;

use std::ops::Range;

use std::collections::BTreeSet;
use std::sync::Arc;

use ::loom::thread::JoinHandle;

use super::memory::{ME, OTHER, actor, notes};
use crate::segment::fault::Fault;
use crate::segment::interleaved::{Memory, View, start};
use crate::segment::words::Words;
use crate::slab::hints::Hint;
use crate::slab::layout::{GROUP_WORDS, Layout, StateBlock};
use crate::slab::{
    Cache, Class, Effort, PeerStanding, Place, Registry, Slabs, Surroundings, UNIT_BYTES, Unit,
};
use crate::units::{Offset, PeerSlot, WordIndex};

const THIRD: PeerSlot = PeerSlot(2);
const PEERS: [PeerSlot; 3] = [ME, OTHER, THIRD];
const LENGTH: WordIndex = WordIndex(0);
const RECORDS: Offset = Offset(2048);
/// Two of them make a slab of one unit.
const OBJECT_BYTES: u64 = UNIT_BYTES / 2;
/// A tiny heap.
#[derive(Debug, Clone)]
struct Scene {
    engine: Slabs,
    memory: Arc<Memory>,
    units: u64,
}

/// A thread of a peer, and what it has in hand.
struct Hand {
    engine: Slabs,
    view: View,
    peer: PeerSlot,
    cache: Cache,
}

impl Scene {
    /// A heap of so many free units.
    fn new(units: u64) -> Self {
        let layout = Layout::new(RECORDS, units).unwrap();
        let engine = Slabs::new(&layout, LENGTH);
        let geometry = class().geometry();
        let of_units = (0..units).map(|unit| layout.units + unit);
        let of_hints = (0..GROUP_WORDS).map(|word| layout.hints + word).chain([layout.summary]);
        let words = of_units.chain(of_hints).chain(PEERS.into_iter().flat_map(notes));
        let states = (0..units)
            .flat_map(|unit| (0..class().capacity()).map(move |index| (Unit(unit), index)));
        let states = states.map(|(unit, index)| layout.row(geometry, unit) + index);
        let memory = Memory::new(words, states, &[(LENGTH, units * UNIT_BYTES)]);
        engine.format(&memory.view(), units);
        Self { engine, memory, units }
    }

    fn hand(&self, peer: PeerSlot) -> Hand {
        self.hand_with(peer, self.memory.view())
    }

    fn hand_with(&self, peer: PeerSlot, view: View) -> Hand {
        Hand { engine: self.engine.clone(), view, peer, cache: Cache::new() }
    }

    /// Once all is quiet: everything that is free is hinted at, or noted, or in somebody's hand,
    /// and so many objects are live.
    fn check(&self, live: u64) {
        let view = self.memory.view();
        let census = self.engine.census(&view, &Watch(&view), Unit(self.units), 8);
        assert_eq!(census.flaws, [], "a flaw");
        assert_eq!(census.live_objects(), live, "live objects");
    }

    /// Adopts what a dead peer has left.
    fn adopt(&self, dead: PeerSlot) {
        let (view, actor) = (self.memory.view(), actor(dead));
        let worker = self.engine.worker(&view, &World, actor);
        worker.adopt_notes(notes(dead)).unwrap();
        worker.adopt_units().unwrap();
    }

    /// Without a sweep, everything can be allocated but what is held, and nothing twice.
    fn fill(&self, held: impl IntoIterator<Item = Place>) {
        let mut hand = self.hand(ME);
        let found = std::iter::from_fn(|| hand.alloc());
        let all: BTreeSet<_> = held.into_iter().chain(found).collect();
        assert_eq!(all.len() as u64, self.units * class().capacity(), "{all:?}");
        self.check(all.len() as u64);
    }

    fn is_shared_hinted(&self, unit: Unit) -> bool {
        self.engine.hints.is_set(&self.memory.view(), Hint::Shared, unit)
    }
}

impl Hand {
    fn alloc(&mut self) -> Option<Place> {
        let worker = self.engine.worker(&self.view, &World, actor(self.peer));
        worker.alloc_small(&mut self.cache, class(), Effort::Usual, |_, _| {}).unwrap()
    }

    fn free(&mut self, place: Place) {
        self.try_free(place).unwrap();
    }

    fn try_free(&mut self, place: Place) -> Result<(), Fault> {
        let worker = self.engine.worker(&self.view, &World, actor(self.peer));
        worker.free(&mut self.cache, place)
    }

    fn alloc_large(&self, units: u64) -> Option<Place> {
        let worker = self.engine.worker(&self.view, &World, actor(self.peer));
        worker.alloc_large(units * UNIT_BYTES, 1, |_, _| {}).unwrap()
    }

    /// Resizes the large object at the start of the heap.
    fn resize_large(&self, old_units: u64, new_units: u64) -> bool {
        let worker = self.engine.worker(&self.view, &World, actor(self.peer));
        worker.resize_large(Unit(0), old_units, new_units).unwrap()
    }

    fn catch_up(&mut self) {
        let worker = self.engine.worker(&self.view, &World, actor(self.peer));
        worker.catch_up(&mut self.cache);
    }

    fn adopt_notes(&self) {
        let worker = self.engine.worker(&self.view, &World, actor(self.peer));
        worker.adopt_notes(notes(self.peer)).unwrap();
    }

    fn sweep(&mut self) {
        self.engine.worker(&self.view, &World, actor(self.peer)).sweep().unwrap();
    }

    fn let_all_go(&mut self) {
        let worker = self.engine.worker(&self.view, &World, actor(self.peer));
        worker.let_all_go(&mut self.cache);
    }

    /// Runs on a thread of its own; the hand comes back with the result.
    fn spawn<T: Send + 'static>(
        mut self,
        act: impl FnOnce(&mut Self) -> T + Send + 'static,
    ) -> JoinHandle<(Self, T)> {
        start(move || {
            let result = act(&mut self);
            (self, result)
        })
    }
}

/// There is storage for everything.
struct World;

impl Surroundings for World {
    fn reserve(&self, _units: Range<Unit>) -> Result<(), Fault> {
        Ok(())
    }

    fn discard(&self, _units: Range<Unit>) -> bool {
        true
    }
}

/// Who watches a heap in which everybody lives.
struct Watch<'m>(&'m View);

impl Registry for Watch<'_> {
    fn peer(&self, _peer: PeerSlot) -> PeerStanding {
        PeerStanding::Alive
    }

    fn notes(&self) -> Vec<u64> {
        let notes = PEERS.into_iter().flat_map(notes);
        notes.map(|note| self.0.load(note)).collect()
    }

    fn ensure_states(&self, _block: StateBlock) -> Result<(), Fault> {
        Ok(())
    }
}

fn class() -> Class {
    Class::of(OBJECT_BYTES, 1).unwrap()
}
