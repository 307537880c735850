//! One heap: its numbers, its peers, its tags, its objects by size, and a small map.

use console::Alignment;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Color;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};
use shmheap::{TagUsage, Usage};

use super::look::{ClassUse, Content, Detail, HeapLook, PeerLook};
use super::looks;
use super::view::View;
use crate::command::ls::policy_name;
use crate::command::map::raster::Raster;
use crate::command::map::terminal::{self, Sign};
use crate::{output, palette, size, usage};

/// Lines that a list of peers or classes needs at the least.
const LIST_LINES_MIN: u16 = 3;
/// From here on the two lists are beside each other.
const WIDE: u16 = 120;
/// Lines besides those of peers, tags and classes: numbers, titles, and the map.
const ROWS_BESIDES: usize = 24;
/// Lines besides those of tags where there are any: the title, a gap, and the line of quotas.
const TAG_ROWS_BESIDES: usize = 3;
/// Columns of a bar.
const BAR: usize = 16;
/// Columns of the numbers of a tag, and of its name.
const TAG_NUMBERS: usize = 37;
const TAG_NAME_MIN: usize = 13;
const TAG_NAME_MAX: usize = 24;

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
    let tags = content.usage.as_ref();
    let counts = [content.peers.len(), tags.map_or(0, |usage| usage.tags.len()), classes.len()];
    let [left, middle, right] = list_areas(lists, counts);
    let peers = peers(&content.peers, usize::from(left.width));
    draw_list(frame, ("PEERS", peers.len()), peers, view.scrolled, left);
    if let Some(usage) = tags {
        let lines = by_tag(usage, usize::from(middle.width));
        draw_list(frame, ("TAGS", lines.len()), lines, view.scrolled, middle);
    }
    let lines = by_size(content, classes);
    draw_list(frame, ("OBJECTS BY SIZE", classes.len()), lines, view.scrolled, right);
    frame.render_widget(Paragraph::new(map), bottom);
}

/// How many lines show all that there is, however narrow they are.
pub(super) fn rows(view: &View) -> usize {
    let content = view.heaps.first().and_then(|heap| heap.content.as_ref().ok());
    let peers = content.map_or(0, |content| content.peers.len());
    let classes = view.detail.as_ref().map_or(0, |detail| detail.classes.len());
    let usage = content.and_then(|content| content.usage.as_ref());
    let tags = usage.map_or(0, |usage| usage.tags.len() + TAG_ROWS_BESIDES);
    ROWS_BESIDES + peers + tags + classes
}

/// Where peers, tags and classes are listed, of which there are so many.
fn list_areas(area: Rect, counts: [usize; 3]) -> [Rect; 3] {
    // None but tags is left out when there are none.
    let [peers, tags, classes] = counts.map(|count| count.min(usize::from(u16::MAX) / 2) as u16);
    let [peers, classes] = [peers, classes].map(|count| count.max(1) + 2);
    let tags = if tags > 0 { tags + 2 } else { 0 };
    if area.width >= WIDE {
        let [left, right] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(54)]).areas(area);
        let heights = divided(left.height, [peers, tags]).map(Constraint::Length);
        let [peers, tags] = Layout::vertical(heights).areas(left);
        [peers, tags, right]
    } else {
        let heights = divided(area.height, [peers, tags, classes]).map(Constraint::Length);
        Layout::vertical(heights).areas(area)
    }
}

/// A height for each list: what it wants, or else no less than any other gets.
fn divided<const N: usize>(height: u16, wanted: [u16; N]) -> [u16; N] {
    let mut shares = [0; N];
    let mut order: [usize; N] = std::array::from_fn(|list| list);
    order.sort_by_key(|&list| wanted[list]);
    let mut rest = height;
    for (done, list) in order.into_iter().enumerate() {
        shares[list] = wanted[list].min(rest / (N - done) as u16);
        rest -= shares[list];
    }
    shares
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
    let mut lines = vec![
        Line::from(vec![Span::styled(name, looks::bold()), Span::raw(title)]),
        Line::from(used),
        labelled("free", free),
        labelled("rate", rates(content)),
        labelled("roots", output::counted(roots, "name")),
    ];
    lines.extend(content.usage.as_ref().map(|usage| labelled("quota", quotas(usage))));
    lines
}

fn quotas(usage: &Usage) -> String {
    let of = |bytes: Option<u64>| bytes.map_or_else(|| "none".to_owned(), size::long);
    let counted = match usage.quota_bytes {
        None => of(None),
        some @ Some(bytes) => {
            format!("{}% of {} used", output::percent(usage.bytes, bytes), of(some))
        }
    };
    format!("{counted}, for each peer {}", of(usage.peer_quota_bytes))
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
        let used = peer
            .used_bytes
            .map_or_else(String::new, |bytes| format!(" used {:>5}", size::short(bytes)));
        let state = looks::state(peer.state);
        let gap = " ".repeat(8_usize.saturating_sub(state.width()));
        let age = output::age(peer.connected_unix_ns, now);
        let before = format!("{:>4}  pid {:<8}", peer.slot, peer.pid);
        let after = format!("{gap}{age:>4}{owns}{used}  ");
        let rest = width.saturating_sub(before.len() + 8 + after.len() - gap.len() + 1);
        let command = looks::cut(&output::plain(&peer.command), rest);
        Line::from(vec![Span::raw(before), state, Span::raw(after), Span::raw(command)])
    };
    peers.iter().map(line).collect()
}

/// A line for each tag, the largest first: its part of all that is counted, and of its quota.
fn by_tag(usage: &Usage, width: usize) -> Vec<Line<'static>> {
    let name_width = width.saturating_sub(BAR + TAG_NUMBERS).clamp(TAG_NAME_MIN, TAG_NAME_MAX);
    let line = |tag: &TagUsage| {
        let name = looks::cut(&usage::name(&tag.name), name_width);
        let name = console::pad_str(&name, name_width, Alignment::Right, None).into_owned();
        let mut spans = vec![Span::raw(name), Span::raw(" ")];
        spans.extend(looks::bar(tag.bytes, usage.bytes, BAR));
        let quota = tag.quota_bytes.map_or_else(String::new, |quota| {
            format!("  {:>3}% of {:>5}", output::percent(tag.bytes, quota), size::short(quota))
        });
        let share = share(tag.bytes, usage.bytes, tag.objects);
        spans.push(Span::raw(format!("{share}{quota}")));
        Line::from(spans)
    };
    usage::by_size(&usage.tags).into_iter().map(line).collect()
}

fn share(bytes: u64, of_bytes: u64, objects: u64) -> String {
    let percent = output::percent(bytes, of_bytes);
    format!(" {percent:>3}%  {:>5} in {:>5}", size::short(bytes), size::short_count(objects))
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
        spans.push(Span::raw(share(class.live_bytes, class.of_bytes, class.live_objects)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_share_what_room_there_is() {
        assert_eq!(divided(20, [3, 4, 5]), [3, 4, 5]);
        assert_eq!(divided(12, [3, 40, 50]), [3, 4, 5], "what one leaves is for the others");
        assert_eq!(divided(9, [40, 0, 50]), [4, 0, 5]);
        assert_eq!(divided(1, [9, 9, 9]), [0, 0, 1]);
    }
}
