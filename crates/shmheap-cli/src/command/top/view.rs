//! What the user looks at, and what keys do to it. Nothing here draws or reads heaps.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::look::{Detail, HeapLook};
use super::running::State;
use crate::target::HeapRef;

/// By what the heaps are in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Name,
    Used,
    Objects,
    Rate,
    Peers,
}

impl Order {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Used => "bytes used",
            Self::Objects => "objects",
            Self::Rate => "rate",
            Self::Peers => "peers",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Name => Self::Used,
            Self::Used => Self::Objects,
            Self::Objects => Self::Rate,
            Self::Rate => Self::Peers,
            Self::Peers => Self::Name,
        }
    }

    /// What comes first is largest; heaps that cannot be read come last.
    fn weight(self, heap: &HeapLook) -> f64 {
        let Ok(content) = &heap.content else { return f64::NEG_INFINITY };
        match self {
            Self::Name => 0.0,
            Self::Used => content.stats.live_bytes as f64,
            Self::Objects => content.stats.live_objects as f64,
            Self::Rate => content
                .pace
                .as_ref()
                .map_or(-1.0, |pace| pace.operations.unwrap_or(pace.objects.abs())),
            Self::Peers => content.peers.len() as f64,
        }
    }
}

/// What a key asks of whoever shows the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// Another heap, or all of them: look at once.
    Look,
    Quit,
}

/// The view.
#[derive(Debug)]
pub(super) struct View {
    /// All heaps, or the one that is looked into.
    pub(super) heaps: Vec<HeapLook>,
    pub(super) detail: Option<Detail>,
    /// The heap that is looked into.
    pub(super) inside: Option<HeapRef>,
    pub(super) order: Order,
    pub(super) shows_keys: bool,
    /// How many lines of long lists are above the first that is shown.
    pub(super) scrolled: usize,
    selected: Option<HeapRef>,
}

impl View {
    pub(super) fn new(inside: Option<HeapRef>) -> Self {
        Self {
            heaps: vec![],
            detail: None,
            selected: inside.clone(),
            inside,
            order: Order::Name,
            shows_keys: false,
            scrolled: 0,
        }
    }

    /// Shows what a look has found. The selection stays with its heap, wherever that is now.
    pub(super) fn set(&mut self, heaps: Vec<HeapLook>, detail: Option<Detail>) {
        let place = self.position();
        self.heaps = heaps;
        self.detail = detail;
        self.arrange();
        let is_there = self.heaps.iter().any(|heap| Some(&heap.place) == self.selected.as_ref());
        if self.inside.is_none() && !is_there {
            self.select(place);
        }
    }

    fn arrange(&mut self) {
        let order = self.order;
        self.heaps.sort_by(|one, other| {
            let heavier = order.weight(other).total_cmp(&order.weight(one));
            heavier.then_with(|| one.place.path().cmp(&other.place.path()))
        });
    }

    /// Which of the heaps is selected.
    pub(super) fn position(&self) -> usize {
        let is_selected = |heap: &HeapLook| Some(&heap.place) == self.selected.as_ref();
        self.heaps.iter().position(is_selected).unwrap_or(0)
    }

    fn select(&mut self, position: usize) {
        let last = self.heaps.len().saturating_sub(1);
        self.selected = self.heaps.get(position.min(last)).map(|heap| heap.place.clone());
    }

    fn go(&mut self, lines: isize) {
        if self.inside.is_some() {
            // The end is where the last line of the longest list is the only one.
            let content = self.heaps.first().and_then(|heap| heap.content.as_ref().ok());
            let peers = content.map_or(0, |content| content.peers.len());
            let usage = content.and_then(|content| content.usage.as_ref());
            let tags = usage.map_or(0, |usage| usage.tags.len());
            let classes = self.detail.as_ref().map_or(0, |detail| detail.classes.len());
            let last = peers.max(classes).max(tags).saturating_sub(1);
            self.scrolled = self.scrolled.saturating_add_signed(lines).min(last);
        } else {
            self.select(self.position().saturating_add_signed(lines));
        }
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            let is_end = matches!(key.code, KeyCode::Char('c' | 'd'));
            return if is_end { Wish::Quit } else { Wish::Nothing };
        }
        if self.shows_keys {
            self.shows_keys = false;
            return Wish::Nothing;
        }
        match key.code {
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(10),
            KeyCode::PageUp => self.go(-10),
            KeyCode::Home | KeyCode::Char('g') => self.go(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX),
            KeyCode::Char('s') if self.inside.is_none() => {
                self.order = self.order.next();
                self.arrange();
            }
            KeyCode::Char('?' | 'h') => self.shows_keys = true,
            KeyCode::Enter | KeyCode::Right if self.inside.is_none() => {
                self.inside = self.heaps.get(self.position()).map(|heap| heap.place.clone());
                return self.turn();
            }
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace if self.inside.is_some() => {
                self.inside = None;
                return self.turn();
            }
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            _ => {}
        }
        Wish::Nothing
    }

    fn turn(&mut self) -> Wish {
        self.scrolled = 0;
        self.detail = None;
        Wish::Look
    }

    /// How many peers of all heaps are in that state.
    pub(super) fn count(&self, state: State) -> usize {
        let contents = self.heaps.iter().filter_map(|heap| heap.content.as_ref().ok());
        contents.map(|content| content.count(state)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::{Content, Pace};
    use super::*;

    fn unreadable(names: &[&str]) -> Vec<HeapLook> {
        let look = |name: &&str| HeapLook {
            place: HeapRef::Named(name.into()),
            content: Err("damaged".to_owned()),
        };
        names.iter().map(look).collect()
    }

    fn press(view: &mut View, code: KeyCode) -> Wish {
        view.key(code.into())
    }

    #[test]
    fn the_selection_stays_with_its_heap() {
        let mut view = View::new(None);
        view.set(unreadable(&["a", "c", "d"]), None);
        assert_eq!(press(&mut view, KeyCode::Char('j')), Wish::Nothing);
        assert_eq!(view.position(), 1);
        view.set(unreadable(&["a", "b", "c", "d"]), None);
        assert_eq!(view.position(), 2, "another has come before it");
        view.set(unreadable(&["a", "b"]), None);
        assert_eq!(view.position(), 1, "it is gone: the one in its place, or the last");
        press(&mut view, KeyCode::End);
        press(&mut view, KeyCode::Down);
        assert_eq!(view.position(), 1);
        press(&mut view, KeyCode::Home);
        press(&mut view, KeyCode::Up);
        assert_eq!(view.position(), 0);
        view.set(vec![], None);
        assert_eq!(press(&mut view, KeyCode::Down), Wish::Nothing);
        press(&mut view, KeyCode::Enter);
        assert_eq!(view.inside, None, "there is none");
    }

    #[test]
    fn keys_lead_in_and_out() {
        let mut view = View::new(None);
        view.set(unreadable(&["a", "b"]), None);
        press(&mut view, KeyCode::Down);
        assert_eq!(press(&mut view, KeyCode::Enter), Wish::Look);
        assert_eq!(view.inside, Some(HeapRef::Named("b".into())));
        press(&mut view, KeyCode::Char('?'));
        assert!(view.shows_keys);
        assert_eq!(press(&mut view, KeyCode::Esc), Wish::Nothing, "closes the help alone");
        assert_eq!(press(&mut view, KeyCode::Esc), Wish::Look);
        assert_eq!((view.inside.clone(), view.position()), (None, 1));
        assert_eq!(press(&mut view, KeyCode::Esc), Wish::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.key(interrupt), Wish::Quit);
    }

    #[test]
    fn what_has_most_is_first() {
        let heap = |name: &str, live_bytes, live_objects, rate: Option<f64>, peers| {
            let mut stats = shmheap::Stats::default();
            (stats.live_bytes, stats.live_objects) = (live_bytes, live_objects);
            let pace = |objects| Pace { operations: None, objects, bytes: 0.0 };
            let content = Content::made_up(stats, peers, rate.map(pace));
            HeapLook { place: HeapRef::Named(name.into()), content: Ok(content) }
        };
        let mut view = View::new(None);
        let mut heaps = unreadable(&["a"]);
        heaps.push(heap("b", 9, 1, None, 1));
        heaps.push(heap("c", 1, 9, Some(-1.0), 1));
        // As fast as any, whether they become more or fewer.
        heaps.push(heap("d", 1, 1, Some(-9.0), 1));
        heaps.push(heap("e", 1, 1, Some(5.0), 9));
        view.set(heaps, None);
        let mut orders = vec![];
        for _ in 0..5 {
            let names = view.heaps.iter().map(|heap| heap.place.to_string());
            orders.push(names.collect::<String>());
            press(&mut view, KeyCode::Char('s'));
        }
        assert_eq!(orders, ["bcdea", "bcdea", "cbdea", "decba", "ebcda"]);
    }

    #[test]
    fn orders_go_round() {
        let mut view = View::new(None);
        view.set(unreadable(&["b", "a"]), None);
        let mut names = vec![];
        for _ in 0..5 {
            names.push(view.order.name());
            press(&mut view, KeyCode::Char('s'));
        }
        assert_eq!(names, ["name", "bytes used", "objects", "rate", "peers"]);
        assert_eq!(view.order, Order::Name);
    }
}
