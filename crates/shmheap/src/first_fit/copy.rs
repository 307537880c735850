//! The records of a heap put into another that nobody uses yet.
//!
//! They are copied from one area, that of a session: so nobody changes them meanwhile. A thief may
//! take the lock; it goes on in another area, and leaves this one as it is until the session has
//! left it. The copy is area 0 of its heap. It has no journal and no session, so nothing in it is
//! to be recovered, and nobody was helped; and no entry of the ledger owns anything there.

use super::layout::{Area, COUNTERS, Position};
use super::session::Session;
use super::{FirstFit, Rest, Surroundings};
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};

impl<W: Words + Copy> Session<'_, W> {
    /// Copies the records to zeroed ones with storage for them.
    pub(crate) fn copy_to(&self, target: &impl Words) {
        self.engine.copy_records(&self.area, target, self.end());
    }
}

impl FirstFit {
    /// As [`Session::copy_to`] for who cannot have the lock: whether nobody had it meanwhile, who
    /// might have changed the records. `granules` have storage in both.
    pub(crate) fn copy_if_quiet(
        &self,
        words: &impl Words,
        surroundings: &impl Surroundings,
        target: &impl Words,
        granules: u64,
    ) -> bool {
        let state = self.state(words);
        let is_quiet = self.rest(state, |peer: PeerSlot| surroundings.is_dead(peer)) == Rest::Quiet;
        let area = self.current(words);
        let end =
            if surroundings.has_storage(area, 1) { self.end(words, area) } else { Position(0) };
        if !is_quiet || end.0 > granules || !surroundings.has_storage(area, end.0.max(1)) {
            return false;
        }
        self.copy_records(&self.in_area(words, area), target, end);
        self.state(words) == state
    }

    fn copy_records(&self, source: &impl Words, target: &impl Words, end: Position) {
        let counters = self.layout.head + COUNTERS;
        let ranges = self.layout.in_use(end.0).chain([counters..counters + 2]);
        for at in ranges.flat_map(|range| range.start.0..range.end.0).map(WordIndex) {
            target.store(at, source.load(at));
        }
        self.store_end(target, end);
        self.raise_length(target, end);
    }

    /// The runs of granules that are objects, in the records of area 0, without the gaps that are
    /// no longer than `gap`.
    pub(crate) fn live_runs(&self, words: &impl Words, gap: u64) -> Vec<std::ops::Range<u64>> {
        let (area, mut at) = (Area::FIRST, Position(0));
        let end = self.end(words, area);
        let mut runs: Vec<std::ops::Range<u64>> = vec![];
        while at < end {
            let next = self.next_start(words, area, at, end);
            if matches!(self.block(words, area, at, end), super::BlockState::Live(_)) {
                match runs.last_mut() {
                    Some(run) if at.0 - run.end <= gap => run.end = next.0,
                    _ => runs.push(at.0..next.0),
                }
            }
            at = next;
        }
        runs
    }
}
