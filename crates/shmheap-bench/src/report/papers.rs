//! The papers that show figures: what stands between their markers is made from a run, and the
//! charts beside them.
//!
//! | file | holds |
//! |---|---|
//! | `docs/benchmarks.json` | the run: what all of the following is made from |
//! | `docs/benchmarks.md` | every table |
//! | `docs/benchmarks.svg` | every table, as a chart |
//! | `docs/speed.svg` | a few tables, as a chart |
//! | `README.md` | the same few, with the best of each kind of peer |

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::chart::Family;
use super::document::{Document, Row, Sheet, number, save};

const JSON: &str = "docs/benchmarks.json";
const PAPER: &str = "docs/benchmarks.md";
const CHART: &str = "docs/benchmarks.svg";
const SUMMARY_CHART: &str = "docs/speed.svg";
const README: &str = "README.md";

const BEGIN: &str = "<!-- figures: made by `cargo xtask bench --docs`, do not edit -->";
const END: &str = "<!-- end of figures -->";

/// The tables of a summary: the workload, and what the title has that of its others has not.
const SUMMARY: [(&str, &str); 6] =
    [("W1", "10,000"), ("W1", "1,000,000"), ("W3", ""), ("W4", ""), ("W6", ""), ("W10", "time")];

/// Peers that are variants of others, or no allocators: not in a summary.
const NOT_IN_SUMMARY: [&str; 3] = ["bump", "mimalloc 4", "shmheap C"];

impl Document {
    /// Writes the run and everything that is made from it into the workspace.
    pub(crate) fn write_papers(&self) -> Result<()> {
        self.write_papers_of(&crate::workspace())
    }

    /// The same with tables that the run has not as they were.
    pub(crate) fn write_into_papers(self) -> Result<()> {
        let root = crate::workspace();
        let earlier = Self::read(&root.join(JSON))?;
        self.put_into(earlier).write_papers_of(&root)
    }

    fn write_papers_of(&self, root: &Path) -> Result<()> {
        save(&root.join(JSON), &self.json()?)?;
        // From what was kept, which is rounded: the same comes of it again.
        let kept = Self::read(&root.join(JSON))?;
        for (file, content) in kept.papers(root)? {
            save(&root.join(file), &content)?;
        }
        Ok(())
    }

    /// The files that are made from the run, as they should be.
    fn papers(&self, root: &Path) -> Result<Vec<(&'static str, String)>> {
        let filled = |file: &'static str, figures: String| -> Result<(&'static str, String)> {
            let path = root.join(file);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let filled = fill(&text, &figures).with_context(|| format!("no markers in {file}"))?;
            Ok((file, filled))
        };
        Ok(vec![
            filled(PAPER, self.markdown())?,
            filled(README, self.summary_markdown())?,
            (CHART, self.chart()),
            (SUMMARY_CHART, self.summary_chart()),
        ])
    }

    pub(super) fn summary(&self) -> impl Iterator<Item = &Sheet> {
        SUMMARY.iter().filter_map(|&(workload, part)| {
            let is_it = |sheet: &&Sheet| sheet.workload == workload && sheet.title.contains(part);
            self.tables.iter().find(is_it)
        })
    }

    pub(super) fn is_of_summary(&self, peer: &str) -> bool {
        !NOT_IN_SUMMARY.iter().any(|start| peer.starts_with(start))
    }

    /// Machine, peers and all tables.
    fn markdown(&self) -> String {
        let mut text = format!("{}. {}\n", self.machine_line(), self.method_line());
        text.push_str("\n| peer | version, or what it is |\n|---|---|\n");
        for peer in &self.peers {
            push(&mut text, &[&peer.name, &peer.description]);
        }
        for sheet in &self.tables {
            text.push_str(&sheet.markdown());
        }
        text
    }

    /// A row for each table of the summary, with the best of each family.
    fn summary_markdown(&self) -> String {
        let mut text = "| | shmheap scalable | shmheap first fit | best other in shared memory | \
                        best in memory of one process |\n|---|--:|--:|--:|--:|\n"
            .to_owned();
        for sheet in self.summary() {
            let own = |peer| sheet.rows.iter().find(|row| row.peer == peer).and_then(figure);
            let best = |family| self.best(sheet, family).and_then(named_figure);
            let cells = [
                Some(format!("{}, {}", sheet.title, sheet.columns[0])),
                own("shmheap scalable"),
                own("shmheap first fit"),
                best(Family::Shared),
                best(Family::Private),
            ];
            let cells = cells.map(|cell| cell.unwrap_or_else(|| "n/a".to_owned()));
            push(&mut text, &cells.each_ref().map(String::as_str));
        }
        text
    }

    fn best<'d>(&self, sheet: &'d Sheet, family: Family) -> Option<&'d Row> {
        let sign = if sheet.is_higher_better() { -1.0 } else { 1.0 };
        let key = |row: &Row| row.main_figure().map(|main| sign * main.median);
        let is_one = |row: &&Row| self.family(&row.peer) == family && self.is_of_summary(&row.peer);
        let rows = sheet.rows.iter().filter(is_one);
        let rows = rows.filter_map(|row| Some((row, key(row)?)));
        Some(rows.min_by(|(_, one), (_, other)| one.total_cmp(other))?.0)
    }
}

impl Sheet {
    fn markdown(&self) -> String {
        let mut text = format!("\n### {}: {}\n\n", self.workload, self.title);
        if let Some(target) = &self.target {
            // A string takes whatever is written.
            let _ = writeln!(text, "Target: {target}.\n");
        }
        if let Some(taken) = &self.taken {
            let _ = writeln!(text, "Taken otherwise than the rest: {taken}\n");
        }
        let mut header = self.header();
        header[0] = "peer".to_owned();
        push(&mut text, &header.iter().map(String::as_str).collect::<Vec<_>>());
        let rule = header.iter().enumerate().map(|(at, _)| if at < 2 { "---" } else { "--:" });
        let _ = writeln!(text, "|{}|", rule.collect::<Vec<_>>().join("|"));
        for row in &self.rows {
            let mut cells = self.cells(row);
            if let Some(remark) = &row.remark {
                cells[2] = format!("n/a: {remark}");
            }
            if row.peer.starts_with("shmheap") {
                cells[0] = format!("**{}**", row.peer);
            }
            push(&mut text, &cells.iter().map(String::as_str).collect::<Vec<_>>());
        }
        text
    }
}

/// A line of a table.
fn push(text: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let line = format!("| {} |", cells.join(" | ")).replace("|  |", "| |");
    text.push_str(&line.replace("|  |", "| |"));
    text.push('\n');
}

fn figure(row: &Row) -> Option<String> {
    Some(number(row.main_figure()?.median))
}

fn named_figure(row: &Row) -> Option<String> {
    Some(format!("{} ({})", figure(row)?, row.peer))
}

/// The paper with new figures between its markers, if it has them.
fn fill(paper: &str, figures: &str) -> Option<String> {
    let (before, rest) = paper.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;

    #[test]
    fn figures_stand_between_their_markers() {
        let paper = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let filled = fill(&paper, "new\n").unwrap();
        assert_eq!(filled, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(fill(&filled, "new").as_deref(), Some(filled.as_str()));
        assert_eq!(fill("no markers", "new"), None);
    }

    #[test]
    fn a_table_tells_what_is_missing() {
        let text = document().markdown();
        assert!(
            text.contains("### W0: nothing: at all\n\nTarget: shmheap at most 1.50 x mimalloc.")
        );
        let row = "| **shmheap a** | 1 process | 28.0 | 14.0..420 | n/a | 1.00 | 1.40 | hit |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| other | 1 process | n/a: it cannot | | n/a | n/a | n/a | |"));
    }

    #[test]
    fn the_best_of_each_family_is_named() {
        let mut document = document();
        document.tables[0].workload = "W3".to_owned();
        let text = document.summary_markdown();
        let row = "| nothing: at all, ns/op | n/a | n/a | n/a | 20.0 (mimalloc) |";
        assert!(text.contains(row), "{text}");
    }

    #[test]
    fn the_papers_show_the_run_beside_them() {
        let root = crate::workspace();
        let run = Document::read(&root.join(JSON)).unwrap();
        for (file, content) in run.papers(&root).unwrap() {
            let found = fs::read_to_string(root.join(file)).unwrap();
            let remedy = format!("{file}: run `cargo xtask bench --from {JSON} --docs`");
            assert!(found == content, "{remedy}");
        }
    }
}
