//! What the demo tells: the story as it goes on, then the promises and whether they were kept.

use std::io::{self, Write};
use std::time::Duration;

use console::style;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::output::{self, Table};

/// Width of the first column.
const TITLE_WIDTH: usize = 10;

/// The demo's output.
pub(super) struct Report<'o> {
    out: &'o mut dyn Write,
    promises: Vec<Promise>,
}

/// Something that the demo claims, and whether it is so.
#[derive(Debug)]
struct Promise {
    kept: bool,
    text: String,
}

impl<'o> Report<'o> {
    pub(super) fn new(out: &'o mut dyn Write) -> Self {
        Self { out, promises: Vec::new() }
    }

    /// A title line.
    pub(super) fn title(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}\n", style(text).bold())?;
        self.out.flush()
    }

    /// A step of the story: a word and what happened.
    pub(super) fn step(&mut self, title: &str, text: &str) -> io::Result<()> {
        let padded = format!("{title:<TITLE_WIDTH$}");
        writeln!(self.out, "  {} {text}", style(padded).cyan())?;
        // Workers and the reader share the terminal; nothing waits in a buffer.
        self.out.flush()
    }

    /// Shows on a terminal that something is under way, until the result is cleared.
    #[must_use]
    pub(super) fn busy(&self, text: &str) -> ProgressBar {
        const TICK: Duration = Duration::from_millis(100);
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}") {
            spinner.set_style(style);
        }
        spinner.set_message(text.to_owned());
        spinner.enable_steady_tick(TICK);
        spinner
    }

    /// A step that deserves attention.
    pub(super) fn alarm(&mut self, title: &str, text: &str) -> io::Result<()> {
        let padded = format!("{title:<TITLE_WIDTH$}");
        writeln!(self.out, "  {} {text}", style(padded).red().bold())?;
        self.out.flush()
    }

    /// More about the step before.
    pub(super) fn more(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "  {:TITLE_WIDTH$} {text}", "")?;
        self.out.flush()
    }

    /// A table under the step before.
    pub(super) fn table(&mut self, table: &Table) -> io::Result<()> {
        let mut text = Vec::new();
        table.write(&mut text)?;
        for line in String::from_utf8_lossy(&text).lines() {
            self.more(line)?;
        }
        Ok(())
    }

    /// The last line.
    pub(super) fn end(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "\n{}", style(text).bold())?;
        self.out.flush()
    }

    /// Notes a promise for the end.
    pub(super) fn promise(&mut self, kept: bool, text: String) {
        self.promises.push(Promise { kept, text });
    }

    /// Writes the promises; returns whether all were kept.
    pub(super) fn promises(&mut self) -> io::Result<bool> {
        writeln!(self.out)?;
        for Promise { kept, text } in &self.promises {
            let mark = if *kept { style("ok    ").green() } else { style("BROKEN").red() };
            writeln!(self.out, "  {} {text}", mark.bold())?;
        }
        self.out.flush()?;
        Ok(self.promises.iter().all(|promise| promise.kept))
    }
}

/// How far the workers are: a bar on a terminal, a line at every quarter otherwise.
pub(super) struct Progress {
    bar: ProgressBar,
    words: u64,
    quarters: u64,
}

impl Progress {
    pub(super) fn new(words: u64) -> Self {
        let bar = ProgressBar::new(words);
        let template =
            "  {prefix:10.cyan} {bar:24.cyan/dim} {percent:>3} % of {human_len} words, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix("indexing");
        Self { bar, words, quarters: 0 }
    }

    /// Shows that `words` words are done.
    pub(super) fn show(&mut self, words: u64, report: &mut Report<'_>) -> io::Result<()> {
        if !self.bar.is_hidden() {
            self.bar.set_position(words);
            return Ok(());
        }
        let quarters = words * 4 / self.words.max(1);
        if quarters > self.quarters {
            self.quarters = quarters;
            report.step("indexing", &format!("{} %", 25 * quarters))?;
        }
        Ok(())
    }

    /// Lets something be written above the bar.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// "1.3 million objects/s", "813,000 objects/s".
pub(super) fn rate(count: u64, taken: Duration, noun: &str) -> String {
    let per_second = count as f64 / taken.as_secs_f64().max(1e-9);
    if per_second >= 1e6 {
        format!("{:.1} million {noun}/s", per_second / 1e6)
    } else {
        format!("{} {noun}/s", HumanCount(per_second as u64))
    }
}

/// "3.14 s" or "0.20 ms".
pub(super) fn duration(taken: Duration) -> String {
    let seconds = taken.as_secs_f64();
    if seconds >= 0.1 { format!("{seconds:.2} s") } else { format!("{:.2} ms", 1e3 * seconds) }
}

/// "1 place missing, 2 too many" or "none missing".
pub(super) fn difference(missing: u64, extra: u64) -> String {
    format!("{} missing, {} too many", output::counted(missing, "place"), HumanCount(extra))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_promise_breaks_the_whole() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        report.promise(true, "first".to_owned());
        assert!(report.promises().unwrap());
        report.promise(false, "second".to_owned());
        assert!(!report.promises().unwrap());
        let text = console::strip_ansi_codes(std::str::from_utf8(&out).unwrap()).into_owned();
        assert!(text.ends_with("  ok     first\n  BROKEN second\n"), "{text}");
    }

    #[test]
    fn rates_and_durations_are_short() {
        assert_eq!(rate(2_600_000, Duration::from_secs(2), "objects"), "1.3 million objects/s");
        assert_eq!(rate(10_000, Duration::from_secs(2), "objects"), "5,000 objects/s");
        assert_eq!(duration(Duration::from_millis(3140)), "3.14 s");
        assert_eq!(duration(Duration::from_micros(200)), "0.20 ms");
    }
}
