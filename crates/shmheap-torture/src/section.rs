//! `Section`: what is proved, which worker does which rounds, and whoever watches the workers.
//!
//! This program starts itself again for each worker of a section: a worker has one thread, so it
//! may fork; one that dies or hangs is a finding and not the end. Rounds are numbered, and all that
//! chance decides in a round follows from the seed, the section and that number, whichever worker
//! comes to do it.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::corrupt::Corrupt;
use crate::kill::Kill;
use crate::linear::Linear;
use crate::name;
use crate::patience::Patience;
use crate::random::Random;
use crate::step::Step;
use crate::stop::Stop;
use crate::storm::Storm;
use crate::tally::Tally;
use crate::trap;
use crate::truncate::Truncate;

const JOB_VARIABLE: &str = "SHMHEAP_TORTURE_JOB";

/// How much longer than its time a worker may take: much longer than the longest round.
const PATIENCE: Duration = Duration::from_secs(60);

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
            Self::Storm => 2,
            Self::Stop => 1,
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
            Self::Storm => Box::new(Storm),
            Self::Stop => Box::new(Stop::default()),
            Self::Corrupt => Box::new(Corrupt::new()?),
            Self::Truncate => Box::new(Truncate::new()?),
            Self::Linear => Box::new(Linear::new()?),
        })
    }

    /// Has workers do its rounds, and adds up their tallies.
    pub(crate) fn run(self, seed: u64, time: Duration, only: Option<u64>) -> Result<Tally> {
        let workers = match only {
            Some(_) => 1,
            None => std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        };
        let mut running = vec![];
        for worker in 0..workers {
            let millis = time.as_millis() as u64;
            running.push(Job { section: self, seed, millis, worker, workers, only }.start()?);
        }
        let mut patience = Patience::new(time + PATIENCE);
        let mut tally = Tally::default();
        for worker in running {
            tally.at(self.name().to_owned());
            match finish(worker, &mut patience) {
                Ok(part) => tally.add(&part),
                Err(error) => tally.point(Err(error)),
            }
        }
        Ok(tally)
    }
}

/// What a worker is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    section: Section,
    seed: u64,
    millis: u64,
    worker: u64,
    workers: u64,
    /// The only round to do.
    only: Option<u64>,
}

impl Job {
    /// The job of this process, if it is a worker.
    pub(crate) fn of_this_process() -> Option<Result<Self>> {
        let text = std::env::var(JOB_VARIABLE).ok()?;
        Some(serde_json::from_str(&text).context("a job is handed from parent to child only"))
    }

    fn start(&self) -> Result<Child> {
        Command::new("/proc/self/exe")
            .env(JOB_VARIABLE, serde_json::to_string(self)?)
            // What is wrong is told by where and when; a trace of the torture says nothing.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")
    }

    /// The worker: does its rounds until the time is over, and prints its tally.
    #[allow(clippy::print_stdout, reason = "this is how a worker reports")]
    pub(crate) fn work(&self) -> Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let start = Instant::now();
        let mut rounds = self.section.rounds()?;
        let mut tally = Tally::default();
        let all = (self.worker..).step_by(self.workers.max(1) as usize);
        for round in all {
            let round = self.only.unwrap_or(round);
            let name = self.section.name();
            tally.at(format!("--only {name} --seed {} --round {round}", self.seed));
            let mut random = Random::of(self.seed, name, round);
            let done = rounds.round(round, &mut random, &mut tally);
            tally.points(0, done);
            if self.only.is_some() || start.elapsed().as_millis() as u64 > self.millis {
                break;
            }
        }
        let ended = rounds.end(&mut tally);
        tally.points(0, ended);
        println!("{}", serde_json::to_string(&tally)?);
        Ok(())
    }
}

/// The tally of a worker, which is ended if it does not end by itself.
fn finish(mut worker: Child, patience: &mut Patience) -> Result<Tally> {
    let status = loop {
        match worker.try_wait()? {
            Some(status) => break status,
            None if patience.wait() => {}
            None => {
                worker.kill()?;
                worker.wait()?;
                name::clean_up();
                return Err(anyhow!("a worker hangs"));
            }
        }
    };
    name::clean_up();
    let mut text = String::new();
    worker.stdout.take().context("no output")?.read_to_string(&mut text)?;
    serde_json::from_str(&text).with_context(|| format!("a worker reports nothing: {status}"))
}
