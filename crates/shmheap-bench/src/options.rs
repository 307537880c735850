//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};

/// The workloads by name.
const WORKLOADS: [&str; 14] =
    ["W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W9", "W10", "T1", "T2", "T3", "T4"];

/// shmheap and its peers under the same workloads.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
pub(crate) struct Options {
    /// Take short measurements: plausible figures in four minutes
    #[arg(long)]
    quick: bool,
    /// Run only these workloads, as in W1,W3
    #[arg(long, value_delimiter = ',', value_name = "LIST", ignore_case = true)]
    #[arg(value_parser = WORKLOADS, hide_possible_values = true)]
    pub(crate) only: Vec<String>,
    /// Rounds, whose median is reported [default: 7, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Also write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also draw everything that was measured into this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) chart: Option<PathBuf>,
    /// Measure nothing: show what an earlier run wrote with --json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "only", "rounds", "smoke"])]
    pub(crate) from: Option<PathBuf>,
    /// Also put the figures into docs/ and README.md; with --only, the others stay as they were
    #[arg(long)]
    pub(crate) docs: bool,
    /// Count instructions of the hot paths instead, and compare them with those committed
    #[arg(long, conflicts_with_all = ["quick", "only", "rounds", "json", "chart", "from", "docs"])]
    pub(crate) guard: bool,
    /// Take the counted instructions for those to compare with from now on
    #[arg(long, requires = "guard")]
    pub(crate) bless: bool,
    /// Take no time: find out whether everything works, and no figures
    #[arg(long, hide = true)]
    pub(crate) smoke: bool,
    /// What `cargo bench` tells every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is done for one figure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Effort {
    measured_ms: u64,
    /// What takes longer to prepare is given up: one slow peer must not take more time than all
    /// others together.
    patience_ms: u64,
    /// How often, on average, every live object is replaced before anything is measured.
    pub(crate) warm_up_turns: usize,
    /// How often a heap is made, or connected to, for the median of it.
    pub(crate) starts: usize,
    /// Of a map, at the most.
    entries_max: usize,
}

impl Effort {
    const FULL: Self = Self {
        measured_ms: 500,
        patience_ms: 5000,
        warm_up_turns: 3,
        starts: 200,
        entries_max: usize::MAX,
    };
    const QUICK: Self =
        Self { measured_ms: 100, patience_ms: 1000, warm_up_turns: 1, starts: 40, ..Self::FULL };
    const SMOKE: Self =
        Self { measured_ms: 5, patience_ms: 500, warm_up_turns: 0, starts: 3, entries_max: 1000 };

    pub(crate) fn measured(self) -> Duration {
        Duration::from_millis(self.measured_ms)
    }

    /// So many, unless no figures are wanted.
    pub(crate) fn entries(self, entries: usize) -> usize {
        entries.min(self.entries_max)
    }

    pub(crate) fn patience(self) -> Duration {
        Duration::from_millis(self.patience_ms)
    }
}

impl Options {
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 7 }).into()
    }

    pub(crate) fn effort(&self) -> Effort {
        match (self.smoke, self.quick) {
            (true, _) => Effort::SMOKE,
            (_, true) => Effort::QUICK,
            _ => Effort::FULL,
        }
    }

    pub(crate) fn wants(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name.eq_ignore_ascii_case(workload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chooses_workloads() {
        let parse = |line: &str| Options::try_parse_from(line.split(' ')).unwrap();
        let some = parse("bench --bench --only w1,W3 --rounds 2");
        assert!(some.wants("W1") && some.wants("W3") && !some.wants("W2"));
        assert_eq!(some.rounds(), 2);
        assert!(parse("bench --quick").wants("W9"));
        assert!(Options::try_parse_from(["bench", "--rounds", "0"]).is_err());
        assert!(Options::try_parse_from(["bench", "--only", "W1,W99"]).is_err());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let parses = |line: &str| Options::try_parse_from(line.split(' ')).is_ok();
        assert!(parses("bench --from a.json --docs --chart b.svg"));
        assert!(parses("bench --guard --bless"));
        assert!(!parses("bench --from a.json --quick"));
        assert!(parses("bench --docs --only W1"));
        assert!(!parses("bench --bless"));
    }
}
