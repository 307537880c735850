//! Areas: the view of one, what a copy of one costs, and who was robbed and leaves it, whichever
//! way it finds out.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::memory::{Chunks, DEAD, HEADER, ME, Memory, Shared, World, heap};
use crate::first_fit::areas::InArea;
use crate::first_fit::layout::{Area, HEAD_WORDS, Position};
use crate::first_fit::lock::{Contender, LockWord};
use crate::first_fit::{Fault, FirstFit, Surroundings};
use crate::os::Parking;
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};

const THIEF: PeerSlot = PeerSlot(1);

/// The thief does something, which it can only with the lock.
fn steal(engine: &FirstFit, memory: &Memory) {
    let before = engine.current(memory);
    engine.operator(memory, THIEF, &World).alloc(5, 1).unwrap().unwrap();
    assert_ne!(engine.current(memory), before, "not stolen");
}

fn who_is_in(memory: &Memory, area: Area) -> Option<PeerSlot> {
    LockWord::of(memory.load(HEADER.pins + u64::from(area.0))).holder()
}

#[test]
fn the_view_of_an_area_is_of_that_area_in_every_access() {
    let (_, memory) = heap(128, 128, 16);
    let view = InArea::new(&memory, 64);
    let (seen, at) = (WordIndex(8), WordIndex(72));
    view.store(seen, 5);
    assert_eq!(memory.load(at), 5);
    assert_eq!((view.load(seen), view.load_line(seen)), (5, memory.load_line(at)));
    assert_eq!(view.compare_exchange(seen, 4, 6), Err(5));
    assert_eq!(view.compare_exchange(seen, 5, 6), Ok(5));
    assert_eq!(memory.load(at), 6);
}

/// Sleepers and who wakes them leave a mark in the word.
struct Marks;

impl Parking for Marks {
    fn wait(&self, word: &AtomicU64, expected: u64, timeout: Duration) -> Duration {
        word.store(expected, Ordering::SeqCst);
        timeout
    }

    fn wake(&self, word: &AtomicU64) {
        word.fetch_add(100, Ordering::SeqCst);
    }

    fn wake_all(&self, word: &AtomicU64) {
        word.fetch_add(1000, Ordering::SeqCst);
    }
}

/// Nobody waits for a word of an area yet; whoever will is not to be woken at another.
#[test]
fn the_view_of_an_area_waits_and_wakes_in_that_area() {
    let chunks = Chunks::new(128);
    let memory = Shared::new(&chunks, Marks);
    let view = InArea::new(&memory, 64);
    let timeout = Duration::from_secs(3);
    assert_eq!(view.wait(WordIndex(8), 5, timeout), timeout);
    assert_eq!(memory.load(WordIndex(72)), 5);
    view.wake(WordIndex(8));
    assert_eq!(memory.load(WordIndex(72)), 105);
}

/// But for those of the head, which are few.
#[test]
fn a_copy_is_allowed_time_for_every_word_of_it() {
    let (engine, memory) = heap(10_000, 20_000, 16);
    let stopped = engine.operator(&memory, ME, &World).session().unwrap();
    let thief = engine.operator(&memory, THIEF, &World);
    let (_, copy) = memory.record(|| drop(thief.session().unwrap()));
    let (copied, head) = (copy.len() as u128, u128::from(HEAD_WORDS));
    let allowed = thief.copying(Area::FIRST).as_nanos() / 16;
    assert!((copied - head..copied).contains(&allowed), "{copied} words, {allowed} allowed for");
    drop(stopped);
}

#[test]
fn a_session_that_is_dropped_leaves_the_area_it_was_robbed_of() {
    let (engine, memory) = heap(128, 128, 16);
    let stopped = engine.operator(&memory, ME, &World).session().unwrap();
    steal(&engine, &memory);
    assert_eq!(who_is_in(&memory, Area::FIRST), Some(ME));
    drop(stopped);
    assert_eq!(who_is_in(&memory, Area::FIRST), None);
}

#[test]
fn who_is_adopted_leaves_the_areas_it_was_robbed_of_and_nobody_else_does() {
    let (engine, memory) = heap(128, 128, 16);
    let [first, second] = [ME, PeerSlot(2)].map(|peer| {
        let stopped = engine.operator(&memory, peer, &World).session().unwrap();
        steal(&engine, &memory);
        stopped
    });
    let areas = [first.area_number(), second.area_number()];
    engine.adopt(&memory, ME, &World).unwrap();
    assert_eq!(areas.map(|area| who_is_in(&memory, area)), [None, Some(PeerSlot(2))]);
    std::mem::forget(first);
    drop(second);
}

/// What is not of the area is not held against the heap once the lock is stolen, and is before.
#[test]
fn an_audit_is_of_one_moment() {
    let (engine, memory) = heap(128, 128, 16);
    let session = engine.operator(&memory, ME, &World).session().unwrap();
    let length = memory.load(HEADER.length);
    memory.poke(HEADER.length, length + 16);
    assert_eq!(session.audit(4).flaws.len(), 1);
    memory.poke(HEADER.length, length);
    steal(&engine, &memory);
    assert_eq!(session.audit(4).flaws, []);
}

/// Whoever asks it for storage is robbed meanwhile, and gets none.
struct Slow<'h> {
    engine: &'h FirstFit,
    memory: &'h Memory,
    has_failed: Cell<bool>,
}

impl Surroundings for Slow<'_> {
    fn is_dead(&self, peer: PeerSlot) -> bool {
        peer == DEAD
    }

    fn ensure_head(&self, _area: Area) -> Result<(), Fault> {
        Ok(())
    }

    fn ensure_storage(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        if self.has_failed.replace(true) {
            return Ok(());
        }
        steal(self.engine, self.memory);
        Err(Fault::NoStorage)
    }

    fn has_storage(&self, _area: Area, _granules: u64) -> bool {
        true
    }

    fn ensure_records(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        Ok(())
    }
}

#[test]
fn who_was_robbed_in_a_recovery_that_fails_leaves_its_area() {
    let (engine, memory) = heap(128, 128, 16);
    std::mem::forget(engine.operator(&memory, DEAD, &World).session().unwrap());
    let slow = Slow { engine: &engine, memory: &memory, has_failed: Cell::new(false) };
    let refused = engine.operator(&memory, ME, &slow).session().map(|_| ());
    assert_eq!(refused, Err(Fault::NoStorage));
    assert_eq!(who_is_in(&memory, Area::FIRST), None);
    let session = engine.operator(&memory, ME, &World).session().unwrap();
    assert_eq!((session.end(), session.audit(4).flaws), (Position(128), vec![]));
}
