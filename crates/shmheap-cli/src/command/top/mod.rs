//! `shmheap top`: the heaps of the machine as they change, and a way into each.
//!
//! ```text
//!   look (read-only)  ->  view (what is selected)  ->  a frame: list, or inside of one heap
//!         ^                     ^
//!    every interval            keys
//! ```
//!
//! The terminal is given back as it was, however this ends: by a key, a signal, a panic, or a heap
//! that is cut short while it is read.

mod inside;
mod list;
mod look;
mod looks;
pub(crate) mod running;
mod view;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::style::force_color_output;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};
use ratatui::{DefaultTerminal, Frame, Terminal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::args::Top;
use crate::{Verdict, truncation};
use view::{View, Wish};

/// How long a signal may wait to be seen.
const PATIENCE: Duration = Duration::from_millis(100);
/// The frame where there is no terminal that says how large it is.
const COLUMNS: u16 = 100;
/// Lines of the list besides heaps.
const ROWS_BESIDES: usize = 5;

const KEYS: [&str; 8] = [
    "↑ ↓  j k     select; inside a heap: scroll",
    "PgUp PgDn    by ten     Home End  g G   first, last",
    "Enter →      look into the heap",
    "Esc ←        back to all heaps; from there: quit",
    "s            order by name, bytes, objects, rate, peers",
    "q  Ctrl-C    quit",
    "",
    "RATE: operations (first fit), or change of objects",
];

pub(crate) fn run(arguments: &Top, out: &mut dyn Write) -> Result<Verdict> {
    let mut view = View::new(arguments.heap.clone());
    if let Some(heap) = &arguments.heap {
        // A name that is wrong from the start is an error, not a view.
        heap.connect_read_only()?;
    }
    if arguments.once {
        look(&mut view, arguments)?;
        if let Some(interval) = arguments.interval {
            thread::sleep(interval);
            look(&mut view, arguments)?;
        }
        write_frame(out, &view)?;
        return Ok(Verdict::Fine);
    }
    if !io::stdout().is_terminal() {
        bail!("`shmheap top` draws on a terminal, and its output is none; --once prints one frame");
    }
    force_color_output(console::colors_enabled());
    let end = End::prepare()?;
    truncation::remember_terminal();
    let mut terminal = ratatui::try_init().context("cannot draw on this terminal")?;
    let result = show(&mut terminal, &mut view, arguments, &end);
    if end.is_hung_up(Duration::ZERO) {
        // Nothing can be said or given back, and dropping it would say so.
        std::mem::forget(terminal);
        return Ok(Verdict::Fine);
    }
    let restored = ratatui::try_restore();
    result?;
    restored.context("cannot give the terminal back")?;
    Ok(Verdict::Fine)
}

fn look(view: &mut View, arguments: &Top) -> Result<()> {
    match &view.inside {
        None => view.set(look::at_all(arguments.heap.as_ref(), &view.heaps)?, None),
        Some(place) => {
            let (heap, detail) = look::at_one(place, &view.heaps);
            view.set(vec![heap], detail);
        }
    }
    Ok(())
}

/// What ends the view but a key.
struct End {
    signal: Arc<AtomicBool>,
    reads_terminal: bool,
}

impl End {
    fn prepare() -> Result<Self> {
        let signal = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&signal);
        ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
            .context("cannot prepare for Ctrl-C")?;
        Ok(Self { signal, reads_terminal: io::stdin().is_terminal() })
    }

    /// Waits for input, for so long at the most; whether the end has come. Not left to crossterm,
    /// which reads from a terminal that is gone without end.
    fn comes_within(&self, timeout: Duration) -> bool {
        self.is_hung_up(timeout) || self.signal.load(Ordering::Relaxed)
    }

    /// Whether the terminal is gone, after a wait for input.
    fn is_hung_up(&self, timeout: Duration) -> bool {
        let stdin = io::stdin();
        let mut terminal = [PollFd::new(&stdin, PollFlags::IN)];
        let watched = if self.reads_terminal { &mut terminal[..] } else { &mut [] };
        let timeout = Timespec::try_from(timeout).unwrap_or_default();
        // A signal ends the wait, and a failure only makes it short.
        let _ = poll(watched, Some(&timeout));
        terminal[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

/// Looks and draws until the user has seen enough.
fn show(terminal: &mut DefaultTerminal, view: &mut View, arguments: &Top, end: &End) -> Result<()> {
    let interval = arguments.interval.unwrap_or(Top::INTERVAL);
    loop {
        look(view, arguments)?;
        let next = Instant::now() + interval;
        loop {
            terminal.draw(|frame| draw(frame, view))?;
            match wait(view, next, end)? {
                Wish::Nothing if Instant::now() < next => {}
                Wish::Nothing | Wish::Look => break,
                Wish::Quit => return Ok(()),
            }
        }
    }
}

/// Waits for a key, another size of the terminal, a signal, or until it is time.
fn wait(view: &mut View, next: Instant, end: &End) -> Result<Wish> {
    loop {
        let left = next.saturating_duration_since(Instant::now());
        if end.comes_within(left.min(PATIENCE)) {
            return Ok(Wish::Quit);
        }
        if event::poll(Duration::ZERO)? {
            return Ok(match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => view.key(key),
                _ => Wish::Nothing,
            });
        }
        if left.is_zero() {
            return Ok(Wish::Nothing);
        }
    }
}

fn draw(frame: &mut Frame<'_>, view: &View) {
    let [body, footer] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    let keys = match &view.inside {
        None => {
            list::draw(frame, view, body);
            "↑↓ select   Enter look inside   s order   ? keys   q quit"
        }
        Some(_) => {
            inside::draw(frame, view, body);
            "↑↓ scroll   Esc back   ? keys   q quit"
        }
    };
    frame.render_widget(Paragraph::new(Line::styled(keys, looks::faint())), footer);
    if view.shows_keys {
        let area = frame.area();
        let (width, height) = (area.width.min(62), area.height.min(KEYS.len() as u16 + 2));
        let (x, y) = ((area.width - width) / 2, (area.height - height) / 2);
        let middle = Rect { x, y, width, height };
        frame.render_widget(Clear, middle);
        let keys = KEYS.map(Line::raw).to_vec();
        let block = Block::bordered().title(" keys ");
        frame.render_widget(Paragraph::new(keys).block(block), middle);
    }
}

/// One frame as text, without what only a terminal can use.
fn write_frame(out: &mut dyn Write, view: &View) -> Result<()> {
    let term = console::Term::stdout();
    let columns = if term.is_term() { term.size().1.max(1) } else { COLUMNS };
    let rows = match view.inside {
        None => view.heaps.len() + ROWS_BESIDES,
        Some(_) => inside::rows(view),
    };
    let rows = u16::try_from(rows).unwrap_or(u16::MAX);
    let mut terminal = Terminal::new(TestBackend::new(columns, rows))?;
    terminal.draw(|frame| match view.inside {
        None => list::draw(frame, view, frame.area()),
        Some(_) => inside::draw(frame, view, frame.area()),
    })?;
    let mut is_after_room = false;
    for line in lines(terminal.backend().buffer()) {
        if line.is_empty() {
            // Room that a view of that size would have is no part of the text.
            is_after_room = true;
            continue;
        }
        if std::mem::take(&mut is_after_room) {
            writeln!(out)?;
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn lines(buffer: &Buffer) -> impl Iterator<Item = String> {
    let area = *buffer.area();
    (0..area.height).map(move |y| {
        let cells = (0..area.width).filter_map(|x| buffer.cell((x, y)));
        let line: String = cells.map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    })
}

#[cfg(test)]
mod tests;
