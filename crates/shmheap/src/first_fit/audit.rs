//! The audit: every invariant of the first-fit records, checked one by one.
//!
//! It trusts nothing it reads, writes nothing, and ends after a time that depends only on the
//! heap's length. Run in a session it is exact; without the lock it may report what other processes
//! were changing meanwhile.
//!
//! | rule | equation |
//! |---|---|
//! | `length` | the length is whole granules, at most the most, at least what the header says |
//! | `first-block` | a block starts at granule 0 |
//! | `free-is-start` | frees is a subset of starts |
//! | `joined` | no two free blocks are neighbours |
//! | `beyond-end` | no bits behind the last granule |
//! | `summary` | a summary bit is set exactly if the word below is not 0 |
//! | `maxima` | a leaf is the longest free block of its region, a node the maximum below it |
//! | `counters` | live objects and granules are what the bits say |
//! | `journal` | what the session that holds the lock has announced is possible |
//! | `current` | readers are sent to the area that holds the truth |

use super::layout::{Area, COUNTERS, FAN_OUT, LENGTH, Position, REGION_GRANULES, Region};
use super::maxima::{leaf_maximum, maximum_of_children};
use super::session::Session;
use super::{Fault, FirstFit};
use crate::segment::words::Words;
use crate::units::{Offset, WordIndex};

const BITS: u64 = u64::BITS as u64;

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) rule: &'static str,
    /// The record that breaks it.
    pub(crate) at: Offset,
    pub(crate) detail: String,
}

/// What an audit saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Audit {
    /// At most as many as were asked for.
    pub(crate) flaws: Vec<Flaw>,
    /// There were more.
    pub(crate) more: bool,
    pub(crate) blocks: u64,
    pub(crate) live_objects: u64,
    pub(crate) live_granules: u64,
    pub(crate) free_granules: u64,
    flaws_max: usize,
    /// Of the area's words.
    displacement: u64,
}

impl Audit {
    fn flaw(&mut self, rule: &'static str, at: WordIndex, detail: impl FnOnce() -> String) {
        if self.flaws.len() < self.flaws_max {
            let at = (at + self.displacement).offset();
            self.flaws.push(Flaw { rule, at, detail: detail() });
        } else {
            self.more = true;
        }
    }

    fn expect(&mut self, rule: &'static str, at: WordIndex, found: u64, expected: u64) {
        if found != expected {
            self.flaw(rule, at, || format!("{found:#x} where {expected:#x} belongs"));
        }
    }
}

impl<W: Words + Copy> Session<'_, W> {
    /// Checks all records. It is exact, also if the lock is stolen meanwhile: nobody else stores to
    /// the area of this session then.
    pub(crate) fn audit(&self, flaws_max: usize) -> Audit {
        let (engine, words, area) = (self.engine, &self.words, self.area_number());
        let mut audit = engine.audit_area(words, area, self.end(), flaws_max);
        let before = audit.clone();
        engine.audit_header(words, area, &mut audit);
        engine.audit_current(words, area, &mut audit);
        // What is not of the area is only of the same moment while the lock is in hand.
        if self.is_robbed() { before } else { audit }
    }
}

impl FirstFit {
    /// Checks all records of the first `end` granules in the area, and lists at most `flaws_max`
    /// flaws.
    pub(crate) fn audit(
        &self,
        words: &impl Words,
        area: Area,
        end: Position,
        flaws_max: usize,
    ) -> Audit {
        let mut audit = self.audit_area(words, area, end, flaws_max);
        self.audit_header(words, area, &mut audit);
        let lock = self.lock.load(words);
        if lock.holder().is_none() {
            self.audit_current(words, lock.from(), &mut audit);
        }
        audit
    }

    fn audit_area(&self, words: &impl Words, area: Area, end: Position, flaws_max: usize) -> Audit {
        let displacement = self.layout.displacement(area);
        let mut audit = Audit { flaws_max, displacement, ..Audit::default() };
        let records = self.in_area(words, area);
        self.audit_length(&records, &mut audit);
        self.audit_blocks(&records, end, &mut audit);
        self.audit_summaries(&records, end, &mut audit);
        self.audit_maxima(&records, end, &mut audit);
        self.audit_counters(&records, &mut audit);
        audit
    }

    fn audit_length(&self, words: &impl Words, audit: &mut Audit) {
        let at = self.layout.head + LENGTH;
        let bytes = words.load(at);
        let (granule, most) = (1 << self.granule_shift, self.layout.granules_max);
        if !bytes.is_multiple_of(granule) || bytes / granule > most {
            audit.flaw("length", at, || {
                format!("{bytes} bytes in granules of {granule}, at most {most} of them")
            });
        }
    }

    /// Walks all blocks in order of address.
    fn audit_blocks(&self, words: &impl Words, end: Position, audit: &mut Audit) {
        if !self.starts.is_start(words, Position(0)) {
            audit.flaw("first-block", self.region_at(Region(0)), || {
                "no block starts at granule 0".to_owned()
            });
        }
        let mut block: Option<(Position, bool)> = None;
        for region in (0..end.0.div_ceil(REGION_GRANULES)).map(Region) {
            let mut starts = self.starts.start_bits(words, region);
            let frees = self.starts.free_bits(words, region);
            self.audit_region(region, starts, frees, end, audit);
            while starts != 0 {
                let at = region.start() + u64::from(starts.trailing_zeros());
                let is_free = frees & at.bit() != 0;
                if let Some(previous) = block {
                    self.count_block(previous, at, is_free, audit);
                }
                block = Some((at, is_free));
                starts &= starts - 1;
            }
        }
        if let Some(last) = block {
            self.count_block(last, end, false, audit);
        }
    }

    fn audit_region(
        &self,
        region: Region,
        starts: u64,
        frees: u64,
        end: Position,
        audit: &mut Audit,
    ) {
        let at = self.region_at(region);
        if frees & !starts != 0 {
            audit.flaw("free-is-start", at, || {
                format!("free bits {:#x} where no block starts", frees & !starts)
            });
        }
        let used = (end.0 - region.start().0).min(REGION_GRANULES);
        let beyond = if used == BITS { 0 } else { u64::MAX << used };
        if (starts | frees) & beyond != 0 {
            audit.flaw("beyond-end", at, || format!("bits {:#x}", (starts | frees) & beyond));
        }
    }

    fn count_block(
        &self,
        (at, is_free): (Position, bool),
        next: Position,
        next_is_free: bool,
        audit: &mut Audit,
    ) {
        let granules = next.0.saturating_sub(at.0);
        audit.blocks += 1;
        if is_free {
            audit.free_granules += granules;
            if next_is_free {
                audit.flaw("joined", self.region_at(at.region()), || {
                    format!("free blocks at granules {} and {} are neighbours", at.0, next.0)
                });
            }
        } else {
            audit.live_objects += 1;
            audit.live_granules += granules;
        }
    }

    fn audit_summaries(&self, words: &impl Words, end: Position, audit: &mut Audit) {
        let mut below_count = end.0.div_ceil(REGION_GRANULES);
        let mut below: Option<WordIndex> = None;
        for &base in self.starts.summary_levels() {
            for word in 0..below_count.div_ceil(BITS) {
                let first = word * BITS;
                let expected = (first..below_count.min(first + BITS))
                    .filter(|&index| match below {
                        None => self.starts.start_bits(words, Region(index)) != 0,
                        Some(below) => words.load(below + index) != 0,
                    })
                    .fold(0, |bits, index| bits | 1 << (index - first));
                audit.expect("summary", base + word, words.load(base + word), expected);
            }
            below_count = below_count.div_ceil(BITS);
            below = Some(base);
        }
    }

    fn audit_maxima(&self, words: &impl Words, end: Position, audit: &mut Audit) {
        let levels = self.maxima.levels();
        let mut count = end.0.div_ceil(REGION_GRANULES);
        for region in (0..count).map(Region) {
            let at = levels[0] + region.0;
            let expected = leaf_maximum(words, &self.starts, region, end);
            audit.expect("maxima", at, words.load(at), expected);
        }
        for pair in levels.windows(2) {
            count = count.div_ceil(FAN_OUT);
            for index in 0..count {
                let at = pair[1] + index;
                let expected = maximum_of_children(words, pair[0], index);
                audit.expect("maxima", at, words.load(at), expected);
            }
        }
    }

    fn audit_counters(&self, words: &impl Words, audit: &mut Audit) {
        let (at, counters) = (self.layout.head + COUNTERS, self.counters_in(words));
        let (objects, granules) = (audit.live_objects, audit.live_granules);
        audit.expect("counters", at, counters.objects, objects);
        audit.expect("counters", at + 1, counters.granules, granules);
    }

    /// What the header says of the area, while that holds the truth.
    fn audit_header(&self, words: &impl Words, area: Area, audit: &mut Audit) {
        let (lock, records) = (self.lock.load(words), self.in_area(words, area));
        // The header's length before the area's, which may grow.
        let header_bytes = words.load(self.length);
        let bytes = records.load(self.layout.head + LENGTH);
        if header_bytes > bytes {
            let detail = || format!("{bytes} bytes, and {header_bytes} in the header");
            audit.flaw("length", self.layout.head + LENGTH, detail);
        }
        // Of a session that is over, an entry says nothing.
        if lock.holder().is_some() && lock.from() == area {
            let (end, most) = (self.end_in(&records), self.layout.granules_max);
            let pending = self.journal.pending(&records, lock.session(), end, most);
            if let Err(Fault::Damaged(what)) = pending {
                audit.flaw("journal", self.journal.base(), || what.to_owned());
            }
        }
    }

    /// While nobody is between two areas.
    fn audit_current(&self, words: &impl Words, truth: Area, audit: &mut Audit) {
        audit.displacement = 0;
        let (found, expected) = (self.current(words).0, truth.0);
        audit.expect("current", self.current.at(), found.into(), expected.into());
    }

    fn region_at(&self, region: Region) -> WordIndex {
        self.starts.region_at(region)
    }
}
