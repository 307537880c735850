//! Units, and the word that says what each is: the truth about who has which memory.
//!
//! ```text
//!   63    60 59           48 47               32 31                              0
//!  +--------+---------------+-------------------+---------------------------------+
//!  | state  |  generation   |  peer + 1, or 0   |  operand                        |
//!  +--------+---------------+-------------------+---------------------------------+
//! ```
//!
//! | state | peer | operand | the unit |
//! |---|---|---|---|
//! | 0 free | 0 | 0 | is nobody's, and has storage |
//! | 1 hole | 0 | 0 | is nobody's, and storage must be reserved before it is used |
//! | 2 claim | p | units | is the head of a run that p is putting together |
//! | 3 rest | p | distance | is so many units behind the head of a run that p has put together |
//! | 4 slab | p or 0 | class | is the head of a slab, which p owns, or nobody |
//! | 5 large | 0 | units | is the head of a large object |
//! | 6 freeing | p | units | is the head of a run that p is taking apart |
//!
//! Words change by compare-and-exchange alone, so each step of a unit's life is taken by one
//! process. What a killed peer has half done carries its number: see `adopt`. The generation tells
//! one use of a unit from the next, for the handles of its objects.

use std::ops::Add;

use super::class::Class;
use crate::units::PeerSlot;

/// Bytes of a unit.
pub(crate) const UNIT_BYTES: u64 = 1 << UNIT_SHIFT;
/// A unit is two to this power bytes.
pub(crate) const UNIT_SHIFT: u32 = 16;

/// The number of a unit, counted from the start of object space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit(pub u64);

impl Unit {
    /// The unit that a byte of object space lies in.
    #[inline]
    pub(crate) const fn of(at: Place) -> Self {
        Self(at.0 >> UNIT_SHIFT)
    }

    /// Its first byte.
    #[inline]
    pub(crate) const fn start(self) -> Place {
        Place(self.0.wrapping_mul(UNIT_BYTES))
    }
}

impl Add<u64> for Unit {
    type Output = Self;

    #[inline]
    fn add(self, units: u64) -> Self {
        Self(self.0.wrapping_add(units))
    }
}

/// A byte of object space, counted from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub u64);

/// The state of a slab's head.
const SLAB: u64 = 4;

const STATE_SHIFT: u32 = 60;
const GENERATION_SHIFT: u32 = 48;
const GENERATION_MASK: u64 = (1 << (STATE_SHIFT - GENERATION_SHIFT)) - 1;
const PEER_SHIFT: u32 = 32;
const PEER_MASK: u64 = 0xffff;
const OPERAND_MASK: u64 = (1 << PEER_SHIFT) - 1;

/// What a unit is; see the module's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Free,
    Hole,
    Claim { peer: PeerSlot, units: u64 },
    Rest { peer: PeerSlot, distance: u64 },
    Slab { owner: Option<PeerSlot>, class: u64 },
    Large { units: u64 },
    Freeing { peer: PeerSlot, units: u64 },
}

/// A unit's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnitWord(pub u64);

impl UnitWord {
    #[inline]
    fn pack(state: u64, generation: u64, peer: Option<PeerSlot>, operand: u64) -> Self {
        let peer = peer.map_or(0, |slot| u64::from(slot.0) + 1);
        Self(
            state << STATE_SHIFT
                | (generation & GENERATION_MASK) << GENERATION_SHIFT
                | (peer & PEER_MASK) << PEER_SHIFT
                | (operand & OPERAND_MASK),
        )
    }

    /// The word of the same generation for another use.
    #[inline]
    pub(crate) fn with(self, becomes: Use) -> Self {
        let generation = self.generation();
        match becomes {
            Use::Free => Self::pack(0, generation, None, 0),
            Use::Hole => Self::pack(1, generation, None, 0),
            Use::Claim { peer, units } => Self::pack(2, generation, Some(peer), units),
            Use::Rest { peer, distance } => Self::pack(3, generation, Some(peer), distance),
            Use::Slab { owner, class } => Self::pack(SLAB, generation, owner, class),
            Use::Large { units } => Self::pack(5, generation, None, units),
            Use::Freeing { peer, units } => Self::pack(6, generation, Some(peer), units),
        }
    }

    /// The word of the next generation for another use.
    #[inline]
    pub(crate) fn next(self, becomes: Use) -> Self {
        self.later(1, becomes)
    }

    /// The word for another use, so many generations later.
    #[inline]
    pub(crate) fn later(self, generations: u64, becomes: Use) -> Self {
        Self::pack(0, self.generation() + generations, None, 0).with(becomes)
    }

    /// Which use of the unit this is.
    #[inline]
    pub(crate) fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT & GENERATION_MASK
    }

    #[inline]
    fn peer(self) -> Option<PeerSlot> {
        let number = (self.0 >> PEER_SHIFT & PEER_MASK) as u16;
        number.checked_sub(1).map(PeerSlot)
    }

    /// The class of the slab that the unit is the head of, if it is one, whoever owns it.
    #[inline]
    pub(crate) fn class_of_slab(self) -> Option<Class> {
        if self.0 >> STATE_SHIFT != SLAB {
            return None;
        }
        Class::from_number(self.0 & OPERAND_MASK)
    }

    /// Whether the unit is the head of a slab that is nobody's.
    #[inline]
    pub(crate) fn is_nobodys_slab(self) -> bool {
        self.0 & (u64::MAX << STATE_SHIFT | PEER_MASK << PEER_SHIFT) == SLAB << STATE_SHIFT
    }

    /// What the word says; `None` if it is none that is ever written.
    #[inline]
    pub(crate) fn get(self) -> Option<Use> {
        let operand = self.0 & OPERAND_MASK;
        Some(match self.0 >> STATE_SHIFT {
            0 => Use::Free,
            1 => Use::Hole,
            2 => Use::Claim { peer: self.peer()?, units: operand },
            3 => Use::Rest { peer: self.peer()?, distance: operand },
            SLAB => Use::Slab { owner: self.peer(), class: operand },
            5 => Use::Large { units: operand },
            6 => Use::Freeing { peer: self.peer()?, units: operand },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_reads_back_with_its_generation() {
        let peers = [0, 1, 1023, u16::MAX - 1].map(PeerSlot);
        let operands = [0, 1, 107, OPERAND_MASK];
        let mut uses = vec![Use::Free, Use::Hole];
        for peer in peers {
            for operand in operands {
                uses.extend([
                    Use::Claim { peer, units: operand },
                    Use::Rest { peer, distance: operand },
                    Use::Slab { owner: Some(peer), class: operand },
                    Use::Slab { owner: None, class: operand },
                    Use::Large { units: operand },
                    Use::Freeing { peer, units: operand },
                ]);
            }
        }
        let mut word = UnitWord(0);
        for (life, becomes) in (1..).zip(uses) {
            word = word.next(becomes);
            assert_eq!((word.get(), word.generation()), (Some(becomes), life));
        }
        let last = UnitWord(GENERATION_MASK << GENERATION_SHIFT);
        assert_eq!(last.next(Use::Free), UnitWord(0), "generations come again");
    }

    #[test]
    fn words_that_are_never_written_are_none() {
        for state in 7..16 {
            assert_eq!(UnitWord(state << STATE_SHIFT).get(), None);
        }
        for state in [2, 3, 6] {
            assert_eq!(UnitWord(state << STATE_SHIFT | 5).get(), None, "without a peer");
        }
    }

    #[test]
    fn memory_of_zeros_is_free() {
        assert_eq!(UnitWord(0).get(), Some(Use::Free));
    }
}
