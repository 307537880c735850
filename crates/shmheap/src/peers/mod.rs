//! The processes that are connected to a heap, and what becomes of those that die.
//!
//! Each takes a *slot* when it connects ([`Membership`]). Under the slot's number stand a record
//! in the segment ([`RecordTable`]), which tells people who it is, and a lock on one byte of the
//! object (`os::life`), which tells the others whether it lives. Only the lock counts:
//!
//! | record | lock | the slot |
//! |---|---|---|
//! | free | free | is nobody's |
//! | free | held | is just being taken or given up, or adopted |
//! | joined | held | is a living peer's |
//! | joined | free | is a dead peer's, until somebody adopts what it left and frees the record |
//!
//! Under the slot's number also stand the *thread records* ([`ThreadTable`]) that say what the
//! threads of the process are in the middle of.
//!
//! Whoever takes a slot's lock, to live in it or to free its record, first finishes what an earlier
//! holder left undone; the lock sees to it that only one does. If that one dies as well, the lock
//! is free again and the next starts over.

pub(crate) mod identity;
pub(crate) mod ledger;
pub(crate) mod membership;
pub(crate) mod record;
pub(crate) mod threads;

pub(crate) use identity::{PeerId, Roll};
pub(crate) use ledger::Ledger;
pub(crate) use membership::{Membership, PLACE_WORDS, Stay, Surroundings, stay_of};
pub(crate) use record::{RECORD_WORDS, RECORDS, RecordTable};
pub(crate) use threads::{
    ENTRIES, ENTRY_WORDS, LedgerEntry, THREAD_WORDS, THREADS, ThreadRecord, ThreadTable,
};

use crate::os::Witness;
use crate::segment::words::Words;
use crate::units::PeerSlot;

/// A process that has joined and not left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerState {
    /// Its place in the table.
    pub(crate) slot: PeerSlot,
    /// Whether its lock is held.
    pub(crate) alive: bool,
    /// Whether it is the process that asks.
    pub(crate) is_self: bool,
    /// Its number in its own PID namespace.
    pub(crate) pid: u32,
    /// The inode of that namespace.
    pub(crate) pid_namespace: u64,
    /// When it joined: nanoseconds since 1970.
    pub(crate) connected_unix_ns: u64,
    /// The start of its command line, safe to print.
    pub(crate) command: String,
}

/// Every process that has joined and not left, dead ones included, in order of slots. The first
/// `used` records have storage, and no other is looked at.
pub(crate) fn list(
    words: &impl Words,
    table: RecordTable,
    witness: &Witness,
    own: Option<PeerSlot>,
    used: u16,
) -> Vec<PeerState> {
    let states = table.slots().take(usize::from(used)).filter_map(|slot| {
        let record = table.read(words, slot)?;
        let alive = !witness.is_dead(slot);
        // Left between the two looks: neither alive nor a casualty.
        if !alive && !table.is_joined(words, slot) {
            return None;
        }
        Some(PeerState {
            slot,
            alive,
            is_self: own == Some(slot),
            pid: record.pid,
            pid_namespace: record.pid_namespace,
            connected_unix_ns: record.connected_unix_ns,
            command: record.command_text(),
        })
    });
    states.collect()
}

#[cfg(test)]
mod subject;
#[cfg(test)]
mod tests;
