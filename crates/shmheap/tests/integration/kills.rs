//! Goal: a process killed at any instruction costs the others nothing, and loses at most the object
//! that it was handling.
//!
//! Method: a *conductor*, a program of its own, starts workers that allocate, resize, free and
//! grow at random in one heap, some forked from it, some exec'd. It kills them at random moments
//! with SIGKILL. After each kill
//!
//! 1. the survivors must get on: each one's count of operations moves, without anybody's help;
//! 2. they are held at a gate between two operations, and the heap is audited and counted: blocks,
//!    counters and audit agree, every object in a worker's table is live with its content, and what
//!    is live beyond the tables is at most what the dead one was about to store or to free;
//! 3. that is freed, and a successor takes over the dead one's table.
//!
//! At times the victim is the only one running, so that nobody repairs what it left before the
//! conductor has had a look: so the kills that hit a process with the heap's lock are counted.
//!
//! `SHMHEAP_KILLS=n` sets the number of kills.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::Timespec;
use shmheap::{Error, Handle, Heap};

use crate::support::first_fit;
use crate::support::process::{Fork, Role, Worker, set_word, wait_for_word};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, assert_empty, assert_whole, bytes};

const WORKERS: usize = 4;
const KILLS: u64 = 1000;
/// Objects that a worker has at the most.
const PLACES: usize = 48;
const SIZE_MAX: u64 = 4096;
const LEN_BYTES: u64 = 64 << 10;
const MAX_LEN_BYTES: u64 = 64 << 20;
/// A victim runs for up to so long before it is killed.
const RUN_NS_MAX: u64 = 200_000;

/// What the conductor says while it has nothing to say.
const STILL_ALIVE: &str = "still alive";

/// What a worker is in the middle of: so many objects may be live outside its table.
const IDLE: u64 = 0;
const ONE_IN_HAND: u64 = 1;
/// While an object moves, its old and its new place are both live for a moment.
const MOVING: u64 = 2;

/// A worker's row of words in the heap, which outlives it.
#[derive(Clone, Copy)]
struct Table<'h>(&'h [AtomicU64]);

impl<'h> Table<'h> {
    const WORDS: usize = 4 + 2 * PLACES;

    /// Operations done.
    fn progress(self) -> &'h AtomicU64 {
        &self.0[0]
    }

    /// [`IDLE`], [`ONE_IN_HAND`] or [`MOVING`].
    fn in_hand(self) -> &'h AtomicU64 {
        &self.0[1]
    }

    /// 1 while the worker must stay out of the heap, after one more operation.
    fn gate(self) -> &'h AtomicU64 {
        &self.0[2]
    }

    /// 1 while the worker waits at the gate.
    fn waiting(self) -> &'h AtomicU64 {
        &self.0[3]
    }

    /// An object's handle, 0 if there is none, and its size. The size counts only with a handle.
    fn place(self, index: usize) -> (&'h AtomicU64, &'h AtomicU64) {
        (&self.0[4 + 2 * index], &self.0[5 + 2 * index])
    }

    /// Every object in the table.
    fn objects(self) -> impl Iterator<Item = (Handle, u64)> {
        (0..PLACES).map(move |index| self.place(index)).filter_map(|(handle, size)| {
            let handle = Handle::from_raw(handle.load(Ordering::SeqCst));
            (handle != Handle::NONE).then(|| (handle, size.load(Ordering::SeqCst)))
        })
    }
}

#[test]
fn a_storm_of_kills_costs_the_survivors_nothing() {
    let seed = seed().to_string();
    let kills = setting("SHMHEAP_KILLS", KILLS).to_string();
    let name = HeapName::new();
    let mut conductor = Worker::start("kills::conductor", &[name.as_str(), &seed, &kills]);
    // A line now and then, so that a storm may last longer than the patience with a silent worker.
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
    let Some(mut role) = Role::of("kills::conductor") else { return };
    let name = role.argument(0).to_owned();
    let heap = first_fit(LEN_BYTES).max_len(MAX_LEN_BYTES).create(&name).unwrap();
    let made: Vec<_> = (0..WORKERS).map(|_| bytes::alloc_words(&heap, Table::WORDS)).collect();
    let mut storm = Storm {
        heap: &heap,
        observer: Heap::connect_read_only(&name).unwrap(),
        name: &name,
        handles: made.iter().map(|&(handle, _)| handle).collect(),
        tables: made.iter().map(|&(_, row)| Table(row)).collect(),
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
    storm.end();
    let Storm { handles, tally, .. } = storm;
    for handle in handles {
        bytes::free_handle(&heap, handle).unwrap();
    }
    assert_empty(&heap);
    heap.sweep().unwrap();
    assert_eq!(heap.peers().len(), 1, "nobody is left but the conductor");
    let length = heap.info().len_bytes;
    assert!(length > LEN_BYTES, "the heap has grown");
    assert!(kills < KILLS || tally.holding_the_lock > 0, "no kill hit a holder of the lock");
    role.say(&format!("{tally:?}, {length} bytes at the end"));
}

#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    /// Kills while nobody else ran.
    alone: u64,
    /// Of those, kills that found the victim with the heap's lock.
    holding_the_lock: u64,
    /// Objects that were in a victim's hands, in no table.
    lost: u64,
    operations: u64,
}

/// A worker, killed by its drop.
enum Process {
    Forked(Fork),
    Executed(Worker),
}

struct Storm<'h> {
    heap: &'h Heap,
    observer: Heap,
    name: &'h str,
    handles: Vec<Handle>,
    tables: Vec<Table<'h>>,
    workers: Vec<Process>,
    random: Random,
    tally: Tally,
}

impl Storm<'_> {
    fn kill_one(&mut self) {
        let victim = self.random.below(WORKERS as u64) as usize;
        if self.random.one_in(3) {
            self.kill_alone(victim);
        } else {
            self.kill(victim);
        }
        self.tally.kills += 1;
        self.survivors_get_on(victim);
        self.account(victim);
        self.workers[victim] = self.start(victim);
        self.release();
    }

    /// Kills all at once, and frees what they leave.
    fn end(&mut self) {
        self.workers.clear();
        self.heap.sweep().unwrap();
        self.tally.operations =
            self.tables.iter().map(|table| table.progress().load(Ordering::SeqCst)).sum();
        for table in &self.tables {
            for (handle, _) in table.objects() {
                bytes::free_handle(self.heap, handle).unwrap();
            }
        }
        self.free_lost(&BTreeMap::new(), 2 * WORKERS as u64);
    }

    fn start(&mut self, number: usize) -> Process {
        let seed = self.random.next();
        if self.random.one_in(16) {
            let table = self.handles[number].to_string();
            let arguments = [self.name, &table, &seed.to_string()];
            return Process::Executed(Worker::start("kills::worker", &arguments));
        }
        let table = self.tables[number];
        Process::Forked(Fork::start(|| {
            Work { heap: self.heap, table, random: Random::new(seed) }.run()
        }))
    }

    fn kill_alone(&mut self, victim: usize) {
        self.hold((0..WORKERS).filter(|&number| number != victim));
        self.kill(victim);
        self.tally.alone += 1;
        if self.observer.check().recovery_pending {
            self.tally.holding_the_lock += 1;
        }
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
        match &mut self.workers[victim] {
            Process::Forked(fork) => fork.kill(),
            Process::Executed(worker) => worker.kill(),
        }
    }

    /// Sees every survivor do an operation after the kill, and holds it then.
    fn survivors_get_on(&mut self, victim: usize) {
        let survivors = (0..WORKERS).filter(|&number| number != victim);
        let before: Vec<_> = survivors.clone().map(|number| self.progress(number)).collect();
        self.hold(survivors.clone());
        for (number, before) in survivors.zip(before) {
            assert!(self.progress(number) > before, "survivor {number} got nowhere");
        }
    }

    fn progress(&self, number: usize) -> u64 {
        self.tables[number].progress().load(Ordering::SeqCst)
    }

    /// Lets the workers do an operation more each and wait then.
    fn hold(&mut self, numbers: impl Iterator<Item = usize> + Clone) {
        for number in numbers.clone() {
            self.tables[number].gate().store(1, Ordering::SeqCst);
        }
        for number in numbers {
            let worker = &mut self.workers[number];
            wait_for_word(self.tables[number].waiting(), 1, || {
                assert!(!has_ended(worker), "worker {number} found something wrong");
            });
        }
    }

    fn release(&self) {
        for table in &self.tables {
            set_word(table.gate(), 0);
        }
        for table in &self.tables {
            // A new worker has not come by yet; one that waited must have seen the open gate.
            wait_for_word(table.waiting(), 0, || {});
        }
    }

    /// Counts the heap while all stand still, and frees what the victim had in its hands.
    fn account(&mut self, victim: usize) {
        assert_whole(self.heap);
        let mut known = BTreeMap::new();
        for table in &self.tables {
            for (handle, size) in table.objects() {
                let object = self.heap.resolve(handle).expect("an object in a table is live");
                let whole = bytes::is_stamped(self.heap, object, size, handle.to_raw());
                assert!(whole, "{size} bytes at {handle} were overwritten");
                let twice = known.insert(handle, size).is_some();
                assert!(!twice, "{handle} is in two tables");
            }
        }
        let table = self.tables[victim];
        let in_hand = table.in_hand().swap(IDLE, Ordering::SeqCst);
        table.waiting().store(0, Ordering::SeqCst);
        self.free_lost(&known, in_hand);
        assert_whole(self.heap);
    }

    /// Frees all that is live and in no table; that may be `most` objects.
    fn free_lost(&mut self, known: &BTreeMap<Handle, u64>, most: u64) {
        let lost: Vec<_> = self
            .heap
            .blocks()
            .filter(|block| block.live)
            .map(|block| block.handle)
            .filter(|handle| !known.contains_key(handle) && !self.handles.contains(handle))
            .collect();
        assert!(lost.len() as u64 <= most, "lost {lost:?}, of which {most} were in its hands");
        self.tally.lost += lost.len() as u64;
        for handle in lost {
            bytes::free_handle(self.heap, handle).unwrap();
        }
    }
}

fn has_ended(worker: &mut Process) -> bool {
    match worker {
        Process::Forked(fork) => fork.ended().is_some(),
        Process::Executed(worker) => worker.ended().is_some(),
    }
}

#[test]
fn worker() {
    let Some(role) = Role::of("kills::worker") else { return };
    let heap = Heap::connect(role.argument(0)).unwrap();
    let table = Table(bytes::words(&heap, role.argument(1).parse().unwrap(), Table::WORDS));
    Work { heap: &heap, table, random: Random::new(role.number(2)) }.run();
}

/// A worker: operations without an end.
struct Work<'h> {
    heap: &'h Heap,
    table: Table<'h>,
    random: Random,
}

impl Work<'_> {
    fn run(&mut self) {
        loop {
            let must_wait = self.table.gate().load(Ordering::SeqCst) == 1;
            let index = self.random.below(PLACES as u64) as usize;
            let (handle, size) = self.table.place(index);
            let held = Handle::from_raw(handle.load(Ordering::SeqCst));
            if held == Handle::NONE {
                self.allocate(handle, size);
            } else if self.random.one_in(3) {
                self.resize(held, handle, size);
            } else {
                self.free(held, handle, size);
            }
            if self.random.one_in(1000) {
                self.grow();
            }
            self.table.progress().fetch_add(1, Ordering::SeqCst);
            if must_wait {
                self.wait_at_the_gate();
            }
        }
    }

    fn wait_at_the_gate(&self) {
        set_word(self.table.waiting(), 1);
        wait_for_word(self.table.gate(), 0, || {});
        set_word(self.table.waiting(), 0);
    }

    fn allocate(&mut self, handle: &AtomicU64, size: &AtomicU64) {
        let bytes = self.random.log_uniform(SIZE_MAX);
        let align = if self.random.one_in(8) { 1 << self.random.below(10) } else { 1 };
        size.store(bytes, Ordering::SeqCst);
        self.table.in_hand().store(ONE_IN_HAND, Ordering::SeqCst);
        let object = self.heap.alloc(bytes::layout(bytes, align)).unwrap();
        let made = self.heap.handle(object).unwrap();
        bytes::stamp(object, bytes, made.to_raw());
        handle.store(made.to_raw(), Ordering::SeqCst);
        self.table.in_hand().store(IDLE, Ordering::SeqCst);
    }

    fn free(&self, held: Handle, handle: &AtomicU64, size: &AtomicU64) {
        let object = self.heap.resolve(held).unwrap();
        let bytes = size.load(Ordering::SeqCst);
        assert!(bytes::is_stamped(self.heap, object, bytes, held.to_raw()));
        self.table.in_hand().store(ONE_IN_HAND, Ordering::SeqCst);
        handle.store(0, Ordering::SeqCst);
        bytes::free(self.heap, object).unwrap();
        self.table.in_hand().store(IDLE, Ordering::SeqCst);
    }

    fn resize(&mut self, held: Handle, handle: &AtomicU64, size: &AtomicU64) {
        let object = self.heap.resolve(held).unwrap();
        let old_bytes = size.load(Ordering::SeqCst);
        let new_bytes = self.random.log_uniform(SIZE_MAX);
        self.table.in_hand().store(MOVING, Ordering::SeqCst);
        handle.store(0, Ordering::SeqCst);
        let object = bytes::realloc(self.heap, object, new_bytes, 1).unwrap();
        let kept = old_bytes.min(new_bytes);
        assert!(bytes::is_stamped(self.heap, object, kept, held.to_raw()), "content moves along");
        let moved = self.heap.handle(object).unwrap();
        bytes::stamp(object, new_bytes, moved.to_raw());
        size.store(new_bytes, Ordering::SeqCst);
        handle.store(moved.to_raw(), Ordering::SeqCst);
        self.table.in_hand().store(IDLE, Ordering::SeqCst);
    }

    fn grow(&self) {
        match self.heap.grow(self.heap.info().len_bytes + 1024) {
            Ok(_) | Err(Error::InvalidOption { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
