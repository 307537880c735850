//! Callgrind, driven directly: this program again, with an operation in its environment, counted
//! inside one function.
//!
//! ```text
//!   valgrind --tool=callgrind --toggle-collect=*counted* <this program>
//!   ==4711== Collected : 861244
//! ```

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::ops::{self, Op};

const OP_VARIABLE: &str = "SHMHEAP_BENCH_GUARD";

/// The function, whatever it is made for and however its name is written in the program.
const COUNTED: &str = "*shmheap_bench_counted*";

/// The operation that this process is to go through, if it is counted.
pub(super) fn op_of_this_process() -> Option<Result<Op>> {
    let name = std::env::var(OP_VARIABLE).ok()?;
    Some(ops::all().into_iter().find(|op| op.name() == name).context("no such operation"))
}

/// Instructions for each time that the operation is done.
pub(super) fn count(op: Op) -> Result<f64> {
    let name = op.name();
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(format!("--toggle-collect={COUNTED}"));
    command.arg(std::env::current_exe()?).env(OP_VARIABLE, &name).stdin(Stdio::null());
    let output = command.output().context("cannot run valgrind, which counts instructions")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let last = text.lines().next_back().unwrap_or("it said nothing");
        bail!("{name}: valgrind ended with {}: {last}", output.status);
    }
    let count = collected(&text).with_context(|| format!("{name}: callgrind counted nothing"))?;
    Ok(Op::per_time(count))
}

/// The number in callgrind's last words.
fn collected(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.split_once("Collected :"));
    line?.1.trim().parse().ok().filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found() {
        let text = "==7== Events    : Ir\n==7== Collected : 861244\n==7== \n";
        assert_eq!(collected(text), Some(861_244));
        assert_eq!(collected("==7== Collected : 0\n"), None, "the function was not found");
        assert_eq!(collected("==7== Command: x"), None);
    }
}
