//! What first fit costs, and how that grows with the number of holes.
//!
//! Three allocators run the same work in turn, in rounds, in one process; figures are medians over
//! the rounds, in nanoseconds per pair of an alloc and a free:
//!
//! - `shmheap`: a first-fit heap in a memfd, through the public interface;
//! - `list`: a list of blocks in order of address under a mutex, searched from the start, as the
//!   original C library does it;
//! - `malloc`: the C library's, which is neither first fit nor shared: a mark to read others by.
//!
//! `holes`: n objects of 64 bytes, every second freed; then alloc and free of 128 bytes, for which
//! none of the n / 2 holes is large enough. `churn`: n live objects of 16 to 512 bytes, each round
//! replaced at random, first bytes touched.
//!
//! Run with `cargo bench -p shmheap`; an argument is the number of rounds.
#![allow(unsafe_code, missing_docs)]
#![allow(clippy::print_stdout, reason = "the table is what a bench is for")]

use std::alloc::{Layout, System};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::time::Instant;

use shmheap::{Heap, HeapOptions, Policy};

const GRANULE: usize = 16;

/// An allocator under test.
trait Peer {
    const NAME: &'static str;
    fn alloc(&self, layout: Layout) -> NonNull<u8>;
    /// # Safety
    /// The object came from `alloc` with this layout and is not used again.
    unsafe fn free(&self, object: NonNull<u8>, layout: Layout);
}

impl Peer for Heap {
    const NAME: &'static str = "shmheap";

    fn alloc(&self, layout: Layout) -> NonNull<u8> {
        Heap::alloc(self, layout).expect("the heap is large enough")
    }

    unsafe fn free(&self, object: NonNull<u8>, _layout: Layout) {
        // SAFETY: passed on from the caller.
        unsafe { Heap::free(self, object) }.expect("the object is live");
    }
}

impl Peer for System {
    const NAME: &'static str = "malloc";

    fn alloc(&self, layout: Layout) -> NonNull<u8> {
        // SAFETY: the workloads ask for no empty objects.
        NonNull::new(unsafe { std::alloc::GlobalAlloc::alloc(self, layout) }).expect("memory")
    }

    unsafe fn free(&self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on from the caller.
        unsafe { std::alloc::GlobalAlloc::dealloc(self, object.as_ptr(), layout) }
    }
}

/// Blocks in order of address, searched one after the other.
struct List {
    base: NonNull<u8>,
    /// Offset and length of every free block; the map gives the neighbours of a freed block.
    free: Mutex<BTreeMap<usize, usize>>,
}

impl List {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, 4096).expect("a layout");
        // SAFETY: the layout is not empty. The memory lives as long as the process.
        let base = NonNull::new(unsafe { std::alloc::alloc(layout) }).expect("memory");
        Self { base, free: Mutex::new(BTreeMap::from([(0, bytes)])) }
    }
}

impl Peer for List {
    const NAME: &'static str = "list";

    fn alloc(&self, layout: Layout) -> NonNull<u8> {
        let need = layout.size().next_multiple_of(GRANULE);
        let mut free = self.free.lock().expect("not poisoned");
        let (&at, &length) =
            free.iter().find(|&(_, &length)| length >= need).expect("the list is large enough");
        free.remove(&at);
        if length > need {
            free.insert(at + need, length - need);
        }
        // SAFETY: the block lies in the list's memory.
        unsafe { self.base.add(at) }
    }

    unsafe fn free(&self, object: NonNull<u8>, layout: Layout) {
        let mut at = object.addr().get() - self.base.addr().get();
        let mut length = layout.size().next_multiple_of(GRANULE);
        let mut free = self.free.lock().expect("not poisoned");
        if let Some(next) = free.remove(&(at + length)) {
            length += next;
        }
        if let Some((&previous, &before)) = free.range(..at).next_back()
            && previous + before == at
        {
            at = previous;
            length += before;
        }
        free.insert(at, length);
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).expect("a layout")
}

fn ns_per_pair(pairs: u32, mut pair: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..pairs {
        pair();
    }
    start.elapsed().as_nanos() as f64 / f64::from(pairs)
}

fn holes<P: Peer>(peer: &P, objects: usize, pairs: u32) -> f64 {
    let live: Vec<_> = (0..objects).map(|_| peer.alloc(layout(64))).collect();
    let (kept, freed): (Vec<_>, Vec<_>) =
        live.into_iter().enumerate().partition(|(number, _)| number % 2 == 0);
    free_all(peer, freed.into_iter().map(|(_, object)| (object, layout(64))));
    let ns = ns_per_pair(pairs, || {
        let object = black_box(peer.alloc(layout(128)));
        touch(object);
        // SAFETY: the object is new, and freed once, with its layout.
        unsafe { peer.free(object, layout(128)) };
    });
    free_all(peer, kept.into_iter().map(|(_, object)| (object, layout(64))));
    ns
}

/// Writes the object's first bytes, as every workload does.
fn touch(object: NonNull<u8>) {
    // SAFETY: every object of the workloads is new and has eight bytes at the least.
    unsafe { object.cast::<u64>().write(1) };
}

fn free_all<P: Peer>(peer: &P, objects: impl IntoIterator<Item = (NonNull<u8>, Layout)>) {
    for (object, layout) in objects {
        // SAFETY: the workloads hand over each live object once, with its layout.
        unsafe { peer.free(object, layout) };
    }
}

/// Sizes from 16 to 512 bytes, log-uniform, by xorshift (Marsaglia 2003).
struct Sizes(u64);

impl Sizes {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn layout(&mut self) -> Layout {
        let power = 16_u64 << (self.next() % 5);
        layout((power + self.next() % power) as usize)
    }
}

fn churn<P: Peer>(peer: &P, objects: usize, pairs: u32) -> f64 {
    let mut sizes = Sizes(88_172_645_463_325_252);
    let mut live: Vec<_> = (0..objects)
        .map(|_| {
            let layout = sizes.layout();
            (peer.alloc(layout), layout)
        })
        .collect();
    let ns = ns_per_pair(pairs, || {
        let slot = sizes.next() as usize % live.len();
        let (object, old) = live[slot];
        // SAFETY: the object is live and freed once.
        unsafe { peer.free(object, old) };
        let new = sizes.layout();
        let object = peer.alloc(new);
        touch(object);
        live[slot] = (object, new);
    });
    free_all(peer, live);
    ns
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn report(work: &str, objects: usize, peer: &str, figures: Vec<f64>) -> f64 {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    let middle = median(figures);
    println!("{work:<8} {objects:>9}  {peer:<8} {middle:>10.1} {least:>10.1} {most:>10.1}");
    middle
}

fn main() {
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(5_usize);
    println!(
        "{:<8} {:>9}  {:<8} {:>10} {:>10} {:>10}",
        "work", "objects", "", "ns/pair", "min", "max"
    );
    let mut by_depth = vec![];
    for objects in [1000, 10_000, 100_000, 1_000_000] {
        let heap =
            HeapOptions::new(256 << 20).policy(Policy::FirstFit).create_memfd().expect("a heap");
        let list = List::new(256 << 20);
        let mut figures = [vec![], vec![], vec![]];
        for _ in 0..rounds {
            figures[0].push(holes(&heap, objects, 200_000));
            figures[1].push(holes(&System, objects, 200_000));
            // The list's search is linear: it gets as many pairs as it can do in a moment.
            let pairs = (20_000_000 / objects as u32).clamp(20, 200_000);
            if objects <= 100_000 {
                figures[2].push(holes(&list, objects, pairs));
            }
        }
        let [ours, malloc, theirs] = figures;
        by_depth.push(report("holes", objects, Heap::NAME, ours));
        report("holes", objects, System::NAME, malloc);
        if !theirs.is_empty() {
            report("holes", objects, List::NAME, theirs);
        }
    }
    println!("holes: growth from 1000 to 1000000 objects: {:.2}x", by_depth[3] / by_depth[0]);
    for objects in [10_000, 1_000_000] {
        let heap =
            HeapOptions::new(512 << 20).policy(Policy::FirstFit).create_memfd().expect("a heap");
        let mut figures = [vec![], vec![]];
        for _ in 0..rounds {
            figures[0].push(churn(&heap, objects, 500_000));
            figures[1].push(churn(&System, objects, 500_000));
        }
        let [ours, malloc] = figures;
        let ours = report("churn", objects, Heap::NAME, ours);
        let malloc = report("churn", objects, System::NAME, malloc);
        println!("churn: shmheap / malloc: {:.2}", ours / malloc);
    }
}
