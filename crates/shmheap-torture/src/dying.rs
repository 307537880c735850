//! A peer that is killed in the middle of an operation, for an operator to recover.
//!
//! ```text
//!   bystander --fork--> operator: joins --fork--> the dying one: joins, allocates, frees, resizes
//!                           |                         instruction by instruction, killed after one
//!                           | adopts it, or allocates where it may hold the lock:
//!                           v instruction by instruction, killed in its turn
//! ```
//!
//! The operator joins first: whoever allocates recovers, and that shall be seen. Both deaths follow
//! from the seed, so that any two sites have the same ones.

use std::ptr::NonNull;

use anyhow::{Result, ensure};
use shmheap::Heap;

use crate::bytes;
use crate::process::{Fork, is_killed, spell};
use crate::random::Random;
use crate::snapshot::await_deaths;
use crate::trap;

/// What it dies of, and how many instructions that takes most of the time; behind them it dies
/// between two operations.
const DEATHS: [(Death, u64); 4] =
    [(Death::Alloc, 900), (Death::Free, 700), (Death::Grow, 1000), (Death::Move, 1800)];

#[derive(Debug, Clone, Copy)]
enum Death {
    Alloc,
    Free,
    Grow,
    Move,
}

impl Death {
    /// The dying one has `own` with nothing behind it, and nobody else knows of `foreign`.
    fn act(self, heap: &Heap, own: NonNull<u8>, foreign: NonNull<u8>) -> shmheap::Result<()> {
        match self {
            Self::Alloc => bytes::alloc(heap, 100).map(drop),
            Self::Free => bytes::free(heap, foreign),
            Self::Grow => bytes::realloc(heap, own, 300).map(drop),
            Self::Move => bytes::realloc(heap, foreign, 900).map(drop),
        }
    }
}

/// Leaves a peer in the heap that has died, with some objects that are in its ledger alone.
/// `foreign` may be one of the objects that it frees.
pub(crate) fn leave(heap: &Heap, foreign: NonNull<u8>, random: &mut Random) -> Result<()> {
    let (death, instructions) = DEATHS[random.below(DEATHS.len() as u64) as usize];
    let at = 1 + random.below(instructions);
    let mut dying = Fork::start(|| {
        let own = bytes::alloc(heap, 200)?;
        let mut unpublished = vec![];
        for size in [40, 64] {
            unpublished.push(heap.alloc_unpublished(bytes::layout(size, 1))?);
        }
        let mut die_there = |number| {
            if number == at {
                trap::die();
            }
        };
        let mut result = Ok(());
        trap::run(&mut die_there, || result = death.act(heap, own, foreign))?;
        result?;
        trap::die();
        Ok(())
    })?;
    let status = dying.wait()?;
    ensure!(is_killed(status), "a peer that was to be killed in {death:?} {}", spell(status));
    // The bystander, and the operator that calls this.
    await_deaths(heap, 2)
}
