//! `shmheap man`: the help texts as manual pages.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::Verdict;
use crate::args::Arguments;

pub(crate) fn run(directory: &Path, out: &mut dyn Write) -> Result<Verdict> {
    let context = || format!("cannot write manual pages to '{}'", directory.display());
    fs::create_dir_all(directory).with_context(context)?;
    clap_mangen::generate_to(Arguments::command(), directory).with_context(context)?;
    writeln!(out, "wrote the manual pages to '{}'", directory.display())?;
    Ok(Verdict::Fine)
}
