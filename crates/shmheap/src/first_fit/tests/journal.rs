//! The journal word by word: what is announced, what is taken for an announcement, and what whoever
//! completes it asks for.
//!
//! The kill tests go through the journal millions of times, but only with what healthy processes
//! announce; what else it may hold, a bound off by one among it, is put there by hand.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::{DEAD, World, heap};
use crate::first_fit::journal::{
    Counters, Entry, Growth, JOURNAL_WORDS, Journal, Owner, Resize, Span,
};
use crate::first_fit::layout::{Area, Position};
use crate::first_fit::{Fault, Surroundings};
use crate::os::Futex;
use crate::peers::{ENTRIES, ThreadTable};
use crate::segment::words::{Row, Words};
use crate::units::{PeerSlot, WordIndex};

const BASE: WordIndex = WordIndex(8);
const THREADS: ThreadTable = ThreadTable::new(WordIndex(32), 2, WordIndex(0));
const SESSION: u64 = 5;
const END: Position = Position(40);
const GRANULES_MAX: u64 = 100;
const COUNTERS: Counters = Counters { objects: 7, granules: 9 };

struct Scene {
    memory: Vec<AtomicU64>,
    journal: Journal,
}

impl Scene {
    fn new() -> Self {
        let memory = (0..64).map(|_| AtomicU64::new(0)).collect();
        Self { memory, journal: Journal::new(BASE, THREADS) }
    }

    fn row(&self) -> Row<'_, Futex> {
        Row::new(&self.memory, Futex)
    }

    fn words(&self) -> Vec<u64> {
        let journal = &self.memory[BASE.0 as usize..][..JOURNAL_WORDS as usize];
        journal.iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }

    fn pending(&self, session: u64) -> Result<Option<(Entry, Counters)>, Fault> {
        self.journal.pending(&self.row(), session, END, GRANULES_MAX)
    }

    /// Whether an operation with those operands is taken for possible in a heap that ends at `end`.
    fn accepts(&self, kind: u64, operands: [u64; 4], end: u64) -> bool {
        self.row().store(BASE, SESSION << 8 | kind);
        for (at, operand) in (1..).zip(operands) {
            self.row().store(BASE + at, operand);
        }
        let found = self.journal.pending(&self.row(), SESSION, Position(end), GRANULES_MAX);
        assert!(!matches!(found, Ok(None)));
        found.is_ok()
    }
}

#[test]
fn what_is_announced_is_found_by_its_session_alone() {
    let [a, b, c, d] = [10, 11, 12, 13].map(Position);
    let span = Span { start: a, object: b, object_end: c, end: d };
    let resize = Resize { object: a, new_end: b, old_end: c, gap_end: d };
    let growth = Growth { gap: a, old_end: END, new_end: Position(50) };
    let entry = THREADS.entries(THREADS.record(1).unwrap()).last().unwrap();
    let owner_word = THREADS.entry_number(entry) << 1;
    let owner = |done| Owner { entry, done };
    for (entry, kind, operands, owner_word) in [
        (Entry::Carve(span), 1, [10, 11, 12, 13], 0),
        (Entry::Join(span), 2, [10, 11, 12, 13], 0),
        (Entry::Resize(resize), 3, [10, 11, 12, 13], 0),
        (Entry::Grow(growth), 4, [10, 40, 50, 0], 0),
        (Entry::CarveFor(span, owner(false)), 5, [10, 11, 12, 13], owner_word),
        (Entry::CarveFor(span, owner(true)), 5, [10, 11, 12, 13], owner_word | 1),
        (Entry::JoinFor(span, owner(true)), 6, [10, 11, 12, 13], owner_word | 1),
    ] {
        let scene = Scene::new();
        scene.journal.begin(&scene.row(), SESSION, entry, COUNTERS);
        let announced = [&[SESSION << 8 | kind], &operands[..], &[7, 9, owner_word]].concat();
        assert_eq!(scene.words(), announced);
        assert_eq!(scene.memory.iter().filter(|word| word.load(Ordering::Relaxed) != 0).count(), {
            announced.iter().filter(|&&word| word != 0).count()
        });
        assert_eq!(scene.pending(SESSION).unwrap(), Some((entry, COUNTERS)));
        for other in [0, 1, 4, 6, SESSION | 1 << 55] {
            assert_eq!(scene.pending(other).unwrap(), None, "session {other}");
        }
    }
    assert_eq!(Journal::new(BASE, THREADS).base(), BASE);
}

/// A world that notes how many granules it was asked to have storage for.
struct Asked(Cell<u64>);

impl Surroundings for Asked {
    fn is_dead(&self, peer: PeerSlot) -> bool {
        peer == DEAD
    }

    fn ensure_head(&self, _area: Area) -> Result<(), Fault> {
        Ok(())
    }

    fn ensure_storage(&self, _area: Area, granules: u64) -> Result<(), Fault> {
        self.0.set(self.0.get().max(granules));
        Ok(())
    }

    fn has_storage(&self, _area: Area, _granules: u64) -> bool {
        true
    }

    fn ensure_records(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        Ok(())
    }
}

#[test]
fn who_completes_a_growth_asks_for_storage_of_all_of_it() {
    let (engine, memory) = heap(1000, 4000, 16);
    let before = memory.image();
    let grow = || engine.operator(&memory, DEAD, &World).grow(Position(3000)).unwrap();
    let ((), stores) = memory.record(grow);
    let mut completed = 0;
    for done in 0..stores.len() {
        memory.restore(&before);
        stores[..done].iter().for_each(|&(at, value)| memory.poke(at, value));
        let (was, asked) = (engine.end(&memory, Area::FIRST), Asked(Cell::new(0)));
        engine.adopt(&memory, DEAD, &asked).unwrap();
        if engine.end(&memory, Area::FIRST) != was {
            assert_eq!(asked.0.get(), 3000, "killed after {done} stores");
            completed += 1;
        }
    }
    assert!(completed > 0);
}

#[test]
fn no_kind_is_no_announcement_and_a_strange_one_is_damage() {
    let scene = Scene::new();
    assert_eq!(scene.pending(0).unwrap(), None);
    scene.row().store(BASE, SESSION << 8);
    assert_eq!(scene.pending(SESSION).unwrap(), None);
    for kind in [7, 8, 255] {
        assert!(!scene.accepts(kind, [1, 2, 3, 4], 40), "kind {kind}");
    }
}

#[test]
fn impossible_operands_are_damage() {
    let scene = Scene::new();
    let entries = 2 * u64::from(ENTRIES);
    scene.row().store(BASE + 7, (entries - 1) << 1);
    for kind in [1, 2, 5, 6] {
        for (operands, end) in [([1, 1, 2, 2], 2), ([1, 2, 3, 4], 9)] {
            assert!(scene.accepts(kind, operands, end), "{operands:?}");
        }
        for (operands, end) in
            [([2, 1, 3, 3], 3), ([1, 2, 2, 3], 3), ([1, 1, 3, 2], 3), ([1, 1, 2, 3], 2)]
        {
            assert!(!scene.accepts(kind, operands, end), "{operands:?}");
        }
    }
    for (operands, end) in [([1, 2, 2, 2], 2), ([1, 2, 3, 4], 9), ([1, 3, 2, 4], 9)] {
        assert!(scene.accepts(3, operands, end), "{operands:?}");
    }
    for (operands, end) in [
        ([2, 2, 3, 3], 3),
        ([2, 3, 2, 3], 3),
        ([1, 3, 2, 2], 3),
        ([1, 2, 3, 2], 3),
        ([1, 2, 2, 3], 2),
    ] {
        assert!(!scene.accepts(3, operands, end), "{operands:?}");
    }
    for (operands, end) in [([2, 2, 100, 0], 2), ([1, 2, 4, 0], 2), ([1, 2, 4, 0], 4)] {
        assert!(scene.accepts(4, operands, end), "{operands:?}");
    }
    for (operands, end) in [
        ([3, 2, 4, 0], 2),
        ([1, 3, 4, 0], 2),
        ([1, 2, 2, 0], 2),
        ([1, 2, 4, 0], 5),
        ([1, 2, 101, 0], 2),
    ] {
        assert!(!scene.accepts(4, operands, end), "{operands:?}");
    }
    // An owner that is no entry of the ledger.
    scene.row().store(BASE + 7, entries << 1);
    assert!(scene.accepts(1, [1, 2, 3, 4], 9));
    assert!(!scene.accepts(5, [1, 2, 3, 4], 9) && !scene.accepts(6, [1, 2, 3, 4], 9));
}
