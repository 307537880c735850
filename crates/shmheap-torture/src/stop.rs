//! "stop": a process stopped after any instruction of an operation keeps nobody waiting.
//!
//! An operator stops itself after one instruction after another, as SIGSTOP stops any process.
//! While it is stopped, its parent allocates and frees a hundred objects of one size class, within
//! [`PAIRS_NS_MAX`]. Then the operator goes on, and in the end the heap is audited. A wait for the
//! stopped one would last for ever, and be noticed by whoever watches this worker.
//!
//! A busy machine is not a stopped process: a round in which something has taken too long is done
//! again, with the same stops. What keeps others waiting does so each time; only what was too slow
//! each time is bad.
//!
//! [`STOP_PROOF`] says under which policies that is promised.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use shmheap::Policy;

use crate::bytes;
use crate::process::{is_fine, spell};
use crate::random::Random;
use crate::scenario::Op;
use crate::section::Rounds;
use crate::site::{Plot, Site, policy_name};
use crate::tally::Tally;
use crate::trap;

/// Policies under which nobody waits for a stopped process.
pub(crate) const STOP_PROOF: [Policy; 2] = [Policy::FirstFit, Policy::Scalable];

const PAIRS: usize = 100;
const SIZES: [u64; 8] = [1, 16, 40, 100, 500, 1000, 3000, 9000];
/// For all pairs together. Under first fit, the patience with whoever is stopped inside is part of
/// it.
const PAIRS_NS_MAX: u64 = 50_000_000;
const MEDIAN_NS_MAX: u64 = 1_000_000;
/// How often a round is done again that was too slow.
const REPEATS: usize = 3;
/// So many instructions are stopped after one by one; behind them steps of up to two, behind twice
/// as many up to three, and so on: few operations are as long, and those repeat themselves.
const ONE_BY_ONE: u64 = 2000;
/// Under first fit, whoever is stopped inside the lock is robbed, and begins anew. Stopped in each
/// of its attempts it would never end: so after a few stops there is time for one, and that is also
/// time for other operations, since each such stop lasts as long as the others' patience.
const STOPS_IN_A_ROW: u64 = 4;
const ATTEMPT: u64 = 600;

#[derive(Debug, Default)]
pub(crate) struct Stop {
    /// How long the pairs took, for each policy.
    times_ns: [Vec<u64>; STOP_PROOF.len()],
}

/// What a round has shown.
#[derive(Debug, Default)]
struct Found {
    times_ns: Vec<u64>,
    /// Which of its stops kept others waiting for too long.
    slow: BTreeSet<usize>,
    audits: u64,
}

/// How many instructions there are to the next stop.
fn step(policy: Policy, instruction: u64, stops: u64, random: &mut Random) -> u64 {
    let usual = 1 + instruction / ONE_BY_ONE;
    match policy {
        Policy::FirstFit if stops.is_multiple_of(STOPS_IN_A_ROW) => {
            ATTEMPT + random.below(2 * ATTEMPT)
        }
        Policy::FirstFit => 1 + random.below(24 * usual),
        _ => 1 + random.below(usual),
    }
}

/// Does the operation once, stop by stop.
fn run(plot: Plot, mut random: Random) -> Result<Found> {
    let site = Site::build(plot)?;
    let mut steps = Random::new(random.next());
    let mut operator = site.operator(|operator| {
        let mut next = step(plot.policy, 0, 1, &mut steps);
        let mut stops = 0;
        let mut stop_there = |number: u64| {
            if number == next {
                stops += 1;
                next += step(plot.policy, number, stops, &mut steps);
                trap::stop();
            }
        };
        let mut result = Ok(());
        trap::run(&mut stop_there, || result = operator.operate())?;
        result
    })?;
    let mut found = Found::default();
    loop {
        if let Some(status) = operator.stopped()? {
            ensure!(is_fine(status), "the operator {}", spell(status));
            break;
        }
        let size = SIZES[random.below(SIZES.len() as u64) as usize];
        let start = Instant::now();
        (0..PAIRS).try_for_each(|_| bytes::free(&site.heap, bytes::alloc(&site.heap, size)?))?;
        let time_ns = start.elapsed().as_nanos() as u64;
        if time_ns > PAIRS_NS_MAX {
            found.slow.insert(found.times_ns.len());
        }
        found.times_ns.push(time_ns);
        if random.one_in(64) {
            found.audits += 1;
            let report = site.heap.check();
            ensure!(report.is_sound(), "{:?}", report.findings);
        }
        operator.send(Signal::CONT)?;
    }
    site.look().map(|_| found)
}

impl Stop {
    /// Does a round, again if need be.
    fn judge(
        &mut self,
        which: usize,
        plot: Plot,
        random: &Random,
        tally: &mut Tally,
    ) -> Result<()> {
        let found = run(plot, random.clone())?;
        let mut slow = found.slow;
        for _ in 0..REPEATS {
            if slow.is_empty() {
                break;
            }
            tally.count("rounds repeated for being slow", 1);
            let again = run(plot, random.clone())?.slow;
            slow = slow.intersection(&again).copied().collect();
        }
        tally.points(found.times_ns.len() as u64, Ok(()));
        tally.count("audits", found.audits + 1);
        for stop in slow {
            let milliseconds = found.times_ns[stop] / 1_000_000;
            let why = anyhow!("{PAIRS} pairs took {milliseconds} ms, and too long each time");
            tally.points(0, Err(why.context(format!("{plot}, stop {stop}"))));
        }
        self.times_ns[which].extend(found.times_ns);
        Ok(())
    }
}

impl Rounds for Stop {
    fn round(&mut self, round: u64, random: &mut Random, tally: &mut Tally) -> Result<()> {
        // Not by turns: as many workers as policies would have one each.
        let which = random.below(STOP_PROOF.len() as u64) as usize;
        let op = Op::ALL[round as usize % Op::ALL.len()];
        let plot = Plot { policy: STOP_PROOF[which], op, seed: random.next() };
        self.judge(which, plot, random, tally).with_context(|| plot.to_string())
    }

    fn end(&mut self, tally: &mut Tally) -> Result<()> {
        for (policy, times_ns) in STOP_PROOF.into_iter().zip(&mut self.times_ns) {
            times_ns.sort_unstable();
            let Some(median) = times_ns.get(times_ns.len() / 2) else { continue };
            let worst = times_ns.last().copied().unwrap_or_default();
            let name = policy_name(policy);
            tally.most(&format!("{name}, median of {PAIRS} pairs in ns:"), *median);
            tally.most(&format!("{name}, worst in ns:"), worst);
            ensure!(*median < MEDIAN_NS_MAX, "{name}: the median of {PAIRS} pairs is {median} ns");
        }
        Ok(())
    }
}
