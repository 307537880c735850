//! `cargo xtask torture`: the promises of the crash model, tried on the release build.
//!
//! | file | holds |
//! |---|---|
//! | `section` | what is tried, and by which workers |
//! | `watch`, `testimony`, `patience` | how long to wait for who may hang, and what is told of it |
//! | `step`, `kill`, `storm`, `stop`, `corrupt`, `truncate`, `linear` | a proof each |
//! | `order` | from operations of several processes to their order |
//! | `scenario`, `site`, `dying` | the operations that are cut, and the heaps in which they are |
//! | `trap`, `log`, `image` | instruction by instruction: the stores of an operation, replayed |
//! | `mutation`, `victim`, `guard`, `readers` | what is corrupted, and who must bear it |
//! | `snapshot` | what a heap holds, and whether it is whole |
//! | `process`, `board`, `bytes` | children, shared words, objects |
//! | `random`, `tally`, `name` | chance, counts, names that are cleaned up |

mod board;
mod bytes;
mod corrupt;
mod dying;
mod guard;
mod image;
mod kill;
mod linear;
mod log;
mod mutation;
mod name;
mod order;
mod patience;
mod process;
mod random;
mod readers;
mod scenario;
mod section;
mod site;
mod snapshot;
mod step;
mod stop;
mod storm;
mod tally;
mod testimony;
mod trap;
mod truncate;
mod victim;
mod watch;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Parser, ValueEnum as _};

use section::{Job, Section};

/// With what comes before and after the rounds, three minutes.
const QUICK: Duration = Duration::from_secs(155);

/// Kills, stops and corrupts processes at work in heaps, and says what became of the heaps.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask torture", bin_name = "cargo xtask torture", max_term_width = 100)]
struct Arguments {
    /// How long to go on
    #[arg(long, default_value_t = 15, value_name = "N")]
    minutes: u64,
    /// Go on for about three minutes
    #[arg(long, conflicts_with = "minutes")]
    quick: bool,
    /// The seed of all that chance decides; a new one by default
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only these sections
    #[arg(long, value_delimiter = ',', value_name = "SECTION")]
    only: Vec<Section>,
    /// Only this round of the sections, as a bad point names it
    #[arg(long, value_name = "R", requires = "seed")]
    round: Option<u64>,
}

fn main() -> ExitCode {
    let result = match Job::of_this_process() {
        Some(job) => job.and_then(|job| job.work()).map(|()| true),
        None => run(&Arguments::parse()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "this is a command")]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// Runs the sections and prints the table; whether nothing was bad.
#[allow(clippy::print_stdout, reason = "this is what the command says to its user")]
fn run(arguments: &Arguments) -> Result<bool> {
    let seed = arguments.seed.unwrap_or_else(any_seed);
    let sections: Vec<_> = Section::value_variants()
        .iter()
        .filter(|section| arguments.only.is_empty() || arguments.only.contains(section))
        .collect();
    let time = if arguments.quick { QUICK } else { Duration::from_secs(60 * arguments.minutes) };
    let shares: u32 = sections.iter().map(|section| section.share()).sum();
    println!("{:<9} {:>9} {:>5} {:>8} {:>20}", "what", "points", "bad", "seconds", "seed");
    // What an interrupted run has left.
    name::clean_up();
    let mut is_good = true;
    for section in sections {
        if let Some(reason) = section.refused() {
            println!("{:<9} skipped: {reason}", section.name());
            continue;
        }
        let start = Instant::now();
        let tally = section.run(seed, time * section.share() / shares.max(1), arguments.round);
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:<9} {:>9} {:>5} {seconds:>8.1} {seed:>20}  {}",
            section.name(),
            tally.points,
            tally.bad,
            tally.details()
        );
        is_good &= tally.bad == 0 && tally.points > 0;
    }
    Ok(is_good)
}

fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    random::Random::new(now.as_nanos() as u64).next()
}
