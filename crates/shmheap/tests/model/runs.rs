//! Runs of units that are put together and taken apart by several peers at once.
//!
//! A run's head says how many units it has, each of the others how far away its head is. A peer
//! claims the head first and gives it back last: as long as any unit says that it belongs to a run,
//! its head says so too. Therefore adopters go on with what heads say from any point at which
//! somebody stopped, be it the peer itself or an adopter before them.
//!
//! The exception is a large object that is resized in place: its last unit belongs to it before the
//! head says so when it grows, and after when it shrinks, and carries the number of who resizes. So
//! adopters also look at each unit with the dead one's number, and free it if its head does not
//! reach it. Between the two looks a living peer may free the run and claim the unit again: they
//! exchange the very word that they have judged.
//!
//! A unit that is given back gets its `free` hint afterwards. While the head is not given back, it
//! is the head that makes adopters set all hints of the run again; then it is the peer's note.
//!
//! Left out: objects in slabs and the `avail` hint (see `slab`), weak memory.

mod turn;

use self::turn::Turn;
use crate::explorer::{Life, Model, Steps, assert_caught, assert_holds};

const UNITS: usize = 4;
const PEERS: usize = 2;
/// The longest run that somebody wants.
const RUN_MAX: u8 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutation {
    /// All is given back, then all hints are set: the note knows of the head only.
    HintsAfterTheHead,
    HeadWithoutNote,
    HeadGivenBackFirst,
    /// Adopters leave the units of a claim to the look at each unit, and there somebody else's
    /// claim of the former head seems to speak for them.
    AdoptionGivesClaimBackFirst,
    /// Adopters give back every unit that the dead one put into a run, also a live one.
    AdoptionFreesCovered,
    /// Adopters believe that a unit given back by the dead one has its hint.
    AdoptionHintsOnlyWhatItGivesBack,
    AdoptionTrustsStorage,
    StorageReservedTooLate,
    /// A unit of any run is given back, also if its head is another one.
    DistanceNotCompared,
    GenerationStays,
    HintClearedBeforeClaim,
    /// A hint is cleared where nothing was found, without a second look.
    StaleHintClearedForGood,
    /// The second look is taken, but adopters do not know that it is due.
    StaleHintClearedWithoutNote,
    /// The head says that an object has grown before it has the unit.
    LengthenedHeadFirst,
    LengthenedWithoutStorage,
    /// The unit is freed before the head says that the object has shrunk.
    UnitFreedBeforeHeadShrinks,
    /// The unit keeps the number of who once claimed it.
    ShortenedWithoutTakingOver,
    /// Adopters free what the unit is by the time that they have looked at its head.
    StrayFreedWithoutComparing,
    StrayFreedWithoutNote,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Word {
    Free,
    /// Free, but its storage may be gone.
    Hole,
    /// The head of a run of `len` units that `by` is putting together.
    Claim {
        by: u8,
        len: u8,
    },
    /// `distance` units from the head of a run that `by` put together.
    Cont {
        by: u8,
        distance: u8,
    },
    /// The head of a live run: a slab of somebody's, of nobody's, or a large object.
    Slab {
        by: u8,
        len: u8,
    },
    Nobodys {
        len: u8,
    },
    Large {
        len: u8,
    },
    /// The head of a run that `by` is taking apart.
    Freeing {
        by: u8,
        len: u8,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Unit {
    word: Word,
    /// Counts how often the unit was the head of a run that is gone; part of the word.
    generation: u8,
    free: bool,
    storage: bool,
}

/// A run of units, some of which were holes when they were claimed, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Run {
    head: u8,
    len: u8,
    holes: u8,
}

/// What a peer does next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Idle,
    /// Claims the unit at this distance from the head, then clears its hint.
    Grab(Run, u8),
    ClearFree(Run, u8),
    Reserve(Run),
    SetHead(Run),
    /// Returns the storage of a unit.
    Punch(Run),
    /// Says with one exchange that a large object is to be taken apart.
    Free(Handle),
    /// Gives back the unit at this distance from the head, then sets its hint. The head comes last.
    GiveBack(Run, u8),
    Hint(Run, u8),
    HintHead(u8),
    ForgetNote,
    /// Makes the object one unit longer: claims it, clears its hint, then changes the head.
    Lengthen(Run),
    ClearGrown(Run),
    ReserveGrown(Run),
    SetLonger(Run),
    /// Makes the object one unit shorter: takes the unit over, then changes the head.
    TakeOver(Run),
    SetShorter(Run),
    /// Frees the unit at this distance from a head that does not, or no longer, reach it.
    FreeRest(Run, u8),
    /// An adopter has seen the dead one's number in this word, and looks at the head.
    Judge(Word, u8),
    /// The head does not reach the unit of that word.
    FreeStray(Word, u8),
    /// A hint was seen where no unit was free.
    ClearStale(u8),
    Look(u8),
    /// What mutations do: give back the head before the rest; hint when all is given back.
    HeadFirst(Run),
    HintLate(Run, u8),
}

/// What a user knows a large object by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Handle {
    unit: u8,
    generation: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Peer {
    life: Life,
    at: At,
    note: Option<u8>,
    /// A large object that is this peer's alone.
    own: Option<Handle>,
    /// One that several peers take for theirs to free.
    shared: Option<Handle>,
    /// How many operations the slot's processes may still begin, one after the other.
    left: u8,
    /// Whether another process gets the slot.
    is_followed: bool,
    /// Whether it resizes what it has.
    resizes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State {
    units: [Unit; UNITS],
    peers: [Peer; PEERS],
    deaths: u8,
}

struct Runs {
    start: State,
    mutation: Option<Mutation>,
}

impl Model for Runs {
    type State = State;

    fn start(&self) -> State {
        self.start
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for (me, peer) in (0..).zip(&state.peers) {
            let mut turn = Turn { model: self, state, me, steps };
            match (peer.life, peer.at) {
                (Life::Alive, At::Idle) => turn.begin(),
                (Life::Dead, At::Idle) => turn.adopt(),
                (Life::Adopted, _) => turn.start_anew(),
                (_, at) => turn.go_on(at),
            }
            turn.die();
        }
    }

    fn is_quiet(&self, state: &State) -> bool {
        state.peers.iter().all(|peer| peer.life != Life::Dead && peer.at == At::Idle)
    }

    fn wrong(&self, state: &State) -> Option<&'static str> {
        for (head, unit) in state.units.iter().enumerate() {
            let Some(len) = unit.word.run_len().filter(|_| unit.word.is_live()) else { continue };
            let run = &state.units[head..head + usize::from(len)];
            if !(1..).zip(&run[1..]).all(|(distance, unit)| unit.word.distance() == Some(distance))
            {
                return Some("a live run has lost a unit");
            }
            if !run.iter().all(|unit| unit.storage) {
                return Some("a live run without storage");
            }
        }
        for peer in state.peers.iter().filter(|peer| peer.life == Life::Alive) {
            if peer.own.is_some_and(|own| !state.is_live(own)) {
                return Some("somebody's object freed by somebody else");
            }
        }
        None
    }

    fn wrong_when_quiet(&self, state: &State) -> Option<&'static str> {
        (0..).zip(&state.units).find_map(|(number, unit)| match unit.word {
            Word::Free | Word::Hole => (!unit.free).then_some("a free unit out of reach"),
            Word::Claim { .. } | Word::Freeing { .. } => Some("a run left half way"),
            Word::Cont { distance, .. } => {
                (!state.covers(number, distance)).then_some("a unit of no run")
            }
            Word::Slab { by, .. } => {
                (state.peers[usize::from(by)].life != Life::Alive).then_some("a slab of the dead")
            }
            Word::Nobodys { .. } | Word::Large { .. } => None,
        })
    }
}

impl State {
    fn is_live(&self, handle: Handle) -> bool {
        let unit = &self.units[usize::from(handle.unit)];
        unit.word.is_large() && unit.generation == handle.generation
    }

    /// Whether the unit `distance` before `number` is the head of a run that reaches it.
    fn covers(&self, number: u8, distance: u8) -> bool {
        let head = self.units[usize::from(number - distance)].word;
        head.run_len().is_some_and(|len| len > distance)
    }

    /// The same for adopters, who know that a claim that is left is another's: it will not get the
    /// unit, which is not free.
    fn reaches(&self, number: u8, distance: u8) -> bool {
        let head = self.units[usize::from(number - distance)].word;
        self.covers(number, distance) && !matches!(head, Word::Claim { .. })
    }
}

impl Word {
    /// How long the run is of which this is the head.
    fn run_len(self) -> Option<u8> {
        match self {
            Self::Claim { len, .. }
            | Self::Slab { len, .. }
            | Self::Nobodys { len }
            | Self::Large { len }
            | Self::Freeing { len, .. } => Some(len),
            Self::Free | Self::Hole | Self::Cont { .. } => None,
        }
    }

    fn is_live(self) -> bool {
        matches!(self, Self::Slab { .. } | Self::Nobodys { .. } | Self::Large { .. })
    }

    fn is_large(self) -> bool {
        matches!(self, Self::Large { .. })
    }

    fn is_free(self) -> bool {
        matches!(self, Self::Free | Self::Hole)
    }

    fn distance(self) -> Option<u8> {
        match self {
            Self::Cont { distance, .. } => Some(distance),
            _ => None,
        }
    }
}

/// A large object that both peers take for theirs, its second unit put there by one of them, then a
/// free unit and a hole.
fn four_units(peers: [Peer; PEERS], mutation: Option<Mutation>) -> Runs {
    let unit = |word: Word, storage| Unit { word, generation: 0, free: word.is_free(), storage };
    let units = [
        unit(Word::Large { len: 2 }, true),
        unit(Word::Cont { by: 0, distance: 1 }, true),
        unit(Word::Free, true),
        unit(Word::Hole, false),
    ];
    Runs { start: State { units, peers, deaths: 0 }, mutation }
}

fn peer(left: u8, is_followed: bool) -> Peer {
    let shared = Some(Handle { unit: 0, generation: 0 });
    let (life, at, note, own, resizes) = (Life::Alive, At::Idle, None, None, false);
    Peer { life, at, note, own, shared, left, is_followed, resizes }
}

fn two_peers(mutation: Option<Mutation>) -> Runs {
    four_units([peer(2, false); PEERS], mutation)
}

#[test]
fn every_interleaving_of_two_peers_with_three_deaths_keeps_runs_whole() {
    assert_holds("runs of two peers", &two_peers(None));
}

#[test]
fn every_interleaving_over_a_reused_slot_with_three_deaths_keeps_runs_whole() {
    assert_holds("runs and a reused slot", &four_units([peer(2, true), peer(1, false)], None));
}

/// The object is the second peer's, who resizes it, though the first has put it together.
fn resized(mutation: Option<Mutation>) -> Runs {
    let own = Some(Handle { unit: 0, generation: 0 });
    let [first, second] = [2, 2].map(|left| Peer { shared: None, ..peer(left, false) });
    four_units([first, Peer { own, resizes: true, ..second }], mutation)
}

#[test]
fn every_interleaving_of_resizes_with_three_deaths_keeps_runs_whole() {
    assert_holds("runs that are resized", &resized(None));
}

#[test]
fn each_mistake_with_runs_is_found() {
    let lost_unit = "a free unit out of reach";
    let mutations = [
        (Mutation::HintsAfterTheHead, lost_unit),
        (Mutation::HeadWithoutNote, lost_unit),
        (Mutation::HeadGivenBackFirst, "a unit of no run"),
        (Mutation::AdoptionGivesClaimBackFirst, "a unit of no run"),
        (Mutation::AdoptionFreesCovered, "a live run has lost a unit"),
        (Mutation::AdoptionHintsOnlyWhatItGivesBack, lost_unit),
        (Mutation::AdoptionTrustsStorage, "a live run without storage"),
        (Mutation::StorageReservedTooLate, "a live run without storage"),
        (Mutation::DistanceNotCompared, "a live run has lost a unit"),
        (Mutation::GenerationStays, "somebody's object freed by somebody else"),
        (Mutation::HintClearedBeforeClaim, lost_unit),
        (Mutation::StaleHintClearedForGood, lost_unit),
        (Mutation::StaleHintClearedWithoutNote, lost_unit),
    ];
    for (mutation, what) in mutations {
        assert_caught(mutation, &two_peers(Some(mutation)), what);
    }
    let lost = "a live run has lost a unit";
    let mutations = [
        (Mutation::LengthenedHeadFirst, lost),
        (Mutation::LengthenedWithoutStorage, "a live run without storage"),
        (Mutation::UnitFreedBeforeHeadShrinks, lost),
        (Mutation::ShortenedWithoutTakingOver, "a unit of no run"),
        (Mutation::StrayFreedWithoutComparing, lost),
        (Mutation::StrayFreedWithoutNote, lost_unit),
    ];
    for (mutation, what) in mutations {
        assert_caught(mutation, &resized(Some(mutation)), what);
    }
}
