//! Goal: a heap made before a fork serves parent, child and grandchild, each as a process of its
//! own, and whatever ends one of them leaves the others' heap as it was.
//!
//! Method: each test runs in a program started for it, which may fork.

use std::sync::atomic::Ordering;

use shmheap::Heap;

use crate::support::first_fit;
use crate::support::process::{Fork, Role, Worker, set_word, wait_for_word};
use crate::support::random::Random;
use crate::support::{HeapName, assert_empty, assert_whole, bytes};

/// Starts this test in a process of its own and tells that one to go on.
fn in_own_process(path: &str) -> bool {
    if Role::of(path).is_some() {
        return true;
    }
    Worker::start(path, &[]).finish();
    false
}

/// Allocates, checks and frees for a while.
fn work(heap: &Heap, seed: u64) {
    let mut random = Random::new(seed);
    let mut held = vec![];
    for stamp in 0..3000 {
        let size = random.log_uniform(1000);
        let object = bytes::alloc(heap, size).unwrap();
        bytes::stamp(object, size, seed << 32 | stamp);
        held.push((object, size, seed << 32 | stamp));
        while held.len() > 20 {
            let index = random.below(held.len() as u64) as usize;
            let (object, size, stamp) = held.swap_remove(index);
            assert!(bytes::is_stamped(heap, object, size, stamp));
            bytes::free(heap, object).unwrap();
        }
    }
    for (object, size, stamp) in held {
        assert!(bytes::is_stamped(heap, object, size, stamp));
        bytes::free(heap, object).unwrap();
    }
}

fn small_growing_heap() -> Heap {
    first_fit(4096).max_len(16 << 20).create_memfd().unwrap()
}

#[test]
fn parent_child_and_grandchild_work_at_once() {
    if !in_own_process("fork::parent_child_and_grandchild_work_at_once") {
        return;
    }
    let heap = small_growing_heap();
    let (handle, row) = bytes::alloc_words(&heap, 1);
    let child = Fork::start(|| {
        let grandchild = Fork::start(|| {
            work(&heap, 3);
            bytes::words(&heap, handle, 1)[0].fetch_add(1, Ordering::SeqCst);
        });
        work(&heap, 2);
        bytes::words(&heap, handle, 1)[0].fetch_add(1, Ordering::SeqCst);
        grandchild.finish();
    });
    work(&heap, 1);
    child.finish();
    assert_eq!(row[0].load(Ordering::SeqCst), 2, "a handle made before the fork names the object");
    bytes::free_handle(&heap, handle).unwrap();
    assert_empty(&heap);
}

#[test]
fn a_child_is_a_peer_of_its_own() {
    if !in_own_process("fork::a_child_is_a_peer_of_its_own") {
        return;
    }
    let name = HeapName::new();
    let heap = first_fit(1 << 16).create(&name).unwrap();
    let (_, row) = bytes::alloc_words(&heap, 2);
    let mut child = Fork::start(|| {
        let object = bytes::alloc(&heap, 1).unwrap();
        bytes::free(&heap, object).unwrap();
        let own: Vec<_> = heap.peers().into_iter().filter(|peer| peer.is_self).collect();
        assert_eq!(own.len(), 1);
        assert_eq!(own[0].pid, std::process::id());
        set_word(&row[0], 1);
        wait_for_word(&row[1], 1, || {});
    });
    wait_for_word(&row[0], 1, || {});
    let pids: Vec<_> = heap.peers().iter().map(|peer| (peer.pid, peer.alive)).collect();
    let child_pid = child.pid().as_raw_nonzero().get().unsigned_abs();
    assert_eq!(pids, [(std::process::id(), true), (child_pid, true)]);
    assert_eq!(heap.stats().peers_alive, 2);

    child.kill();
    assert_eq!((heap.stats().peers_alive, heap.stats().peers_dead), (1, 1));
    assert_eq!(heap.sweep().unwrap(), 1);
    assert_eq!((heap.stats().peers_alive, heap.stats().peers_dead), (1, 0));
    work(&heap, 4);
    assert_whole(&heap);
}

#[test]
fn a_child_that_drops_the_heap_does_not_disturb_its_parent() {
    if !in_own_process("fork::a_child_that_drops_the_heap_does_not_disturb_its_parent") {
        return;
    }
    for child_uses_it in [false, true] {
        let name = HeapName::new();
        let mut heap = Some(first_fit(1 << 16).create(&name).unwrap());
        let object = bytes::alloc(heap.as_ref().unwrap(), 100).unwrap();
        Fork::start(|| {
            let heap = heap.take().unwrap();
            if child_uses_it {
                work(&heap, 5);
                assert_eq!(heap.peers().len(), 2);
            }
            drop(heap);
            let again = Heap::connect(&name).unwrap();
            assert_eq!(again.peers().len(), 2, "the parent is still there");
        })
        .finish();
        let heap = heap.unwrap();
        let peers = heap.peers();
        assert_eq!(peers.len(), 1);
        assert!(peers[0].alive && peers[0].is_self);
        bytes::free(&heap, object).unwrap();
        work(&heap, 6);
        assert_empty(&heap);
    }
}

#[test]
fn a_parent_that_leaves_does_not_disturb_its_child() {
    if !in_own_process("fork::a_parent_that_leaves_does_not_disturb_its_child") {
        return;
    }
    let name = HeapName::new();
    let heap = first_fit(1 << 16).create(&name).unwrap();
    let board = first_fit(1 << 12).create(HeapName::new()).unwrap();
    let (_, row) = bytes::alloc_words(&board, 1);
    let mut heap = Some(heap);
    let child = Fork::start(|| {
        wait_for_word(&row[0], 1, || {});
        let heap = heap.take().unwrap();
        work(&heap, 7);
        let peers = heap.peers();
        assert_eq!(peers.len(), 1, "the parent has left");
        assert!(peers[0].is_self && peers[0].alive);
        assert_empty(&heap);
    });
    drop(heap);
    set_word(&row[0], 1);
    child.finish();
}

#[test]
fn children_killed_in_the_middle_leave_a_sound_heap() {
    if !in_own_process("fork::children_killed_in_the_middle_leave_a_sound_heap") {
        return;
    }
    let heap = small_growing_heap();
    let (_, row) = bytes::alloc_words(&heap, 1);
    for round in 1..=50 {
        let mut child = Fork::start(|| {
            set_word(&row[0], round);
            loop {
                work(&heap, round);
            }
        });
        wait_for_word(&row[0], round, || {});
        work(&heap, 100 + round);
        child.kill();
        assert!(heap.check().is_sound());
        assert_whole(&heap);
    }
    heap.sweep().unwrap();
    assert_eq!(heap.peers().len(), 1);
}
