//! A picture as PNG: pixels drawn directly, letters from a font of bitmaps.

use std::io::{self, Write};

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::picture::{Picture, Shape};
use crate::palette::{self, Rgb};

const WEIGHT: FontWeight = FontWeight::Regular;
const HEIGHT: RasterHeight = RasterHeight::Size16;
/// From the top of a letter's bitmap to the line that it stands on.
const ASCENT: u64 = 13;
const BYTES_PER_PIXEL: usize = 3;

pub(super) fn write(out: &mut dyn Write, picture: &Picture) -> io::Result<()> {
    let mut canvas = Canvas::new(picture.width as usize, picture.height as usize);
    for shape in &picture.shapes {
        canvas.draw(shape);
    }
    let mut encoder = png::Encoder::new(out, picture.width as u32, picture.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&canvas.bytes)?;
    writer.finish()?;
    Ok(())
}

#[derive(Debug)]
struct Canvas {
    width: usize,
    bytes: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        let Rgb(red, green, blue) = palette::PAPER;
        Self { width, bytes: [red, green, blue].repeat(width * height) }
    }

    fn draw(&mut self, shape: &Shape) {
        match shape {
            Shape::Box { x, y, width, height, colour } => {
                for y in *y..y + height {
                    (*x..x + width).for_each(|x| self.blend(x, y, *colour, u8::MAX));
                }
            }
            Shape::Text { x, y, text, colour, ends_at_x } => {
                let letter_width = get_raster_width(WEIGHT, HEIGHT) as u64;
                let text_width = letter_width * text.chars().count() as u64;
                let start = if *ends_at_x { x.saturating_sub(text_width) } else { *x };
                let top = y.saturating_sub(ASCENT);
                for (x, letter) in (start..).step_by(letter_width as usize).zip(text.chars()) {
                    self.letter(x, top, letter, *colour);
                }
            }
        }
    }

    fn letter(&mut self, left: u64, top: u64, letter: char, colour: Rgb) {
        let drawn = get_raster(letter, WEIGHT, HEIGHT);
        let Some(drawn) = drawn.or_else(|| get_raster('?', WEIGHT, HEIGHT)) else { return };
        for (y, row) in (top..).zip(drawn.rows()) {
            for (x, &opacity) in (left..).zip(row.iter()) {
                self.blend(x, y, colour, opacity);
            }
        }
    }

    fn blend(&mut self, x: u64, y: u64, colour: Rgb, opacity: u8) {
        let (x, y) = (x as usize, y as usize);
        let first = (y * self.width + x) * BYTES_PER_PIXEL;
        let pixel = self.bytes.get_mut(first..first + BYTES_PER_PIXEL);
        if let Some([red, green, blue]) = pixel.filter(|_| x < self.width) {
            let weight = f64::from(opacity) / f64::from(u8::MAX);
            let before = Rgb(*red, *green, *blue);
            let after = palette::mix(&[(before, 1.0 - weight), (colour, weight)]);
            (*red, *green, *blue) = (after.0, after.1, after.2);
        }
    }
}
