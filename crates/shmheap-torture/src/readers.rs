//! The `shmheap` command, run on heaps that are damaged or cut short: it answers or refuses, and
//! never dies of what it reads.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::name::Name;
use crate::patience::Patience;
use crate::tally::Tally;

/// Every command that only reads.
const READERS: [&[&str]; 4] = [&["ls"], &["info", HEAP], &["stat", HEAP], &["check", HEAP]];
/// Stands for the heap's name.
const HEAP: &str = "HEAP";
/// Good, bad, and refused: what the command's help promises.
const EXIT_CODES: [i32; 3] = [0, 1, EXIT_REFUSED];
pub(crate) const EXIT_REFUSED: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// The command that was built with this program, and lies beside it.
pub(crate) fn command() -> Result<PathBuf> {
    let command = std::fs::read_link("/proc/self/exe")?.with_file_name("shmheap");
    ensure!(command.exists(), "no {}: build shmheap-cli, too", command.display());
    Ok(command)
}

/// Has all readers read a heap, as text and as JSON.
pub(crate) fn read_all(command: &Path, name: &Name, tally: &mut Tally) {
    for reader in READERS {
        for as_json in [false, true] {
            let mut words: Vec<_> = reader
                .iter()
                .map(|&word| if word == HEAP { name.as_str() } else { word })
                .collect();
            words.extend(as_json.then_some("--json"));
            let outcome = start(command, &words).and_then(finish).and_then(|output| {
                judge(&output)?;
                let is_answer = as_json && output.status.code() != Some(EXIT_REFUSED);
                if is_answer {
                    serde_json::from_slice::<serde_json::Value>(&output.stdout)?;
                }
                Ok(())
            });
            tally.point(outcome.with_context(|| format!("shmheap {}", words.join(" "))));
            tally.count("commands", 1);
        }
    }
}

pub(crate) fn start(command: &Path, words: &[&str]) -> Result<Child> {
    let mut command = Command::new(command);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("cannot start the command")
}

/// Waits for a command's end; it must not print more than a pipe holds.
pub(crate) fn finish(mut child: Child) -> Result<Output> {
    let mut patience = Patience::new(PATIENCE);
    while child.try_wait()?.is_none() {
        if !patience.wait() {
            child.kill()?;
            child.wait()?;
            bail!("it does not end");
        }
    }
    Ok(child.wait_with_output()?)
}

/// An error unless the command ended by itself and with a code that it promises.
pub(crate) fn judge(output: &Output) -> Result<()> {
    let code = output.status.code();
    let is_promised = code.is_some_and(|code| EXIT_CODES.contains(&code));
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(is_promised, "it ended with {}: {}", output.status, words.trim());
    Ok(())
}
