//! Goal: many processes allocate, write, hand over and free in one heap at once, and no byte of any
//! object is ever another's.
//!
//! Method: every worker is a program of its own that connects by name. It fills each object with a
//! pattern that only the object's owner and number give, and compares all of it before the object
//! is freed. A third of the objects go through mailboxes in the heap itself to another worker,
//! which does the comparing and freeing. At the end the heap must be one free block.
//!
//! `SHMHEAP_ROUNDS=n` sets how many objects each worker makes.

use std::sync::atomic::{AtomicU64, Ordering};

use shmheap::{Handle, Heap};

use crate::support::process::{Role, Worker, wait_until};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, POLICIES, assert_empty, bytes, heap_of};

const WORKERS: u64 = 8;
const SIZE_MAX: u64 = 2000;
/// What a worker keeps at the most before it frees something.
const HELD_MAX: usize = 200;
/// Places for handles in a worker's mailbox.
const MAILBOX: usize = 32;
/// How often a worker looks for room in a mailbox, letting the others run in between.
const TRIES: u32 = 32;
/// An object that goes by mail starts with its stamp and its size.
const PREFIX_BYTES: u64 = 16;

/// The words that all workers share: counters, then a mailbox for each of them.
struct Board<'h>(&'h [AtomicU64]);

impl<'h> Board<'h> {
    const WORDS: usize = 3 + WORKERS as usize * MAILBOX;

    fn allocated(&self) -> &'h AtomicU64 {
        &self.0[0]
    }

    fn mailed(&self) -> &'h AtomicU64 {
        &self.0[1]
    }

    /// Workers that will send no more.
    fn done(&self) -> &'h AtomicU64 {
        &self.0[2]
    }

    fn mailbox(&self, worker: u64) -> &'h [AtomicU64] {
        &self.0[3 + worker as usize * MAILBOX..][..MAILBOX]
    }
}

#[test]
fn eight_processes_share_a_heap() {
    let seed = seed();
    let rounds = setting("SHMHEAP_ROUNDS", 20_000);
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = heap_of(policy, 64 << 10).max_len(256 << 20).create(&name).unwrap();
        let (handle, row) = bytes::alloc_words(&heap, Board::WORDS);
        let board = Board(row);
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let seed = seed.wrapping_add(number);
                let arguments = [number, seed, rounds].map(|number| number.to_string());
                let [number, seed, rounds] = arguments.each_ref().map(String::as_str);
                let board = handle.to_string();
                Worker::start("processes::worker", &[name.as_str(), &board, number, seed, rounds])
            })
            .collect();
        for worker in workers {
            worker.finish();
        }
        let mailed = board.mailed().load(Ordering::Relaxed);
        assert_eq!(board.allocated().load(Ordering::Relaxed), WORKERS * rounds);
        assert!(mailed > WORKERS * rounds / 4, "only {mailed} objects changed hands");
        assert_eq!(heap.peers().len(), 1, "all workers have left");
        bytes::free_handle(&heap, handle).unwrap();
        assert_empty(&heap);
        println!("{} objects, {mailed} of them freed by another process", WORKERS * rounds);
    }
}

#[test]
fn worker() {
    let Some(role) = Role::of("processes::worker") else { return };
    let heap = Heap::connect(role.argument(0)).unwrap();
    let board = Board(bytes::words(&heap, role.argument(1).parse().unwrap(), Board::WORDS));
    let number = role.number(2);
    let random = Random::new(role.number(3));
    Process { heap: &heap, board, number, random, held: vec![] }.run(role.number(4));
}

/// An object in a worker's hands.
struct Held {
    handle: Handle,
    size: u64,
    stamp: u64,
}

struct Process<'h> {
    heap: &'h Heap,
    board: Board<'h>,
    number: u64,
    random: Random,
    held: Vec<Held>,
}

impl Process<'_> {
    fn run(&mut self, rounds: u64) {
        for sequence in 0..rounds {
            let made = self.make(sequence);
            self.held.push(made);
            self.board.allocated().fetch_add(1, Ordering::Relaxed);
            if self.random.one_in(2) {
                self.mail_any();
            }
            while self.held.len() > HELD_MAX || (!self.held.is_empty() && self.random.one_in(2)) {
                let index = self.random.below(self.held.len() as u64) as usize;
                let held = self.held.swap_remove(index);
                self.verify_and_free(&held);
            }
            self.empty_mailbox();
        }
        for held in std::mem::take(&mut self.held) {
            self.verify_and_free(&held);
        }
        // Release; its partner is the acquire below: whoever counts all workers finds all mail.
        self.board.done().fetch_add(1, Ordering::Release);
        wait_until("all workers have sent their mail", || {
            let all_sent = self.board.done().load(Ordering::Acquire) == WORKERS;
            self.empty_mailbox();
            all_sent
        });
    }

    fn make(&mut self, sequence: u64) -> Held {
        let size = self.random.log_uniform(SIZE_MAX);
        let align = if self.random.one_in(10) { 1 << self.random.below(9) } else { 1 };
        let layout = bytes::layout(size, align);
        let object = if self.random.one_in(10) {
            let object = self.heap.alloc_zeroed(layout).unwrap();
            assert!(bytes::content(self.heap, object, size).iter().all(|&byte| byte == 0));
            object
        } else {
            self.heap.alloc(layout).unwrap()
        };
        assert!(object.addr().get().is_multiple_of(align as usize));
        let stamp = self.number << 32 | sequence;
        bytes::stamp(object, size, stamp);
        Held { handle: self.heap.handle(object).unwrap(), size, stamp }
    }

    #[track_caller]
    fn verify_and_free(&self, held: &Held) {
        let object = self.heap.resolve(held.handle).unwrap();
        let whole = bytes::is_stamped(self.heap, object, held.size, held.stamp);
        assert!(whole, "object {} of {:#x} was overwritten", held.handle, held.stamp);
        bytes::free(self.heap, object).unwrap();
    }

    /// Sends an object to another worker, if one is large enough and a mailbox gets room.
    fn mail_any(&mut self) {
        let Some(index) = self.held.iter().position(|held| held.size >= 2 * PREFIX_BYTES) else {
            return;
        };
        let held = &self.held[index];
        let object = self.heap.resolve(held.handle).unwrap();
        bytes::write_words(object, [held.stamp, held.size]);
        for _ in 0..TRIES {
            let to = (self.number + 1 + self.random.below(WORKERS - 1)) % WORKERS;
            let place = &self.board.mailbox(to)[self.random.below(MAILBOX as u64) as usize];
            // Release; its partner is the acquire in `empty_mailbox`: the content comes along.
            let order = (Ordering::Release, Ordering::Relaxed);
            if place.compare_exchange(0, held.handle.to_raw(), order.0, order.1).is_ok() {
                self.board.mailed().fetch_add(1, Ordering::Relaxed);
                self.held.swap_remove(index);
                return;
            }
            self.empty_mailbox();
            std::thread::yield_now();
        }
        bytes::stamp(object, PREFIX_BYTES, held.stamp);
    }

    fn empty_mailbox(&self) {
        for place in self.board.mailbox(self.number) {
            // Acquire; its partner is the release in `mail_any`.
            let handle = Handle::from_raw(place.swap(0, Ordering::Acquire));
            if handle == Handle::NONE {
                continue;
            }
            let object = self.heap.resolve(handle).unwrap();
            let [stamp, size] = bytes::read_words(self.heap, object);
            bytes::stamp(object, PREFIX_BYTES, stamp);
            self.verify_and_free(&Held { handle, size, stamp });
        }
    }
}
