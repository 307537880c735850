//! Hand-overs of objects of slabs, killed after their k-th store, and the adoption of that killed
//! after its j-th.
//!
//! A peer makes objects that it owns, publishes, takes, keeps and frees them, and ends its thread,
//! over plain memory that holds the ledger and the cells, too. After each kill and adoption every
//! object is in one place: in a cell, an ordinary one, or free, with every byte accounted for and
//! no trace of the dead. Others go on between the kill and the adoption: they take every free
//! object of the size in question, so that an adoption that frees what is not the dead one's hits
//! theirs.

use std::collections::BTreeSet;

use super::memory::{
    DEAD, Image, ME, Memory, Random, Store, THREADS, at_work, cells, census, heap, notes, seed,
};
use crate::Result;
use crate::peers::ledger::{self, Content, Objects, Taking};
use crate::peers::{Ledger, LedgerEntry};
use crate::segment::words::Words;
use crate::slab::{Cache, Class, Effort, Place, Slabs};
use crate::units::WordIndex;

/// Handles count from here, far from the records.
const BASE: u64 = 1 << 30;
const SIZE: u64 = 24 << 10;
const CELL_COUNT: u64 = 3;
const ENOUGH: &dyn Fn(u16) -> Result<()> = &|_| Ok(());

struct Bench {
    engine: Slabs,
    memory: Memory,
}

/// What there is, as the test knows it.
#[derive(Debug, Clone, Default)]
struct Model {
    cells: [Option<u64>; CELL_COUNT as usize],
    owned: Vec<(LedgerEntry, u64)>,
    ordinary: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Alloc,
    Publish(usize, usize),
    Take(usize),
    Keep(usize),
    Free(usize),
    EndThread,
}

impl Bench {
    fn new() -> Self {
        let (engine, memory) = heap(8, 8);
        THREADS.claim(&&memory, DEAD, ENOUGH).unwrap();
        Self { engine, memory }
    }

    fn ledger(&self) -> Ledger<&Memory> {
        Ledger::new(&self.memory, THREADS)
    }

    fn cell(&self, number: usize) -> WordIndex {
        cells(&self.engine).start.word() + number as u64
    }

    /// Frees the object that a handle names as the dead peer, if it is live.
    fn free_as_dead(&self, handle: u64, cache: &mut Cache) {
        let worker = at_work(&self.engine, &self.memory, DEAD);
        let place = Place((handle & ((1 << 48) - 1)) - BASE);
        let found = worker.live_object(place);
        if found.is_ok_and(|found| found.generation() == handle >> 48) {
            worker.free(cache, place).unwrap();
        }
    }

    fn is_live(&self, handle: u64) -> bool {
        let place = Place((handle & ((1 << 48) - 1)) - BASE);
        let found = at_work(&self.engine, &self.memory, ME).live_object(place);
        found.is_ok_and(|found| found.generation() == handle >> 48)
    }

    fn alloc_owned(&self, cache: &mut Cache, entry: LedgerEntry) -> Option<u64> {
        let worker = at_work(&self.engine, &self.memory, DEAD);
        let handle = |place: Place, generation: u64| (BASE + place.0) | generation << 48;
        let at = THREADS.entry_word(entry);
        let placed = worker.alloc_small(cache, class(), Effort::Usual, |place, state| {
            let generation = worker.small_generation(place, state);
            self.memory.store(at, ledger::owned(handle(place, generation)));
        });
        let place = placed.unwrap()?;
        Some(handle(place, worker.live_object(place).unwrap().generation()))
    }

    fn adopt(&self) {
        let worker = at_work(&self.engine, &self.memory, DEAD);
        worker.adopt_notes(notes(DEAD)).unwrap();
        self.ledger().adopt(DEAD, ENOUGH, &cells(&self.engine), &Estate(self)).unwrap();
        worker.adopt_units().unwrap();
    }

    /// Everything that others could be given of the size: allocated by them.
    fn fill(&self, cache: &mut Cache) -> Vec<u64> {
        let worker = at_work(&self.engine, &self.memory, ME);
        let alloc = || worker.alloc_small(cache, class(), Effort::Thorough, |_, _| {}).unwrap();
        let places = std::iter::from_fn(alloc);
        let handle = |place: Place| {
            (BASE + place.0) | (worker.live_object(place).unwrap().generation() << 48)
        };
        places.map(handle).collect()
    }
}

fn class() -> Class {
    Class::of(SIZE, 8).unwrap()
}

struct Estate<'b>(&'b Bench);

impl Objects for Estate<'_> {
    fn free_owned(&self, entry: LedgerEntry, handle: u64) -> Result<()> {
        let mut cache = Cache::new();
        self.0.free_as_dead(handle, &mut cache);
        let worker = at_work(&self.0.engine, &self.0.memory, DEAD);
        worker.catch_up(&mut cache);
        self.0.ledger().clear(entry);
        Ok(())
    }

    fn is_done(&self, _entry: LedgerEntry) -> Result<bool> {
        unreachable!("no entry is in session under this policy")
    }
}

struct Play {
    bench: Bench,
    cache: Cache,
    model: Model,
    random: Random,
}

#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    nested_kills: u64,
}

impl Play {
    fn choose(&mut self) -> Step {
        let cell = self.random.below(CELL_COUNT) as usize;
        let owned = self.model.owned.len() as u64;
        match self.random.below(12) {
            0..4 if owned < 5 => Step::Alloc,
            4..7 if owned > 0 => Step::Publish(self.random.below(owned) as usize, cell),
            7..9 if owned < 6 => Step::Take(cell),
            9 if owned > 0 => Step::Keep(self.random.below(owned) as usize),
            10 if owned > 0 => Step::Free(self.random.below(owned) as usize),
            11 if self.random.below(3) == 0 => Step::EndThread,
            _ if owned > 0 => Step::Free(self.random.below(owned) as usize),
            _ => Step::Alloc,
        }
    }

    fn free_entry(&self) -> LedgerEntry {
        let record = THREADS.record(0).unwrap();
        let mut entries = THREADS.entries(record);
        entries.find(|entry| self.model.owned.iter().all(|(other, _)| other != entry)).unwrap()
    }

    /// Does the step, and tells what there is then.
    fn run(&mut self, step: Step) -> Model {
        let (bench, cache) = (&self.bench, &mut self.cache);
        let mut model = self.model.clone();
        match step {
            Step::Alloc => {
                let record = THREADS.record(0).unwrap();
                let is_free = |entry: &LedgerEntry| model.owned.iter().all(|(o, _)| o != entry);
                let entry = THREADS.entries(record).find(is_free).unwrap();
                model.owned.extend(bench.alloc_owned(cache, entry).map(|handle| (entry, handle)));
            }
            Step::Publish(number, cell) => {
                let (entry, handle) = model.owned[number];
                let done = bench.ledger().publish(entry, handle, bench.cell(cell));
                assert_eq!(done.is_ok(), model.cells[cell].is_none());
                if done.is_ok() {
                    model.owned.remove(number);
                    model.cells[cell] = Some(handle);
                }
            }
            Step::Take(cell) => {
                let Some(handle) = model.cells[cell] else { return model };
                let entry = self.free_entry();
                let taken = bench.ledger().take(entry, handle, bench.cell(cell), || true);
                assert_eq!(taken, Taking::Taken);
                model.cells[cell] = None;
                model.owned.push((entry, handle));
            }
            Step::Keep(number) => {
                let (entry, handle) = model.owned.remove(number);
                bench.ledger().clear(entry);
                model.ordinary.push(handle);
            }
            Step::Free(number) => {
                let (entry, handle) = model.owned.remove(number);
                bench.free_as_dead(handle, cache);
                bench.ledger().clear(entry);
            }
            Step::EndThread => at_work(&bench.engine, &bench.memory, DEAD).let_all_go(cache),
        }
        model
    }

    fn step(&mut self, tally: &mut Tally) {
        let step = self.choose();
        let before = self.bench.memory.image();
        self.bench.memory.begin();
        let model = self.run(step);
        let stores = self.bench.memory.finish();
        for done in 0..=stores.len() {
            self.kill(&before, &stores, done, None, true, &model, step);
            let adoption = self.kill(&before, &stores, done, None, false, &model, step);
            tally.kills += 2;
            for cut in 0..adoption.len() {
                let cut = Some(&adoption[..cut]);
                self.kill(&before, &stores, done, cut, false, &model, step);
                tally.nested_kills += 1;
            }
        }
        self.bench.memory.restore(&before);
        stores.iter().for_each(|&store| self.bench.memory.apply(store));
        self.model = model;
    }

    /// Kills after `done` stores and, if there is a `cut`, the first adoption after those of it.
    /// Returns the stores of the last adoption.
    #[expect(clippy::too_many_arguments, reason = "they are what the case is made of")]
    fn kill(
        &self,
        before: &Image,
        stores: &[Store],
        done: usize,
        cut: Option<&[Store]>,
        fills: bool,
        after: &Model,
        step: Step,
    ) -> Vec<Store> {
        let memory = &self.bench.memory;
        memory.restore(before);
        stores[..done].iter().for_each(|&store| memory.apply(store));
        let mut cache = Cache::new();
        let others = if fills { self.bench.fill(&mut cache) } else { vec![] };
        cut.iter().copied().flatten().for_each(|&store| memory.apply(store));
        let ((), adoption) = memory.record(|| self.bench.adopt());
        let at = format!("{step:?} killed after store {done} of {}, {:?}", stores.len(), cut);
        self.expect_each_once(after, &others, &at);
        adoption
    }

    fn expect_each_once(&self, after: &Model, others: &[u64], at: &str) {
        let (bench, ledger) = (&self.bench, self.bench.ledger());
        assert!(ledger.is_clear(DEAD, ENOUGH).unwrap(), "{at}");
        let mut known: BTreeSet<u64> = others.iter().copied().collect();
        known.extend(&self.model.ordinary);
        for number in 0..CELL_COUNT as usize {
            match ledger.content(bench.cell(number)) {
                Content::Empty => {}
                Content::Object(handle) => assert!(known.insert(handle), "doubled: {at}"),
                other => panic!("{other:?} in a cell: {at}"),
            }
        }
        // What was in a cell and in nobody's hands stays there, whatever the dead one did.
        for (was, is) in self.model.cells.iter().zip(&after.cells) {
            assert!(was != is || was.is_none_or(|handle| known.contains(&handle)), "{at}");
        }
        for handle in &known {
            assert!(bench.is_live(*handle), "{handle:#x} is gone: {at}");
        }
        let kept = after.ordinary.iter().filter(|handle| !known.contains(handle));
        let kept = kept.filter(|handle| bench.is_live(**handle)).count() as u64;
        let census = census(&bench.engine, &bench.memory);
        assert_eq!(census.flaws, [], "{at}");
        assert_eq!(census.live_objects(), known.len() as u64 + kept, "lost or not freed: {at}");
        assert!(!census.is_recovery_pending && census.moving_units == 0, "{at}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "adopts thousands of images for each step; kills.rs does it with fewer")]
fn no_kill_loses_or_doubles_an_object_that_is_handed_over() {
    let seed = seed();
    let (plays, steps) = (20, 150);
    let mut tally = Tally::default();
    for number in 0..plays {
        let (bench, random) = (Bench::new(), Random(seed + number));
        let mut play = Play { bench, cache: Cache::new(), model: Model::default(), random };
        for _ in 0..steps {
            play.step(&mut tally);
            // Ordinary objects would fill the heap.
            while let Some(handle) = play.model.ordinary.pop() {
                play.bench.free_as_dead(handle, &mut play.cache);
            }
        }
    }
    println!("{tally:?}");
    assert!(tally.kills > 10_000, "{tally:?}");
}
