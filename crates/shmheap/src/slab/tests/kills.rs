//! Killed after its k-th store, for every operation and every k; and the adoption of that killed
//! after its j-th store, for every j.
//!
//! A kill leaves in memory exactly the stores that were executed, and takes the thread's private
//! cache along. So an operation is run once and its stores recorded; the image of every kill is the
//! image before plus a prefix of them. Each must be adopted to a heap in which
//!
//! - every object lives that lived at the kill, and no other: adoption changes no state;
//! - no unit names the dead peer, is on its way, is free or shared without a hint, or is anything
//!   but a hole without storage;
//! - every byte is live, free, or behind a slab's last object.
//!
//! The operations are those of two peers in one heap, of which one gets killed: so it frees what
//! the other has, finds slabs that are nobody's, and leaves some.

use super::memory::{
    DEAD, Held, Image, ME, Memory, Random, Store, actor, adopt, at_work, census, heap, seed,
};
use crate::slab::resolve::Object;
use crate::slab::unit::{Place, UNIT_BYTES, Unit, UnitWord, Use};
use crate::slab::{Cache, Class, Effort, Slabs, Worker};
use crate::units::WordIndex;

/// Where an announced object is announced.
const ENTRY: WordIndex = WordIndex(8);

#[derive(Debug, Clone, Copy)]
enum Operation {
    Alloc { size: u64, align: u64 },
    AllocAnnounced { size: u64 },
    Free(Held),
    Resize(Held, u64),
    LetAllGo,
    Sweep,
    Trim,
    Grow,
}

type AtWork<'m> = Worker<'m, &'m Memory, &'m Memory>;

/// What the operation gave.
fn run(worker: &AtWork<'_>, memory: &Memory, cache: &mut Cache, op: Operation) -> Option<Held> {
    match op {
        Operation::Alloc { size, align } => super::memory::alloc(worker, cache, size, align),
        Operation::AllocAnnounced { size } => announced(worker, memory, cache, size),
        Operation::Free(held) => {
            worker.free(cache, held.place).unwrap();
            None
        }
        Operation::Resize(held, units) => {
            let old_units = held.bytes / UNIT_BYTES;
            let done = worker.resize_large(Unit::of(held.place), old_units, units).unwrap();
            done.then_some(Held { bytes: units * UNIT_BYTES, ..held })
        }
        Operation::LetAllGo => {
            worker.let_all_go(cache);
            None
        }
        Operation::Sweep => {
            worker.sweep().unwrap();
            None
        }
        Operation::Trim => {
            worker.trim().unwrap();
            None
        }
        Operation::Grow => {
            worker.engine.grow(memory, worker.end().start().0 + 2 * UNIT_BYTES);
            None
        }
    }
}

fn announced(worker: &AtWork<'_>, memory: &Memory, cache: &mut Cache, size: u64) -> Option<Held> {
    use crate::segment::words::Words;
    let announce = |place: Place, generation: u64| memory.store(ENTRY, place.0 | generation << 48);
    let place = match Class::of(size, 8) {
        Some(class) => worker.alloc_small(cache, class, Effort::Usual, |place, state| {
            announce(place, worker.small_generation(place, state));
        }),
        None => worker.alloc_large(size, 8, announce),
    };
    let place = place.unwrap()?;
    Some(Held { place, bytes: worker.live_object(place).unwrap().bytes() })
}

#[derive(Debug, Default)]
struct Tally {
    operations: u64,
    kills: u64,
    nested_kills: u64,
    stores_max: usize,
}

/// Everything that is known of one operation that gets killed.
struct Case<'t> {
    engine: &'t Slabs,
    memory: &'t Memory,
    before: &'t Image,
    stores: &'t [Store],
    operation: Operation,
}

impl Case<'_> {
    /// Makes memory what a kill after `done` stores leaves; `others` are stores to be undone.
    fn kill(&self, done: usize, others: &[Store]) {
        self.memory.undo(self.before, others);
        self.memory.undo(self.before, self.stores);
        self.stores[..done].iter().for_each(|&store| self.memory.apply(store));
    }

    fn kill_everywhere(&self, nested: bool, tally: &mut Tally) {
        tally.operations += 1;
        tally.stores_max = tally.stores_max.max(self.stores.len());
        let mut adoption = vec![];
        for done in 0..=self.stores.len() {
            self.kill(done, &adoption);
            self.expect_announced(done);
            let words = self.units();
            ((), adoption) = self.memory.record(|| adopt(self.engine, self.memory));
            self.expect_adopted(done, None, &words, &adoption);
            tally.kills += 1;
            if nested {
                self.kill_adoption(done, &words, &adoption, tally);
            }
        }
        self.kill(self.stores.len(), &adoption);
    }

    fn kill_adoption(
        &self,
        done: usize,
        words: &[UnitWord],
        adoption: &[Store],
        tally: &mut Tally,
    ) {
        let mut again = vec![];
        for cut in 0..adoption.len() {
            self.kill(done, &again);
            self.memory.undo(self.before, adoption);
            self.kill(done, adoption);
            adoption[..cut].iter().for_each(|&store| self.memory.apply(store));
            let ((), stores) = self.memory.record(|| adopt(self.engine, self.memory));
            again = [&adoption[..cut], &stores].concat();
            self.expect_adopted(done, Some(cut), words, &again);
            tally.nested_kills += 1;
        }
        self.memory.undo(self.before, &again);
    }

    fn units(&self) -> Vec<UnitWord> {
        let end = self.engine.end(self.memory);
        (0..end.0).map(|unit| self.engine.load(self.memory, Unit(unit))).collect()
    }

    /// An announced object does not live before its announcement.
    fn expect_announced(&self, done: usize) {
        let Operation::AllocAnnounced { .. } = self.operation else { return };
        let has_begun = |store: &Store| match *store {
            Store::State(_, state) => state % 2 == 1,
            Store::Storage(..) => false,
            Store::Word(at, word) => {
                at >= self.engine.layout.units
                    && at < self.engine.layout.hints
                    && matches!(UnitWord(word).get(), Some(Use::Large { .. }))
            }
        };
        let executed = &self.stores[..done];
        let is_announced =
            executed.iter().any(|store| matches!(*store, Store::Word(at, _) if at == ENTRY));
        assert!(is_announced || !executed.iter().any(has_begun), "lives unannounced");
    }

    fn expect_adopted(
        &self,
        done: usize,
        cut: Option<usize>,
        before: &[UnitWord],
        adoption: &[Store],
    ) {
        let context = || {
            let (all, operation) = (self.stores.len(), self.operation);
            format!("{operation:?} killed after store {done} of {all}, its adoption after {cut:?}")
        };
        let changes_state = adoption.iter().any(|store| matches!(store, Store::State(..)));
        assert!(!changes_state, "adoption changes a state: {}", context());
        for (unit, (&was, &is)) in before.iter().zip(&self.units()).enumerate() {
            let may_change = names_dead(was) || matches!(was.get(), Some(Use::Freeing { .. }));
            assert!(was == is || may_change || is_rest(was), "unit {unit}: {}", context());
            assert!(!names_dead(is) || is_rest(is), "unit {unit} is {is:x?}: {}", context());
            let may_lack_storage = is.get() == Some(Use::Hole);
            let has_storage = self.memory.has_storage(Unit(unit as u64));
            assert!(has_storage || may_lack_storage, "unit {unit} is bare: {}", context());
        }
        let census = census(self.engine, self.memory);
        assert_eq!(census.flaws, [], "{}", context());
        assert!(!census.is_recovery_pending, "{}", context());
        assert_eq!(census.moving_units, 0, "{}", context());
        let all = census.live_bytes() + census.free_bytes() + census.tail_bytes();
        assert_eq!(all, self.engine.end(self.memory).start().0, "{}", context());
        let large = |words: &[UnitWord]| {
            let units = |word: &UnitWord| match word.get() {
                Some(Use::Large { units }) => units,
                _ => 0,
            };
            words.iter().map(units).collect::<Vec<_>>()
        };
        assert_eq!(large(before), large(&self.units()), "{}", context());
    }
}

fn is_rest(word: UnitWord) -> bool {
    matches!(word.get(), Some(Use::Rest { .. }))
}

fn names_dead(word: UnitWord) -> bool {
    match word.get() {
        Some(Use::Slab { owner, .. }) => owner == Some(DEAD),
        Some(Use::Claim { peer, .. } | Use::Rest { peer, .. } | Use::Freeing { peer, .. }) => {
            peer == DEAD
        }
        _ => false,
    }
}

struct Play {
    engine: Slabs,
    memory: Memory,
    victim: Cache,
    other: Cache,
    held: Vec<Held>,
    random: Random,
}

impl Play {
    fn new(random: Random) -> Self {
        let (engine, memory) = heap(14, 20);
        let (victim, other) = (Cache::new(), Cache::new());
        Self { engine, memory, victim, other, held: vec![], random }
    }

    fn choose(&mut self) -> Operation {
        // Under Miri, the memory has no states for the tiniest.
        let tiny = if cfg!(miri) { 64 } else { 24 };
        let sizes = [tiny, 700, 8 << 10, 20 << 10, 30 << 10, 110 << 10, 300 << 10, 520 << 10];
        let size = sizes[self.random.below(sizes.len() as u64) as usize];
        let any = match self.held.len() as u64 {
            0 => None,
            count => Some(self.held[self.random.below(count) as usize]),
        };
        match (self.random.below(100), any) {
            (0..34, _) => Operation::Alloc { size, align: 1 << self.random.below(10) },
            (34..44, _) => Operation::AllocAnnounced { size },
            (44..80, Some(held)) => Operation::Free(held),
            (80..90, Some(held)) if self.is_large(held) => {
                Operation::Resize(held, 1 + self.random.below(10))
            }
            (90..94, _) => Operation::LetAllGo,
            (94..96, _) => Operation::Sweep,
            (96..98, _) => Operation::Trim,
            (98..100, _) => Operation::Grow,
            _ => Operation::Alloc { size, align: 8 },
        }
    }

    fn is_large(&self, held: Held) -> bool {
        let found = at_work(&self.engine, &self.memory, ME).live_object(held.place);
        matches!(found, Ok(Object::Large { .. }))
    }

    fn remember(&mut self, operation: Operation, gave: Option<Held>) {
        match operation {
            Operation::Free(held) => self.held.retain(|&other| other != held),
            Operation::Resize(held, _) if gave.is_some() => {
                self.held.retain(|&other| other != held);
                self.held.extend(gave);
            }
            Operation::Alloc { .. } | Operation::AllocAnnounced { .. } => self.held.extend(gave),
            _ => {}
        }
    }

    fn step(&mut self, nested: bool, tally: &mut Tally) {
        let other = self.choose();
        let worker = at_work(&self.engine, &self.memory, ME);
        let gave = run(&worker, &self.memory, &mut self.other, other);
        self.remember(other, gave);

        let operation = self.choose();
        let before = self.memory.image();
        let worker = at_work(&self.engine, &self.memory, DEAD);
        let (gave, stores) =
            self.memory.record(|| run(&worker, &self.memory, &mut self.victim, operation));
        let after = self.memory.image();
        let (engine, memory) = (&self.engine, &self.memory);
        let case = Case { engine, memory, before: &before, stores: &stores, operation };
        case.kill_everywhere(nested, tally);
        assert_eq!(self.memory.image(), after, "the test puts everything back");
        self.remember(operation, gave);
    }
}

#[test]
fn killed_after_every_store() {
    let seed = seed();
    let (plays, steps) = if cfg!(miri) { (1, 2) } else { (90, 400) };
    let mut tally = Tally::default();
    for number in 0..plays {
        let mut play = Play::new(Random(seed + number));
        for _ in 0..steps {
            // Depth two is the square of the stores: every third play gets it, and none under Miri.
            play.step(number % 3 == 2, &mut tally);
        }
    }
    println!("{tally:?}");
    assert!(cfg!(miri) || tally.kills + tally.nested_kills > 1_000_000, "{tally:?}");
}

/// The slot's next holder may be another process: nothing of the dead one must be left for it.
#[test]
fn nothing_is_noted_after_an_adoption() {
    use crate::segment::words::Words;
    let mut play = Play::new(Random(3));
    for _ in 0..if cfg!(miri) { 10 } else { 200 } {
        let operation = play.choose();
        let worker = at_work(&play.engine, &play.memory, DEAD);
        let gave = run(&worker, &play.memory, &mut play.victim, operation);
        play.remember(operation, gave);
    }
    adopt(&play.engine, &play.memory);
    for note in super::memory::notes(DEAD) {
        assert_eq!(play.memory.load(note), 0);
    }
    assert_eq!(actor(DEAD).peer, DEAD);
}
