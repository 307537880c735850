//! Goal: roots and shared values are there as a whole or not at all, as long as somebody holds them
//! and no longer, whoever is killed.
//!
//! Method: a *conductor* forks workers that make, find, hold, drop and remove a few roots, share
//! values and find those of others. It kills them at random moments. After each kill the survivors
//! are held at a gate, and say what they hold; the dead one is swept, and the heap is counted: what
//! is live are the roots, what is held, and the registry's own objects, which are larger than all
//! others. At times the victim is the only one running, so that the conductor is the first to find
//! what it was making.
//!
//! `SHMHEAP_KILLS=n` sets the number of kills.

mod stopped;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use shmheap::{Error, Handle, Heap, Policy, ShmArc, ShmBox};

use crate::support::process::{Fork, Role, Worker, set_word, wait_for_word};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, assert_whole, bytes, heap_of};

const WORKERS: usize = 3;
const KILLS: u64 = 300;
/// The names of typed roots, and of ordinary objects.
const NAMES: [&str; 3] = ["one", "two", "three"];
const ORDINARY: [&str; 2] = ["object", "another"];
/// Places for references to shared values.
const WEAKS: usize = 4;
/// What a worker holds at the most.
const HELD_MAX: usize = 6;
const LEN_BYTES: u64 = 8 << 20;
/// All objects of the test are smaller, all of the registry are not.
const REGISTRY_BYTES_MIN: u64 = 512;
/// More than a registry needs for so few entries.
const REGISTRY_OBJECTS_MAX: usize = 40;
const SPIN_MAX: u64 = 1 << 16;
/// How long who makes a root is at it.
const MAKING_MAX: u64 = 1 << 12;

/// Its stamp, then the complement: half made, it has not both.
type Value = [AtomicU64; 4];
type Held<'h> = ShmArc<'h, Value>;

fn make(value: &mut Value, stamp: u64, delay: u64) {
    let words = value.each_mut().map(AtomicU64::get_mut);
    assert!(words.iter().all(|word| **word == 0), "a new value is zeros");
    let [first, second, third, last] = words;
    (*first, *third) = (stamp, stamp);
    spin(delay);
    (*second, *last) = (!stamp, !stamp);
}

fn stamp_of(value: &Value) -> u64 {
    let [first, second, third, last] = value.each_ref().map(|word| word.load(Ordering::SeqCst));
    assert_eq!((second, third, last), (!first, first, !first), "it is there as a whole");
    first
}

fn stamp_of_name(name: &str) -> u64 {
    name.bytes().fold(77, |stamp, byte| stamp << 8 | u64::from(byte))
}

fn spin(turns: u64) {
    for _ in 0..turns {
        std::hint::spin_loop();
    }
}

/// What all share.
#[derive(Clone, Copy)]
struct Board<'h>(&'h [AtomicU64]);

impl<'h> Board<'h> {
    const OF_WORKER: usize = 3 + HELD_MAX;
    const WEAKS_AT: usize = WORKERS * Self::OF_WORKER;
    const WORDS: usize = Self::WEAKS_AT + 2 * WEAKS;

    fn word(self, worker: usize, number: usize) -> &'h AtomicU64 {
        &self.0[worker * Self::OF_WORKER + number]
    }

    /// 1 while the worker must stay out of the heap, after one more operation.
    fn gate(self, worker: usize) -> &'h AtomicU64 {
        self.word(worker, 0)
    }

    /// 1 while it waits at the gate, and what it holds stands here.
    fn waiting(self, worker: usize) -> &'h AtomicU64 {
        self.word(worker, 1)
    }

    fn progress(self, worker: usize) -> &'h AtomicU64 {
        self.word(worker, 2)
    }

    fn held(self, worker: usize) -> &'h [AtomicU64] {
        &self.0[worker * Self::OF_WORKER + 3..][..HELD_MAX]
    }

    /// Where a reference to a shared value is left, as two words that may be of two references.
    fn weak(self, number: usize) -> [&'h AtomicU64; 2] {
        [0, 1].map(|word| &self.0[Self::WEAKS_AT + 2 * number + word])
    }
}

#[test]
fn roots_and_shared_values_survive_kills_under_first_fit() {
    run("roots::conductor", "first fit", &setting("SHMHEAP_KILLS", KILLS).to_string());
}

#[test]
fn roots_and_shared_values_survive_kills_among_slabs() {
    run("roots::conductor", "scalable", &setting("SHMHEAP_KILLS", KILLS).to_string());
}

fn run(path: &str, policy: &str, count: &str) {
    let name = HeapName::new();
    let mut worker = Worker::start(path, &[name.as_str(), policy, &seed().to_string(), count]);
    let outcome = loop {
        let line = worker.hear();
        if line != STILL_ALIVE {
            break line;
        }
    };
    println!("{outcome}");
    worker.finish();
}

const STILL_ALIVE: &str = "still alive";

fn created(role: &Role) -> Heap {
    let policy = match role.argument(1) {
        "scalable" => Policy::Scalable,
        _ => Policy::FirstFit,
    };
    heap_of(policy, LEN_BYTES).create(role.argument(0)).unwrap()
}

#[test]
fn conductor() {
    let Some(mut role) = Role::of("roots::conductor") else { return };
    let heap = created(&role);
    let (board_handle, words) = bytes::alloc_words(&heap, Board::WORDS);
    let ordinary = ordinary_objects(&heap);
    let random = Random::new(role.number(2));
    let board = Board(words);
    let mut storm = Storm {
        heap: &heap,
        board,
        board_handle,
        ordinary,
        workers: vec![],
        random,
        tally: [0; 4],
    };
    for number in 0..WORKERS {
        let worker = storm.start(number);
        storm.workers.push(worker);
    }
    let kills = role.number(3);
    for number in 0..kills {
        storm.kill_one();
        if number.is_multiple_of(50) {
            role.say(STILL_ALIVE);
        }
    }
    let [alone, making, roots, held] = storm.tally;
    assert!(kills < KILLS || making > 0, "no kill hit a worker that made a root");
    storm.end();
    role.say(&format!(
        "{kills} kills, {alone} of the only one running, {making} of one making a root; counted \
         {roots} roots, {held} other values that were held"
    ));
}

fn ordinary_objects(heap: &Heap) -> [Handle; 2] {
    ORDINARY.map(|name| ShmBox::new(heap, [stamp_of_name(name); 8]).unwrap().keep().cast())
}

struct Storm<'h> {
    heap: &'h Heap,
    board: Board<'h>,
    board_handle: Handle,
    ordinary: [Handle; 2],
    workers: Vec<Fork>,
    random: Random,
    tally: [u64; 4],
}

impl Storm<'_> {
    fn start(&mut self, number: usize) -> Fork {
        let random = Random::new(self.random.next());
        let (heap, board, ordinary) = (self.heap, self.board, self.ordinary);
        Fork::start(|| Work { heap, board, ordinary, number, random, held: vec![] }.run())
    }

    fn kill_one(&mut self) {
        let victim = self.random.below(WORKERS as u64) as usize;
        let survivors = (0..WORKERS).filter(move |&number| number != victim);
        let is_alone = self.random.one_in(2);
        if is_alone {
            self.hold(survivors.clone());
        }
        spin(self.random.log_uniform(SPIN_MAX));
        self.workers[victim].kill();
        if is_alone {
            self.tally[0] += 1;
            self.look_at_what_it_was_making();
        } else {
            self.hold(survivors.clone());
        }
        self.heap.sweep().unwrap();
        self.heap.sweep_shared().unwrap();
        self.account(survivors);
        self.board.waiting(victim).store(0, Ordering::SeqCst);
        self.workers[victim] = self.start(victim);
        for number in 0..WORKERS {
            set_word(self.board.gate(number), 0);
        }
        for number in 0..WORKERS {
            // One that waited must have seen the open gate.
            wait_for_word(self.board.waiting(number), 0, || {});
        }
    }

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

    /// Nobody but the victim ran: the first that looks is told, and the next makes it anew.
    fn look_at_what_it_was_making(&mut self) {
        for root in self.heap.roots().into_iter().filter(|root| !root.is_made) {
            self.tally[1] += 1;
            let name = root.name.as_str();
            let told = match self.random.below(3) {
                0 => self.heap.find_root::<Value>(name).map(drop),
                1 => self.heap.find_or_create::<Value>(name, |_| {}).map(drop),
                _ => self.heap.remove_root(name).map(drop),
            };
            assert!(
                matches!(told, Err(Error::OwnerDied { .. } | Error::NoRoot { .. })),
                "{told:?}"
            );
            if ORDINARY.contains(&name) {
                // The name of an ordinary object, which was being set.
                continue;
            }
            let stamp = stamp_of_name(name);
            let root = self.heap.find_or_create(name, |value| make(value, stamp, 0)).unwrap();
            assert_eq!(stamp_of(&root), stamp);
        }
    }

    /// Counts the heap while all stand still.
    fn account(&mut self, survivors: impl Iterator<Item = usize>) {
        let mut known: BTreeSet<_> = self.ordinary.into_iter().chain([self.board_handle]).collect();
        let mut names = BTreeSet::new();
        for root in self.heap.roots() {
            assert!(root.is_made, "nobody is at it");
            assert!(names.insert(root.name.clone()), "two have the name {}", root.name);
            let is_ordinary = self.ordinary.contains(&root.handle);
            assert_eq!(is_ordinary, ORDINARY.contains(&root.name.as_str()), "{}", root.name);
            assert_eq!(known.insert(root.handle), !is_ordinary);
            self.tally[2] += 1;
        }
        let held = survivors.flat_map(|number| self.board.held(number));
        for handle in held.map(|word| Handle::from_raw(word.load(Ordering::SeqCst))) {
            if handle != Handle::NONE && known.insert(handle) {
                self.tally[3] += 1;
            }
        }
        assert_whole(self.heap);
        let live =
            self.heap.blocks().filter(|block| block.live && block.handle != self.board_handle);
        let (large, small): (Vec<_>, Vec<_>) =
            live.partition(|block| block.bytes >= REGISTRY_BYTES_MIN);
        let mut small: BTreeSet<_> = small.into_iter().map(|block| block.handle).collect();
        small.insert(self.board_handle);
        let leaked: Vec<_> = small.difference(&known).collect();
        let lost: Vec<_> = known.difference(&small).collect();
        assert!(leaked.is_empty() && lost.is_empty(), "leaked {leaked:?}, lost {lost:?}");
        assert!(large.len() <= REGISTRY_OBJECTS_MAX, "the registry has {} objects", large.len());
    }

    /// Kills all at once: what remains are the roots.
    fn end(&mut self) {
        self.workers.clear();
        self.heap.sweep().unwrap();
        self.heap.sweep_shared().unwrap();
        self.account([].into_iter());
        for root in self.heap.roots() {
            self.heap.remove_root(&root.name).unwrap();
        }
        self.account([].into_iter());
    }
}

/// A worker: operations without an end.
struct Work<'h> {
    heap: &'h Heap,
    board: Board<'h>,
    ordinary: [Handle; 2],
    number: usize,
    random: Random,
    held: Vec<Held<'h>>,
}

impl<'h> Work<'h> {
    fn run(&mut self) {
        loop {
            let must_wait = self.board.gate(self.number).load(Ordering::SeqCst) == 1;
            self.operate();
            self.board.progress(self.number).fetch_add(1, Ordering::SeqCst);
            if must_wait {
                self.wait_at_the_gate();
            }
        }
    }

    fn wait_at_the_gate(&self) {
        for (number, word) in self.board.held(self.number).iter().enumerate() {
            let one = self.held.get(number);
            word.store(one.map_or(0, |one| ShmArc::handle(one).to_raw()), Ordering::SeqCst);
        }
        set_word(self.board.waiting(self.number), 1);
        wait_for_word(self.board.gate(self.number), 0, || {});
        set_word(self.board.waiting(self.number), 0);
        for one in &self.held {
            stamp_of(one);
        }
    }

    fn operate(&mut self) {
        if self.held.len() == HELD_MAX {
            let one = self.random.below(HELD_MAX as u64) as usize;
            stamp_of(&self.held.swap_remove(one));
        }
        let name = NAMES[self.random.below(NAMES.len() as u64) as usize];
        match self.random.below(8) {
            0 | 1 => {
                let (stamp, delay) = (stamp_of_name(name), self.random.log_uniform(MAKING_MAX));
                let found = self.heap.find_or_create(name, |value| make(value, stamp, delay));
                self.found(name, found);
            }
            2 => self.found(name, self.heap.find_root(name)),
            3 => match self.heap.remove_root(name) {
                Ok(_) | Err(Error::NoRoot { .. } | Error::Occupied { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            4 => self.share(),
            5 => self.upgrade(),
            6 => self.name_an_object(),
            _ if self.held.is_empty() => self.heap.sweep_shared().unwrap(),
            _ => drop(self.held.pop()),
        }
    }

    fn found(&mut self, name: &str, found: shmheap::Result<Held<'h>>) {
        match found {
            Ok(root) => {
                assert_eq!(stamp_of(&root), stamp_of_name(name));
                self.held.push(root);
            }
            Err(Error::NoRoot { .. } | Error::OwnerDied { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn share(&mut self) {
        let mut value = ShmBox::<Value>::new_zeroed(self.heap).unwrap();
        make(&mut value, self.random.next(), 0);
        let value = ShmArc::from_box(self.heap, value).unwrap();
        let words = bytes::words_of_weak(ShmArc::downgrade(&value));
        let place = self.board.weak(self.random.below(WEAKS as u64) as usize);
        for (place, word) in place.into_iter().zip(words) {
            place.store(word, Ordering::SeqCst);
        }
        self.held.push(value);
    }

    fn upgrade(&mut self) {
        let place = self.board.weak(self.random.below(WEAKS as u64) as usize);
        let weak = bytes::weak_of_words(place.map(|word| word.load(Ordering::SeqCst)));
        if let Some(value) = weak.upgrade(self.heap).unwrap() {
            stamp_of(&value);
            self.held.push(value);
        }
    }

    fn name_an_object(&mut self) {
        let which = self.random.below(2) as usize;
        match self.heap.set_root(ORDINARY[which], self.ordinary[which]) {
            Ok(()) => {}
            Err(Error::RootExists { .. }) => match self.heap.remove_root(ORDINARY[which]) {
                Ok(handle) => assert_eq!(handle, self.ordinary[which]),
                Err(Error::NoRoot { .. } | Error::Occupied { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            Err(error) => panic!("{error}"),
        }
        match self.heap.root_handle(ORDINARY[which]) {
            Ok(handle) => assert_eq!(handle, self.ordinary[which]),
            Err(error) => assert!(matches!(error, Error::NoRoot { .. }), "{error}"),
        }
    }
}
