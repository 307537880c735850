//! Who this process is to the other users of a heap, and what the engine may ask of it.
//!
//! A connection for writing is a peer: it has a record, a proof of life, and a number under which
//! it takes the lock. A connection for reading is an observer: it has none of these, changes
//! nothing, and nobody knows of it.

use crate::error::NotLive;
use crate::first_fit::layout::Area;
use crate::first_fit::{Fault, Surroundings};
use crate::heap::Heap;
use crate::heap::shape::Engine;
use crate::os::{Fresh, Object, Witness};
use crate::peers::{self, Membership};
use crate::segment::words::Words;
use crate::units::PeerSlot;
use crate::{Error, Result, events};

/// How this process is connected.
#[derive(Debug)]
pub(super) enum Connection {
    Peer(Membership),
    Observer(Witness),
}

impl Connection {
    pub(super) fn is_observer(&self) -> bool {
        matches!(self, Self::Observer(_))
    }

    pub(super) fn witness(&self) -> &Witness {
        match self {
            Self::Peer(membership) => membership.witness(),
            Self::Observer(witness) => witness,
        }
    }

    /// The object behind the heap, through a descriptor that is checked at each use.
    pub(super) fn object(&self) -> &Object {
        self.witness().object()
    }

    /// Gives this process's place up; `give_back` first, which returns what the process holds
    /// under its slot.
    pub(super) fn leave(&self, words: &impl Words, give_back: &dyn Fn(PeerSlot)) {
        let Self::Peer(membership) = self else { return };
        if let Some(slot) = membership.slot() {
            give_back(slot);
            membership.leave(words);
        }
    }
}

impl Heap {
    /// This process's number among the peers. It becomes one when it connects, and a forked child
    /// with its first operation.
    #[inline]
    pub(super) fn me(&self, action: &'static str) -> Result<PeerSlot> {
        match &self.connection {
            Connection::Peer(membership) => match membership.slot() {
                Some(slot) => Ok(slot),
                None => self.join(membership),
            },
            Connection::Observer(_) => Err(Error::ReadOnly { action }),
        }
    }

    #[cold]
    fn join(&self, membership: &Membership) -> Result<PeerSlot> {
        membership.join(&self.words(), None, self)
    }

    /// Becomes a peer through a description that was opened for it.
    pub(super) fn join_through(&self, fresh: Object<Fresh>) -> Result<()> {
        let Connection::Peer(membership) = &self.connection else { return Ok(()) };
        membership.join(&self.words(), Some(fresh), self).map(drop)
    }

    fn try_adopt(&self, slot: PeerSlot) -> Result<()> {
        self.note_miscount(slot);
        match &self.shape.engine {
            // The journal before the ledger: what it undoes or completes is part of an entry's
            // change, so until then the entry may own an object that does not exist.
            Engine::FirstFit(engine) => {
                let adopted = engine.adopt(&self.words(), slot, &Host(self));
                adopted.map_err(|fault| self.explain(fault, 0))?;
                self.adopt_ledger(slot)?;
            }
            // The notes first: whoever acts as the dead one overwrites them. The ledger before the
            // slabs: an entry may own an object that was never made, which nobody else can be given
            // as long as the slab is the dead one's.
            Engine::Slabs(slabs) => {
                unless_damaged(self.slab_adopt_notes(slabs, slot))?;
                unless_damaged(self.adopt_ledger(slot))?;
                unless_damaged(self.slab_adopt_units(slabs, slot))?;
            }
        }
        // Last: as long as something is left to do, its owner is found.
        self.release_threads(slot)
    }

    /// Gives back what this process holds under its slot.
    pub(super) fn give_back(&self, slot: PeerSlot) -> Result<()> {
        self.adopt_ledger(slot)?;
        // A thread that was torn out of the middle of something is at work for ever otherwise.
        self.note_miscount(slot);
        self.lay_down_labels(slot);
        self.release_threads(slot)
    }

    fn release_threads(&self, slot: PeerSlot) -> Result<()> {
        let (words, threads) = (self.words(), self.shape.threads);
        for record in threads.of_peer(words, slot, &|count| self.reserve_threads(count))? {
            threads.release(&words, record);
        }
        Ok(())
    }

    /// What a fault of the engine means to the caller who passed `address`.
    #[cold]
    pub(super) fn explain(&self, fault: Fault, address: usize) -> Error {
        match fault {
            Fault::NotLive(why) => Error::InvalidPointer { address, why },
            Fault::Damaged(what) => Error::Damaged { what },
            Fault::NoStorage => self.why_no_storage(),
        }
    }

    pub(super) fn foreign(address: usize) -> Error {
        Error::InvalidPointer { address, why: NotLive::Foreign }
    }
}

impl peers::Surroundings for Heap {
    /// What is damaged is passed over, as nobody could do more; what lacked storage is for the next
    /// who tries.
    fn adopt(&self, slot: PeerSlot) -> bool {
        let had_joined = self.has_joined(slot);
        let is_done = unless_damaged(self.try_adopt(slot)).is_ok();
        if is_done {
            self.lay_down_labels(slot);
        }
        if had_joined && is_done {
            events::taken_over(&self.label, slot.0);
        }
        is_done
    }

    fn reserve(&self, count: u16) -> Result<()> {
        self.reserve_processes(count)
    }
}

/// Damage is no reason to leave the rest undone.
pub(super) fn unless_damaged(done: Result<()>) -> Result<()> {
    match done {
        Err(Error::Damaged { .. }) => Ok(()),
        done => done,
    }
}

/// What the engine asks of the process that runs it, answered for a heap.
#[derive(Debug)]
pub(super) struct Host<'h>(pub(super) &'h Heap);

impl Surroundings for Host<'_> {
    fn is_dead(&self, peer: PeerSlot) -> bool {
        match &self.0.connection {
            Connection::Peer(membership) => membership.is_dead(peer),
            Connection::Observer(witness) => witness.is_dead(peer),
        }
    }

    #[inline]
    fn ensure_head(&self, area: Area) -> Result<(), Fault> {
        match self.0.verified_len_bytes(area) {
            0 => self.ensure_storage(area, 1),
            _ => Ok(()),
        }
    }

    #[inline]
    fn ensure_storage(&self, area: Area, granules: u64) -> Result<(), Fault> {
        if self.has_storage(area, granules) {
            return Ok(());
        }
        let len_bytes = self.0.shape.bytes(granules);
        self.0.verify_growth(area, len_bytes).map_err(|_| Fault::NoStorage)
    }

    #[inline]
    fn has_storage(&self, area: Area, granules: u64) -> bool {
        self.0.shape.bytes(granules) <= self.0.verified_len_bytes(area)
    }

    fn has_robbed(&self, holder: PeerSlot) {
        events::robbed(&self.0.label, holder.0);
    }

    #[cold]
    fn ensure_records(&self, area: Area, granules: u64) -> Result<(), Fault> {
        let (heap, len_bytes) = (self.0, self.0.shape.bytes(granules));
        let verified = heap.verified_len_bytes(area);
        heap.reserve_records(area, verified, len_bytes).map_err(|_| Fault::NoStorage)
    }
}
