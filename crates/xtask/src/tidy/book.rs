//! The book: every chapter is in its table of contents, and is compiled if it has programs.

use std::path::Path;

use super::Finding;

const CHAPTERS: &str = "docs/book/src/";
const CONTENTS: &str = "docs/book/src/SUMMARY.md";
/// Copies of papers that stand elsewhere, where their links lead somewhere in the book.
const PAPERS: &str = "docs/book/src/papers/";
/// Names the chapters whose Rust programs are compiled.
const COMPILED: &str = "crates/shmheap/tests/book/chapters.rs";

/// Checks the chapters among `files`. That links of the contents lead to chapters is checked with
/// all other links.
pub(super) fn check(root: &Path, files: &[String]) -> Vec<Finding> {
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let (contents, compiled) = (read(CONTENTS), read(COMPILED));
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.ends_with(".md") && *file != CONTENTS) {
        let Some(chapter) = file.strip_prefix(CHAPTERS) else { continue };
        if !contents.contains(&format!("]({chapter})")) {
            let rule = format!("no reader finds this chapter: put it into {CONTENTS}");
            findings.push(Finding::new(file, 1, rule));
        }
        let program = first_program(&read(file)).filter(|_| !file.starts_with(PAPERS));
        if let Some(line) = program
            && !compiled.contains(&format!("\"{chapter}\""))
        {
            let rule = format!("nobody compiles this program: name the chapter in {COMPILED}");
            findings.push(Finding::new(file, line, rule));
        }
    }
    findings
}

/// The line of the first program in Rust.
fn first_program(content: &str) -> Option<usize> {
    content.lines().position(|line| line.starts_with("```rust")).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chapters_are_listed_and_their_programs_compiled() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(CONTENTS, "- [A](a.md)\n- [B](b/c.md)\n- [P](papers/P.md)\n");
        write(COMPILED, "book! { a: \"a.md\" }\n");
        write("docs/book/src/a.md", "text\n```rust\n```\n");
        write("docs/book/src/b/c.md", "text\n```rust,no_run\n```\n");
        write("docs/book/src/papers/P.md", "```rust\n```\n");
        write("docs/book/src/d.md", "text\n");
        let files = ["SUMMARY.md", "a.md", "b/c.md", "papers/P.md", "d.md"];
        let mut files: Vec<String> = files.map(|file| format!("{CHAPTERS}{file}")).into();
        files.push("README.md".to_owned());
        let found = check(root.path(), &files);
        let found: Vec<(&str, usize)> =
            found.iter().map(|finding| (finding.file.as_str(), finding.line)).collect();
        assert_eq!(found, [("docs/book/src/b/c.md", 2), ("docs/book/src/d.md", 1)]);
    }
}
