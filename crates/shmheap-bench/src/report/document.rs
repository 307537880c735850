//! What a run has found, as it is printed, drawn, and kept as JSON.
//!
//! Whatever is shown is made from this alone, so that a file of an earlier run gives the same
//! tables and charts without measuring again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::machine::Machine;
use crate::measure::Spread;
use crate::peer::Sharing;

/// How deep the lines of the JSON go: below that stand the rows, each in a line of its own.
const LINES_DEPTH: usize = 4;

/// All that one run has found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(super) machine: Machine,
    pub(super) peers: Vec<Participant>,
    pub(super) rounds: usize,
    /// For each figure of a speed.
    pub(super) measured_ms: u64,
    pub(super) tables: Vec<Sheet>,
}

/// A peer, as it presents itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Participant {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) sharing: Sharing,
}

/// A table with its figures.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sheet {
    pub(super) workload: String,
    pub(super) title: String,
    pub(super) columns: Vec<String>,
    pub(super) baseline: Option<String>,
    pub(super) target: Option<String>,
    /// On what and how, if otherwise than the rest of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) taken: Option<String>,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) peer: String,
    /// By whom the peer's heap was used: "2 processes".
    pub(super) workers: String,
    /// As many as columns; `None` where the peer has none.
    pub(super) figures: Vec<Option<Spread>>,
    /// The first column's figures, one for each round.
    pub(super) rounds: Vec<f64>,
    pub(super) ratio: Option<Spread>,
    pub(super) hit: Option<bool>,
    /// Why figures are missing.
    pub(super) remark: Option<String>,
}

impl Sheet {
    /// By which tables are sorted: typed data come last, and W10 after W9.
    pub(super) fn place(&self) -> (bool, usize, String) {
        (self.workload.starts_with('T'), self.workload.len(), self.workload.clone())
    }
}

impl Row {
    /// The figure that the table is about.
    pub(super) fn main_figure(&self) -> Option<Spread> {
        self.figures.first().copied().flatten()
    }
}

impl Document {
    /// Reads what [`write`](Self::write) wrote.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let context = || format!("cannot read '{}'", path.display());
        let text = fs::read_to_string(path).with_context(context)?;
        serde_json::from_str(&text).with_context(context)
    }

    /// An earlier run with these tables in the place of its own: those that it has, and those of
    /// workloads that are new to it. They say on what they were taken.
    pub(super) fn put_into(self, mut earlier: Self) -> Self {
        let taken = format!("{}. {}", self.machine_line(), self.method_line());
        for peer in self.peers {
            match earlier.peers.iter_mut().find(|known| known.name == peer.name) {
                Some(known) => *known = peer,
                None => earlier.peers.push(peer),
            }
        }
        for sheet in self.tables {
            let sheet = Sheet { taken: Some(taken.clone()), ..sheet };
            let is_it = |known: &&mut Sheet| {
                (&known.workload, &known.title) == (&sheet.workload, &sheet.title)
            };
            match earlier.tables.iter_mut().find(is_it) {
                Some(known) => *known = sheet,
                None => earlier.tables.push(sheet),
            }
        }
        earlier.tables.sort_by_key(Sheet::place);
        earlier
    }

    /// Writes it as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        save(path, &self.json()?)
    }

    pub(super) fn json(&self) -> Result<String> {
        let mut text = String::new();
        spread_out(&serde_json::to_value(self)?, 0, &mut text);
        text.push('\n');
        Ok(text)
    }
}

/// Writes a file that is made from figures.
pub(super) fn save(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content).map_err(|error| anyhow!("cannot write '{}': {error}", path.display()))
}

/// JSON with a line for each entry down to the rows, so that a file under version control shows
/// what has changed, and has no page for each row.
fn spread_out(value: &Value, depth: usize, text: &mut String) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Array(entries) => entries.iter().map(|entry| (String::new(), entry)).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(name, entry)| (format!("\"{name}\": "), entry)).collect()
        }
        _ => Vec::new(),
    };
    if depth >= LINES_DEPTH || entries.is_empty() {
        text.push_str(&rounded(value).to_string());
        return;
    }
    let [open, close] = if value.is_array() { ['[', ']'] } else { ['{', '}'] };
    text.push(open);
    for (at, (name, entry)) in entries.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        text.push_str(&format!("{comma}\n{}{name}", "  ".repeat(depth + 1)));
        spread_out(entry, depth + 1, text);
    }
    text.push_str(&format!("\n{}{close}", "  ".repeat(depth)));
}

/// Without digits that no measurement has.
fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            // Six digits; what is no number any more was none before.
            let digits = number.as_f64().and_then(|figure| format!("{figure:.5e}").parse().ok());
            digits.and_then(Number::from_f64).map_or(Value::Null, Value::Number)
        }
        Value::Array(entries) => entries.iter().map(rounded).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(name, entry)| (name.clone(), rounded(entry))).collect()
        }
        _ => value.clone(),
    }
}

/// Three digits at the least, where there are as many.
pub(super) fn number(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;

    #[test]
    fn a_later_run_takes_the_place_of_its_tables_alone() {
        let mut later = document();
        later.tables[0].workload = "T1".to_owned();
        let both = later.put_into(document());
        let taken: Vec<_> = both.tables.iter().map(|sheet| sheet.taken.is_some()).collect();
        assert_eq!((both.peers.len(), taken), (4, vec![false, true]));

        let again = document().put_into(both);
        assert!(again.tables.len() == 2 && again.tables[0].taken.is_some());
    }

    #[test]
    fn a_document_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("figures.json");
        document().write(&path).unwrap();
        let read = Document::read(&path).unwrap();
        assert_eq!(read.json().unwrap(), document().json().unwrap());
        let lines = fs::read_to_string(&path).unwrap();
        let row = lines.lines().find(|line| line.contains("\"shmheap a\"") && line.contains("hit"));
        assert_eq!(
            rounded(&serde_json::json!([1.234_567_89, 7, "a"])).to_string(),
            r#"[1.23457,7,"a"]"#
        );
        assert!(row.is_some_and(|row| row.contains("\"rounds\":[14.0,28.0,420.0]")), "{lines}");
    }
}
