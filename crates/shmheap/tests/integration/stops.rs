//! Goal: under the scalable policy a stopped process costs the others nothing: they never wait for
//! it, and what it keeps from them is bounded and small.
//!
//! Method: a peer that allocates and frees objects of all size classes without a pause is stopped
//! at random moments. While it is, this process allocates and frees in every class, and the time
//! that takes is printed; nothing about it is asserted but that it ends. Then the peer goes on to
//! its gate, and the heap is audited. Another peer is stopped for good, in a heap that may not
//! grow: the rest of the heap must serve, over and over.
//!
//! `SHMHEAP_STOPS=n` sets the number of stops.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shmheap::{Error, Heap, Stats};

use crate::support::process::{
    Fork, Role, Worker, set_word, wait_for_word, wait_until, wait_while_word,
};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, assert_whole, bytes, scalable};

const STOPS: u64 = 1000;
/// How many objects of a class are allocated and freed while the peer is stopped.
const PAIRS: u64 = 100;
const CLASSES: usize = 107;
const SMALL_BYTES_MAX: u64 = 512 << 10;
/// The peer runs for so many turns of an empty loop at the most before it is stopped.
const SPIN_MAX: u64 = 1 << 16;
/// Slabs that a stopped thread keeps of each class: the open one, one that rests, and one on its
/// way between them. More rest only as far as they make up a sixteenth of the heap.
const KEPT_OF_CLASS: u64 = 1 + 1 + 1;
const RESTING_SHARE: u64 = 16;
const UNIT_BYTES: u64 = 64 << 10;
const LEN_BYTES: u64 = 64 << 20;
/// What the peer that is stopped for good has objects of.
const KEPT_SIZES: [u64; 3] = [64, 5000, 100_000];

/// The size of every class, found by asking for one byte more than the last.
fn sizes(heap: &Heap) -> Vec<u64> {
    let mut sizes = vec![];
    while sizes.last() != Some(&SMALL_BYTES_MAX) {
        let object = bytes::alloc(heap, sizes.last().map_or(1, |last| last + 1)).unwrap();
        sizes.push(heap.usable_size(object).unwrap() as u64);
        bytes::free(heap, object).unwrap();
    }
    assert_eq!(sizes.len(), CLASSES);
    sizes
}

/// The words that a peer and its test share.
#[derive(Clone, Copy)]
pub(crate) struct Gate<'h>(pub(crate) &'h [AtomicU64]);

impl Gate<'_> {
    pub(crate) const WORDS: usize = 3;

    /// Lets the peer finish what it does, and holds it.
    pub(crate) fn close(self, order: u64) {
        set_word(&self.0[0], order);
        wait_for_word(&self.0[1], order, || {});
    }

    pub(crate) fn open(self) {
        set_word(&self.0[0], 0);
    }

    /// Counts a round of the peer, and keeps it if the gate is closed.
    pub(crate) fn pass(self) {
        self.0[2].fetch_add(1, Ordering::SeqCst);
        let order = self.0[0].load(Ordering::SeqCst);
        if order != 0 {
            set_word(&self.0[1], order);
            wait_while_word(&self.0[0], order);
        }
    }

    pub(crate) fn rounds(self) -> u64 {
        self.0[2].load(Ordering::SeqCst)
    }
}

/// Allocates a few objects of each class and frees them, for ever. The larger classes have slabs
/// of one object or two, so slabs come and go as well.
fn allocate_and_free(heap: &Heap, sizes: &[u64], gate: Gate<'_>) {
    loop {
        for chunk in sizes.chunks(8) {
            for &size in chunk {
                let objects = [(); 3].map(|()| bytes::alloc(heap, size).unwrap());
                for object in objects {
                    bytes::free(heap, object).unwrap();
                }
            }
            gate.pass();
        }
    }
}

#[test]
fn nobody_waits_for_a_stopped_process() {
    let path = "stops::nobody_waits_for_a_stopped_process";
    let Some(mut role) = Role::of(path) else {
        let stops = setting("SHMHEAP_STOPS", STOPS).to_string();
        let mut worker = Worker::start(path, &[&seed().to_string(), &stops]);
        println!("{}", worker.hear());
        return worker.finish();
    };
    let mut random = Random::new(role.number(0));
    let heap = scalable(4 * LEN_BYTES).create(HeapName::new()).unwrap();
    let sizes = sizes(&heap);
    let (_, row) = bytes::alloc_words(&heap, Gate::WORDS);
    let gate = Gate(row);
    let peer = Fork::start(|| allocate_and_free(&heap, &sizes, gate));
    let mut figures = Figures::default();
    for stop in 1..=role.number(1) {
        for _ in 0..random.log_uniform(SPIN_MAX) {
            std::hint::spin_loop();
        }
        peer.stop();
        let rounds = gate.rounds();
        let one = random.below(CLASSES as u64) as usize;
        figures.one_class.push(allocate_and_free_while_stopped(&heap, &sizes[one..=one]));
        figures.all_classes.push(allocate_and_free_while_stopped(&heap, &sizes));
        let report = heap.check();
        assert!(report.is_sound() && !report.recovery_pending, "{:#?}", report.findings);
        // Units under change are on their way, and no damage.
        figures.in_the_middle += u64::from(!report.stood_still);
        assert_eq!(gate.rounds(), rounds, "the peer was stopped all the time");
        peer.send(Signal::CONT);
        gate.close(stop);
        assert_whole(&heap);
        gate.open();
    }
    role.say(&figures.to_string());
}

fn allocate_and_free_while_stopped(heap: &Heap, sizes: &[u64]) -> Duration {
    let start = Instant::now();
    for &size in sizes {
        for _ in 0..PAIRS {
            let object = bytes::alloc(heap, size).unwrap();
            bytes::free(heap, object).unwrap();
        }
    }
    start.elapsed()
}

#[derive(Default)]
struct Figures {
    one_class: Vec<Duration>,
    all_classes: Vec<Duration>,
    /// Stops that found the peer between two stores of a change.
    in_the_middle: u64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stops = self.one_class.len();
        write!(
            f,
            "{stops} stops, {} in the middle of a change; {PAIRS} pairs",
            self.in_the_middle
        )?;
        for (of, times) in [("one class", &self.one_class), ("each class", &self.all_classes)] {
            let mut times = times.clone();
            times.sort();
            write!(f, " of {of}: median {:?}, most {:?};", times[stops / 2], times[stops - 1])?;
        }
        Ok(())
    }
}

#[test]
fn a_process_stopped_for_good_keeps_a_few_slabs_and_no_more() {
    let path = "stops::a_process_stopped_for_good_keeps_a_few_slabs_and_no_more";
    let Some(mut role) = Role::of(path) else {
        let mut worker = Worker::start(path, &[&seed().to_string()]);
        println!("{}", worker.hear());
        return worker.finish();
    };
    let mut random = Random::new(role.number(0));
    let mut most_kept = 0;
    for _ in 0..5 {
        let heap = scalable(LEN_BYTES).create(HeapName::new()).unwrap();
        let (row_handle, row) = bytes::alloc_words(&heap, Gate::WORDS);
        let gate = Gate(row);
        let peer = Fork::start(|| {
            // Most of the heap, in as many objects of each size as take the same room.
            for size in KEPT_SIZES {
                for _ in 0..LEN_BYTES / 4 / size {
                    bytes::alloc(&heap, size).unwrap();
                }
            }
            gate.pass();
            allocate_and_free(&heap, &KEPT_SIZES, gate);
        });
        gate.close(1);
        gate.open();
        wait_until("the peer is in its loop", || gate.rounds() > 1);
        for _ in 0..random.log_uniform(SPIN_MAX) {
            std::hint::spin_loop();
        }
        peer.stop();
        let theirs = heap.blocks().filter(|block| block.live && block.handle != row_handle);
        for handle in theirs.map(|block| block.handle).collect::<Vec<_>>() {
            bytes::free_handle(&heap, handle).unwrap();
        }
        let of_classes = KEPT_OF_CLASS * kept_slab_bytes(&heap.stats());
        let may_keep = of_classes + LEN_BYTES / RESTING_SHARE;
        for size in [3000, 640, 200_000, 2 << 20, 640, 200_000, 3000] {
            let kept = fill_and_empty(&heap, size);
            // What the peer keeps lies here and there, and cuts up the room for larger objects.
            if size < UNIT_BYTES {
                let own = 2 * UNIT_BYTES;
                assert!(kept <= may_keep + own, "{kept} bytes kept at {size}, not {may_keep}");
                most_kept = most_kept.max(kept);
            }
            assert!(kept < LEN_BYTES / 4, "{kept} bytes kept at {size}");
        }
    }
    role.say(&format!("at most {most_kept} bytes of {LEN_BYTES} kept by three size classes"));
}

/// Bytes of one slab of each class that the peer has slabs of.
fn kept_slab_bytes(stats: &Stats) -> u64 {
    let of_peer = stats.classes.iter().filter(|class| {
        KEPT_SIZES.iter().any(|&size| (size..size + size / 4).contains(&class.object_bytes))
    });
    let bytes = of_peer.map(|class| {
        let objects = class.live_objects + class.free_owned + class.free_shared;
        let slabs = class.owned_slabs + class.shared_slabs;
        (objects * class.object_bytes + class.tail_bytes) / slabs
    });
    bytes.sum()
}

/// Allocates objects until the heap is full, and frees them; how many bytes were free in between.
fn fill_and_empty(heap: &Heap, size: u64) -> u64 {
    let mut objects: Vec<NonNull<u8>> = vec![];
    let error = loop {
        match bytes::alloc(heap, size) {
            Ok(object) => objects.push(object),
            Err(error) => break error,
        }
    };
    let Error::Full { free_bytes, .. } = error else { panic!("{error}") };
    for object in objects {
        bytes::free(heap, object).unwrap();
    }
    free_bytes
}
