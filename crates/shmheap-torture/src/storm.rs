//! "storm": eight processes at work in one heap, killed at random moments, lose no object.
//!
//! All objects are made into cells and taken from cells, so at every moment each is in one place:
//! a cell, or the ledger of a living process. Victims die one by one, or some at the same moment,
//! with others in the middle of whatever they do; each time the audit must be sound while the
//! survivors go on. At the end of a round all are killed at once: what lives then is exactly what
//! the cells hold, and emptied cells leave one free block.
//!
//! Each victim has the kernel kill it, by a timer: a SIGKILL from another process finds most of
//! those that are to die waiting for a processor, and takes as long as that.
//!
//! Under the scalable policy an object that is dropped in another's slab is an ordinary one for a
//! moment, as the library says: there, a death may leave one that is in no cell.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, WaitStatus};
use shmheap::{Heap, HeapOptions, Policy};

use crate::board::Board;
use crate::bytes;
use crate::process::{Fork, die_in, is_killed, spell, wait_for_any};
use crate::random::Random;
use crate::section::Rounds;
use crate::site::POLICIES;
use crate::snapshot::{assert_empties, await_deaths};
use crate::tally::Tally;

const PROCESSES: usize = 8;
const CELLS: usize = 64;
const DEATHS_OF_ROUND: usize = 100;
/// How often a victim pauses in its life, for how long, and how much it does in between.
const PAUSES_MAX: u64 = 16;
const PAUSE_NS_MAX: u64 = 4_000_000;
const WORK_MAX: u64 = 512;
/// How long it goes on, once it has a death before it.
const DEATH_NS_MAX: u64 = 100_000;
const LEN_BYTES: u64 = 2 << 20;

// Relaxed wherever the board is used: it is read when its writer has been waited for.
const RELAXED: Ordering = Ordering::Relaxed;
/// What a victim writes on the board.
const BETWEEN: u64 = 1;
const INSIDE: u64 = 2;

#[derive(Debug)]
pub(crate) struct Storm {
    /// For each victim, whether it is inside an operation.
    board: Board,
}

impl Storm {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { board: Board::new(PROCESSES)? })
    }

    /// A victim: works now and then for a while, and at last until it is killed in the middle.
    fn start(&self, number: usize, heap: &Heap, cells: &[AtomicU64], seed: u64) -> Result<Fork> {
        let place = &self.board.words()[number];
        place.store(0, RELAXED);
        Fork::start(|| {
            let mut random = Random::new(seed);
            let work = |random: &mut Random| {
                place.store(INSIDE, RELAXED);
                act(heap, cells, random);
                place.store(BETWEEN, RELAXED);
            };
            for _ in 0..random.below(PAUSES_MAX) {
                for _ in 0..random.log_uniform(WORK_MAX) {
                    work(&mut random);
                }
                // Else the dead of eight that never sleep would wait for their turn to die.
                std::thread::sleep(Duration::from_nanos(random.log_uniform(PAUSE_NS_MAX)));
            }
            work(&mut random);
            die_in(Duration::from_nanos(1 + random.below(DEATH_NS_MAX)))?;
            loop {
                work(&mut random);
            }
        })
    }

    /// What is there to say of a victim that has died.
    fn judge(&self, number: usize, status: WaitStatus, tally: &mut Tally) -> Result<()> {
        ensure!(is_killed(status), "a victim {}", spell(status));
        if self.board.words()[number].load(RELAXED) == INSIDE {
            tally.count("inside an operation", 1);
        }
        Ok(())
    }

    /// Waits for a death, and takes all that died at the same moment: how many, and who.
    fn bury(&self, victims: &mut [Fork], tally: &mut Tally) -> (Vec<usize>, Result<()>) {
        let mut dead = vec![];
        let mut judged = wait_for_any(victims).and_then(|(number, status)| {
            dead.push(number);
            self.judge(number, status, tally)
        });
        for (number, victim) in victims.iter_mut().enumerate() {
            if dead.contains(&number) {
                continue;
            }
            if let Ok(Some(status)) = victim.ended() {
                dead.push(number);
                judged = judged.and(self.judge(number, status, tally));
            }
        }
        (dead, judged)
    }

    fn run(&self, policy: Policy, random: &mut Random, tally: &mut Tally) -> Result<()> {
        let heap = HeapOptions::new(LEN_BYTES / 8).max_len(LEN_BYTES).policy(policy);
        let heap = heap.create_memfd()?;
        let (row, cells) = bytes::alloc_words(&heap, CELLS)?;
        let start = |number, random: &mut Random| self.start(number, &heap, cells, random.next());
        let mut victims = vec![];
        for number in 0..PROCESSES {
            victims.push(start(number, random)?);
        }
        let mut deaths = 0;
        while deaths < DEATHS_OF_ROUND {
            let (dead, judged) = self.bury(&mut victims, tally);
            deaths += dead.len();
            tally.count("audits with others at work", 1);
            tally.points(dead.len() as u64, judged.and_then(|()| audit(&heap)));
            for number in dead {
                victims[number] = start(number, random)?;
            }
        }
        for victim in &victims {
            victim.send(Signal::KILL)?;
        }
        let last = victims.iter_mut().enumerate();
        let last = last.map(|(number, victim)| self.judge(number, victim.wait()?, tally));
        let last = last.fold(Ok(()), Result::and);
        tally.points(PROCESSES as u64, last.and_then(|()| account(&heap, row, cells, deaths)));
        Ok(())
    }
}

impl Rounds for Storm {
    fn round(&mut self, round: u64, random: &mut Random, tally: &mut Tally) -> Result<()> {
        self.run(POLICIES[(round % 2) as usize], random, tally)
    }
}

/// Fills a cell, or takes what is in one and puts it into another.
fn act(heap: &Heap, cells: &[AtomicU64], random: &mut Random) {
    let size_max = if heap.info().policy == Policy::Scalable { 70_000 } else { 4000 };
    let cell = &cells[random.below(CELLS as u64) as usize];
    if random.one_in(2) {
        // Refused where there is something, or when the heap is full.
        let _ = bytes::alloc_into(heap, random.log_uniform(size_max), cell);
    } else if let Ok(Some(object)) = bytes::take(heap, cell) {
        let other = &cells[random.below(CELLS as u64) as usize];
        // Freed if the other cell is occupied: it comes back with the refusal.
        let _ = bytes::publish(object, other);
    }
    if random.one_in(500) {
        let _ = heap.trim();
    }
}

/// Looks for damage while the survivors work.
fn audit(heap: &Heap) -> Result<()> {
    heap.sweep()?;
    let report = heap.check();
    // What moves while it is looked at tells nothing.
    ensure!(report.is_sound() || !report.stood_still, "not sound: {:?}", report.findings);
    Ok(())
}

/// Empties the cells, and compares what lived with what they held.
fn account(heap: &Heap, row: NonNull<u8>, cells: &[AtomicU64], deaths: usize) -> Result<()> {
    await_deaths(heap, 1)?;
    heap.sweep()?;
    let report = heap.check();
    ensure!(report.is_sound() && report.stood_still, "not sound: {:?}", report.findings);
    let mut held = 0;
    for cell in cells {
        held += u64::from(bytes::take(heap, cell)?.is_some());
    }
    let lived = report.live_objects - 1;
    let dropped_max = match heap.info().policy {
        Policy::Scalable => (deaths + PROCESSES) as u64,
        _ => 0,
    };
    let fits = (held..=held + dropped_max).contains(&lived);
    ensure!(fits, "{lived} objects live, {held} are in cells");
    for block in heap.blocks().filter(|block| block.live) {
        let object = heap.resolve(block.handle)?;
        if object != row {
            bytes::free(heap, object)?;
        }
    }
    ensure!(heap.peers().len() == 1, "{} peers", heap.peers().len());
    let left = heap.stats().live_objects;
    ensure!(left == 1, "{left} objects are left when the cells are empty");
    bytes::free(heap, row).context("the cells themselves")?;
    assert_empties(heap)
}
