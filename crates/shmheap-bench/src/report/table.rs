//! The tables as text, for a terminal.

use std::io::{self, Write};

use super::document::{Document, Row, Sheet, number};
use crate::machine::Machine;
use crate::measure::Spread;

impl Document {
    /// Prints the tables.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.write_preamble(&mut out)?;
        for sheet in &self.tables {
            sheet.write(&mut out)?;
        }
        Ok(())
    }

    fn write_preamble(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.machine_line())?;
        for peer in &self.peers {
            writeln!(out, "  {:<19}  {}", peer.name, peer.description)?;
        }
        writeln!(out, "{}", self.method_line())?;
        writeln!(
            out,
            "In W, an op is one alloc and one free; ratios are taken within each round; cpu is"
        )?;
        writeln!(out, "the part of the processor time due to it that the least lucky worker had.")?;
        writeln!(out, "Workers who outnumber the processors share them.")
    }

    /// What the figures were taken on.
    pub(super) fn machine_line(&self) -> String {
        let Machine { processor, processors, kernel, load } = &self.machine;
        format!("{processor}, {processors} processors, Linux {kernel}, load {load} at start")
    }

    /// How much was done for a figure.
    pub(super) fn method_line(&self) -> String {
        let Self { rounds, measured_ms, .. } = self;
        format!("Medians of {rounds} rounds of {measured_ms} ms, each in fresh processes.")
    }
}

impl Sheet {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\n{}  {}", self.workload, self.title)?;
        if let Some(target) = &self.target {
            writeln!(out, "    target: {target}")?;
        }
        if let Some(taken) = &self.taken {
            writeln!(out, "    taken otherwise: {taken}")?;
        }
        let mut lines = vec![self.header()];
        lines.extend(self.rows.iter().map(|row| self.cells(row)));
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        for (at, line) in lines.iter().enumerate() {
            let padded: Vec<String> = line.iter().zip(&widths).enumerate().map(pad).collect();
            let remark = at.checked_sub(1).and_then(|row| self.rows[row].remark.as_deref());
            let remark = remark.map_or_else(String::new, |why| format!("  {why}"));
            writeln!(out, "    {}", format!("{}{remark}", padded.join("  ")).trim_end())?;
        }
        Ok(())
    }

    pub(super) fn header(&self) -> Vec<String> {
        let mut cells = vec![String::new(), String::new(), self.columns[0].clone()];
        cells.push("min..max".to_owned());
        cells.extend_from_slice(&self.columns[1..]);
        cells.extend(self.baseline.as_ref().map(|name| format!("x {name}")));
        cells.push(String::new());
        cells
    }

    pub(super) fn cells(&self, row: &Row) -> Vec<String> {
        let median =
            |spread: &Option<Spread>| spread.map_or("n/a".to_owned(), |s| number(s.median));
        let range = |spread: Spread| format!("{}..{}", number(spread.min), number(spread.max));
        let mut cells = vec![row.peer.clone(), row.workers.clone()];
        cells.push(median(&row.figures[0]));
        cells.push(row.figures[0].map_or_else(String::new, range));
        cells.extend(row.figures[1..].iter().map(median));
        cells.extend(self.baseline.as_ref().map(|_| median(&row.ratio)));
        let verdict = row.hit.map_or("", |hit| if hit { "hit" } else { "MISS" });
        cells.push(verdict.to_owned());
        cells
    }
}

/// Words to the left, numbers to the right.
fn pad((column, (cell, &width)): (usize, (&String, &usize))) -> String {
    if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sheet;

    #[test]
    fn a_table_is_aligned_and_judged() {
        let mut text = Vec::new();
        sheet().write(&mut text).unwrap();
        let expected = "
W0  nothing: at all
    target: shmheap at most 1.50 x mimalloc
                          ns/op    min..max  more   cpu  x mimalloc
    shmheap a  1 process   28.0   14.0..420   n/a  1.00        1.40   hit
    shmheap b  1 process   32.0  16.0..48.0   n/a  1.00        1.60  MISS
    mimalloc   1 process   20.0  10.0..30.0   n/a  1.00        1.00
    other      1 process    n/a               n/a   n/a         n/a        it cannot
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
