//! The report: from every round's figures to medians, verdicts, and whatever shows them.
//!
//! ```text
//!   figures of a round --> Report --> Document --> text, Markdown, charts
//!                                     |      ^
//!                                     v      |
//!                                   a file of JSON
//! ```

mod chart;
mod document;
mod papers;
mod table;

pub(crate) use document::Document;

use std::io::{self, IsTerminal};

use anyhow::Result;

use crate::crew::AnyPeer;
use crate::machine::Machine;
use crate::measure::Spread;
use crate::options::Options;
use crate::peer::Sharing;
use crate::plan::{Bound, CPU, Experiment, Figures, Round, Table, Target};
use document::{Participant, Row, Sheet, number};

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
    /// It takes part in another contest, and has no row.
    is_elsewhere: bool,
    rounds: Vec<Figures>,
    /// Why there are none.
    excluded: Option<&'static str>,
    /// Why some are missing.
    gave_up: Option<String>,
    /// Why there are no more.
    failure: Option<String>,
}

impl<'p> Report<'p> {
    pub(crate) fn new(
        options: &'p Options,
        peers: &'p [Box<dyn AnyPeer>],
        experiments: &'p [Experiment],
    ) -> Self {
        let outcome = |experiment: &Experiment, peer: &dyn AnyPeer| Outcome {
            is_elsewhere: !experiment.is_for(peer),
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
        !outcome.is_elsewhere && outcome.excluded.is_none() && outcome.failure.is_none()
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

    /// All of it, to be shown or kept.
    pub(crate) fn document(&self) -> Document {
        let participant = |peer: &dyn AnyPeer| Participant {
            name: peer.name().to_owned(),
            description: peer.description(),
            sharing: peer.sharing(),
        };
        let mut peers: Vec<Participant> = Vec::new();
        for peer in self.peers {
            let takes_part = self.experiments.iter().any(|one| one.is_for(peer.as_ref()));
            // Some take part in two contests.
            if takes_part && peers.iter().all(|known| known.name != peer.name()) {
                peers.push(participant(peer.as_ref()));
            }
        }
        Document {
            machine: self.machine.clone(),
            peers,
            rounds: self.options.rounds(),
            measured_ms: self.options.effort().measured().as_millis() as u64,
            tables: self.sheets(),
        }
    }

    fn sheets(&self) -> Vec<Sheet> {
        let mut sheets = Vec::new();
        for (experiment, outcomes) in self.experiments.iter().zip(&self.outcomes) {
            let wanted = |table: &&Table| self.options.wants(table.workload);
            for table in experiment.tables.iter().filter(wanted) {
                sheets.push(self.sheet(experiment, table, outcomes));
            }
        }
        sheets.sort_by_key(Sheet::place);
        sheets
    }

    fn sheet(&self, experiment: &Experiment, table: &Table, outcomes: &[Outcome]) -> Sheet {
        let base = table.baseline.and_then(|name| {
            let mut own = self.peers.iter().zip(outcomes).filter(|(_, one)| !one.is_elsewhere);
            let (_, outcome) = own.find(|(peer, _)| peer.name() == name)?;
            Some(outcome.column(table.columns[0]))
        });
        let own = self.peers.iter().zip(outcomes).filter(|(_, outcome)| !outcome.is_elsewhere);
        let rows = own.map(|(peer, outcome)| {
            let workers = workers(&experiment.workers(), peer.sharing());
            outcome.row(peer.name(), workers, table, base.as_deref())
        });
        let rows: Vec<Row> = rows.collect();
        Sheet {
            workload: table.workload.to_owned(),
            title: table.title.to_owned(),
            columns: columns(table).into_iter().map(str::to_owned).collect(),
            baseline: table.baseline.map(str::to_owned),
            target: table.target.map(|target| target.text(table.baseline, &rows)),
            taken: None,
            rows,
        }
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
        Row { peer: peer.to_owned(), workers, figures, rounds, ratio, hit, remark }
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

/// The titles of all columns with figures.
fn columns(table: &Table) -> Vec<&'static str> {
    table.columns.iter().copied().chain([CPU]).collect()
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
        title: "nothing: at all",
        columns: &["ns/op", "more"],
        baseline: Some("mimalloc"),
        target: Some(Target { peers: "shmheap", bound: Bound::AtMost(1.5) }),
    };

    fn outcome(first: &[f64]) -> Outcome {
        let figures = |&figure| Figures::from([("ns/op", figure), (CPU, 1.0)]);
        Outcome { rounds: first.iter().map(figures).collect(), ..Outcome::default() }
    }

    pub(super) fn sheet() -> Sheet {
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
            workload: TABLE.workload.to_owned(),
            title: TABLE.title.to_owned(),
            columns: columns(&TABLE).into_iter().map(str::to_owned).collect(),
            baseline: TABLE.baseline.map(str::to_owned),
            target: TABLE.target.map(|target| target.text(TABLE.baseline, &rows)),
            taken: None,
            rows,
        }
    }

    pub(super) fn document() -> Document {
        let participant = |name: &str, sharing| Participant {
            name: name.to_owned(),
            description: format!("what {name} is"),
            sharing,
        };
        Document {
            machine: Machine::look(),
            peers: vec![
                participant("shmheap a", Sharing::Processes),
                participant("shmheap b", Sharing::Processes),
                participant("mimalloc", Sharing::Threads),
                participant("other", Sharing::Processes),
            ],
            rounds: 3,
            measured_ms: 100,
            tables: vec![sheet()],
        }
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
