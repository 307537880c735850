//! The Python package, tested as its users have it: installed by pip, into an environment of its
//! own.
//!
//! The environment lies in cargo's folder and stays there, as does what cargo has built, so the
//! next run has little to do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::steps::Steps;
use crate::workspace;

/// The crate, whose folder is the package's.
pub(crate) const PACKAGE: &str = "shmheap-python";
/// What builds the package and what tests it.
const TOOLS: [&str; 4] = ["maturin>=1.14,<2", "mypy", "numpy", "pytest"];
/// Exits with 0 if the interpreter can make environments with pip in them.
const FITS: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))";

/// Installs the package and runs its tests and the check of its types.
pub(crate) fn test(steps: &mut Steps) {
    const BUILD: &str = "build the Python package";
    let folder = match workspace::target_dir() {
        Ok(target_dir) => target_dir.join("python"),
        Err(error) => return steps.check(BUILD, || Err(error)),
    };
    let python = match environment(&folder) {
        Ok(python) => python,
        Err(reason) => return steps.skip("Python package", reason),
    };
    // pip looks for maturin there.
    let programs = python.parent().map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(programs.into_iter().chain(std::env::split_paths(&path)));
    let sources = workspace::root().join("crates").join(PACKAGE);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.args(arguments).current_dir(&sources).stdin(Stdio::null());
        command.env("PATH", path.as_deref().unwrap_or_default());
        command
    };
    // The tools are there already, and pip would fetch them once more for an environment of its
    // own.
    let options = ["--quiet", "--no-build-isolation", "--no-deps", "--force-reinstall", "."];
    steps.command(BUILD, run(&["-m", "pip", "install"]).args(options));
    steps.command("Python tests", &mut run(&["-m", "pytest"]));
    let typed = ["-m", "mypy", "python/shmheap", "tests", "examples", "benches"];
    steps.command("Python types", &mut run(&typed));
}

/// The interpreter of the environment with the tools in it; or why there is none.
fn environment(folder: &Path) -> Result<PathBuf, String> {
    if !succeeds(Command::new("python3").args(["-c", FITS]).stderr(Stdio::null())) {
        let reason = "no python3 of version 3.9 or later that makes environments (Debian: apt-get \
                      install python3-venv)";
        return Err(reason.to_owned());
    }
    let python = folder.join("bin").join("python");
    if !succeeds(Command::new(&python).args(["-m", "pip", "--version"])) {
        // With what is left of one whose interpreter has been removed.
        let mut make = Command::new("python3");
        needed(make.args(["-m", "venv", "--clear"]).arg(folder))?;
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(TOOLS);
    needed(&mut install)?;
    Ok(python)
}

fn needed(command: &mut Command) -> Result<(), String> {
    match succeeds(command) {
        true => Ok(()),
        false => Err(format!("`{}` failed; is there a network?", workspace::spell(command))),
    }
}

fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
