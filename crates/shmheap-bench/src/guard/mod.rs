//! The guard: instructions of the hot paths, counted, and compared with the committed counts.
//!
//! Times on a shared machine tell a tenth apart at best; instructions are the same in every run, so
//! a change that lengthens a hot path is seen before it is merged. They are not time: a guard that
//! is content says nothing of cache misses, for which there are the benches.
//!
//! | module | gives |
//! |---|---|
//! | `ops` | the hot paths |
//! | `typed` | those of typed objects |
//! | `callgrind` | counts |
//! | `baseline` | the committed counts and the tolerance |
//!
//! Callgrind is driven directly. Gungraun does much more, but compares with counts that it keeps
//! in its own format below the target directory, not with committed ones; it needs a runner of the
//! very same version to be installed; and it would build client requests for Valgrind into a
//! program that every test of the workspace builds. What is left to do here is a page of code.

mod baseline;
mod callgrind;
mod ops;
mod typed;

use std::process::Command;

use anyhow::{Result, ensure};

use baseline::{Baseline, Counts, Verdict};

/// Goes through an operation and tells how that went, if this process is one that is counted.
pub(crate) fn work_of_this_process() -> Option<Result<()>> {
    Some(callgrind::op_of_this_process()?.and_then(ops::Op::go))
}

/// Counts all operations; an error if one has become worse, unless that is the `blessed` state.
#[allow(clippy::print_stdout, reason = "the table is the command's output")]
pub(crate) fn run(bless: bool) -> Result<()> {
    let old = if bless { Baseline::read().unwrap_or_default() } else { Baseline::read()? };
    let mut new = Baseline { compiler: compiler(), instructions: Counts::new() };
    for op in ops::all() {
        // A tenth of an instruction is below any tolerance, and easier to read.
        let count = (callgrind::count(op)? * 10.0).round() / 10.0;
        new.instructions.insert(op.name(), count);
    }
    let (table, failures) = compare(&old.instructions, &new.instructions);
    print!("{table}");
    if old.compiler != new.compiler && !old.compiler.is_empty() {
        println!("compilers differ: {} before, {} now", old.compiler, new.compiler);
    }
    if bless {
        return new.write();
    }
    let remedy = "if that is meant, cargo xtask bench --guard --bless";
    ensure!(failures == 0, "{failures} hot paths differ from the baseline: {remedy}");
    Ok(())
}

/// A line for each operation, and how many of them fail.
fn compare(old: &Counts, new: &Counts) -> (String, usize) {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let title = "instructions";
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max(title.len());
    let mut table = format!("{title:width$}  {:>9}  {:>9}   change\n", "baseline", "now");
    let mut failures = 0;
    for name in names {
        let (old, new) = (old.get(name).copied(), new.get(name).copied());
        let verdict = Verdict::of(old, new);
        failures += usize::from(verdict.is_failure());
        let cell = |count: Option<f64>| count.map_or("-".to_owned(), |count| format!("{count:.1}"));
        let change = old.zip(new).map(|(old, new)| format!("{:+.1} %", 100.0 * (new / old - 1.0)));
        let (change, word) = (change.unwrap_or_default(), verdict.word());
        let line =
            format!("{name:width$}  {:>9}  {:>9}  {change:>7}  {word}", cell(old), cell(new));
        table.push_str(line.trim_end());
        table.push('\n');
    }
    (table, failures)
}

/// The compiler that cargo uses here.
fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map_or("unknown".to_owned(), |output| {
        let text = String::from_utf8_lossy(&output.stdout);
        text.split(" (").next().unwrap_or_default().trim().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_what_has_become_worse() {
        let counts = |pairs: &[(&str, f64)]| {
            pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect::<Counts>()
        };
        let old = counts(&[("a pair", 40.0), ("a free", 20.0), ("gone", 1.0)]);
        let new = counts(&[("a pair", 44.0), ("a free", 18.0)]);
        let (table, failures) = compare(&old, &new);
        let expected = "\
instructions   baseline        now   change
a free             20.0       18.0  -10.0 %  better
a pair             40.0       44.0  +10.0 %  WORSE
gone                1.0          -           NOT IN BOTH
";
        assert_eq!(table, expected);
        assert_eq!(failures, 2);
    }
}
