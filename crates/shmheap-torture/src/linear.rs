//! "linear": under first fit, what several processes do at once has an order in which each object
//! gets the lowest address that held it at its moment.
//!
//! Each process notes for each operation the heap's session number before and after it, so the
//! operation was one of the sessions in between. With little between, the order is soon found: see
//! [`order`].

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

    fn rows(&self, process: usize) -> impl Iterator<Item = &[AtomicU64]> {
        let words = EVENTS * EVENT_WORDS;
        self.board.words()[process * words..(process + 1) * words].chunks_exact(EVENT_WORDS)
    }

    fn ready(&self) -> &AtomicU64 {
        &self.board.words()[PROCESSES * EVENTS * EVENT_WORDS]
    }

    /// The child: allocates and frees, and writes down what and when.
    fn record(&self, heap: &Heap, process: usize, mut random: Random) -> Result<()> {
        heap.sweep()?;
        let mut held = vec![];
        let position = |object| bytes::place(heap, object) / GRANULE_BYTES;
        self.ready().fetch_add(1, RELAXED);
        while self.ready().load(RELAXED) < PROCESSES as u64 {
            std::hint::spin_loop();
        }
        for row in self.rows(process) {
            let frees = held.len() == HELD_MAX || (!held.is_empty() && random.one_in(2));
            let size = random.log_uniform(SIZE_MAX);
            let align = 1 << random.below(8);
            let before = sessions(heap);
            let (kind, at, granules, align) = if frees {
                let object = held.swap_remove(random.below(held.len() as u64) as usize);
                bytes::free(heap, object)?;
                (0, position(object), 0, 1)
            } else {
                let object = heap.alloc(bytes::layout(size, align))?;
                held.push(object);
                let align = align.div_ceil(GRANULE_BYTES);
                (1, position(object), size.div_ceil(GRANULE_BYTES), align)
            };
            let after = sessions(heap);
            let what = kind << 48 | align << 32 | granules;
            let event = [1, before, after, at, what];
            row.iter().zip(event).for_each(|(word, value)| word.store(value, RELAXED));
        }
        Ok(())
    }

    fn events(&self, process: usize) -> Vec<Event> {
        let rows = self.rows(process).filter(|row| row[0].load(RELAXED) == 1);
        let read = |row: &[AtomicU64]| {
            let [_, before, after, at, what] = [0, 1, 2, 3, 4].map(|word| row[word].load(RELAXED));
            let (granules, align) = (what & 0xffff_ffff, what >> 32 & 0xffff);
            let act = if what >> 48 == 1 { Act::Alloc { granules, align } } else { Act::Free };
            Event { sessions: before + 1..=after, at, act }
        };
        rows.map(read).collect()
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
        let ordered = order::explain(&rows, LEN_BYTES / GRANULE_BYTES);
        tally.points(count as u64, ordered.context("no order explains every address"));
        Ok(())
    }
}
