//! `cargo xtask bench`: builds the bench program and becomes it.
//!
//! The options are the program's own, so they stand in one place, and so does their help. Run here
//! rather than by `cargo bench`, it resolves file names where they were typed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::tools;
use crate::workspace::{self, cargo, spell};

const PACKAGE: &str = "shmheap-bench";

/// Packages that peers are built with, and what is there once they are installed.
const PEERS_NEED: [(&str, &str); 3] =
    [("g++", "g++"), ("make", "make"), ("libboost-dev", "/usr/include/boost/version.hpp")];

/// Does not come back, unless there is no program to become.
pub(crate) fn run(options: &[OsString]) -> Result<()> {
    install_what_helps(options)?;
    let program = build()?;
    let mut command = Command::new(program);
    command.args(options);
    // As cargo would: the program finds the workspace by it.
    command.env("CARGO_MANIFEST_DIR", workspace::root().join("crates").join(PACKAGE));
    // Becoming it instead of waiting for it passes on its exit code, and an interrupt reaches one
    // process only, which cleans up.
    Err(command.exec()).with_context(|| format!("cannot run `{}`", spell(&command)))
}

/// Installs what this run needs and can be had.
#[allow(clippy::print_stderr, reason = "this is what the command says to its user")]
fn install_what_helps(options: &[OsString]) -> Result<()> {
    let has = |names: &[&str]| options.iter().any(|option| names.iter().any(|name| option == name));
    if has(&["--guard"]) {
        let is_there = tools::install("valgrind", "valgrind");
        ensure!(is_there, "no valgrind on PATH, which counts instructions: install it");
    } else if !has(&["--from", "--help", "-h"]) {
        for (package, brings) in PEERS_NEED {
            if !tools::install(package, brings) {
                eprintln!("without the package {package}, some peers cannot be built");
            }
        }
    }
    Ok(())
}

/// The bench program, current and optimised as `cargo bench` has it.
fn build() -> Result<OsString> {
    let mut command = cargo(["bench", "--package", PACKAGE, "--no-run"]);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("`{}` failed ({}); its messages are above", spell(&command), output.status);
    }
    let messages = String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")?;
    messages.lines().find_map(executable).context("cargo built no bench program")
}

/// The program that a message of cargo's announces.
fn executable(message: &str) -> Option<OsString> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_bench = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "bench");
    let path = message["executable"].as_str().filter(|_| is_bench);
    path.map(OsString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_program_is_known_among_messages() {
        let bench = r#"{"reason":"compiler-artifact","target":{"kind":["bench"]},
                        "executable":"/t/scalable-1"}"#;
        assert_eq!(executable(bench), Some("/t/scalable-1".into()));
        assert_eq!(executable(&bench.replace("bench", "bin")), None);
        assert_eq!(executable("no JSON"), None);
    }
}
