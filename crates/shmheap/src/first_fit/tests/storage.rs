//! Storage: the engine touches no page that was not reserved for the granules in use. On a full
//! file system that page would be a signal.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::time::Duration;

use super::memory::{HEADER, ME, THREADS};
use crate::first_fit::layout::{Area, Layout, Position};
use crate::first_fit::{Fault, FirstFit, Surroundings};
use crate::segment::words::Words;
use crate::units::{LINE_WORDS, Offset, PAGE_BYTES, PeerSlot, WordIndex};

/// A row that notes every page that is touched.
struct Pages {
    words: RefCell<HashMap<u64, u64>>,
    touched: RefCell<BTreeSet<u64>>,
}

impl Words for &Pages {
    fn load(&self, at: WordIndex) -> u64 {
        self.touched.borrow_mut().insert(at.offset().0 / PAGE_BYTES);
        self.words.borrow().get(&at.0).copied().unwrap_or(0)
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        std::array::from_fn(|word| self.load(at + word as u64))
    }

    fn store(&self, at: WordIndex, value: u64) {
        self.touched.borrow_mut().insert(at.offset().0 / PAGE_BYTES);
        self.words.borrow_mut().insert(at.0, value);
    }

    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        let found = self.load(at);
        if found == current {
            self.store(at, new);
        }
        if found == current { Ok(found) } else { Err(found) }
    }

    fn wait(&self, _at: WordIndex, _expected: u64, timeout: Duration) -> Duration {
        timeout
    }

    fn wake(&self, _at: WordIndex) {}

    fn wake_all(&self, _at: WordIndex) {}
}

/// Gives storage to what the engine asks for.
struct Reserving {
    layout: Layout,
    ranges: RefCell<Vec<Range<u64>>>,
}

impl Surroundings for Reserving {
    fn is_dead(&self, _peer: PeerSlot) -> bool {
        false
    }

    fn ensure_head(&self, area: Area) -> Result<(), Fault> {
        self.ensure_storage(area, 1)
    }

    fn ensure_storage(&self, area: Area, granules: u64) -> Result<(), Fault> {
        self.ranges.borrow_mut().extend(self.layout.storage(area, 0, granules));
        Ok(())
    }

    fn has_storage(&self, area: Area, granules: u64) -> bool {
        let ranges = self.ranges.borrow();
        let is_in = |wanted: &Range<u64>| {
            ranges.iter().any(|range| range.start <= wanted.start && wanted.end <= range.end)
        };
        self.layout.storage(area, 0, granules).iter().all(is_in)
    }

    fn ensure_records(&self, area: Area, granules: u64) -> Result<(), Fault> {
        self.ensure_storage(area, granules)
    }
}

/// The pages that were touched without storage.
fn untouchable(
    granules: u64,
    max: u64,
    exercise: impl Fn(&FirstFit, &&Pages, &Reserving),
) -> Vec<u64> {
    let start = 33 * PAGE_BYTES;
    let layout = Layout::new(Offset(start), max).unwrap();
    let engine = FirstFit::new(&layout, HEADER, THREADS, 16);
    let pages = Pages { words: RefCell::default(), touched: RefCell::default() };
    let row = &pages;
    engine.format(&row, granules);
    let reserved = RefCell::new(layout.storage(Area::FIRST, 0, granules));
    let world = Reserving { layout, ranges: reserved };
    exercise(&engine, &row, &world);
    let reserved = world.ranges.borrow();
    let is_reserved = |page: &u64| {
        let byte = page * PAGE_BYTES;
        byte < start || reserved.iter().any(|range| range.contains(&byte))
    };
    let touched = pages.touched.borrow();
    touched.iter().copied().filter(|page| !is_reserved(page)).collect()
}

/// 256 KiB of 16-byte granules: region number 256 is the first of a page nobody reserved.
#[test]
fn looking_for_the_last_gap_stays_in_reserved_storage() {
    let pages = untouchable(16_384, 1 << 20, |engine, row, world| {
        let _ = engine.operator(*row, ME, world).last_gap();
    });
    assert_eq!(pages, [0; 0], "pages touched without storage");
}

/// 32 MiB of 16-byte granules: word 512 of summary 1 is the first of a page nobody reserved.
#[test]
fn looking_for_the_next_start_stays_in_reserved_storage() {
    let pages = untouchable(1 << 21, 1 << 26, |engine, row, world| {
        let operator = engine.operator(*row, ME, world);
        let at = operator.alloc((1 << 21) - 3, 1).unwrap().unwrap();
        operator.free(at).unwrap();
    });
    assert_eq!(pages, [0; 0], "pages touched without storage");
}

/// A holder is stopped in growth, and then in an allocation of what was added: each time with the
/// heap's end where a page of some array ends.
#[test]
fn thefts_stay_in_reserved_storage() {
    let other = PeerSlot(1);
    let pages = untouchable(16_384, 1 << 20, |engine, row, world| {
        for end in [32_768, 49_152, 65_536].into_iter().take(if cfg!(miri) { 1 } else { 3 }) {
            let stopped = engine.operator(*row, ME, world).session().unwrap();
            let thief = engine.operator(*row, other, world);
            thief.grow(Position(end)).unwrap();
            thief.alloc(16_000, 1).unwrap().unwrap();
            drop(stopped);
        }
    });
    assert_eq!(pages, [0; 0], "pages touched without storage");
}
