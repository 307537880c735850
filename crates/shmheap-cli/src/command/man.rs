//! `shmheap man`: the help texts as manual pages.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::Man;

use crate::Verdict;
use crate::args::Arguments;

/// What stands before the text that a help ends with.
const EXTRA: &str = ".SH EXTRA\n";

pub(crate) fn run(directory: &Path, out: &mut dyn Write) -> Result<Verdict> {
    write_pages(directory)
        .with_context(|| format!("cannot write manual pages to '{}'", directory.display()))?;
    writeln!(out, "wrote the manual pages to '{}'", directory.display())?;
    Ok(Verdict::Fine)
}

fn write_pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    for command in shown.chain([&command]) {
        let page = Man::new(command.clone());
        let mut text = vec![];
        page.render(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        fs::write(directory.join(page.get_filename()), with_tables(&text))?;
    }
    Ok(())
}

/// A page in which paragraphs with tables keep their lines; others are filled to the page's width.
/// So far to the left that the lines fit a terminal as those of the help do.
fn with_tables(page: &str) -> String {
    let Some((before, extra)) = page.split_once(EXTRA) else { return page.to_owned() };
    let (extra, after) = extra.split_at(extra.find(".SH ").unwrap_or(extra.len()));
    let paragraphs = extra.trim_end().split("\n\n").map(|paragraph| {
        let is_table = paragraph.lines().any(|line| line.starts_with("  "));
        if is_table { format!(".nf\n{paragraph}\n.fi") } else { paragraph.to_owned() }
    });
    let extra = paragraphs.collect::<Vec<_>>().join("\n.sp\n");
    format!("{before}{EXTRA}.in 2\n{extra}\n{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_their_lines() {
        let page =
            "NAME\n.SH EXTRA\nlong\ntext\n\nfields:\n  one\n  other\n\nend\n.SH VERSION\n1\n";
        let expected = "NAME\n.SH EXTRA\n.in 2\nlong\ntext\n.sp\n.nf\nfields:\n  one\n  other\n\
                        .fi\n.sp\nend\n.SH VERSION\n1\n";
        assert_eq!(with_tables(page), expected);
        assert_eq!(with_tables("NAME\n"), "NAME\n");
    }
}
