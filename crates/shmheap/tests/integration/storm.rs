//! Goal: what first fit shows under kills, shown for slabs: threads of many processes killed at any
//! instruction cost the others nothing, and lose at most the object that each was handling.
//!
//! Method: a *conductor*, a program of its own, forks processes with two threads each, one of which
//! ends now and then and is followed by another. The threads allocate, resize, free, and pass
//! objects on by way of places that all share, so most are freed by other processes; they also
//! grow, trim and sweep. The conductor kills up to three processes at a time, at random moments of
//! their own and of the adoptions of each other. After each such batch
//!
//! 1. the survivors must get on: each thread's count of operations moves;
//! 2. they are held at a gate between two operations, and the heap is audited and counted: every
//!    object in a table or a shared place is live and has its content, and what is live beyond that
//!    is at most what the dead had in hand;
//! 3. that is freed, and successors take over the dead ones' tables.
//!
//! After some hundred kills all are killed at once and the heap must be one free block; a new heap
//! follows, which grows anew.
//!
//! `SHMHEAP_KILLS=n` sets the number of kills.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::Timespec;
use shmheap::{Error, Handle, Heap};

use crate::support::process::{Fork, Role, Worker, set_word, wait_for_word, wait_while_word};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, assert_empty, assert_whole, bytes, scalable};

const PROCESSES: usize = 8;
const THREADS: usize = 2;
const KILLS: u64 = 5000;
/// Kills in the life of one heap.
const KILLS_PER_HEAP: u64 = 500;
/// Processes that are killed before the next audit, at the most.
const BATCH_MAX: u64 = 3;
/// Objects that a thread has at the most.
const PLACES: usize = 32;
const SIZE_MAX: u64 = 2 << 20;
/// Places through which objects change hands.
const SHARED: usize = 64;
const LEN_BYTES: u64 = 1 << 20;
const MAX_LEN_BYTES: u64 = 64 << 20;
/// Victims run for up to so long before they are killed.
const RUN_NS_MAX: u64 = 2_000_000;

/// A gate that is open.
const OPEN: u64 = 0;

/// What a thread is in the middle of: so many objects may be live outside all tables.
const IDLE: u64 = 0;
const ONE_IN_HAND: u64 = 1;
/// While an object moves, its old and its new place are both live for a moment.
const MOVING: u64 = 2;

/// What every object starts with: its handle, and its size with the thread that made it.
const PREFIX_BYTES: u64 = 16;
/// Up to this size, all bytes of an object are written and compared; of larger ones, samples.
const WHOLE_BYTES: u64 = 1024;
const SAMPLE_BYTES: u64 = 64;
/// A sample in each unit of the heap.
const SAMPLE_STEP: usize = 64 << 10;

/// A thread's row of words in the heap, which outlives it.
#[derive(Clone, Copy)]
struct Table<'h>(&'h [AtomicU64]);

impl<'h> Table<'h> {
    const WORDS: usize = 4 + PLACES;

    /// Operations done.
    fn progress(self) -> &'h AtomicU64 {
        &self.0[0]
    }

    /// [`IDLE`], [`ONE_IN_HAND`] or [`MOVING`].
    fn in_hand(self) -> &'h AtomicU64 {
        &self.0[1]
    }

    /// [`OPEN`], or the number of the order to do one more operation and then to wait.
    fn gate(self) -> &'h AtomicU64 {
        &self.0[2]
    }

    /// The number of the order by which the thread waits at the gate.
    fn waiting(self) -> &'h AtomicU64 {
        &self.0[3]
    }

    /// Handles, 0 where there is none.
    fn places(self) -> &'h [AtomicU64] {
        &self.0[4..]
    }
}

#[test]
fn kills_among_slabs_cost_the_survivors_nothing() {
    let seed = seed().to_string();
    let kills = setting("SHMHEAP_KILLS", KILLS);
    let mut left = kills;
    let mut random = Random::new(seed.parse().unwrap());
    while left > 0 {
        let here = left.min(KILLS_PER_HEAP);
        let (seed, here_text) = (random.next().to_string(), here.to_string());
        let mut conductor = Worker::start("storm::conductor", &[&seed, &here_text]);
        println!("{}", conductor.hear());
        conductor.finish();
        left -= here;
    }
}

#[test]
fn conductor() {
    let Some(mut role) = Role::of("storm::conductor") else { return };
    let name = HeapName::new();
    let heap = scalable(LEN_BYTES).max_len(MAX_LEN_BYTES).create(&name).unwrap();
    let rows: Vec<_> =
        (0..PROCESSES * THREADS).map(|_| bytes::alloc_words(&heap, Table::WORDS)).collect();
    let shared = bytes::alloc_words(&heap, SHARED);
    let mut storm = Storm {
        heap: &heap,
        own: rows.iter().map(|row| row.0).chain([shared.0]).collect(),
        tables: rows.iter().map(|row| Table(row.1)).collect(),
        shared: shared.1,
        processes: vec![],
        random: Random::new(role.number(0)),
        orders: 0,
        tally: Tally::default(),
    };
    for number in 0..PROCESSES {
        let process = storm.start(number);
        storm.processes.push(process);
    }
    let kills = role.number(1);
    while storm.tally.kills < kills {
        storm.kill_some(kills - storm.tally.kills);
    }
    storm.end();
    let Storm { own, tally, .. } = storm;
    for handle in own {
        bytes::free_handle(&heap, handle).unwrap();
    }
    assert_empty(&heap);
    assert_eq!(heap.peers().len(), 1, "nobody is left but the conductor");
    let length = heap.info().len_bytes;
    assert!(length > LEN_BYTES, "the heap has grown");
    role.say(&format!("{tally:?}, {length} bytes at the end"));
}

#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    audits: u64,
    /// Kills of a thread with objects in its hands.
    in_hand: u64,
    /// Objects that were in a victim's hands, in no table.
    lost: u64,
    operations: u64,
}

struct Storm<'h> {
    heap: &'h Heap,
    /// The tables themselves.
    own: BTreeSet<Handle>,
    tables: Vec<Table<'h>>,
    shared: &'h [AtomicU64],
    /// Killed by their drop.
    processes: Vec<Fork>,
    random: Random,
    /// The number of the last order to wait.
    orders: u64,
    tally: Tally,
}

impl<'h> Storm<'h> {
    fn threads(&self, process: usize) -> &[Table<'h>] {
        &self.tables[process * THREADS..][..THREADS]
    }

    fn start(&mut self, number: usize) -> Fork {
        let (heap, shared, seed) = (self.heap, self.shared, self.random.next());
        let tables = self.threads(number);
        Fork::start(|| work(heap, tables, shared, seed))
    }

    fn kill_some(&mut self, most: u64) {
        // With few processes at work, each gets further in the time that it has.
        let count = if self.random.one_in(4) { 4 * PROCESSES } else { PROCESSES / 2 } as u64;
        let active: BTreeSet<_> =
            (0..count).map(|_| self.random.below(PROCESSES as u64) as usize).collect();
        self.release(&active);
        let mut victims = BTreeSet::new();
        let candidates: Vec<_> = active.into_iter().collect();
        for _ in 0..=self.random.below(BATCH_MAX.min(most)) {
            let victim = candidates[self.random.below(candidates.len() as u64) as usize];
            if victims.insert(victim) {
                self.pass_time();
                self.processes[victim].send(Signal::KILL);
                if self.random.one_in(3) {
                    // The next is killed when this one's death can be seen, and perhaps is.
                    self.processes[victim].reap_killed();
                }
            }
        }
        let survivors: Vec<_> = (0..PROCESSES).filter(|number| !victims.contains(number)).collect();
        self.survivors_get_on(&survivors);
        for &victim in &victims {
            self.processes[victim].reap_killed();
        }
        self.account(&victims);
        for &victim in &victims {
            self.processes[victim] = self.start(victim);
        }
        self.tally.kills += victims.len() as u64;
        self.tally.audits += 1;
    }

    fn pass_time(&mut self) {
        let wait_ns = self.random.log_uniform(RUN_NS_MAX);
        let time = Timespec::try_from(Duration::from_nanos(wait_ns)).unwrap();
        let _ = rustix::thread::nanosleep(&time);
    }

    /// Sees every surviving thread do an operation after the kills, and holds it then.
    fn survivors_get_on(&mut self, survivors: &[usize]) {
        let progress = |table: &Table<'_>| table.progress().load(Ordering::SeqCst);
        let tables = |of: &Self, number| of.threads(number).to_vec();
        let all: Vec<_> = survivors.iter().flat_map(|&number| tables(self, number)).collect();
        let before: Vec<_> = all.iter().map(progress).collect();
        self.orders += 1;
        for table in &all {
            set_word(table.gate(), self.orders);
        }
        for &number in survivors {
            for table in tables(self, number) {
                wait_for_word(table.waiting(), self.orders, || {
                    let ended = self.processes[number].ended();
                    assert!(ended.is_none(), "process {number} found something wrong: {ended:?}");
                });
            }
        }
        for (table, before) in all.iter().zip(before) {
            assert!(progress(table) > before, "a survivor got nowhere");
        }
    }

    fn release(&self, processes: &BTreeSet<usize>) {
        for &process in processes {
            for table in self.threads(process) {
                set_word(table.gate(), OPEN);
            }
        }
    }

    /// Counts the heap while all stand still, and frees what the victims had in their hands.
    fn account(&mut self, victims: &BTreeSet<usize>) {
        let stats = assert_whole(self.heap);
        assert_eq!(stats.peers_dead, 0, "the audit has adopted what the dead left");
        let peers: BTreeSet<_> = self.heap.peers().iter().map(|peer| peer.slot).collect();
        assert!(stats.owners.iter().all(|owner| peers.contains(&owner.slot)), "{:?}", stats.owners);
        let mut known = BTreeSet::new();
        let places = self.tables.iter().flat_map(|table| table.places()).chain(self.shared);
        for place in places {
            let handle = Handle::from_raw(place.load(Ordering::SeqCst));
            if handle != Handle::NONE {
                let object = self.heap.resolve(handle).expect("an object in a table is live");
                assert_marked(self.heap, object, handle);
                assert!(known.insert(handle), "{handle} is in two places");
            }
        }
        let mut most = 0;
        for &victim in victims {
            for table in self.threads(victim).to_vec() {
                let in_hand = table.in_hand().swap(IDLE, Ordering::SeqCst);
                self.tally.in_hand += u64::from(in_hand > 0);
                most += in_hand;
            }
        }
        self.free_lost(&known, most);
    }

    /// Frees all that is live and in no table; that may be `most` objects.
    fn free_lost(&mut self, known: &BTreeSet<Handle>, most: u64) {
        let live = self.heap.blocks().filter(|block| block.live).map(|block| block.handle);
        let lost: Vec<_> =
            live.filter(|handle| !known.contains(handle) && !self.own.contains(handle)).collect();
        assert!(lost.len() as u64 <= most, "lost {lost:?}, of which {most} were in hand");
        self.tally.lost += lost.len() as u64;
        for handle in lost {
            bytes::free_handle(self.heap, handle).unwrap();
        }
    }

    /// Kills all at once, and frees what they leave.
    fn end(&mut self) {
        self.processes.clear();
        assert_whole(self.heap);
        for place in self.tables.iter().flat_map(|table| table.places()).chain(self.shared) {
            let handle = Handle::from_raw(place.load(Ordering::SeqCst));
            if handle != Handle::NONE {
                bytes::free_handle(self.heap, handle).unwrap();
            }
        }
        self.free_lost(&BTreeSet::new(), MOVING * (PROCESSES * THREADS) as u64);
        let progress = self.tables.iter().map(|table| table.progress().load(Ordering::SeqCst));
        self.tally.operations = progress.sum();
    }
}

/// A process: one thread that stays, and threads that follow each other.
fn work(heap: &Heap, tables: &[Table<'_>], shared: &[AtomicU64], seed: u64) {
    let mut seeds = Random::new(seed);
    let thread = |table, seed, operations| {
        let mut thread = Thread { heap, table, shared, random: Random::new(seed) };
        let outcome = catch_unwind(AssertUnwindSafe(|| thread.run(operations)));
        if outcome.is_err() {
            // The other threads have no end.
            std::process::abort();
        }
    };
    std::thread::scope(|scope| {
        let [stays, changes] = tables else { panic!("two tables") };
        let seed = seeds.next();
        scope.spawn(move || thread(*stays, seed, u64::MAX));
        loop {
            let (seed, operations) = (seeds.next(), 1 + seeds.log_uniform(1 << 12));
            // The join ends after what the thread does at its end.
            scope.spawn(move || thread(*changes, seed, operations)).join().unwrap();
        }
    });
}

struct Thread<'h> {
    heap: &'h Heap,
    table: Table<'h>,
    shared: &'h [AtomicU64],
    random: Random,
}

impl Thread<'_> {
    fn run(&mut self, operations: u64) {
        for _ in 0..operations {
            let order = self.table.gate().load(Ordering::SeqCst);
            self.operate();
            self.table.progress().fetch_add(1, Ordering::SeqCst);
            if order != OPEN {
                set_word(self.table.waiting(), order);
                wait_while_word(self.table.gate(), order);
            }
        }
    }

    fn operate(&mut self) {
        let place = &self.table.places()[self.random.below(PLACES as u64) as usize];
        let held = Handle::from_raw(place.load(Ordering::SeqCst));
        match self.random.below(100) {
            0 if self.random.one_in(100) => self.maintain(),
            _ if held == Handle::NONE && self.random.one_in(3) => self.receive(),
            _ if held == Handle::NONE => self.allocate(place),
            0..20 => self.resize(held, place),
            20..60 => self.send(held, place),
            _ => self.free_from(held, place),
        }
    }

    fn maintain(&mut self) {
        match self.random.below(4) {
            0 => match self.heap.grow(self.heap.info().len_bytes + 1) {
                Ok(_) | Err(Error::InvalidOption { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            1 => drop(self.heap.trim().unwrap()),
            _ => drop(self.heap.sweep().unwrap()),
        }
    }

    /// Sizes of some classes, small ones more often; now and then units of their own.
    fn size(&mut self) -> u64 {
        match self.random.below(64) {
            0 => (1 << 19) + self.random.log_uniform(1 << 19),
            1..3 => 1 << (16 + self.random.below(4)),
            3..12 => 1 << (11 + self.random.below(5)),
            _ => PREFIX_BYTES << self.random.below(7),
        }
    }

    fn allocate(&mut self, place: &AtomicU64) {
        let size = self.size();
        let align = if self.random.one_in(16) { 1 << self.random.below(18) } else { 1 };
        self.table.in_hand().store(ONE_IN_HAND, Ordering::SeqCst);
        match self.heap.alloc(bytes::layout(size, align)) {
            Ok(object) => self.keep(object, size, place),
            Err(Error::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        self.table.in_hand().store(IDLE, Ordering::SeqCst);
    }

    fn keep(&self, object: NonNull<u8>, size: u64, place: &AtomicU64) {
        let handle = self.heap.handle(object).unwrap();
        mark(object, handle, size);
        place.store(handle.to_raw(), Ordering::SeqCst);
    }

    fn free_from(&self, held: Handle, place: &AtomicU64) {
        self.table.in_hand().store(ONE_IN_HAND, Ordering::SeqCst);
        if place.swap(0, Ordering::SeqCst) != 0 {
            let object = self.heap.resolve(held).unwrap();
            assert_marked(self.heap, object, held);
            bytes::free(self.heap, object).unwrap();
            assert!(matches!(self.heap.resolve(held), Err(Error::Stale { .. })), "{held}");
        }
        self.table.in_hand().store(IDLE, Ordering::SeqCst);
    }

    fn resize(&mut self, held: Handle, place: &AtomicU64) {
        let object = self.heap.resolve(held).unwrap();
        let old_size = assert_marked(self.heap, object, held);
        let longer = (old_size + old_size / 4).min(SIZE_MAX);
        let size = if self.random.one_in(4) { longer } else { self.size() };
        self.table.in_hand().store(MOVING, Ordering::SeqCst);
        place.store(0, Ordering::SeqCst);
        match bytes::realloc(self.heap, object, size, 1) {
            Ok(moved) => {
                assert_eq!(bytes::read_words(self.heap, moved), [held.to_raw(), old_size]);
                self.keep(moved, size, place);
            }
            Err(Error::Full { .. }) => place.store(held.to_raw(), Ordering::SeqCst),
            Err(error) => panic!("{error}"),
        }
        self.table.in_hand().store(IDLE, Ordering::SeqCst);
    }

    /// Puts the object into a shared place, if it is free.
    fn send(&mut self, held: Handle, place: &AtomicU64) {
        let shared = &self.shared[self.random.below(SHARED as u64) as usize];
        self.table.in_hand().store(ONE_IN_HAND, Ordering::SeqCst);
        place.store(0, Ordering::SeqCst);
        let sent = shared.compare_exchange(0, held.to_raw(), Ordering::SeqCst, Ordering::SeqCst);
        if sent.is_err() {
            place.store(held.to_raw(), Ordering::SeqCst);
        }
        self.table.in_hand().store(IDLE, Ordering::SeqCst);
    }

    /// Frees what another thread, or this one, has put into a shared place.
    fn receive(&mut self) {
        let shared = &self.shared[self.random.below(SHARED as u64) as usize];
        self.table.in_hand().store(ONE_IN_HAND, Ordering::SeqCst);
        let handle = Handle::from_raw(shared.swap(0, Ordering::SeqCst));
        if handle != Handle::NONE {
            let object = self.heap.resolve(handle).unwrap();
            assert_marked(self.heap, object, handle);
            bytes::free(self.heap, object).unwrap();
        }
        self.table.in_hand().store(IDLE, Ordering::SeqCst);
    }
}

/// Parts of an object's bytes behind its prefix: all of a small one, samples of a large one.
fn samples(size: u64) -> impl Iterator<Item = (isize, u64)> {
    let whole = (size <= WHOLE_BYTES).then_some((PREFIX_BYTES as isize, size - PREFIX_BYTES));
    let last = size.saturating_sub(SAMPLE_BYTES) as usize;
    let apart =
        (PREFIX_BYTES as usize..last.saturating_sub(SAMPLE_BYTES as usize)).step_by(SAMPLE_STEP);
    let starts = apart.chain([last]);
    let parts = starts.map(|start| (start as isize, SAMPLE_BYTES));
    whole.into_iter().chain(parts.filter(move |_| whole.is_none()))
}

/// Writes an object full, so that no other object can lie where it does unnoticed.
fn mark(object: NonNull<u8>, handle: Handle, size: u64) {
    bytes::write_words(object, [handle.to_raw(), size]);
    for (start, count) in samples(size) {
        bytes::stamp(bytes::displaced(object, start), count, handle.to_raw());
    }
}

/// Asserts that nobody has written into an object since it was marked; returns its size.
#[track_caller]
fn assert_marked(heap: &Heap, object: NonNull<u8>, handle: Handle) -> u64 {
    let [raw, size] = bytes::read_words(heap, object);
    assert_eq!(Handle::from_raw(raw), handle, "the object is another's");
    assert!(size <= heap.usable_size(object).unwrap() as u64, "{handle} of {size} bytes");
    for (start, count) in samples(size) {
        let part = bytes::displaced(object, start);
        let whole = bytes::is_stamped(heap, part, count, handle.to_raw());
        assert!(whole, "{count} bytes at {start} of {handle} were overwritten");
    }
    size
}
