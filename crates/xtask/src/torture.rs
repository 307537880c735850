//! `cargo xtask torture`: builds the torture and the command that it tries, for release, and
//! becomes the torture.
//!
//! The options are the program's own, so they stand in one place, and so does their help.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::workspace::{self, cargo, spell};

const PACKAGE: &str = "shmheap-torture";

/// Does not come back, unless there is no program to become.
pub(crate) fn run(options: &[OsString]) -> Result<()> {
    let mut build = build();
    let status = build.status().context("cannot run cargo")?;
    ensure!(status.success(), "`{}` failed ({status}); its messages are above", spell(&build));
    let mut command = command(options)?;
    Err(command.exec()).with_context(|| format!("cannot run `{}`", spell(&command)))
}

/// What has to be built before [`command`] can run.
pub(crate) fn build() -> Command {
    cargo(["build", "--quiet", "--release", "--package", PACKAGE, "--package", "shmheap-cli"])
}

/// What runs with every test: as far as the torture goes in three minutes. The seed is chosen here,
/// so that whoever sees the command can repeat it.
pub(crate) fn quick() -> Result<Command> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    command(&["--quick".into(), "--seed".into(), since.as_millis().to_string().into()])
}

/// The torture, which finds the `shmheap` command beside it.
fn command(options: &[OsString]) -> Result<Command> {
    let mut command = Command::new(workspace::target_dir()?.join("release").join(PACKAGE));
    command.args(options);
    Ok(command)
}
