//! The few elements of SVG that a chart needs, and how they look in light and in dark surroundings.

use std::fmt::Write;

/// Colours by class. The card is opaque, so that the chart is legible on any page.
const STYLE: &str = "
    text { font: 11px -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans',
           sans-serif; fill: #24292f; }
    .heading { font-weight: 600; font-size: 13px; }
    .small { font-size: 10px; }
    .muted { fill: #656d76; }
    .strong { font-weight: 600; }
    .card { fill: #fdfdfc; stroke: #d0d7de; }
    .grid { stroke: #e4e7eb; }
    .axis { stroke: #8c959f; }
    .ours { fill: #d9480f; }
    .shared { fill: #5b7fa6; }
    .private { fill: #b4c3d3; }
    .harness { fill: none; stroke: #8c959f; stroke-dasharray: 2 2; }
    .whisker { stroke: #24292f; stroke-opacity: 0.65; fill: none; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .muted { fill: #9198a1; }
      .card { fill: #151b23; stroke: #3d444d; }
      .grid { stroke: #262c36; }
      .axis { stroke: #656c76; }
      .ours { fill: #f76707; }
      .shared { fill: #5f8fc4; }
      .private { fill: #4a5a6d; }
      .harness { stroke: #656c76; }
      .whisker { stroke: #e6edf3; }
    }
";

/// Where a text stands from its point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A rectangle, its place and its extent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A picture under way.
#[derive(Debug, Default)]
pub(super) struct Svg {
    body: String,
}

impl Svg {
    pub(super) fn rectangle(&mut self, class: &str, area: Area, radius: f64) {
        let Area { x, y, width, height } = area;
        let place = format!(r#"x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}""#);
        self.element(format_args!(r#"<rect class="{class}" {place} rx="{radius}"/>"#));
    }

    /// A line through points; `M`, `L`, `H` and `V` as in SVG.
    pub(super) fn path(&mut self, class: &str, path: &str) {
        self.element(format_args!(r#"<path class="{class}" d="{path}"/>"#));
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let text = escape(text);
        self.element(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}"{anchor}>{text}</text>"#
        ));
    }

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        // A string takes whatever is written.
        let _ = writeln!(self.body, "  {element}");
    }

    /// The whole file, on a card of that size.
    pub(super) fn finish(self, width: f64, height: f64, title: &str) -> String {
        let mut card = Self::default();
        let area = Area { x: 0.5, y: 0.5, width: width - 1.0, height: height - 1.0 };
        card.rectangle("card", area, 8.0);
        let (card, body, title) = (card.body, self.body, escape(title));
        let size = format!(r#"width="{width}" height="{height}" viewBox="0 0 {width} {height}""#);
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">
  <title>{title}</title>
  <style>{STYLE}  </style>
{card}{body}</svg>
"#
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        let mut svg = Svg::default();
        svg.text("muted", (1.0, 2.0), Anchor::End, "a < b & c");
        let text = svg.finish(10.0, 10.0, "x > y");
        assert!(text.contains(r#"y="2.0" text-anchor="end">a &lt; b &amp; c</text>"#), "{text}");
        assert!(text.contains("<title>x &gt; y</title>"));
    }
}
