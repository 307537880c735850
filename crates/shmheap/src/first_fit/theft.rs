//! The lock taken from a holder that lives and keeps others waiting, by a copy of the records.
//!
//! A holder may be stopped at any instruction, and go on at any time: so it is neither waited for
//! nor touched. The thief, in order:
//!
//! 1. finds an area that nobody is in, and has storage for it;
//! 2. reads the pin of the holder's area, then the lock, and pins the area for that acquisition;
//! 3. takes the lock by an exchange of its word. From now on the holder cannot do anything more: it
//!    has done an operation by the exchange that frees the lock, which will be refused;
//! 4. copies the truth word by word, and reads the journal last. The holder may change anything
//!    meanwhile: whatever mixture of its stores the copy has, it is of the one operation that the
//!    journal names, and recovery makes one state of them;
//! 5. recovers on the copy what is announced (`recover`), and notes there, if that completed an
//!    operation, that the session stolen in that area was *helped*;
//! 6. makes the copy the truth by an exchange of the lock to the next session;
//! 7. raises `current`, for readers.
//!
//! The holder, when it goes on, finds the exchange refused, waits for 6, looks whether it was
//! helped, leaves its area, and does the operation again if it was not (`session`). What it
//! announces after the journal was read comes to nothing: a growth of that kind leaves its length
//! in the area, where readers may see it for a while, and nothing else that they would meet.
//!
//! Killed or robbed before 6, a thief has changed nothing that counts: whoever takes the lock from
//! it copies anew. `tests/model/steal.rs` has all interleavings of this.

use std::time::Duration;

use super::areas::InArea;
use super::journal::Entry;
use super::layout::{Area, HELPED, Position};
use super::lock::{Contender, LockWord};
use super::session::Operator;
use super::{Fault, FirstFit, Surroundings};
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};

/// Of a word that is copied to memory which the system has yet to provide: several times what it
/// was measured to take.
const COPY_NS_PER_WORD: u64 = 16;

impl<W: Words, S: Surroundings> Contender for Operator<'_, W, S> {
    fn is_dead(&self, peer: PeerSlot) -> bool {
        self.surroundings.is_dead(peer)
    }

    fn prepare_theft(&self, held: LockWord) -> Option<Area> {
        let Self { engine, words, surroundings, .. } = self;
        let is_dead = |peer| surroundings.is_dead(peer);
        let is_free = |area: &Area| {
            ![held.from(), held.to()].contains(area) && engine.pins.is_left(words, *area, &is_dead)
        };
        let to = Area::all().find(is_free)?;
        engine.ensure_copy(words, *surroundings, held.from(), to).ok()?;
        // The pin before the lock: if another pins the area for a later acquisition, the exchange
        // of the pin fails.
        let pin = engine.pins.load(words, held.to());
        let is_still = engine.lock.load(words) == held;
        (is_still && engine.pins.set(words, pin, held)).then_some(to)
    }

    fn has_robbed(&self, holder: PeerSlot) {
        self.surroundings.has_robbed(holder);
    }

    fn copying(&self, from: Area) -> Duration {
        let Self { engine, words, surroundings, .. } = self;
        match surroundings.ensure_head(from) {
            Ok(()) => {
                let ranges = engine.layout.in_use(engine.end(words, from).0);
                let count: u64 = ranges.map(|range| range.end.0 - range.start.0).sum();
                Duration::from_nanos(count.saturating_mul(COPY_NS_PER_WORD))
            }
            Err(_) => Duration::ZERO,
        }
    }
}

impl FirstFit {
    /// Makes sure that the area has storage for what is in it, and returns how many granules that
    /// is.
    pub(super) fn ensure_area(
        &self,
        words: &impl Words,
        surroundings: &impl Surroundings,
        area: Area,
    ) -> Result<u64, Fault> {
        surroundings.ensure_head(area)?;
        let granules = self.end(words, area).0;
        surroundings.ensure_storage(area, granules)?;
        Ok(granules)
    }

    /// Makes sure that both areas have storage for what is in the one.
    fn ensure_copy(
        &self,
        words: &impl Words,
        surroundings: &impl Surroundings,
        from: Area,
        to: Area,
    ) -> Result<u64, Fault> {
        let granules = self.ensure_area(words, surroundings, from)?;
        surroundings.ensure_storage(to, granules)?;
        Ok(granules)
    }

    /// Recovers what the session of `held`, which was taken over, has announced: in place, or on a
    /// copy of the truth if that is elsewhere.
    pub(super) fn settle(
        &self,
        words: &impl Words,
        surroundings: &impl Surroundings,
        held: LockWord,
    ) -> Result<(), Fault> {
        let (from, to) = (held.from(), held.to());
        let granules = self.ensure_copy(words, surroundings, from, to)?;
        let (source, target) = (self.in_area(words, from), self.in_area(words, to));
        if from != to {
            self.copy(&source, &target, granules);
        }
        // Behind the copying: what a word of the copy owes to an operation is announced by now.
        let announced = self.journal.pending(
            &source,
            held.session(),
            self.end(words, to),
            self.layout.granules_max,
        )?;
        let Some((entry, counters)) = announced else { return Ok(()) };
        if let Some(end) = entry.new_end()
            && let Err(fault) = surroundings.ensure_storage(to, end.0)
        {
            return if from == to { Err(fault) } else { self.forgo(&target, entry) };
        }
        self.recover(&target, entry, counters);
        if from != to && entry.is_completed() {
            target.store(self.layout.head + HELPED + u64::from(from.0), held.session());
        }
        Ok(())
    }

    /// Whoever grew the heap may be alive and have the storage for that in its area: that there is
    /// none in this one is no reason to stop everybody.
    #[cold]
    fn forgo(&self, target: &impl Words, entry: Entry) -> Result<(), Fault> {
        if let Entry::Grow(growth) = entry {
            self.recover_ungrown(target, growth);
        }
        Ok(())
    }

    fn copy<W: Words>(&self, source: &InArea<W>, target: &InArea<W>, granules: u64) {
        // The length first, and not that of the source later on: readers may be here still, and a
        // length for which there are no records would make the last object longer. Growth under way
        // is announced.
        self.store_end(target, Position(granules));
        // The journal stays behind: it is of sessions that will be over.
        for range in self.layout.in_use(granules).chain(self.layout.copied_of_head()) {
            for at in range.start.0..range.end.0 {
                let at = WordIndex(at);
                target.store(at, source.load(at));
            }
        }
    }

    /// Whether the operation of the acquisition was completed by a thief.
    pub(super) fn was_helped(&self, area: &impl Words, robbed: LockWord) -> bool {
        area.load(self.layout.head + HELPED + u64::from(robbed.to().0)) == robbed.session()
    }
}
