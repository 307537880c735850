//! What the next process does for one that died with the lock, or was robbed of it: bring the
//! announced operation to its end state, whatever part of it was carried out.
//!
//! Undoing a carve and completing a join is the same thing, for both end with the span as one free
//! block; so recovery has three cases for the operations. Every store of it writes a value that
//! does not depend on what was there in the concerned bits, so it may itself be killed at any store
//! and be done again by the next; and it may be done on a copy in which each word is of another
//! moment of the operation.

use super::FirstFit;
use super::journal::{Counters, Entry, Growth, Owner, Resize, Span};
use super::layout::Position;
use crate::segment::words::Words;

impl FirstFit {
    /// Finishes what was announced, in the area; its records have storage.
    pub(super) fn recover(&self, area: &impl Words, entry: Entry, counters: Counters) {
        let end = entry.new_end().unwrap_or_else(|| self.end_in(area));
        match entry {
            Entry::Carve(span) | Entry::Join(span) => self.recover_joined(area, span, end),
            Entry::CarveFor(span, Owner { entry, done }) => {
                self.recover_joined(area, span, end);
                self.set_done(area, entry, !done);
            }
            Entry::JoinFor(span, Owner { entry, done }) => {
                self.recover_joined(area, span, end);
                self.set_done(area, entry, done);
            }
            Entry::Resize(resize) => self.recover_resized(area, resize, end),
            Entry::Grow(growth) => self.recover_grown(area, growth),
        }
        self.store_counters(area, counters);
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

    /// Undoes a growth; the length is the old one.
    pub(super) fn recover_ungrown(&self, area: &impl Words, growth: Growth) {
        let Growth { gap, old_end, .. } = growth;
        if gap == old_end {
            self.clear_boundary(area, old_end);
        }
        // Also behind the end: a region more has records there.
        self.starts.repair(area, gap.region());
        self.maxima.rebuild(area, &self.starts, gap.region(), old_end);
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
