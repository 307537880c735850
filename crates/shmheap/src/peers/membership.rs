//! `Membership`: this process's place among the peers of one heap.
//!
//! A place is a slot: a record in the segment that others read, and the lock on the slot's byte
//! that the kernel takes back when the process dies. Taking a place:
//!
//! ```text
//!   lock a byte --> adopt(slot) --> write the record --> word 0 of the page: 3 + slot
//!                   what the slot's last holder, dead perhaps, left undone
//! ```
//!
//! Everything that says "this process has joined" stands in one page that a forked child finds
//! empty: so a child has no place until it takes its own ([`Membership::join`]), however it was
//! forked and whatever another thread of its parent was doing then. A child never touches its
//! parent's record or lock.
//!
//! ```text
//!   word 0   0 no place, 1 being taken or given up, 2 likewise and waited for, 3 + slot
//!   word 1   token of the proof of life, 0 if there is none
//!   word 2   number of this stay, which no other has in the process or its children; 0 no place
//! ```
//!
//! Locks are only ever taken through descriptions opened for that, which no other process has. The
//! witness's description may be shared with forked children: it holds no lock.
//!
//! # Unsafe code
//!
//! Releasing the proof of life by its token.
#![allow(unsafe_code)]

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::record::{Record, RecordTable};
use crate::os::{Fresh, Futex, KeptWord, Object, Parking, ProofOfLife, WipeOnFork, Witness, life};
use crate::segment::words::Words;
use crate::units::PeerSlot;
use crate::{Error, Result};

const NO_PLACE: u64 = 0;
const CHANGING: u64 = 1;
const AWAITED: u64 = 2;
const FIRST_SLOT: u64 = 3;

/// The word of the page that has the number of the stay.
const STAY: usize = 2;
/// How many words of the page are for the place: a cache line, which others would slow down.
pub(crate) const PLACE_WORDS: usize = 8;

/// What a stay is numbered with. A child goes on from its parent's number, and finds none of its
/// parent's stays in the page.
static NEXT_STAY: AtomicU64 = AtomicU64::new(1);

/// How long a thread sleeps at a time while another takes the place.
const PATIENCE: Duration = Duration::from_millis(10);

/// What a membership asks of the process that has it.
pub(crate) trait Surroundings {
    /// Finishes what a holder of the slot left undone; whether that is all done.
    fn adopt(&self, slot: PeerSlot) -> bool;

    /// Gives storage to the first so many records.
    fn reserve(&self, count: u16) -> Result<()>;
}

/// For tables that have storage.
#[cfg(test)]
impl<F: Fn(PeerSlot) -> bool> Surroundings for F {
    fn adopt(&self, slot: PeerSlot) -> bool {
        self(slot)
    }

    fn reserve(&self, _count: u16) -> Result<()> {
        Ok(())
    }
}

/// This process's place; see the module's text.
#[derive(Debug)]
pub(crate) struct Membership {
    place: Arc<WipeOnFork>,
    witness: Witness,
    table: RecordTable,
}

impl Membership {
    /// No place yet: [`join`](Self::join) takes one.
    pub(crate) fn new(witness: Witness, table: RecordTable) -> Result<Self> {
        Ok(Self { place: Arc::new(WipeOnFork::new()?), witness, table })
    }

    /// The slot of this process; `None` in a forked child that has no place of its own.
    #[inline]
    pub(crate) fn slot(&self) -> Option<PeerSlot> {
        // Acquire; its partner is the release in `PlaceChange::finish`: a thread that sees the
        // slot may act under it, so it must see the record and the lock that belong to it.
        let state = self.place.word(0).load(Ordering::Acquire);
        state.checked_sub(FIRST_SLOT).map(|slot| PeerSlot(slot as u16))
    }

    /// The number of this stay: 0 while there is no place, also in a forked child, and another for
    /// each place that this process or any child of it ever takes, in whichever heap.
    #[inline]
    pub(crate) fn stay(&self) -> u64 {
        stay_of(&self.place)
    }

    /// The page that tells a thread at its end whether the stay goes on.
    pub(crate) fn place(&self) -> Arc<WipeOnFork> {
        Arc::clone(&self.place)
    }

    /// Takes a place unless this process has one. Any number of threads may call at once; one of
    /// them does it and the others wait for it.
    ///
    /// What an earlier holder of the slot may have left undone is adopted before the record is
    /// joined; meanwhile this process holds the slot's lock, so no other adopts the same. The lock
    /// is taken through `fresh`, if there is a description that was opened for it.
    pub(crate) fn join(
        &self,
        words: &impl Words,
        mut fresh: Option<Object<Fresh>>,
        surroundings: &dyn Surroundings,
    ) -> Result<PeerSlot> {
        loop {
            if let Some(slot) = self.slot() {
                return Ok(slot);
            }
            let Some(change) = PlaceChange::begin(&self.place, NO_PLACE) else {
                let state = self.place.word(0);
                // Relaxed: the kernel looks at the word again, and so does the loop.
                let _ =
                    state.compare_exchange(CHANGING, AWAITED, Ordering::Relaxed, Ordering::Relaxed);
                Futex.wait(state, AWAITED, PATIENCE);
                continue;
            };
            // Before they are looked at: see the table.
            let used = self.table.used(words);
            surroundings.reserve(used)?;
            let proof = self.take_lock(words, used, fresh.take())?;
            let slot = proof.slot();
            surroundings.reserve(slot.0 + 1)?;
            self.table.raise_used(words, slot.0 + 1);
            surroundings.adopt(slot);
            self.table.set_joined(words, slot, &Record::of_this_process());
            // Relaxed: published by the release in `finish`.
            self.place.word(1).store(proof.into_token().get(), Ordering::Relaxed);
            // Release; its partner is the acquire in `stay_of`.
            let stay = NEXT_STAY.fetch_add(1, Ordering::Relaxed);
            self.place.word(STAY).store(stay, Ordering::Release);
            change.finish(FIRST_SLOT + u64::from(slot.0));
            return Ok(slot);
        }
    }

    /// Gives the place up: the record first, so that at no time a joined record without a lock
    /// tells of a death that was none. Does nothing in a forked child without a place of its own.
    pub(crate) fn leave(&self, words: &impl Words) {
        let Some(slot) = self.slot() else { return };
        let state = FIRST_SLOT + u64::from(slot.0);
        let Some(_change) = PlaceChange::begin(&self.place, state) else { return };
        // Relaxed: whoever leaves is alone with the place.
        self.place.word(STAY).store(0, Ordering::Relaxed);
        self.table.set_free(words, slot);
        self.release_lock();
    }

    /// Whether the slot's holder has died, or there is none.
    pub(crate) fn is_dead(&self, slot: PeerSlot) -> bool {
        self.witness.is_dead(slot)
    }

    /// For listing the peers.
    pub(crate) fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Adopts what the dead left and frees their records; returns how many.
    pub(crate) fn sweep(&self, words: &impl Words, surroundings: &dyn Surroundings) -> u32 {
        let (mut swept, used) = (0, self.table.used(words));
        if surroundings.reserve(used).is_err() {
            return 0;
        }
        for slot in self.table.slots().take(usize::from(used)) {
            if !self.table.is_joined(words, slot) || !self.is_dead(slot) {
                continue;
            }
            // Pinned like a proof of life: an adoption must not lose its lock to a `close_range` in
            // another thread. Where it cannot be had, the record waits for the next sweep.
            let Ok(Some(adoption)) = ProofOfLife::acquire(self.witness.object(), slot) else {
                continue;
            };
            // Somebody may have been faster, and even have joined and left since.
            if self.table.is_joined(words, slot) && surroundings.adopt(slot) {
                self.table.set_free(words, slot);
                swept += 1;
            }
            drop(adoption);
        }
        swept
    }

    /// The lock of a slot: of a free record if there is one, else of one whose holder is dead.
    fn take_lock(
        &self,
        words: &impl Words,
        used: u16,
        fresh: Option<Object<Fresh>>,
    ) -> Result<ProofOfLife> {
        let fresh = fresh.map_or_else(|| self.witness.object().reopen(), Ok)?;
        let is_joined = |slot: PeerSlot| slot.0 < used && self.table.is_joined(words, slot);
        let free = self.table.slots().filter(|&slot| !is_joined(slot));
        let candidates = free.chain(self.table.slots());
        ProofOfLife::acquire_through(fresh, candidates)?
            .ok_or(Error::TooManyPeers { limit: u32::from(self.table.count()) })
    }
}

/// The number of the stay that the page tells of.
pub(crate) fn stay_of(place: &WipeOnFork) -> u64 {
    // Acquire; its partner is the release in `join`: who sees the number may act under the slot.
    place.word(STAY).load(Ordering::Acquire)
}

/// As [`stay_of`], and no further away than a load.
#[derive(Debug)]
pub(crate) struct Stay(KeptWord);

impl Stay {
    pub(crate) fn of(membership: &Membership) -> Self {
        Self(KeptWord::of(&membership.place, STAY))
    }

    /// There is none, and never will be.
    pub(crate) fn none() -> Self {
        Self(KeptWord::zero())
    }

    #[inline]
    pub(crate) fn number(&self) -> u64 {
        // Acquire, as in `stay_of`.
        self.0.get().load(Ordering::Acquire)
    }
}

impl Membership {
    fn release_lock(&self) {
        // Relaxed: the callers have exclusive use of the place, and what the last change stored is
        // seen through `PlaceChange::begin`, or through the unique reference of `drop`.
        let token = self.place.word(1).swap(0, Ordering::Relaxed);
        if let Some(token) = NonZeroU64::new(token) {
            // SAFETY: the token is from this process, as the page would be empty in any other, and
            // the swap took it away from every later caller.
            unsafe { life::release(token) };
        }
    }
}

/// A place that was not given up is released like that of a dead process: its record stays, for
/// somebody to adopt.
impl Drop for Membership {
    fn drop(&mut self) {
        self.release_lock();
    }
}

/// The right to change the place, which one thread at a time has. Unless it is finished, there is
/// no place after it.
struct PlaceChange<'p> {
    state: &'p AtomicU64,
    outcome: u64,
}

impl<'p> PlaceChange<'p> {
    fn begin(place: &'p WipeOnFork, from: u64) -> Option<Self> {
        let state = place.word(0);
        // Acquire; its partner is the release in `drop`: what the last change did is seen.
        state
            .compare_exchange(from, CHANGING, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Self { state, outcome: NO_PLACE })
    }

    fn finish(mut self, state: u64) {
        self.outcome = state;
    }
}

impl Drop for PlaceChange<'_> {
    fn drop(&mut self) {
        // Release; its partners are the acquires in `slot` and `begin`.
        if self.state.swap(self.outcome, Ordering::Release) == AWAITED {
            Futex.wake(self.state);
        }
    }
}
