//! `Section`: what is proved, which worker does which rounds, and whoever watches the workers.
//!
//! This program starts itself again for each worker of a section: a worker has one thread, so it
//! may fork; one that dies or hangs is a finding and not the end: see [`watch`]. Rounds are
//! numbered, and all that chance decides in a round follows from the seed, the section and that
//! number, whichever worker comes to do it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::corrupt::Corrupt;
use crate::kill::Kill;
use crate::linear::Linear;
use crate::random::Random;
use crate::step::Step;
use crate::stop::{STOP_PROOF, Stop};
use crate::storm::Storm;
use crate::tally::Tally;
use crate::truncate::Truncate;
use crate::{trap, watch};

const JOB_VARIABLE: &str = "SHMHEAP_TORTURE_JOB";

/// A proof, in order of appearance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub(crate) enum Section {
    /// Every image that an operation makes, instruction by instruction
    Step,
    /// SIGKILL at any instruction of any operation
    Kill,
    /// Eight processes killed at random moments
    Storm,
    /// Stopped after any instruction of any operation
    Stop,
    /// Nonsense in any record of a heap at work
    Corrupt,
    /// A heap cut short while it is read
    Truncate,
    /// First fit by several processes, explained by an order of theirs
    Linear,
}

/// What a worker does over and over.
pub(crate) trait Rounds {
    /// One round: its points go to the tally; an error is a bad one.
    fn round(&mut self, round: u64, random: &mut Random, tally: &mut Tally) -> Result<()>;

    /// What can be judged only when all rounds are done.
    fn end(&mut self, _tally: &mut Tally) -> Result<()> {
        Ok(())
    }
}

impl Section {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Kill => "kill",
            Self::Storm => "storm",
            Self::Stop => "stop",
            Self::Corrupt => "corrupt",
            Self::Truncate => "truncate",
            Self::Linear => "linear",
        }
    }

    /// Of how many parts of the time it gets how many.
    pub(crate) fn share(self) -> u32 {
        match self {
            Self::Step => 4,
            Self::Kill => 8,
            Self::Storm => 4,
            // Waits at each stop inside a lock take most of first fit's part.
            Self::Stop => 1 + STOP_PROOF.len() as u32,
            Self::Corrupt => 2,
            Self::Truncate => 1,
            Self::Linear => 1,
        }
    }

    /// Why it cannot be run here, if that is so.
    pub(crate) fn refused(self) -> Option<&'static str> {
        let needs_trap = matches!(self, Self::Step | Self::Kill | Self::Stop);
        (needs_trap && !trap::IS_POSSIBLE).then_some("instructions are trapped on x86-64 only")
    }

    fn rounds(self) -> Result<Box<dyn Rounds>> {
        Ok(match self {
            Self::Step => Box::new(Step::new()?),
            Self::Kill => Box::new(Kill::new()?),
            Self::Storm => Box::new(Storm::new()?),
            Self::Stop => Box::new(Stop::default()),
            Self::Corrupt => Box::new(Corrupt::new()?),
            Self::Truncate => Box::new(Truncate::new()?),
            Self::Linear => Box::new(Linear::new()?),
        })
    }

    /// Has workers do its rounds, and adds up their tallies.
    pub(crate) fn run(self, seed: u64, time: Duration, only: Option<u64>) -> Tally {
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let workers = if only.is_some() { 1 } else { cores };
        let millis = time.as_millis() as u64;
        let mut tally = Tally::default();
        std::thread::scope(|scope| {
            let start = |worker| {
                let first = only.unwrap_or(worker);
                let is_only = only.is_some();
                let job = Job { section: self, seed, millis, first, workers, is_only };
                scope.spawn(|| watch::see_done(job))
            };
            let watchers: Vec<_> = (0..workers).map(start).collect();
            for watcher in watchers {
                match watcher.join() {
                    Ok(part) => tally.add(&part),
                    Err(_) => tally.point(Err(anyhow!("a watcher panicked"))),
                }
            }
        });
        tally
    }
}

/// What a worker is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    section: Section,
    seed: u64,
    millis: u64,
    /// The first round to do; the next one is as many rounds on as there are workers.
    first: u64,
    workers: u64,
    /// Whether the first is the only one.
    is_only: bool,
}

impl Job {
    /// The job of this process, if it is a worker.
    pub(crate) fn of_this_process() -> Option<Result<Self>> {
        let text = std::env::var(JOB_VARIABLE).ok()?;
        Some(serde_json::from_str(&text).context("a job is handed from parent to child only"))
    }

    pub(crate) fn start(&self) -> Result<Child> {
        Command::new("/proc/self/exe")
            .env(JOB_VARIABLE, serde_json::to_string(self)?)
            // What is wrong is told by where and when; a trace of the torture says nothing.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")
    }

    /// The words that do a round again.
    fn replay(&self, round: u64) -> String {
        format!("--only {} --seed {} --round {round}", self.section.name(), self.seed)
    }

    /// A worker was lost in the round after the first `done`. The words that do that one again,
    /// and the job that is left behind it, unless that is none.
    pub(crate) fn lose(self, done: u64, taken: Duration) -> (String, Option<Self>) {
        let lost = self.first + done * self.workers;
        let replay = self.replay(lost);
        let millis = self.millis.saturating_sub(taken.as_millis() as u64);
        let is_left = millis > 0 && !self.is_only;
        (replay, is_left.then(|| Self { first: lost + self.workers, millis, ..self }))
    }

    /// The worker: does its rounds until the time is over, and prints a tally for each.
    #[allow(clippy::print_stdout, reason = "this is how a worker reports")]
    pub(crate) fn work(&self) -> Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let start = Instant::now();
        let mut rounds = self.section.rounds()?;
        let mut tally = Tally::default();
        for round in (self.first..).step_by(self.workers.max(1) as usize) {
            tally.at(self.replay(round));
            let mut random = Random::of(self.seed, self.section.name(), round);
            let done = rounds.round(round, &mut random, &mut tally);
            tally.points(0, done);
            let is_last = self.is_only || start.elapsed().as_millis() as u64 > self.millis;
            if is_last {
                let ended = rounds.end(&mut tally);
                tally.points(0, ended);
            }
            println!("{}", serde_json::to_string(&tally)?);
            tally.clear();
            if is_last {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_worker_goes_on_behind_the_round_that_was_lost() {
        let job = |is_only| Job {
            section: Section::Step,
            seed: 7,
            millis: 1000,
            first: 1,
            workers: 2,
            is_only,
        };
        let (replay, rest) = job(false).lose(3, Duration::from_millis(400));
        assert_eq!(replay, "--only step --seed 7 --round 7");
        let rest = rest.unwrap();
        assert_eq!((rest.first, rest.millis), (9, 600));
        assert!(job(false).lose(3, Duration::from_secs(1)).1.is_none(), "the time is over");
        assert!(job(true).lose(0, Duration::ZERO).1.is_none(), "it was the only round");
    }
}
