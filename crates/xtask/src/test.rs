//! `cargo xtask test` and `cargo xtask ci`: which steps there are, in order.
//!
//! Cheap steps come first; every step runs, so that one run tells everything that is wrong.

use std::process::{Command, Stdio};

use anyhow::bail;

use crate::steps::Steps;
use crate::workspace::{self, cargo};
use crate::{python, tidy, tools, torture};

/// What Miri can interpret: the modules that make no system call. In two halves, for it uses one
/// processor.
const MIRI_HALVES: [&str; 2] = [
    "first_fit::",
    "slab:: object::value channel::words object::registry::entry::tests \
     peers::ledger peers::threads segment:: units::",
];
/// Has a command do one half and the other at the same time; fails if either does.
const BOTH_HALVES: &str = r#"
    "$@" $FIRST_HALF & first=$!
    "$@" $SECOND_HALF; second=$?
    wait "$first" && exit "$second"
"#;
/// What it cannot: loom switches stacks.
const MIRI_LEAVES_OUT: &str = "::loom::";

/// All tests, or the quick ones. Tells whether they passed.
pub(crate) fn test(quick: bool) -> bool {
    let mut steps = Steps::new();
    tidy(&mut steps);
    if quick {
        let units = ["--features", tools::FEATURES, "--no-fail-fast", "--lib", "--bins"];
        steps.command("unit tests", cargo(["test"]).args(tools::packages()).args(units));
    } else {
        all_tests(&mut steps);
    }
    steps.report()
}

/// Everything that a change must pass.
pub(crate) fn ci() -> bool {
    let mut steps = Steps::new();
    steps.command("format", &mut cargo(["fmt", "--all", "--check"]));
    let lints = ["--all-targets", "--features", tools::FEATURES, "--", "-Dwarnings"];
    steps.command("clippy", cargo(["clippy"]).args(tools::packages()).args(lints));
    let mut doc = cargo(["doc", "--no-deps", "--features", tools::FEATURES]);
    let doc = doc.args(tools::packages()).env("RUSTDOCFLAGS", "-Dwarnings");
    steps.command("documentation", doc);
    tidy(&mut steps);
    all_tests(&mut steps);
    steps.report()
}

fn all_tests(steps: &mut Steps) {
    for (what, reason) in tools::missing() {
        steps.skip(&what, reason);
    }
    // What the tests of the C library install; built here, where it is seen and timed.
    for package in ["shmheap-c", "shmheap-cli"] {
        let name = format!("build {package}");
        steps.command(&name, &mut workspace::release(package));
    }
    const SANITIZERS: &str = "build shmheap-c for sanitizers";
    match workspace::release_with_sanitizers() {
        Ok(mut build) => steps.command(SANITIZERS, &mut build),
        Err(error) => steps.check(SANITIZERS, || Err(error)),
    }
    let tests = ["--features", tools::FEATURES, "--no-fail-fast"];
    steps.command("tests", cargo(["test"]).args(tools::packages()).args(tests));
    python::test(steps);
    miri(steps);
    torture(steps);
}

/// The proofs on the release build, for three minutes.
fn torture(steps: &mut Steps) {
    steps.command("build torture", &mut torture::build());
    match torture::quick() {
        Ok(mut command) => steps.command("torture", &mut command),
        Err(error) => steps.check("torture", || Err(error)),
    }
}

fn miri(steps: &mut Steps) {
    const NAME: &str = "engines under Miri";
    let mut command = match tools::cargo_miri() {
        Ok(command) => command,
        Err(reason) => return steps.skip(NAME, reason),
    };
    // Its own folder: nightly and stable would throw out each other's work.
    let target_dir = match workspace::target_dir() {
        Ok(target_dir) => target_dir.join("miri"),
        Err(error) => return steps.check(NAME, || Err(error)),
    };
    command.args(["test", "--package", "shmheap", "--lib", "--target-dir"]).arg(target_dir);
    command.args(["--", "--skip", MIRI_LEAVES_OUT]);
    let mut command = in_halves(&command);
    // Miri optimises nothing and would warn of the profile that asks for it.
    command.env("CARGO_PROFILE_TEST_OPT_LEVEL", "0");
    if std::env::var_os("MIRIFLAGS").is_none() {
        // Lets a test read the seed to replay from the environment.
        command.env("MIRIFLAGS", "-Zmiri-disable-isolation");
    }
    steps.command(NAME, &mut command);
}

/// The command, twice at the same time, with half of the modules each.
fn in_halves(command: &Command) -> Command {
    let mut halves = Command::new("sh");
    halves.args(["-c", BOTH_HALVES, "sh"]).arg(command.get_program()).args(command.get_args());
    halves.current_dir(workspace::root()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => halves.env(name, value),
            None => halves.env_remove(name),
        };
    }
    let [first, second] = MIRI_HALVES;
    halves.env("FIRST_HALF", first).env("SECOND_HALF", second);
    halves
}

fn tidy(steps: &mut Steps) {
    if !workspace::root().join(".git").exists() {
        return steps.skip("tidy", "not a git checkout, so nobody knows which files to check");
    }
    steps.check("tidy", check_style);
}

/// Prints what breaks the house style; an error if anything does.
#[allow(clippy::print_stdout, reason = "this is what the command says to its user")]
pub(crate) fn check_style() -> anyhow::Result<()> {
    let tidy::Outcome { file_count, findings } = tidy::check()?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} places break the house style", findings.len());
    }
    println!("{file_count} files are tidy");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_run_both_and_fail_if_either_does() {
        let mut said = in_halves(Command::new("echo").args(["half", "of"]));
        let said = String::from_utf8(said.output().unwrap().stdout).unwrap();
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        let mut expected = MIRI_HALVES.map(|half| format!("half of {half}"));
        expected.sort_unstable();
        assert_eq!(lines, expected);
        for half in ["slab::", "first_fit::"] {
            let fails = format!("case \"$*\" in *{half}*) exit 1;; esac");
            let status = in_halves(Command::new("sh").args(["-c", &fails, "sh"])).status();
            assert!(!status.unwrap().success(), "{half}");
        }
        assert!(in_halves(&Command::new("true")).status().unwrap().success());
    }
}
