//! Exactness: random traces against a model that looks at every granule. Every address is equal,
//! every refusal is equal, and the audit is clean at the end of each trace.

use super::memory::{HEADER, ME, Random, World, heap, seed};
use crate::error::NotLive;
use crate::first_fit::Fault;
use crate::first_fit::layout::{Area, Position};

/// The naive heap: one byte per granule, searched from the start every time.
struct Model {
    used: Vec<bool>,
}

impl Model {
    fn range_is_free(&self, start: u64, granules: u64) -> bool {
        let range = start as usize..(start + granules) as usize;
        self.used.get(range).is_some_and(|range| range.iter().all(|used| !used))
    }

    fn set(&mut self, start: u64, granules: u64, used: bool) {
        self.used[start as usize..(start + granules) as usize].fill(used);
    }

    fn alloc(&mut self, need: u64, align: u64) -> Option<u64> {
        let mut start = 0;
        while start + need <= self.used.len() as u64 {
            match (start..start + need).rev().find(|&at| self.used[at as usize]) {
                None => {
                    self.set(start, need, true);
                    return Some(start);
                }
                Some(obstacle) => start = (obstacle / align + 1) * align,
            }
        }
        None
    }

    fn resize(&mut self, start: u64, old: u64, new: u64) -> bool {
        if new > old && !self.range_is_free(start + old, new - old) {
            return false;
        }
        self.set(start, old, false);
        self.set(start, new, true);
        true
    }
}

fn random_need(random: &mut Random) -> u64 {
    match random.below(16) {
        0 => 1 + random.below(400),
        1..4 => 1,
        _ => 1 + random.below(12),
    }
}

fn trace(random: &mut Random, operations: u64, granule_bytes: u64) {
    let mut granules = 1 + random.below(6000);
    let granules_max = granules + random.below(3000);
    let (engine, memory) = heap(granules, granules_max, granule_bytes);
    let mut model = Model { used: vec![false; granules as usize] };
    let mut live: Vec<(u64, u64)> = vec![];
    // Drift between filling and draining, so that traces visit every degree of fullness.
    let mut fill = 50;

    for operation in 0..operations {
        if operation % 512 == 0 {
            fill = 35 + random.below(35);
        }
        let operator = engine.operator(&memory, ME, &World);
        let choice = random.below(100);
        if choice < fill || live.is_empty() {
            let need = random_need(random);
            let align = if random.below(4) == 0 { 1 << random.below(9) } else { 1 };
            let got = operator.alloc(need, align).unwrap().map(|at| at.0);
            assert_eq!(got, model.alloc(need, align), "alloc {need} aligned {align}");
            live.extend(got.map(|at| (at, need)));
        } else if choice < 95 {
            let (at, held) = live.swap_remove(random.below(live.len() as u64) as usize);
            operator.free(Position(at)).unwrap();
            model.set(at, held, false);
        } else if choice < 99 {
            let index = random.below(live.len() as u64) as usize;
            let (at, held) = live[index];
            let need = random_need(random);
            let in_place = operator.resize(Position(at), need).unwrap();
            assert_eq!(in_place, model.resize(at, held, need), "resize {held} to {need}");
            if in_place {
                live[index].1 = need;
            }
        } else if granules < granules_max {
            granules += 1 + random.below(granules_max - granules);
            operator.grow(Position(granules)).unwrap();
            model.used.resize(granules as usize, false);
        }
    }

    let audit = engine.audit(&memory, Area::FIRST, Position(granules), 4);
    assert_eq!(audit.flaws, [], "audit");
    assert_eq!(audit.live_objects, live.len() as u64);
    assert_eq!(audit.live_granules, live.iter().map(|&(_, held)| held).sum::<u64>());
    drain(&engine, &memory, live, granules);
}

/// Frees everything in order of allocation: the heap must be a single free block again.
fn drain(
    engine: &crate::first_fit::FirstFit,
    memory: &super::memory::Memory,
    live: Vec<(u64, u64)>,
    granules: u64,
) {
    for (at, _) in live {
        engine.operator(memory, ME, &World).free(Position(at)).unwrap();
    }
    let audit = engine.audit(memory, Area::FIRST, Position(granules), 4);
    assert_eq!((audit.flaws, audit.blocks, audit.free_granules), (vec![], 1, granules));
}

#[test]
fn every_address_is_the_lowest_that_fits() {
    let mut random = Random(seed());
    let traces = if cfg!(miri) { 2 } else { 250 };
    let operations = if cfg!(miri) { 120 } else { 4096 };
    for number in 0..traces {
        trace(&mut random, operations, if number % 2 == 0 { 8 } else { 16 });
    }
}

#[test]
fn the_whole_heap_is_one_object_if_asked_for() {
    for granules in [1, 2, 63, 64, 65, 128, 512, 513, 4096, 40_000] {
        let (engine, memory) = heap(granules, granules, 16);
        let operator = engine.operator(&memory, ME, &World);
        assert_eq!(operator.alloc(granules + 1, 1), Ok(None));
        assert_eq!(operator.alloc(granules, 1), Ok(Some(Position(0))));
        assert_eq!(operator.alloc(1, 1), Ok(None));
        operator.free(Position(0)).unwrap();
        assert_eq!(operator.alloc(granules, 1), Ok(Some(Position(0))));
    }
}

#[test]
fn what_is_no_live_object_is_refused_and_changes_nothing() {
    let (engine, memory) = heap(1000, 1000, 8);
    let operator = engine.operator(&memory, ME, &World);
    for _ in 0..3 {
        operator.alloc(10, 1).unwrap();
    }
    operator.free(Position(10)).unwrap();
    let cases = [
        (Position(10), NotLive::Freed),
        (Position(5), NotLive::NoObject),
        (Position(15), NotLive::NoObject),
        (Position(30), NotLive::Freed),
        (Position(1000), NotLive::Foreign),
        (Position(u64::MAX), NotLive::Foreign),
    ];
    for (at, why) in cases {
        let ((), stores) = memory.record(|| {
            assert_eq!(operator.free(at), Err(Fault::NotLive(why)), "free {at:?}");
            assert_eq!(operator.resize(at, 1), Err(Fault::NotLive(why)), "resize {at:?}");
        });
        assert!(stores.iter().all(|&(at, _)| at == HEADER.lock), "{stores:?}");
    }
}
