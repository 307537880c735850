//! First fit's lock, taken from a holder that is stopped, by a copy of the records.
//!
//! The protocol (`first_fit/theft.rs` and `session.rs` are what it comes to):
//!
//! 1. The *lock* is one word: holder, area *from*, area *to*, session, takeovers. There are some
//!    *areas*, each with room for all records of the engine, its journal, its counters and its
//!    length. *From* holds the truth. *To* is where the holder stores, and nowhere else; it is the
//!    same area, except while the holder copies.
//! 2. A holder acquires with the next session, announces what it does in its area's journal, under
//!    its session, changes the area, and has done it by the exchange of the lock from its own word
//!    to free. It does not clear the journal: an entry is pending if the lock is held, and in the
//!    session of the entry.
//! 3. The lock of a *dead* holder is taken in place, with one more takeover in the same session. A
//!    pending entry is recovered (undone or completed); or, where the dead one was copying, the
//!    copy is made anew. Then the lock goes to the next session, and what was pending is history.
//! 4. The lock of a holder that keeps others waiting is *stolen*. The thief reads the pin of the
//!    holder's *to*, then the lock; *pins* the area, by an exchange of the pin from what was read
//!    to the word of the lock; and takes the lock by an exchange of that word, with one more
//!    takeover and as its *to* an area that nobody is in. It copies *from* word by word, reads the
//!    journal last, recovers on the copy what is pending, and makes the copy the truth by an
//!    exchange of the lock to the next session. Meanwhile the holder may do anything to its area:
//!    whatever mixture of its stores the copy has, recovery makes one state of them.
//! 5. If an operation was completed, the thief marks in the copy that the session stolen in that
//!    area is *helped*.
//! 6. Whoever finds its last exchange refused waits until its session is over, looks, without the
//!    lock, whether it was helped, says in the pin that it has *left*, and does the operation again
//!    if it was not. It waits for the lock, then, in nobody's way.
//! 7. An area may be copied to if its pin says left, or if who is pinned there is dead. Pins of
//!    areas in the lock's word mean nothing. Adopters say left for the dead.
//! 8. *Current* names the area for readers without the lock. It is raised after each copy and each
//!    recovery, before the first operation of the new session, by an exchange from what was read
//!    *before* a look at the lock has shown that it was not stolen. So an object that lives when a
//!    reader begins, and as long as it reads, lives in every image that the area it reads may hold
//!    meanwhile: a reader needs no second look, as long as it remembers no area.
//! 9. Entries of the ledger are stored by their owner alone, and by who adopts it: recovery, which
//!    may be stopped itself, could store to an entry that serves another by then. Before it
//!    announces an operation, the owner says in the entry which one, and how the area's bit *done*
//!    of the entry will be after it. The bit is part of the operation. So adopters see in the area
//!    whether it was carried out.
//!
//! A stopped process is one that takes no step: all interleavings include it. Whoever waits may
//! steal at any time.
//!
//! The records of an area are here two objects that live or not, and their count, which is derived.
//! Each is a word, so a copy can be torn. Every object is owned by an entry.
//!
//! Left out: growth and changes of length (recovered as a free is: completed). Weak memory.

mod turn;

use self::turn::Turn;
use crate::explorer::{Life, Model, Steps, assert_caught, assert_holds};

const OBJECTS: usize = 2;
const AREAS: usize = 3;
const PEERS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutation {
    /// A holder stores to whichever area the lock names now.
    StoresToTheLocksArea,
    JournalReadFirst,
    /// The journal says idle again before the operation is committed.
    JournalCleared,
    /// A recovery, or a copy, ends without a session of its own.
    RecoveryInTheSameSession,
    NotMarkedHelped,
    /// The mark is in the header, where a thief that was robbed itself can still store it.
    MarkedOutsideTheArea,
    PinnedAreaReused,
    NotPinned,
    /// The pin is read after the lock, so it may be that of a later theft.
    PinReadAfterLock,
    LeftBeforeLookingForHelp,
    /// What a dead thief has copied is taken for whole.
    CopyOfTheDeadTrusted,
    CurrentRaisedTooLate,
    /// `Current` is read after the look at the lock.
    CurrentReadAfterLock,
    /// Whoever was robbed does not wait for the end of its session.
    LooksForHelpAtOnce,
    /// A reader remembers the area from one look to the next.
    AreaRemembered,
    /// Recovery brings the entry up to date, too.
    RecoveryStoresEntry,
    EntryWithoutDone,
    AdoptionForgetsPins,
}

/// What the holder of the lock does, or did: which acquisition, and where.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Lock {
    holder: Option<u8>,
    from: u8,
    to: u8,
    session: u8,
    takeovers: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Alloc,
    Free,
}

/// An operation on an object, for the entry of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Operation {
    kind: Kind,
    object: u8,
    entry: u8,
    /// The entry's bit when it is carried out.
    done: bool,
    /// The count after recovery.
    count: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Area {
    /// Announced in this session.
    journal: Option<(u8, Operation)>,
    live: [bool; OBJECTS],
    count: u8,
    done: [bool; PEERS],
    /// The session that was stolen in each area and helped.
    helped: [u8; AREAS],
}

/// The acquisition that was stolen in an area; without a holder, who has left.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Pin {
    holder: Option<u8>,
    session: u8,
    takeovers: u8,
}

/// Session, takeovers, area.
type Current = (u8, u8, u8);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Entry {
    None,
    Owned(u8),
    /// Owns the object if the bit is so.
    Allocating(u8, bool),
    /// Owns the object unless the bit is so.
    Freeing(u8, bool),
}

/// What a peer does next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Idle,
    /// Waits for the lock.
    Acquire,
    /// A thief: it has read a pin, then the lock.
    ReadLock {
        area: u8,
        pin: Pin,
    },
    /// Broken on purpose: it has read the lock, then the pin.
    ReadPin(Lock),
    SetPin(Lock, Pin),
    Steal(Lock),
    /// Copies word by word; the number of the next. `seen` was read too early, by a mutation.
    Copy {
        word: u8,
        seen: Option<Option<(u8, Operation)>>,
    },
    CommitCopy,
    /// Robbed while it copied or recovered.
    Leave,
    Recover(u8),
    CommitRecovery,
    RaiseCurrent,
    /// Has read `current`; or, by a mutation, has looked at the lock before.
    LookAtLock(Current),
    SetCurrent(Current),
    /// Robbed, its session over: it has seen which area holds the truth.
    LookForHelp(u8),
    LeaveRobbed(bool),
    /// Holds the lock, with nothing under way.
    Decide,
    SayEntry(Operation),
    Announce(Operation),
    Change(Operation, u8),
    Commit(Operation),
    /// By a mutation: `Current` is raised after an operation.
    RaiseLate(Operation),
    /// The operation is carried out.
    Done(Operation),
    /// Gives the lock back and begins nothing.
    Release,
    /// A reader has the area.
    Look(u8),
    /// A reader did not find what is there.
    Missed,
    /// An adopter, that looks at what is left.
    Adopt,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Peer {
    life: Life,
    at: At,
    entry: Entry,
    /// What the process has for its own: private, and what shared memory must fit.
    own: Option<u8>,
    /// The lock's word as this peer has made it.
    word: Lock,
    /// Robbed in the middle of it, and in which session and area.
    robbed: Option<(Operation, Lock)>,
    /// By a mutation: the area where it has last looked.
    remembered: u8,
    /// By a mutation: it has still to raise `current`.
    raises: bool,
    /// How many operations the slot's processes may still begin.
    left: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State {
    lock: Lock,
    current: Current,
    areas: [Area; AREAS],
    pins: [Pin; AREAS],
    /// Where a mutation marks.
    marks: [u8; AREAS],
    peers: [Peer; PEERS],
    thefts: u8,
    deaths: u8,
}

impl State {
    fn is_dead(&self, peer: u8) -> bool {
        let peer = &self.peers[usize::from(peer)];
        // An adopter at work has the proof of life.
        peer.life == Life::Dead && peer.at == At::Idle
    }
}

struct Steal {
    /// How many of the peers have an object at the start.
    owners: u8,
    left: [u8; PEERS],
    thefts: u8,
    deaths: u8,
    mutation: Option<Mutation>,
}

impl Model for Steal {
    type State = State;

    fn start(&self) -> State {
        let lock = Lock { holder: None, from: 0, to: 0, session: 1, takeovers: 0 };
        let area = Area {
            journal: None,
            live: [0, 1].map(|object| object < self.owners),
            count: self.owners,
            done: [false; PEERS],
            helped: [0; AREAS],
        };
        let own = |me| (me < self.owners).then_some(me);
        let peer = |me: u8| Peer {
            life: Life::Alive,
            at: At::Idle,
            entry: own(me).map_or(Entry::None, Entry::Owned),
            own: own(me),
            word: lock,
            robbed: None,
            remembered: 0,
            raises: false,
            left: self.left[usize::from(me)],
        };
        State {
            lock,
            current: (1, 0, 0),
            areas: [area; AREAS],
            pins: [Pin { holder: None, session: 0, takeovers: 0 }; AREAS],
            marks: [0; AREAS],
            peers: [0, 1, 2].map(peer),
            thefts: 0,
            deaths: 0,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for (me, peer) in (0..).zip(&state.peers) {
            let mut turn = Turn { model: self, state, me, steps };
            match (peer.life, peer.at) {
                (Life::Adopted, _) => turn.start_anew(),
                (Life::Alive, At::Idle) => turn.begin(),
                (Life::Dead, At::Idle) => turn.start_adoption(),
                (_, at) => turn.go_on(at),
            }
            turn.die();
        }
    }

    fn is_quiet(&self, state: &State) -> bool {
        state.lock.holder.is_none()
            && state.peers.iter().all(|peer| peer.life != Life::Dead && peer.at == At::Idle)
    }

    fn wrong(&self, state: &State) -> Option<&'static str> {
        if state.peers.iter().any(|peer| peer.at == At::Missed) {
            return Some("a live object not found");
        }
        let owns = state.peers.iter().filter_map(|peer| peer.own);
        let twice =
            owns.clone().enumerate().any(|(n, own)| owns.clone().skip(n + 1).any(|o| o == own));
        if twice {
            return Some("an object two peers'");
        }
        let truth = &state.areas[usize::from(state.lock.from)];
        let freed = owns.clone().any(|own| !truth.live[usize::from(own)]);
        freed.then_some("somebody's object freed")
    }

    fn wrong_when_quiet(&self, state: &State) -> Option<&'static str> {
        let truth = &state.areas[usize::from(state.lock.from)];
        let count = truth.live.iter().filter(|live| **live).count();
        if usize::from(truth.count) != count {
            return Some("records that disagree");
        }
        if state.peers.iter().any(|p| p.entry != p.own.map_or(Entry::None, Entry::Owned)) {
            return Some("an entry that is not true");
        }
        let owned = |object: usize| state.peers.iter().any(|p| p.own == u8::try_from(object).ok());
        if (0..OBJECTS).any(|object| truth.live[object] && !owned(object)) {
            return Some("a live object nowhere");
        }
        let pinned =
            |area: usize| area != usize::from(state.lock.to) && state.pins[area].holder.is_some();
        (0..AREAS).any(pinned).then_some("an area pinned for ever")
    }
}

fn steal(owners: u8, left: [u8; PEERS], thefts: u8, deaths: u8) -> Steal {
    Steal { owners, left, thefts, deaths, mutation: None }
}

#[test]
fn every_interleaving_of_two_who_rob_each_other_ends_each_operation_once() {
    assert_holds("thefts of two peers", &steal(0, [3, 3, 0], 3, 0));
}

#[test]
fn every_interleaving_of_two_who_rob_each_other_with_two_deaths_ends_each_operation_once() {
    assert_holds("thefts of two peers with deaths", &steal(0, [2, 1, 0], 2, 2));
}

#[test]
fn every_interleaving_of_three_who_rob_each_other_ends_each_operation_once() {
    assert_holds("thefts of three peers", &steal(2, [1, 1, 1], 3, 0));
}

#[test]
fn every_interleaving_of_three_who_rob_each_other_with_a_death_ends_each_operation_once() {
    assert_holds("thefts of three peers with a death", &steal(1, [1, 1, 1], 2, 1));
}

#[test]
fn each_mistake_with_thefts_is_found() {
    let (nowhere, somebodys) = ("a live object nowhere", "somebody's object freed");
    let (missed, pinned) = ("a live object not found", "an area pinned for ever");
    let entry = "an entry that is not true";
    let two = |deaths| steal(0, [2, 2, 0], 3, deaths);
    let three = || steal(2, [1, 1, 1], 3, 0);
    let mutations = [
        (Mutation::StoresToTheLocksArea, somebodys, two(0)),
        (Mutation::JournalReadFirst, somebodys, two(0)),
        (Mutation::JournalCleared, somebodys, two(0)),
        (Mutation::RecoveryInTheSameSession, nowhere, two(1)),
        (Mutation::NotMarkedHelped, somebodys, two(0)),
        (Mutation::MarkedOutsideTheArea, nowhere, three()),
        (Mutation::PinnedAreaReused, somebodys, three()),
        (Mutation::NotPinned, somebodys, three()),
        (Mutation::PinReadAfterLock, pinned, steal(2, [2, 1, 1], 2, 0)),
        (Mutation::LeftBeforeLookingForHelp, somebodys, three()),
        (Mutation::CopyOfTheDeadTrusted, somebodys, two(1)),
        (Mutation::CurrentRaisedTooLate, missed, two(0)),
        (Mutation::CurrentReadAfterLock, missed, steal(0, [2, 1, 1], 3, 0)),
        (Mutation::LooksForHelpAtOnce, somebodys, two(0)),
        (Mutation::AreaRemembered, missed, two(0)),
        (Mutation::RecoveryStoresEntry, entry, two(1)),
        (Mutation::EntryWithoutDone, somebodys, two(1)),
        (Mutation::AdoptionForgetsPins, pinned, two(1)),
    ];
    for (mutation, what, model) in mutations {
        assert_caught(mutation, &Steal { mutation: Some(mutation), ..model }, what);
    }
}
