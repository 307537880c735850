//! `shmheap doctor`: what on this machine could keep heaps from working, and the exact fix.
//!
//! Texts of the system are read by `parse`, facts are judged by pure functions in `storage` and
//! `machine`, so that machines other than this one can be tested.

mod machine;
mod parse;
mod storage;

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use crate::Verdict;
use crate::args::Doctor;
use crate::output;

/// Width of the status and the name of the check.
const INDENT: usize = 20;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// Heaps work.
    Ok,
    /// Heaps work, but less well or less long than one would expect.
    Warn,
    /// Heaps do not work.
    Fail,
}

/// One line of the answer; the names of the fields are promised in the help text.
#[derive(Debug, Serialize)]
struct Line {
    check: &'static str,
    status: Status,
    finding: String,
    fix: Option<String>,
}

impl Line {
    fn ok(check: &'static str, finding: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, finding: finding.into(), fix: None }
    }

    fn warn(check: &'static str, finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, status: Status::Warn, finding: finding.into(), fix: Some(fix.into()) }
    }

    fn fail(check: &'static str, finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, status: Status::Fail, finding: finding.into(), fix: Some(fix.into()) }
    }
}

pub(crate) fn run(arguments: &Doctor, out: &mut dyn Write) -> Result<Verdict> {
    let container = machine::container();
    let mut lines = storage::examine(container.as_deref());
    lines.extend(machine::examine(container.as_deref()));
    if arguments.json {
        output::json(out, &lines)?;
    } else {
        write(out, &lines)?;
    }
    Ok(Verdict::of(lines.iter().all(|line| line.status != Status::Fail)))
}

fn write(out: &mut dyn Write, lines: &[Line]) -> Result<()> {
    for line in lines {
        let status = match line.status {
            Status::Ok => console::style("ok  ").green(),
            Status::Warn => console::style("warn").yellow().bold(),
            Status::Fail => console::style("FAIL").red().bold(),
        };
        let finding = output::wrapped(&line.finding, INDENT);
        writeln!(out, "{status}  {:<13} {finding}", line.check)?;
        if let Some(fix) = &line.fix {
            let fix = output::wrapped(&format!("fix: {fix}"), INDENT);
            writeln!(out, "{:INDENT$}{fix}", "")?;
        }
    }
    let count = |status| lines.iter().filter(|line| line.status == status).count();
    let (warnings, failures) = (count(Status::Warn), count(Status::Fail));
    writeln!(out)?;
    let told = match (failures, warnings) {
        (0, 0) => "heaps work here".to_owned(),
        (0, _) => {
            format!("heaps work here; {} to look at", output::counted(warnings as u64, "warning"))
        }
        _ => {
            format!("heaps do not work here: {} above", output::counted(failures as u64, "failure"))
        }
    };
    writeln!(out, "{told}")?;
    Ok(())
}
