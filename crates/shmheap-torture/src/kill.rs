//! "kill": a process killed by SIGKILL at any instruction of any operation costs the others
//! nothing.
//!
//! An operator runs to an instruction that chance picks and is killed there, for good: unlike in
//! "step", the kernel takes it apart and releases its proof of life. The bystander, who goes on in
//! the same heap, adopts and audits. Each round kills one operation at several instructions; what
//! may be left is known from operators that died before and after it.

use anyhow::{Context, Result, ensure};

use crate::board::Board;
use crate::process::{is_fine, is_killed, spell};
use crate::random::Random;
use crate::section::Rounds;
use crate::site::{Plot, Site};
use crate::snapshot::{Snapshot, assert_empties};
use crate::tally::Tally;
use crate::trap;

/// Kills of one operation at one kind of site.
const KILLS_OF_ROUND: usize = 24;
/// An operation that is longer is killed in its first so many instructions most of the time: else
/// the few long ones would take all of the time.
const USUAL_INSTRUCTIONS: u64 = 1500;

#[derive(Debug)]
pub(crate) struct Kill {
    /// How many instructions an operation has.
    board: Board,
}

impl Kill {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { board: Board::new(1)? })
    }

    /// How many instructions the operation has.
    fn instructions(&self, plot: Plot) -> Result<u64> {
        let count = &self.board.words()[0];
        let site = Site::build(plot)?;
        let mut operator = site.operator(|operator| {
            let mut result = Ok(());
            // Relaxed: the parent waits for the end of this process.
            let relaxed = std::sync::atomic::Ordering::Relaxed;
            let all = trap::run(&mut |_| {}, || result = operator.operate())?;
            count.store(all, relaxed);
            result
        })?;
        let status = operator.wait()?;
        ensure!(is_fine(status), "the operator {}", spell(status));
        Ok(count.load(std::sync::atomic::Ordering::Relaxed))
    }
}

impl Rounds for Kill {
    fn round(&mut self, round: u64, random: &mut Random, tally: &mut Tally) -> Result<()> {
        let plot = Plot::of_round(round, random);
        let expected = Site::expected(plot).with_context(|| plot.to_string())?;
        let all = self.instructions(plot).with_context(|| plot.to_string())?;
        for _ in 0..KILLS_OF_ROUND {
            let most = if random.one_in(32) { all } else { all.min(USUAL_INSTRUCTIONS) };
            let at = 1 + random.below(most);
            let killed = kill(plot, at, &expected);
            tally.point(killed.with_context(|| format!("{plot}, killed after instruction {at}")));
            tally.most("the longest operation in instructions:", all);
        }
        Ok(())
    }
}

/// Kills an operator after an instruction, and looks at what is left.
fn kill(plot: Plot, at: u64, (before, after): &(Snapshot, Snapshot)) -> Result<()> {
    let site = Site::build(plot)?;
    let mut operator = site.operator(|operator| {
        let mut die_there = |number| {
            if number == at {
                trap::die();
            }
        };
        let mut result = Ok(());
        trap::run(&mut die_there, || result = operator.operate())?;
        result?;
        // The count goes a little beyond the operation.
        trap::die();
        Ok(())
    })?;
    let status = operator.wait()?;
    ensure!(is_killed(status), "the operator {}", spell(status));
    let found = site.look()?;
    let is_possible = found.lies_between(before, after, plot.op.outcome());
    ensure!(is_possible, "neither before ({}) nor after", found.difference(before));
    let alive = site.heap.peers().len();
    ensure!(alive == 1, "{alive} peers");
    assert_empties(&site.heap)
}
