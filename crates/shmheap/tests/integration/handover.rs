//! Goal: an object that is handed over is in one place at any time, whoever is killed: none is lost
//! and none is there twice.
//!
//! Method: a *conductor*, a program of its own, forks workers that make objects, publish them into
//! cells, take them from there, pass them on, keep some and drop the rest. It kills them at random
//! moments with SIGKILL. After each kill the survivors are held at a gate, where they have nothing
//! in their hands, the dead one is swept, and the heap is counted: what is live is what the cells
//! hold, each object once and with its content, and nothing more. At times the victim is the only
//! one running, so that nobody repairs what it left before the conductor has had a look: so the
//! kills that hit a hand-over are counted.
//!
//! `SHMHEAP_KILLS=n` sets the number of kills.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::Timespec;
use shmheap::{Error, Handle, Heap, Policy, Unpublished};

use crate::support::process::{Fork, Role, Worker, set_word, wait_for_word};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, assert_empty, assert_whole, bytes, first_fit, scalable};

const WORKERS: usize = 4;
const KILLS: u64 = 400;
/// Cells for objects that are filled first, and then cells for those that are not.
const CELLS: usize = 6;
const BARE_CELLS: usize = 2;
/// What a worker has in its hands at the most.
const HELD_MAX: usize = 5;
const SIZE_MAX: u64 = 1500;
/// An object starts with its stamp and its size.
const PREFIX_BYTES: u64 = 16;
const LEN_BYTES: u64 = 16 << 10;
const MAX_LEN_BYTES: u64 = 16 << 20;
/// A victim runs for up to so long before it is killed.
const RUN_NS_MAX: u64 = 200_000;

/// What the conductor says while it has nothing to say.
const STILL_ALIVE: &str = "still alive";

/// What all share: four words of each worker, then the cells.
#[derive(Clone, Copy)]
struct Board<'h>(&'h [AtomicU64]);

impl<'h> Board<'h> {
    const WORDS: usize = 4 * WORKERS + CELLS + BARE_CELLS;

    /// Operations that the worker has done.
    fn progress(self, worker: usize) -> &'h AtomicU64 {
        &self.0[4 * worker]
    }

    /// 1 while the worker must stay out of the heap, after one more operation.
    fn gate(self, worker: usize) -> &'h AtomicU64 {
        &self.0[4 * worker + 1]
    }

    /// 1 while the worker waits at the gate, with nothing in its hands.
    fn waiting(self, worker: usize) -> &'h AtomicU64 {
        &self.0[4 * worker + 2]
    }

    /// 1 while the worker may have an ordinary object, which a kill may lose.
    fn ordinary(self, worker: usize) -> &'h AtomicU64 {
        &self.0[4 * worker + 3]
    }

    fn cells(self) -> &'h [AtomicU64] {
        &self.0[4 * WORKERS..][..CELLS]
    }

    fn bare_cells(self) -> &'h [AtomicU64] {
        &self.0[4 * WORKERS + CELLS..]
    }
}

#[test]
fn no_kill_loses_or_doubles_what_is_handed_over_under_first_fit() {
    run_storm("first fit");
}

#[test]
fn no_kill_loses_or_doubles_what_is_handed_over_among_slabs() {
    run_storm("scalable");
}

fn run_storm(policy: &str) {
    let seed = seed().to_string();
    let kills = setting("SHMHEAP_KILLS", KILLS).to_string();
    let name = HeapName::new();
    let mut conductor =
        Worker::start("handover::conductor", &[name.as_str(), &seed, &kills, policy]);
    let outcome = loop {
        let line = conductor.hear();
        if line != STILL_ALIVE {
            break line;
        }
    };
    println!("{outcome}");
    conductor.finish();
}

#[test]
fn conductor() {
    let Some(mut role) = Role::of("handover::conductor") else { return };
    let name = role.argument(0);
    let options = match role.argument(3) {
        "scalable" => scalable(LEN_BYTES),
        _ => first_fit(LEN_BYTES),
    };
    let heap = options.max_len(MAX_LEN_BYTES).create(name).unwrap();
    let (handle, words) = bytes::alloc_words(&heap, Board::WORDS);
    let mut storm = Storm {
        heap: &heap,
        board: Board(words),
        board_handle: handle,
        workers: vec![],
        random: Random::new(role.number(1)),
        tally: Tally::default(),
    };
    for number in 0..WORKERS {
        let worker = storm.start(number);
        storm.workers.push(worker);
    }
    let kills = role.number(2);
    for number in 0..kills {
        storm.kill_one();
        if number.is_multiple_of(100) {
            role.say(STILL_ALIVE);
        }
    }
    let tally = storm.end();
    bytes::free_handle(&heap, handle).unwrap();
    assert_empty(&heap);
    assert_eq!(heap.peers().len(), 1, "nobody is left but the conductor");
    assert!(kills < KILLS || tally.owned > 0, "no kill hit a worker with an object in its hands");
    role.say(&format!("{tally:?}"));
}

#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    /// Kills while nobody else ran.
    alone: u64,
    /// Of those, kills that left a cell in the middle of a hand-over.
    midway: u64,
    /// Objects that those left with the dead, to be freed.
    owned: u64,
    /// Ordinary objects that a victim had not freed yet.
    lost: u64,
    operations: u64,
}

struct Storm<'h> {
    heap: &'h Heap,
    board: Board<'h>,
    board_handle: Handle,
    workers: Vec<Fork>,
    random: Random,
    tally: Tally,
}

impl Storm<'_> {
    fn start(&mut self, number: usize) -> Fork {
        let random = Random::new(self.random.next());
        let (heap, board) = (self.heap, self.board);
        Fork::start(|| Work { heap, board, number, random, held: vec![], made: 0 }.run())
    }

    fn kill_one(&mut self) {
        let victim = self.random.below(WORKERS as u64) as usize;
        let survivors = (0..WORKERS).filter(move |&number| number != victim);
        if self.random.one_in(2) {
            self.hold(survivors);
            self.kill(victim);
            self.look_at_what_it_left();
        } else {
            let before: Vec<_> = survivors.clone().map(|number| self.progress(number)).collect();
            self.kill(victim);
            self.hold(survivors.clone());
            for (number, before) in survivors.zip(before) {
                assert!(self.progress(number) > before, "survivor {number} got nowhere");
            }
        }
        self.tally.kills += 1;
        self.account(victim);
        self.workers[victim] = self.start(victim);
        self.release();
    }

    fn kill(&mut self, victim: usize) {
        let wait_ns = self.random.log_uniform(RUN_NS_MAX);
        if self.random.one_in(2) {
            for _ in 0..wait_ns {
                std::hint::spin_loop();
            }
        } else {
            let time = Timespec::try_from(Duration::from_nanos(wait_ns)).unwrap();
            let _ = rustix::thread::nanosleep(&time);
        }
        self.workers[victim].kill();
    }

    fn progress(&self, number: usize) -> u64 {
        self.board.progress(number).load(Ordering::SeqCst)
    }

    /// Lets the workers do an operation more each, put everything down, and wait.
    fn hold(&mut self, numbers: impl Iterator<Item = usize> + Clone) {
        for number in numbers.clone() {
            self.board.gate(number).store(1, Ordering::SeqCst);
        }
        for number in numbers {
            let worker = &mut self.workers[number];
            wait_for_word(self.board.waiting(number), 1, || {
                assert!(worker.ended().is_none(), "worker {number} found something wrong");
            });
        }
    }

    fn release(&self) {
        for number in 0..WORKERS {
            set_word(self.board.gate(number), 0);
        }
        for number in 0..WORKERS {
            // A new worker has not come by yet; one that waited must have seen the open gate.
            wait_for_word(self.board.waiting(number), 0, || {});
        }
    }

    /// Counts what the only one that ran was in the middle of.
    fn look_at_what_it_left(&mut self) {
        self.tally.alone += 1;
        let cells = self.board.0[4 * WORKERS..].iter();
        let midway = cells.filter(|cell| cell.load(Ordering::SeqCst) % 8 != 0).count();
        assert!(midway <= 1, "one thread hands over one object at a time");
        self.tally.midway += midway as u64;
        let before = match self.heap.info().policy {
            // Its audit would adopt the dead one.
            Policy::Scalable => self.heap.stats().live_objects,
            _ => assert_whole(self.heap).live_objects,
        };
        self.heap.sweep().unwrap();
        self.tally.owned += before - assert_whole(self.heap).live_objects;
    }

    /// Counts the heap while all stand still.
    fn account(&mut self, victim: usize) {
        self.heap.sweep().unwrap();
        let mut known = BTreeSet::from([self.board_handle]);
        for (number, cell) in self.board.0[4 * WORKERS..].iter().enumerate() {
            let word = cell.load(Ordering::SeqCst);
            let found = bytes::peek(self.heap, cell);
            assert_eq!(found.map_or(0, Handle::to_raw), word, "nobody is in the middle");
            let Some(handle) = found else { continue };
            let object = self.heap.resolve(handle).expect("an object in a cell is live");
            if number < CELLS {
                expect_filled(self.heap, object);
            }
            assert!(known.insert(handle), "{handle} is in two cells");
        }
        self.board.waiting(victim).store(0, Ordering::SeqCst);
        let most = self.board.ordinary(victim).swap(0, Ordering::SeqCst);
        let blocks = self.heap.blocks().filter(|block| block.live).map(|block| block.handle);
        let lost: Vec<_> = blocks.filter(|handle| !known.contains(handle)).collect();
        assert!(lost.len() as u64 <= most, "lost {lost:?}, of which {most} were ordinary");
        self.tally.lost += lost.len() as u64;
        for handle in lost {
            bytes::free_handle(self.heap, handle).unwrap();
        }
        assert_eq!(assert_whole(self.heap).live_objects, known.len() as u64);
    }

    /// Kills all at once, and takes what they leave in the cells.
    fn end(mut self) -> Tally {
        self.workers.clear();
        self.heap.sweep().unwrap();
        for cell in &self.board.0[4 * WORKERS..] {
            drop(bytes::take(self.heap, cell).unwrap());
        }
        for block in self.heap.blocks().filter(|block| block.live) {
            if block.handle != self.board_handle {
                bytes::free_handle(self.heap, block.handle).unwrap();
                self.tally.lost += 1;
            }
        }
        assert!(self.tally.lost <= self.tally.kills + WORKERS as u64);
        self.tally.operations = (0..WORKERS).map(|number| self.progress(number)).sum();
        self.tally
    }
}

/// An object's bytes are those that its first two words promise.
fn expect_filled(heap: &Heap, object: std::ptr::NonNull<u8>) {
    let [stamp, size] = bytes::read_words(heap, object);
    assert!(size <= heap.usable_size(object).unwrap() as u64, "{size} bytes");
    let behind = bytes::displaced(object, PREFIX_BYTES as isize);
    let is_whole = bytes::is_stamped(heap, behind, size - PREFIX_BYTES, stamp);
    assert!(is_whole, "{size} bytes of {stamp:#x} were overwritten");
}

/// A worker: operations without an end.
struct Work<'h> {
    heap: &'h Heap,
    board: Board<'h>,
    number: usize,
    random: Random,
    held: Vec<Unpublished<'h>>,
    made: u64,
}

impl<'h> Work<'h> {
    fn run(&mut self) {
        loop {
            let must_wait = self.board.gate(self.number).load(Ordering::SeqCst) == 1;
            let cell = self.any(self.board.cells());
            match self.random.below(9) {
                0..2 if self.held.len() < HELD_MAX => self.make(),
                2..4 => self.publish(cell),
                4..6 => self.take(cell),
                6 => self.bare(),
                7 => self.juggle(),
                _ => self.put_down(),
            }
            self.board.progress(self.number).fetch_add(1, Ordering::SeqCst);
            if must_wait {
                self.held.clear();
                set_word(self.board.waiting(self.number), 1);
                wait_for_word(self.board.gate(self.number), 0, || {});
                set_word(self.board.waiting(self.number), 0);
            }
        }
    }

    fn any(&mut self, cells: &'h [AtomicU64]) -> &'h AtomicU64 {
        &cells[self.random.below(cells.len() as u64) as usize]
    }

    fn make(&mut self) {
        let size = PREFIX_BYTES + self.random.log_uniform(SIZE_MAX);
        let object = self.heap.alloc_unpublished(bytes::layout(size, 1)).unwrap();
        self.fill(&object, size);
        self.held.push(object);
    }

    /// With a stamp that no other object has.
    fn fill(&mut self, object: &Unpublished<'h>, size: u64) {
        self.made += 1;
        let stamp = self.random.next() ^ self.made;
        let behind = bytes::displaced(object.as_ptr(), PREFIX_BYTES as isize);
        bytes::stamp(behind, size - PREFIX_BYTES, stamp);
        bytes::write_words(object.as_ptr(), [stamp, size]);
    }

    fn publish(&mut self, cell: &AtomicU64) {
        let Some(object) = self.held.pop() else { return };
        expect_filled(self.heap, object.as_ptr());
        if let Err(refused) = bytes::publish(object, cell) {
            assert!(matches!(refused.error, Error::Occupied { .. }), "{}", refused.error);
            self.held.push(refused.object);
        }
    }

    fn take(&mut self, cell: &AtomicU64) {
        let Some(object) = bytes::take(self.heap, cell).unwrap() else { return };
        expect_filled(self.heap, object.as_ptr());
        // Another that had it as well would notice.
        let [_, size] = bytes::read_words(self.heap, object.as_ptr());
        self.fill(&object, size);
        if self.held.len() < HELD_MAX {
            self.held.push(object);
        } else {
            self.drop_one(object);
        }
    }

    /// Among slabs, an object that is dropped is an ordinary one for a moment, so that its place is
    /// nobody's twice; see `Heap::slab_free_own`.
    fn drop_one(&self, object: Unpublished<'h>) {
        let is_ordinary = self.heap.info().policy == Policy::Scalable;
        self.board.ordinary(self.number).store(is_ordinary.into(), Ordering::SeqCst);
        drop(object);
        self.board.ordinary(self.number).store(0, Ordering::SeqCst);
    }

    /// Moves objects from cell to cell and does nothing else, so that kills hit hand-overs.
    fn juggle(&mut self) {
        let mut in_hand = self.held.pop();
        for _ in 0..200 {
            let cell = self.any(self.board.cells());
            in_hand = match in_hand {
                Some(object) => bytes::publish(object, cell).err().map(|refused| refused.object),
                None => bytes::take(self.heap, cell).unwrap(),
            };
        }
        self.held.extend(in_hand);
    }

    fn bare(&mut self) {
        let cell = self.any(self.board.bare_cells());
        let size = self.random.log_uniform(SIZE_MAX);
        match bytes::alloc_into(self.heap, size, cell) {
            Ok(_) => {}
            Err(Error::Occupied { .. }) => {
                bytes::take(self.heap, cell).unwrap().into_iter().for_each(|it| self.drop_one(it));
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Frees an object, one way or the other.
    fn put_down(&mut self) {
        let Some(object) = self.held.pop() else { return };
        expect_filled(self.heap, object.as_ptr());
        if self.random.one_in(4) {
            self.board.ordinary(self.number).store(1, Ordering::SeqCst);
            bytes::free(self.heap, object.keep()).unwrap();
            self.board.ordinary(self.number).store(0, Ordering::SeqCst);
        } else {
            self.drop_one(object);
        }
    }
}
