//! Objects of slabs that anybody frees while their owners release them and others claim them.
//!
//! A unit is free, being claimed, or a slab of one peer or of nobody; each of its objects has a
//! state byte, odd while it is live. Both are the truth. Two hints per unit save a search: `avail`
//! (it may be nobody's slab with a free object) and `free` (it may be free). A hint that is set may
//! be wrong; one that is missing costs memory until a sweep of the whole heap, so none may be lost.
//! The unit whose hint a peer is about to set stands in its *note*, for those who adopt it. Who
//! frees in a slab that is not its own puts the look at the slab's owner off: until then the slab
//! is *pending*, and the note of the peer's frees, which is cleared for all at once, covers it.
//!
//! Only who has an object frees it: two that free the same at once are left out, since the engine
//! promises them nothing. Left out as well: weak memory (all is sequentially consistent; see the
//! engine's tests under loom), units without storage, runs of several units (see `runs`). A sweep
//! that returns nobody's slabs claims each first: it is the claim here.

mod turn;

use self::turn::Turn;
use crate::explorer::{Life, Model, Steps, assert_caught, assert_holds};

const UNITS: usize = 2;
const OBJECTS: usize = 2;
const PEERS: usize = 4;
const PENDING: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutation {
    /// A remote free that came between the last scan and the release tells nobody.
    ReleaseWithoutScan,
    ReleaseWithoutNote,
    /// The slab is noted when the object is free already.
    PendingNotedAfterFree,
    /// Whose the slab was before the free is all that the peer goes by when it comes to it.
    CatchUpWithoutLookingAgain,
    CatchUpClearsNoteBeforeHint,
    /// A free adds 1 to the byte, whatever it is.
    FreeWithoutLooking,
    HintClearedBeforeClaim,
    /// A hint is cleared where nothing was found, without a second look.
    StaleHintClearedForGood,
    /// The second look is taken, but adopters do not know that it is due.
    StaleHintClearedWithoutNote,
    RetireWithoutNote,
    /// Adopters set `avail` for the noted unit, but not `free`.
    NoteIsForSlabsOnly,
    /// Adopters release slabs, and thus write over the note.
    SlabsAdoptedBeforeNote,
    /// Adopters free what the dead one owned, and thus write over a pending note.
    ObjectsAdoptedBeforeNotes,
    /// Adopters look at the note alone.
    AdoptionForgetsPending,
    /// Nobody's slab is scanned and made free, but may have had an owner in between.
    SweepRetiresWithoutClaim,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Word {
    Free,
    Claim(u8),
    Slab(u8),
    Nobodys,
    /// No unit: a model has fewer.
    Beyond,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Unit {
    word: Word,
    free: bool,
    avail: bool,
    bytes: [u8; OBJECTS],
    /// The peers that rightly use an object, one bit each: not in memory, but what memory must fit.
    users: [u8; OBJECTS],
}

/// An object's state byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Place {
    unit: u8,
    object: u8,
}

/// What a peer does next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Idle,
    /// A local free has read this number in the byte and stores the next one.
    Store(Place, u8),
    /// A remote free has noted the slab, and stores the next number.
    Byte(Place, u8),
    /// Of the pending slabs, looks at this one, sets its hint; after the last, clears the note.
    CatchUp(u8),
    HintPending(u8),
    /// Nothing is in hand any more: the slab's bytes are looked at, one after the other.
    Refill(Place),
    /// Makes a slab nobody's, then scans it.
    Release(u8),
    /// Makes a slab a free unit.
    Retire(u8),
    /// An `avail` hint was seen.
    Claim(u8),
    ClearAvail(u8),
    ClearStaleAvail(u8),
    /// A `free` hint was seen.
    Grab(u8),
    ClearFree(u8),
    MakeSlab(u8),
    ClearStaleFree(u8),
    /// Which hint does the unit need? If it is nobody's slab, a scan tells.
    Look(u8),
    Scan(Place),
    HintAvail(u8),
    HintFree(u8),
    ForgetNote,
    /// What mutations do: note the slab after the free; forget a note unread; sweep up nobody's
    /// slab.
    ByteFirst(Place, u8),
    NoteLate(u8),
    ForgetPending,
    Sweep(Place),
    SweepRetire(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Peer {
    life: Life,
    at: At,
    note: Option<u8>,
    pending: [Option<u8>; PENDING],
    /// What is in hand of each slab: its objects that are free and nobody else's to give out.
    found: [u8; UNITS],
    /// How many operations the slot's processes may still begin, one after the other.
    left: u8,
    frees_only: bool,
    /// What it has freed it may free again, if nobody has got it since.
    frees_again: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State {
    units: [Unit; UNITS],
    peers: [Peer; PEERS],
    deaths: u8,
}

struct Slabs {
    start: State,
    /// How many of the objects there are, in each unit.
    objects: u8,
    /// Whether adopters know what the dead one had, and free it.
    has_ledger: bool,
    mutation: Option<Mutation>,
}

impl Model for Slabs {
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
        for unit in &state.units {
            for (&byte, &users) in unit.bytes.iter().zip(&unit.users) {
                if is_live(byte) != (users != 0) {
                    return Some("an object and its user disagree");
                }
                if is_live(byte) && matches!(unit.word, Word::Free | Word::Claim(_)) {
                    return Some("a live object in a free unit");
                }
            }
        }
        for (me, peer) in (0..).zip(&state.peers) {
            for (unit, &found) in state.units.iter().zip(&peer.found) {
                let free = |object: usize| found >> object & 1 == 0 || !is_live(unit.bytes[object]);
                if found != 0 && unit.word != Word::Slab(me) || !(0..OBJECTS).all(free) {
                    return Some("a peer is about to give out what it must not");
                }
            }
        }
        None
    }

    fn wrong_when_quiet(&self, state: &State) -> Option<&'static str> {
        (0..).zip(&state.units).find_map(|(number, unit)| match unit.word {
            Word::Free => (!unit.free).then_some("a free unit out of reach"),
            Word::Nobodys => {
                let bytes = &unit.bytes[..self.objects.into()];
                let any_free = bytes.iter().any(|&byte| !is_live(byte));
                let is_pending = state.peers.iter().any(|peer| peer.has_pending(number));
                (any_free && !unit.avail && !is_pending).then_some("a free object out of reach")
            }
            Word::Claim(_) => Some("a claim without a claimer"),
            Word::Beyond => None,
            Word::Slab(owner) => (state.peers[usize::from(owner)].life != Life::Alive)
                .then_some("a slab of the dead"),
        })
    }
}

fn is_live(byte: u8) -> bool {
    byte % 2 == 1
}

impl Place {
    fn first(unit: u8) -> Self {
        Self { unit, object: 0 }
    }

    fn next(self, objects: u8) -> Option<Self> {
        let object = self.object + 1;
        (object < objects).then_some(Self { object, ..self })
    }
}

impl Peer {
    const NEVER: Self = Self {
        life: Life::Adopted,
        at: At::Idle,
        note: None,
        pending: [None; PENDING],
        found: [0; UNITS],
        left: 0,
        frees_only: true,
        frees_again: false,
    };

    /// Allocates, frees, claims and gives back.
    fn worker(left: u8) -> Self {
        Self { life: Life::Alive, left, frees_only: false, ..Self::NEVER }
    }

    /// Frees what it uses; its slot serves nobody after it.
    fn freer(left: u8) -> Self {
        Self { life: Life::Alive, left, ..Self::NEVER }
    }

    /// Whether it lives and has still to look at the unit.
    fn has_pending(&self, unit: u8) -> bool {
        self.life == Life::Alive && self.pending.contains(&Some(unit))
    }
}

impl Unit {
    /// The objects that have users are live.
    fn new(word: Word, users: [u8; OBJECTS]) -> Self {
        let bytes = users.map(|users| u8::from(users != 0));
        Self { word, free: word == Word::Free, avail: false, bytes, users }
    }
}

/// An owner of a slab whose two objects others free, and somebody who looks for objects.
fn one_slab(mutation: Option<Mutation>) -> Slabs {
    let units = [Unit::new(Word::Slab(0), [0b0010, 0b0100]), Unit::new(Word::Beyond, [0; 2])];
    let peers = [Peer::worker(2), Peer::freer(1), Peer::freer(1), Peer::worker(2)];
    let start = State { units, peers, deaths: 0 };
    Slabs { start, objects: 2, has_ledger: false, mutation }
}

/// Somebody who frees what others free or have freed, and somebody who might get it in between.
fn double_free(mutation: Option<Mutation>) -> Slabs {
    let mut slabs = one_slab(mutation);
    slabs.start.peers[2].frees_again = true;
    for peer in [0, 3] {
        slabs.start.peers[peer].left = 1;
    }
    slabs
}

/// Two owners who each use an object of the other's slab, and a third peer.
fn two_slabs(mutation: Option<Mutation>) -> Slabs {
    let units = [Unit::new(Word::Slab(0), [0b0010, 0]), Unit::new(Word::Slab(1), [0b0001, 0])];
    let peers = [Peer::worker(2), Peer::worker(2), Peer::worker(1), Peer::NEVER];
    let start = State { units, peers, deaths: 0 };
    Slabs { start, objects: 1, has_ledger: false, mutation }
}

/// Somebody who frees in two slabs before it looks whose they are, their owner, and a third peer.
/// What the dead had is freed.
fn two_put_off(mutation: Option<Mutation>) -> Slabs {
    let units = [Unit::new(Word::Slab(0), [0b0010, 0]), Unit::new(Word::Slab(0), [0b0010, 0])];
    let peers = [Peer::worker(2), Peer::freer(2), Peer::worker(1), Peer::NEVER];
    let start = State { units, peers, deaths: 0 };
    Slabs { start, objects: 1, has_ledger: true, mutation }
}

#[test]
fn every_interleaving_over_one_slab_with_three_deaths_loses_nothing() {
    assert_holds("one slab", &one_slab(None));
}

#[test]
fn every_interleaving_over_two_slabs_with_three_deaths_loses_nothing() {
    assert_holds("two slabs", &two_slabs(None));
}

#[test]
fn every_interleaving_of_frees_that_are_put_off_with_three_deaths_loses_nothing() {
    assert_holds("two put off", &two_put_off(None));
}

#[test]
fn an_object_that_is_freed_again_is_given_out_once() {
    assert_holds("double free", &double_free(None));
}

/// What a model is called with a mutation.
type Broken = fn(Option<Mutation>) -> Slabs;

#[test]
fn each_mistake_with_slabs_is_found() {
    let lost_object = "a free object out of reach";
    let lost_unit = "a free unit out of reach";
    let mutations: [(Mutation, Broken, &str); 15] = [
        (Mutation::ReleaseWithoutScan, one_slab, lost_object),
        (Mutation::ReleaseWithoutNote, one_slab, lost_object),
        (Mutation::PendingNotedAfterFree, one_slab, lost_object),
        (Mutation::CatchUpWithoutLookingAgain, one_slab, lost_object),
        (Mutation::CatchUpClearsNoteBeforeHint, two_put_off, lost_object),
        (Mutation::FreeWithoutLooking, double_free, "an object and its user disagree"),
        (Mutation::HintClearedBeforeClaim, one_slab, lost_object),
        (Mutation::StaleHintClearedForGood, one_slab, lost_object),
        (Mutation::StaleHintClearedWithoutNote, one_slab, lost_object),
        (Mutation::RetireWithoutNote, one_slab, lost_unit),
        (Mutation::NoteIsForSlabsOnly, one_slab, lost_unit),
        (Mutation::SlabsAdoptedBeforeNote, two_slabs, lost_object),
        (Mutation::ObjectsAdoptedBeforeNotes, two_put_off, lost_object),
        (Mutation::AdoptionForgetsPending, two_put_off, lost_object),
        (Mutation::SweepRetiresWithoutClaim, one_slab, "a live object in a free unit"),
    ];
    for (mutation, broken, what) in mutations {
        assert_caught(mutation, &broken(Some(mutation)), what);
    }
}
