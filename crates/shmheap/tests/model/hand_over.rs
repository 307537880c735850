//! Objects that go from one peer to another through a cell, each peer with one ledger entry.
//!
//! The entry says what its peer is about to do with which object. A cell that is being changed says
//! whose entry knows more: its *tag*. So each instant has one word that decides where the object
//! is, and adopters go on from there as the peer would have done.
//!
//! An object's handle includes its state byte, odd while it is live: who frees by handle frees that
//! life of the object or nothing. Adopters rely on it, since they may do their work twice.
//!
//! A peer's number, its slot, serves the next process once its dead owner is adopted: what a dead
//! one left is not to be taken for a new one's doing.
//!
//! Left out: the search for objects and what becomes of slabs (see `slab`): here each object has a
//! slab of its own, which one step claims or releases. Weak memory.

mod turn;

use self::turn::Turn;
use crate::explorer::{Life, Model, Steps, assert_caught, assert_holds};

const OBJECTS: usize = 2;
const PEERS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutation {
    /// An object is live before an entry speaks for it.
    AnnouncedTooLate,
    PublishWithoutTag,
    /// The handle is stored while the entry says publishing: is it not there yet or taken already?
    PublishWithoutPublished,
    TagTakenForEmpty,
    TakeWithoutTag,
    CellClearedBeforeTaken,
    /// The entry says owned while the cell has its tag, which adopters of an owned object leave.
    OwnedBeforeCellCleared,
    EntryClearedBeforeFree,
    /// Adopters finish a publication with the store of the handle.
    AdoptionPublishesWithoutPublished,
    /// Adopters undo a publication, but for the tag.
    AdoptionFreesPublishing,
    /// Adopters free what is live, whichever life it is.
    AdoptionFreesAnyLife,
    SlabsAdoptedBeforeEntries,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Handle {
    object: u8,
    /// The state byte of this life of the object.
    byte: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Object {
    byte: u8,
    /// Who allocates it: the owner of its slab.
    slab: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Cell {
    Empty,
    Holds(Handle),
    Tag(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Entry {
    None,
    /// Chosen and perhaps not live yet, owned, or perhaps freed already. Has no cell.
    Owned(Handle),
    /// In the cell if that has the tag.
    Publishing(Handle),
    /// In the cell, or was.
    Published(Handle),
    /// Owned if the cell has the tag.
    Taking(Handle),
    /// Owned; the cell may still have the tag.
    Taken(Handle),
}

/// What a peer does next. The object is the one in its entry, where none is named.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Idle,
    /// An object was chosen: its entry is written, then it becomes live.
    Announce(Handle),
    Enliven(Handle),
    /// The entry says publishing.
    TagEmpty,
    SayPublished,
    StoreHandle,
    /// The cell was seen to hold an object.
    SayTaking(Handle),
    TagHolding,
    SayTaken,
    ClearCell,
    SayOwned,
    Free(Handle),
    ClearEntry,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Peer {
    life: Life,
    at: At,
    entry: Entry,
    /// What the process has for its own: private, and what shared memory must fit.
    own: Option<Handle>,
    /// How many operations the slot's processes may still begin, one after the other.
    left: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State {
    cell: Cell,
    objects: [Object; OBJECTS],
    peers: [Peer; PEERS],
    deaths: u8,
}

struct HandOver {
    start: State,
    mutation: Option<Mutation>,
}

impl Model for HandOver {
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
        let owns = state.peers.iter().filter_map(|peer| peer.own);
        let freed = |own: Handle| state.objects[usize::from(own.object)].byte != own.byte;
        if owns.clone().any(freed) {
            return Some("somebody's object freed");
        }
        if let Cell::Holds(handle) = state.cell {
            if freed(handle) {
                return Some("an object freed in a cell");
            }
            if owns.clone().any(|own| own == handle) {
                return Some("an object both in a cell and somebody's");
            }
        }
        let twice =
            owns.clone().enumerate().any(|(n, own)| owns.clone().skip(n + 1).any(|o| o == own));
        twice.then_some("an object two peers'")
    }

    fn wrong_when_quiet(&self, state: &State) -> Option<&'static str> {
        if matches!(state.cell, Cell::Tag(_)) {
            return Some("a cell tagged for ever");
        }
        for peer in &state.peers {
            if peer.entry != peer.own.map_or(Entry::None, Entry::Owned) {
                return Some("an entry that is not true");
            }
        }
        let somewhere = |handle: Handle| {
            state.cell == Cell::Holds(handle) || state.peers.iter().any(|p| p.own == Some(handle))
        };
        let lost = (0..).zip(&state.objects).any(|(object, &Object { byte, .. })| {
            byte % 2 == 1 && !somewhere(Handle { object, byte })
        });
        lost.then_some("a live object nowhere")
    }
}

/// The first two peers have a slab with an object each, the cell is empty.
fn hand_over(left: [u8; PEERS], mutation: Option<Mutation>) -> HandOver {
    let objects = [0, 1].map(|slab| Object { byte: 0, slab: Some(slab) });
    let peer = |left| Peer { life: Life::Alive, at: At::Idle, entry: Entry::None, own: None, left };
    let start = State { cell: Cell::Empty, objects, peers: left.map(peer), deaths: 0 };
    HandOver { start, mutation }
}

fn two_peers(mutation: Option<Mutation>) -> HandOver {
    hand_over([5, 5, 0], mutation)
}

#[test]
fn every_interleaving_of_two_who_hand_over_with_three_deaths_ends_each_object_once() {
    assert_holds("hand-over of two peers", &two_peers(None));
}

#[test]
fn every_interleaving_of_three_who_hand_over_with_three_deaths_ends_each_object_once() {
    assert_holds("hand-over of three peers", &hand_over([3, 2, 2], None));
}

#[test]
fn each_mistake_with_hand_overs_is_found() {
    let (nowhere, tagged) = ("a live object nowhere", "a cell tagged for ever");
    let in_cell = "an object freed in a cell";
    let somebodys = "somebody's object freed";
    let mutations = [
        (Mutation::AnnouncedTooLate, nowhere),
        (Mutation::PublishWithoutTag, in_cell),
        (Mutation::PublishWithoutPublished, in_cell),
        (Mutation::TagTakenForEmpty, nowhere),
        (Mutation::TakeWithoutTag, nowhere),
        (Mutation::CellClearedBeforeTaken, nowhere),
        (Mutation::EntryClearedBeforeFree, nowhere),
        (Mutation::AdoptionPublishesWithoutPublished, in_cell),
        (Mutation::OwnedBeforeCellCleared, tagged),
        (Mutation::AdoptionFreesPublishing, tagged),
        (Mutation::AdoptionFreesAnyLife, somebodys),
        (Mutation::SlabsAdoptedBeforeEntries, somebodys),
    ];
    for (mutation, what) in mutations {
        assert_caught(mutation, &two_peers(Some(mutation)), what);
    }
}
