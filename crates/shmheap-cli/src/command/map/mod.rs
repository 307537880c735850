//! `shmheap map`: a heap drawn by address, in the terminal or as a picture.

mod picture;
mod png;
pub(super) mod raster;
mod svg;
pub(super) mod terminal;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use shmheap::{Heap, Policy};

use super::ls::policy_name;
use crate::args::{By, Map};
use crate::output;
use crate::{Verdict, size};
use picture::Picture;
use raster::Raster;

/// Columns of a terminal that does not say how many it has.
const TERMINAL_COLUMNS: u64 = 80;
const TERMINAL_ROWS: u64 = 32;

/// A map as JSON; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Drawn {
    name: String,
    policy: Policy,
    len_bytes: u64,
    cell_bytes: u64,
    kinds: Vec<KindOfBytes>,
    cells: Vec<Vec<u64>>,
}

#[derive(Debug, Serialize)]
struct KindOfBytes {
    label: String,
    used: bool,
    bytes: u64,
    blocks: u64,
}

pub(crate) fn run(arguments: &Map, out: &mut dyn Write) -> Result<Verdict> {
    let heap = arguments.reader.heap.connect_read_only()?;
    if arguments.reader.json {
        let raster = Raster::of(&heap, arguments.by, picture::COLUMNS, picture::ROWS);
        output::json(out, &drawn(arguments, &heap, &raster))?;
        return Ok(Verdict::Fine);
    }
    if arguments.svg.is_none() && arguments.png.is_none() {
        write(out, arguments, &heap)?;
        return Ok(Verdict::Fine);
    }
    let raster = Raster::of(&heap, arguments.by, picture::COLUMNS, picture::ROWS);
    let picture = Picture::of(&raster, &title(arguments, &heap));
    if let Some(path) = &arguments.svg {
        to_file(path, |file| Ok(svg::write(file, &picture)?))?;
    }
    if let Some(path) = &arguments.png {
        to_file(path, |file| Ok(png::write(file, &picture)?))?;
    }
    Ok(Verdict::Fine)
}

fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let context = || format!("cannot write '{}'", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(context)?);
    write(&mut file).and_then(|()| Ok(file.flush()?)).with_context(context)
}

fn title(arguments: &Map, heap: &Heap) -> String {
    let info = heap.info();
    let by = match arguments.by {
        By::Live => "what lives",
        By::Class => "objects by size",
        By::Owner => "objects by owner",
    };
    let name = arguments.reader.heap.to_string();
    let (name, len) = (name.escape_debug(), size::long(info.len_bytes));
    format!("{name}, {}, {len}: {by}", policy_name(info.policy))
}

fn write(out: &mut dyn Write, arguments: &Map, heap: &Heap) -> Result<()> {
    let term = console::Term::stdout();
    let width = if term.is_term() { term.size().1.into() } else { TERMINAL_COLUMNS };
    // The largest power of two that fits.
    let columns = 1 << width.saturating_sub(terminal::MARGIN).max(8).ilog2();
    let raster = Raster::of(heap, arguments.by, columns, TERMINAL_ROWS);
    writeln!(out, "{}", console::style(title(arguments, heap)).bold())?;
    terminal::write(out, &raster, console::colors_enabled())?;
    Ok(())
}

fn drawn(arguments: &Map, heap: &Heap, raster: &Raster) -> Drawn {
    let kinds = raster.kinds.iter().map(|kind| KindOfBytes {
        label: kind.label.clone(),
        used: kind.is_used(),
        bytes: kind.bytes,
        blocks: kind.blocks,
    });
    Drawn {
        name: arguments.reader.heap.to_string(),
        policy: heap.info().policy,
        len_bytes: raster.len_bytes,
        cell_bytes: raster.cell_bytes,
        kinds: kinds.collect(),
        cells: (0..raster.cell_count()).map(|cell| raster.counts(cell)).collect(),
    }
}
