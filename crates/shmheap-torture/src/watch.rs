//! Watching a worker: what it reports, and what becomes of one that dies or hangs.
//!
//! ```text
//!   worker    round 0 ... {"points":48,...}   round 2 ... {"points":48,...}   round 4 ...
//!   watcher   patience anew ----------------> patience anew ----------------> none left: hangs
//! ```
//!
//! A line tells of each round that is done, so the round in which a worker is, is known, and none
//! of the others is lost with it. Every wait of the torture is bounded here: a round that does not
//! end is a bad point, told with what its processes were doing; they are killed, and another worker
//! goes on behind it.

use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::patience::Patience;
use crate::section::Job;
use crate::tally::Tally;
use crate::{name, testimony};

/// For a round, of which the longest takes five seconds on a machine with as many hogs as cores.
const PATIENCE: Duration = Duration::from_secs(60);
/// Whoever loses so many workers shows that something is wrong; more would take for ever.
const WORKERS_MAX: usize = 3;

/// Has a job done, by several workers one after the other if need be; what came of it.
pub(crate) fn see_done(job: Job) -> Tally {
    let mut all = Tally::default();
    let mut next = Some(job);
    for _ in 0..WORKERS_MAX {
        let Some(job) = next.take() else { break };
        let start = Instant::now();
        let mut done = 0;
        let ended = job.start().and_then(|worker| follow(worker, &mut all, &mut done));
        name::clean_up();
        if let Err(error) = ended {
            let (replay, rest) = job.lose(done, start.elapsed());
            all.at(replay);
            all.point(Err(error));
            next = rest;
        }
    }
    all
}

/// Adds up what a worker reports until its end; an error if that is not how it should be. `done`
/// counts its rounds.
fn follow(mut worker: Child, all: &mut Tally, done: &mut u64) -> Result<()> {
    let lines = lines(&mut worker)?;
    let mut patience = Patience::new(PATIENCE);
    loop {
        match lines.try_recv() {
            Ok(line) => {
                all.add(&serde_json::from_str(&line).context("no tally")?);
                *done += 1;
                patience.renew();
            }
            // At the latest with its end.
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) if patience.wait() => {}
            Err(TryRecvError::Empty) => {
                let doing = testimony::of(worker.id());
                worker.kill()?;
                worker.wait()?;
                return Err(anyhow!("it does not end: {doing}"));
            }
        }
    }
    let status = worker.wait()?;
    if status.success() { Ok(()) } else { Err(anyhow!("the worker ended with {status}")) }
}

/// The lines that a worker prints, as they come.
fn lines(worker: &mut Child) -> Result<Receiver<String>> {
    let output = BufReader::new(worker.stdout.take().context("no output")?);
    let (sender, lines) = channel();
    // Ends with the output, or with whoever listens.
    std::thread::spawn(move || {
        let mut read = output.lines().map_while(|line| line.ok());
        read.all(|line| sender.send(line).is_ok())
    });
    Ok(lines)
}
