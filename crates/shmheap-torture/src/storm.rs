//! "storm": eight processes at work in one heap, killed at random moments, lose no object.
//!
//! All objects are made into cells and taken from cells, so at every moment each is in one place:
//! a cell, or the ledger of a living process. Victims die one by one, with others in the middle of
//! whatever they do, and after each death the audit must be sound while the survivors go on. At the
//! end of a round all are killed at once: what lives then is exactly what the cells hold, and
//! emptied cells leave one free block.
//!
//! Under the scalable policy an object that is dropped in another's slab is an ordinary one for a
//! moment, as the library says: there, a death may leave one that is in no cell.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shmheap::{Heap, HeapOptions, Policy};

use crate::bytes;
use crate::process::{Fork, is_killed, spell};
use crate::random::Random;
use crate::section::Rounds;
use crate::site::POLICIES;
use crate::snapshot::assert_empties;
use crate::tally::Tally;

const PROCESSES: usize = 8;
const CELLS: usize = 64;
const KILLS_OF_ROUND: u64 = 40;
/// Victims run for up to so long before one is killed.
const RUN_NS_MAX: u64 = 500_000;
const LEN_BYTES: u64 = 2 << 20;

#[derive(Debug)]
pub(crate) struct Storm;

impl Rounds for Storm {
    fn round(&mut self, round: u64, random: &mut Random, tally: &mut Tally) -> Result<()> {
        let policy = POLICIES[(round % 2) as usize];
        let heap = HeapOptions::new(LEN_BYTES / 8).max_len(LEN_BYTES).policy(policy);
        let heap = heap.create_memfd()?;
        let (row, cells) = bytes::alloc_words(&heap, CELLS)?;
        let mut victims = vec![];
        for _ in 0..PROCESSES {
            victims.push(start(&heap, cells, random.next())?);
        }
        for _ in 0..KILLS_OF_ROUND {
            std::thread::sleep(Duration::from_nanos(random.log_uniform(RUN_NS_MAX)));
            let which = random.below(PROCESSES as u64) as usize;
            let victim =
                std::mem::replace(&mut victims[which], start(&heap, cells, random.next())?);
            tally.point(killed(victim).and_then(|()| audit(&heap)));
        }
        let last = victims.into_iter().try_for_each(killed);
        tally.points(PROCESSES as u64, last.and_then(|()| account(&heap, row, cells)));
        Ok(())
    }
}

/// A victim: fills cells and empties them, for ever.
fn start(heap: &Heap, cells: &[AtomicU64], seed: u64) -> Result<Fork> {
    Fork::start(|| {
        let mut random = Random::new(seed);
        let size_max = if heap.info().policy == Policy::Scalable { 70_000 } else { 4000 };
        loop {
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
    })
}

fn killed(victim: Fork) -> Result<()> {
    let status = victim.kill()?;
    ensure!(is_killed(status), "a victim {}", spell(status));
    Ok(())
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
fn account(heap: &Heap, row: NonNull<u8>, cells: &[AtomicU64]) -> Result<()> {
    heap.sweep()?;
    let report = heap.check();
    ensure!(report.is_sound() && report.stood_still, "not sound: {:?}", report.findings);
    let mut held = 0;
    for cell in cells {
        held += u64::from(bytes::take(heap, cell)?.is_some());
    }
    let lived = report.live_objects - 1;
    let dropped_max = match heap.info().policy {
        Policy::Scalable => KILLS_OF_ROUND + PROCESSES as u64,
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
