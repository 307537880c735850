//! `cargo xtask tidy`: the house style as a test.
//!
//! Formatting is rustfmt's job and function length clippy's; this checks what neither knows:
//!
//! | rule | where it stands |
//! |---|---|
//! | limits of lines and files, white space, markers in comments, local paths | [`text`] |
//! | every Rust file opens with its story, layers, unsafe, memory orderings | [`rust`] |
//! | links of the papers lead somewhere; the list of files that may be unsafe | [`markdown`] |
//! | chapters of the book are in its contents, and their programs are compiled | [`book`] |
//!
//! No rule has a list of exceptions. Test code (folders `tests`, `benches` and `examples`, modules
//! under `cfg(test)` with their files) is free to cross layers, call unsafe functions and order
//! memory without a word, because it explains itself by what it tests.

mod book;
mod markdown;
mod rust;
mod text;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace;
use rust::Reexports;

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    file: String,
    line: usize,
    rule: String,
}

impl Finding {
    fn new(file: &str, line: usize, rule: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, rule: rule.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// What was checked and what was found.
pub(crate) struct Outcome {
    pub(crate) file_count: usize,
    pub(crate) findings: Vec<Finding>,
}

/// Checks every file of the checkout that git does not ignore.
///
/// # Errors
///
/// When git cannot list the files, as in a source archive.
pub(crate) fn check() -> Result<Outcome> {
    let root = workspace::root();
    let files = list_files(&root)?;
    let inventory = read_inventory(&root);
    let lib = std::fs::read_to_string(root.join(rust::CORE).join("lib.rs")).unwrap_or_default();
    let reexports = Reexports::parse(&lib);
    let read = |file: &str| std::fs::read_to_string(root.join(file)).ok();
    let sources = files.iter().filter(|file| file.ends_with(".rs"));
    let test_modules: HashSet<String> =
        sources.filter_map(|file| Some(rust::test_modules(file, &read(file)?))).flatten().collect();
    let mut findings = Vec::new();
    for file in &files {
        // What is not text is nobody's style.
        let Some(content) = read(file) else { continue };
        findings.extend(text::check(file, &content));
        if file.ends_with(".rs") {
            let is_test = is_test_file(file) || test_modules.contains(file);
            findings.extend(rust::check(file, &content, is_test, &reexports, &inventory));
        }
        if file.ends_with(".md") {
            findings.extend(markdown::check_links(&root, file, &content));
        }
    }
    findings.extend(book::check(&root, &files));
    findings.extend(inventory.stale_entries(&root));
    Ok(Outcome { file_count: files.len(), findings })
}

fn read_inventory(root: &Path) -> markdown::Inventory {
    let paper = std::fs::read_to_string(root.join(markdown::INVENTORY_FILE)).unwrap_or_default();
    markdown::Inventory::parse(&paper)
}

/// Paths relative to `root`, of files that are tracked or could be added.
fn list_files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("tidy asks git which files to check, and git did not start")?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("tidy asks git which files to check, and git said: {}", reason.trim());
    }
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let present = |name: &&str| PathBuf::from(root).join(name).is_file();
    let mut files: Vec<String> =
        names.split_terminator('\0').filter(present).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Whether a whole file is test code.
fn is_test_file(file: &str) -> bool {
    let parts: Vec<&str> = file.split('/').collect();
    parts.iter().any(|part| ["tests", "benches", "examples"].contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_files_are_known_by_their_place() {
        assert!(is_test_file("crates/shmheap/tests/kill.rs"));
        assert!(is_test_file("crates/shmheap-c/tests/c/layout.c"));
        assert!(!is_test_file("crates/shmheap/src/first_fit/mod.rs"));
    }

    #[test]
    fn a_finding_reads_like_a_compiler_message() {
        let finding = Finding::new("src/lib.rs", 7, "too long");
        assert_eq!(finding.to_string(), "src/lib.rs:7: too long");
    }
}
