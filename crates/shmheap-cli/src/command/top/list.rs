//! All heaps: a line for each. Columns that tell less are left out where there is no room.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::look::{Content, HeapLook, Pace};
use super::looks;
use super::running::State;
use super::view::View;
use crate::command::ls::policy_name;
use crate::{output, palette, size};

/// A column: its title, width and cell.
struct Column {
    title: &'static str,
    width: usize,
    is_number: bool,
    cell: fn(&Content, usize) -> Line<'static>,
}

const NAME_WIDTH_MIN: usize = 14;
/// From here on there is room for the columns that tell less.
const WIDE: u16 = 110;

pub(super) fn draw(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let [summary, header, rows] =
        Layout::vertical([Constraint::Length(2), Constraint::Length(1), Constraint::Min(0)])
            .areas(area);
    frame.render_widget(Paragraph::new(total(view)), summary);
    if view.heaps.is_empty() {
        let text = "no heaps; `shmheap create NAME --len 16M` makes one, `shmheap demo` some";
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), rows);
        return;
    }
    let columns = columns(area.width);
    let taken: usize = columns.iter().map(|column| column.width + 1).sum();
    let name_width = usize::from(area.width).saturating_sub(taken).max(NAME_WIDTH_MIN);
    frame.render_widget(Paragraph::new(titles(&columns, name_width)), header);
    let position = view.position();
    // The selected line is always seen.
    let first = (position + 1).saturating_sub(rows.height.into());
    let lines = view.heaps.iter().enumerate().skip(first).take(rows.height.into());
    let lines = lines.map(|(number, heap)| {
        let line = line(heap, &columns, name_width);
        let is_selected = number == position;
        if is_selected { line.style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), rows);
}

/// One line over all heaps.
fn total(view: &View) -> Line<'static> {
    let contents = || view.heaps.iter().filter_map(|heap| heap.content.as_ref().ok());
    let sum = |of: fn(&Content) -> u64| contents().map(of).fold(0, u64::saturating_add);
    let (live, len) = (sum(|one| one.stats.live_bytes), sum(|one| one.stats.len_bytes));
    let count = |state| view.count(state);
    let (alive, stopped, dead) = (count(State::Alive), count(State::Stopped), count(State::Dead));
    let mut text = format!(
        "{}, {} of {} in use, {}",
        output::counted(view.heaps.len() as u64, "heap"),
        size::long(live),
        size::long(len),
        output::counted((alive + stopped) as u64, "peer"),
    );
    if stopped > 0 {
        text += &format!(", {stopped} of them stopped (T)");
    }
    if dead > 0 {
        text += &format!(", {dead} dead (x)");
    }
    Line::from(vec![
        Span::raw(text),
        Span::styled(format!("   by {}", view.order.name()), looks::faint()),
    ])
}

fn columns(width: u16) -> Vec<Column> {
    let number = |title, width, cell| Column { title, width, is_number: true, cell };
    let text = |title, width, cell| Column { title, width, is_number: false, cell };
    let bar_width = if width >= WIDE { 21 } else { 9 };
    let mut columns = vec![
        text("POLICY", 9, |one, _| Line::from(policy_name(one.policy))),
        text("USE", bar_width, usage),
        number("USED", 5, |one, _| Line::from(size::short(one.stats.live_bytes))),
        number("FREE", 5, |one, _| Line::from(size::short(one.stats.free_bytes))),
        number("FRAG", 4, |one, _| {
            Line::from(format!("{:.0}%", 100.0 * one.stats.fragmentation()))
        }),
        number("OBJS", 5, |one, _| Line::from(size::short_count(one.stats.live_objects))),
        number("RATE/S", 9, |one, _| Line::from(looks::rate(one.pace.as_ref()))),
        number("PEERS", 9, |one, _| {
            let count = |state| one.count(state);
            looks::peers(count(State::Alive), count(State::Stopped), count(State::Dead))
        }),
    ];
    if width >= WIDE {
        columns.insert(1, number("LEN", 5, |one, _| Line::from(size::short(one.stats.len_bytes))));
        columns.insert(
            8,
            number("OBJS/S", 6, |one, _| {
                changed(one, |pace| looks::signed(pace.objects, size::short_count))
            }),
        );
        columns.insert(
            9,
            number("BYTES/S", 7, |one, _| {
                changed(one, |pace| looks::signed(pace.bytes, size::short))
            }),
        );
    }
    columns
}

fn changed(content: &Content, of: fn(&Pace) -> String) -> Line<'static> {
    Line::from(content.pace.as_ref().map_or_else(|| "-".to_owned(), of))
}

/// A bar, and what it says in percent.
fn usage(content: &Content, width: usize) -> Line<'static> {
    let (live, len) = (content.stats.live_bytes, content.stats.len_bytes);
    let mut spans = looks::bar(live, len, width - 5);
    spans.push(Span::raw(format!("{:>4}%", output::percent(live, len))));
    Line::from(spans)
}

fn titles(columns: &[Column], name_width: usize) -> Line<'static> {
    let mut text = format!("{:<name_width$}", "NAME");
    for Column { title, width, is_number, .. } in columns {
        let title =
            if *is_number { format!(" {title:>width$}") } else { format!(" {title:<width$}") };
        text += &title;
    }
    Line::styled(text, looks::bold())
}

fn line(heap: &HeapLook, columns: &[Column], name_width: usize) -> Line<'static> {
    let name = heap.place.plain();
    let name = looks::cut(&name, name_width);
    let name = console::pad_str(&name, name_width, console::Alignment::Left, None).into_owned();
    let mut spans = vec![Span::raw(name)];
    let content = match &heap.content {
        Ok(content) => content,
        Err(error) => {
            let error = format!(" not readable: {}", output::plain(error));
            spans.push(Span::styled(error, looks::colour(palette::UNPUBLISHED)));
            return Line::from(spans);
        }
    };
    for column in columns {
        let cell = (column.cell)(content, column.width);
        let gap = column.width.saturating_sub(cell.width());
        let (before, after) = if column.is_number { (gap, 0) } else { (0, gap) };
        spans.push(Span::raw(" ".repeat(1 + before)));
        spans.extend(cell.spans);
        spans.push(Span::raw(" ".repeat(after)));
    }
    Line::from(spans)
}
