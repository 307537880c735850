//! Charts: a panel for each table, a bar for each peer, as SVG.
//!
//! | module | gives |
//! |---|---|
//! | `svg` | elements and colours |
//! | `scale` | linear and logarithmic axes |
//! | `panel` | one table as bars |
//!
//! Written out by hand: a plotting library draws one plot well, but what is needed here is many
//! small ones that follow the reader's light or dark theme, and that is style sheets and text.

mod panel;
mod scale;
mod svg;

use std::path::Path;

use anyhow::Result;

use super::document::{Document, Row, save};
use crate::peer::Sharing;
use panel::Panel;
use svg::{Anchor, Area, Svg};

const PANEL_WIDTH: f64 = 388.0;
const MARGIN: f64 = 20.0;
const GUTTER: f64 = 26.0;
const HEAD_HEIGHT: f64 = 62.0;
const FOOT_HEIGHT: f64 = 34.0;
const COLUMNS: usize = 2;

/// Who a peer is to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Ours,
    /// Allocators of memory that processes share.
    Shared,
    /// Allocators of the memory of one process: what sharing costs.
    Private,
    /// Never frees, so it is none: what the harness costs.
    Harness,
}

impl Family {
    const LEGEND: [(Self, &'static str); 4] = [
        (Self::Ours, "shmheap"),
        (Self::Shared, "others in shared memory"),
        (Self::Private, "memory of one process only"),
        (Self::Harness, "the harness itself"),
    ];

    fn class(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Harness => "harness",
        }
    }
}

impl Document {
    /// Whom a row is about.
    pub(super) fn family(&self, peer: &str) -> Family {
        let known = self.peers.iter().find(|known| known.name == peer);
        if peer.starts_with("shmheap") {
            Family::Ours
        } else if peer.starts_with("bump") || peer == "futex" {
            Family::Harness
        } else if known.is_some_and(|known| known.sharing == Sharing::Threads) {
            Family::Private
        } else {
            Family::Shared
        }
    }

    /// Draws everything into a file.
    pub(crate) fn write_chart(&self, path: &Path) -> Result<()> {
        save(path, &self.chart())
    }

    /// A chart of everything.
    pub(super) fn chart(&self) -> String {
        let panels = self.tables.iter().map(|sheet| Panel::new(self, sheet, |_| true));
        self.draw(&panels.collect::<Vec<_>>(), &Family::LEGEND)
    }

    /// A chart of what a first look needs: the tables of a summary, without variants of peers, and
    /// without rows that only say why they are empty.
    pub(super) fn summary_chart(&self) -> String {
        let wanted = |row: &Row| self.is_of_summary(&row.peer) && row.main_figure().is_some();
        let panels = self.summary().map(|sheet| Panel::new(self, sheet, wanted));
        self.draw(&panels.collect::<Vec<_>>(), &Family::LEGEND[..3])
    }

    fn draw(&self, panels: &[Panel<'_>], legend: &[(Family, &str)]) -> String {
        let mut svg = Svg::default();
        let columns = COLUMNS as f64;
        let width = 2.0 * MARGIN + columns * PANEL_WIDTH + (columns - 1.0) * GUTTER;
        draw_head(&mut svg, legend);
        let mut y = HEAD_HEIGHT + MARGIN;
        for row in panels.chunks(COLUMNS) {
            for (column, panel) in row.iter().enumerate() {
                let x = MARGIN + column as f64 * (PANEL_WIDTH + GUTTER);
                let height = panel.height();
                panel.draw(&mut svg, Area { x, y, width: PANEL_WIDTH, height });
            }
            y += row.iter().map(Panel::height).fold(0.0, f64::max) + GUTTER;
        }
        let height = y - GUTTER + FOOT_HEIGHT;
        let machine = self.machine_line();
        svg.text("small muted", (MARGIN, height - 13.0), Anchor::Start, &machine);
        svg.finish(width, height, "shmheap and other allocators, side by side")
    }
}

fn draw_head(svg: &mut Svg, legend: &[(Family, &str)]) {
    /// Of a character of the legend, on average.
    const CHAR_WIDTH: f64 = 6.0;
    const GAP: f64 = 16.0;
    let title = "shmheap and other allocators, side by side";
    svg.text("heading", (MARGIN, 28.0), Anchor::Start, title);
    let mut x = MARGIN;
    for (family, text) in legend {
        svg.rectangle(family.class(), Area { x, y: 43.0, width: 14.0, height: 10.0 }, 1.5);
        svg.text("", (x + 19.0, 52.0), Anchor::Start, text);
        x += 19.0 + CHAR_WIDTH * text.len() as f64 + GAP;
    }
    let (top, middle, bottom, end) = (45.0, 48.0, 51.0, x + 14.0);
    svg.path("whisker", &format!("M{x} {top}V{bottom}M{x} {middle}H{end}M{end} {top}V{bottom}"));
    svg.text("", (x + 19.0, 52.0), Anchor::Start, "all rounds, the bar to their median");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::document;

    #[test]
    fn every_peer_has_its_bar() {
        let document = document();
        let chart = document.chart();
        for (class, count) in [("ours", 2), ("private", 1), ("shared", 0)] {
            let bars = chart.matches(&format!(r#"<rect class="{class}""#)).count();
            assert_eq!(bars, count + 1, "{class}, and its place in the legend");
        }
        assert!(chart.contains(">n/a: it cannot</text>"), "{chart}");
        assert_eq!(document.family("other"), Family::Shared);
    }
}
