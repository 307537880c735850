//! The map as a picture: what is drawn where, in pixels, for whatever draws it.
//!
//! ```text
//!   title
//!        |-------- a strip for each row, a pixel for each cell --------|
//!   1 M  |------------------------------------------------------------|
//!   legend
//! ```

use super::raster::Raster;
use super::terminal::describe;
use crate::palette::{self, Rgb};

/// Cells in a row: pixels.
pub(super) const COLUMNS: u64 = 1024;
/// About how many rows.
pub(super) const ROWS: u64 = 32;

const MARGIN: u64 = 24;
const LABELS: u64 = 64;
const STRIP: u64 = 14;
const STRIP_AND_GAP: u64 = 16;
const LINE: u64 = 22;
const SWATCH: u64 = 14;
/// A legend of more lines has two columns.
const LEGEND_LINES: u64 = 8;
const LEGEND_COLUMN: u64 = COLUMNS / 2;

/// Something to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Box {
        x: u64,
        y: u64,
        width: u64,
        height: u64,
        colour: Rgb,
    },
    /// A line of text whose letters stand on `y` and, unless it ends at `x`, begin there.
    Text {
        x: u64,
        y: u64,
        text: String,
        colour: Rgb,
        ends_at_x: bool,
    },
}

/// Shapes on paper of that size.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) width: u64,
    pub(super) height: u64,
    pub(super) shapes: Vec<Shape>,
}

impl Picture {
    pub(super) fn of(raster: &Raster, title: &str) -> Self {
        let mut shapes = vec![text(MARGIN, MARGIN + 14, title, palette::TEXT)];
        let top = MARGIN + 2 * LINE;
        for row in 0..raster.row_count() {
            let y = top + row * STRIP_AND_GAP;
            shapes.push(Shape::Text {
                x: MARGIN + LABELS - 10,
                y: y + STRIP - 2,
                text: raster.address_of_row(row),
                colour: palette::FAINT_TEXT,
                ends_at_x: true,
            });
            strip(raster, row, y, &mut shapes);
        }
        let legend = top + raster.row_count() * STRIP_AND_GAP + LINE;
        let kinds = raster.kinds.len() as u64;
        let lines = if kinds > LEGEND_LINES { kinds.div_ceil(2) } else { LEGEND_LINES };
        for (number, kind) in (0..).zip(&raster.kinds) {
            let x = MARGIN + LABELS + number / lines * LEGEND_COLUMN;
            let y = legend + number % lines * LINE;
            let colour = kind.colour;
            shapes.push(Shape::Box { x, y, width: SWATCH, height: SWATCH, colour });
            let description = describe(raster, kind);
            shapes.push(text(x + SWATCH + 8, y + SWATCH - 2, &description, palette::TEXT));
        }
        let width = LABELS + COLUMNS + 2 * MARGIN;
        let height = legend + lines.min(kinds) * LINE + MARGIN;
        Self { width, height, shapes }
    }
}

fn text(x: u64, y: u64, text: &str, colour: Rgb) -> Shape {
    Shape::Text { x, y, text: text.to_owned(), colour, ends_at_x: false }
}

/// The cells of a row, neighbours of one colour as one box.
fn strip(raster: &Raster, row: u64, y: u64, shapes: &mut Vec<Shape>) {
    let first = row * raster.columns;
    let count = (raster.cell_count() - first).min(raster.columns);
    // Few cells are as wide as many.
    let pixels = COLUMNS / raster.columns;
    let mut start = 0;
    while start < count {
        let colour = colour_of(raster, first + start);
        let same = |&cell: &u64| colour_of(raster, first + cell) == colour;
        let end = start + 1 + (start + 1..count).take_while(same).count() as u64;
        let (x, width) = (MARGIN + LABELS + start * pixels, (end - start) * pixels);
        shapes.push(Shape::Box { x, y, width, height: STRIP, colour });
        start = end;
    }
}

/// What is in a cell, mixed by how much there is of it. What should be seen has half of it at the
/// least.
fn colour_of(raster: &Raster, cell: u64) -> Rgb {
    let bytes = raster.bytes_of(cell) as f64;
    let parts: Vec<_> = raster
        .shares(cell)
        .map(|(kind, share)| {
            let least = if kind.stands_out() { bytes } else { 0.0 };
            (kind.colour, (share as f64).max(least))
        })
        .collect();
    palette::mix(&parts)
}
