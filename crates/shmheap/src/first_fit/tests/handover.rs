//! Hand-overs killed after their k-th store, for every step and every k; the adoption from that
//! killed after its j-th store, for every j; and the adoption from that.
//!
//! A peer allocates, publishes, takes, keeps and frees through the ledger and the engine, over
//! plain memory that holds its cells, too. After each kill and adoption every object must be in one
//! place: in a cell, or owned by the living, or an ordinary one. All else must be free, every
//! granule of the heap accounted for, and no trace left of the dead. And each kill counts as before
//! the step or as after it, with one moment in between.
//!
//! Between the kill and the adoption others go on. At times they fill the heap to the last granule,
//! so that an adoption that frees what is not the dead one's any more hits something.

use std::collections::BTreeSet;
use std::ops::Range;

use super::memory::{
    DEAD, HEADER, JOURNAL, ME, Memory, Random, THREADS, World, heap_with_space, seed,
};
use crate::Result;
use crate::first_fit::layout::Position;
use crate::first_fit::{BlockState, Fault, FirstFit};
use crate::peers::ledger::{self, Content, Objects, Taking};
use crate::peers::{ENTRIES, ENTRY_WORDS, Ledger, LedgerEntry};
use crate::segment::words::Words;
use crate::units::{Offset, PeerSlot, WordIndex};

/// Few for Miri, since many cases fill the heap.
const GRANULES: u64 = if cfg!(miri) { 28 } else { 200 };
const GRANULE_BYTES: u64 = 16;
const CELLS: usize = 3;
const ENOUGH: &dyn Fn(u16) -> Result<()> = &|_| Ok(());

/// A heap with object space, and the object that holds the cells.
struct Bench {
    engine: FirstFit,
    memory: Memory,
    space: Range<Offset>,
    container: Position,
}

/// What there is, as the test knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    cells: [Option<Position>; CELLS],
    /// Of the peer that gets killed.
    owned: Vec<(LedgerEntry, Position)>,
    /// Ordinary objects, and those of the living peer.
    others: BTreeSet<Position>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Alloc(u64),
    Publish(usize, usize),
    Take(usize),
    Keep(usize),
    Free(usize),
}

impl Bench {
    fn new() -> Self {
        let (engine, memory, space) = heap_with_space(GRANULES, GRANULE_BYTES);
        let need = (CELLS as u64 * 8).div_ceil(GRANULE_BYTES);
        let container = engine.operator(&memory, ME, &World).alloc(need, 1).unwrap().unwrap();
        Self { engine, memory, space, container }
    }

    fn handle(&self, at: Position) -> u64 {
        self.space.start.0 + at.0 * GRANULE_BYTES
    }

    fn position(&self, handle: u64) -> Option<Position> {
        let bytes = handle.checked_sub(self.space.start.0)?;
        bytes.is_multiple_of(GRANULE_BYTES).then_some(Position(bytes / GRANULE_BYTES))
    }

    fn cell(&self, number: usize) -> WordIndex {
        Offset(self.handle(self.container)).word() + number as u64
    }

    fn ledger(&self) -> Ledger<&Memory> {
        Ledger::new(&self.memory, THREADS)
    }

    fn free_entry(&self, peer: PeerSlot) -> LedgerEntry {
        let is_free = |entry: &LedgerEntry| self.memory.load(THREADS.entry_word(*entry)) == 0;
        let mut records = THREADS.of_peer(&self.memory, peer, ENOUGH).unwrap();
        records.find_map(|record| THREADS.entries(record).find(is_free)).unwrap_or_else(|| {
            THREADS.first_entry(THREADS.claim(&self.memory, peer, ENOUGH).unwrap())
        })
    }

    fn alloc(&self, peer: PeerSlot, need: u64) -> Option<(LedgerEntry, Position)> {
        let entry = self.free_entry(peer);
        let operator = self.engine.operator(&self.memory, peer, &World);
        let at = operator.alloc_for(need, 1, entry, |at| self.handle(at)).unwrap()?;
        Some((entry, at))
    }

    /// Does the step as the peer that will be dead, and returns what there is then.
    fn run(&self, step: Step, before: &Model) -> Model {
        let mut model = before.clone();
        match step {
            Step::Alloc(need) => model.owned.extend(self.alloc(DEAD, need)),
            Step::Publish(number, cell) => {
                let (entry, at) = model.owned[number];
                let published = self.ledger().publish(entry, self.handle(at), self.cell(cell));
                assert_eq!(published.is_ok(), model.cells[cell].is_none());
                if published.is_ok() {
                    model.owned.remove(number);
                    model.cells[cell] = Some(at);
                }
            }
            Step::Take(cell) => {
                let content = self.ledger().content(self.cell(cell));
                let Some(at) = model.cells[cell] else {
                    assert_eq!(content, Content::Empty);
                    return model;
                };
                assert_eq!(content, Content::Object(self.handle(at)));
                let entry = self.free_entry(DEAD);
                let taking = self.ledger().take(entry, self.handle(at), self.cell(cell), || true);
                assert_eq!(taking, Taking::Taken);
                model.cells[cell] = None;
                model.owned.push((entry, at));
            }
            Step::Keep(number) => {
                let (entry, at) = model.owned.remove(number);
                self.ledger().clear(entry);
                model.others.insert(at);
            }
            Step::Free(number) => {
                let (entry, at) = model.owned.remove(number);
                let operator = self.engine.operator(&self.memory, DEAD, &World);
                operator.free_of(at, entry, self.handle(at)).unwrap();
            }
        }
        model
    }

    /// What whoever takes the dead one's slot does, in the order of `Heap::adopt`.
    fn adopt(&self) {
        self.engine.adopt(&self.memory, DEAD, &World).unwrap();
        if !self.ledger().is_clear(DEAD, ENOUGH).unwrap() {
            self.ledger().adopt(DEAD, ENOUGH, &self.space, self).unwrap();
        }
        for record in THREADS.of_peer(&self.memory, DEAD, ENOUGH).unwrap() {
            THREADS.release(&self.memory, record);
        }
    }

    /// Whether the heap is as the model says, with all freed that the dead one owned.
    fn is(&self, model: &Model, of_others: &BTreeSet<Position>) -> Result<(), String> {
        for (number, &object) in model.cells.iter().enumerate() {
            let (found, want) =
                (self.memory.load(self.cell(number)), object.map_or(0, |at| self.handle(at)));
            if found != want {
                return Err(format!("cell {number} holds {found:#x} instead of {want:#x}"));
            }
        }
        let mut want = model.others.clone();
        want.insert(self.container);
        want.extend(model.cells.iter().flatten());
        if let Some(at) = of_others.iter().find(|at| !want.insert(**at)) {
            return Err(format!("others have got {at:?}"));
        }
        let found: BTreeSet<_> = (0..GRANULES)
            .map(Position)
            .filter(|&at| {
                let area = self.engine.current(&self.memory);
                let block = self.engine.block(&self.memory, area, at, Position(GRANULES));
                matches!(block, BlockState::Live(_))
            })
            .collect();
        if found != want {
            return Err(format!("live are {found:?} instead of {want:?}"));
        }
        Ok(())
    }

    /// What must be so whatever was killed: a sound heap, and a ledger of the living alone.
    fn expect_sound(&self, living: &[u64], context: &dyn Fn() -> String) {
        let area = self.engine.current(&self.memory);
        let audit = self.engine.audit(&self.memory, area, Position(GRANULES), 4);
        assert_eq!(audit.flaws, [], "{}", context());
        let total = audit.live_granules + audit.free_granules;
        assert_eq!(total, GRANULES, "{}", context());
        assert_eq!(living, self.living(), "{}", context());
        // Of all records, whatever is said of how many were used.
        for record in (0..).map_while(|number| THREADS.record(number)) {
            let owner = THREADS.owner(&self.memory, record, ENOUGH).unwrap();
            assert_ne!(owner, Some(DEAD), "{}", context());
            let is_clear = |entry| self.memory.load(THREADS.entry_word(entry)) == 0;
            let is_left = owner.is_none() && !THREADS.entries(record).all(is_clear);
            assert!(!is_left, "{}", context());
        }
    }

    /// Has the living peer take the lock and fill the heap.
    fn fill(&self) -> BTreeSet<Position> {
        let operator = self.engine.operator(&self.memory, ME, &World);
        std::iter::from_fn(|| operator.alloc(1, 1).unwrap()).collect()
    }

    /// The entries of the living peer.
    fn living(&self) -> Vec<u64> {
        let records = THREADS.of_peer(&self.memory, ME, ENOUGH).unwrap();
        records
            .flat_map(|record| THREADS.entries(record))
            .flat_map(|entry| (0..ENTRY_WORDS).map(move |word| THREADS.entry_word(entry) + word))
            .map(|at| self.memory.load(at))
            .collect()
    }
}

impl Objects for Bench {
    fn free_owned(&self, entry: LedgerEntry, handle: u64) -> Result<()> {
        let operator = self.engine.operator(&self.memory, DEAD, &World);
        match self.position(handle).map(|at| operator.free_of(at, entry, handle)) {
            Some(Ok(())) => {}
            None | Some(Err(Fault::NotLive(_))) => self.ledger().clear(entry),
            Some(Err(fault)) => panic!("{fault:?}"),
        }
        Ok(())
    }

    fn is_done(&self, entry: LedgerEntry) -> Result<bool> {
        Ok(self.engine.operator(&self.memory, DEAD, &World).is_done(entry).unwrap())
    }
}

type Stores = Vec<(WordIndex, u64)>;

/// Everything that is known of one step that gets killed.
struct Case<'t> {
    world: &'t Bench,
    image: Vec<u64>,
    stores: Stores,
    step: Step,
    before: Model,
    after: Model,
    living: Vec<u64>,
    /// Whether the deeds of the second adopter are killed, too.
    is_deep: bool,
    tally: u64,
}

impl Case<'_> {
    fn kill_everywhere(&mut self) -> u64 {
        let mut is_done = false;
        for done in 0..=self.stores.len() {
            is_done = self.kill(done, is_done);
        }
        assert!(is_done || self.is_one(), "{:?} came to nothing", self.step);
        self.tally
    }

    /// Whether a kill before the step and one after it come to the same.
    fn is_one(&self) -> bool {
        (&self.before.cells, &self.before.others) == (&self.after.cells, &self.after.others)
    }

    /// The memory after so many stores of the step, and of each adoption after it.
    fn image(&self, done: usize, adoptions: &[&[(WordIndex, u64)]]) {
        self.world.memory.restore(&self.image);
        for &(at, value) in self.stores[..done].iter().chain(adoptions.iter().copied().flatten()) {
            self.world.memory.poke(at, value);
        }
    }

    /// Adopts, and returns what that stored and whether the step counts as done.
    fn adopt(
        &mut self,
        of_others: &BTreeSet<Position>,
        context: &dyn Fn() -> String,
    ) -> (Stores, bool) {
        let ((), stores) = self.world.memory.record(|| self.world.adopt());
        self.tally += 1;
        self.world.expect_sound(&self.living, context);
        let is = |model| self.world.is(model, of_others);
        let is_done = match (is(&self.before), is(&self.after)) {
            (_, Ok(())) => true,
            (Ok(()), _) => false,
            (Err(before), Err(after)) => {
                panic!("{}: neither undone ({before}) nor done ({after})", context())
            }
        };
        (stores, is_done)
    }

    fn kill(&mut self, done: usize, was_done: bool) -> bool {
        let (step, all) = (self.step, self.stores.len());
        let context = move || format!("{step:?} killed after store {done} of {all}");
        let nobody = BTreeSet::new();
        self.image(done, &[]);
        let (first, is_done) = self.adopt(&nobody, &context);
        assert!(is_done >= was_done, "{}: done before, undone now", context());
        self.image(done, &[]);
        self.adopt_late(is_done, &|| format!("{}, the heap filled", context()));
        for j in (0..first.len()).step_by(if cfg!(miri) { 32 } else { 1 }) {
            self.image(done, &[&first[..j]]);
            let again = move || format!("{}, its adoption after store {j}", context());
            let (second, is_still) = self.adopt(&nobody, &again);
            assert_eq!(is_still, is_done, "{}", again());
            if self.tally.is_multiple_of(16) {
                self.image(done, &[&first[..j]]);
                self.adopt_late(is_done, &|| format!("{}, the heap filled", again()));
            }
            let deep = if self.is_deep { second.len() } else { 0 };
            for i in 0..deep {
                self.image(done, &[&first[..j], &second[..i]]);
                let once_more = move || format!("{}, and that after store {i}", again());
                let (_, is_still) = self.adopt(&nobody, &once_more);
                assert_eq!(is_still, is_done, "{}", once_more());
            }
        }
        is_done
    }

    /// Adopts after others have taken the lock first and filled the heap.
    fn adopt_late(&mut self, is_done: bool, context: &dyn Fn() -> String) {
        let of_others = self.world.fill();
        let (_, is_still) = self.adopt(&of_others, context);
        assert_eq!(is_still, is_done, "{}", context());
    }
}

fn choose(random: &mut Random, model: &Model) -> Step {
    let owned = model.owned.len();
    let any = |random: &mut Random, count: usize| random.below(count as u64) as usize;
    match random.below(10) {
        0..3 if owned < 3 => Step::Alloc(1 + random.below(20)),
        3..6 if owned > 0 => Step::Publish(any(random, owned), any(random, CELLS)),
        6..8 if owned < 3 => Step::Take(any(random, CELLS)),
        8 if owned > 0 => Step::Keep(any(random, owned)),
        9 if owned > 0 => Step::Free(any(random, owned)),
        _ if owned > 0 => Step::Free(any(random, owned)),
        _ => Step::Alloc(1 + random.below(20)),
    }
}

fn trace(random: &mut Random, steps: u64, is_deep: bool) -> u64 {
    let world = Bench::new();
    let mut model = Model::default();
    if random.below(2) == 0 {
        let (_, at) = world.alloc(ME, 2).unwrap();
        model.others.insert(at);
    }
    let mut tally = 0;
    for _ in 0..steps {
        let step = choose(random, &model);
        let image = world.memory.image();
        let (after, stores) = world.memory.record(|| world.run(step, &model));
        let end = world.memory.image();
        let living = world.living();
        let before = std::mem::replace(&mut model, after.clone());
        let world = &world;
        let mut case =
            Case { world, image, stores, step, before, after, living, is_deep, tally: 0 };
        tally += case.kill_everywhere();
        world.memory.restore(&end);
        // Kept objects do not stay for ever.
        if model.others.len() > 6 {
            let kept = *model.others.last().unwrap();
            let is_owned = world.living().contains(&ledger::owned(world.handle(kept)));
            if !is_owned {
                world.engine.operator(&world.memory, ME, &World).free(kept).unwrap();
                model.others.remove(&kept);
            }
        }
    }
    tally
}

#[test]
fn a_hand_over_killed_after_every_store_leaves_every_object_in_one_place() {
    let mut random = Random(seed());
    let (traces, steps) = if cfg!(miri) { (1, 4) } else { (30, 60) };
    let kills: u64 = (0..traces)
        .map(|number| {
            // Depth three is the cube of the stores: few traces get it.
            if number % 15 == 0 {
                trace(&mut random, steps / 4, !cfg!(miri))
            } else {
                trace(&mut random, steps, false)
            }
        })
        .sum();
    println!("{kills} kills");
    assert!(cfg!(miri) || kills > 500_000, "{kills} kills");
}

/// A journal may name any entry as the owner; only the bit of one that exists is changed for it.
#[test]
fn an_owner_that_is_no_entry_is_damage() {
    let entries = 4 * u64::from(ENTRIES);
    for (number, is_entry) in [(0, true), (entries - 1, true), (entries, false), (!0 >> 1, false)] {
        for kind in [5, 6] {
            let bench = Bench::new();
            let operands = [kind, 2, 2, 9, GRANULES, 1, 2, number << 1 | 1];
            for (number, operand) in (0..).zip(operands) {
                bench.memory.poke(JOURNAL + number, operand);
            }
            bench.memory.poke(HEADER.lock, u64::from(DEAD.0) + 1);
            let operator = bench.engine.operator(&bench.memory, ME, &World);
            let next = operator.session().map(drop);
            assert_eq!(next.is_ok(), is_entry, "{next:?}");
            let bit = |entry: LedgerEntry| operator.is_done(entry).unwrap();
            let set = (0..entries).filter(|&number| bit(THREADS.entry_of_number(number).unwrap()));
            let expected = if is_entry && kind == 6 { vec![number] } else { vec![] };
            assert_eq!(set.collect::<Vec<_>>(), expected, "kind {kind}");
        }
    }
}
