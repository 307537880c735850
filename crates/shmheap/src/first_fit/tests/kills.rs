//! Killed after its k-th store, for every operation and every k; and the recovery from that killed
//! after its j-th store, for every j; and the recovery from that.
//!
//! A kill leaves in memory exactly the stores that were executed. So an operation is run once and
//! its stores recorded; the image of every kill is the image before plus a prefix of them. Each
//! must recover, word for word, to the heap before the operation or to the heap after it, as the
//! journal promises.

use std::cell::Cell;

use super::memory::{DEAD, HEADER, JOURNAL, ME, Memory, Random, World, heap, seed};
use crate::first_fit::journal::JOURNAL_WORDS;
use crate::first_fit::layout::{Area, Position};
use crate::first_fit::{Fault, FirstFit, Surroundings};
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};

#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Alloc { need: u64, align: u64 },
    Free(Position),
    Resize(Position, u64),
    Grow(Position),
}

impl Operation {
    /// What a kill between announcement and completion comes to.
    pub(super) fn is_undone(self) -> bool {
        matches!(self, Self::Alloc { .. })
    }
}

pub(super) fn run(
    engine: &FirstFit,
    memory: &Memory,
    me: PeerSlot,
    operation: Operation,
) -> Option<Position> {
    let operator = engine.operator(memory, me, &World);
    match operation {
        Operation::Alloc { need, align } => operator.alloc(need, align).unwrap(),
        Operation::Free(at) => operator.free(at).map(|()| None).unwrap(),
        Operation::Resize(at, need) => operator.resize(at, need).unwrap().then_some(at),
        Operation::Grow(end) => operator.grow(end).map(|()| None).unwrap(),
    }
}

/// Whether a word must be equal: all but those that tell of the lock, the spent journal, and the
/// header's length, which may be late.
pub(super) fn counts(at: WordIndex) -> bool {
    ![HEADER.lock, HEADER.current, HEADER.length].contains(&at) && !is_journal(at)
}

pub(super) fn is_journal(at: WordIndex) -> bool {
    (JOURNAL..JOURNAL + JOURNAL_WORDS).contains(&at)
}

#[derive(Debug, Default)]
struct Tally {
    operations: u64,
    kills: u64,
    nested_kills: u64,
}

/// Everything that is known of one operation that gets killed.
struct Case<'t> {
    engine: &'t FirstFit,
    memory: &'t Memory,
    before: Vec<u64>,
    stores: Vec<(WordIndex, u64)>,
    after: Vec<u64>,
    operation: Operation,
}

impl Case<'_> {
    /// The heap that a kill after `done` stores must come to.
    fn want(&self, done: usize) -> &[u64] {
        let executed = &self.stores[..done];
        // It ends with the exchange that frees the lock, which is the second of that word.
        let is_done = executed.iter().filter(|&&(at, _)| at == HEADER.lock).count() == 2;
        let is_under_way = executed.iter().any(|&(at, _)| at == JOURNAL);
        if is_done || (is_under_way && !self.operation.is_undone()) {
            &self.after
        } else {
            &self.before
        }
    }

    /// Sets the words that `others` and the operation stored to as the kill after `done` stores
    /// left them.
    fn kill(&self, done: usize, others: &[(WordIndex, u64)]) {
        for &(at, _) in self.stores.iter().chain(others) {
            self.memory.poke(at, self.before[at.0 as usize]);
        }
        self.apply(&self.stores[..done]);
    }

    fn apply(&self, stores: &[(WordIndex, u64)]) {
        for &(at, value) in stores {
            self.memory.poke(at, value);
        }
    }

    /// `others` are what recoveries have stored: nothing else can have changed.
    fn expect(&self, done: usize, others: &[(WordIndex, u64)], context: impl FnOnce() -> String) {
        let stores = self.stores.iter().chain(others);
        if let Some(at) = self.memory.differs(self.want(done), stores, counts) {
            panic!(
                "{:?} killed after store {done} of {}{}: {at:?} differs",
                self.operation,
                self.stores.len(),
                context()
            );
        }
    }

    /// What the next process does. That it takes the dead one's slot rather than the lock spares
    /// the test the waiting; the recovery is the same.
    fn recover(&self) {
        self.engine.adopt(self.memory, DEAD, &World).unwrap();
    }

    fn kill_everywhere(&self, nested: bool, tally: &mut Tally) {
        tally.operations += 1;
        let mut recovery = vec![];
        for done in 0..=self.stores.len() {
            self.kill(done, &recovery);
            ((), recovery) = self.memory.record(|| self.recover());
            self.expect(done, &recovery, String::new);
            tally.kills += 1;
            if nested {
                self.kill_recovery(done, &recovery, tally);
            }
        }
    }

    fn kill_recovery(&self, done: usize, recovery: &[(WordIndex, u64)], tally: &mut Tally) {
        for again in 0..recovery.len() {
            self.kill(done, recovery);
            self.apply(&recovery[..again]);
            let ((), stores) = self.memory.record(|| self.recover());
            let others = [recovery, &stores].concat();
            self.expect(done, &others, || format!(", its recovery after store {again}"));
            tally.nested_kills += 1;
        }
    }
}

pub(super) fn choose(
    random: &mut Random,
    live: &[Position],
    end: u64,
    granules_max: u64,
) -> Operation {
    let any = |random: &mut Random| live[random.below(live.len() as u64) as usize];
    let need = if random.below(6) == 0 { 1 + random.below(300) } else { 1 + random.below(20) };
    match random.below(100) {
        _ if live.is_empty() => Operation::Alloc { need, align: 1 },
        0..45 => Operation::Alloc { need, align: 1 },
        45..55 => Operation::Alloc { need, align: 1 << random.below(7) },
        55..85 => Operation::Free(any(random)),
        85..98 => Operation::Resize(any(random), need),
        _ if end < granules_max => Operation::Grow(Position(end + 1 + random.below(200))),
        _ => Operation::Free(any(random)),
    }
}

fn trace(random: &mut Random, operations: u64, nested: bool, tally: &mut Tally) {
    let granules_max = 4096;
    let mut end = 600 + random.below(2000);
    let (engine, memory) = heap(end, granules_max, 16);
    let mut live = vec![];
    for _ in 0..operations {
        let operation = match choose(random, &live, end, granules_max) {
            Operation::Grow(to) => Operation::Grow(Position(to.0.min(granules_max))),
            other => other,
        };
        let before = memory.image();
        let (result, stores) = memory.record(|| run(&engine, &memory, DEAD, operation));
        let after = memory.image();
        Case { engine: &engine, memory: &memory, before, after: after.clone(), stores, operation }
            .kill_everywhere(nested, tally);
        memory.restore(&after);
        match operation {
            Operation::Alloc { .. } => live.extend(result),
            Operation::Free(at) => live.retain(|&other| other != at),
            Operation::Resize(..) => {}
            Operation::Grow(to) => end = to.0,
        }
    }
    let audit = engine.audit(&memory, Area::FIRST, Position(end), 4);
    assert_eq!((audit.flaws, audit.live_objects), (vec![], live.len() as u64));
}

#[test]
fn killed_after_every_store() {
    let mut random = Random(seed());
    let (traces, operations) = if cfg!(miri) { (1, 5) } else { (100, 1500) };
    let mut tally = Tally::default();
    for number in 0..traces {
        // Depth two is the square of the stores: every other trace gets it.
        trace(&mut random, operations, number % 2 == 1, &mut tally);
    }
    println!("{tally:?}");
    assert!(cfg!(miri) || tally.kills + tally.nested_kills > 10_000_000, "{tally:?}");
}

#[test]
fn a_dead_holder_is_recovered_by_whoever_wants_the_lock() {
    let (engine, memory) = heap(1000, 1000, 16);
    let operation = Operation::Alloc { need: 5, align: 1 };
    let before = memory.image();
    let (_, stores) = memory.record(|| run(&engine, &memory, DEAD, operation));
    for done in 0..=stores.len() {
        memory.restore(&before);
        stores[..done].iter().for_each(|&(at, value)| memory.poke(at, value));
        drop(engine.operator(&memory, ME, &World).session().unwrap());
        assert_eq!(engine.lock_holder(&memory), None);
        let audit = engine.audit(&memory, Area::FIRST, Position(1000), 4);
        assert_eq!(audit.flaws, [], "after store {done}");
    }
}

#[test]
fn a_journal_that_makes_no_sense_is_reported_once_and_the_heap_goes_on() {
    let (engine, memory) = heap(1000, 1000, 16);
    let lock_of_the_dead = u64::from(DEAD.0) + 1;
    for (kind, operands) in [
        (9, [0, 1, 2, 3]),
        (1, [5, 4, 6, 9]),
        (2, [5, 6, 9, 1001]),
        (3, [0, 2000, 4, 9]),
        (3, [0, 5, 4, 1001]),
        (4, [0, 9, 9, 0]),
        (4, [0, 900, 950, 0]),
        (4, [0, 1000, 5000, 0]),
    ] {
        memory.poke(HEADER.lock, lock_of_the_dead);
        memory.poke(JOURNAL, kind);
        for (number, operand) in (1..).zip(operands) {
            memory.poke(JOURNAL + number, operand);
        }
        let refused = engine.operator(&memory, ME, &World).session().map(|_| ());
        assert!(matches!(refused, Err(Fault::Damaged(_))), "{kind} {operands:?}: {refused:?}");
        assert_eq!(engine.operator(&memory, ME, &World).session().unwrap().end(), Position(1000));
    }
}

/// Everything is well but the first question for storage, as when a descriptor was lost.
struct FailsOnce(Cell<bool>);

impl Surroundings for FailsOnce {
    fn is_dead(&self, peer: PeerSlot) -> bool {
        peer == DEAD
    }
    fn ensure_head(&self, _area: Area) -> Result<(), Fault> {
        Ok(())
    }

    fn ensure_storage(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        if self.0.replace(false) { Err(Fault::NoStorage) } else { Ok(()) }
    }

    fn has_storage(&self, _area: Area, _granules: u64) -> bool {
        true
    }

    fn ensure_records(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        Ok(())
    }
}

fn killed_in_alloc() -> (FirstFit, Memory) {
    let (engine, memory) = heap(1000, 1000, 16);
    let before = memory.image();
    let (_, stores) =
        memory.record(|| engine.operator(&memory, DEAD, &World).alloc(5, 1).unwrap().unwrap());
    memory.restore(&before);
    // Up to the first store behind the journal's: the free bit is cleared, nothing else.
    let kind = stores.iter().position(|&(at, _)| at == JOURNAL).unwrap();
    stores[..kind + 2].iter().for_each(|&(at, value)| memory.poke(at, value));
    (engine, memory)
}

#[test]
fn a_recovery_that_cannot_be_done_is_left_to_the_next() {
    for adopt in [false, true] {
        let (engine, memory) = killed_in_alloc();
        let world = FailsOnce(Cell::new(true));
        if adopt {
            assert!(engine.adopt(&memory, DEAD, &world).is_err());
        } else {
            assert!(engine.operator(&memory, ME, &world).session().is_err());
        }
        assert!(engine.state(&memory).is_abandoned(), "nobody has the lock (adopt: {adopt})");
        let got = engine.operator(&memory, ME, &world).alloc(1000, 1);
        assert_eq!(got, Ok(Some(Position(0))), "the heap is empty (adopt: {adopt})");
    }
}

#[test]
fn damage_met_by_an_adoption_is_not_forgotten() {
    let (engine, memory) = killed_in_alloc();
    memory.poke(JOURNAL, memory.load(JOURNAL) | 99);
    assert!(engine.adopt(&memory, DEAD, &World).is_err());
    let next = engine.operator(&memory, ME, &World).session().map(|_| ());
    assert!(matches!(next, Err(Fault::Damaged(_))), "whoever operates next is told: {next:?}");
}

/// Shrinking an object that spans whole summary words: kills between the levels of the summaries.
#[test]
#[cfg_attr(miri, ignore = "its heap is large; the same code runs there over a small one")]
fn a_large_object_is_shrunk_and_killed_between_summary_levels() {
    let (engine, memory) = heap(20_000, 20_000, 16);
    let whole = Operation::Alloc { need: 20_000, align: 1 };
    run(&engine, &memory, ME, whole);
    let operation = Operation::Resize(Position(0), 10_000);
    let before = memory.image();
    let (_, stores) = memory.record(|| run(&engine, &memory, DEAD, operation));
    let after = memory.image();
    let case = Case { engine: &engine, memory: &memory, before, after, stores, operation };
    case.kill_everywhere(true, &mut Tally::default());
}

/// Killed in a join, and the one who completes it in a join of its own: the bounds of both must not
/// be taken for one.
#[test]
fn whoever_recovers_is_killed_in_an_operation_of_its_own() {
    let (engine, memory) = heap(1000, 1000, 16);
    for need in [5, 7, 3] {
        run(&engine, &memory, ME, Operation::Alloc { need, align: 1 });
    }
    let before = memory.image();
    let announced =
        |stores: &[(WordIndex, u64)]| stores.iter().position(|&(at, _)| at == JOURNAL).unwrap() + 1;
    let [first, second] = [5, 0].map(|at| Operation::Free(Position(at)));
    let (_, join) = memory.record(|| run(&engine, &memory, DEAD, first));
    for done in announced(&join)..join.len() {
        memory.restore(&before);
        join[..done].iter().for_each(|&(at, value)| memory.poke(at, value));
        let killed = memory.image();
        let (_, stores) = memory.record(|| run(&engine, &memory, DEAD, second));
        for again in 0..=stores.len() {
            memory.restore(&killed);
            stores[..again].iter().for_each(|&(at, value)| memory.poke(at, value));
            drop(engine.operator(&memory, ME, &World).session().unwrap());
            let audit = engine.audit(&memory, Area::FIRST, Position(1000), 4);
            let live = if again < announced(&stores) { 2 } else { 1 };
            let found = (audit.flaws, audit.live_objects);
            assert_eq!(found, (vec![], live), "after stores {done} and {again}");
        }
    }
}

#[test]
fn a_slot_is_adopted_without_the_lock_of_another() {
    let (engine, memory) = heap(1000, 1000, 16);
    let session = engine.operator(&memory, ME, &World).session().unwrap();
    let (_, stores) = memory.record(|| engine.adopt(&memory, DEAD, &World).unwrap());
    assert_eq!((stores, engine.lock_holder(&memory)), (vec![], Some(ME)));
    drop(session);
}

/// A world that notes how many granules it was asked to have storage for.
struct Reserving(Cell<u64>);

impl Surroundings for Reserving {
    fn is_dead(&self, peer: PeerSlot) -> bool {
        peer == DEAD
    }

    fn ensure_head(&self, area: Area) -> Result<(), Fault> {
        self.ensure_storage(area, 1)
    }

    fn ensure_storage(&self, _area: Area, granules: u64) -> Result<(), Fault> {
        self.0.set(self.0.get().max(granules));
        Ok(())
    }

    fn has_storage(&self, _area: Area, granules: u64) -> bool {
        granules <= self.0.get()
    }

    fn ensure_records(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        Ok(())
    }
}

#[test]
fn storage_is_asked_for_before_records_are_touched() {
    let (engine, memory) = heap(1000, 4000, 16);
    let world = Reserving(Cell::new(0));
    drop(engine.operator(&memory, ME, &world).session().unwrap());
    assert_eq!(world.0.get(), 1000, "of the heap");
    let before = memory.image();
    let (_, stores) =
        memory.record(|| run(&engine, &memory, DEAD, Operation::Grow(Position(3000))));
    memory.restore(&before);
    let kind = stores.iter().position(|&(at, _)| at == JOURNAL).unwrap();
    stores[..=kind].iter().for_each(|&(at, value)| memory.poke(at, value));
    drop(engine.operator(&memory, ME, &world).session().unwrap());
    assert_eq!(world.0.get(), 3000, "of what a killed growth announced");
}
