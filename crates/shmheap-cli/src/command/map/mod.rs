//! `shmheap map`: a heap drawn by address, in the terminal or as a picture.

mod file;
mod picture;
mod png;
pub(super) mod raster;
mod svg;
pub(super) mod terminal;

use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use shmheap::{Error, Heap, Policy};

use super::ls::policy_name;
use crate::args::{By, Map};
use crate::output;
use crate::{Verdict, size};
use file::NewFile;
use picture::Picture;
use raster::Raster;

/// Columns of a terminal that does not say how many it has.
const TERMINAL_COLUMNS: u64 = 80;
const TERMINAL_ROWS: u64 = 32;
/// Some thousand cells: programs that want to know more look at blocks.
const JSON_COLUMNS: u64 = 128;
const JSON_ROWS: u64 = 32;

/// A map as JSON; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Drawn {
    name: String,
    policy: Policy,
    len_bytes: u64,
    cell_bytes: u64,
    kinds: Vec<KindOfBytes>,
    runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct KindOfBytes {
    kind: &'static str,
    max_size_bytes: Option<u64>,
    slot: Option<u16>,
    tag: Option<String>,
    label: String,
    used: bool,
    bytes: u64,
    blocks: u64,
}

/// Neighbouring cells in which there is the same.
#[derive(Debug, Serialize)]
struct Run {
    cells: u64,
    /// Of each kind, in each cell.
    bytes: Vec<u64>,
}

pub(crate) fn run(arguments: &Map, out: &mut dyn Write) -> Result<Verdict> {
    let heap = arguments.reader.heap.connect_read_only()?;
    if arguments.by == By::Tag && !heap.info().has_labels {
        return Err(Error::NotLabelled.into());
    }
    let raster = |columns, rows| Raster::of(&heap, arguments.by, columns, rows);
    if arguments.reader.json {
        let drawn = drawn(arguments, &heap, &raster(JSON_COLUMNS, JSON_ROWS));
        output::json_line(out, &drawn)?;
    } else if arguments.svg.is_none() && arguments.png.is_none() {
        let raster = raster(terminal_columns(), TERMINAL_ROWS);
        writeln!(out, "{}", console::style(title(arguments, &heap)).bold())?;
        terminal::write(out, &raster, console::colors_enabled())?;
    } else {
        let raster = raster(picture::COLUMNS, picture::ROWS);
        to_files(arguments, &Picture::of(&raster, &title(arguments, &heap)))?;
    }
    Ok(Verdict::Fine)
}

/// Both files, or none.
fn to_files(arguments: &Map, picture: &Picture) -> Result<()> {
    let mut svg = arguments.svg.as_deref().map(NewFile::create).transpose()?;
    let mut png = arguments.png.as_deref().map(NewFile::create).transpose()?;
    if let Some(file) = &mut svg {
        file.write(|out| svg::write(out, picture))?;
    }
    if let Some(file) = &mut png {
        file.write(|out| png::write(out, picture))?;
    }
    [svg, png].into_iter().flatten().for_each(NewFile::keep);
    Ok(())
}

fn title(arguments: &Map, heap: &Heap) -> String {
    let info = heap.info();
    let by = match arguments.by {
        By::Live => "what lives",
        By::Class => "objects by size",
        By::Owner => "objects by owner",
        By::Tag => "objects by tag",
    };
    let (name, len) = (arguments.reader.heap.plain(), size::long(info.len_bytes));
    format!("{name}, {}, {len}: {by}", policy_name(info.policy))
}

/// The largest power of two that fits.
fn terminal_columns() -> u64 {
    let term = console::Term::stdout();
    let width = if term.is_term() { term.size().1.into() } else { TERMINAL_COLUMNS };
    1 << width.saturating_sub(terminal::MARGIN).max(8).ilog2()
}

fn drawn(arguments: &Map, heap: &Heap, raster: &Raster) -> Drawn {
    let kinds = raster.kinds.iter().map(|kind| KindOfBytes {
        kind: kind.word(),
        max_size_bytes: kind.max_size_bytes(),
        slot: kind.slot(),
        tag: kind.tag().map(|tag| heap.tag_name(tag)),
        label: kind.label.clone(),
        used: kind.is_used(),
        bytes: kind.bytes,
        blocks: kind.blocks,
    });
    let mut runs: Vec<Run> = vec![];
    for bytes in (0..raster.cell_count()).map(|cell| raster.counts(cell)) {
        match runs.last_mut() {
            Some(run) if run.bytes == bytes => run.cells += 1,
            _ => runs.push(Run { cells: 1, bytes }),
        }
    }
    Drawn {
        name: arguments.reader.heap.to_string(),
        policy: heap.info().policy,
        len_bytes: raster.len_bytes,
        cell_bytes: raster.cell_bytes,
        kinds: kinds.collect(),
        runs,
    }
}
