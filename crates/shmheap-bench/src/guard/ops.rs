//! The hot paths: what is done, and how often, while instructions are counted.
//!
//! Heaps are memfds, which have no name: nothing is left behind, however this ends. Whatever a
//! count could depend on is fixed: sizes, choices, and the number of operations. Each path is gone
//! through some times before the counting, so that what happens once (a thread's place, the first
//! slab, a heap's growth) is over.
//!
//! # Unsafe code
//!
//! Takes objects that another thread gave up; cells of hand-overs; calls of C functions.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ffi::c_void;
use std::hint::black_box;
use std::sync::mpsc::channel;
use std::thread;

use anyhow::{Context, Result, ensure};
use shmheap::{Heap, HeapOptions, Policy};
use shmheap_c::{Options, shmheap_alloc, shmheap_create_memfd, shmheap_disconnect, shmheap_free};

use super::typed;
use crate::measure::Deadline;
use crate::peer::mimalloc::{self, Mimalloc};
use crate::peer::process::Thread;
use crate::peer::{Object, Peer, Worker};
use crate::workload::{Churn, Herd};

/// How often a path is gone through while it is counted.
const COUNTED: usize = 20_000;
const BEFORE: usize = 1_000;

const OBJECT_BYTES: usize = 64;
const HEAP_BYTES: u64 = 64 << 20;
const HERD: Churn = Churn { live: 10_000, least_bytes: 16, most_bytes: 512 };

/// A hot path, and who is to go it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Op {
    who: &'static str,
    path: &'static str,
    go: Go,
}

#[derive(Debug, Clone, Copy)]
enum Go {
    Shmheap(Path, Policy),
    /// mimalloc, the mark: by how many instructions it is ahead.
    Mimalloc(fn(&Thread<Mimalloc>) -> Result<()>),
}

/// Goes through a path in a heap of that policy.
pub(super) type Path = fn(Policy) -> Result<()>;

/// All of them, in the order of the table.
pub(super) fn all() -> Vec<Op> {
    let (pair_path, churn_path) = ("alloc and free, 64 B", "churn, 10,000 live of 16-512 B");
    let paths: [(&str, Path); 7] = [
        (pair_path, |policy| pair(&heap(policy)?)),
        (churn_path, |policy| churn(&heap(policy)?)),
        ("alloc and free with labels, 64 B", |policy| pair(&labelled(policy)?)),
        ("free another thread's object, 64 B", free_remote),
        ("handle and resolve", name),
        ("alloc unpublished, publish, take, free", hand_over),
        ("alloc and free from C, 64 B", pair_in_c),
    ];
    let op = |who, policy, (path, go)| Op { who, path, go: Go::Shmheap(go, policy) };
    let under = |who, policy| paths.map(|path| op(who, policy, path));
    let typed = typed::ALL.map(|path| op("scalable", Policy::Scalable, path));
    let mark = |path, go| Op { who: "mimalloc", path, go: Go::Mimalloc(go) };
    let ours = [under("scalable", Policy::Scalable), under("first fit", Policy::FirstFit)];
    let marks = [mark(pair_path, pair), mark(churn_path, churn)];
    ours.into_iter().flatten().chain(typed).chain(marks).collect()
}

impl Op {
    pub(super) fn name(self) -> String {
        format!("{}: {}", self.who, self.path)
    }

    /// Goes through the path, to be counted from outside.
    pub(super) fn go(self) -> Result<()> {
        match self.go {
            Go::Shmheap(path, policy) => path(policy),
            Go::Mimalloc(path) => path(&mimalloc::USUAL.connect("", 0)?),
        }
    }

    /// What one time costs, if all of them were counted together.
    pub(super) fn per_time(count: u64) -> f64 {
        count as f64 / COUNTED as f64
    }
}

/// Callgrind counts what happens in here and finds it by its name: see [`super::callgrind`].
#[inline(never)]
fn shmheap_bench_counted(mut step: impl FnMut()) {
    for _ in 0..COUNTED {
        step();
    }
}

pub(super) fn count(mut step: impl FnMut()) {
    for _ in 0..BEFORE {
        step();
    }
    shmheap_bench_counted(step);
}

pub(super) fn heap(policy: Policy) -> Result<Heap> {
    Ok(HeapOptions::new(HEAP_BYTES).policy(policy).create_memfd()?)
}

fn labelled(policy: Policy) -> Result<Heap> {
    Ok(HeapOptions::new(HEAP_BYTES).policy(policy).labels().create_memfd()?)
}

fn pair<W: Worker>(worker: &W) -> Result<()> {
    count(|| {
        let object = worker.alloc(OBJECT_BYTES);
        worker.free(object);
    });
    Ok(())
}

fn churn<W: Worker>(worker: &W) -> Result<()> {
    let mut herd = Herd::new(HERD, worker, 0);
    herd.warm_up(2, Deadline::never())?;
    count(|| herd.replace_one());
    Ok(())
}

/// The other thread lives on, so that its slabs stay its own.
fn free_remote(policy: Policy) -> Result<()> {
    let heap = heap(policy)?;
    thread::scope(|scope| {
        let (give, given) = channel();
        let (end, until_end) = channel::<()>();
        let heap = &heap;
        scope.spawn(move || {
            let alloc = |_| heap.give(Worker::alloc(heap, OBJECT_BYTES));
            let numbers: Vec<u64> = (0..BEFORE + COUNTED).map(alloc).collect();
            // Nobody to give to, or nobody to wait for: the counting thread has failed.
            let _ = give.send(numbers);
            let _ = until_end.recv();
        });
        let numbers = given.recv().context("the allocating thread failed")?;
        // SAFETY: the other thread got the numbers from `give`, and each is taken once.
        let take = |number| unsafe { Worker::take(heap, number) };
        let objects: Vec<Object<Heap>> = numbers.into_iter().map(take).collect();
        let mut objects = objects.into_iter();
        count(|| {
            if let Some(object) = objects.next() {
                Worker::free(heap, object);
            }
        });
        drop(end);
        Ok(())
    })
}

fn name(policy: Policy) -> Result<()> {
    let heap = heap(policy)?;
    let object = heap.alloc(Layout::new::<[u64; OBJECT_BYTES / 8]>())?;
    count(|| {
        let handle = heap.handle(black_box(object)).expect("the object is live");
        black_box(heap.resolve(black_box(handle)).expect("the object is live"));
    });
    Ok(())
}

fn hand_over(policy: Policy) -> Result<()> {
    let heap = heap(policy)?;
    let layout = Layout::new::<[u64; OBJECT_BYTES / 8]>();
    let cell = heap.alloc_zeroed(Layout::new::<u64>())?.cast::<u64>();
    count(|| {
        let object = heap.alloc_unpublished(layout).expect("the heap has room");
        // SAFETY: the cell is an object of its own, zeroed, and nothing else.
        unsafe { object.publish(cell) }.expect("the cell is empty");
        // SAFETY: as above.
        let taken = unsafe { heap.take(cell) }.expect("a cell of this heap");
        drop(taken.expect("an object was published"));
    });
    Ok(())
}

/// A heap of the C library, disconnected from in the end.
struct Connection(*mut c_void);

impl Drop for Connection {
    fn drop(&mut self) {
        shmheap_disconnect(self.0);
    }
}

fn pair_in_c(policy: Policy) -> Result<()> {
    // As `SHMHEAP_POLICY_*` in the header.
    let policy = if policy == Policy::FirstFit { 1 } else { 2 };
    let (size, len) = (size_of::<Options>(), HEAP_BYTES as usize);
    let options = Options { size, len, policy, ..Options::default() };
    // SAFETY: a struct as long as it says.
    let connection = Connection(unsafe { shmheap_create_memfd(&raw const options) });
    ensure!(!connection.0.is_null(), "the C library made no heap");
    count(|| {
        let object = shmheap_alloc(connection.0, OBJECT_BYTES);
        // SAFETY: a new object of this heap that nobody else knows, or null.
        unsafe { shmheap_free(connection.0, black_box(object)) };
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_can_be_gone() {
        for op in all() {
            op.go().unwrap_or_else(|error| panic!("{}: {error:#}", op.name()));
        }
    }
}
