//! "stop": a process stopped after any instruction of an operation keeps nobody waiting.
//!
//! An operator stops itself after one instruction after another, as SIGSTOP stops any process.
//! While it is stopped, its parent allocates and frees a hundred objects of one size class; how
//! long that takes is noted, and its median must be below a millisecond. A wait for the stopped one
//! would last for ever, and be noticed by whoever watches this worker.
//!
//! [`STOP_PROOF`] says under which policies that is promised.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use shmheap::Policy;

use crate::bytes;
use crate::process::{is_fine, spell};
use crate::random::Random;
use crate::scenario::Op;
use crate::section::Rounds;
use crate::site::{Plot, Site};
use crate::tally::Tally;
use crate::trap;

/// Policies under which nobody waits for a stopped process.
const STOP_PROOF: [Policy; 1] = [Policy::Scalable];

const PAIRS: usize = 100;
const SIZES: [u64; 8] = [1, 16, 40, 100, 500, 1000, 3000, 9000];
const MEDIAN_NS_MAX: u64 = 1_000_000;
/// So many instructions are stopped after one by one; behind them steps of up to two, behind twice
/// as many up to three, and so on: few operations are as long, and those repeat themselves.
const ONE_BY_ONE: u64 = 2000;

#[derive(Debug, Default)]
pub(crate) struct Stop {
    /// How long the pairs took.
    times_ns: Vec<u64>,
}

impl Stop {
    fn run(&mut self, plot: Plot, random: &mut Random, tally: &mut Tally) -> Result<()> {
        let site = Site::build(plot)?;
        let mut steps = Random::new(random.next());
        let mut operator = site.operator(|operator| {
            let mut next = 1;
            let mut stop_there = |number: u64| {
                if number == next {
                    next += 1 + steps.below(1 + number / ONE_BY_ONE);
                    trap::stop();
                }
            };
            let mut result = Ok(());
            trap::run(&mut stop_there, || result = operator.operate())?;
            result
        })?;
        loop {
            if let Some(status) = operator.stopped()? {
                ensure!(is_fine(status), "the operator {}", spell(status));
                break;
            }
            let size = SIZES[random.below(SIZES.len() as u64) as usize];
            let start = Instant::now();
            let paired = (0..PAIRS)
                .try_for_each(|_| bytes::free(&site.heap, bytes::alloc(&site.heap, size)?));
            self.times_ns.push(start.elapsed().as_nanos() as u64);
            tally.point(paired.with_context(|| plot.to_string()));
            if random.one_in(64) {
                let report = site.heap.check();
                tally.count("audits", 1);
                if !report.is_sound() {
                    tally.points(0, Err(anyhow::anyhow!("{plot}: {:?}", report.findings)));
                }
            }
            operator.send(Signal::CONT)?;
        }
        site.look().map(drop)
    }
}

impl Rounds for Stop {
    fn round(&mut self, round: u64, random: &mut Random, tally: &mut Tally) -> Result<()> {
        let count = STOP_PROOF.len() as u64;
        let plot = Plot {
            policy: STOP_PROOF[(round % count) as usize],
            op: Op::ALL[(round / count) as usize % Op::ALL.len()],
            seed: random.next(),
        };
        self.run(plot, random, tally).with_context(|| plot.to_string())
    }

    fn end(&mut self, tally: &mut Tally) -> Result<()> {
        self.times_ns.sort_unstable();
        let Some(median) = self.times_ns.get(self.times_ns.len() / 2) else { return Ok(()) };
        let worst = self.times_ns.last().copied().unwrap_or_default();
        tally.most("median of 100 pairs in ns:", *median);
        tally.most("worst in ns:", worst);
        ensure!(*median < MEDIAN_NS_MAX, "the median of {PAIRS} pairs is {median} ns");
        Ok(())
    }
}
