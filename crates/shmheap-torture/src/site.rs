//! `Site`: a small heap in which an operator is cut, and how it comes to be the same again.
//!
//! A site follows from its seed: objects lie in the same places in any two that were built alike,
//! so what one operator did without a trap tells what another, which is killed in the middle, may
//! have left.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, ensure};
use shmheap::{Heap, HeapOptions, Policy};

use crate::bytes;
use crate::process::{Fork, is_fine, spell};
use crate::random::Random;
use crate::scenario::{Op, Operator};
use crate::snapshot::{Snapshot, await_deaths};

/// Of the scalable policy: beyond the largest size class.
pub(crate) const LARGE_BYTES: u64 = 800 << 10;
/// What first fit has instead.
const LONG_BYTES: u64 = 5000;
const UNITS: u64 = 32;
/// Objects of the bystander, before some of them are freed.
const OBJECTS: usize = 400;

/// How often a long operation has its turn.
const LONG_ONE_IN: u64 = 6;

/// Both policies.
pub(crate) const POLICIES: [Policy; 2] = [Policy::FirstFit, Policy::Scalable];

pub(crate) fn policy_name(policy: Policy) -> &'static str {
    if policy == Policy::Scalable { "scalable" } else { "first fit" }
}

/// What is done where: with the seed, all that there is to know of a round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plot {
    pub(crate) policy: Policy,
    pub(crate) op: Op,
    pub(crate) seed: u64,
}

impl Plot {
    /// The plot of a round: operations take turns, and so do the policies. The long ones are left
    /// out most of the time: else they would have most of it.
    pub(crate) fn of_round(round: u64, random: &mut Random) -> Self {
        let count = Op::ALL.len() as u64;
        let policy = POLICIES[(round / count % 2) as usize];
        let mut op = Op::ALL[(round % count) as usize];
        while op.is_long(policy) && !random.one_in(LONG_ONE_IN) {
            op = Op::ALL[random.below(count) as usize];
        }
        Self { policy, op, seed: random.next() }
    }
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} under {}", self.op, policy_name(self.policy))
    }
}

/// A heap with objects of this process, the bystander, at places that follow from the seed.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) heap: Heap,
    /// Live objects of the bystander, but for the one with the cell.
    pub(crate) objects: Vec<NonNull<u8>>,
    cell: NonNull<u8>,
    plot: Plot,
}

impl Site {
    pub(crate) fn build(plot: Plot) -> Result<Self> {
        let len_bytes = if plot.policy == Policy::Scalable { UNITS << 16 } else { 64 << 10 };
        let options = HeapOptions::new(len_bytes).max_len(2 * len_bytes).policy(plot.policy);
        let heap = options.create_memfd()?;
        let mut random = Random::of(plot.seed, "site", 0);
        let (cell, _) = bytes::alloc_words(&heap, 1)?;
        let mut objects = vec![];
        let size_max = if random.one_in(2) { 64 } else { 150 };
        let count = if plot.policy == Policy::Scalable { OBJECTS } else { OBJECTS / 4 * 3 };
        for stamp in 0..count as u64 {
            let size = if plot.policy == Policy::Scalable {
                8 + random.below(size_max)
            } else {
                8 + random.below(80)
            };
            let object = bytes::alloc(&heap, size)?;
            bytes::stamp(&heap, object, size, stamp);
            objects.push(object);
        }
        // Holes, more at some sites than at others.
        for _ in 0..random.below(count as u64 / 4) {
            let which = random.below(objects.len() as u64) as usize;
            bytes::free(&heap, objects.swap_remove(which))?;
        }
        Ok(Self { heap, objects, cell, plot })
    }

    /// The word that is a cell.
    pub(crate) fn cell(&self) -> Result<&AtomicU64> {
        bytes::words(&self.heap, self.cell, 1).first().context("a cell is a word")
    }

    pub(crate) fn large_bytes(&self) -> u64 {
        if self.plot.policy == Policy::Scalable { LARGE_BYTES } else { LONG_BYTES }
    }

    /// What the heap holds, once all have died but the bystander, and have been swept.
    pub(crate) fn look(&self) -> Result<Snapshot> {
        await_deaths(&self.heap, 1)?;
        Snapshot::take(&self.heap, bytes::place(&self.heap, self.cell))
    }

    /// As [`look`](Self::look), by another connection to the same bytes.
    pub(crate) fn look_through(&self, heap: &Heap) -> Result<Snapshot> {
        Snapshot::take(heap, bytes::place(&self.heap, self.cell))
    }

    /// Starts an operator, which does with its things what `act` says.
    pub(crate) fn operator(
        &self,
        act: impl FnOnce(&mut Operator<'_>) -> Result<()>,
    ) -> Result<Fork> {
        Fork::start(|| {
            let mut random = Random::of(self.plot.seed, "operator", 0);
            let mut operator = Operator::prepare(self, self.plot.op, &mut random)?;
            let acted = act(&mut operator);
            // Dies with all it has.
            std::mem::forget(operator);
            acted
        })
    }

    /// What an operator leaves that dies before its operation, and one that dies after it.
    pub(crate) fn expected(plot: Plot) -> Result<(Snapshot, Snapshot)> {
        let left = |act: fn(&mut Operator<'_>) -> Result<()>| {
            let site = Self::build(plot)?;
            let status = site.operator(act)?.wait()?;
            ensure!(is_fine(status), "without a trap, an operator {}", spell(status));
            site.look()
        };
        Ok((left(|_| Ok(()))?, left(|operator| operator.operate())?))
    }
}
