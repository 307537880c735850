//! A row of steps, each run to its end whatever became of the one before, and what came of them.
//!
//! Output of a step passes through line by line; the lines in which test programs sum themselves
//! up are counted on the way:
//!
//! ```text
//! test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s
//! 12 passed, 1 skipped in 0.10s
//! ```
//!
//! The second is pytest's way.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::workspace::spell;

/// How long the output of a step that has ended may stay open.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(2);

/// How often a silent step is asked whether it has ended.
const POLL: Duration = Duration::from_millis(200);

/// Tests, by what became of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    fn parse(line: &str) -> Option<Self> {
        let (_, result) = line.split_once("test result: ")?;
        let number = |what: &str| {
            let part = result.split(';').find_map(|part| part.trim().strip_suffix(what))?;
            part.split_whitespace().next_back()?.parse().ok()
        };
        Some(Self {
            passed: number(" passed")?,
            failed: number(" failed")?,
            skipped: number(" ignored")?,
        })
    }

    /// As pytest says it: what there was none of, it leaves out.
    fn parse_pytest(line: &str) -> Option<Self> {
        let (counted, seconds) = line.trim_end().rsplit_once(" in ")?;
        seconds.split_whitespace().next()?.strip_suffix('s')?.parse::<f64>().ok()?;
        let mut counts = Self::default();
        for part in counted.split(", ") {
            let (number, what) = part.split_once(' ')?;
            let number: u64 = number.parse().ok()?;
            match what {
                "passed" | "xpassed" => counts.passed += number,
                "failed" | "error" | "errors" => counts.failed += number,
                "skipped" | "xfailed" => counts.skipped += number,
                _ => {}
            }
        }
        Some(counts)
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn all(self) -> u64 {
        self.passed + self.failed + self.skipped
    }
}

/// What the output of a step says about tests.
#[derive(Debug, Default)]
struct Tally {
    counts: Counts,
    failures: Vec<String>,
}

impl Tally {
    fn read(&mut self, line: &str) {
        let counts = Counts::parse(line).or_else(|| Counts::parse_pytest(line));
        self.counts.add(counts.unwrap_or_default());
        let test = line.trim_end().strip_prefix("test ");
        let test = test.and_then(|test| test.strip_suffix(" ... FAILED"));
        let of_pytest = line.strip_prefix("FAILED ").and_then(|test| test.split(" - ").next());
        self.failures.extend(test.or(of_pytest).map(|test| test.trim_end().to_owned()));
    }
}

enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

struct Row {
    name: String,
    verdict: Verdict,
    tally: Tally,
    seconds: f64,
}

/// The steps that have run.
pub(crate) struct Steps {
    rows: Vec<Row>,
    /// Where the output of commands goes.
    echo: Box<dyn Write>,
}

#[allow(clippy::print_stdout, reason = "this is what the command says to its user")]
impl Steps {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), echo: Box::new(std::io::stdout()) }
    }

    /// Runs a command; it passes if it exits with 0.
    pub(crate) fn command(&mut self, name: &str, command: &mut Command) {
        println!("\n=== {name}: {}", spell(command));
        let start = Instant::now();
        let mut tally = Tally::default();
        let verdict = match run(command, &mut tally, &mut self.echo) {
            Ok(Ended { status, .. }) if !status.success() => Verdict::Failed(status.to_string()),
            Ok(Ended { leftover: true, .. }) => {
                Verdict::Failed("a process that a test started outlived it".to_owned())
            }
            Ok(_) => Verdict::Passed,
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        self.push(name, verdict, tally, start);
    }

    /// Runs a check of this program; `Err` tells why it failed.
    pub(crate) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        println!("\n=== {name}");
        let start = Instant::now();
        let verdict = match check() {
            Ok(()) => Verdict::Passed,
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        self.push(name, verdict, Tally::default(), start);
    }

    /// Records what could not be run here, and why.
    pub(crate) fn skip(&mut self, name: &str, reason: impl Into<String>) {
        let reason = reason.into();
        println!("\n=== {name}\nskipped: {reason}");
        self.push(name, Verdict::Skipped(reason), Tally::default(), Instant::now());
    }

    fn push(&mut self, name: &str, verdict: Verdict, tally: Tally, start: Instant) {
        let seconds = start.elapsed().as_secs_f64();
        self.rows.push(Row { name: name.to_owned(), verdict, tally, seconds });
    }

    /// Prints the table and the closing line; tells whether nothing failed.
    pub(crate) fn report(&self) -> bool {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or_default().max(4);
        println!("\n{:width$}  {:>7}  {:>7}  result", "step", "seconds", "tests");
        for Row { name, verdict, tally, seconds } in &self.rows {
            let tests = match tally.counts.all() {
                0 => "-".to_owned(),
                all => all.to_string(),
            };
            let verdict = match verdict {
                Verdict::Passed => "passed".to_owned(),
                Verdict::Failed(reason) => format!("FAILED: {reason}"),
                Verdict::Skipped(reason) => format!("skipped: {reason}"),
            };
            println!("{name:width$}  {seconds:>7.1}  {tests:>7}  {verdict}");
        }
        for failure in self.rows.iter().flat_map(|row| &row.tally.failures) {
            println!("failed test: {failure}");
        }
        let Counts { passed, failed, skipped } = self.total();
        println!("\n{passed} passed, {failed} failed, {skipped} skipped");
        failed == 0
    }

    /// Counts tests. A step that failed or was skipped as a whole counts as one.
    fn total(&self) -> Counts {
        let mut total = Counts::default();
        for row in &self.rows {
            total.add(row.tally.counts);
            match row.verdict {
                Verdict::Failed(_) if row.tally.counts.failed == 0 => total.failed += 1,
                Verdict::Skipped(_) => total.skipped += 1,
                _ => {}
            }
        }
        total
    }
}

struct Ended {
    status: ExitStatus,
    /// Whether somebody still holds the command's output open.
    leftover: bool,
}

fn run(command: &mut Command, tally: &mut Tally, echo: &mut dyn Write) -> Result<Ended> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let (sender, lines) = channel();
    let output = child.stdout.take().context("the command has no output")?;
    // Ends with the output; if that never ends, with this program.
    std::thread::spawn(move || forward(output, &sender));
    let mut exited = None;
    loop {
        match lines.recv_timeout(POLL) {
            Ok(line) => {
                echo.write_all(&line).and_then(|()| echo.flush()).context("cannot print")?;
                tally.read(&String::from_utf8_lossy(&line));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Ended { status: child.wait()?, leftover: false });
            }
            Err(RecvTimeoutError::Timeout) => match exited {
                None => exited = child.try_wait()?.map(|status| (status, Instant::now())),
                Some((status, at)) if at.elapsed() > LEFTOVER_PATIENCE => {
                    return Ok(Ended { status, leftover: true });
                }
                Some(_) => {}
            },
        }
    }
}

fn forward(output: impl Read, lines: &Sender<Vec<u8>>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        if lines.send(std::mem::take(&mut line)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    /// Their output must not be taken for that of the tests that run here.
    fn silent() -> Steps {
        Steps { rows: Vec::new(), echo: Box::new(std::io::sink()) }
    }

    #[test]
    fn summaries_are_counted() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 9 filtered out";
        assert_eq!(Counts::parse(line), Some(Counts { passed: 12, failed: 3, skipped: 1 }));
        assert_eq!(Counts::parse("test a::test_result ... ok"), None);
        assert_eq!(Counts::parse("test result: who knows"), None);
    }

    #[test]
    fn summaries_of_pytest_are_counted() {
        let counts = |line| Counts::parse_pytest(line);
        let some = |passed, failed, skipped| Some(Counts { passed, failed, skipped });
        assert_eq!(counts("232 passed in 12.36s"), some(232, 0, 0));
        let line = "1 failed, 2 passed, 3 skipped, 4 warnings, 5 errors in 63.10s (0:01:03)\n";
        assert_eq!(counts(line), some(2, 6, 3));
        assert_eq!(counts("no tests ran in 0.01s"), None);
        assert_eq!(counts("7 passed in all"), None);
        assert_eq!(counts("something in 1.0s"), None);
    }

    #[test]
    fn failed_tests_are_named() {
        let mut tally = Tally::default();
        tally.read("FAILED tests/test_a.py::test_b[c] - assert 1 == 2\n");
        assert_eq!(tally.failures, ["tests/test_a.py::test_b[c]"]);
        let mut tally = Tally::default();
        tally.read("test a::b ... ok\n");
        tally.read("test src/lib.rs - a (line 3) ... FAILED\n");
        assert_eq!(tally.failures, ["src/lib.rs - a (line 3)"]);
    }

    #[test]
    fn totals_count_tests_and_whole_steps() {
        let mut steps = silent();
        let result = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured";
        steps.command("two", &mut shell(&format!("echo '{result}'; echo '{result}'")));
        assert_eq!(steps.total(), Counts { passed: 4, failed: 0, skipped: 2 });
        assert!(steps.report());

        steps.skip("none", "no reason");
        steps.command("does not compile", &mut shell("exit 101"));
        steps.check("check", || anyhow::bail!("broken"));
        assert_eq!(steps.total(), Counts { passed: 4, failed: 2, skipped: 3 });
        assert!(!steps.report());
    }

    #[test]
    fn failed_tests_count_once() {
        let mut steps = silent();
        let script = "echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored;'; exit 101";
        steps.command("tests", &mut shell(script));
        assert_eq!(steps.total(), Counts { passed: 1, failed: 2, skipped: 0 });
    }

    #[test]
    fn a_program_that_does_not_start_is_a_failure() {
        let mut steps = silent();
        steps.command("gone", &mut Command::new("/no/such/program"));
        assert_eq!(steps.total().failed, 1);
    }

    #[test]
    fn a_step_whose_process_lives_on_fails() {
        // `cat` reads from a pipe whose other end this test holds, so it ends with the test.
        let (reader, _writer) = std::io::pipe().unwrap();
        let mut command = shell("exec 3<&0; cat <&3 & exit 0");
        command.stdin(reader);
        let ended = run(&mut command, &mut Tally::default(), &mut std::io::sink()).unwrap();
        assert!(ended.status.success() && ended.leftover);
    }
}
