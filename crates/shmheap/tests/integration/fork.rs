//! Goal: a heap made before a fork serves parent, child and grandchild, each as a process of its
//! own, and whatever ends one of them leaves the others' heap as it was.
//!
//! Method: each test runs in a program started for it, which may fork, once for each policy. Every
//! object is written full and compared before it is freed, so one that two processes had would
//! show.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use shmheap::{Heap, HeapOptions, Policy};

use crate::support::process::{
    Fork, Role, Worker, count_in_word, outlive_parent, set_word, wait_for_word, wait_until,
};
use crate::support::random::Random;
use crate::support::{HeapName, POLICIES, assert_empty, assert_whole, bytes};

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

/// Objects of many sizes, so that this thread has a slab of each, none of them full.
fn fill_hands(heap: &Heap, stamp: u64) -> Vec<(NonNull<u8>, u64)> {
    let sizes = (0..120).map(|number| 16 + number * 61);
    let hold = |size| {
        let object = bytes::alloc(heap, size).unwrap();
        bytes::stamp(object, size, stamp);
        (object, size)
    };
    sizes.map(hold).collect()
}

/// Frees what `fill_hands` made, by whichever process.
fn empty_hands(heap: &Heap, held: &[(NonNull<u8>, u64)], stamp: u64) {
    for &(object, size) in held {
        assert!(bytes::is_stamped(heap, object, size, stamp));
        bytes::free(heap, object).unwrap();
    }
}

/// A heap to be made that is small at first.
fn small(policy: Policy) -> HeapOptions {
    HeapOptions::new(4096).max_len(64 << 20).policy(policy)
}

fn small_growing_heap(policy: Policy) -> Heap {
    small(policy).create_memfd().unwrap()
}

#[test]
fn parent_child_and_grandchild_work_at_once() {
    if !in_own_process("fork::parent_child_and_grandchild_work_at_once") {
        return;
    }
    for policy in POLICIES {
        let heap = small_growing_heap(policy);
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
        let count = row[0].load(Ordering::SeqCst);
        assert_eq!(count, 2, "a handle made before the fork names the object");
        bytes::free_handle(&heap, handle).unwrap();
        assert_empty(&heap);
    }
}

#[test]
fn a_fork_with_hands_full_gives_no_object_twice() {
    if !in_own_process("fork::a_fork_with_hands_full_gives_no_object_twice") {
        return;
    }
    for policy in POLICIES {
        let heap = small_growing_heap(policy);
        let (_, row) = bytes::alloc_words(&heap, 1);
        let [ready] = row else { unreachable!() };
        for round in 1..=20 {
            let (mine, given) = (fill_hands(&heap, 1), fill_hands(&heap, 2));
            let child = Fork::start(|| {
                count_in_word(ready);
                // At once what the parent has in hand, and objects of the same sizes.
                let own = fill_hands(&heap, 3);
                work(&heap, 4);
                empty_hands(&heap, &given, 2);
                let grandchild = Fork::start(|| {
                    let more = fill_hands(&heap, 5);
                    work(&heap, 6);
                    empty_hands(&heap, &more, 5);
                });
                work(&heap, 7);
                grandchild.finish();
                empty_hands(&heap, &own, 3);
            });
            wait_for_word(ready, round, || {});
            let more = fill_hands(&heap, 8);
            work(&heap, 9);
            empty_hands(&heap, &more, 8);
            child.finish();
            empty_hands(&heap, &mine, 1);
            assert_eq!(assert_whole(&heap).live_objects, 1, "the row");
        }
    }
}

#[test]
fn threads_of_the_parent_do_not_disturb_a_fork() {
    if !in_own_process("fork::threads_of_the_parent_do_not_disturb_a_fork") {
        return;
    }
    let heap = small_growing_heap(Policy::Scalable);
    let (_, row) = bytes::alloc_words(&heap, 2);
    let [rounds, stop] = row else { unreachable!() };
    std::thread::scope(|scope| {
        for number in 0..3 {
            let heap = &heap;
            // Threads that come and go are forked in all states of their coming and going.
            scope.spawn(move || {
                while stop.load(Ordering::SeqCst) == 0 {
                    let brief = scope.spawn(move || work(heap, number));
                    brief.join().unwrap();
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 0..60 {
            let child = Fork::start(|| {
                let own = fill_hands(&heap, 10);
                work(&heap, 11);
                empty_hands(&heap, &own, 10);
                assert_eq!(heap.peers().iter().filter(|peer| peer.is_self).count(), 1);
            });
            let mut child = Some(child);
            if round % 3 == 0 {
                drop(child.take());
            }
            let own = fill_hands(&heap, 12);
            empty_hands(&heap, &own, 12);
            child.into_iter().for_each(Fork::finish);
        }
        let before = rounds.load(Ordering::SeqCst);
        wait_until("the threads go on", || rounds.load(Ordering::SeqCst) > before + 3);
        set_word(stop, 1);
    });
    heap.trim().unwrap();
    heap.sweep().unwrap();
    // What a killed child had made is still there.
    let stats = assert_whole(&heap);
    assert_eq!((stats.owners, stats.peers_dead), (vec![], 0), "no thread has anything any more");
    assert_eq!(heap.peers().len(), 1);
}

#[test]
fn a_child_is_a_peer_of_its_own() {
    if !in_own_process("fork::a_child_is_a_peer_of_its_own") {
        return;
    }
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = small(policy).create(&name).unwrap();
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
}

#[test]
fn a_child_that_drops_the_heap_does_not_disturb_its_parent() {
    if !in_own_process("fork::a_child_that_drops_the_heap_does_not_disturb_its_parent") {
        return;
    }
    for (policy, child_uses_it) in POLICIES.into_iter().flat_map(|p| [(p, false), (p, true)]) {
        let name = HeapName::new();
        let mut heap = Some(small(policy).create(&name).unwrap());
        let held = fill_hands(heap.as_ref().unwrap(), 1);
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
        work(&heap, 6);
        empty_hands(&heap, &held, 1);
        work(&heap, 6);
        assert_empty(&heap);
    }
}

#[test]
fn a_parent_that_leaves_does_not_disturb_its_child() {
    if !in_own_process("fork::a_parent_that_leaves_does_not_disturb_its_child") {
        return;
    }
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = small(policy).create(&name).unwrap();
        let held = fill_hands(&heap, 1);
        let board = small(policy).create(HeapName::new()).unwrap();
        let (_, row) = bytes::alloc_words(&board, 1);
        let mut heap = Some(heap);
        let child = Fork::start(|| {
            wait_for_word(&row[0], 1, || {});
            let heap = heap.take().unwrap();
            work(&heap, 7);
            let peers = heap.peers();
            assert_eq!(peers.len(), 1, "the parent has left");
            assert!(peers[0].is_self && peers[0].alive);
            empty_hands(&heap, &held, 1);
            assert_empty(&heap);
        });
        drop(heap);
        set_word(&row[0], 1);
        child.finish();
    }
}

#[test]
fn children_killed_in_the_middle_leave_a_sound_heap() {
    if !in_own_process("fork::children_killed_in_the_middle_leave_a_sound_heap") {
        return;
    }
    for policy in POLICIES {
        let heap = small_growing_heap(policy);
        let (_, row) = bytes::alloc_words(&heap, 1);
        for round in 1..=50 {
            let held = fill_hands(&heap, 1);
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
            empty_hands(&heap, &held, 1);
            assert_whole(&heap);
        }
        heap.sweep().unwrap();
        assert_eq!(heap.peers().len(), 1);
    }
}

#[test]
fn a_child_does_not_keep_its_parent_alive() {
    if !in_own_process("fork::a_child_does_not_keep_its_parent_alive") {
        return;
    }
    for policy in POLICIES {
        let heap = small_growing_heap(policy);
        let board = small(policy).create_memfd().unwrap();
        let (_, row) = bytes::alloc_words(&board, 2);
        let [ready, done] = row else { unreachable!() };
        let mut child = Fork::start(|| {
            fill_hands(&heap, 1);
            let _grandchild = Fork::start(|| {
                outlive_parent();
                set_word(ready, 1);
                wait_for_word(done, 1, || {});
                // It has the heap of a dead process, and takes part in it.
                work(&heap, 2);
                set_word(ready, 2);
            });
            wait_for_word(done, 1, || {});
        });
        wait_for_word(ready, 1, || {});
        child.kill();
        let stats = heap.stats();
        assert_eq!((stats.peers_alive, stats.peers_dead), (1, 1), "the grandchild is not it");
        assert_eq!(heap.sweep().unwrap(), 1);
        set_word(done, 1);
        wait_for_word(ready, 2, || {});
        assert!(assert_whole(&heap).live_objects > 100, "what the dead had made");
    }
}
