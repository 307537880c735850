//! A heap in plain memory: a `Vec` of words and one of states, an engine over them, and views that
//! record stores.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::peers::ThreadTable;
use crate::segment::fault::Fault;
use crate::segment::states::{State, StateIndex, StateRow, States};
use crate::segment::words::Words;
use crate::slab::layout::{Layout, StateBlock};
use crate::slab::unit::{UnitWord, Use};
use crate::slab::{
    Actor, Cache, Census, PeerStanding, Place, Registry, Slabs, Surroundings, Unit, Worker,
};
use crate::units::{LINE_WORDS, Offset, PeerSlot, WordIndex};

/// The peers of the tests; the one that has been killed, if one has.
pub(super) const ME: PeerSlot = PeerSlot(0);
pub(super) const OTHER: PeerSlot = PeerSlot(1);
pub(super) const DEAD: PeerSlot = PeerSlot(7);

const LENGTH: WordIndex = WordIndex(0);
/// Each peer's note has a line of its own.
const NOTES: WordIndex = WordIndex(16);
const NOTES_PER_PEER: u64 = 2;
const RECORDS: Offset = Offset(2048);
/// Two thread records, for the entries of the ledger.
pub(super) const THREADS: ThreadTable = ThreadTable::new(WordIndex(160), 2, WordIndex(9));
/// Words behind all records, for the tests' cells.
const CELLS: u64 = 8;

/// What was done to memory: a word or a state stored, storage reserved or given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    Word(WordIndex, u64),
    State(StateIndex, u8),
    /// Not a store: what the system was asked to do with a unit's storage.
    Storage(Unit, u8),
}

/// The records of a heap in plain memory.
#[derive(Debug)]
pub(super) struct Memory {
    words: Vec<AtomicU64>,
    states: Vec<AtomicU8>,
    /// Which units have storage: 1, or 0.
    storage: Vec<AtomicU8>,
    /// While recording, every store in order.
    log: RefCell<Option<Vec<Store>>>,
}

/// The content of a memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) words: Vec<u64>,
    pub(super) states: Vec<u8>,
    pub(super) storage: Vec<u8>,
}

/// The engine and its memory for a heap of `units` units that may grow to `units_max`.
pub(super) fn heap(units: u64, units_max: u64) -> (Slabs, Memory) {
    let layout = Layout::new(RECORDS, units_max).unwrap();
    let engine = Slabs::new(&layout, LENGTH);
    let states = layout.states();
    // Miri's rules for references cost time for each byte behind one: there, only the rows of the
    // first kind exist, which slabs of objects of 64 bytes or more have.
    let states_end = if cfg!(miri) { states.start + 1024 * units_max } else { states.end };
    let memory = Memory {
        words: (0..states.start / 8 + CELLS).map(|_| AtomicU64::new(0)).collect(),
        states: (states.start..states_end).map(|_| AtomicU8::new(0)).collect(),
        storage: (0..units_max).map(|_| AtomicU8::new(1)).collect(),
        log: RefCell::new(None),
    };
    engine.format(&memory, units);
    (engine, memory)
}

/// Where the cells lie.
pub(super) fn cells(engine: &Slabs) -> Range<Offset> {
    let start = engine.layout().states().start;
    Offset(start)..Offset(start + CELLS * 8)
}

/// The peer's only thread.
pub(super) fn actor(peer: PeerSlot) -> Actor {
    Actor { peer, notes: NOTES + 16 * u64::from(peer.0) }
}

/// The notes of the peer's only thread.
pub(super) fn notes(peer: PeerSlot) -> impl Iterator<Item = WordIndex> {
    (0..NOTES_PER_PEER).map(move |number| actor(peer).notes + number)
}

/// The peer at work.
pub(super) fn at_work<'e>(
    engine: &'e Slabs,
    memory: &'e Memory,
    peer: PeerSlot,
) -> Worker<'e, &'e Memory, &'e Memory> {
    engine.worker(memory, memory, actor(peer))
}

/// The census of a heap in which everybody lives but [`DEAD`].
pub(super) fn census(engine: &Slabs, memory: &Memory) -> Census {
    engine.census(&memory, &Watch(memory), engine.end(memory), 8)
}

/// What the dead one left is adopted.
pub(super) fn adopt(engine: &Slabs, memory: &Memory) {
    let worker = at_work(engine, memory, DEAD);
    worker.adopt_notes(notes(DEAD)).unwrap();
    worker.adopt_units().unwrap();
}

impl Memory {
    pub(super) fn image(&self) -> Image {
        Image {
            words: self.words.iter().map(|word| word.load(Ordering::Relaxed)).collect(),
            states: self.states.iter().map(|state| state.load(Ordering::Relaxed)).collect(),
            storage: self.storage.iter().map(|has| has.load(Ordering::Relaxed)).collect(),
        }
    }

    /// Puts back what `image` has where `stores` went.
    pub(super) fn undo(&self, image: &Image, stores: &[Store]) {
        for &store in stores {
            match store {
                Store::Word(at, _) => self.apply(Store::Word(at, image.words[at.0 as usize])),
                Store::State(at, _) => self.apply(Store::State(at, image.states[at.0 as usize])),
                Store::Storage(unit, _) => {
                    self.apply(Store::Storage(unit, image.storage[unit.0 as usize]));
                }
            }
        }
    }

    /// Stores past the log.
    pub(super) fn apply(&self, store: Store) {
        match store {
            Store::Word(at, value) => self.words[at.0 as usize].store(value, Ordering::Relaxed),
            Store::State(at, value) => self.states[at.0 as usize].store(value, Ordering::Relaxed),
            Store::Storage(unit, has) => {
                self.storage[unit.0 as usize].store(has, Ordering::Relaxed);
            }
        }
    }

    /// Makes memory what an image has.
    pub(super) fn restore(&self, image: &Image) {
        for (word, &value) in self.words.iter().zip(&image.words) {
            word.store(value, Ordering::Relaxed);
        }
        for (state, &value) in self.states.iter().zip(&image.states) {
            state.store(value, Ordering::Relaxed);
        }
        for (storage, &value) in self.storage.iter().zip(&image.storage) {
            storage.store(value, Ordering::Relaxed);
        }
    }

    /// Records stores from here on.
    pub(super) fn begin(&self) {
        *self.log.borrow_mut() = Some(vec![]);
    }

    /// What was stored since [`begin`](Self::begin), in order.
    pub(super) fn finish(&self) -> Vec<Store> {
        self.log.borrow_mut().take().unwrap()
    }

    /// Runs `operation` and returns what it stored, in order.
    pub(super) fn record<T>(&self, operation: impl FnOnce() -> T) -> (T, Vec<Store>) {
        self.begin();
        let result = operation();
        (result, self.finish())
    }

    pub(super) fn has_storage(&self, unit: Unit) -> bool {
        self.storage[unit.0 as usize].load(Ordering::Relaxed) == 1
    }

    fn set_storage(&self, units: Range<Unit>, has: u8) {
        for unit in (units.start.0..units.end.0).map(Unit) {
            self.note(Store::Storage(unit, has));
            self.apply(Store::Storage(unit, has));
        }
    }

    fn note(&self, store: Store) {
        if let Some(log) = self.log.borrow_mut().as_mut() {
            log.push(store);
        }
    }
}

impl Words for Memory {
    fn load(&self, at: WordIndex) -> u64 {
        self.words.get(at.0 as usize).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        std::array::from_fn(|word| self.load(at + word as u64))
    }

    fn store(&self, at: WordIndex, value: u64) {
        self.note(Store::Word(at, value));
        if let Some(word) = self.words.get(at.0 as usize) {
            word.store(value, Ordering::Release);
        }
    }

    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        let Some(word) = self.words.get(at.0 as usize) else { return Err(0) };
        let result = word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst);
        if result.is_ok() {
            self.note(Store::Word(at, new));
        }
        result
    }

    fn wait(&self, _at: WordIndex, _expected: u64, _timeout: Duration) -> Duration {
        Duration::ZERO
    }

    fn wake(&self, _at: WordIndex) {}

    fn wake_all(&self, _at: WordIndex) {}
}

impl States for Memory {
    fn load_state(&self, at: StateIndex) -> State {
        StateRow(&self.states).load_state(at)
    }

    fn store_state(&self, at: StateIndex, state: State) {
        self.note(Store::State(at, state.0));
        StateRow(&self.states).store_state(at, state);
    }

    fn free_states(&self, at: StateIndex) -> u64 {
        StateRow(&self.states).free_states(at)
    }
}

/// The system: it has storage for everything, and forgets what is given back.
impl Surroundings for Memory {
    fn reserve(&self, units: Range<Unit>) -> Result<(), Fault> {
        self.set_storage(units, 1);
        Ok(())
    }

    fn discard(&self, units: Range<Unit>) -> bool {
        self.set_storage(units, 0);
        true
    }
}

/// A system that has no storage for anything, and no slab's states.
pub(super) struct NoStates;

impl Surroundings for NoStates {
    fn ensure_states(&self, _block: StateBlock) -> Result<(), Fault> {
        Err(Fault::NoStorage)
    }

    fn reserve(&self, _units: Range<Unit>) -> Result<(), Fault> {
        Err(Fault::NoStorage)
    }

    fn discard(&self, _units: Range<Unit>) -> bool {
        false
    }
}

/// Makes the first units what they are said to be.
pub(super) fn set(engine: &Slabs, memory: &Memory, uses: &[Use]) {
    for (unit, &becomes) in (0..).map(Unit).zip(uses) {
        memory.store(engine.word_of(unit), UnitWord(0).with(becomes).0);
    }
}

/// Who watches a heap in which everybody lives but [`DEAD`].
struct Watch<'m>(&'m Memory);

impl Registry for Watch<'_> {
    fn peer(&self, peer: PeerSlot) -> PeerStanding {
        match peer {
            DEAD => PeerStanding::Dead,
            ME | OTHER => PeerStanding::Alive,
            _ => PeerStanding::Unknown,
        }
    }

    fn notes(&self) -> Vec<u64> {
        let notes = [ME, OTHER, DEAD].into_iter().flat_map(notes);
        notes.map(|note| self.0.load(note)).collect()
    }

    fn ensure_states(&self, _block: StateBlock) -> Result<(), Fault> {
        Ok(())
    }
}

/// An object as a test remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) place: Place,
    pub(super) bytes: u64,
}

/// Allocates as the heap does, without growth.
pub(super) fn alloc(
    worker: &Worker<'_, &Memory, &Memory>,
    cache: &mut Cache,
    size: u64,
    align: u64,
) -> Option<Held> {
    use crate::slab::{Class, Effort};
    let place = match Class::of(size, align) {
        Some(class) => {
            worker.alloc_small(cache, class, Effort::Usual, |_, _| {}).unwrap().or_else(|| {
                worker.sweep().unwrap();
                worker.alloc_small(cache, class, Effort::Thorough, |_, _| {}).unwrap()
            })
        }
        None => worker.alloc_large(size, align, |_, _| {}).unwrap().or_else(|| {
            worker.sweep().unwrap();
            worker.alloc_large(size, align, |_, _| {}).unwrap()
        }),
    }?;
    Some(Held { place, bytes: worker.live_object(place).unwrap().bytes() })
}

/// A small generator of reproducible random numbers (splitmix64, Steele et al. 2014).
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// 1 to `most`, each power of two as likely as any other.
    pub(super) fn log_uniform(&mut self, most: u64) -> u64 {
        let bits = self.below(u64::from(most.ilog2()) + 1);
        ((1 << bits) + self.below(1 << bits)).min(most)
    }
}

/// The seed of a random test: `SHMHEAP_SEED`, or one made up, printed to replay it.
pub(super) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let given = std::env::var("SHMHEAP_SEED").ok().and_then(|text| text.parse().ok());
    let made_up = || if cfg!(miri) { 1 } else { RandomState::new().hash_one(0) };
    let seed = given.unwrap_or_else(made_up);
    println!("replay with SHMHEAP_SEED={seed}");
    seed
}
