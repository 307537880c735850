//! "step": every image of the segment that an operation makes, instruction by instruction, is one
//! that others recover from.
//!
//! An operator does the operation under the trap and logs its stores. Whoever is killed after an
//! instruction leaves the bytes as they are then: so for each instruction that stored something,
//! the parent makes a copy in which the operator is dead, and the bystander, too, in every second
//! one. A fresh connection adopts and audits; what lives must be what lived before the operation or
//! lives after it; and everything can be freed, to the last byte. This is the compiled code: a
//! store that the compiler moved, split or merged is seen where it is made.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use shmheap::Heap;

use crate::bytes;
use crate::image::{self, Image};
use crate::log::{self, Log, PAGE_WORDS};
use crate::process::{is_fine, spell};
use crate::random::Random;
use crate::section::Rounds;
use crate::site::{Plot, Site};
use crate::snapshot::{Snapshot, assert_empties};
use crate::tally::Tally;
use crate::trap;

/// More than the words of any site.
const SEGMENT_WORDS: usize = (8 << 20) / 8;
/// Where FORMAT.md puts the first process records, thread records and records of the policy; under
/// first fit those are the head of the first area, and its first arrays.
const FIRST_PAGES: [usize; 5] = [0, 1, 135_168 / 4096, 659_456 / 4096, 659_456 / 4096 + 1];

/// What a worker needs for all rounds.
#[derive(Debug)]
pub(crate) struct Step(Log);

impl Step {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Log::new(SEGMENT_WORDS)?))
    }

    fn run(&self, plot: Plot, random: &mut Random, tally: &mut Tally) -> Result<()> {
        let expected = Site::expected(plot)?;
        let pages = log::ranges(&self.touched(plot)?);
        let site = Site::build(plot)?;
        let mut operator = site.operator(|operator| {
            // What the preparation may have grown.
            let segment = bytes::segment(&site.heap)?;
            self.0.begin(segment)?;
            let mut look = |instruction| self.0.look(segment, &pages, instruction);
            let mut result = Ok(());
            trap::run(&mut look, || result = operator.operate())?;
            result
        })?;
        let status = operator.wait()?;
        ensure!(is_fine(status), "the operator {}", spell(status));
        let (stores, instructions) = self.0.read()?;
        self.0.assert_complete(bytes::segment(&site.heap)?)?;
        tally.count("instructions", instructions);
        let len_bytes = rustix::fs::fstat(site.heap.to_fd()?)?.st_size as u64;
        let mut image = Image::new(self.0.before(&stores), len_bytes);
        let slot = site.heap.peers().iter().find(|peer| peer.is_self).map(|peer| peer.slot);
        let slot = slot.context("the bystander is no peer")?;
        let mut rows = stores.chunk_by(|a, b| a.instruction == b.instruction);
        let mut at = 0;
        loop {
            // In every second image the bystander lives, and the rest with its slabs.
            let bystander = random.one_in(2).then_some(slot);
            let judged = judge(&site, &image, &expected, plot, bystander);
            tally.point(judged.with_context(|| format!("{plot}, killed after instruction {at}")));
            let Some(row) = rows.next() else { return Ok(()) };
            at = row.first().map_or(at, |store| store.instruction);
            row.iter().for_each(|&store| image.apply(store));
        }
    }

    /// The pages that an operation may store to: those that any does, and those in which something
    /// is another after it.
    fn touched(&self, plot: Plot) -> Result<BTreeSet<usize>> {
        let site = Site::build(plot)?;
        let mut operator = site.operator(|operator| {
            self.0.begin(bytes::segment(&site.heap)?)?;
            operator.operate()
        })?;
        ensure!(is_fine(operator.wait()?), "without a trap, an operator failed");
        let mut pages = BTreeSet::from(FIRST_PAGES);
        pages.extend(self.0.differing(bytes::segment(&site.heap)?).map(|word| word / PAGE_WORDS));
        Ok(pages)
    }
}

impl Rounds for Step {
    fn round(&mut self, round: u64, random: &mut Random, tally: &mut Tally) -> Result<()> {
        let plot = Plot::of_round(round, random);
        self.run(plot, random, tally).with_context(|| plot.to_string())
    }
}

/// Lets a newcomer recover from an image, and looks at what it finds.
fn judge(
    site: &Site,
    image: &Image,
    (before, after): &(Snapshot, Snapshot),
    plot: Plot,
    bystander: Option<u16>,
) -> Result<()> {
    let object = image.object()?;
    let life = bystander.map(|slot| image::keep_alive(&object, slot)).transpose()?;
    let heap: Heap = image::connect(&object)?;
    let found = site.look_through(&heap)?;
    let is_possible = found.lies_between(before, after, plot.op.outcome());
    ensure!(is_possible, "neither before ({}) nor after", found.difference(before));
    let alive = heap.peers().len();
    ensure!(alive == 1 + usize::from(life.is_some()), "{alive} peers");
    if life.is_none() {
        assert_empties(&heap)?;
    }
    Ok(())
}
