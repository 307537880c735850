//! Custody: the entries of the ledger that hold this process's unpublished objects, and what
//! becomes of those of the dead.
//!
//! An entry goes through three hands. `entries` tells which are this process's and free; [`Held`]
//! is one in use; what it owns when its process dies or leaves is an [`Estate`], which whoever
//! adopts the slot settles.

use std::ops::Range;
use std::ptr::NonNull;

use crate::first_fit::{Fault, FirstFit};
use crate::heap::connection::{Connection, Host};
use crate::heap::shape::Engine;
use crate::heap::{Gate, Handle, Heap};
use crate::peers::ledger::{self, Objects};
use crate::peers::threads::ENTRIES;
use crate::peers::{Ledger, LedgerEntry, THREADS};
use crate::segment::format::LEN_MAX_BYTES;
use crate::units::{Offset, PeerSlot, WordIndex};
use crate::{Error, Result};

/// Thread records that may be taken for their entries alone. The others are kept for threads, which
/// could not even free without one.
const RECORDS_MAX: u16 = THREADS / 4 * 3;

/// An entry of the ledger in use; given back when dropped, unless it still owns something.
#[derive(Debug)]
pub(super) struct Held<'h> {
    pub(super) heap: &'h Heap,
    pub(super) entry: LedgerEntry,
    /// The process's place among the peers, which tells it from its forked children.
    stay: u64,
    /// Whether the entry must stay as it is.
    pub(super) is_in_use: bool,
}

impl Held<'_> {
    /// Whether this process took it, and not the one that this was forked from.
    pub(super) fn is_ours(&self) -> bool {
        self.heap.stay() == self.stay
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
        let space = self.object_space()?;
        self.ledger().adopt(slot, &reserve, &space, &Estate { heap: self, slot })
    }

    /// The bytes of object space, which this process has verified.
    pub(super) fn object_space(&self) -> Result<Range<Offset>> {
        let area = self.shape.current_area(&self.words());
        let len_bytes = self.len_bytes_in(area);
        if len_bytes > self.verified_len_bytes(area) {
            self.verify_growth(area, len_bytes)?;
        }
        Ok(self.shape.data_offset..Offset(self.shape.end_of_data(len_bytes)))
    }

    /// The ledger and the cells.
    pub(super) fn ledger(&self) -> Ledger<Gate<'_>> {
        Ledger::new(self.gate(), self.shape.threads)
    }

    /// The word of a cell, if it lies in object space that this process has verified.
    pub(crate) fn cell(&self, cell: NonNull<u64>) -> Result<WordIndex> {
        let invalid = || Error::InvalidCell { address: cell.addr().get() };
        let bytes = self.space().offset_of(cell.cast()).filter(|&bytes| bytes < LEN_MAX_BYTES);
        let offset = self.shape.end_of_data(bytes.ok_or_else(invalid)?);
        let at = ledger::cell_in(&self.object_space()?, offset).ok_or_else(invalid)?;
        Ok(at)
    }

    /// An entry for an object, of a record that this process has or takes now.
    pub(super) fn hold_entry(&self, me: PeerSlot) -> Result<Held<'_>> {
        let (words, threads) = (self.words(), self.shape.threads);
        let entry = match self.entries.take(threads, threads.used(&words)) {
            Some(entry) => entry,
            None => {
                let record = self.claim_record(threads.up_to(RECORDS_MAX), me);
                let record = record.map_err(|error| match error {
                    Error::TooManyThreads { limit } => {
                        Error::TooManyUnpublished { limit: limit * u32::from(ENTRIES) }
                    }
                    error => error,
                })?;
                self.entries.add(threads, record)
            }
        };
        Ok(Held { heap: self, entry, stay: self.stay(), is_in_use: false })
    }

    /// This process's stay among the peers, which no forked child shares; 0 if it has no place.
    pub(crate) fn stay(&self) -> u64 {
        match &self.connection {
            Connection::Peer(membership) => membership.stay(),
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
            Some(owner) if membership.is_dead(owner) => {
                self.sweep_peers();
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }

    /// Frees the object that an entry of this process owns, if it is live, and clears the entry.
    pub(super) fn free_own(&self, entry: LedgerEntry, handle: Handle) -> Result<()> {
        self.free_by_handle(None, handle, || self.free_own_plainly(entry, handle))
    }

    #[inline]
    fn free_own_plainly(&self, entry: LedgerEntry, handle: Handle) -> Result<()> {
        match &self.shape.engine {
            Engine::FirstFit(engine) => {
                self.fit_free_of(engine, self.me("free")?, entry, handle.to_raw())?;
            }
            Engine::Slabs(slabs) => return self.slab_free_own(slabs, entry, handle),
        }
        self.ledger().clear(entry);
        Ok(())
    }

    /// As [`free_own`](Self::free_own) on behalf of a peer: a dead one whose lock the caller has,
    /// or this process as it leaves, when no thread of it works in the heap any more.
    fn free_of(&self, me: PeerSlot, entry: LedgerEntry, handle: u64) -> Result<()> {
        let object = Handle::from_raw(handle);
        self.free_by_handle(Some(me), object, || self.free_of_plainly(me, entry, handle))
    }

    #[inline]
    fn free_of_plainly(&self, me: PeerSlot, entry: LedgerEntry, handle: u64) -> Result<()> {
        match &self.shape.engine {
            Engine::FirstFit(engine) => self.fit_free_of(engine, me, entry, handle)?,
            Engine::Slabs(slabs) => {
                return self.slab_free_for(slabs, me, entry, Handle::from_raw(handle));
            }
        }
        self.ledger().clear(entry);
        Ok(())
    }

    /// Frees the object and clears the entry in one operation, if the object is live.
    fn fit_free_of(
        &self,
        engine: &FirstFit,
        me: PeerSlot,
        entry: LedgerEntry,
        handle: u64,
    ) -> Result<()> {
        let offset = handle.checked_sub(self.shape.data_offset.0);
        let bytes = offset.filter(|&bytes| bytes < LEN_MAX_BYTES);
        let Some(at) = bytes.and_then(|bytes| self.granule_at(bytes)) else { return Ok(()) };
        match engine.operator(self.words(), me, &Host(self)).free_of(at, entry, handle) {
            Ok(()) | Err(Fault::NotLive(_)) => Ok(()),
            Err(fault) => Err(self.explain(fault, 0)),
        }
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

    fn is_done(&self, entry: LedgerEntry) -> Result<bool> {
        match &self.heap.shape.engine {
            Engine::FirstFit(engine) => {
                let (heap, host) = (self.heap, Host(self.heap));
                let done = engine.operator(heap.words(), self.slot, &host).is_done(entry);
                done.map_err(|fault| heap.explain(fault, 0))
            }
            // No entry is ever in session there.
            Engine::Slabs(_) => Ok(false),
        }
    }
}
