//! Goal: a process killed in the few instructions between a change and the hint that tells others
//! of it hides no memory from them.
//!
//! Method: a child does nothing but one such change, over and over, in slabs arranged so that each
//! change is the one that its slab's hint depends on; so many kills hit just there. The audit finds
//! a slab with free objects, or a free unit, that no hint leads to.

use std::sync::atomic::{AtomicU64, Ordering};

use shmheap::{Handle, Heap};

use crate::support::process::{Fork, Role, Worker, wait_for_word, wait_until};
use crate::support::random::{Random, seed};
use crate::support::{HeapName, assert_whole, bytes, first_fit, scalable};

const KILLS: u64 = 400;
const SLABS: u64 = 4096;
/// Two of these are a slab of one unit.
const HALF_SLAB: u64 = 32 << 10;

/// Kills children at work in a heap, which `prepare` makes ready for each; prints how many were
/// killed before they had done all of their work. They run for up to `spin_max` turns of a loop.
fn kill_at_work(
    path: &str,
    spin_max: u64,
    prepare: impl Fn(&Heap) -> Vec<Handle>,
    work: impl Fn(&Heap, &[Handle], &AtomicU64),
) {
    let Some(mut role) = Role::of(path) else {
        let mut worker = Worker::start(path, &[&seed().to_string()]);
        println!("{}", worker.hear());
        return worker.finish();
    };
    let mut random = Random::new(role.number(0));
    let board = first_fit(4096).create(HeapName::new()).unwrap();
    let (_, row) = bytes::alloc_words(&board, 3);
    let [begun, changes, never] = row else { unreachable!() };
    let heap = scalable(SLABS << 16).create_memfd().unwrap();
    let mut at_work = 0;
    for round in 1..=KILLS {
        let handles = prepare(&heap);
        assert_whole(&heap);
        changes.store(0, Ordering::SeqCst);
        let mut child = Fork::start(|| {
            // It is a peer before it is watched.
            heap.sweep().unwrap();
            begun.store(round, Ordering::SeqCst);
            work(&heap, &handles, changes);
            wait_for_word(never, 1, || {});
        });
        wait_until("the child begins", || begun.load(Ordering::SeqCst) == round);
        for _ in 0..random.below(spin_max) {
            std::hint::spin_loop();
        }
        child.kill();
        at_work += u64::from(changes.load(Ordering::SeqCst) < SLABS);
        assert_whole(&heap);
        for block in heap.blocks().filter(|block| block.live).collect::<Vec<_>>() {
            bytes::free_handle(&heap, block.handle).unwrap();
        }
        assert_whole(&heap);
    }
    role.say(&format!("{KILLS} kills, {at_work} of them before the work was done"));
}

/// Fills the heap with slabs of two objects, and leaves them to nobody.
fn full_slabs(heap: &Heap) -> Vec<Handle> {
    let make = || {
        let object = bytes::alloc(heap, HALF_SLAB).unwrap();
        heap.handle(object).unwrap()
    };
    // What a thread had in hand is nobody's when it has ended.
    std::thread::scope(|scope| {
        scope.spawn(|| (0..2 * SLABS).map(|_| make()).collect()).join().unwrap()
    })
}

#[test]
fn objects_freed_in_slabs_that_are_nobodys_are_found() {
    let path = "aimed::objects_freed_in_slabs_that_are_nobodys_are_found";
    kill_at_work(path, 1 << 13, full_slabs, |heap, handles, changes| {
        // The first of a slab makes it one that has something free.
        for &handle in handles.iter().step_by(2) {
            bytes::free_handle(heap, handle).unwrap();
            changes.fetch_add(1, Ordering::Relaxed);
        }
    });
}

#[test]
fn slabs_that_are_being_claimed_are_found() {
    let path = "aimed::slabs_that_are_being_claimed_are_found";
    let half_full_slabs = |heap: &Heap| {
        let handles = full_slabs(heap);
        for &handle in handles.iter().step_by(2) {
            bytes::free_handle(heap, handle).unwrap();
        }
        handles
    };
    kill_at_work(path, 1 << 13, half_full_slabs, |heap, _, changes| {
        while bytes::alloc(heap, HALF_SLAB).is_ok() {
            changes.fetch_add(1, Ordering::Relaxed);
        }
    });
}

#[test]
fn slabs_that_a_thread_gives_up_are_found() {
    let path = "aimed::slabs_that_a_thread_gives_up_are_found";
    kill_at_work(
        path,
        4096,
        |_| vec![],
        |heap, _, changes| {
            // A slab for each of many size classes, with a free object in all of them.
            let hold = || {
                for class in 0..80 {
                    bytes::alloc(heap, 16 + 16 * class).unwrap();
                }
            };
            loop {
                std::thread::scope(|scope| drop(scope.spawn(hold).join()));
                changes.fetch_add(1, Ordering::Relaxed);
            }
        },
    );
}

#[test]
fn units_that_are_claimed_or_freed_are_found() {
    let path = "aimed::units_that_are_claimed_or_freed_are_found";
    kill_at_work(
        path,
        1 << 13,
        |_| vec![],
        |heap, _, changes| loop {
            let object = bytes::alloc(heap, 100 << 16).unwrap();
            let object = bytes::realloc(heap, object, 150 << 16, 1).unwrap();
            let object = bytes::realloc(heap, object, 50 << 16, 1).unwrap();
            bytes::free(heap, object).unwrap();
            changes.fetch_add(1, Ordering::Relaxed);
        },
    );
}
