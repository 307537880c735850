//! The report: from every round's figures to tables on standard output, and to JSON.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::crew::AnyPeer;
use crate::machine::Machine;
use crate::measure::Spread;
use crate::options::Options;
use crate::peer::Sharing;
use crate::plan::{Bound, CPU, Experiment, Figures, Round, Table, Target};

/// All that was measured so far.
pub(crate) struct Report<'p> {
    options: &'p Options,
    machine: Machine,
    peers: &'p [Box<dyn AnyPeer>],
    experiments: &'p [Experiment],
    /// By experiment and peer.
    outcomes: Vec<Vec<Outcome>>,
}

/// What a peer made of an experiment.
#[derive(Default)]
struct Outcome {
    rounds: Vec<Figures>,
    /// Why there are none.
    excluded: Option<&'static str>,
    /// Why some are missing.
    gave_up: Option<String>,
    /// Why there are no more.
    failure: Option<String>,
}

/// A table with its figures, as it is printed and written.
#[derive(Debug, Serialize)]
struct Sheet {
    workload: &'static str,
    title: &'static str,
    columns: Vec<&'static str>,
    baseline: Option<&'static str>,
    target: Option<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    peer: &'static str,
    /// By whom the peer's heap was used: "2 processes".
    workers: String,
    /// As many as columns; `None` where the peer has none.
    figures: Vec<Option<Spread>>,
    /// The first column's figures, one for each round.
    rounds: Vec<f64>,
    ratio: Option<Spread>,
    hit: Option<bool>,
    /// Why figures are missing.
    remark: Option<String>,
}

impl<'p> Report<'p> {
    pub(crate) fn new(
        options: &'p Options,
        peers: &'p [Box<dyn AnyPeer>],
        experiments: &'p [Experiment],
    ) -> Self {
        let outcome = |experiment: &Experiment, peer: &dyn AnyPeer| Outcome {
            excluded: experiment.excludes(peer),
            ..Outcome::default()
        };
        let row =
            |experiment| peers.iter().map(|peer| outcome(experiment, peer.as_ref())).collect();
        let outcomes = experiments.iter().map(row).collect();
        Self { options, machine: Machine::look(), peers, experiments, outcomes }
    }

    /// Whether the peer takes part in that experiment, still.
    pub(crate) fn expects(&self, experiment: usize, peer: usize) -> bool {
        let outcome = &self.outcomes[experiment][peer];
        outcome.excluded.is_none() && outcome.failure.is_none()
    }

    /// Adds a round.
    pub(crate) fn add(&mut self, experiment: usize, peer: usize, round: Result<Round>) {
        let outcome = &mut self.outcomes[experiment][peer];
        match round {
            Ok(round) => {
                outcome.rounds.push(round.figures);
                outcome.gave_up = round.gave_up.or(outcome.gave_up.take());
            }
            Err(error) => outcome.failure = Some(format!("{error:#}")),
        }
    }

    /// An error if anything failed.
    pub(crate) fn failures(&self) -> Result<()> {
        let failed = self.outcomes.iter().flatten().filter(|outcome| outcome.failure.is_some());
        let count = failed.count();
        anyhow::ensure!(count == 0, "{count} experiments failed: see the tables");
        Ok(())
    }

    fn sheets(&self) -> Vec<Sheet> {
        let mut sheets = Vec::new();
        for (experiment, outcomes) in self.experiments.iter().zip(&self.outcomes) {
            let wanted = |table: &&Table| self.options.wants(table.workload);
            for table in experiment.tables.iter().filter(wanted) {
                sheets.push(self.sheet(experiment, table, outcomes));
            }
        }
        // W10 after W9.
        sheets.sort_by_key(|sheet| (sheet.workload.len(), sheet.workload));
        sheets
    }

    fn sheet(&self, experiment: &Experiment, table: &Table, outcomes: &[Outcome]) -> Sheet {
        let base = table.baseline.and_then(|name| {
            let at = self.peers.iter().position(|peer| peer.name() == name)?;
            Some(outcomes[at].column(table.columns[0]))
        });
        let rows = self.peers.iter().zip(outcomes).map(|(peer, outcome)| {
            let workers = workers(&experiment.workers(), peer.sharing());
            outcome.row(peer.name(), workers, table, base.as_deref())
        });
        let rows: Vec<Row> = rows.collect();
        Sheet {
            workload: table.workload,
            title: table.title,
            columns: columns(table),
            baseline: table.baseline,
            target: table.target.map(|target| target.text(table.baseline, &rows)),
            rows,
        }
    }

    /// The tables.
    pub(crate) fn print(&self) -> Result<()> {
        let mut out = io::stdout().lock();
        self.write_preamble(&mut out)?;
        for sheet in self.sheets() {
            sheet.write(&mut out)?;
        }
        Ok(())
    }

    fn write_preamble(&self, out: &mut dyn Write) -> io::Result<()> {
        let Machine { processor, processors, kernel, load } = &self.machine;
        writeln!(
            out,
            "{processor}, {processors} processors, Linux {kernel}, load {load} at start"
        )?;
        for peer in self.peers {
            writeln!(out, "  {:<18}  {}", peer.name(), peer.description())?;
        }
        let rounds = self.options.rounds();
        let duration = self.options.effort().measured();
        writeln!(out, "Medians of {rounds} rounds of {duration:?}, each in fresh processes.")?;
        writeln!(
            out,
            "An op is one alloc and one free; ratios are taken within each round; cpu is"
        )?;
        writeln!(out, "the part of the processor time due to it that the least lucky worker had.")?;
        writeln!(out, "Workers who outnumber the processors share them.")
    }

    /// The same as JSON, and every round's figure.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let context = || format!("cannot write '{}'", path.display());
        let peers: Vec<_> =
            self.peers.iter().map(|peer| (peer.name(), peer.description())).collect();
        let all = serde_json::json!({
            "machine": self.machine,
            "peers": peers,
            "rounds": self.options.rounds(),
            "effort": self.options.effort(),
            "tables": self.sheets(),
        });
        let mut out = BufWriter::new(File::create(path).with_context(context)?);
        serde_json::to_writer_pretty(&mut out, &all).with_context(context)?;
        writeln!(out).and_then(|()| out.flush()).with_context(context)
    }
}

impl Outcome {
    fn column(&self, title: &str) -> Vec<f64> {
        self.rounds.iter().filter_map(|figures| figures.get(title).copied()).collect()
    }

    fn row(&self, peer: &'static str, workers: String, table: &Table, base: Option<&[f64]>) -> Row {
        let spread = |title| Spread::of(&self.column(title));
        let figures: Vec<_> = columns(table).into_iter().map(spread).collect();
        let rounds = self.column(table.columns[0]);
        let ratio = base.and_then(|base| Spread::of_ratios(&rounds, base));
        let judged = if table.baseline.is_some() { ratio } else { figures[0] };
        let target = table.target.filter(|target| peer.starts_with(target.peers));
        let hit = target.zip(judged).map(|(target, judged)| target.bound.holds(judged.median));
        let failure = self.failure.as_ref().map(|why| format!("FAILED: {why}"));
        let remark = self.excluded.map(str::to_owned).or(failure).or(self.gave_up.clone());
        Row { peer, workers, figures, rounds, ratio, hit, remark }
    }
}

impl Target {
    /// "shmheap scalable at most 1.20 x mimalloc", and whether there is any such peer.
    fn text(self, baseline: Option<&str>, rows: &[Row]) -> String {
        let (relation, bound) = match self.bound {
            Bound::AtMost(bound) => ("at most", bound),
            Bound::AtLeast(bound) => ("at least", bound),
        };
        let times = baseline.map_or_else(String::new, |name| format!(" x {name}"));
        let absent = !rows.iter().any(|row| row.peer.starts_with(self.peers));
        let remark = if absent { " (not among the peers)" } else { "" };
        format!("{} {relation} {}{times}{remark}", self.peers, number(bound))
    }
}

impl Sheet {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\n{}  {}", self.workload, self.title)?;
        if let Some(target) = &self.target {
            writeln!(out, "    target: {target}")?;
        }
        let mut lines = vec![self.header()];
        lines.extend(self.rows.iter().map(|row| self.cells(row)));
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        for (at, line) in lines.iter().enumerate() {
            let padded: Vec<String> = line.iter().zip(&widths).enumerate().map(pad).collect();
            let remark = at.checked_sub(1).and_then(|row| self.rows[row].remark.as_deref());
            let remark = remark.map_or_else(String::new, |why| format!("  {why}"));
            writeln!(out, "    {}", format!("{}{remark}", padded.join("  ")).trim_end())?;
        }
        Ok(())
    }

    fn header(&self) -> Vec<String> {
        let mut cells = vec![String::new(), String::new(), self.columns[0].to_owned()];
        cells.push("min..max".to_owned());
        cells.extend(self.columns[1..].iter().map(|&title| title.to_owned()));
        cells.extend(self.baseline.map(|name| format!("x {name}")));
        cells.push(String::new());
        cells
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let median =
            |spread: &Option<Spread>| spread.map_or("n/a".to_owned(), |s| number(s.median));
        let range = |spread: Spread| format!("{}..{}", number(spread.min), number(spread.max));
        let mut cells = vec![row.peer.to_owned(), row.workers.clone()];
        cells.push(median(&row.figures[0]));
        cells.push(row.figures[0].map_or_else(String::new, range));
        cells.extend(row.figures[1..].iter().map(median));
        cells.extend(self.baseline.map(|_| median(&row.ratio)));
        let verdict = row.hit.map_or("", |hit| if hit { "hit" } else { "MISS" });
        cells.push(verdict.to_owned());
        cells
    }
}

/// The titles of all columns with figures.
fn columns(table: &Table) -> Vec<&'static str> {
    table.columns.iter().copied().chain([CPU]).collect()
}

/// Words to the left, numbers to the right.
fn pad((column, (cell, &width)): (usize, (&String, &usize))) -> String {
    if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
}

/// Three digits at the least, where there are as many.
fn number(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// "1 process", "1, 2 and 4 threads".
fn workers(counts: &[usize], sharing: Sharing) -> String {
    let noun = match (counts, sharing) {
        ([1], _) => "process",
        (_, Sharing::Processes) => "processes",
        (_, Sharing::Threads) => "threads",
    };
    let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
    let (last, others) = counts.split_last().expect("an experiment has workers");
    let others = others.join(", ");
    if others.is_empty() { format!("{last} {noun}") } else { format!("{others} and {last} {noun}") }
}

/// Tells who is watching what is under way.
#[allow(clippy::print_stderr, reason = "progress is not part of the report")]
pub(crate) fn progress(round: usize, rounds: usize, experiment: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[Kround {} of {rounds}: {experiment}", round + 1);
    }
}

/// Takes the last word of [`progress`] away.
#[allow(clippy::print_stderr, reason = "progress is not part of the report")]
pub(crate) fn progress_done() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table {
        workload: "W0",
        title: "nothing",
        columns: &["ns/op", "more"],
        baseline: Some("mimalloc"),
        target: Some(Target { peers: "shmheap", bound: Bound::AtMost(1.5) }),
    };

    fn outcome(first: &[f64]) -> Outcome {
        let figures = |&figure| Figures::from([("ns/op", figure), (CPU, 1.0)]);
        Outcome { rounds: first.iter().map(figures).collect(), ..Outcome::default() }
    }

    fn sheet() -> Sheet {
        let base = [10.0, 20.0, 30.0];
        let excluded = Outcome { excluded: Some("it cannot"), ..Outcome::default() };
        let row = |outcome: Outcome, peer| {
            outcome.row(peer, workers(&[1], Sharing::Threads), &TABLE, Some(&base))
        };
        let rows = vec![
            row(outcome(&[14.0, 28.0, 420.0]), "shmheap a"),
            row(outcome(&[16.0, 32.0, 48.0]), "shmheap b"),
            row(outcome(&base), "mimalloc"),
            row(excluded, "other"),
        ];
        Sheet {
            workload: TABLE.workload,
            title: TABLE.title,
            columns: columns(&TABLE),
            baseline: TABLE.baseline,
            target: TABLE.target.map(|target| target.text(TABLE.baseline, &rows)),
            rows,
        }
    }

    #[test]
    fn a_table_is_aligned_and_judged() {
        let mut text = Vec::new();
        sheet().write(&mut text).unwrap();
        let expected = "
W0  nothing
    target: shmheap at most 1.50 x mimalloc
                          ns/op    min..max  more   cpu  x mimalloc
    shmheap a  1 process   28.0   14.0..420   n/a  1.00        1.40   hit
    shmheap b  1 process   32.0  16.0..48.0   n/a  1.00        1.60  MISS
    mimalloc   1 process   20.0  10.0..30.0   n/a  1.00        1.00
    other      1 process    n/a               n/a   n/a         n/a        it cannot
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_target_without_its_peer_says_so() {
        let target = Target { peers: "nobody", bound: Bound::AtLeast(1.9) };
        assert_eq!(target.text(None, &sheet().rows), "nobody at least 1.90 (not among the peers)");
    }

    #[test]
    fn workers_are_named() {
        assert_eq!(workers(&[1], Sharing::Processes), "1 process");
        assert_eq!(workers(&[1, 2, 4], Sharing::Threads), "1, 2 and 4 threads");
        assert_eq!(workers(&[2], Sharing::Processes), "2 processes");
    }
}
