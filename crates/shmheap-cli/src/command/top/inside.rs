//! One heap: its numbers, its peers, its objects by size, and a small map.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Color;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::look::{ClassUse, Content, Detail, HeapLook, PeerLook};
use super::looks;
use super::view::View;
use crate::command::ls::policy_name;
use crate::command::map::raster::Raster;
use crate::command::map::terminal::{self, Sign};
use crate::{output, palette, size};

/// Lines that a list of peers or classes needs at the least.
const LIST_LINES_MIN: u16 = 3;
/// From here on the two lists are beside each other.
const WIDE: u16 = 120;
/// Lines besides those of peers and classes: numbers, titles, and the map.
const ROWS_BESIDES: usize = 24;
/// Columns of a bar.
const BAR: usize = 16;

pub(super) fn draw(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let Some(heap) = view.heaps.first() else { return };
    let content = match &heap.content {
        Ok(content) => content,
        Err(error) => return draw_error(frame, heap, error, area),
    };
    let numbers = numbers(heap, content, view.detail.as_ref());
    let map = view.detail.as_ref().map_or_else(Vec::new, |detail| picture(detail.map.as_ref()));
    let [top, lists, bottom] = Layout::vertical([
        Constraint::Length(numbers.len() as u16 + 1),
        Constraint::Min(2 * LIST_LINES_MIN),
        Constraint::Length(map.len() as u16 + 1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(numbers), top);
    let classes = view.detail.as_ref().map_or(&[][..], |detail| &detail.classes);
    let [left, right] = if area.width >= WIDE {
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(54)]).areas(lists)
    } else {
        let wanted = content.peers.len().max(1) as u16 + 2;
        let most = (lists.height / 2).max(LIST_LINES_MIN);
        // What classes leave is for peers.
        let spare = lists.height.saturating_sub(classes.len() as u16 + 2);
        let peers = wanted.min(most.max(spare));
        Layout::vertical([Constraint::Length(peers), Constraint::Min(0)]).areas(lists)
    };
    let peers = peers(&content.peers, usize::from(left.width));
    draw_list(frame, ("PEERS", peers.len()), peers, view.scrolled, left);
    let lines = by_size(content, classes);
    draw_list(frame, ("OBJECTS BY SIZE", classes.len()), lines, view.scrolled, right);
    frame.render_widget(Paragraph::new(map), bottom);
}

/// How many lines show all that there is, however narrow they are.
pub(super) fn rows(view: &View) -> usize {
    let content = view.heaps.first().and_then(|heap| heap.content.as_ref().ok());
    let peers = content.map_or(0, |content| content.peers.len());
    let classes = view.detail.as_ref().map_or(0, |detail| detail.classes.len());
    ROWS_BESIDES + peers + classes
}

fn draw_error(frame: &mut Frame<'_>, heap: &HeapLook, error: &str, area: Rect) {
    let name = heap.place.plain();
    let text = vec![
        Line::styled(name, looks::bold()),
        Line::raw(""),
        Line::styled(output::plain(error), looks::colour(palette::UNPUBLISHED)),
        Line::raw(""),
        Line::raw("Esc leads back to all heaps; if it appears again, it is shown again."),
    ];
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
}

fn numbers(heap: &HeapLook, content: &Content, detail: Option<&Detail>) -> Vec<Line<'static>> {
    let stats = &content.stats;
    let name = heap.place.plain();
    let growth = match stats.max_len_bytes > stats.len_bytes {
        true => format!(", grows up to {}", size::long(stats.max_len_bytes)),
        false => String::new(),
    };
    let title =
        format!(", {}, {}{growth}", policy_name(content.policy), size::long(stats.len_bytes));
    let mut used = vec![Span::styled("used  ", looks::faint())];
    used.extend(looks::bar(stats.live_bytes, stats.len_bytes, 2 * BAR));
    used.push(Span::raw(format!(
        " {}%  {} in {}",
        output::percent(stats.live_bytes, stats.len_bytes),
        size::long(stats.live_bytes),
        output::counted(stats.live_objects, "object"),
    )));
    let mut free = format!(
        "{}, largest block {}, fragmented {:.0}%",
        size::long(stats.free_bytes),
        size::long(stats.largest_free_bytes),
        100.0 * stats.fragmentation()
    );
    for (bytes, what) in [(stats.trimmed_bytes, "trimmed"), (stats.tail_bytes, "in tails")] {
        if bytes > 0 {
            free += &format!(", {} {what}", size::short(bytes));
        }
    }
    let labelled = |label: &'static str, text: String| {
        Line::from(vec![Span::styled(format!("{label:<6}"), looks::faint()), Span::raw(text)])
    };
    let roots = detail.map_or(0, |detail| detail.roots as u64);
    vec![
        Line::from(vec![Span::styled(name, looks::bold()), Span::raw(title)]),
        Line::from(used),
        labelled("free", free),
        labelled("rate", rates(content)),
        labelled("roots", output::counted(roots, "name")),
    ]
}

fn rates(content: &Content) -> String {
    let Some(pace) = &content.pace else { return "known after a second look".to_owned() };
    let operations = pace
        .operations
        .map(|operations| format!("{} operations/s, ", size::short_count(operations as u64)));
    format!(
        "{}{} objects/s, {}/s",
        operations.unwrap_or_default(),
        looks::signed(pace.objects, size::short_count),
        looks::signed(pace.bytes, size::short),
    )
}

/// A title, column titles, and as many lines as there is room for.
fn draw_list(
    frame: &mut Frame<'_>,
    (title, count): (&str, usize),
    lines: Vec<Line<'static>>,
    scrolled: usize,
    area: Rect,
) {
    let room = usize::from(area.height).saturating_sub(2);
    let first = scrolled.min(count.saturating_sub(room));
    let mut text = format!("{title} ({count})");
    if count > room {
        text += &format!(", from {} on", first + 1);
    }
    let mut shown = vec![Line::styled(text, looks::bold())];
    shown.extend(lines.into_iter().skip(first).take(room));
    frame.render_widget(Paragraph::new(shown), area);
}

fn peers(peers: &[PeerLook], width: usize) -> Vec<Line<'static>> {
    let now = output::now_unix_ns();
    let line = |peer: &PeerLook| {
        let owns = peer
            .objects_owned
            .map_or_else(String::new, |objects| format!(" owns {:>5}", size::short_count(objects)));
        let state = looks::state(peer.state);
        let gap = " ".repeat(8_usize.saturating_sub(state.width()));
        let age = output::age(peer.connected_unix_ns, now);
        let before = format!("{:>4}  pid {:<8}", peer.slot, peer.pid);
        let after = format!("{gap}{age:>4}{owns}  ");
        let rest = width.saturating_sub(before.len() + 8 + after.len() - gap.len() + 1);
        let command = looks::cut(&output::plain(&peer.command), rest);
        Line::from(vec![Span::raw(before), state, Span::raw(after), Span::raw(command)])
    };
    peers.iter().map(line).collect()
}

fn by_size(content: &Content, classes: &[ClassUse]) -> Vec<Line<'static>> {
    if classes.is_empty() {
        let text = match content.stats.live_objects {
            0 => "   no objects",
            _ => "   too many objects to look at each: `shmheap map --by class` does",
        };
        return vec![Line::styled(text, looks::faint())];
    }
    let line = |class: &ClassUse| {
        let mut spans = vec![Span::raw(format!("{:>13} ", class.label))];
        spans.extend(looks::bar(class.live_bytes, class.of_bytes, BAR));
        spans.push(Span::raw(format!(
            " {:>3}%  {:>5} in {:>5}",
            output::percent(class.live_bytes, class.of_bytes),
            size::short(class.live_bytes),
            size::short_count(class.live_objects),
        )));
        Line::from(spans)
    };
    classes.iter().map(line).collect()
}

fn picture(map: Option<&Raster>) -> Vec<Line<'static>> {
    let Some(map) = map else {
        let text = "no map: of so many objects it would take too long; `shmheap map` draws it";
        return vec![Line::styled(text, looks::faint())];
    };
    let in_colours = console::colors_enabled();
    let cell = format!("MAP, {} to a character", size::short(map.cell_bytes));
    let mut lines = vec![Line::styled(cell, looks::bold())];
    for row in 0..map.row_count() {
        let mut spans =
            vec![Span::styled(format!("{:>6} ", map.address_of_row(row)), looks::faint())];
        spans.extend(terminal::signs(map, row, in_colours).map(|sign| match sign {
            Sign::Plain(character) => Span::raw(character.to_string()),
            Sign::Dim(character) => Span::styled(character.to_string(), looks::faint()),
            Sign::Coloured(character, colour) => {
                Span::styled(character.to_string(), Color::Indexed(colour))
            }
        }));
        lines.push(Line::from(spans));
    }
    lines
}
