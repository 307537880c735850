//! What the next process does for one that died with the lock: bring the announced operation to
//! its end state, whatever part of it was carried out.
//!
//! Undoing a carve and completing a join is the same thing, for both end with the span as one free
//! block; so recovery has three cases for the operations. An entry of the ledger that has a part in
//! one owns nothing afterwards, be it that the object never came to be, or that it ceased to. Every
//! store of it writes a value that does not depend on what was there in the concerned bits, so it
//! may itself be killed at any store and be done again by the next.

use super::journal::{Entry, Growth, Resize, Span};
use super::layout::Position;
use super::{Fault, FirstFit, Surroundings};
use crate::segment::words::Words;

impl FirstFit {
    /// Finishes what was announced, if anything, in the session that the caller has taken over.
    ///
    /// On an error nothing was written.
    pub(super) fn recover(
        &self,
        words: &impl Words,
        surroundings: &impl Surroundings,
    ) -> Result<(), Fault> {
        let session = self.lock.session(words);
        let Some((entry, counters)) =
            self.journal.pending(words, session, self.end(words), self.granules_max)?
        else {
            return Ok(());
        };
        let end = match entry {
            Entry::Grow(growth) => growth.new_end,
            _ => self.end(words),
        };
        surroundings.ensure_storage(end.0)?;
        if let Entry::CarveFor(_, owner) | Entry::JoinFor(_, owner) = entry {
            surroundings.ensure_entry(owner)?;
        }
        match entry {
            Entry::Carve(span) | Entry::Join(span) => self.recover_joined(words, span, end),
            Entry::CarveFor(span, owner) | Entry::JoinFor(span, owner) => {
                self.recover_joined(words, span, end);
                words.store(self.threads.entry_word(owner), 0);
            }
            Entry::Resize(resize) => self.recover_resized(words, resize, end),
            Entry::Grow(growth) => self.recover_grown(words, growth),
        }
        self.store_counters(words, counters);
        Ok(())
    }

    fn recover_joined(&self, words: &impl Words, span: Span, end: Position) {
        if span.object_end < span.end {
            self.clear_boundary(words, span.object_end);
        }
        if span.object != span.start {
            self.clear_boundary(words, span.object);
        }
        self.set_gap(words, span.start);
        // No derived word depends on the start of the object alone: it only ever was a live start.
        for at in [span.start, span.object_end] {
            self.rebuild_derived(words, at, end);
        }
    }

    fn recover_resized(&self, words: &impl Words, resize: Resize, end: Position) {
        let Resize { new_end, old_end, gap_end, .. } = resize;
        if old_end < gap_end {
            self.clear_boundary(words, old_end);
        }
        if new_end < gap_end {
            self.set_gap(words, new_end);
        }
        for at in [old_end, new_end] {
            self.rebuild_derived(words, at, end);
        }
    }

    fn recover_grown(&self, words: &impl Words, growth: Growth) {
        self.set_gap(words, growth.gap);
        self.rebuild_derived(words, growth.gap, growth.new_end);
        self.store_end(words, growth.new_end);
    }

    fn clear_boundary(&self, words: &impl Words, at: Position) {
        self.starts.clear_free(words, at);
        self.starts.clear_start(words, at);
    }

    fn set_gap(&self, words: &impl Words, at: Position) {
        self.starts.set_start(words, at);
        self.starts.set_free(words, at);
    }

    /// Recomputes all that is derived from the region's bits.
    fn rebuild_derived(&self, words: &impl Words, at: Position, end: Position) {
        if at < end {
            self.starts.repair(words, at.region());
            self.maxima.rebuild(words, &self.starts, at.region(), end);
        }
    }
}
