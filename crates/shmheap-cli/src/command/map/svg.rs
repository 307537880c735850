//! A picture as SVG.

use std::io::{self, Write};

use super::picture::{Picture, Shape};
use crate::palette::{self, Rgb};

pub(super) fn write(out: &mut dyn Write, picture: &Picture) -> io::Result<()> {
    let Picture { width, height, shapes } = picture;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" shape-rendering=\"crispEdges\" \
         font-family=\"'Noto Sans Mono', 'DejaVu Sans Mono', monospace\" font-size=\"13\">"
    )?;
    writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"{}\"/>", hex(palette::PAPER))?;
    for shape in shapes {
        match shape {
            Shape::Box { x, y, width, height, colour } => writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{}\"/>",
                hex(*colour)
            )?,
            Shape::Text { x, y, text, colour, ends_at_x } => {
                let anchor = if *ends_at_x { " text-anchor=\"end\"" } else { "" };
                let (fill, text) = (hex(*colour), escaped(text));
                writeln!(out, "<text x=\"{x}\" y=\"{y}\" fill=\"{fill}\"{anchor}>{text}</text>")?;
            }
        }
    }
    writeln!(out, "</svg>")
}

fn hex(Rgb(red, green, blue): Rgb) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Text as XML has it.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        assert_eq!(escaped("a<b>&\"'"), "a&lt;b&gt;&amp;\"'");
    }
}
