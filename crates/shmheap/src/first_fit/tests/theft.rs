//! Peers that are stopped at any access to memory, robbed of the lock, and go on, or are killed
//! there; and their thieves likewise, three deep.
//!
//! A peer operates through a view that stops it before its k-th access, a load or a store: there
//! the next peer does an operation of its own, which is stopped in its turn, and then the first one
//! goes on or dies. At each access of everybody a reader looks for an object that nobody touches.
//! In the end the dead are adopted, and the heap must hold what the operations that came to their
//! end say, each once; of the dead one's, it may hold either.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use super::memory::{HEADER, Memory, Random, THREADS, heap, seed};
use crate::Result as HeapResult;
use crate::first_fit::layout::{Area, Position};
use crate::first_fit::lock::LockWord;
use crate::first_fit::{BlockState, Fault, FirstFit, Surroundings};
use crate::peers::ledger::Objects;
use crate::peers::{Ledger, LedgerEntry};
use crate::segment::words::Words;
use crate::units::{LINE_WORDS, Offset, PeerSlot, WordIndex};

const PEERS: u16 = 4;
const GRANULES_MAX: u64 = 400;
const ENOUGH: &dyn Fn(u16) -> HeapResult<()> = &|_| Ok(());
/// Handles of the ledger are multiples of 8.
const HANDLE: u64 = 8;

/// What is done at a stop: whether the peer goes on after that.
type AtStop<'t> = Box<dyn FnOnce() -> bool + 't>;

/// The memory as a peer sees it that is stopped before some accesses.
struct Stopped<'t> {
    play: &'t Play,
    /// How many accesses are left before each stop, counted from the one before.
    stops: RefCell<VecDeque<(u64, AtStop<'t>)>>,
    is_dead: Cell<bool>,
}

/// How a killed peer leaves what it was doing.
struct Killed;

impl Stopped<'_> {
    fn access(&self) {
        if self.is_dead.get() {
            return;
        }
        self.play.look();
        let at_stop = {
            let mut stops = self.stops.borrow_mut();
            match stops.front_mut() {
                Some((0, _)) => stops.pop_front().map(|(_, at_stop)| at_stop),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            }
        };
        let goes_on = at_stop.is_none_or(|at_stop| at_stop());
        if !goes_on {
            self.is_dead.set(true);
            resume_unwind(Box::new(Killed));
        }
    }
}

impl Words for Stopped<'_> {
    fn load(&self, at: WordIndex) -> u64 {
        self.access();
        self.play.memory.load(at)
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        std::array::from_fn(|word| self.load(at + word as u64))
    }

    fn store(&self, at: WordIndex, value: u64) {
        self.access();
        if !self.is_dead.get() {
            self.play.memory.store(at, value);
        }
    }

    fn compare_exchange(&self, at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        self.access();
        if self.is_dead.get() {
            Err(!current)
        } else {
            self.play.memory.compare_exchange(at, current, new)
        }
    }

    fn wait(&self, _at: WordIndex, _expected: u64, timeout: Duration) -> Duration {
        timeout
    }

    fn wake(&self, _at: WordIndex) {}

    fn wake_all(&self, _at: WordIndex) {}
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Alloc(u64),
    Free(Position),
    Resize(Position, u64),
    Grow(Position),
    /// For the peer's entry.
    AllocFor(u64),
    FreeOf(Position),
}

/// What the operations come to.
#[derive(Debug, Default)]
struct Known {
    /// Objects with the lengths that they may have.
    live: BTreeMap<Position, Vec<u64>>,
    /// Objects that are being freed, or were when their peer died: they may be there.
    perhaps: BTreeMap<Position, Vec<u64>>,
    /// Lengths of objects that the dead may have made.
    made_by_the_dead: Vec<u64>,
    /// What each peer's entry owns.
    owned: [Option<Position>; PEERS as usize],
    ends: Vec<Position>,
}

/// A heap, and who operates on it.
struct Play {
    engine: FirstFit,
    memory: Memory,
    dead: RefCell<BTreeSet<PeerSlot>>,
    random: RefCell<Random>,
    known: RefCell<Known>,
    entries: Vec<LedgerEntry>,
    /// The object that nobody touches.
    canary: Cell<Position>,
}

impl Surroundings for Play {
    fn is_dead(&self, peer: PeerSlot) -> bool {
        self.dead.borrow().contains(&peer)
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

impl Play {
    fn new(mut random: Random) -> Self {
        // There is always room for one more.
        let granules = 150 + random.below(100);
        let (engine, memory) = heap(granules, GRANULES_MAX, 16);
        let entry = |peer| THREADS.claim(&memory, PeerSlot(peer), ENOUGH).unwrap();
        let entries = (0..PEERS).map(|peer| THREADS.first_entry(entry(peer))).collect();
        let known = Known { ends: vec![Position(granules)], ..Known::default() };
        let play = Self {
            engine,
            memory,
            dead: RefCell::default(),
            random: RefCell::new(random),
            known: RefCell::new(known),
            entries,
            canary: Cell::new(Position(0)),
        };
        play.set_up();
        play
    }

    fn set_up(&self) {
        let operator = self.engine.operator(&self.memory, PeerSlot(0), self);
        let alloc = |need| operator.alloc(need, 1).unwrap().unwrap();
        let gap = alloc(3);
        let canary = alloc(3);
        operator.free(gap).unwrap();
        for _ in 0..6 {
            let need = 1 + self.below(5);
            let at = alloc(need);
            self.known.borrow_mut().live.insert(at, vec![need]);
        }
        let second = *self.known.borrow().live.keys().nth(2).unwrap();
        operator.free(second).unwrap();
        self.known.borrow_mut().live.remove(&second);
        for peer in 0..PEERS {
            if self.below(2) == 0 {
                let deed = Deed::AllocFor(1 + self.below(4));
                let operator = self.engine.operator(&self.memory, PeerSlot(peer), self);
                self.note(peer, deed, self.perform(&operator, peer, deed));
            }
        }
        self.canary.set(canary);
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.borrow_mut().below(bound)
    }

    /// What a reader does: it takes the area anew for each look.
    fn look(&self) {
        let area = self.engine.current(&self.memory);
        let end = self.engine.end(&self.memory, area);
        let live = self.engine.expect_live(&self.memory, area, self.canary.get(), end);
        assert_eq!(live, Ok(()), "a live object not found");
        let next = self.engine.next_start(&self.memory, area, self.canary.get(), end);
        assert_eq!(next, self.canary.get() + 3, "of another length");
    }

    /// An operation that no other peer has in hand.
    fn choose(&self, peer: u16, taken: &mut BTreeSet<Position>) -> Deed {
        let known = self.known.borrow();
        let mut free = known
            .live
            .keys()
            .copied()
            .filter(|at| !taken.contains(at) && !known.owned.contains(&Some(*at)));
        let owned = known.owned[usize::from(peer)];
        let need = 1 + self.below(8);
        let deed = match (self.below(8), owned) {
            (0 | 1, Some(at)) => Deed::FreeOf(at),
            (0 | 1, None) => Deed::AllocFor(need),
            (2..4, _) => free.next_back().map_or(Deed::Alloc(need), Deed::Free),
            (4, _) => free.next().map_or(Deed::Alloc(need), |at| Deed::Resize(at, need)),
            (5, _) => Deed::Grow(Position(200 + self.below(GRANULES_MAX - 199))),
            _ => Deed::Alloc(need),
        };
        if let Deed::Free(at) | Deed::Resize(at, _) = deed {
            taken.insert(at);
        }
        deed
    }

    /// Where the object is now, if the operation has made or changed one.
    fn perform<W: Words + Copy>(
        &self,
        operator: &crate::first_fit::Operator<'_, W, Self>,
        peer: u16,
        deed: Deed,
    ) -> Option<Position> {
        let entry = self.entries[usize::from(peer)];
        match deed {
            Deed::Alloc(need) => Some(operator.alloc(need, 1).unwrap().expect("room")),
            Deed::Free(at) => operator.free(at).map(|()| None).unwrap(),
            Deed::Resize(at, need) => operator.resize(at, need).unwrap().then_some(at),
            Deed::Grow(end) => operator.grow(end).map(|()| None).unwrap(),
            Deed::AllocFor(need) => {
                let made = operator.alloc_for(need, 1, entry, |at| at.0 * HANDLE);
                Some(made.unwrap().expect("room"))
            }
            Deed::FreeOf(at) => operator.free_of(at, entry, at.0 * HANDLE).map(|()| None).unwrap(),
        }
    }

    /// What is freed may be another's before the operation comes to its end.
    fn note_start(&self, peer: u16, deed: Deed) {
        let mut known = self.known.borrow_mut();
        match deed {
            Deed::Free(at) => {
                let lengths = known.live.remove(&at).unwrap();
                known.perhaps.insert(at, lengths);
            }
            Deed::FreeOf(at) => {
                known.live.remove(&at).unwrap();
                known.owned[usize::from(peer)] = None;
            }
            _ => {}
        }
    }

    /// Takes down what an operation that came to its end did.
    fn note(&self, peer: u16, deed: Deed, at: Option<Position>) {
        let mut known = self.known.borrow_mut();
        match (deed, at) {
            (Deed::Alloc(need), Some(at)) => drop(known.live.insert(at, vec![need])),
            (Deed::Free(at), _) => drop(known.perhaps.remove(&at)),
            (Deed::Resize(at, need), Some(_)) => drop(known.live.insert(at, vec![need])),
            (Deed::Grow(end), _) => known.ends.push(end),
            (Deed::AllocFor(need), Some(at)) => {
                known.live.insert(at, vec![need]);
                known.owned[usize::from(peer)] = Some(at);
            }
            (Deed::Alloc(_) | Deed::AllocFor(_) | Deed::Resize(..), None) => {}
            (Deed::FreeOf(_), _) => {}
        }
    }

    /// Takes down what the operation of a dead peer may have done.
    fn note_dead(&self, peer: u16, deed: Deed) {
        let mut known = self.known.borrow_mut();
        match deed {
            Deed::Alloc(need) => known.made_by_the_dead.push(need),
            Deed::Resize(at, need) => known.live.get_mut(&at).unwrap().push(need),
            Deed::Grow(end) => known.ends.push(end),
            // What is noted at the start, and nothing that its entry owns survives it.
            Deed::Free(_) | Deed::AllocFor(_) | Deed::FreeOf(_) => {}
        }
        if let Some(owned) = known.owned[usize::from(peer)].take() {
            known.live.remove(&owned);
        }
    }

    /// The peer does an operation, and in the middle of it the next ones theirs.
    fn run(&self, peer: u16, taken: &RefCell<BTreeSet<Position>>) {
        if peer == PEERS {
            return;
        }
        let deed = self.choose(peer, &mut taken.borrow_mut());
        self.note_start(peer, deed);
        let accesses = if self.below(3) == 0 { self.below(1100) } else { self.below(70) };
        let has_stopped = Cell::new(false);
        let at_stop = || {
            has_stopped.set(true);
            self.run(peer + 1, taken);
            let survives = self.below(4) != 0;
            if !survives {
                self.dead.borrow_mut().insert(PeerSlot(peer));
                self.note_dead(peer, deed);
                if self.below(2) == 0 {
                    self.adopt(PeerSlot(peer));
                }
            }
            survives
        };
        let view = Stopped {
            play: self,
            stops: RefCell::new([(accesses, Box::new(at_stop) as AtStop<'_>)].into()),
            is_dead: Cell::new(false),
        };
        let operator = self.engine.operator(&view, PeerSlot(peer), self);
        match catch_unwind(AssertUnwindSafe(|| self.perform(&operator, peer, deed))) {
            Ok(at) => self.note(peer, deed, at),
            Err(payload) if payload.is::<Killed>() => {}
            Err(payload) => resume_unwind(payload),
        }
        if !has_stopped.get() {
            self.run(peer + 1, taken);
        }
    }

    fn adopt(&self, slot: PeerSlot) {
        self.engine.adopt(&self.memory, slot, self).unwrap();
        let space = Offset(0)..Offset(0);
        Ledger::new(&self.memory, THREADS)
            .adopt(slot, ENOUGH, &space, &Estate(self, slot))
            .unwrap();
    }

    fn expect_all(&self, context: &str) {
        let session = self.engine.operator(&self.memory, PeerSlot(9), self).session().unwrap();
        let (area, end) = (session.area_number(), session.end());
        assert_eq!(session.audit(4).flaws, [], "{context}");
        drop(session);
        let known = self.known.borrow();
        assert!(known.ends.contains(&end), "{context}: {end:?} of {:?}", known.ends);
        let mut found: BTreeMap<Position, u64> = (0..end.0)
            .map(Position)
            .filter_map(|at| match self.engine.block(&self.memory, area, at, end) {
                BlockState::Live(granules) => Some((at, granules)),
                BlockState::Free(_) | BlockState::Inside => None,
            })
            .collect();
        assert_eq!(found.remove(&self.canary.get()), Some(3), "{context}");
        for (at, lengths) in &known.live {
            let length = found.remove(at);
            let is_so = length.is_some_and(|length| lengths.contains(&length));
            assert!(is_so, "{context}: {at:?} is {length:?} of {lengths:?}");
        }
        found.retain(|at, length| !known.perhaps.get(at).is_some_and(|may| may.contains(length)));
        let mut made = known.made_by_the_dead.clone();
        for (at, length) in found {
            let one = made.iter().position(|&need| need == length);
            made.swap_remove(one.unwrap_or_else(|| panic!("{context}: {at:?} is nobody's")));
        }
        let ledger = Ledger::new(&self.memory, THREADS);
        for peer in (0..PEERS).filter(|&peer| known.owned[usize::from(peer)].is_none()) {
            assert!(ledger.is_clear(PeerSlot(peer), ENOUGH).unwrap(), "{context}: an entry");
        }
        let lock = self.engine.lock.load(&self.memory);
        for other in Area::all().filter(|&other| other != lock.to()) {
            let pin = LockWord::of(self.memory.load(HEADER.pins + u64::from(other.0)));
            assert_eq!(pin.holder(), None, "{context}: pinned for ever");
        }
    }
}

struct Estate<'p>(&'p Play, PeerSlot);

impl Objects for Estate<'_> {
    fn free_owned(&self, entry: LedgerEntry, handle: u64) -> HeapResult<()> {
        let operator = self.0.engine.operator(&self.0.memory, self.1, self.0);
        match operator.free_of(Position(handle / HANDLE), entry, handle) {
            Ok(()) => {}
            Err(Fault::NotLive(_)) => Ledger::new(&self.0.memory, THREADS).clear(entry),
            Err(fault) => panic!("{fault:?}"),
        }
        Ok(())
    }

    fn is_done(&self, entry: LedgerEntry) -> HeapResult<bool> {
        let operator = self.0.engine.operator(&self.0.memory, self.1, self.0);
        Ok(operator.is_done(entry).unwrap())
    }
}

#[test]
fn whoever_is_stopped_or_killed_anywhere_each_operation_is_done_once() {
    let seed = seed();
    let rounds = if cfg!(miri) { 1 } else { 60_000 };
    let mut moved = 0;
    for round in 0..rounds {
        let play = Play::new(Random(seed.wrapping_add(round)));
        play.run(0, &RefCell::default());
        let dead: Vec<_> = play.dead.borrow().iter().copied().collect();
        dead.into_iter().for_each(|slot| play.adopt(slot));
        play.expect_all(&format!("round {round}"));
        moved += u64::from(play.engine.current(&play.memory) != Area::FIRST);
    }
    println!("in {moved} of {rounds} rounds the truth has moved");
    assert!(cfg!(miri) || moved > rounds / 4);
}

/// A holder that was robbed before it announced its growth does it in its area all the same, and
/// dies. What it has stored behind the end must not come to light when the area is used again.
#[test]
fn growth_that_came_to_nothing_leaves_nothing_behind() {
    let [grower, thief, holder, other] = [0, 1, 2, 3].map(PeerSlot);
    for stopped_at in 0..if cfg!(miri) { 0 } else { 40 } {
        for dies_at in 0..60 {
            let mut play = Play::new(Random(1));
            (play.engine, play.memory) = heap(128, GRANULES_MAX, 16);
            let by = |peer| play.engine.operator(&play.memory, peer, &play);
            play.canary.set(by(thief).alloc(3, 1).unwrap().unwrap());
            let last = by(thief).alloc(125, 1).unwrap().unwrap();
            let stops: [(u64, AtStop<'_>); 2] = [
                (stopped_at, Box::new(|| by(thief).free(last).is_ok())),
                (dies_at, Box::new(|| !play.dead.borrow_mut().insert(grower))),
            ];
            let view = Stopped {
                play: &play,
                stops: RefCell::new(stops.into()),
                is_dead: Cell::default(),
            };
            let operator = play.engine.operator(&view, grower, &play);
            let grow = || operator.grow(Position(300)).unwrap();
            let _ = catch_unwind(AssertUnwindSafe(grow));
            let stopped = by(holder).session().unwrap();
            by(other).alloc(1, 1).unwrap().unwrap();
            drop(stopped);
            by(other).grow(Position(300)).unwrap();
            let audit = by(other).session().unwrap().audit(4);
            assert_eq!(audit.flaws, [], "stopped at {stopped_at}, dies at {dies_at}");
        }
    }
}

/// What the entry of a robbed allocation has announced is not so if there is no room any more.
#[test]
fn an_allocation_that_was_robbed_of_its_room_leaves_its_entry_clear() {
    let mut refused = 0;
    for stopped_at in 0..if cfg!(miri) { 8 } else { 60 } {
        let mut play = Play::new(Random(1));
        (play.engine, play.memory) = heap(128, GRANULES_MAX, 16);
        let [slow, thief] = [0, 1].map(PeerSlot);
        let by = |peer| play.engine.operator(&play.memory, peer, &play);
        play.canary.set(by(thief).alloc(3, 1).unwrap().unwrap());
        let fill: AtStop<'_> = Box::new(|| by(thief).alloc(125, 1).is_ok());
        let stops = RefCell::new([(stopped_at, fill)].into());
        let view = Stopped { play: &play, stops, is_dead: Cell::default() };
        let entry = play.entries[0];
        let operator = play.engine.operator(&view, slow, &play);
        let made = operator.alloc_for(1, 1, entry, |at| at.0 * HANDLE).unwrap();
        let word = play.memory.load(THREADS.entry_word(entry));
        assert_eq!(word == 0, made.is_none(), "stopped at {stopped_at}: {made:?}, {word:#x}");
        refused += u64::from(made.is_none());
    }
    assert!(refused > 0);
}
