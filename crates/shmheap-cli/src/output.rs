//! How answers look: aligned tables, ages, JSON, and the one line of an error.

use std::ffi::OsStr;
use std::io::{self, Write};

use anyhow::Result;
use console::{Alignment, pad_str};
use serde::Serialize;

/// Rows under a header, columns as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    alignments: Vec<Alignment>,
    gap: &'static str,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Columns by title; a title that starts with '>' makes a column of numbers, aligned right.
    pub(crate) fn new(titles: &[&str]) -> Self {
        let alignments = titles
            .iter()
            .map(|title| if title.starts_with('>') { Alignment::Right } else { Alignment::Left })
            .collect();
        let header = titles.iter().map(|title| title.trim_start_matches('>').to_owned()).collect();
        Self { alignments, gap: "  ", rows: vec![header] }
    }

    /// Puts columns as close together as possible, for a table of many.
    pub(crate) fn dense(self) -> Self {
        Self { gap: " ", ..self }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| console::measure_text_width(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.alignments.len()).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&self.alignments).zip(&widths);
            let line: Vec<_> =
                cells.map(|((cell, &side), &width)| pad_str(cell, width, side, None)).collect();
            let line = line.join(self.gap);
            if number == 0 {
                writeln!(out, "{}", console::style(line.trim_end()).bold())?;
            } else {
                writeln!(out, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }
}

/// One `title    value` line of a description.
pub(crate) fn field(
    out: &mut dyn Write,
    title: &str,
    value: impl std::fmt::Display,
) -> io::Result<()> {
    writeln!(out, "{} {value}", console::style(format!("{title:<12}")).dim())
}

/// Breaks a text that starts in column `indent` between words, so that it fits the terminal; leaves
/// it in one line where there is no terminal.
pub(crate) fn wrapped(text: &str, indent: usize) -> String {
    let terminal = console::Term::stdout();
    let width = if terminal.is_term() { terminal.size().1.into() } else { usize::MAX };
    wrap(text, indent, width)
}

fn wrap(text: &str, indent: usize, width: usize) -> String {
    let mut lines = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        let letters = console::measure_text_width(word);
        if column > indent && column + 1 + letters > width {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if column > indent {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += letters;
    }
    lines
}

/// A text of others, with nothing in it that a terminal would take for a command. Different texts
/// stay different: bytes that are no UTF-8 are told one by one, and backslashes are doubled.
pub(crate) fn plain(text: &(impl AsRef<OsStr> + ?Sized)) -> String {
    let quoted = format!("{:?}", text.as_ref());
    let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.unwrap_or(&quoted).replace("\\\"", "\"")
}

/// Pretty JSON and a newline.
pub(crate) fn json(out: &mut dyn Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// JSON in one line, for what is read line by line, or would be many lines of small numbers.
pub(crate) fn json_line(out: &mut dyn Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// The age of something made at `since_unix_ns`, in its largest unit: `3s`, `5m`, `7h`, `12d`.
pub(crate) fn age(since_unix_ns: u64, now_unix_ns: u64) -> String {
    let seconds = now_unix_ns.saturating_sub(since_unix_ns) / 1_000_000_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now_unix_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// `part` of `whole` in percent, rounded down; nothing of nothing is 0.
pub(crate) fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100).checked_div(u128::from(whole)).unwrap_or(0) as u64
}

/// "1 object", "2 objects", "1,234 objects".
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", indicatif::HumanCount(count))
}

/// An error and its causes in one line. The texts of the library's errors hold their causes.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut texts = Vec::new();
    for cause in error.chain() {
        texts.push(cause.to_string());
        if cause.is::<shmheap::Error>() {
            break;
        }
    }
    texts.join(": ")
}

/// Whether nobody reads our output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["NAME", ">SIZE", "NOTE"]);
        table.row(vec!["a".into(), "1".into(), String::new()]);
        table.row(vec!["longer".into(), "12345".into(), "x".into()]);
        let mut text = Vec::new();
        table.write(&mut text).unwrap();
        let text = console::strip_ansi_codes(std::str::from_utf8(&text).unwrap()).into_owned();
        assert_eq!(text, "NAME     SIZE  NOTE\na           1\nlonger  12345  x\n");
    }

    #[test]
    fn long_texts_break_between_words() {
        assert_eq!(wrap("one two three", 2, usize::MAX), "one two three");
        assert_eq!(wrap("one two three", 2, 9), "one two\n  three");
        assert_eq!(wrap("one two three", 2, 8), "one\n  two\n  three");
        assert_eq!(wrap("unbreakable", 2, 5), "unbreakable");
    }

    #[test]
    fn texts_of_others_command_no_terminal_and_stay_different() {
        assert_eq!(plain("it's \u{1b}[2J\n"), "it's \\u{1b}[2J\\n");
        assert_eq!(plain("\u{202e}\"ä 漢\"\\\""), "\\u{202e}\"ä 漢\"\\\\\"");
        let bytes = |bytes| plain(OsStr::from_bytes(bytes));
        let names = [&b"\xff"[..], b"\xfe", b"\\xFF", "\u{fffd}".as_bytes()].map(bytes);
        assert_eq!(names, ["\\xFF", "\\xFE", "\\\\xFF", "\u{fffd}"]);
        assert_eq!(plain(""), "");
    }

    #[test]
    fn ages_use_one_unit() {
        let second = 1_000_000_000;
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (90_000, "1d")] {
            assert_eq!(age(5, 5 + seconds * second), text);
        }
        assert_eq!(age(9, 5), "0s", "clocks may go back");
    }

    #[test]
    fn percent_of_anything() {
        assert_eq!(percent(0, 0), 0);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
        assert_eq!(percent(1, 3), 33);
    }

    #[test]
    fn an_error_is_told_once() {
        let error = shmheap::Error::NotFound { name: "x".into() };
        let told = error.to_string();
        let error = anyhow::Error::from(error).context("worker 1");
        assert_eq!(one_line(&error), format!("worker 1: {told}"));
    }
}
