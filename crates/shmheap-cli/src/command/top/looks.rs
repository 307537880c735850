//! How values look in the view: bars, rates, states, and the colours of the other pictures.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::look::Pace;
use super::running::State;
use crate::palette::{self, Rgb};
use crate::size;

const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
const FULL: char = '█';

/// The nearest colour that terminals have.
pub(super) fn colour(rgb: Rgb) -> Color {
    Color::Indexed(rgb.of_256())
}

/// What matters less.
pub(super) fn faint() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

pub(super) fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// A part of a whole, as a bar over the width.
pub(super) fn bar(part: u64, whole: u64, width: usize) -> Vec<Span<'static>> {
    let eighths = u128::from(part.min(whole)) * 8 * width as u128;
    let eighths = eighths.checked_div(u128::from(whole)).unwrap_or(0) as usize;
    // A little is more than nothing.
    let eighths = if part > 0 { eighths.max(1) } else { 0 };
    let mut used: String = std::iter::repeat_n(FULL, eighths / 8).collect();
    if eighths % 8 > 0 {
        used.push(EIGHTHS[eighths % 8]);
    }
    let rest = "·".repeat(width.saturating_sub(eighths.div_ceil(8)));
    vec![Span::styled(used, colour(palette::LIVE)), Span::styled(rest, faint())]
}

/// What a policy tells of its work: operations, or else by how much the objects change.
pub(super) fn rate(pace: Option<&Pace>) -> String {
    match pace {
        None => "-".to_owned(),
        Some(Pace { operations: Some(operations), .. }) => {
            format!("{} op", size::short_count(*operations as u64))
        }
        Some(pace) => format!("{} obj", signed(pace.objects, size::short_count)),
    }
}

/// A change with its sign; nothing is 0.
pub(super) fn signed(change: f64, number: fn(u64) -> String) -> String {
    let rounded = change.round();
    let sign = match rounded {
        _ if rounded > 0.0 => "+",
        _ if rounded < 0.0 => "-",
        _ => "",
    };
    format!("{sign}{}", number(rounded.abs() as u64))
}

pub(super) fn state(state: State) -> Span<'static> {
    match state {
        State::Alive => Span::raw("alive"),
        State::Stopped => Span::styled("stopped", colour(palette::UNPUBLISHED)),
        State::Dead => Span::styled("dead", colour(palette::OF_DEAD)),
    }
}

/// Peers by what they do, those that are well without a word.
pub(super) fn peers(alive: usize, stopped: usize, dead: usize) -> Line<'static> {
    let mut spans = vec![Span::raw((alive + stopped).to_string())];
    let mut add = |count: usize, letter: &str, rgb| {
        if count > 0 {
            spans.push(Span::styled(format!(" {count}{letter}"), colour(rgb)));
        }
    };
    add(stopped, "T", palette::UNPUBLISHED);
    add(dead, "x", palette::OF_DEAD);
    Line::from(spans)
}

/// A text that fits, with a mark where it was cut.
pub(super) fn cut(text: &str, width: usize) -> String {
    console::truncate_str(text, width, "…").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(part: u64, whole: u64) -> String {
        bar(part, whole, 4).into_iter().map(|span| span.content.into_owned()).collect()
    }

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!(text(0, 100), "····");
        assert_eq!(text(1, 100_000), "▏···");
        assert_eq!(text(50, 100), "██··");
        assert_eq!(text(60, 100), "██▍·");
        assert_eq!((text(100, 100), text(7, 0)), ("████".into(), "▏···".into()));
        assert_eq!(text(u64::MAX, 1), "████", "a heap may state anything");
    }

    #[test]
    fn changes_have_signs() {
        assert_eq!(signed(1234.0, size::short_count), "+1.2k");
        assert_eq!(signed(-2048.0, size::short), "-2.0K");
        assert_eq!(signed(-0.2, size::short), "0B");
        assert_eq!(signed(f64::NAN, size::short), "0B");
    }
}
