//! The papers: their links, and the list of files that may hold unsafe code.

use std::path::Path;

use super::Finding;

pub(super) const INVENTORY_FILE: &str = "ARCHITECTURE.md";
const INVENTORY_HEADING: &str = "Unsafe inventory";

/// Checks that every relative link of a paper leads to a file, and its fragment to a heading.
pub(super) fn check_links(root: &Path, file: &str, content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in prose(content) {
        for target in link_targets(&text) {
            if let Some(rule) = broken(root, file, content, target) {
                findings.push(Finding::new(file, line, rule));
            }
        }
    }
    findings
}

/// The lines outside code blocks, numbered from 1, without their code spans.
fn prose(content: &str) -> Vec<(usize, String)> {
    let mut in_code = false;
    let mut lines = Vec::new();
    for (index, line) in content.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push((index + 1, line.split('`').step_by(2).collect()));
        }
    }
    lines
}

fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    let ends = line.split("](").skip(1);
    ends.filter_map(|rest| rest.split([')', ' ']).next())
}

fn broken(root: &Path, file: &str, content: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
    let folder = root.join(file).parent().map(Path::to_path_buf).unwrap_or_default();
    let full = folder.join(path);
    if !path.is_empty() && !full.exists() {
        return Some(format!("the link leads nowhere: no '{path}'"));
    }
    let linked = match path {
        "" => content.to_owned(),
        // Fragments of other kinds of file (line numbers) are the viewer's affair.
        _ => std::fs::read_to_string(full).ok().filter(|_| path.ends_with(".md"))?,
    };
    let known = fragment.is_empty() || headings(&linked).any(|heading| heading == fragment);
    (!known).then(|| format!("the link leads nowhere: no heading '#{fragment}' in '{path}'"))
}

/// The fragments by which the headings of a paper are linked to.
fn headings(content: &str) -> impl Iterator<Item = String> {
    content.lines().filter(|line| line.starts_with('#')).map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// The files that may hold unsafe code.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Line of the paper, and path relative to the workspace.
    entries: Vec<(usize, String)>,
}

impl Inventory {
    /// Reads the paths ending in `.rs`, in backticks, of the section on unsafe code: list or table.
    pub(super) fn parse(paper: &str) -> Self {
        let level = |line: &str| line.chars().take_while(|c| *c == '#').count();
        let mut section = 0;
        let mut entries = Vec::new();
        for (index, line) in paper.lines().enumerate() {
            match level(line) {
                0 => {}
                own if line.contains(INVENTORY_HEADING) => section = own,
                own if own <= section => section = 0,
                _ => {}
            }
            if section > 0 {
                let paths = line.split('`').skip(1).step_by(2);
                let paths = paths.filter(|path| path.ends_with(".rs"));
                entries.extend(paths.map(|path| (index + 1, path.to_owned())));
            }
        }
        Self { entries }
    }

    pub(super) fn lists(&self, file: &str) -> bool {
        self.entries.iter().any(|(_, path)| path == file)
    }

    /// Entries whose file is gone or has become safe.
    pub(super) fn stale_entries(&self, root: &Path) -> Vec<Finding> {
        let stale = self.entries.iter().filter_map(|(line, path)| {
            let rule = match std::fs::read_to_string(root.join(path)) {
                Ok(content) if content.contains("unsafe") => return None,
                Ok(_) => format!("`{path}` has no unsafe code any more: strike it out"),
                Err(_) => format!("`{path}` is listed as unsafe but does not exist"),
            };
            Some(Finding::new(INVENTORY_FILE, *line, rule))
        });
        stale.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_somewhere() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("docs")).unwrap();
        std::fs::write(root.path().join("A.md"), "# A b, `c` & d\n").unwrap();
        let check = |text: &str| check_links(root.path(), "docs/B.md", text);

        assert_eq!(check("[a](../A.md) [b](https://example.com/x) [c](mailto:a@b.c)"), []);
        assert_eq!(check("[a](../A.md#a-b-c--d)"), []);
        assert_eq!(check("# Here\n[a](#here)"), []);
        assert_eq!(check("`[a](gone.md)`\n```\n[a](gone.md)\n```\n"), [], "code is not prose");
        assert_eq!(check("x\n[a](../A.md) [b](gone.md)")[0].line, 2);
        assert_eq!(check("[a](../A.md#gone)").len(), 1);
        assert_eq!(check("[a](#gone)").len(), 1);
    }

    #[test]
    fn inventory_is_one_section() {
        let paper = "# P\n`no.rs`\n## 12. Unsafe inventory\n| `a.rs` | why `x` |\n### more\n\
                     - `b.rs`: why\n## Costs\n`no.rs`\n";
        let inventory = Inventory::parse(paper);
        assert!(inventory.lists("a.rs") && inventory.lists("b.rs"));
        assert!(!inventory.lists("no.rs") && !inventory.lists("x"));
    }

    #[test]
    fn stale_entries_are_found() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a.rs"), "unsafe {}").unwrap();
        std::fs::write(root.path().join("b.rs"), "fn safe() {}").unwrap();
        let inventory = Inventory::parse("# Unsafe inventory\n- `a.rs`\n- `b.rs`\n- `c.rs`\n");
        let lines: Vec<usize> =
            inventory.stale_entries(root.path()).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [3, 4]);
    }
}
