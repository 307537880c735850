//! A heap in plain memory: words, an engine over them, and views that record stores.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::first_fit::layout::{Area, Layout};
use crate::first_fit::{Fault, FirstFit, HeaderWords, Surroundings};
use crate::os::Parking;
use crate::peers::ThreadTable;
use crate::segment::words::Words;
use crate::units::{LINE_WORDS, Offset, PAGE_BYTES, PeerSlot, WordIndex};

/// Words in pieces: Miri follows each access to a slice through what it knows of all of the slice,
/// and a heap has some thousand words.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "else they are one slice again")]
pub(super) struct Chunks(Vec<Box<[AtomicU64; CHUNK]>>);

const CHUNK: usize = 64;

impl Chunks {
    /// At least so many words, all 0.
    pub(super) fn new(count: u64) -> Self {
        let chunk = || Box::new([const { AtomicU64::new(0) }; CHUNK]);
        Self((0..count.div_ceil(CHUNK as u64)).map(|_| chunk()).collect())
    }

    #[inline]
    fn get(&self, at: WordIndex) -> Option<&AtomicU64> {
        let chunk = self.0.get(at.0 as usize / CHUNK)?;
        Some(&chunk[at.0 as usize % CHUNK])
    }
}

/// Words that threads share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<'m, P> {
    words: &'m Chunks,
    parking: P,
}

impl<'m, P> Shared<'m, P> {
    pub(super) fn new(words: &'m Chunks, parking: P) -> Self {
        Self { words, parking }
    }

    fn get(&self, at: WordIndex) -> &'m AtomicU64 {
        self.words.get(at).expect("a sound heap stays in its words")
    }
}

impl<P: Parking> Words for Shared<'_, P> {
    fn load(&self, at: WordIndex) -> u64 {
        self.get(at).load(Ordering::SeqCst)
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        std::array::from_fn(|word| self.get(at + word as u64).load(Ordering::Acquire))
    }

    fn store(&self, at: WordIndex, value: u64) {
        self.get(at).store(value, Ordering::Release);
    }

    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        self.get(at).compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
    }

    fn wait(&self, at: WordIndex, expected: u64, timeout: Duration) -> Duration {
        self.parking.wait(self.get(at), expected, timeout)
    }

    fn wake(&self, at: WordIndex) {
        self.parking.wake(self.get(at));
    }

    fn wake_all(&self, at: WordIndex) {
        self.parking.wake_all(self.get(at));
    }
}

/// The records of a heap in plain memory.
#[derive(Debug)]
pub(super) struct Memory {
    words: Chunks,
    /// Which chunks were ever stored to; the others are 0.
    touched: RefCell<Vec<bool>>,
    /// While recording, every store in order.
    log: RefCell<Option<Vec<(WordIndex, u64)>>>,
    /// Whether a test has put nonsense into the words.
    pub(super) corrupt: Cell<bool>,
}

pub(super) const HEADER: HeaderWords = HeaderWords {
    lock: WordIndex(0),
    current: WordIndex(1),
    pins: WordIndex(2),
    length: WordIndex(6),
};

/// A record for each of four peers.
pub(super) const THREADS: ThreadTable = ThreadTable::new(WordIndex(16), 4, WordIndex(7));

/// The head of area 0, in which all is that is not robbed.
pub(super) const HEAD: WordIndex = Offset(PAGE_BYTES).word();
const _: () = assert!(THREADS.end().0 <= PAGE_BYTES);
pub(super) const JOURNAL: WordIndex = HEAD;

/// The engine and its memory for a heap of `granules` granules that may grow to `granules_max`.
pub(super) fn heap(granules: u64, granules_max: u64, granule_bytes: u64) -> (FirstFit, Memory) {
    let layout = Layout::new(THREADS.end(), granules_max).unwrap();
    let engine = FirstFit::new(&layout, HEADER, THREADS, granule_bytes);
    let memory = Memory::new(layout.end().word().0);
    engine.format(&memory, granules);
    (engine, memory)
}

/// As [`heap`], with the words of its object space behind the records.
pub(super) fn heap_with_space(
    granules: u64,
    granule_bytes: u64,
) -> (FirstFit, Memory, Range<Offset>) {
    let layout = Layout::new(THREADS.end(), granules).unwrap();
    let engine = FirstFit::new(&layout, HEADER, THREADS, granule_bytes);
    let start = Offset(layout.end().0.next_multiple_of(granule_bytes));
    let end = Offset(start.0 + granules * granule_bytes);
    let memory = Memory::new(end.word().0);
    engine.format(&memory, granules);
    (engine, memory, start..end)
}

impl Memory {
    fn new(word_count: u64) -> Self {
        let words = Chunks::new(word_count);
        let touched = RefCell::new(vec![false; words.0.len()]);
        Self { words, touched, log: RefCell::new(None), corrupt: Cell::new(false) }
    }

    /// A copy of all words.
    pub(super) fn image(&self) -> Vec<u64> {
        let touched = self.touched.borrow();
        let mut image = vec![0; touched.len() * CHUNK];
        for (number, _) in touched.iter().enumerate().filter(|(_, touched)| **touched) {
            let copy = &mut image[number * CHUNK..][..CHUNK];
            for (copy, word) in copy.iter_mut().zip(self.words.0[number].iter()) {
                *copy = word.load(Ordering::Relaxed);
            }
        }
        image
    }

    /// Sets all words to what they were in an image of this memory.
    pub(super) fn restore(&self, image: &[u64]) {
        for (number, _) in self.touched.borrow().iter().enumerate().filter(|(_, touched)| **touched)
        {
            let copy = &image[number * CHUNK..][..CHUNK];
            for (word, &value) in self.words.0[number].iter().zip(copy) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }

    /// The first of the words that `stores` have changed that is not as in `image`.
    pub(super) fn differs<'s>(
        &self,
        image: &[u64],
        stores: impl IntoIterator<Item = &'s (WordIndex, u64)>,
        counts: impl Fn(WordIndex) -> bool,
    ) -> Option<WordIndex> {
        let differs = |at: &WordIndex| counts(*at) && self.load(*at) != image[at.0 as usize];
        stores.into_iter().map(|&(at, _)| at).find(differs)
    }

    /// Sets one word past the log.
    pub(super) fn poke(&self, at: WordIndex, value: u64) {
        self.touch(at);
        self.words.get(at).unwrap().store(value, Ordering::Relaxed);
    }

    /// Runs `operation` and returns what it stored, in order.
    pub(super) fn record<T>(&self, operation: impl FnOnce() -> T) -> (T, Vec<(WordIndex, u64)>) {
        *self.log.borrow_mut() = Some(vec![]);
        let result = operation();
        (result, self.log.borrow_mut().take().unwrap())
    }

    fn touch(&self, at: WordIndex) {
        if let Some(touched) = self.touched.borrow_mut().get_mut(at.0 as usize / CHUNK) {
            *touched = true;
        }
    }

    fn note(&self, at: WordIndex, value: u64) {
        if let Some(log) = self.log.borrow_mut().as_mut() {
            log.push((at, value));
        }
    }
}

/// Total like every row of words; but a sound heap never leads the engine out of its row, so there
/// that is a failed test.
impl Words for Memory {
    fn load(&self, at: WordIndex) -> u64 {
        self.words.get(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        std::array::from_fn(|word| self.load(at + word as u64))
    }

    fn store(&self, at: WordIndex, value: u64) {
        self.note(at, value);
        self.touch(at);
        match self.words.get(at) {
            Some(word) => word.store(value, Ordering::Release),
            None => assert!(self.corrupt.get(), "store outside the row: {at:?}"),
        }
    }

    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        self.touch(at);
        let word = self.words.get(at).unwrap();
        let result = word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst);
        if result.is_ok() {
            self.note(at, new);
        }
        result
    }

    /// Nobody comes while the only thread sleeps: the time is over at once.
    fn wait(&self, _at: WordIndex, _expected: u64, timeout: Duration) -> Duration {
        timeout
    }

    fn wake(&self, _at: WordIndex) {}

    fn wake_all(&self, _at: WordIndex) {}
}

/// The peer that operates in the tests.
pub(super) const ME: PeerSlot = PeerSlot(0);
/// The peer that has been killed.
pub(super) const DEAD: PeerSlot = PeerSlot(7);

/// Everybody lives but [`DEAD`]; there is storage for everything.
#[derive(Debug)]
pub(super) struct World;

impl Surroundings for World {
    fn is_dead(&self, peer: PeerSlot) -> bool {
        peer == DEAD
    }

    fn ensure_head(&self, _area: Area) -> Result<(), Fault> {
        Ok(())
    }

    fn ensure_storage(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn has_storage(&self, _area: Area, _granules: u64) -> bool {
        true
    }

    fn ensure_records(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        Ok(())
    }
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

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The seed of a random test: `SHMHEAP_SEED`, or one made up, printed to replay it.
pub(super) fn seed() -> u64 {
    let seed = std::env::var("SHMHEAP_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| if cfg!(miri) { 1 } else { fresh_seed() });
    println!("replay with SHMHEAP_SEED={seed}");
    seed
}

fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
