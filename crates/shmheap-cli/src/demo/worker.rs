//! A worker process: claims documents, enters their words into the index, commits.

use std::io::{self, BufRead, Write};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use shmheap::{Handle, Heap};

use super::corpus::Random;
use super::directory::Directory;
use super::index::Place;
use super::plan::{Claim, WorkerRow};
use super::{object, words};
use crate::Verdict;
use crate::args::DemoWorker;

/// What a worker says when it is connected.
pub(super) const READY: &str = "ready";
/// Objects that the worker to be killed holds while it allocates and frees.
const SCRATCH_OBJECTS: usize = 64;
/// Words of the largest of them.
const SCRATCH_WORDS_MAX: u64 = 64;

/// The process.
pub(super) fn run(arguments: &DemoWorker, out: &mut dyn Write) -> Result<Verdict> {
    // A worker has no purpose without the process that started it, however that one ends.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let heap = Heap::connect(&arguments.heap)?;
    let directory = Directory::open(&heap, arguments.directory)?;
    let row = directory.plan.worker(arguments.number);
    if !row.register(&heap.peers()) {
        bail!("worker {} finds no record of itself", arguments.number + 1);
    }
    writeln!(out, "{READY}")?;
    out.flush()?;
    let mut go = String::new();
    if io::stdin().lock().read_line(&mut go)? == 0 {
        return Ok(Verdict::Fine);
    }
    let worker = Worker { heap: &heap, directory, row, busy_after: arguments.busy_after };
    worker.work(arguments.number).with_context(|| format!("worker {}", arguments.number + 1))?;
    Ok(Verdict::Fine)
}

struct Worker<'h> {
    heap: &'h Heap,
    directory: Directory<'h>,
    row: WorkerRow<'h>,
    /// After so many objects this worker commits nothing more, but allocates until it is killed.
    /// Without this, a worker on a short text might be through before the signal arrives.
    busy_after: Option<u64>,
}

impl Worker<'_> {
    fn work(&self, number: u16) -> Result<()> {
        while let Some((document, claim)) = self.directory.plan.next(number) {
            let words = self.index(document, claim)?;
            if self.time_to_be_busy() {
                self.busy_until_killed()?;
            }
            if self.directory.plan.commit(document, claim) {
                self.row.count_document(words);
            }
        }
        if self.busy_after.is_some() { self.busy_until_killed() } else { Ok(()) }
    }

    /// Enters all words of a document; returns their number.
    fn index(&self, document: usize, claim: Claim) -> Result<u64> {
        let text = self.directory.document(document)?.text;
        let mut position = 0;
        words::each(&text, |word| {
            let place = Place::new(document, position);
            position += 1;
            self.directory.index.enter(word, place, claim.ticket(), || {
                self.row.count_allocation();
            })
        })?;
        Ok(position)
    }

    fn time_to_be_busy(&self) -> bool {
        self.busy_after.is_some_and(|count| {
            self.row.allocations() >= count || !self.directory.plan.fresh_left()
        })
    }

    /// Allocates and frees objects of random sizes without end.
    fn busy_until_killed(&self) -> Result<()> {
        let mut scratch = [Handle::NONE; SCRATCH_OBJECTS];
        let mut random = Random(scratch_seed(self.row));
        loop {
            for slot in &mut scratch {
                if *slot != Handle::NONE {
                    object::free(self.heap, *slot)?;
                }
                let count = 1 + random.below(SCRATCH_WORDS_MAX);
                (*slot, _) = object::allocate(self.heap, count as usize)?;
                self.row.count_allocation();
            }
        }
    }
}

/// A different course of sizes for each worker and moment.
fn scratch_seed(row: WorkerRow<'_>) -> u64 {
    row.allocations() ^ row.words() << 32
}
