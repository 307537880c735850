//! Goal: a thread that ends leaves nothing in its hands, whichever way it ends, and the heap goes
//! on as if it had never been.
//!
//! Method: hundreds of short threads, which free each other's objects; threads that end while the
//! heap is dropped; threads that work in several heaps, some of which are gone before they end.
//! Afterwards the heap's own statistics must show no owner, and it must have room for one object of
//! its whole length.

use std::sync::Mutex;

use shmheap::{Handle, Heap, HeapOptions};

use crate::support::random::{Random, seed};
use crate::support::{HeapName, POLICIES, assert_empty, assert_whole, bytes, scalable};

const THREADS: u64 = 200;
/// So many at a time may use a heap.
const THREADS_MAX: u64 = 4096;
/// Threads at a time.
const AT_ONCE: u64 = 8;
const OBJECTS: u64 = 300;
const LEN_BYTES: u64 = 64 << 20;

/// An object that goes from thread to thread.
struct Passed {
    handle: Handle,
    size: u64,
    stamp: u64,
}

impl Passed {
    fn make(heap: &Heap, size: u64, stamp: u64) -> Self {
        let object = bytes::alloc(heap, size).unwrap();
        bytes::stamp(object, size, stamp);
        Self { handle: heap.handle(object).unwrap(), size, stamp }
    }

    fn free(self, heap: &Heap) {
        let object = heap.resolve(self.handle).unwrap();
        assert!(bytes::is_stamped(heap, object, self.size, self.stamp));
        bytes::free(heap, object).unwrap();
    }
}

/// Asserts that no thread has a slab in hand.
#[track_caller]
fn assert_nothing_in_hand(heap: &Heap) {
    let stats = assert_whole(heap);
    assert_eq!(stats.owners, vec![]);
    assert!(stats.classes.iter().all(|class| class.owned_slabs == 0), "{:#?}", stats.classes);
}

#[test]
fn threads_that_come_and_go_leave_nothing_behind() {
    let seed = seed();
    for policy in POLICIES {
        let heap = HeapOptions::new(LEN_BYTES).policy(policy).create_memfd().unwrap();
        let passed = Mutex::new(vec![]);
        let life = |number: u64| {
            let mut random = Random::new(seed ^ number);
            for sequence in 0..OBJECTS {
                let size = random.log_uniform(1 << 15);
                let made = Passed::make(&heap, size, number << 32 | sequence);
                let mut passed = passed.lock().unwrap();
                passed.push(made);
                let index = random.below(passed.len() as u64) as usize;
                // Some stay when the threads are gone.
                if passed.len() > 100 || random.one_in(2) {
                    let any: Passed = passed.swap_remove(index);
                    drop(passed);
                    any.free(&heap);
                }
            }
        };
        for first in (0..THREADS).step_by(AT_ONCE as usize) {
            std::thread::scope(|scope| {
                let life = &life;
                let threads: Vec<_> = (first..first + AT_ONCE)
                    .map(|number| scope.spawn(move || life(number)))
                    .collect();
                threads.into_iter().for_each(|thread| thread.join().unwrap());
            });
            assert_nothing_in_hand(&heap);
        }
        let passed = passed.into_inner().unwrap();
        assert_eq!(heap.stats().live_objects, passed.len() as u64);
        assert_eq!(heap.peers().len(), 1, "threads are one process");
        passed.into_iter().for_each(|passed| passed.free(&heap));
        let whole = bytes::alloc(&heap, LEN_BYTES).expect("nobody has anything in hand");
        bytes::free(&heap, whole).unwrap();
        assert_empty(&heap);
    }
}

#[test]
fn a_thread_that_is_full_of_slabs_gives_them_to_the_next() {
    let heap = scalable(LEN_BYTES).create_memfd().unwrap();
    // Each of the threads could have a 16th of the heap.
    for number in 0..100 {
        std::thread::scope(|scope| {
            let fill = || {
                let objects =
                    (0..LEN_BYTES / 16 / 1024).map(|_| bytes::alloc(&heap, 1024).unwrap());
                let objects: Vec<_> = objects.collect();
                for object in objects {
                    bytes::free(&heap, object).unwrap();
                }
            };
            scope.spawn(fill).join().unwrap();
        });
        assert_nothing_in_hand(&heap);
        assert_eq!(heap.stats().live_objects, 0, "after thread {number}");
    }
    assert_empty(&heap);
}

#[test]
fn there_may_be_any_number_of_threads_one_after_the_other() {
    let heap = scalable(1 << 20).create_memfd().unwrap();
    for number in 0..THREADS_MAX + 100 {
        let life = || Passed::make(&heap, 100, number).free(&heap);
        std::thread::scope(|scope| scope.spawn(life).join()).unwrap();
    }
    assert_empty(&heap);
}

#[test]
fn threads_may_end_while_the_heap_is_dropped() {
    for round in 0..300 {
        let name = HeapName::new();
        let heap = scalable(4 << 20).create(&name).unwrap();
        let other = Heap::connect(&name).unwrap();
        std::thread::scope(|scope| {
            for number in 0..3 {
                let heap = &heap;
                scope.spawn(move || {
                    for size in [16, 100, 3000] {
                        let made = Passed::make(heap, size + number, round);
                        made.free(heap);
                    }
                });
            }
            // A scope does not wait for what threads do when their work is done.
        });
        drop(heap);
        assert_nothing_in_hand(&other);
        assert_eq!(other.peers().len(), 1);
        assert_empty(&other);
    }
}

#[test]
fn a_thread_works_in_many_heaps_some_of_which_end_before_it() {
    let names = [(); 4].map(|()| HeapName::new());
    let heaps = names.each_ref().map(|name| scalable(4 << 20).create(name).unwrap());
    let observers = names.each_ref().map(|name| Heap::connect_read_only(name).unwrap());
    let [first, second, third, fourth] = heaps;
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                for round in 0..1000 {
                    for heap in [&first, &second, &third, &fourth] {
                        Passed::make(heap, 16 + round, round).free(heap);
                    }
                }
                drop(second);
                Passed::make(&first, 100, 1).free(&first);
                drop(first);
                Passed::make(&third, 100, 1).free(&third);
                Passed::make(&fourth, 100, 1).free(&fourth);
                assert_ne!(observers[2].stats().owners, vec![]);
                (third, fourth, observers)
            })
            .join()
            .map(|(third, fourth, observers)| {
                // The thread's own end has given back what it had in those that stand.
                for observer in &observers {
                    assert_nothing_in_hand(observer);
                }
                assert_empty(&third);
                assert_empty(&fourth);
            })
            .unwrap();
    });
}

#[test]
fn threads_of_two_connections_to_a_heap_are_two_peers() {
    let name = HeapName::new();
    let first = scalable(16 << 20).create(&name).unwrap();
    let second = Heap::connect(&name).unwrap();
    let make = |heap: &Heap, size| heap.handle(bytes::alloc(heap, size).unwrap()).unwrap();
    let of_first: Vec<_> = (16..1000).map(|size| make(&first, size)).collect();
    let of_second: Vec<_> = (16..1000).map(|size| make(&second, size)).collect();
    assert_eq!(first.stats().owners.len(), 2);
    for handle in of_first {
        bytes::free_handle(&second, handle).unwrap();
    }
    drop(second);
    assert_eq!(first.stats().owners.len(), 1);
    for handle in of_second {
        bytes::free_handle(&first, handle).unwrap();
    }
    assert_empty(&first);
}
