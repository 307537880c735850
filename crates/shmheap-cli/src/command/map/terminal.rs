//! The map as text: a character for each cell, in colours or, without them, in letters.
//!
//! In colours the colour tells the kind and the character how much of the cell is used; in letters
//! the letter tells the kind that has most of it. Objects that should be seen are seen, however
//! small they are in their cell.

use std::io::{self, Write};

use super::raster::{Kind, Raster};
use crate::{output, size};

/// Room for an address at the start of each line.
pub(super) const MARGIN: u64 = 8;
const FULL: char = '\u{2588}';

pub(super) fn write(out: &mut dyn Write, raster: &Raster, in_colours: bool) -> io::Result<()> {
    for row in 0..raster.row_count() {
        let address = raster.address_of_row(row);
        let cells = joined(signs(raster, row, in_colours));
        writeln!(out, "{} {cells}", console::style(format!("{address:>6}")).dim())?;
    }
    writeln!(out)?;
    let cell = format!("a character is {}", size::short(raster.cell_bytes));
    writeln!(out, "{:7}{}", "", console::style(cell).dim())?;
    for kind in &raster.kinds {
        writeln!(out, "{:7}{}", "", legend(raster, kind, in_colours))?;
    }
    Ok(())
}

/// A character and its looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::command) enum Sign {
    Plain(char),
    Dim(char),
    Coloured(char, u8),
}

/// The characters of a row.
pub(in crate::command) fn signs(
    raster: &Raster,
    row: u64,
    in_colours: bool,
) -> impl Iterator<Item = Sign> {
    let first = row * raster.columns;
    let last = (first + raster.columns).min(raster.cell_count());
    (first..last).map(move |cell| sign(raster, cell, in_colours))
}

/// Neighbours of the same looks are told of these once.
fn joined(signs: impl Iterator<Item = Sign>) -> String {
    let signs: Vec<Sign> = signs.collect();
    let runs = signs.chunk_by(|one, other| match (one, other) {
        (Sign::Coloured(_, one), Sign::Coloured(_, other)) => one == other,
        (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
    });
    let run = |run: &[Sign]| {
        let character = |sign: &Sign| match *sign {
            Sign::Plain(char) | Sign::Dim(char) | Sign::Coloured(char, _) => char,
        };
        let text: String = run.iter().map(character).collect();
        match run[0] {
            Sign::Plain(_) => text,
            Sign::Dim(_) => console::style(text).dim().to_string(),
            Sign::Coloured(_, colour) => console::style(text).color256(colour).to_string(),
        }
    };
    runs.map(run).collect()
}

fn sign(raster: &Raster, cell: u64, in_colours: bool) -> Sign {
    let used: u64 = raster.shares(cell).filter(|(kind, _)| kind.is_used()).map(|(_, n)| n).sum();
    let rank = |kind: &Kind, bytes: u64| (kind.stands_out(), kind.is_used(), bytes);
    let main = raster.shares(cell).max_by_key(|&(kind, bytes)| rank(kind, bytes));
    let Some((kind, _)) = main else { return Sign::Plain(' ') };
    if !in_colours {
        let is_partly = kind.is_plain() && used < raster.bytes_of(cell);
        return Sign::Plain(if is_partly { '+' } else { kind.glyph });
    }
    let shade = match used * 8 / raster.bytes_of(cell).max(1) {
        _ if kind.stands_out() => FULL,
        8 => FULL,
        5..8 => '\u{2593}',
        2..5 => '\u{2592}',
        _ => '\u{2591}',
    };
    in_colour(kind, shade)
}

fn in_colour(kind: &Kind, shade: char) -> Sign {
    match kind.glyph {
        _ if kind.is_used() => Sign::Coloured(shade, kind.colour.of_256()),
        '.' => Sign::Dim('\u{b7}'),
        glyph => Sign::Dim(glyph),
    }
}

fn legend(raster: &Raster, kind: &Kind, in_colours: bool) -> String {
    let sign = match in_colours {
        true => joined([in_colour(kind, FULL)].into_iter()),
        false if kind.is_plain() => "# +".to_owned(),
        false => kind.glyph.to_string(),
    };
    let partly = if kind.is_plain() && !in_colours { ", in all or part of it" } else { "" };
    let sign = console::pad_str(&sign, 3, console::Alignment::Left, None);
    format!("{sign} {}{partly}", describe(raster, kind))
}

/// A kind in words: what it is, and how much there is of it.
pub(super) fn describe(raster: &Raster, kind: &Kind) -> String {
    let share = output::percent(kind.bytes, raster.len_bytes);
    let amount = format!("{} ({share} %)", size::long(kind.bytes));
    match kind.blocks {
        0 => format!("{}: {amount}", kind.label),
        blocks if kind.is_used() => {
            format!("{}: {amount} in {}", kind.label, output::counted(blocks, "object"))
        }
        blocks => format!("{}: {amount} in {}", kind.label, output::counted(blocks, "block")),
    }
}
