//! "corrupt": whatever is written over the records of a heap, a healthy process gets an error or a
//! wrong place in the segment: no signal, no panic, no access outside, no hang.
//!
//! Two victims at a time work in a heap between guards, each of which overwrites a word of the
//! records before each of its operations, so both meet the nonsense of both. The parent counts
//! their operations and notices who stands still. Now and then the `shmheap` command has to read
//! what is left.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use shmheap::{Heap, HeapOptions, Policy};

use crate::board::Board;
use crate::bytes;
use crate::guard;
use crate::mutation::Mutator;
use crate::name::Name;
use crate::patience::Patience;
use crate::process::{Fork, is_fine, spell};
use crate::random::Random;
use crate::readers;
use crate::section::Rounds;
use crate::site::{POLICIES, policy_name};
use crate::tally::Tally;
use crate::victim::Victim;

const VICTIMS: usize = 2;
const MUTATIONS_OF_VICTIM: u64 = 4000;
/// An operation that takes longer hangs: of the processor's time, or of anybody's.
const BUSY_MAX: Duration = Duration::from_secs(1);
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Rounds between those whose heap the command has to read.
const READ_EVERY: u64 = 16;

#[derive(Debug)]
pub(crate) struct Corrupt {
    /// For each victim, the mutations done, and whether its heap is between guards; then how many
    /// are connected.
    board: Board,
    command: PathBuf,
}

impl Corrupt {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { board: Board::new(2 * VICTIMS + 1)?, command: readers::command()? })
    }

    fn row(&self, number: usize) -> (&AtomicU64, &AtomicU64) {
        let words = self.board.words();
        (&words[2 * number], &words[2 * number + 1])
    }

    fn connected(&self) -> &AtomicU64 {
        &self.board.words()[2 * VICTIMS]
    }

    /// The child: overwrites and acts, over and over.
    fn suffer(&self, name: &Name, number: usize, mut random: Random) -> Result<()> {
        let (done, guarded) = self.row(number);
        let (heap, is_guarded) = guard::connect(|| Heap::connect(name.as_str()))?;
        guarded.store(u64::from(is_guarded), RELAXED);
        let observer = Heap::connect_read_only(name.as_str())?;
        let file = File::options().read(true).write(true).open(name.path())?;
        let mut mutator = Mutator::new(&file, heap.info());
        let mut victim =
            Victim { heap: &heap, observer: &observer, name: name.as_str(), held: vec![] };
        self.connected().fetch_add(1, RELAXED);
        // A damaged heap would refuse the other.
        while self.connected().load(RELAXED) < VICTIMS as u64 {
            std::thread::yield_now();
        }
        for _ in 0..MUTATIONS_OF_VICTIM {
            mutator.mutate(&mut random)?;
            victim.act(&mut random)?;
            done.fetch_add(1, RELAXED);
        }
        Ok(())
    }

    /// Waits for a victim's end; an error if that is not how it should be.
    fn watch(&self, mut victim: Fork, number: usize) -> Result<()> {
        let done = self.row(number).0;
        let mut patience = Patience::new(IDLE_MAX);
        let mut last = (u64::MAX, Duration::ZERO);
        loop {
            if let Some(status) = victim.ended()? {
                ensure!(is_fine(status), "a victim {}", spell(status));
                return Ok(());
            }
            let now = done.load(RELAXED);
            let busy = victim.busy()?;
            if now != last.0 {
                last = (now, busy);
                patience.renew();
            }
            let busy = busy.saturating_sub(last.1);
            if !patience.wait() || busy > BUSY_MAX {
                bail!("an operation does not end, after {busy:?} of a processor's time");
            }
        }
    }
}

// Relaxed wherever the board is used: the words say how far a process is, and no more.
const RELAXED: Ordering = Ordering::Relaxed;

impl Rounds for Corrupt {
    fn round(&mut self, round: u64, random: &mut Random, tally: &mut Tally) -> Result<()> {
        let policy = POLICIES[(round % 2) as usize];
        let name = Name::new();
        furnish(&name, policy, random)?;
        self.connected().store(0, RELAXED);
        let mut victims = vec![];
        for number in 0..VICTIMS {
            self.row(number).0.store(0, RELAXED);
            let random = Random::new(random.next());
            victims.push(Fork::start(|| self.suffer(&name, number, random))?);
        }
        for (number, victim) in victims.into_iter().enumerate() {
            let end = self.watch(victim, number).context(policy_name(policy));
            let (done, guarded) = self.row(number);
            tally.points(done.load(RELAXED), end);
            tally.count("heaps between guards", guarded.load(RELAXED));
        }
        if (round / 2).is_multiple_of(READ_EVERY) {
            readers::read_all(&self.command, &name, tally);
        }
        Ok(())
    }
}

/// A heap with some objects and holes, and nobody in it.
fn furnish(name: &Name, policy: Policy, random: &mut Random) -> Result<()> {
    let len_bytes = if policy == Policy::Scalable { 1 << 20 } else { 64 << 10 };
    let options = HeapOptions::new(len_bytes).max_len(4 * len_bytes).policy(policy);
    let heap = options.create(name.as_str())?;
    for number in 0..200 {
        let object = bytes::alloc(&heap, 1 + random.below(400))?;
        if number % 3 == 0 {
            bytes::free(&heap, object)?;
        }
    }
    Ok(())
}
