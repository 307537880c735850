//! Rules for files as rows of lines, whatever the language.

use super::Finding;

const FILE_LINES_MAX: usize = 500;
const LINE_CHARS_MAX: usize = 100;

/// Comments that put work off: it is done, or it stands in the issue tracker.
const MARKERS: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// First folders of paths that exist on one person's machine only.
const LOCAL_ROOTS: [&str; 4] = ["home", "root", "work", "Users"];

const SOURCE_EXTENSIONS: [&str; 6] = ["rs", "c", "h", "cpp", "hpp", "py"];
const TEXT_EXTENSIONS: [&str; 7] = ["toml", "md", "sh", "in", "yml", "yaml", "cmake"];

pub(super) fn check(file: &str, content: &str) -> Vec<Finding> {
    let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_source = SOURCE_EXTENSIONS.contains(&extension);
    let is_text = is_source || TEXT_EXTENSIONS.contains(&extension) || file.starts_with(".ci/");
    let mut findings = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let rules = [
            is_source.then(|| length(line)).flatten(),
            is_source.then(|| marker(line)).flatten(),
            is_text.then(|| white_space(line)).flatten(),
            local_path(line),
        ];
        findings
            .extend(rules.into_iter().flatten().map(|rule| Finding::new(file, index + 1, rule)));
    }
    let line_count = content.lines().count();
    if is_source && line_count > FILE_LINES_MAX {
        let rule = format!("the file has {line_count} lines, more than {FILE_LINES_MAX}: split it");
        findings.push(Finding::new(file, line_count, rule));
    }
    findings
}

fn length(line: &str) -> Option<String> {
    let chars = line.chars().count();
    (chars > LINE_CHARS_MAX)
        .then(|| format!("the line has {chars} characters, more than {LINE_CHARS_MAX}"))
}

fn marker(line: &str) -> Option<String> {
    let starts = ["//", "/*", "#", " * "];
    let comment = starts.iter().filter_map(|start| line.find(start)).min()?;
    let mut words = line[comment..].split(|c: char| !c.is_alphanumeric());
    let word = words.find(|word| MARKERS.contains(word))?;
    Some(format!("{word}: do it now, or file an issue and take the comment out"))
}

fn white_space(line: &str) -> Option<String> {
    if line.contains('\t') {
        return Some("a tab: indent with spaces".to_owned());
    }
    (line.trim_end() != line).then(|| "white space at the end of the line".to_owned())
}

fn local_path(line: &str) -> Option<String> {
    let root = LOCAL_ROOTS.iter().find(|root| {
        let path = format!("/{root}/");
        line.match_indices(&path).any(|(at, _)| starts_a_path(&line[..at]))
    })?;
    Some(format!("a path under /{root} exists on one machine only: make it relative"))
}

/// Whether a slash after `before` begins an absolute path.
fn starts_a_path(before: &str) -> bool {
    let last = before.chars().next_back();
    last.is_none_or(|c| !c.is_alphanumeric() && !"._-~/})]*>".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(file: &str, content: &str) -> Vec<(usize, String)> {
        check(file, content).into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn a_clean_file_passes() {
        assert_eq!(rules("a.rs", "//! Story.\n\nfn main() {}\n"), []);
    }

    #[test]
    fn long_lines_and_files_are_found() {
        let line = format!("{}\n", "é".repeat(LINE_CHARS_MAX + 1));
        assert_eq!(rules("a.c", &line)[0].0, 1);
        assert_eq!(rules("a.md", &line), [], "papers may have wide tables");
        let exact = format!("{}\n", "é".repeat(LINE_CHARS_MAX)).repeat(FILE_LINES_MAX);
        assert_eq!(rules("a.rs", &exact), [], "characters count, not bytes");
        assert_eq!(rules("a.rs", &format!("{exact}\n"))[0].0, FILE_LINES_MAX + 1);
    }

    #[test]
    fn markers_count_in_comments_only() {
        let marker = MARKERS[0];
        for line in [format!("x(); // {marker} later"), format!("/* {marker}: later */")] {
            assert_eq!(rules("a.c", &line).len(), 1, "{line}");
        }
        assert_eq!(rules("a.rs", &format!("let a = \"{marker}\";")), []);
        assert_eq!(rules("a.c", "char name[] = \"heap-XXXXXX\"; /* mkstemp */"), []);
    }

    #[test]
    fn white_space_is_found() {
        assert_eq!(rules("a.toml", "a = 1 \n\tb = 2\n").len(), 2);
        assert_eq!(rules("a.txt", "a \n\tb\n"), [], "data is left alone");
    }

    #[test]
    fn local_paths_are_found_in_every_file() {
        for root in LOCAL_ROOTS {
            let line = format!("see /{root}/somebody/notes");
            assert_eq!(rules("a.txt", &line).len(), 1, "{line}");
            assert_eq!(rules("a.txt", &format!("https://example.com/{root}/a ../{root}/b")), []);
        }
    }
}
