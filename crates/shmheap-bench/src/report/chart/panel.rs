//! A panel: one table as bars, the best at the top.
//!
//! ```text
//!   W1 · churn                              heading
//!   10,000 live objects of 16-512 B         what was done
//!   ns/op, lower is better                  the figure, its direction, its scale
//!             |      |      |
//!   a peer ===|====|-+--|   | 20.5          bar to the median, whisker from least to most
//!   another ==|==    |      | 12.2
//!             0     10     20
//! ```

use super::Family;
use super::scale::{Scale, short};
use super::svg::{Anchor, Area, Svg};
use crate::measure::Spread;
use crate::report::document::{Document, Row, Sheet};

const HEAD_HEIGHT: f64 = 54.0;
const ROW_HEIGHT: f64 = 17.0;
const BAR_HEIGHT: f64 = 11.0;
const FOOT_HEIGHT: f64 = 18.0;
/// Room for the names at the left, and for the figures at the right.
const NAMES_WIDTH: f64 = 122.0;
const FIGURES_WIDTH: f64 = 44.0;
/// How far beyond the longest bar a whisker may reach before it is cut to an arrow.
const WHISKER_RATIO: f64 = 1.25;
/// About as many characters as a panel has room for, in the line below its heading.
const LINE_CHARS: usize = 68;

/// A table and those of its rows that are shown.
#[derive(Debug)]
pub(super) struct Panel<'d> {
    sheet: &'d Sheet,
    rows: Vec<(&'d Row, Family)>,
}

impl<'d> Panel<'d> {
    /// All rows that are `wanted`, the best first, those without a figure last.
    pub(super) fn new(
        document: &'d Document,
        sheet: &'d Sheet,
        wanted: impl Fn(&Row) -> bool,
    ) -> Self {
        let rows = sheet.rows.iter().filter(|row| wanted(row));
        let mut rows: Vec<_> = rows.map(|row| (row, document.family(&row.peer))).collect();
        let sign = if sheet.is_higher_better() { -1.0 } else { 1.0 };
        let key = |row: &Row| row.main_figure().map_or(f64::INFINITY, |main| sign * main.median);
        rows.sort_by(|(one, _), (other, _)| key(one).total_cmp(&key(other)));
        Self { sheet, rows }
    }

    pub(super) fn height(&self) -> f64 {
        HEAD_HEIGHT + self.rows.len() as f64 * ROW_HEIGHT + FOOT_HEIGHT
    }

    /// Draws it into the area, of which it takes the upper part.
    pub(super) fn draw(&self, svg: &mut Svg, area: Area) {
        let scale = self.scale();
        self.draw_head(svg, area, scale);
        let plot = Area {
            x: area.x + NAMES_WIDTH,
            y: area.y + HEAD_HEIGHT,
            width: area.width - NAMES_WIDTH - FIGURES_WIDTH,
            height: self.rows.len() as f64 * ROW_HEIGHT,
        };
        draw_grid(svg, plot, scale);
        for (at, (row, family)) in self.rows.iter().enumerate() {
            let y = plot.y + at as f64 * ROW_HEIGHT;
            let name_class = if *family == Family::Ours { "strong" } else { "" };
            svg.text(name_class, (plot.x - 6.0, y + 12.5), Anchor::End, &row.peer);
            let line = Area { y, height: ROW_HEIGHT, ..plot };
            match row.main_figure() {
                Some(spread) => draw_bar(svg, line, scale, spread, *family),
                None => {
                    let why = row.remark.as_deref();
                    let why = why.map_or("n/a".to_owned(), |why| format!("n/a: {why}"));
                    let why = shortened(&why, 46);
                    svg.text("small muted", (plot.x + 5.0, y + 12.0), Anchor::Start, &why);
                }
            }
        }
        let (top, bottom) = (plot.y, plot.y + plot.height);
        svg.path("axis", &format!("M{:.1} {top:.1}V{bottom:.1}", plot.x));
    }

    /// For the medians, and for whiskers that do not reach far beyond them.
    fn scale(&self) -> Scale {
        let spreads = |of_harness: bool| {
            let rows = self
                .rows
                .iter()
                .filter(move |(_, family)| (*family == Family::Harness) == of_harness);
            rows.filter_map(|(row, _)| row.main_figure())
        };
        let medians = |of_harness| spreads(of_harness).map(|spread| spread.median);
        let most = medians(false).fold(0.0, f64::max);
        let figures = medians(false).chain(spreads(false).map(|spread| spread.max));
        let figures: Vec<f64> = figures.filter(|figure| *figure <= most * WHISKER_RATIO).collect();
        Scale::of(&figures, &medians(true).collect::<Vec<_>>())
    }

    fn draw_head(&self, svg: &mut Svg, area: Area, scale: Scale) {
        let (heading, what) = self.sheet.headings();
        let heading = format!("{} · {heading}", self.sheet.workload);
        svg.text("heading", (area.x, area.y + 14.0), Anchor::Start, &heading);
        let what = shortened(&what, LINE_CHARS);
        svg.text("muted", (area.x, area.y + 30.0), Anchor::Start, &what);
        let direction = if self.sheet.is_higher_better() { "higher" } else { "lower" };
        let mut axis = format!("{}, {direction} is better", self.sheet.columns[0]);
        if matches!(scale, Scale::Logarithmic { .. }) {
            axis.push_str(", logarithmic scale");
        }
        svg.text("small muted", (area.x, area.y + 44.0), Anchor::Start, &axis);
    }
}

fn draw_grid(svg: &mut Svg, plot: Area, scale: Scale) {
    let (top, bottom) = (plot.y, plot.y + plot.height);
    for (figure, label) in scale.lines() {
        let x = plot.x + plot.width * scale.place(figure);
        svg.path("grid", &format!("M{x:.1} {top:.1}V{bottom:.1}"));
        svg.text("small muted", (x, bottom + 12.0), Anchor::Middle, &label);
    }
}

fn draw_bar(svg: &mut Svg, line: Area, scale: Scale, spread: Spread, family: Family) {
    let at = |figure: f64| line.x + line.width * scale.place(figure);
    let middle = line.y + line.height / 2.0;
    let bar = Area {
        y: middle - BAR_HEIGHT / 2.0,
        width: at(spread.median) - line.x,
        height: BAR_HEIGHT,
        ..line
    };
    svg.rectangle(family.class(), bar, 1.5);
    // A round in which the machine was busy may lie far outside: an arrow says so, and the bars
    // keep their lengths.
    let edge = line.x + line.width + 6.0;
    let (from, to) = (at(spread.min), at(spread.max).min(edge));
    let cap = 3.0;
    let (top, bottom) = (middle - cap, middle + cap);
    let end = if at(spread.max) > edge {
        format!("M{:.1} {top:.1}L{to:.1} {middle:.1}L{:.1} {bottom:.1}", to - cap, to - cap)
    } else {
        format!("M{to:.1} {top:.1}V{bottom:.1}")
    };
    svg.path(
        "whisker",
        &format!("M{from:.1} {top:.1}V{bottom:.1}M{from:.1} {middle:.1}H{to:.1}{end}"),
    );
    let class = if family == Family::Ours { "strong" } else { "" };
    let x = to.max(bar.x + bar.width) + 5.0;
    svg.text(class, (x, line.y + 12.5), Anchor::Start, &short(spread.median));
}

impl Sheet {
    /// Speeds, and ratios of speeds, are good if they are high; times and memory if they are low.
    pub(in crate::report) fn is_higher_better(&self) -> bool {
        let figure = self.columns[0].as_str();
        figure.starts_with('M') && figure.contains("/s") || figure.contains(" / ")
    }

    /// The title in two: what it is called, and what is done.
    fn headings(&self) -> (&str, String) {
        let title = self.title.as_str();
        let (heading, rest) =
            title.split_once(": ").or_else(|| title.split_once(", ")).unwrap_or((title, ""));
        (heading, rest.to_owned())
    }
}

fn shortened(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    let kept: String = text.chars().take(chars - 1).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::document;

    #[test]
    fn the_best_stands_at_the_top() {
        let document = document();
        let panel = Panel::new(&document, &document.tables[0], |row| row.peer != "shmheap b");
        let names: Vec<&str> = panel.rows.iter().map(|(row, _)| row.peer.as_str()).collect();
        assert_eq!(names, ["mimalloc", "shmheap a", "other"]);
    }

    #[test]
    fn directions_follow_from_what_is_measured() {
        let mut sheet = document().tables.remove(0);
        for (column, higher) in
            [("ns/op", false), ("held/live", false), ("2 / 1", true), ("Mop/s of 2", true)]
        {
            sheet.columns[0] = column.to_owned();
            assert_eq!(sheet.is_higher_better(), higher, "{column}");
        }
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("ab cd", 4), "ab…");
    }
}
