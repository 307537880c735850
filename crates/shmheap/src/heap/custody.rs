//! Custody: the entries of the ledger that hold this process's unpublished objects, and what
//! becomes of those of the dead.
//!
//! An entry goes through three hands. `entries` tells which are this process's and free; [`Held`]
//! is one in use; what it owns when its process dies or leaves is an [`Estate`], which whoever
//! adopts the slot settles.

use std::ptr::NonNull;

use crate::first_fit::{Fault, Surroundings};
use crate::heap::Heap;
use crate::heap::connection::{Connection, Host};
use crate::os::Futex;
use crate::peers::ledger::{self, Objects};
use crate::peers::{Ledger, LedgerEntry};
use crate::segment::format::LEN_MAX_BYTES;
use crate::segment::words::Row;
use crate::units::{Offset, PeerSlot, WordIndex};
use crate::{Error, Result};

/// An entry of the ledger in use; given back when dropped, unless it still owns something.
#[derive(Debug)]
pub(super) struct Held<'h> {
    pub(super) heap: &'h Heap,
    pub(super) entry: LedgerEntry,
    /// The process's place among the peers, which tells it from its forked children.
    place: u64,
    /// Whether the entry must stay as it is.
    pub(super) is_in_use: bool,
}

impl Held<'_> {
    /// Whether this process took it, and not the one that this was forked from.
    pub(super) fn is_ours(&self) -> bool {
        self.heap.place() == self.place
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.is_in_use && self.is_ours() {
            self.heap.entries.give_back(self.entry);
        }
    }
}

impl Heap {
    /// Ends what a dead peer was handing over, and frees what it owned; the caller holds its proof
    /// of life. Also for this process itself, when it leaves: an object that was forgotten with its
    /// guard dies now.
    pub(super) fn adopt_ledger(&self, slot: PeerSlot) -> Result<()> {
        let reserve = |count| self.reserve_threads(count);
        if self.ledger().is_clear(slot, &reserve)? {
            return Ok(());
        }
        // Another process may be recovering this moment what the dead one was doing with the lock,
        // and an entry with it. Whoever has had the lock after that sees the entry as it stays.
        let end = self.session(slot)?.end();
        let space = self.shape.data_offset..Offset(self.shape.end_of_data(self.shape.bytes(end.0)));
        self.ledger().adopt(slot, &reserve, &space, &Estate { heap: self, slot })
    }

    /// The ledger and the cells.
    pub(super) fn ledger(&self) -> Ledger<Row<'_, Futex>> {
        Ledger::new(Row::new(self.mapping.words(u64::MAX), Futex), self.shape.threads)
    }

    /// The word of a cell, if it lies in object space that this process has verified.
    pub(super) fn cell(&self, cell: NonNull<u64>) -> Result<WordIndex> {
        let invalid = || Error::InvalidCell { address: cell.addr().get() };
        let bytes = self.space().offset_of(cell.cast()).filter(|&bytes| bytes < LEN_MAX_BYTES);
        let offset = self.shape.end_of_data(bytes.ok_or_else(invalid)?);
        let end = self.shape.engine.end(&self.words());
        let space = self.shape.data_offset..Offset(self.shape.end_of_data(self.shape.bytes(end.0)));
        let at = ledger::cell_in(&space, offset).ok_or_else(invalid)?;
        Host(self).ensure_storage(end.0).map_err(|fault| self.explain(fault, 0))?;
        Ok(at)
    }

    /// An entry for an object, of a record that this process has or takes now.
    pub(super) fn hold_entry(&self, me: PeerSlot) -> Result<Held<'_>> {
        let (words, threads) = (self.words(), self.shape.threads);
        let entry = match self.entries.take(threads, threads.used(&words)) {
            Some(entry) => entry,
            None => {
                let record = threads.claim(&words, me, &|count| self.reserve_threads(count))?;
                self.entries.add(threads, record)
            }
        };
        Ok(Held { heap: self, entry, place: self.place(), is_in_use: false })
    }

    /// This process's place among the peers, another than that of any process before it or of its
    /// forked children; 0 if it has none.
    fn place(&self) -> u64 {
        match &self.connection {
            Connection::Peer(membership) => membership.identity(),
            Connection::Observer(_) => 0,
        }
    }

    /// Adopts the entry's owner if it is dead; whether a cell with the entry's tag may have changed
    /// meanwhile.
    #[cold]
    pub(super) fn adopt_owner(&self, entry: LedgerEntry) -> Result<bool> {
        let Connection::Peer(membership) = &self.connection else { return Ok(false) };
        self.me("adopt")?;
        let reserve = |count| self.reserve_threads(count);
        match self.shape.threads.owner(&self.words(), entry.record(), &reserve)? {
            None => Ok(true),
            Some(owner) if membership.is_dead(owner) => self.sweep().map(|_| true),
            Some(_) => Ok(false),
        }
    }

    /// Frees the object that the entry owns, if it is live, and clears the entry.
    pub(super) fn free_of(&self, me: PeerSlot, entry: LedgerEntry, handle: u64) -> Result<()> {
        let offset = handle.checked_sub(self.shape.data_offset.0);
        let bytes = offset.filter(|&bytes| bytes < LEN_MAX_BYTES);
        if let Some(at) = bytes.and_then(|bytes| self.granule_at(bytes)) {
            match self.session(me)?.free_of(at, entry) {
                Err(Fault::NotLive(_)) => {}
                freed => return freed.map_err(|fault| self.explain(fault, 0)),
            }
        }
        self.ledger().clear(entry);
        Ok(())
    }
}

/// What a dead peer has left to its adopter.
struct Estate<'h> {
    heap: &'h Heap,
    slot: PeerSlot,
}

impl Objects for Estate<'_> {
    fn free_owned(&self, entry: LedgerEntry, handle: u64) -> Result<()> {
        self.heap.free_of(self.slot, entry, handle)
    }
}
