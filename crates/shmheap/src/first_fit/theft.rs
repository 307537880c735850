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
//! The holder, when it goes on, finds the exchange refused, acquires the lock, looks whether it was
//! helped, leaves its area, and does the operation again if it was not (`session`).
//!
//! Killed or robbed before 6, a thief has changed nothing that counts: whoever takes the lock from
//! it copies anew. `tests/model/steal.rs` has all interleavings of this.

use std::time::Duration;

use super::areas::InArea;
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
    /// Makes sure that both areas have storage for what is in the one, and returns how many
    /// granules that is.
    fn ensure_copy(
        &self,
        words: &impl Words,
        surroundings: &impl Surroundings,
        from: Area,
        to: Area,
    ) -> Result<u64, Fault> {
        surroundings.ensure_head(from)?;
        let granules = self.end(words, from).0;
        surroundings.ensure_storage(from, granules)?;
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
        if let Some(end) = entry.new_end() {
            surroundings.ensure_storage(to, end.0)?;
        }
        self.recover(&target, entry, counters);
        if from != to && entry.is_completed() {
            target.store(self.layout.head + HELPED + u64::from(from.0), held.session());
        }
        Ok(())
    }

    fn copy<W: Words>(&self, source: &InArea<W>, target: &InArea<W>, granules: u64) {
        // The journal stays behind: it is of sessions that will be over.
        let head = self.layout.counted_in_head();
        for range in self.layout.in_use(granules).chain([head]) {
            for at in range.start.0..range.end.0 {
                let at = WordIndex(at);
                target.store(at, source.load(at));
            }
        }
        // As it was when what is copied was determined; growth under way is announced.
        self.store_end(target, Position(granules));
    }

    /// Whether the operation of the acquisition was completed by a thief.
    pub(super) fn was_helped(&self, area: &impl Words, robbed: LockWord) -> bool {
        area.load(self.layout.head + HELPED + u64::from(robbed.to().0)) == robbed.session()
    }
}
