//! `shmheap completions`: the script that teaches a shell this command.

use std::io::Write;

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::Verdict;
use crate::args::Arguments;

pub(crate) fn run(shell: Shell, out: &mut dyn Write) -> Result<Verdict> {
    // The generator panics when its writer fails, which a vector does not.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "shmheap", &mut script);
    out.write_all(&script)?;
    Ok(Verdict::Fine)
}
