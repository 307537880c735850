//! Goal: a process that is stopped with the lock of a first-fit heap keeps the others waiting for
//! some milliseconds and no more; when it goes on it does what it was about to do, once; and if it
//! is killed instead, nothing is lost.
//!
//! Method: peers that allocate, resize, hand over and free without a pause are stopped at random
//! moments, most of them with the lock. While they are, this process operates and audits. Then they
//! go on, or some are killed, and the heap is audited and counted. Nothing is asserted of the time
//! that it takes but that it ends.
//!
//! `SHMHEAP_STOPS=n` sets the number of stops.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shmheap::{Heap, Peer};

use crate::stops::Gate;
use crate::support::process::{Fork, Role, Worker};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, assert_whole, bytes, first_fit};

const STOPS: u64 = 150;
const LEN_BYTES: u64 = 1 << 20;
const MAX_LEN_BYTES: u64 = 64 << 20;
/// How many objects are allocated and freed while peers are stopped.
const PAIRS: u64 = 100;
const SPIN_MAX: u64 = 1 << 14;
/// As many may be stopped with the lock, one after the other, as there are areas beside the one in
/// which the others go on. (Of those who are stopped while they rob another, one fewer.)
const STOPPED_MAX: usize = 3;
/// Objects that a peer holds at the most; none while it is at its gate.
const HELD_MAX: usize = 12;

/// Operates on the heap for ever, and owns nothing whenever it passes its gate.
fn operate(heap: &Heap, seed: u64, gate: Gate<'_>) {
    let mut random = Random::new(seed);
    let mut held = VecDeque::new();
    loop {
        for _ in 0..random.below(40) {
            let size = random.log_uniform(8000);
            match random.below(4) {
                0 => drop(heap.alloc_unpublished(bytes::layout(size, 1)).unwrap()),
                1 if !held.is_empty() => {
                    let (object, old) = held.pop_front().unwrap();
                    let moved = bytes::realloc(heap, object, size, 1).unwrap();
                    assert!(bytes::is_stamped(heap, moved, size.min(old), 7));
                    bytes::stamp(moved, size, 7);
                    held.push_back((moved, size));
                }
                _ => {
                    let object = bytes::alloc(heap, size).unwrap();
                    bytes::stamp(object, size, 7);
                    held.push_back((object, size));
                }
            }
            if held.len() == HELD_MAX {
                bytes::free(heap, held.pop_front().unwrap().0).unwrap();
            }
        }
        for (object, size) in held.drain(..) {
            assert!(bytes::is_stamped(heap, object, size, 7));
            bytes::free(heap, object).unwrap();
        }
        gate.pass();
    }
}

/// Peers, each with its gate, and what has been seen of them.
struct Stage<'h> {
    heap: &'h Heap,
    random: Random,
    peers: Vec<(Fork, Gate<'h>)>,
    /// Objects that stay: of those that were killed, and the gates.
    lost: u64,
    longest: Duration,
}

impl Stage<'_> {
    /// A peer more.
    fn add(&mut self) {
        let (_, row) = bytes::alloc_words(self.heap, Gate::WORDS);
        let (gate, seed) = (Gate(row), self.random.next());
        let peer = Fork::start(|| operate(self.heap, seed, gate));
        self.peers.push((peer, gate));
        self.lost += 1;
    }

    /// Stops a peer at any moment; whether it has the lock.
    fn stop(&mut self, number: usize) -> bool {
        for _ in 0..self.random.log_uniform(SPIN_MAX) {
            std::hint::spin_loop();
        }
        self.peers[number].0.stop();
        let pid = self.peers[number].0.pid().as_raw_nonzero().get() as u32;
        let holder = self.heap.stats().lock_holder;
        let is_holder = |peer: &Peer| Some(peer.slot) == holder && peer.pid == pid;
        self.heap.peers().iter().any(is_holder)
    }

    /// What the others do meanwhile.
    fn go_on(&mut self) {
        let start = Instant::now();
        for _ in 0..PAIRS {
            let size = self.random.log_uniform(20_000);
            let object = bytes::alloc(self.heap, size).unwrap();
            bytes::stamp(object, size, 3);
            assert!(bytes::is_stamped(self.heap, object, size, 3));
            bytes::free(self.heap, object).unwrap();
        }
        self.longest = self.longest.max(start.elapsed());
        let report = self.heap.check();
        assert!(report.is_sound() && report.stood_still, "{:#?}", report.findings);
    }

    /// All peers at their gates: nothing is live but what stays.
    fn count(&mut self, order: u64) {
        for (_, gate) in &self.peers {
            gate.close(order);
        }
        let stats = assert_whole(self.heap);
        assert_eq!(stats.live_objects, self.lost, "after stop {order}");
        for (_, gate) in &self.peers {
            gate.open();
        }
    }
}

fn stage<'h>(heap: &'h Heap, seed: u64, peers: usize) -> Stage<'h> {
    let mut stage =
        Stage { heap, random: Random::new(seed), peers: vec![], lost: 0, longest: Duration::ZERO };
    (0..peers).for_each(|_| stage.add());
    stage
}

/// Runs the test named `path` in a process of its own, which becomes the parent of the peers.
fn in_worker(path: &str, body: impl FnOnce(&mut Role, &Heap)) {
    let Some(mut role) = Role::of(path) else {
        let stops = setting("SHMHEAP_STOPS", STOPS).to_string();
        let mut worker = Worker::start(path, &[&seed().to_string(), &stops]);
        println!("{}", worker.hear());
        return worker.finish();
    };
    let heap = first_fit(LEN_BYTES).max_len(MAX_LEN_BYTES).create(HeapName::new()).unwrap();
    body(&mut role, &heap);
}

#[test]
fn whoever_is_stopped_with_the_lock_is_robbed_and_goes_on_undisturbed() {
    in_worker(
        "thefts::whoever_is_stopped_with_the_lock_is_robbed_and_goes_on_undisturbed",
        |role, heap| {
            let mut stage = stage(heap, role.number(0), 2);
            for stop in 1..=role.number(1) {
                let number = stage.random.below(2) as usize;
                // Every other time anywhere, else with the lock.
                while !stage.stop(number) && stop % 2 == 0 {
                    stage.peers[number].0.send(Signal::CONT);
                }
                stage.go_on();
                stage.peers[number].0.send(Signal::CONT);
                stage.count(stop);
            }
            role.say(&format!("longest {:?}", stage.longest));
        },
    );
}

#[test]
fn three_may_be_stopped_with_the_lock_at_once() {
    in_worker("thefts::three_may_be_stopped_with_the_lock_at_once", |role, heap| {
        let mut stage = stage(heap, role.number(0), STOPPED_MAX);
        for stop in 1..=role.number(1) / 10 {
            for number in 0..STOPPED_MAX {
                while !stage.stop(number) {
                    stage.peers[number].0.send(Signal::CONT);
                }
                stage.go_on();
            }
            let order = stage.random.below(STOPPED_MAX as u64) as usize;
            for number in 0..STOPPED_MAX {
                stage.peers[(order + number) % STOPPED_MAX].0.send(Signal::CONT);
                stage.go_on();
            }
            stage.count(stop);
        }
        role.say(&format!("longest {:?}", stage.longest));
    });
}

#[test]
fn whoever_is_killed_after_it_was_robbed_leaves_nothing_half_done() {
    in_worker(
        "thefts::whoever_is_killed_after_it_was_robbed_leaves_nothing_half_done",
        |role, heap| {
            let mut stage = stage(heap, role.number(0), 1);
            for stop in 1..=role.number(1) / 5 {
                while !stage.stop(0) {
                    stage.peers[0].0.send(Signal::CONT);
                }
                stage.go_on();
                let (mut peer, _) = stage.peers.remove(0);
                peer.kill();
                heap.sweep().unwrap();
                let stats = assert_whole(heap);
                let left = stats.live_objects - stage.lost;
                assert!(left <= HELD_MAX as u64 + 1, "{left} objects of one that held fewer");
                stage.lost += left;
                stage.add();
                stage.count(stop);
            }
            role.say(&format!("longest {:?}", stage.longest));
        },
    );
}
