//! The `shmheap` command: create, list, inspect, check and clean up shared-memory heaps.
//!
//! Every command writes its answer to one writer and returns a [`Verdict`] or an error; this file
//! turns them into the exit code. A reader that goes away (`shmheap ls | head -1`) ends the command
//! quietly.

mod account;
mod args;
mod command;
mod demo;
mod inventory;
mod output;
mod palette;
mod size;
mod target;
mod truncation;
mod usage;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// What a command found out; failures are errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The answer is good, or there was nothing to judge.
    Fine,
    /// The question was answered, and the answer is bad: a heap not sound, a check that failed.
    Bad,
}

impl Verdict {
    /// [`Verdict::Fine`] if `fine`.
    pub(crate) fn of(fine: bool) -> Self {
        if fine { Self::Fine } else { Self::Bad }
    }
}

/// Exit code of an operation that failed; 2, wrong usage, is clap's.
const EXIT_FAILED: u8 = 3;

fn main() -> ExitCode {
    let arguments = args::Arguments::read();
    let mut out = BufWriter::new(io::stdout().lock());
    let result = truncation::explain()
        .map_err(Into::into)
        .and_then(|()| command::run(arguments.command, &mut out))
        .and_then(|verdict| out.flush().map(|()| verdict).map_err(Into::into));
    match result {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::FAILURE,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // What was found before the failure comes first. Neither stream has another to tell.
            let _ = out.flush();
            let _ = writeln!(io::stderr(), "shmheap: {}", output::one_line(&error));
            ExitCode::from(EXIT_FAILED)
        }
    }
}
