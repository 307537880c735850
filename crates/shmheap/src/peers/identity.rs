//! `PeerId`: who a process is, as objects say it.
//!
//! A slot alone does not say: when its holder dies, another process gets it. So an object that
//! belongs to a process, as a lock does to its holder, names the slot and how often that had been
//! taken by then.
//!
//! ```text
//!   63                 32 31        16 15               0
//!  +---------------------+------------+------------------+
//!  | joins of the record | 0          | slot + 1         |     0 is nobody
//!  +---------------------+------------+------------------+
//! ```
//!
//! The bits in between are for whoever keeps such a word: flags that go with the owner.

use super::record::{RECORDS, RecordTable};
use crate::Result;
use crate::segment::words::Words;
use crate::units::PeerSlot;

const SLOT_MASK: u64 = 0xffff;
const JOINS_SHIFT: u32 = 32;

/// One stay of a process among the peers of a heap; see the module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PeerId(u64);

impl PeerId {
    /// The bits of a word that say who; the others are flags.
    pub(crate) const MASK: u64 = SLOT_MASK | u64::MAX << JOINS_SHIFT;

    /// The peer that holds a slot whose record was taken so often.
    pub(crate) fn new(slot: PeerSlot, joins: u64) -> Self {
        Self(joins << JOINS_SHIFT | (u64::from(slot.0) + 1))
    }

    /// Who a word names, if anybody. What no process can have written is a peer that is dead.
    pub(crate) fn of_word(word: u64) -> Option<Self> {
        (word & SLOT_MASK != 0).then_some(Self(word & Self::MASK))
    }

    /// The word that names this peer, without flags; never 0.
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// A small number, in which peers differ.
    pub(crate) fn jitter(self) -> u32 {
        (self.0 & SLOT_MASK) as u32 % 61 + 1
    }

    /// The slot that it holds, or held.
    pub(crate) fn slot(self) -> PeerSlot {
        PeerSlot(((self.0 & SLOT_MASK) - 1) as u16)
    }

    /// How often the record had been taken by then.
    pub(crate) fn joins(self) -> u64 {
        self.0 >> JOINS_SHIFT
    }

    /// Whether the record still stands for this stay. The first `used` records have storage.
    pub(crate) fn is_current(self, words: &impl Words, table: RecordTable, used: u16) -> bool {
        let slot = self.slot();
        slot.0 < used.min(RECORDS)
            && table.is_joined(words, slot)
            && Self::new(slot, table.joins(words, slot)) == self
    }

    /// Whether it lives, if `is_dead` tells that of slots.
    pub(crate) fn is_alive(
        self,
        words: &impl Words,
        table: RecordTable,
        used: u16,
        is_dead: impl FnOnce(PeerSlot) -> bool,
    ) -> bool {
        // The record last: a slot that another process has got since is alive, but not this peer.
        self.is_current(words, table, used)
            && !is_dead(self.slot())
            && self.is_current(words, table, used)
    }
}

/// What objects that belong to processes ask about these.
pub(crate) trait Roll {
    /// Who this process is.
    fn me(&self) -> Result<PeerId>;

    /// Whether that peer lives and has not left. Costs a system call. One that is being adopted
    /// counts as alive for a moment.
    fn is_alive(&self, peer: PeerId) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Futex;
    use crate::peers::record::{RECORD_WORDS, Record};
    use crate::segment::words::Row;
    use crate::units::WordIndex;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn a_later_holder_of_the_slot_is_somebody_else() {
        let memory: Vec<AtomicU64> = (0..4 * RECORD_WORDS).map(|_| AtomicU64::new(0)).collect();
        let words = Row::new(&memory, Futex);
        let table = RecordTable::new(WordIndex(RECORD_WORDS), 3, WordIndex(0));
        let slot = PeerSlot(1);
        let join = || {
            table.set_joined(&words, slot, &Record::of_this_process());
            PeerId::new(slot, table.joins(&words, slot))
        };
        let is_alive = |peer: PeerId| peer.is_alive(&words, table, 3, |_| false);
        let first = join();
        assert!(is_alive(first));
        assert!(!first.is_alive(&words, table, 3, |_| true), "the kernel says so");
        assert!(!first.is_alive(&words, table, 1, |_| false), "no such record is in use");
        table.set_free(&words, slot);
        assert!(!is_alive(first), "it has left");
        let second = join();
        assert!(is_alive(second) && !is_alive(first));
        assert_eq!(PeerId::of_word(second.word()), Some(second));
        assert_eq!(PeerId::of_word(second.word() | 0xff_0000), Some(second), "flags do not count");
        assert_eq!(PeerId::of_word(0xff_0000), None);
        for hostile in [u64::MAX, 0xffff, 5, 1 << 40 | 2] {
            assert!(!PeerId::of_word(hostile).is_some_and(is_alive), "{hostile:#x}");
        }
    }
}
