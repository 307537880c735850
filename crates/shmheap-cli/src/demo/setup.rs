//! What the demo stands on: the text, its plain count, and a heap that goes away with it.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::thread;

use anyhow::{Context, Result, bail};
use shmheap::{Error, Heap, HeapOptions};

use super::corpus::{self, Corpus, Random};
use super::count::Count;
use super::crew::Victim;
use crate::args::Demo;
use crate::size;
use crate::target::SHM_DIRECTORY;

/// Words of the built-in text, where /dev/shm is large enough.
const BUILT_IN_WORDS: u64 = if cfg!(debug_assertions) { 150_000 } else { 3_000_000 };
/// Storage that a word of the built-in text takes in the heap, about: its letters and its place.
const WORD_STORAGE_BYTES: u64 = 36;
/// Storage of one place in the index.
const PLACE_BYTES: u64 = 24;
/// Storage of a different word besides its letters: record, bucket, rounding.
const WORD_BYTES: u64 = 56;
/// Storage of a document besides its letters: name, table row, record.
const DOCUMENT_BYTES: u64 = 160;
/// Room for the tables, and for what the killed worker leaves.
const SPARE_BYTES: u64 = 4 << 20;
/// What a worker has in hand: a slab for each size of its objects.
const WORKER_BYTES: u64 = 1 << 20;
/// How many names to try, where process numbers are used again.
const NAMES: u32 = 100;

/// Everything that is there before the first worker starts. Dropping it destroys the heap.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) corpus: Corpus,
    pub(super) count: Count,
    pub(super) workers: u16,
    pub(super) name: OsString,
    pub(super) heap: Heap,
    /// What it was created with.
    pub(super) len_bytes: u64,
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Nobody is left to tell; a heap that stays is found by `is_gone`.
        let _ = Heap::destroy(&self.name);
    }
}

/// Reads and counts the text and creates the heap.
pub(super) fn prepare(arguments: &Demo) -> Result<Ground> {
    let available = available_bytes()?;
    let corpus = match &arguments.path {
        Some(path) => corpus::read(path, available)?,
        None => corpus::built_in(BUILT_IN_WORDS.min(available / 2 / WORD_STORAGE_BYTES)),
    };
    let count = Count::of(&corpus.documents);
    let workers = arguments.workers.unwrap_or_else(default_workers);
    let needed = needed_bytes(&corpus, &count) + u64::from(workers) * WORKER_BYTES;
    if needed > available {
        bail!(
            "the index of {} needs about {}, {SHM_DIRECTORY} has {} free; \
             give less text, or see `shmheap doctor`",
            corpus.source,
            size::long(needed),
            size::long(available)
        );
    }
    let options = HeapOptions::new(corpus.bytes() + SPARE_BYTES).max_len(2 * needed);
    let (name, heap) = create(&options)?;
    let len_bytes = heap.info().len_bytes;
    let ground = Ground { corpus, count, workers, name, heap, len_bytes };
    destroy_on_interrupt(ground.name.clone())?;
    Ok(ground)
}

fn available_bytes() -> Result<u64> {
    let numbers = rustix::fs::statvfs(SHM_DIRECTORY)
        .with_context(|| format!("no shared memory at {SHM_DIRECTORY}; see `shmheap doctor`"))?;
    Ok(numbers.f_bavail * numbers.f_frsize)
}

fn needed_bytes(corpus: &Corpus, count: &Count) -> u64 {
    corpus.bytes()
        + corpus.documents.len() as u64 * DOCUMENT_BYTES
        + count.places * PLACE_BYTES
        + count.words() * WORD_BYTES
        + count.word_bytes()
        + SPARE_BYTES
}

/// One for each processor, at least 3 so that there is something to see.
fn default_workers() -> u16 {
    let processors = thread::available_parallelism().map_or(2, usize::from);
    processors.clamp(3, 8) as u16
}

fn create(options: &HeapOptions) -> Result<(OsString, Heap)> {
    let process = std::process::id();
    let mut result = Err(Error::AlreadyExists { name: "shmheap-demo".to_owned() });
    for number in 1..=NAMES {
        let name = match number {
            1 => format!("shmheap-demo-{process}"),
            _ => format!("shmheap-demo-{process}-{number}"),
        };
        result = options.create(&name).map(|heap| (OsString::from(name), heap));
        if !matches!(result, Err(Error::AlreadyExists { .. })) {
            break;
        }
    }
    result.context("run `shmheap gc --remove-idle` if earlier demos left heaps")
}

/// The terminal interrupts other processes of the command as well; only the heap's name is left to
/// remove.
pub(crate) fn destroy_on_interrupt(name: OsString) -> Result<()> {
    const EXIT_INTERRUPTED: i32 = 130;
    ctrlc::set_handler(move || {
        let _ = Heap::destroy(&name);
        std::process::exit(EXIT_INTERRUPTED);
    })
    .context("cannot prepare for Ctrl-C")
}

/// Whether no heap has that name.
pub(super) fn is_gone(name: &OsStr) -> bool {
    matches!(Heap::connect_read_only(name), Err(Error::NotFound { .. }))
}

/// A random worker that has a document, and a random moment in the middle half of its share.
pub(super) fn choose_victim(workers: u16, documents: usize, count: &Count) -> Victim {
    let mut random = Random(RandomState::new().hash_one(workers));
    let candidates = u64::from(workers).min(documents as u64).max(1);
    let share = count.places / u64::from(workers.max(1));
    Victim {
        number: random.below(candidates) as u16,
        busy_after: share / 4 + random.below(share / 2 + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::corpus::Document;
    use super::*;

    #[test]
    fn the_victim_has_work_and_is_killed_on_the_way() {
        let document = |text: &str| Document { name: String::new(), text: text.to_owned() };
        let one = [document("word")];
        let count = Count::of(&one);
        for _ in 0..100 {
            let victim = choose_victim(4, 1, &count);
            assert_eq!((victim.number, victim.busy_after), (0, 0));
        }
        let many: Vec<Document> = (0..10).map(|_| document(&"a b c d ".repeat(25))).collect();
        let count = Count::of(&many);
        for _ in 0..100 {
            let victim = choose_victim(4, 10, &count);
            assert!(victim.number < 4 && (62..=188).contains(&victim.busy_after), "{victim:?}");
        }
    }
}
