//! What the words of a queue say: the state of a cell, and a slot of the ring.
//!
//! ```text
//!   state   0                                     free
//!           peer | 1 << 16                        filling: the peer writes a message
//!           turn | 2 << 16                        queued: written, for that turn
//!           peer | 3 << 16                        receiving: the peer has claimed it
//!
//!   slot    lap << 24                             open: the turn of that lap is to come
//!           lap << 24 | cell + 1                  filled: the turn's message is in the cell
//!           lap << 24 | 0xffffff                  sealed: closed, no turn will come
//! ```
//!
//! A peer in a state is a [`PeerId`] or 0 for nobody, who is as good as dead. A turn in a state has
//! its low 16 bits below the kind, and 45 bits above it. What the protocol cannot have written is
//! read as *filling* by nobody: whoever needs the cell makes it free.

use crate::peers::PeerId;

const KIND_SHIFT: u32 = 16;
const KIND_MASK: u64 = 7;
const FILLING: u64 = 1;
const QUEUED: u64 = 2;
const RECEIVING: u64 = 3;
const TURN_LOW_MASK: u64 = 0xffff;
const TURN_HIGH_SHIFT: u32 = 19;

const LAP_SHIFT: u32 = 24;
const LAP_MASK: u64 = u64::MAX >> LAP_SHIFT;
const CONTENT_MASK: u64 = (1 << LAP_SHIFT) - 1;
const SEAL: u64 = CONTENT_MASK;

/// The cells that slots can name.
pub(super) const CELLS_MAX: u64 = SEAL - 1;

/// The word of a free cell.
pub(super) const FREE: u64 = 0;

/// What a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Filling(Option<PeerId>),
    Queued(u64),
    Receiving(Option<PeerId>),
}

impl State {
    pub(super) fn of_word(word: u64) -> Self {
        match word >> KIND_SHIFT & KIND_MASK {
            0 if word == FREE => Self::Free,
            FILLING => Self::Filling(PeerId::of_word(word)),
            QUEUED => Self::Queued(word & TURN_LOW_MASK | word >> TURN_HIGH_SHIFT << KIND_SHIFT),
            RECEIVING => Self::Receiving(PeerId::of_word(word)),
            _ => Self::Filling(None),
        }
    }

    pub(super) fn word(self) -> u64 {
        let of_peer =
            |kind, peer: Option<PeerId>| kind << KIND_SHIFT | peer.map_or(0, PeerId::word);
        match self {
            Self::Free => FREE,
            Self::Filling(peer) => of_peer(FILLING, peer),
            Self::Receiving(peer) => of_peer(RECEIVING, peer),
            Self::Queued(turn) => {
                let high = turn >> KIND_SHIFT << TURN_HIGH_SHIFT;
                high | QUEUED << KIND_SHIFT | turn & TURN_LOW_MASK
            }
        }
    }
}

/// A slot as somebody sees it that has a turn in mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// The turn is to come.
    Open,
    /// The message of the turn is in that cell, or was until somebody claimed it.
    Filled(u64),
    /// The turn will not come.
    Sealed,
    /// The turn is over, with all that came of it.
    Passed,
    /// The message of the turn one lap before is in that cell, or was.
    Behind(u64),
    /// Another lap altogether.
    Elsewhere,
}

/// How turns are told apart in the slots of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Laps {
    /// A ring has two to the power of that many slots.
    pub(super) shift: u32,
}

impl Laps {
    pub(super) fn capacity(self) -> u64 {
        1 << self.shift
    }

    /// The number of the turn's slot.
    #[inline]
    pub(super) fn slot(self, turn: u64) -> u64 {
        turn & (self.capacity() - 1)
    }

    /// The word of a slot in which the turn is to come.
    #[inline]
    pub(super) fn open(self, turn: u64) -> u64 {
        turn >> self.shift << LAP_SHIFT
    }

    #[inline]
    pub(super) fn filled(self, turn: u64, cell: u64) -> u64 {
        self.open(turn) | (cell + 1) & CONTENT_MASK
    }

    pub(super) fn sealed(self, turn: u64) -> u64 {
        self.open(turn) | SEAL
    }

    /// What the word of the turn's slot says about it.
    #[inline]
    pub(super) fn look(self, word: u64, turn: u64) -> Slot {
        let ahead = (word >> LAP_SHIFT).wrapping_sub(turn >> self.shift) & LAP_MASK;
        match (ahead, word & CONTENT_MASK) {
            (0, 0) => Slot::Open,
            (0, SEAL) => Slot::Sealed,
            (0, content) => Slot::Filled(content - 1),
            (1, _) => Slot::Passed,
            (LAP_MASK, content) if content != 0 => Slot::Behind(content - 1),
            _ => Slot::Elsewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PeerSlot;

    #[test]
    fn states_round_trip_and_nonsense_is_nobodys() {
        let peers = [None, Some(PeerId::new(PeerSlot(0), 1)), Some(PeerId::new(PeerSlot(1023), 9))];
        let of_peers = peers.into_iter().flat_map(|it| [State::Filling(it), State::Receiving(it)]);
        let turns = [0, 1, 0xffff, 0x1_0000, (1 << 61) - 1].map(State::Queued);
        let all: Vec<_> = of_peers.chain(turns).chain([State::Free]).collect();
        for (at, &state) in all.iter().enumerate() {
            assert_eq!(State::of_word(state.word()), state);
            assert!(!all[..at].iter().any(|other| other.word() == state.word()), "{state:?}");
        }
        for nonsense in [1, 1 << 40, 4 << 16, 7 << 16 | 5, u64::MAX] {
            assert_eq!(State::of_word(nonsense), State::Filling(None), "{nonsense:#x}");
        }
    }

    #[test]
    fn a_slot_tells_laps_apart_and_they_may_come_round() {
        for shift in [0, 1, 10, 20] {
            let laps = Laps { shift };
            let around = LAP_MASK << shift;
            for turn in [3 << shift, around, around + laps.capacity() - 1] {
                let [before, next] =
                    [turn.wrapping_sub(laps.capacity()), turn.wrapping_add(laps.capacity())];
                assert_eq!(laps.slot(turn), laps.slot(next));
                assert_eq!(laps.look(laps.open(turn), turn), Slot::Open);
                assert_eq!(laps.look(laps.filled(turn, 7), turn), Slot::Filled(7));
                assert_eq!(laps.look(laps.sealed(turn), turn), Slot::Sealed);
                assert_eq!(laps.look(laps.open(next), turn), Slot::Passed);
                assert_eq!(laps.look(laps.filled(next, 7), turn), Slot::Passed);
                assert_eq!(laps.look(laps.filled(before, 7), turn), Slot::Behind(7));
                assert_eq!(laps.look(laps.open(before), turn), Slot::Elsewhere);
                let later = turn.wrapping_add(5 * laps.capacity());
                assert_eq!(laps.look(laps.filled(later, 7), turn), Slot::Elsewhere);
            }
        }
    }
}
