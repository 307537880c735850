//! `shmheap trim`: gives memory that no object uses back to the system.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use shmheap::Policy;

use crate::args::Reader;
use crate::{Verdict, output, size};

/// What was given back; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Account {
    name: String,
    policy: Policy,
    /// By this command.
    given_back_bytes: u64,
    /// Without storage now, this command's and what was given back before.
    trimmed_bytes: u64,
}

pub(crate) fn run(arguments: &Reader, out: &mut dyn Write) -> Result<Verdict> {
    let heap = arguments.heap.connect()?;
    let given_back_bytes = heap.trim()?;
    let account = Account {
        name: arguments.heap.to_string(),
        policy: heap.info().policy,
        given_back_bytes,
        trimmed_bytes: heap.stats().trimmed_bytes,
    };
    if arguments.json {
        output::json(out, &account)?;
    } else {
        write(out, &account)?;
    }
    Ok(Verdict::Fine)
}

fn write(out: &mut dyn Write, account: &Account) -> Result<()> {
    let name = &account.name;
    if account.policy == Policy::FirstFit {
        writeln!(out, "nothing given back: '{name}' has the first-fit policy, which keeps all")?;
        return Ok(());
    }
    let (given, trimmed) =
        (size::long(account.given_back_bytes), size::long(account.trimmed_bytes));
    writeln!(out, "given back: {given} of '{name}', which is without {trimmed} now")?;
    Ok(())
}
