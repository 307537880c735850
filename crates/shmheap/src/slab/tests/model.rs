//! Random operations by several peers against a map of who has what: no two objects overlap, every
//! byte is accounted for, every wrong free is refused.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::memory::{Held, ME, Memory, OTHER, Random, alloc, at_work, census, heap, seed};
use crate::error::NotLive;
use crate::segment::fault::Fault;
use crate::slab::{Cache, Place, Slabs, UNIT_BYTES};

struct Play {
    engine: Slabs,
    memory: Memory,
    caches: [Cache; 2],
    /// Every live object by its place.
    held: BTreeMap<u64, Held>,
    order: Vec<Held>,
    random: Random,
}

impl Play {
    fn new(units: u64, random: Random) -> Self {
        let (engine, memory) = heap(units, units);
        let caches = [Cache::new(), Cache::new()];
        Self { engine, memory, caches, held: BTreeMap::new(), order: vec![], random }
    }

    fn alloc(&mut self, size: u64, align: u64) -> bool {
        let peer = self.random.below(2) as usize;
        let worker = at_work(&self.engine, &self.memory, [ME, OTHER][peer]);
        let Some(held) = alloc(&worker, &mut self.caches[peer], size, align) else { return false };
        assert!(held.bytes >= size && held.place.0.is_multiple_of(align), "{held:?}");
        assert!(held.place.0 + held.bytes <= self.engine.end(&self.memory).0 * UNIT_BYTES);
        if let Some((_, before)) = self.held.range(..=held.place.0).next_back() {
            assert!(before.place.0 + before.bytes <= held.place.0, "{before:?} {held:?}");
        }
        if let Some((&after, _)) = self.held.range(held.place.0 + 1..).next() {
            assert!(held.place.0 + held.bytes <= after, "{held:?} {after}");
        }
        self.held.insert(held.place.0, held);
        self.order.push(held);
        true
    }

    fn free(&mut self) {
        if self.order.is_empty() {
            return;
        }
        let index = self.random.below(self.order.len() as u64) as usize;
        let held = self.order.swap_remove(index);
        self.held.remove(&held.place.0);
        let peer = self.random.below(2) as usize;
        let worker = at_work(&self.engine, &self.memory, [ME, OTHER][peer]);
        for inside in [1, 8, held.bytes / 2] {
            let wrong = worker.free(&mut self.caches[peer], Place(held.place.0 + inside));
            assert_eq!(wrong, Err(Fault::NotLive(NotLive::NoObject)), "{held:?} + {inside}");
        }
        worker.free(&mut self.caches[peer], held.place).unwrap();
        for _ in 0..2 {
            let again = worker.free(&mut self.caches[peer], held.place);
            assert!(matches!(again, Err(Fault::NotLive(NotLive::Freed))), "{again:?}");
        }
    }

    fn count(&self) {
        let census = census(&self.engine, &self.memory);
        assert_eq!(census.flaws, []);
        assert_eq!(census.live_objects(), self.held.len() as u64);
        let bytes: u64 = self.held.values().map(|held| held.bytes).sum();
        assert_eq!(census.live_bytes(), bytes);
        let all = census.live_bytes() + census.free_bytes() + census.tail_bytes();
        assert_eq!(all, self.engine.end(&self.memory).0 * UNIT_BYTES);
    }
}

fn play(units: u64, sizes: RangeInclusive<u64>, operations: u64, random: Random) {
    let mut play = Play::new(units, random);
    let mut most = 1 + play.random.below(2000);
    for number in 0..operations {
        if number % 1000 == 0 {
            play.count();
            most = 1 + play.random.below(2000);
        }
        let align_bits = if play.random.below(20) == 0 { 22 } else { 5 };
        let align = 1 << play.random.below(align_bits);
        let size = play.random.log_uniform(*sizes.end()).max(*sizes.start());
        if (play.order.len() as u64) >= most || !play.alloc(size, align) {
            play.free();
        }
    }
    play.count();
    while !play.order.is_empty() {
        play.free();
    }
    for (cache, peer) in play.caches.iter_mut().zip([ME, OTHER]) {
        at_work(&play.engine, &play.memory, peer).let_all_go(cache);
    }
    let worker = at_work(&play.engine, &play.memory, ME);
    worker.sweep().unwrap();
    let census = census(&play.engine, &play.memory);
    assert_eq!((census.free_units, census.live_objects()), (units, 0), "{census:?}");
    let whole = worker.alloc_large(units * UNIT_BYTES, 1, |_, _| {}).unwrap();
    assert_eq!(whole, Some(Place(0)), "the whole heap");
}

#[test]
fn objects_never_overlap_and_every_byte_is_accounted_for() {
    let seed = seed();
    let rounds = if cfg!(miri) {
        // Slabs of few objects: Miri looks at states one by one.
        vec![(4, 2000..=70_000, 150)]
    } else {
        vec![
            (1, 1..=100, 20_000),
            (16, 1..=4096, 100_000),
            (200, 1..=70_000, 100_000),
            (700, 1..=3 << 20, 100_000),
        ]
    };
    for (number, (units, sizes, operations)) in (0..).zip(rounds) {
        play(units, sizes, operations, Random(seed.wrapping_add(number)));
    }
}
