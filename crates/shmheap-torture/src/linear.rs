//! "linear": under first fit, what several processes do at once has an order in which each object
//! gets the lowest address that held it at its moment.
//!
//! Each process notes for each operation the heap's session number before and after it, so the
//! operation was one of the sessions in between. With little between, the order is soon found: see
//! [`order`]. A reallocation that moves its object is three operations: the look that finds no room
//! behind it, an allocation, and a free.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use shmheap::{Heap, HeapOptions, Policy};

use crate::board::Board;
use crate::bytes;
use crate::order::{self, Act, Event};
use crate::process::{Fork, is_fine, spell};
use crate::random::Random;
use crate::section::Rounds;
use crate::tally::Tally;

const PROCESSES: usize = 3;
const EVENTS: usize = 2000;
const EVENT_WORDS: usize = 5;
/// Of a reallocation that moves its object.
const ACTS_MAX: usize = 3;
const HELD_MAX: usize = 20;
const SIZE_MAX: u64 = 600;
const GRANULE_BYTES: u64 = 16;
/// All that can be held at once fits, so nothing is refused and nothing grows.
const LEN_BYTES: u64 = 256 << 10;

// Relaxed wherever the board is used, but for the start: it is read when its writers have ended.
const RELAXED: Ordering = Ordering::Relaxed;

#[derive(Debug)]
pub(crate) struct Linear {
    /// For each process its events; behind them, how many processes are ready.
    board: Board,
}

impl Linear {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { board: Board::new(PROCESSES * EVENTS * EVENT_WORDS + 1)? })
    }

    fn rows(&self, process: usize) -> impl ExactSizeIterator<Item = &[AtomicU64]> {
        let words = EVENTS * EVENT_WORDS;
        self.board.words()[process * words..(process + 1) * words].chunks_exact(EVENT_WORDS)
    }

    fn ready(&self) -> &AtomicU64 {
        &self.board.words()[PROCESSES * EVENTS * EVENT_WORDS]
    }

    /// The child: allocates and frees, and writes down what and when.
    fn record(&self, heap: &Heap, process: usize, mut random: Random) -> Result<()> {
        let joined = heap.sweep();
        // Also if that failed: else the others would wait for ever.
        self.ready().fetch_add(1, RELAXED);
        while self.ready().load(RELAXED) < PROCESSES as u64 {
            std::thread::yield_now();
        }
        joined?;
        let mut held = vec![];
        let mut rows = self.rows(process);
        while rows.len() >= ACTS_MAX {
            let before = sessions(heap);
            let acts = act(heap, &mut held, &mut random)?;
            let after = sessions(heap);
            for ((at, act), row) in acts.into_iter().zip(rows.by_ref()) {
                let event = [1, before, after, at, encoded(act)];
                row.iter().zip(event).for_each(|(word, value)| word.store(value, RELAXED));
            }
        }
        Ok(())
    }

    fn events(&self, process: usize) -> Vec<Event> {
        let rows = self.rows(process).filter(|row| row[0].load(RELAXED) == 1);
        let read = |row: &[AtomicU64]| {
            let [_, before, after, at, what] = [0, 1, 2, 3, 4].map(|word| row[word].load(RELAXED));
            Event { sessions: before + 1..=after, at, act: decoded(what) }
        };
        rows.map(read).collect()
    }
}

/// Allocates, frees or resizes; what it did to the object at which place.
fn act(heap: &Heap, held: &mut Vec<NonNull<u8>>, random: &mut Random) -> Result<Vec<(u64, Act)>> {
    let position = |object| bytes::place(heap, object) / GRANULE_BYTES;
    let (size, align) = (random.log_uniform(SIZE_MAX), 1 << random.below(8));
    let granules = size.div_ceil(GRANULE_BYTES);
    let is_new = held.is_empty() || (held.len() < HELD_MAX && random.one_in(2));
    if is_new {
        let object = heap.alloc(bytes::layout(size, align))?;
        held.push(object);
        let align = align.div_ceil(GRANULE_BYTES);
        return Ok(vec![(position(object), Act::Alloc { granules, align })]);
    }
    let object = held.swap_remove(random.below(held.len() as u64) as usize);
    let at = position(object);
    if random.one_in(2) {
        bytes::free(heap, object)?;
        return Ok(vec![(at, Act::Free)]);
    }
    let resized = bytes::realloc(heap, object, size)?;
    held.push(resized);
    if resized == object {
        return Ok(vec![(at, Act::Resize { granules })]);
    }
    let alloc = (position(resized), Act::Alloc { granules, align: 1 });
    Ok(vec![(at, Act::FindNoRoom { granules }), alloc, (at, Act::Free)])
}

/// An act as a word of the board.
fn encoded(act: Act) -> u64 {
    match act {
        Act::Free => 0,
        Act::Alloc { granules, align } => 1 << 48 | align << 32 | granules,
        Act::Resize { granules } => 2 << 48 | granules,
        Act::FindNoRoom { granules } => 3 << 48 | granules,
    }
}

fn decoded(word: u64) -> Act {
    let (granules, align) = (word & 0xffff_ffff, word >> 32 & 0xffff);
    match word >> 48 {
        0 => Act::Free,
        1 => Act::Alloc { granules, align },
        2 => Act::Resize { granules },
        _ => Act::FindNoRoom { granules },
    }
}

/// How many sessions the heap has had: one for each operation.
fn sessions(heap: &Heap) -> u64 {
    heap.stats().operations
}

impl Rounds for Linear {
    fn round(&mut self, _: u64, random: &mut Random, tally: &mut Tally) -> Result<()> {
        let heap = HeapOptions::new(LEN_BYTES).policy(Policy::FirstFit).create_memfd()?;
        self.board.words().iter().for_each(|word| word.store(0, RELAXED));
        let mut children = vec![];
        for process in 0..PROCESSES {
            let random = Random::new(random.next());
            children.push(Fork::start(|| self.record(&heap, process, random))?);
        }
        for mut child in children {
            let status = child.wait()?;
            ensure!(is_fine(status), "a process {}", spell(status));
        }
        let rows: Vec<_> = (0..PROCESSES).map(|process| self.events(process)).collect();
        let count: usize = rows.iter().map(Vec::len).sum();
        let mixed = rows.iter().flatten().filter(|event| event.sessions.clone().count() > 1);
        tally.count("with others in between", mixed.count() as u64);
        for event in rows.iter().flatten() {
            match event.act {
                Act::Resize { .. } => tally.count("resized in place", 1),
                Act::FindNoRoom { .. } => tally.count("moved", 1),
                _ => {}
            }
        }
        let ordered = order::explain(&rows, LEN_BYTES / GRANULE_BYTES);
        tally.points(count as u64, ordered.context("no order explains every address"));
        Ok(())
    }
}
