//! `Raster`: object space as rows of cells, and in each cell how many bytes are of which kind.
//!
//! ```text
//!   object space   |##### ## ..|.. ###  ###|## ....|      blocks of any size
//!   cells          [ 5 | 3 | 1 |  ...                     bytes of each kind, cell by cell
//! ```
//!
//! Cells and rows are powers of two bytes long, so that their addresses are round numbers. What no
//! block covers is a kind as well: tails of slabs, and what was changing hands.

use std::cmp::Reverse;
use std::collections::HashMap;

use shmheap::{Heap, Peer, Site};

use crate::args::By;
use crate::inventory::{Inventory, Item, State};
use crate::palette::{self, Rgb};
use crate::{size, usage};

/// What is told apart; in the order of a legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Live,
    Unpublished,
    OfDead,
    /// Up to two to this power bytes.
    Size(u32),
    Peer(u16),
    Shared,
    Nobodys,
    /// By its number.
    Tag(u8),
    Free,
    Uncovered,
}

/// One kind of bytes, and how many there are.
#[derive(Debug, Clone)]
pub(in crate::command) struct Kind {
    key: Key,
    pub(in crate::command) label: String,
    pub(super) colour: Rgb,
    /// What stands for it where there are no colours.
    pub(super) glyph: char,
    pub(in crate::command) bytes: u64,
    pub(in crate::command) blocks: u64,
}

impl Kind {
    /// Whether bytes of the kind are objects.
    pub(in crate::command) fn is_used(&self) -> bool {
        !matches!(self.key, Key::Free | Key::Uncovered)
    }

    /// What is told apart, as a word for programs.
    pub(super) fn word(&self) -> &'static str {
        match self.key {
            Key::Live => "live",
            Key::Unpublished => "unpublished",
            Key::OfDead => "of_dead",
            Key::Size(_) => "size",
            Key::Peer(_) => "peer",
            Key::Shared => "shared",
            Key::Nobodys => "nobodys",
            Key::Tag(_) => "tag",
            Key::Free => "free",
            Key::Uncovered => "tail",
        }
    }

    /// What objects of a size have at the most.
    pub(super) fn max_size_bytes(&self) -> Option<u64> {
        match self.key {
            Key::Size(power) => Some(most(power)),
            _ => None,
        }
    }

    /// Which peer it is.
    pub(super) fn slot(&self) -> Option<u16> {
        match self.key {
            Key::Peer(slot) => Some(slot),
            _ => None,
        }
    }

    /// Which tag it is, by its number.
    pub(super) fn tag(&self) -> Option<u8> {
        match self.key {
            Key::Tag(tag) => Some(tag),
            _ => None,
        }
    }

    /// Of tags, the largest come first: there are more of them than colours.
    fn rank(&self) -> (Key, Reverse<u64>, Key) {
        match self.key {
            Key::Tag(_) => (Key::Tag(0), Reverse(self.bytes), self.key),
            key => (key, Reverse(0), key),
        }
    }

    /// Whether a single byte of it should be seen among many others.
    pub(super) fn stands_out(&self) -> bool {
        matches!(self.key, Key::Unpublished | Key::OfDead)
    }

    /// Whether it is what memory should be.
    pub(super) fn is_plain(&self) -> bool {
        self.key == Key::Live
    }
}

/// A picture of a heap before it is drawn; see the module's text.
#[derive(Debug)]
pub(in crate::command) struct Raster {
    pub(super) columns: u64,
    pub(in crate::command) cell_bytes: u64,
    pub(super) len_bytes: u64,
    pub(in crate::command) kinds: Vec<Kind>,
    /// For each cell the bytes of each kind that it has.
    cells: Vec<Vec<(usize, u64)>>,
}

impl Raster {
    /// The heap in cells, `columns` to a row, a power of two, and about `rows` rows at the most.
    pub(in crate::command) fn of(heap: &Heap, by: By, columns: u64, rows: u64) -> Self {
        let info = heap.info();
        let row_bytes = info.len_bytes.div_ceil(rows).max(1).next_power_of_two();
        let cell_bytes = (row_bytes / columns).max(info.granule_bytes);
        let count = info.len_bytes.div_ceil(cell_bytes);
        let mut raster = Self {
            columns,
            cell_bytes,
            len_bytes: info.len_bytes,
            kinds: vec![],
            cells: vec![vec![]; count as usize],
        };
        let mut numbers = HashMap::new();
        for item in Inventory::of(heap).items() {
            raster.cover(&item, key_of(by, &item), &mut numbers);
        }
        raster.cover_rest(&mut numbers);
        raster.finish(heap);
        raster
    }

    fn cover(&mut self, item: &Item, key: Key, numbers: &mut HashMap<Key, usize>) {
        let start = item.block.offset_bytes.min(self.len_bytes);
        let end = start.saturating_add(item.block.bytes).min(self.len_bytes);
        let number = self.number_of(key, numbers);
        self.kinds[number].blocks += 1;
        self.kinds[number].bytes += end - start;
        let mut at = start;
        while at < end {
            let cell = at / self.cell_bytes;
            let next = ((cell + 1) * self.cell_bytes).min(end);
            self.add(cell, number, next - at);
            at = next;
        }
    }

    fn cover_rest(&mut self, numbers: &mut HashMap<Key, usize>) {
        for cell in 0..self.cells.len() as u64 {
            let covered: u64 = self.cells[cell as usize].iter().map(|(_, bytes)| bytes).sum();
            let rest = self.bytes_of(cell).saturating_sub(covered);
            if rest > 0 {
                let number = self.number_of(Key::Uncovered, numbers);
                self.kinds[number].bytes += rest;
                self.add(cell, number, rest);
            }
        }
    }

    fn number_of(&mut self, key: Key, numbers: &mut HashMap<Key, usize>) -> usize {
        *numbers.entry(key).or_insert_with(|| {
            let (label, colour) = (String::new(), palette::PAPER);
            self.kinds.push(Kind { key, label, colour, glyph: ' ', bytes: 0, blocks: 0 });
            self.kinds.len() - 1
        })
    }

    fn add(&mut self, cell: u64, kind: usize, bytes: u64) {
        let Some(shares) = self.cells.get_mut(cell as usize) else { return };
        match shares.iter_mut().find(|(number, _)| *number == kind) {
            Some((_, share)) => *share += bytes,
            None => shares.push((kind, bytes)),
        }
    }

    /// Puts the kinds in order, and gives them their looks.
    fn finish(&mut self, heap: &Heap) {
        let mut order: Vec<usize> = (0..self.kinds.len()).collect();
        order.sort_by_key(|&number| self.kinds[number].rank());
        let mut place = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            place[old] = new;
        }
        self.kinds.sort_by_key(Kind::rank);
        for (number, _) in self.cells.iter_mut().flatten() {
            *number = place[*number];
        }
        let is_graded = |kind: &Kind| matches!(kind.key, Key::Size(_) | Key::Peer(_) | Key::Tag(_));
        let graded = self.kinds.iter().filter(|kind| is_graded(kind)).count();
        let mut grade = 0;
        let peers = heap.peers();
        for kind in &mut self.kinds {
            kind.label = label_of(kind.key, heap, &peers);
            (kind.colour, kind.glyph) = looks(kind.key, grade, graded);
            grade += usize::from(is_graded(kind));
        }
    }

    pub(super) fn cell_count(&self) -> u64 {
        self.cells.len() as u64
    }

    pub(in crate::command) fn row_count(&self) -> u64 {
        self.cell_count().div_ceil(self.columns)
    }

    /// Where a row starts, in the unit of the heap's length, exactly.
    pub(in crate::command) fn address_of_row(&self, row: u64) -> String {
        size::exact_in_unit_of(self.len_bytes, row * self.columns * self.cell_bytes)
    }

    /// How many bytes the cell stands for: the last one may be cut short.
    pub(super) fn bytes_of(&self, cell: u64) -> u64 {
        self.cell_bytes.min(self.len_bytes - (cell * self.cell_bytes).min(self.len_bytes))
    }

    /// The kinds of bytes in a cell, and how many of each.
    pub(super) fn shares(&self, cell: u64) -> impl Iterator<Item = (&Kind, u64)> {
        let shares = self.cells.get(cell as usize).into_iter().flatten();
        shares.map(|&(kind, bytes)| (&self.kinds[kind], bytes))
    }

    /// The bytes of each kind in a cell, in the order of the kinds.
    pub(super) fn counts(&self, cell: u64) -> Vec<u64> {
        let mut counts = vec![0; self.kinds.len()];
        for &(kind, bytes) in self.cells.get(cell as usize).into_iter().flatten() {
            counts[kind] = bytes;
        }
        counts
    }
}

fn key_of(by: By, item: &Item) -> Key {
    match (by, item.state) {
        (_, State::Free) => Key::Free,
        (By::Live, State::Live) => Key::Live,
        (By::Live, State::Unpublished(_)) => Key::Unpublished,
        (By::Live, State::OfDead(_)) => Key::OfDead,
        (By::Class, _) => Key::Size(u64::BITS - item.block.bytes.saturating_sub(1).leading_zeros()),
        (By::Owner, _) => match (item.owner(), item.block.site) {
            (Some(slot), _) => Key::Peer(slot),
            (None, Site::Slab { .. }) => Key::Shared,
            (None, _) => Key::Nobodys,
        },
        (By::Tag, _) => Key::Tag(item.block.label.map_or(0, |label| label.tag)),
    }
}

/// Two to this power, or as much as there can be.
fn most(power: u32) -> u64 {
    1_u64.checked_shl(power).unwrap_or(u64::MAX)
}

/// Colour and letter of a kind that is number `grade` of `graded` on its scale.
fn looks(key: Key, grade: usize, graded: usize) -> (Rgb, char) {
    let letter = |first: u8| (first + (grade % 26) as u8) as char;
    match key {
        Key::Live => (palette::LIVE, '#'),
        Key::Unpublished => (palette::UNPUBLISHED, 'u'),
        Key::OfDead => (palette::OF_DEAD, 'x'),
        Key::Size(_) => (palette::on_scale(grade, graded), letter(b'a')),
        Key::Peer(_) | Key::Tag(_) => (palette::distinct(grade), letter(b'A')),
        Key::Shared => (palette::SHARED, 's'),
        Key::Nobodys => (palette::NOBODYS, '#'),
        Key::Free => (palette::FREE, '.'),
        Key::Uncovered => (palette::TAIL, '-'),
    }
}

fn label_of(key: Key, heap: &Heap, peers: &[Peer]) -> String {
    let label = match key {
        Key::Live => "live",
        Key::Unpublished => "unpublished",
        Key::OfDead => "of dead processes",
        Key::Size(power) => return format!("up to {}", size::short(most(power))),
        Key::Peer(slot) => return peer_label(slot, peers),
        Key::Shared => "shared slabs",
        Key::Nobodys => "nobody's",
        Key::Tag(tag) => return usage::name(&heap.tag_name(tag)),
        Key::Free => "free",
        Key::Uncovered => "tails of slabs",
    };
    label.to_owned()
}

fn peer_label(slot: u16, peers: &[Peer]) -> String {
    match peers.iter().find(|peer| peer.slot == slot) {
        None => format!("peer {slot}"),
        Some(peer) if peer.alive => format!("peer {slot}, pid {}", peer.pid),
        Some(peer) => format!("peer {slot}, pid {}, dead", peer.pid),
    }
}
